//! `risk eval`: how well the score tells what happened, by somebody's own labels.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gitops_agent::calibration::{Evaluation, evaluate};
use gitops_agent::capture::{CaptureError, CommitId, Repo};
use gitops_agent::history;
use gitops_agent::outbox::{Calibration, FILE_NAME, Outbox};
use gitops_agent::recorder;
use gitops_agent::risk;
use serde_json::json;

use super::RepoFlag;
use super::calibrate::compare;
use super::failure::{Failure, PARTLY, USAGE};
use super::session::Session;
use super::ui::{self, Ui};

/// Unknown commits that are named one by one.
const NAMED: usize = 5;

/// Judge the risk score by your own labels.
#[derive(clap::Args, Debug)]
pub(super) struct RiskArgs {
    #[command(subcommand)]
    command: RiskCommand,
}

#[derive(clap::Subcommand, Debug)]
enum RiskCommand {
    /// Compare the change risk with labelled commits: AUC, calibration, recall in the riskiest fifth.
    Eval(EvalArgs),
}

#[derive(clap::Args, Debug)]
#[command(
    after_help = "LABELS.csv has a header with the columns `hash` and `label`, in any order and among others. A hash is a full
commit id or an unambiguous beginning; a label is 1, true, yes, buggy or defect where the commit brought a
defect or an incident in, else 0, false, no or clean.

Exit codes: 0 done, 2 the file or a label is wrong, 3 done, but some commits are not in this repository.

Examples:
  gitops-agent risk eval incidents.csv
  gitops-agent risk eval incidents.csv --json | jq .m2.auc"
)]
struct EvalArgs {
    /// The labels.
    #[arg(value_name = "LABELS.csv")]
    labels: PathBuf,
    #[command(flatten)]
    repo: RepoFlag,
    /// Threads; all cores unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &RiskArgs, ui: &mut Ui) -> Result<ExitCode, Failure> {
    match &args.command {
        RiskCommand::Eval(args) => eval(args, ui),
    }
}

fn eval(args: &EvalArgs, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let labels = read(&args.labels)?;
    let repo = args.repo.open()?;
    let session = Session::of_repo(&repo, None)?;
    Repo::tune_for_history();
    let (labelled, unknown) = resolve(&repo, &labels, &args.labels)?;
    if labelled.is_empty() {
        return Err(Failure::new(
            USAGE,
            format!("{}: none of its commits is in this repository", args.labels.display()),
        )
        .hint("name the repository that the labels are about with --repo"));
    }
    let m2 = measure(args, &labelled, ui)?;
    let kept = Kept::open(&session, &repo)?;
    let all = evaluate(&pairs(&labelled, &m2, |_| true));
    let beside = kept.map(|kept| {
        let seen = |id: &CommitId| kept.probabilities.contains_key(&id.hex()) && !kept.fitted.contains(id);
        let probabilities: HashMap<CommitId, f64> =
            labelled.keys().filter_map(|id| Some((*id, *kept.probabilities.get(&id.hex())?))).collect();
        let m2 = evaluate(&pairs(&labelled, &m2, seen));
        (m2, evaluate(&pairs(&labelled, &probabilities, seen)), kept.calibration)
    });
    print(args, &all, beside.as_ref(), &unknown, ui)?;
    Ok(if unknown.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(PARTLY) })
}

/// One line of the file.
struct Label {
    line: u64,
    hash: String,
    defect: bool,
}

fn read(path: &Path) -> Result<Vec<Label>, Failure> {
    let wrong = |what: String| Failure::new(USAGE, format!("{}: {what}", path.display()));
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let header = reader.headers().map_err(|error| wrong(error.to_string()))?.clone();
    let column = |name: &str| {
        header.iter().position(|field| field.eq_ignore_ascii_case(name)).ok_or_else(|| {
            wrong(format!(
                "its first line has no column `{name}`; it says {:?}",
                header.iter().collect::<Vec<_>>()
            ))
            .hint("the first line must be `hash,label`")
        })
    };
    let (hash, label) = (column("hash")?, column("label")?);
    let mut labels = Vec::new();
    for row in reader.records() {
        let row = row.map_err(|error| wrong(error.to_string()))?;
        let line = row.position().map_or(0, csv::Position::line);
        let id = row.get(hash).unwrap_or_default();
        if id.len() < 4 || id.len() > 64 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong(format!("line {line}: {id:?} is no commit id"))
                .hint("a hash has 4 to 64 hexadecimal digits"));
        }
        let text = row.get(label).unwrap_or_default();
        let defect = match text.to_ascii_lowercase().as_str() {
            "1" | "1.0" | "true" | "yes" | "buggy" | "defect" => true,
            "0" | "0.0" | "false" | "no" | "clean" => false,
            _ => {
                return Err(wrong(format!("line {line}: {text:?} is no label"))
                    .hint("write 1 for a commit that brought a defect in and 0 for one that did not"));
            }
        };
        labels.push(Label { line, hash: id.to_ascii_lowercase(), defect });
    }
    if labels.is_empty() {
        return Err(
            wrong("it has no labels".to_owned()).hint("write one line for each commit after the header")
        );
    }
    Ok(labels)
}

/// The labelled commits that are here, and the lines whose commits are not.
fn resolve<'a>(
    repo: &Repo,
    labels: &'a [Label],
    path: &Path,
) -> Result<(HashMap<CommitId, bool>, Vec<&'a Label>), Failure> {
    let (mut known, mut unknown) = (HashMap::new(), Vec::new());
    for label in labels {
        let full = CommitId::from_hex(&label.hash);
        let id = match full {
            Some(id) => repo.has(&id).then_some(id),
            None => repo.resolve_one(&label.hash).ok(),
        };
        let Some(id) = id else {
            unknown.push(label);
            continue;
        };
        if known.insert(id, label.defect).is_some_and(|before| before != label.defect) {
            return Err(Failure::new(
                USAGE,
                format!("{}: line {}: commit {id} has two different labels", path.display(), label.line),
            )
            .hint("remove one of the two lines"));
        }
    }
    Ok((known, unknown))
}

/// M2's probability of each commit that can be read.
fn measure(
    args: &EvalArgs,
    labelled: &HashMap<CommitId, bool>,
    ui: &Ui,
) -> Result<HashMap<CommitId, f64>, Failure> {
    let mut ids: Vec<CommitId> = labelled.keys().copied().collect();
    ids.sort_unstable();
    let bar = ui.progress(ids.len(), "measuring");
    let mut found = HashMap::new();
    history::each(
        &ids,
        super::backfill::jobs(args.jobs),
        || args.repo.open(),
        |repo, id| (*id, repo.facts(id).map(|facts| risk::change(&facts))),
        |(id, p): (CommitId, Result<f64, CaptureError>)| {
            bar.inc(1);
            match p {
                Ok(p) => drop(found.insert(id, p)),
                Err(error) => ui.note(format!("left out: {error}")),
            }
            true
        },
    )?;
    bar.finish_and_clear();
    Ok(found)
}

fn pairs(
    labelled: &HashMap<CommitId, bool>,
    scores: &HashMap<CommitId, f64>,
    wanted: impl Fn(&CommitId) -> bool,
) -> Vec<(f64, bool)> {
    scores.iter().filter(|(id, _)| wanted(id)).map(|(id, score)| (*score, labelled[id])).collect()
}

/// The model that is kept for a repository.
struct Kept {
    calibration: Calibration,
    probabilities: HashMap<String, f64>,
    /// Commits that it was fitted on: it must not be judged by them.
    fitted: HashSet<CommitId>,
}

impl Kept {
    fn open(session: &Session, repo: &Repo) -> Result<Option<Self>, Failure> {
        let data = session.paths()?.data();
        if !data.join(FILE_NAME).exists() {
            return Ok(None);
        }
        let outbox = Outbox::open(data)?;
        let repository = recorder::repository(repo, || None).id;
        let Some(calibration) = outbox.calibration(&repository)? else { return Ok(None) };
        let walked = repo.resolve(std::slice::from_ref(&calibration.until), None, None).unwrap_or_default();
        let older = walked.into_iter().take_while(|id| id.hex() != calibration.held_back_from);
        Ok(Some(Self {
            fitted: older.collect(),
            probabilities: outbox.calibrated(&repository)?,
            calibration,
        }))
    }
}

type Beside = (Evaluation, Evaluation, Calibration);

fn print(
    args: &EvalArgs,
    all: &Evaluation,
    beside: Option<&Beside>,
    unknown: &[&Label],
    ui: &mut Ui,
) -> Result<(), Failure> {
    for label in unknown.iter().take(NAMED) {
        ui.note(format!(
            "{}: line {}: commit {} is not in this repository",
            args.labels.display(),
            label.line,
            label.hash
        ));
    }
    if unknown.len() > NAMED {
        ui.note(format!("… and {} more", unknown.len() - NAMED));
    }
    if args.json {
        let held_back = beside.map(|(m2, calibrated, kept)| {
            json!({ "from": kept.held_back_from, "m2": m2, "calibrated": calibrated })
        });
        let hashes: Vec<&str> = unknown.iter().map(|label| label.hash.as_str()).collect();
        ui.json(&json!({ "schemaVersion": 1, "m2": all, "heldBack": held_back, "unknown": hashes }))?;
        return Ok(());
    }
    ui.line(format!(
        "{} labelled, {} not in this repository",
        ui::count(all.commits, "commit"),
        unknown.len()
    ))?;
    let mut columns = vec![("M2", all)];
    if let Some((m2, calibrated, _)) = beside {
        columns.extend([("M2, held back", m2), ("calibrated, held back", calibrated)]);
    }
    compare(&columns, ui)?;
    for (name, found) in &columns {
        ui.line("")?;
        ui.line(format!("{name}: what was predicted and what happened"))?;
        let rows = found.bins.iter().map(|bin| {
            let range = format!("{:.1} to {:.1}", bin.from, bin.from + 0.1);
            vec![range, bin.commits.to_string(), percent(Some(bin.predicted)), percent(Some(bin.observed))]
        });
        ui.table(&["score", "commits", "predicted", "happened"], rows.collect())?;
    }
    ui.line("")?;
    Ok(ui.line(match beside {
        Some((_, _, kept)) => format!(
            "held back: commits that the calibrated model was not fitted on, from {} on",
            &kept.held_back_from[..12.min(kept.held_back_from.len())]
        ),
        None => {
            "no calibrated model is kept for this repository; `gitops-agent calibrate` fits one".to_owned()
        }
    })?)
}

/// Three decimals.
pub(super) fn figures(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
}

/// A share in percent.
pub(super) fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{:.1} %", 100.0 * value))
}
