//! `rules bench`: what the rules find over a history, how often, and what each costs.
//!
//! One thread, so that the times are of the rules and not of their neighbours. The time of a rule is that of asking
//! it where one of its literals occurs; the search for the literals is shared by all and shown as the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use gitops_agent::capture::Repo;
use gitops_agent::rules::{RuleSet, Verdict};
use serde_json::json;

use super::RepoFlag;
use super::failure::{Failure, PARTLY};
use super::session::Session;
use super::ui::Ui;

/// Measure the rules over a history.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  gitops-agent rules bench
  gitops-agent rules bench --rules my-pack v1.0..HEAD --json")]
pub(super) struct BenchArgs {
    #[command(flatten)]
    repo: RepoFlag,
    /// Revisions as `git rev-list` takes them; HEAD unless given.
    #[arg(value_name = "REVISION", allow_hyphen_values = false)]
    revisions: Vec<String>,
    /// Every so-many-th commit, so that at most this many are judged, spread over the history.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// A folder of further rule packs; what they change is shown beside.
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

/// Sums over the commits.
#[derive(Default)]
struct Bench {
    commits: usize,
    unreadable: usize,
    /// Per rule, hits and commits.
    hits: BTreeMap<String, (u64, u64)>,
    /// Per tag, commits.
    tags: BTreeMap<String, u64>,
    /// Per tag, commits that have it with the further packs only, and without them only.
    gained: BTreeMap<String, u64>,
    lost: BTreeMap<String, u64>,
    spent: BTreeMap<String, Duration>,
    judging: Duration,
}

pub(super) fn run(args: &BenchArgs, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let repo = args.repo.open()?;
    let session = Session::of_repo(&repo, args.rules.clone())?;
    let rules = session.rules()?;
    let before = args.rules.is_some().then(RuleSet::builtin);
    super::allocator::keep();
    Repo::tune_for_history();
    let commits = repo.resolve(&args.revisions, None, None)?;
    let step = commits.len().div_ceil(usize::try_from(args.limit).unwrap_or(usize::MAX)).max(1);
    let recorder = session.recorder(&repo, &rules);
    let mut bench = Bench::default();
    let bar = ui.progress(commits.len().div_ceil(step), "judging");
    for id in commits.iter().step_by(step) {
        bar.inc(1);
        let Ok((facts, class)) = repo.reading(|reading| recorder.facts(reading, id))? else {
            bench.unreadable += 1;
            continue;
        };
        let start = Instant::now();
        let verdict = rules.judge_timed(&facts, class.value, &mut bench.spent);
        bench.judging += start.elapsed();
        bench.count(&verdict);
        if let Some(before) = &before {
            bench.compare(&before.judge(&facts, class.value).tags, &verdict.tags);
        }
    }
    bar.finish_and_clear();
    bench.print(args, &rules, ui)?;
    Ok(if bench.unreadable == 0 { ExitCode::SUCCESS } else { ExitCode::from(PARTLY) })
}

impl Bench {
    fn count(&mut self, verdict: &Verdict) {
        self.commits += 1;
        let mut here = BTreeSet::new();
        for finding in verdict.findings.iter().filter(|finding| finding.allowed.is_none()) {
            let entry = self.hits.entry(finding.rule.clone()).or_default();
            entry.0 += u64::from(finding.count);
            entry.1 += u64::from(here.insert(&finding.rule));
        }
        for tag in &verdict.tags {
            *self.tags.entry(tag.clone()).or_default() += 1;
        }
    }

    fn compare(&mut self, before: &BTreeSet<String>, now: &BTreeSet<String>) {
        for tag in now.difference(before) {
            *self.gained.entry(tag.clone()).or_default() += 1;
        }
        for tag in before.difference(now) {
            *self.lost.entry(tag.clone()).or_default() += 1;
        }
    }

    fn share(&self, commits: u64) -> f64 {
        if self.commits == 0 {
            return 0.0;
        }
        let commits = f64::from(u32::try_from(commits).unwrap_or(u32::MAX));
        let all = f64::from(u32::try_from(self.commits).unwrap_or(u32::MAX));
        (commits / all * 10_000.0).round() / 10_000.0
    }

    fn print(&self, args: &BenchArgs, rules: &RuleSet, ui: &mut Ui) -> Result<(), Failure> {
        let mut rows: Vec<(String, u64, u64, Duration)> = rules
            .rules()
            .map(|rule| {
                let (hits, commits) = self.hits.get(&rule.id).copied().unwrap_or_default();
                (rule.id.clone(), hits, commits, self.spent.get(&rule.id).copied().unwrap_or_default())
            })
            .collect();
        // The noisiest first, then the dearest.
        rows.sort_by(|a, b| (b.2, b.3, &a.0).cmp(&(a.2, a.3, &b.0)));
        let rest = self.judging.saturating_sub(self.spent.values().sum());
        if args.json {
            let listed: Vec<_> = rows
                .iter()
                .map(|(rule, hits, commits, time)| {
                    json!({
                        "rule": rule, "hits": hits, "commits": commits, "share": self.share(*commits),
                        "seconds": time.as_secs_f64(),
                    })
                })
                .collect();
            let tags: BTreeMap<&String, f64> =
                self.tags.iter().map(|(tag, commits)| (tag, self.share(*commits))).collect();
            ui.json(&json!({
                "schemaVersion": 1, "commits": self.commits, "unreadable": self.unreadable,
                "digest": rules.digest(), "seconds": self.judging.as_secs_f64(),
                "literalsSeconds": rest.as_secs_f64(), "tags": tags, "gained": self.gained, "lost": self.lost,
                "rules": listed,
            }))?;
            return Ok(());
        }
        let percent = |share: f64| format!("{:.2} %", share * 100.0);
        let table = rows
            .iter()
            .filter(|(_, _, commits, time)| *commits > 0 || !time.is_zero())
            .map(|(rule, hits, commits, time)| {
                let milliseconds = format!("{:.2}", time.as_secs_f64() * 1000.0);
                let (hits_text, commits_text) = (hits.to_string(), commits.to_string());
                vec![rule.clone(), hits_text, commits_text, percent(self.share(*commits)), milliseconds]
            })
            .collect();
        ui.table(&["rule", "lines", "commits", "share", "ms"], table)?;
        for (tag, commits) in &self.tags {
            let change = |map: &BTreeMap<String, u64>| map.get(tag).copied().unwrap_or_default();
            let changed = if args.rules.is_some() {
                format!(
                    "; {} more and {} fewer than without --rules",
                    change(&self.gained),
                    change(&self.lost)
                )
            } else {
                String::new()
            };
            ui.line(format!("{tag}: {commits} commits, {}{changed}", percent(self.share(*commits))))?;
        }
        ui.line(format!(
            "{} commits judged in {:.3} s, {:.3} s of it looking for literals; {} rules of {} were never asked",
            self.commits,
            self.judging.as_secs_f64(),
            rest.as_secs_f64(),
            rows.iter().filter(|row| !self.spent.contains_key(&row.0)).count(),
            rows.len()
        ))?;
        if self.unreadable > 0 {
            ui.note(format!("{} commits could not be read", self.unreadable));
        }
        Ok(())
    }
}
