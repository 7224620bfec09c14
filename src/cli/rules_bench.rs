//! `rules bench`: what the rules find over a history, how often, what each costs, and what another version of a pack
//! would say.
//!
//! One thread, so that the times are of the rules and not of their neighbours. The time of a rule is that of asking
//! it where one of its literals occurs; the search for the literals is shared by all and shown as the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use gitops_agent::capture::Repo;
use gitops_agent::rules::{RuleSet, Verdict};
use serde_json::json;

use super::RepoFlag;
use super::failure::{ExitCode, Failure, PARTLY};
use super::session::Session;
use super::ui::{self, Ui};

/// Measure the rules over a history.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  gitops-agent rules bench
  gitops-agent rules bench --rules my-pack v1.0..HEAD --json
  gitops-agent rules bench --against old/rules/hipaa")]
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
    /// A folder with another version of a pack, or of several: which tags would change is shown. Packs of the same id
    /// are taken from there, in place of those in force.
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

/// How many commits whose tags differ are named on a terminal, and in JSON.
const NAMED: (usize, usize) = (20, 1000);

impl BenchArgs {
    /// Whether the rules in force are compared with others.
    fn compares(&self) -> bool {
        self.against.is_some() || self.rules.is_some()
    }
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
    /// Per tag, commits that have it by the rules in force only, and by what these are compared with only.
    gained: BTreeMap<String, u64>,
    lost: BTreeMap<String, u64>,
    /// Commits whose tags differ: id, subject, what they gain and lose.
    changed: Vec<Changed>,
    /// Commits per rule by what is compared with.
    before: BTreeMap<String, u64>,
    spent: BTreeMap<String, Duration>,
    judging: Duration,
}

/// A commit whose tags differ.
#[derive(serde::Serialize)]
struct Changed {
    commit: String,
    gained: Vec<String>,
    lost: Vec<String>,
}

pub(super) fn run(args: &BenchArgs, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let repo = args.repo.open()?;
    let session = Session::of_repo(&repo, args.rules.clone())?;
    let rules = session.rules()?;
    let before = match &args.against {
        Some(folder) => Some(session.rules_with_versions(folder)?),
        None => args.rules.is_some().then(RuleSet::builtin),
    };
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
            bench.compare(&facts.id, &before.judge(&facts, class.value), &verdict);
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

    fn compare(&mut self, commit: &str, before: &Verdict, now: &Verdict) {
        let in_force = before.findings.iter().filter(|finding| finding.allowed.is_none());
        for rule in in_force.map(|finding| &finding.rule).collect::<BTreeSet<_>>() {
            *self.before.entry(rule.clone()).or_default() += 1;
        }
        let gained: Vec<String> = now.tags.difference(&before.tags).cloned().collect();
        let lost: Vec<String> = before.tags.difference(&now.tags).cloned().collect();
        for (tags, sums) in [(&gained, &mut self.gained), (&lost, &mut self.lost)] {
            for tag in tags {
                *sums.entry(tag.clone()).or_default() += 1;
            }
        }
        if !(gained.is_empty() && lost.is_empty()) && self.changed.len() < NAMED.1 {
            self.changed.push(Changed { commit: commit.to_owned(), gained, lost });
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

    /// What rules that are in force no more, or not any more of this name, found.
    fn gone(&self, rules: &RuleSet) -> BTreeMap<&String, u64> {
        let known: BTreeSet<&String> = rules.rules().map(|rule| &rule.id).collect();
        self.before
            .iter()
            .filter(|(rule, _)| !known.contains(rule))
            .map(|(rule, count)| (rule, *count))
            .collect()
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
                    let mut row = json!({
                        "rule": rule, "hits": hits, "commits": commits, "share": self.share(*commits),
                        "seconds": time.as_secs_f64(),
                    });
                    if args.compares() {
                        row["commitsBefore"] = self.before.get(rule).copied().unwrap_or_default().into();
                    }
                    row
                })
                .collect();
            let tags: BTreeMap<&String, f64> =
                self.tags.iter().map(|(tag, commits)| (tag, self.share(*commits))).collect();
            ui.json(&json!({
                "schemaVersion": 1, "commits": self.commits, "unreadable": self.unreadable,
                "digest": rules.digest(), "seconds": self.judging.as_secs_f64(),
                "literalsSeconds": rest.as_secs_f64(), "tags": tags, "gained": self.gained, "lost": self.lost,
                "changed": self.changed, "gone": self.gone(rules), "rules": listed,
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
                let mut row =
                    vec![rule.clone(), hits_text, commits_text, percent(self.share(*commits)), milliseconds];
                if args.compares() {
                    row.push(self.before.get(rule).copied().unwrap_or_default().to_string());
                }
                row
            })
            .collect();
        let columns = ["rule", "lines", "commits", "share", "ms", "before"];
        ui.table(&columns[..5 + usize::from(args.compares())], table)?;
        for (rule, commits) in self.gone(rules) {
            ui.line(format!(
                "{rule} is not in force; it found something in {} before",
                ui::count(usize::try_from(commits).unwrap_or(usize::MAX), "commit")
            ))?;
        }
        let tags: BTreeSet<&String> = self.tags.keys().chain(self.lost.keys()).collect();
        for tag in tags {
            let of = |map: &BTreeMap<String, u64>| map.get(tag).copied().unwrap_or_default();
            let changed = if args.compares() {
                let with = if args.against.is_some() { "with --against" } else { "without --rules" };
                format!("; {} more and {} fewer than {with}", of(&self.gained), of(&self.lost))
            } else {
                String::new()
            };
            ui.line(format!(
                "{tag}: {} commits, {}{changed}",
                of(&self.tags),
                percent(self.share(of(&self.tags)))
            ))?;
        }
        for Changed { commit, gained, lost } in self.changed.iter().take(NAMED.0) {
            let signs =
                gained.iter().map(|tag| format!(" +{tag}")).chain(lost.iter().map(|tag| format!(" -{tag}")));
            ui.line(format!("{commit:.12}{}", signs.collect::<String>()))?;
        }
        if self.changed.len() > NAMED.0 {
            ui.line(format!("{} further commits change; --json names them", self.changed.len() - NAMED.0))?;
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
