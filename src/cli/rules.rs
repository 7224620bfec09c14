//! `rules list` and `rules check`; `rules bench` is in a file of its own.

use std::path::PathBuf;

use gitops_agent::capture::Repo;
use gitops_agent::rules::{CheckFailure, Expect, Rule, RuleSet};
use serde_json::json;

use super::failure::{ExitCode, Failure, NO, USAGE};
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
    /// These rules in full: what each means, why, what to ask for, and where the law says so.
    #[arg(value_name = "RULE", conflicts_with = "citations")]
    names: Vec<String>,
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
        RulesCommand::List(args) => list(args, ui),
        RulesCommand::Check(options) => check(options, ui),
        RulesCommand::Bench(args) => rules_bench::run(args, ui),
    }
}

fn list(args: &ListArgs, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let rules = Session::here(args.options.rules.clone())?.rules()?;
    if let Some(name) = args.names.iter().find(|name| !rules.rules().any(|rule| rule.id == **name)) {
        return Err(Failure::new(USAGE, format!("there is no rule {name:?}")).hint("gitops-agent rules list"));
    }
    let wanted = |rule: &&Rule| args.names.is_empty() || args.names.contains(&rule.id);
    if args.options.json {
        let all: Vec<_> = rules.rules().filter(wanted).collect();
        ui.json(&json!({ "digest": rules.digest(), "packs": rules.packs(), "rules": all }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if !args.names.is_empty() {
        for rule in rules.rules().filter(wanted) {
            in_full(rule, &rules, ui)?;
        }
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

/// A rule as a reviewer reads it.
fn in_full(rule: &Rule, rules: &RuleSet, ui: &mut Ui) -> Result<(), Failure> {
    ui.line(format!("{} v{}: {}", rule.id, rule.version, rule.title))?;
    ui.line(format!("  why: {}", rule.why))?;
    ui.line(format!("  ask: {}", rule.ask))?;
    for (tag, ids) in &rule.tags {
        for id in ids {
            let citation =
                rules.full_packs().flat_map(|pack| &pack.citations).find(|citation| citation.id == *id);
            let title = citation.map_or("", |citation| citation.title.as_str());
            let url = citation.and_then(|citation| citation.url.as_deref()).unwrap_or_default();
            ui.line(format!("  {tag}: {id} {title} {url}").trim_end())?;
        }
    }
    let classes: Vec<&str> = rule.scope.iter().map(|class| class.name()).collect();
    let classes = if classes.is_empty() { "every class but other".to_owned() } else { classes.join(", ") };
    ui.line(format!("  {} severity, {} points; asked in {classes}", rule.severity, rule.weight))?;
    for (word, expect) in [("finds", Expect::Match), ("not", Expect::NoMatch)] {
        let names = rule.test.iter().filter(|test| test.expect == expect).map(|test| test.name.as_str());
        ui.line(format!("  {word}: {}", names.collect::<Vec<_>>().join("; ")))?;
    }
    Ok(())
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
            file: ".gitops-agent.toml".to_owned(),
            line: 1,
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
            let CheckFailure { file, line, rule, test, message, .. } = failure;
            ui.line(format!("FAIL {file}:{line}: rule {rule}: {test:?}: {message}"))?;
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
