//! `status`: what is queued, held, refused and delivered; from the disk alone, without a network or a
//! daemon.

use gitops_agent::outbox::{Circuit, DestinationStats, Stats};
use gitops_agent::rules::RuleError;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::coverage::{self, Coverage, Standing};
use super::failure::{ExitCode, Failure, NO};
use super::session::{BrokenRules, InForce, Session};
use super::ui::Ui;

/// What is queued, held, refused and delivered; works offline.
#[derive(clap::Args, Debug)]
pub(super) struct StatusArgs {
    /// For programs.
    #[arg(long)]
    json: bool,
    /// Exit with 1 unless everything is in order.
    #[arg(long)]
    check: bool,
}

/// A pending record older than this is worth a look: the worker runs with every commit.
const STALE_SECONDS: u64 = 3600;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Health {
    Ok,
    Degraded,
    Failing,
}

pub(super) fn run(args: &StatusArgs, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let session = Session::here(None)?;
    let outbox = session.outbox()?;
    let now = Timestamp::now();
    let stats = outbox.stats(now)?;
    let here = stats.destinations.iter().find(|row| row.destination == session.settings.destination.value);
    let repositories = coverage::of_all(&outbox)?;
    let rules = session.rules_in_force()?;
    let blocked = outbox.notice().is_some() || session.settings.hold().is_some();
    let health = health(&stats, here, &repositories, blocked, rules.broken.is_some());
    if args.json {
        ui.json(&document(&session, &stats, here, &repositories, &rules, health))?;
    } else {
        print(&session, &stats, here, &rules, health, ui)?;
        covered(&repositories, ui)?;
    }
    if let Some(notice) = outbox.notice() {
        ui.note(notice.to_string());
    }
    Ok(if args.check && health != Health::Ok { ExitCode::from(NO) } else { ExitCode::SUCCESS })
}

/// `blocked`: the outbox was damaged, or nothing new can be delivered as things are set. `stand_in`: rules that are
/// not those of the rules folder judge.
fn health(
    stats: &Stats,
    here: Option<&DestinationStats>,
    repositories: &[Coverage],
    blocked: bool,
    stand_in: bool,
) -> Health {
    let circuit = here.is_some_and(|here| here.circuit != Circuit::Closed);
    if stats.held > 0 || circuit || blocked {
        return Health::Failing;
    }
    let stale = stats.oldest_pending_seconds.is_some_and(|age| age > STALE_SECONDS);
    // One that is gone, or switched off on purpose, makes no commits that a hook could miss.
    let uncovered = repositories.iter().any(|row| {
        row.state == Standing::Unreadable || row.state == Standing::Present && row.hook != "active"
    });
    if stats.refused > 0 || stale || uncovered || stand_in { Health::Degraded } else { Health::Ok }
}

fn document(
    session: &Session,
    stats: &Stats,
    here: Option<&DestinationStats>,
    repositories: &[Coverage],
    rules: &InForce,
    health: Health,
) -> Value {
    let place = &session.settings.destination.value;
    json!({
        "schemaVersion": 1,
        "tenant": session.settings.tenant.value,
        "outbox": {
            "pending": stats.pending,
            "held": stats.held,
            "refused": stats.refused,
            "discarded": stats.discarded,
            "oldestPendingSeconds": stats.oldest_pending_seconds,
            "bytes": stats.bytes,
        },
        "store": {
            "kind": place.kind(),
            "endpoint": place.endpoint(),
            "lastSuccess": here.and_then(|here| here.last_success),
            "lastError": here.and_then(|here| here.last_error.as_ref()),
            "nextAttempt": here.and_then(|here| here.next_attempt),
            "circuit": here.map_or(Circuit::Closed, |here| here.circuit),
        },
        "delivered": {
            "total": stats.delivered,
            "requestUnits": stats.request_units,
            "latencyMs": stats.latency_ms.map_or(json!({ "p50": null, "p99": null }), |latency| json!(latency)),
        },
        "destinations": stats.destinations,
        "rules": {
            "state": if rules.broken.is_some() { "broken" } else { "ok" },
            "digest": rules.rules.digest(),
            "packs": rules.rules.packs(),
            "folder": session.settings.rules.as_ref().map(|folder| &folder.value),
            "problem": rules.broken.as_ref().map(problem),
        },
        "repositories": repositories,
        "health": health,
    })
}

/// What is wrong with the rules folder, since when, and what judges instead.
fn problem(broken: &BrokenRules) -> Value {
    let (file, line, rule) = match &broken.error {
        RuleError::Invalid { file, line, rule, .. } => (file.clone(), *line, rule.clone()),
        RuleError::Read { path, .. } => (path.display().to_string(), None, None),
    };
    json!({
        "file": file,
        "line": line,
        "rule": rule,
        "message": broken.error.to_string(),
        "since": broken.since,
        "instead": if broken.kept_at.is_some() { "last-good" } else { "built-in" },
        "keptAt": broken.kept_at,
    })
}

fn print(
    session: &Session,
    stats: &Stats,
    here: Option<&DestinationStats>,
    rules: &InForce,
    health: Health,
    ui: &mut Ui,
) -> Result<(), Failure> {
    let settings = &session.settings;
    ui.line(format!("tenant {}, {}: {}", settings.tenant.value, settings.destination.value, name(health)))?;
    let age = stats.oldest_pending_seconds.map_or_else(String::new, |age| format!(" (oldest {age} s)"));
    ui.line(format!(
        "outbox: {} pending{age}, {} held, {} refused, {} delivered, {} discarded, {:.1} MB",
        stats.pending,
        stats.held,
        stats.refused,
        stats.delivered,
        stats.discarded,
        mega(stats.bytes)
    ))?;
    if let Some(here) = here {
        if let Some(success) = here.last_success {
            ui.line(format!("last delivery: {success}, {:.1} RU in all", here.request_units))?;
        }
        if let Some(error) = &here.last_error {
            ui.line(format!("last error: {} at {}: {}", error.kind, error.at, error.message))?;
        }
        if let Some(next) = here.next_attempt {
            ui.line(format!("next attempt: {next}"))?;
        }
    }
    if let Some(hold) = settings.hold() {
        ui.line(format!("records are held: {hold}"))?;
    } else if stats.held > 0 {
        ui.line(
            "next: `gitops-agent store check` finds what denies access, `gitops-agent flush` tries again",
        )?;
    }
    if stats.refused > 0 {
        ui.line("next: `gitops-agent outbox list --state refused` shows what the store will not take")?;
    }
    if let Some(broken) = &rules.broken {
        let since = broken.since.strftime("%Y-%m-%d %H:%M:%SZ");
        ui.line(format!("rules: {} do not load since {since}: {}", broken.folder.display(), broken.error))?;
        ui.line(format!(
            "  commits are judged by {} (digest {:.12}), and again once this is mended",
            broken.instead(),
            rules.rules.digest()
        ))?;
    }
    Ok(())
}

/// The table of repositories, and what to do about it.
fn covered(repositories: &[Coverage], ui: &mut Ui) -> Result<(), Failure> {
    let uncaptured = |row: &Coverage| match (row.uncaptured, row.more) {
        (Some(count), false) => count.to_string(),
        (Some(count), true) => format!("{count} or more"),
        (None, _) => "-".to_owned(),
    };
    let hook = |row: &Coverage| match row.state {
        Standing::Present => row.hook.to_owned(),
        Standing::Gone => "gone".to_owned(),
        Standing::Off => "switched off".to_owned(),
        Standing::Unreadable => "unreadable".to_owned(),
    };
    let rows = repositories
        .iter()
        .map(|row| vec![row.path.clone(), hook(row), row.recorded.to_string(), uncaptured(row)])
        .collect();
    ui.table(&["repository", "hook", "recorded", "not recorded"], rows)?;
    let history: usize = repositories.iter().filter_map(|row| row.history).sum();
    if history > 0 {
        ui.line(format!(
            "{history} commits are older than the installation; `gitops-agent backfill --all` in their repository \
             records them"
        ))?;
    }
    for row in repositories {
        match row.lost {
            0 => {}
            1 => {
                ui.line(format!("{}: 1 commit was never recorded and is gone; `verify` names it", row.path))?
            }
            lost => {
                ui.line(format!(
                    "{}: {lost} commits were never recorded and are gone; `verify` names them",
                    row.path
                ))?;
            }
        }
        if let Some(problem) = &row.problem {
            ui.line(format!("{}: {problem}", row.path))?;
        }
    }
    Ok(())
}

fn name(health: Health) -> &'static str {
    match health {
        Health::Ok => "ok",
        Health::Degraded => "degraded",
        Health::Failing => "failing",
    }
}

/// Bytes in megabytes, for people.
#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
