//! `rules list` and `rules check`; `rules bench` is in a file of its own.

use std::path::PathBuf;
use std::process::ExitCode;

use gitops_agent::capture::Repo;
use gitops_agent::rules::CheckFailure;
use serde_json::json;

use super::failure::{Failure, NO};
use super::rules_bench;
use super::session::Session;
use super::ui::Ui;

/// The loaded rules: list them, test them.
#[derive(clap::Args, Debug)]
pub(super) struct RulesArgs {
    #[command(subcommand)]
    command: RulesCommand,
}

#[derive(clap::Subcommand, Debug)]
enum RulesCommand {
    /// What each rule means.
    List(ListArgs),
    /// Run each rule's examples; exits 1 when one fails.
    Check(Options),
    /// Measure the rules over a history: hits, share of commits, time; with --rules also what the further packs
    /// change.
    Bench(rules_bench::BenchArgs),
}

#[derive(clap::Args, Debug)]
struct ListArgs {
    #[command(flatten)]
    options: Options,
    /// The citations instead, each with the rules that follow from it, as a table in Markdown.
    #[arg(long, conflicts_with = "json")]
    citations: bool,
}

#[derive(clap::Args, Debug)]
struct Options {
    /// A folder of further rule packs.
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &RulesArgs, ui: &mut Ui) -> Result<ExitCode, Failure> {
    match &args.command {
        RulesCommand::List(args) if args.citations => {
            let rules = Session::here(args.options.rules.clone())?.rules()?;
            for line in rules.citations_table().lines() {
                ui.line(line)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        RulesCommand::List(args) => list(&args.options, ui),
        RulesCommand::Check(options) => check(options, ui),
        RulesCommand::Bench(args) => rules_bench::run(args, ui),
    }
}

fn list(options: &Options, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let rules = Session::here(options.rules.clone())?.rules()?;
    if options.json {
        let all: Vec<_> = rules.rules().collect();
        ui.json(&json!({ "digest": rules.digest(), "packs": rules.packs(), "rules": all }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = rules
        .rules()
        .map(|rule| {
            let tags: Vec<&str> = rule.tags.keys().map(String::as_str).collect();
            vec![
                rule.id.clone(),
                rule.severity.to_string(),
                rule.weight.to_string(),
                tags.join(" "),
                rule.title.clone(),
            ]
        })
        .collect();
    ui.table(&["rule", "severity", "weight", "tags", "title"], rows)?;
    Ok(ExitCode::SUCCESS)
}

fn check(options: &Options, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let rules = Session::here(options.rules.clone())?.rules()?;
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let mut report = rules.check(&today);
    if let Some(bytes) = carried()? {
        let (_, problems) = rules.carried_rules(&bytes);
        report.failures.extend(problems.into_iter().map(|message| CheckFailure {
            pack: "carried".to_owned(),
            rule: "carried".to_owned(),
            test: "format".to_owned(),
            message,
        }));
        if let Some(carried) = rules.check_carried(&bytes, &today) {
            report.failures.extend(carried.failures);
            report.notes.extend(carried.notes);
            report.rules += carried.rules;
            report.tests += carried.tests;
        }
    }
    if options.json {
        ui.json(&report)?;
    } else {
        for failure in &report.failures {
            ui.line(format!("FAIL {} {:?}: {}", failure.rule, failure.test, failure.message))?;
        }
        for note in &report.notes {
            ui.line(format!("note {}: {}", note.rule, note.message))?;
        }
        ui.line(format!(
            "{} rules, {} examples, {} failed",
            report.rules,
            report.tests,
            report.failures.len()
        ))?;
    }
    Ok(if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

/// What the repository at hand carries, as it lies in the worktree, committed or not; at most as much as is read of
/// a commit.
fn carried() -> Result<Option<Vec<u8>>, Failure> {
    let Ok(repo) = Repo::open_from_env() else { return Ok(None) };
    let Some(path) = repo.workdir().map(|folder| folder.join(".gitops-agent.toml")) else { return Ok(None) };
    let small =
        std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_file() && found.len() <= 64 << 10);
    Ok(if small { Some(std::fs::read(&path)?) } else { None })
}
