//! `calibrate`: fits the risk of a change to the repository's own history, and keeps the result only where it beats
//! the model that is shipped.

use std::collections::HashMap;

use gitops_agent::calibration::{self, Change, Evaluation, Fitted, NAMES};
use gitops_agent::capture::Repo;
use gitops_agent::outbox::Calibration;
use gitops_agent::szz::{self, Traced};
use jiff::Timestamp;
use serde_json::json;

use super::RepoFlag;
use super::failure::{ExitCode, Failure, NO};
use super::labels;
use super::risk::{figures, percent};
use super::session::Session;
use super::ui::{self, Ui};

/// Fit the change risk to this repository's own history.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Finds the commits that mended something, traces by blame which commits brought it in, fits on the
older three quarters and compares on the newest quarter. What beats the shipped model is kept, and new
records get `riskCalibrated`; `riskScore` stays as it is everywhere.

Exit codes: 0 kept, 1 not kept (no better, or too little history).

Examples:
  gitops-agent calibrate
  gitops-agent calibrate --labels incidents.csv
  gitops-agent calibrate --json | jq .calibrated.auc"
)]
pub(super) struct CalibrateArgs {
    #[command(flatten)]
    repo: RepoFlag,
    /// Revisions as `git rev-list` takes them; HEAD unless given.
    #[arg(value_name = "REVISION", allow_hyphen_values = false)]
    revisions: Vec<String>,
    /// The newest commits that are read.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    max_commits: u32,
    /// Fit to your own labels (as `risk eval` reads them) instead of what blame says.
    #[arg(long, value_name = "LABELS.csv")]
    labels: Option<std::path::PathBuf>,
    /// Threads; all cores unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Keep nothing.
    #[arg(long)]
    dry_run: bool,
    /// For programs.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &CalibrateArgs, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let repo = args.repo.open()?;
    let labels = args.labels.as_deref().map(|path| labels(&repo, path, ui)).transpose()?;
    let session = Session::of_repo(&repo, None)?;
    super::allocator::keep();
    Repo::tune_for_history();
    let mut commits = repo.resolve(&args.revisions, None, None)?;
    let limit = usize::try_from(args.max_commits).unwrap_or(usize::MAX);
    commits.drain(..commits.len().saturating_sub(limit));
    let rules = session.rules()?;
    let recorder = session.recorder(&repo, &rules);
    let now = Timestamp::now();
    let bar = ui.progress(commits.len(), "reading");
    let traced = szz::trace(
        &commits,
        super::backfill::jobs(args.jobs),
        || args.repo.open(),
        |reading, id| {
            let made = recorder.record(reading, id, "backfill", Vec::new(), now).ok()?;
            Change::from_record(&made.json).ok()
        },
        || {
            if bar.position() == bar.length().unwrap_or_default() {
                bar.set_prefix("tracing fixes");
                bar.inc_length(1);
            }
            bar.inc(1);
        },
    )?;
    bar.finish_and_clear();
    let samples = match &labels {
        Some(labels) => traced.labelled(|id| labels.get(id).copied()),
        None => traced.samples(),
    };
    let fitted = calibration::fit(&samples);
    let kept = fitted.as_ref().ok().filter(|fitted| fitted.beats_m2());
    if !args.dry_run {
        keep(&session, &recorder.repository().id, &traced, kept)?;
    }
    report(args, &traced, fitted.as_ref(), ui)?;
    Ok(if kept.is_some() { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

/// Somebody's own labels by commit; those of other repositories count for nothing.
fn labels(repo: &Repo, path: &std::path::Path, ui: &Ui) -> Result<HashMap<String, bool>, Failure> {
    let labels = labels::read(path)?;
    let (known, unknown) = labels::resolve(repo, &labels, path)?;
    if !unknown.is_empty() {
        ui.note(format!("{}: {} not in this repository", path.display(), ui::count(unknown.len(), "commit")));
    }
    Ok(known.into_iter().map(|(id, defect)| (id.hex(), defect)).collect())
}

fn keep(session: &Session, repository: &str, traced: &Traced, kept: Option<&Fitted>) -> Result<(), Failure> {
    let calibration = kept.map(|fitted| Calibration {
        model: fitted.model.clone(),
        until: traced.changes.last().map(|change| change.id.clone()).unwrap_or_default(),
        held_back_from: traced.changes.get(fitted.split).map(|change| change.id.clone()).unwrap_or_default(),
        m2: fitted.m2.clone(),
        calibrated: fitted.calibrated.clone(),
    });
    let probability = |at: usize, change: &Change| {
        kept.filter(|_| !change.merge).map(|fitted| fitted.model.probability(&traced.features[at]))
    };
    let changes: Vec<_> =
        traced.changes.iter().enumerate().map(|(at, change)| (change, probability(at, change))).collect();
    Ok(session.outbox()?.calibrate(repository, calibration.as_ref(), &traced.pasts, &changes)?)
}

fn report(
    args: &CalibrateArgs,
    traced: &Traced,
    fitted: Result<&Fitted, &calibration::TooLittle>,
    ui: &mut Ui,
) -> Result<(), Failure> {
    let defects = traced.fixed_at.iter().flatten().count();
    let kept = fitted.is_ok_and(Fitted::beats_m2);
    if args.json {
        let weights = |fitted: &Fitted| -> serde_json::Map<String, serde_json::Value> {
            NAMES.iter().zip(fitted.model.weights()).map(|(name, w)| ((*name).to_owned(), json!(w))).collect()
        };
        ui.json(&json!({
            "schemaVersion": 1,
            "commits": traced.changes.len(),
            "unreadable": traced.unreadable,
            "fixes": traced.fixes,
            "defects": defects,
            "fittedOn": fitted.ok().map(|f| json!({ "commits": f.older, "defects": f.older_defects })),
            "m2": fitted.ok().map(|f| &f.m2),
            "calibrated": fitted.ok().map(|f| &f.calibrated),
            "weights": fitted.ok().map(weights),
            "better": kept,
            "kept": kept && !args.dry_run,
            "because": fitted.err().map(ToString::to_string),
        }))?;
        return Ok(());
    }
    ui.line(match args.labels {
        Some(_) => format!("{} read", ui::count(traced.changes.len(), "commit")),
        None => format!(
            "{} read, {} say that they fix something; blame traces them to {} that brought a defect in",
            ui::count(traced.changes.len(), "commit"),
            traced.fixes,
            ui::count(defects, "commit"),
        ),
    })?;
    let fitted = match fitted {
        Ok(fitted) => fitted,
        Err(too_little) => {
            ui.line(format!("not kept: {too_little}"))?;
            return Ok(());
        }
    };
    ui.line(format!(
        "fitted on the {} older commits ({} with a defect known by then), compared on the {} newer ones:",
        fitted.older, fitted.older_defects, fitted.m2.commits
    ))?;
    compare(&[("M2", &fitted.m2), ("calibrated", &fitted.calibrated)], ui)?;
    let auc =
        |evaluation: &Evaluation| evaluation.auc.map_or_else(|| "none".to_owned(), |auc| format!("{auc:.3}"));
    let (ours, theirs) = (auc(&fitted.calibrated), auc(&fitted.m2));
    ui.line(match (kept, args.dry_run) {
        (false, _) => format!("not kept: AUC {ours} does not beat M2's {theirs}"),
        (true, true) => format!("better: AUC {ours} against M2's {theirs}; nothing was kept (--dry-run)"),
        (true, false) => {
            format!("kept: AUC {ours} against M2's {theirs}; new records carry `riskCalibrated`")
        }
    })?;
    Ok(())
}

/// Evaluations side by side.
pub(super) fn compare(columns: &[(&str, &Evaluation)], ui: &mut Ui) -> Result<(), Failure> {
    let heading: Vec<&str> = std::iter::once("").chain(columns.iter().map(|(name, _)| *name)).collect();
    let row = |name: &str, cell: &dyn Fn(&Evaluation) -> String| {
        std::iter::once(name.to_owned()).chain(columns.iter().map(|(_, found)| cell(found))).collect()
    };
    let rows = vec![
        row("commits", &|found| found.commits.to_string()),
        row("with a defect", &|found| found.defects.to_string()),
        row("AUC", &|found| figures(found.auc)),
        row("Brier score", &|found| figures(found.brier)),
        row("defects in the riskiest fifth", &|found| percent(found.recall_at_fifth)),
    ];
    Ok(ui.table(&heading, rows)?)
}
