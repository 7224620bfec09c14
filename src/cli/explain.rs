//! `explain`: one commit's record and the reasons for it; nothing is stored.

use gitops_agent::calibration::Change;
use gitops_agent::capture::{CommitId, Repo};
use gitops_agent::config::Paths;
use gitops_agent::outbox::{Beside, FILE_NAME, Outbox};
use gitops_agent::record::{ClassOrigin, Identity, Record};
use gitops_agent::recorder::Recorder;
use gitops_agent::rules::RuleSet;

use super::RepoFlag;
use super::failure::{ExitCode, Failure};
use super::reasons::{REASONS, reasons};
use super::session::Session;
use super::ui::Ui;

/// Score one commit and say why; stores nothing.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  gitops-agent explain\n  gitops-agent explain HEAD~3 --json | jq .riskFactors"
)]
pub(super) struct ExplainArgs {
    /// The commit.
    #[arg(default_value = "HEAD", value_name = "REV")]
    revision: String,
    #[command(flatten)]
    repo: RepoFlag,
    /// Print the record itself.
    #[arg(long)]
    json: bool,
    /// A folder of further rule packs.
    #[arg(long, value_name = "DIR")]
    rules: Option<std::path::PathBuf>,
}

pub(super) fn run(args: &ExplainArgs, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let repo = args.repo.open()?;
    let id = repo.resolve_one(&args.revision)?;
    let session = Session::of_repo(&repo, args.rules.clone())?;
    let rules = session.rules()?;
    let recorder = session.recorder(&repo, &rules);
    let now = jiff::Timestamp::now();
    let made = repo.reading(|reading| recorder.record(reading, &id, "backfill", Vec::new(), now))??;
    let mut record = made.record;
    let beside = beside(&session, &made.json).unwrap_or_else(|failure| {
        ui.note(format!("without percentile: {}", failure.line()));
        Beside::default()
    });
    (record.risk_percentile, record.risk_calibrated) = (beside.percentile, beside.calibrated);
    if args.json {
        ui.json(&record)?;
    } else {
        let origin = match record.class.origin {
            ClassOrigin::Set => "set".to_owned(),
            ClassOrigin::Carried => "carried by the repository".to_owned(),
            ClassOrigin::Inferred => inferred_from(&recorder, &repo, &id),
            ClassOrigin::Unknown => "nobody set one".to_owned(),
        };
        describe(&record, &origin, &rules, ui)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn inferred_from(recorder: &Recorder<'_>, repo: &Repo, id: &CommitId) -> String {
    let reasons = recorder.inferred().class(repo, id).map(|found| found.reasons).unwrap_or_default();
    if reasons.is_empty() {
        return "inferred".to_owned();
    }
    format!("inferred from {}; `git config gitops-agent.class` confirms or corrects it", reasons.join(", "))
}

/// What the repository's history says, where an outbox is there that knows it. Nothing is stored.
fn beside(session: &Session, record: &[u8]) -> Result<Beside, Failure> {
    let Some(data) = session.paths().ok().map(Paths::data).filter(|data| data.join(FILE_NAME).exists())
    else {
        return Ok(Beside::default());
    };
    let Ok(change) = Change::from_record(record) else { return Ok(Beside::default()) };
    Ok(Outbox::open(data)?.beside(&change)?)
}

fn describe(record: &Record, origin: &str, rules: &RuleSet, ui: &mut Ui) -> Result<(), Failure> {
    let subject = record.message.lines().next().unwrap_or("");
    ui.line(format!("commit {}", record.id))?;
    ui.line(format!("  {subject}"))?;
    let author = match &record.author {
        Identity::Plain { name, email } => format!("{name} <{email}>"),
        Identity::Hashed { hash } => format!("person {}", &hash[..12]),
    };
    ui.line(format!("  {author}, {}", record.timestamp))?;
    ui.line(format!(
        "  {} files, +{} -{}, class {} ({})",
        record.stats.files, record.stats.insertions, record.stats.deletions, record.class.value, origin
    ))?;
    if !record.complete {
        ui.line(format!("  incomplete: {}", record.incomplete_because.join(", ")))?;
    }
    ui.line("")?;
    for (number, reason) in reasons(record, rules).into_iter().take(REASONS).enumerate() {
        if number == 0 {
            ui.line(format!("What matters, {} risk:", record.risk_level))?;
        }
        ui.line(format!("  {}. {reason}", number + 1))?;
    }
    ui.line("")?;
    let tags = if record.compliance.is_empty() { "none".to_owned() } else { record.compliance.join(", ") };
    ui.line(format!("risk {:.3} ({}), tags: {tags}", record.risk_score, record.risk_level))?;
    let factors = record
        .risk_factors
        .iter()
        .map(|factor| {
            vec![format!("{:+.3}", factor.contribution), factor.factor.clone(), format!("{}", factor.value)]
        })
        .collect();
    ui.table(&["part", "factor", "value"], factors)?;
    for finding in &record.findings {
        let rule = rules.rules().find(|rule| rule.id == finding.rule);
        ui.line("")?;
        let place = match (&finding.path, finding.line) {
            (Some(path), Some(line)) => format!("{path}:{line}"),
            (Some(path), None) => path.clone(),
            (None, _) => "message".to_owned(),
        };
        ui.line(format!(
            "{} [{}] {place} ({} points)",
            rule.map_or(finding.rule.as_str(), |rule| rule.title.as_str()),
            finding.tags.join(", "),
            finding.points
        ))?;
        ui.line(format!("  rule {} v{}; {}", finding.rule, finding.version, finding.citations.join(", ")))?;
        if let Some(rule) = rule {
            if !rule.why.is_empty() {
                ui.line(format!("  why: {}", rule.why))?;
            }
            if !rule.ask.is_empty() {
                ui.line(format!("  ask: {}", rule.ask))?;
            }
        } else if finding.rule.starts_with("carried.") {
            ui.line("  a rule that the repository itself carries, in .gitops-agent.toml")?;
        }
    }
    Ok(())
}
