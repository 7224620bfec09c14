//! `risk eval`: how well the score tells what happened, by somebody's own labels.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use gitops_agent::calibration::{Evaluation, evaluate};
use gitops_agent::capture::{CaptureError, CommitId, Repo};
use gitops_agent::history;
use gitops_agent::outbox::{Calibration, FILE_NAME, Outbox};
use gitops_agent::recorder;
use gitops_agent::risk;
use serde_json::json;

use super::RepoFlag;
use super::calibrate::compare;
use super::failure::{ExitCode, Failure, PARTLY, USAGE};
use super::labels::{self, Label};
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
    let labels = labels::read(&args.labels)?;
    let repo = args.repo.open()?;
    let session = Session::of_repo(&repo, None)?;
    super::allocator::keep();
    Repo::tune_for_history();
    let (labelled, unknown) = labels::resolve(&repo, &labels, &args.labels)?;
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
        |reading, id| (*id, reading.facts(id).map(|facts| risk::change(&facts))),
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
    let judged = beside.filter(|(m2, ..)| m2.commits > 0);
    if let Some((m2, calibrated, _)) = judged {
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
    let from = beside.map_or("", |(_, _, kept)| kept.held_back_from.get(..12).unwrap_or_default());
    Ok(ui.line(match (beside, judged) {
        (None, _) => "no calibrated model is kept for this repository; `gitops-agent calibrate` fits one".to_owned(),
        (_, None) => format!(
            "the calibrated model is judged by no commit here: none of them is among those that it was not fitted on, from {from} on"
        ),
        _ => format!("held back: commits that the calibrated model was not fitted on, from {from} on"),
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
