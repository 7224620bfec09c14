//! `verify`: compares history and store.

use std::collections::{BTreeMap, HashMap};

use gitops_agent::capture::{CommitId, Repo};
use gitops_agent::config::Origin;
use gitops_agent::history;
use gitops_agent::outbox::{self, Outbox, Selection, State};
use gitops_agent::reconcile::history_begins;
use gitops_agent::record::Privacy;
use gitops_agent::store::{DIFFERING_COPIES, Query};
use gitops_agent::verify::Expected;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::failure::{ExitCode, Failure, NO, PARTLY};
use super::session::{Session, block_on};
use super::ui::Ui;
use super::{RepoFlag, reconcile};

/// Compare history and store: what is missing, what was altered.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Exit codes: 0 complete, 1 something is missing or altered, 3 only that some are still queued.

Examples:
  gitops-agent verify
  gitops-agent verify v1.0..v2.0 --json"
)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    repo: RepoFlag,
    /// Revisions as `git rev-list` takes them; HEAD unless given.
    #[arg(value_name = "REVISION")]
    revisions: Vec<String>,
    /// Every branch, tag and remote branch.
    #[arg(long)]
    all: bool,
    /// For programs.
    #[arg(long)]
    json: bool,
    /// A folder of further rule packs.
    #[arg(long, value_name = "DIR")]
    rules: Option<std::path::PathBuf>,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    schema_version: u32,
    tenant: String,
    commits: usize,
    /// Recorded, and as they must be.
    recorded: usize,
    /// Commits without a record anywhere.
    missing: Vec<String>,
    /// Those of `missing` that were made elsewhere and fetched since the installation: their makers' agents
    /// record them, or a backfill does.
    fetched: Vec<String>,
    /// Commits that were made here, never recorded, and are gone from the repository; in no history that
    /// could be compared.
    lost: Vec<String>,
    /// Records that differ, with the names of the fields.
    altered: BTreeMap<String, Vec<&'static str>>,
    /// Commits whose record is still in the outbox, pending or held.
    queued: Vec<String>,
    /// Commits whose record the store refused; it is kept in the outbox.
    refused: Vec<String>,
    /// Commits whose record a person discarded.
    discarded: Vec<String>,
    /// Records of this repository whose commit is absent here.
    not_checkable: Vec<String>,
    /// Commits that the repository itself cannot give.
    unreadable: Vec<String>,
    complete: bool,
}

pub(super) fn run(args: &VerifyArgs, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let repo = args.repo.open()?;
    let mut session = Session::of_repo(&repo, args.rules.clone())?;
    // The comparison knows both forms of a person, and needs the plain one.
    session.settings.privacy.value = Privacy::Plain;
    super::allocator::keep();
    Repo::tune_for_history();
    let mut outbox = session.outbox()?;
    let common_spool = outbox::spool_in(&repo.common_dir().join("gitops-agent"));
    outbox.take_in_spool(&[common_spool], Timestamp::now())?;
    // The comparison itself does not need it: what cannot be reconciled is listed as missing.
    if let Err(failure) = reconcile::here(&mut outbox, &repo, ui) {
        ui.note(format!("not reconciled: {}", failure.line()));
    }
    let mut revisions = args.revisions.clone();
    if args.all {
        revisions.push("--all".to_owned());
    }
    let commits = repo.resolve(&revisions, None, None)?;
    let mut found = Found {
        schema_version: 1,
        tenant: session.settings.tenant.value.clone(),
        commits: commits.len(),
        ..Found::default()
    };
    let history = recompute(args, &repo, &session, &commits, &mut found, ui)?;
    let absent = compare(&repo, &session, history, &mut found)?;
    settle(&outbox, &session, absent, &mut found)?;
    elsewhere(&outbox, &repo, &mut found)?;
    found.lost.extend(outbox.lost(repo.common_dir())?);
    for list in [
        &mut found.missing,
        &mut found.fetched,
        &mut found.queued,
        &mut found.refused,
        &mut found.discarded,
        &mut found.not_checkable,
    ] {
        list.sort();
    }
    let wrong = !(found.missing.is_empty() && found.altered.is_empty() && found.unreadable.is_empty());
    let waiting = !(found.queued.is_empty() && found.refused.is_empty());
    found.complete = !wrong && !waiting;
    if args.json {
        ui.json(&found)?;
    } else {
        print(&found, ui)?;
    }
    Ok(match (wrong, waiting) {
        (true, _) => ExitCode::from(NO),
        (false, true) => ExitCode::from(PARTLY),
        (false, false) => ExitCode::SUCCESS,
    })
}

/// What the history must look like in the store.
struct History {
    repository: String,
    expected: HashMap<String, Expected>,
    /// First and last commit date.
    days: Option<(String, String)>,
}

fn recompute(
    args: &VerifyArgs,
    repo: &Repo,
    session: &Session,
    commits: &[CommitId],
    found: &mut Found,
    ui: &Ui,
) -> Result<History, Failure> {
    let rules = session.rules()?;
    let recorder = session.recorder(repo, &rules);
    let bar = ui.progress(commits.len(), "reading");
    let mut history = History {
        repository: recorder.repository().id.clone(),
        expected: HashMap::with_capacity(commits.len()),
        days: None,
    };
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let now = Timestamp::now();
    let built_in = session.settings.thresholds.origin == Origin::BuiltIn;
    history::each_in_two(
        commits,
        jobs,
        || args.repo.open(),
        |reading, id| (id.hex(), recorder.facts(reading, id)),
        |(_, read)| super::backfill::weight(read),
        |(id, read)| {
            let made = read.and_then(|read| recorder.judge(read, "verify", Vec::new(), now));
            let Ok(made) = made else { return Err(id) };
            let expected = Expected::new(&made.record, built_in).map_err(|_| id)?;
            Ok((made.record.id, made.record.commit_date, expected))
        },
        |result| {
            bar.inc(1);
            match result {
                Ok((id, day, expected)) => {
                    history.days = Some(match history.days.take() {
                        Some((first, last)) => (first.min(day.clone()), last.max(day)),
                        None => (day.clone(), day),
                    });
                    history.expected.insert(id, expected);
                }
                Err(id) => found.unreadable.push(id),
            }
            true
        },
    )?;
    bar.finish_and_clear();
    Ok(history)
}

/// Compares the store's documents as they arrive; returns the commits that have none.
fn compare(
    repo: &Repo,
    session: &Session,
    mut history: History,
    found: &mut Found,
) -> Result<Vec<String>, Failure> {
    let Some((since, until)) = history.days.take() else { return Ok(Vec::new()) };
    let query = Query {
        tenant: session.settings.tenant.value.clone(),
        since: Some(since),
        until: Some(until),
        ..Query::default()
    };
    let store = session.store()?;
    let mut sink = |document: Value| {
        let id = document["id"].as_str().unwrap_or_default();
        match history.expected.remove(id) {
            Some(expected) => {
                let mut differing = expected.differences(&document);
                if document["tenantId"] != found.tenant.as_str() {
                    differing.push("tenantId");
                }
                if document.get(DIFFERING_COPIES).is_some() {
                    differing.push("query columns");
                }
                if differing.is_empty() {
                    found.recorded += 1;
                } else {
                    found.altered.insert(id.to_owned(), differing);
                }
            }
            None if document.pointer("/repository/id").and_then(Value::as_str)
                == Some(&history.repository) =>
            {
                found.not_checkable.push(id.to_owned());
            }
            None => {}
        }
        true
    };
    block_on(store.query(&query, &mut sink))??;
    // What is here was only not asked for.
    found.not_checkable.retain(|id| !CommitId::from_hex(id).is_some_and(|id| repo.has(&id)));
    Ok(history.expected.into_keys().collect())
}

/// Looks for the commits that the store has not in the outbox.
fn settle(outbox: &Outbox, session: &Session, absent: Vec<String>, found: &mut Found) -> Result<(), Failure> {
    if absent.is_empty() {
        return Ok(());
    }
    let here = &session.settings;
    let entries = outbox.list(&Selection::All, usize::MAX)?;
    let states: HashMap<String, State> = entries
        .into_iter()
        .filter(|entry| entry.tenant == here.tenant.value && entry.destination == here.destination.value)
        .map(|entry| (entry.id, entry.state))
        .collect();
    for id in absent {
        match states.get(&id) {
            Some(State::Pending | State::Held) => found.queued.push(id),
            Some(State::Refused) => found.refused.push(id),
            Some(State::Discarded) => found.discarded.push(id),
            // Delivered once and gone from the store: somebody deleted it, or it outlived its time.
            Some(State::Delivered) | None => found.missing.push(id),
        }
    }
    Ok(())
}

/// Names those of the missing commits that came from elsewhere: after reconciliation, what was made here
/// since the installation is in the outbox.
fn elsewhere(outbox: &Outbox, repo: &Repo, found: &mut Found) -> Result<(), Failure> {
    let Some(start) = history_begins(outbox, repo)? else { return Ok(()) };
    let ids: Vec<CommitId> = found.missing.iter().filter_map(|id| CommitId::from_hex(id)).collect();
    if !ids.is_empty() {
        found.fetched = repo.beyond(&start, &ids)?.iter().map(CommitId::hex).collect();
    }
    Ok(())
}

/// How many ids of a kind are printed for people; JSON has all.
const SHOWN: usize = 20;

fn print(found: &Found, ui: &mut Ui) -> Result<(), Failure> {
    ui.line(format!(
        "{} commits, {} recorded and unaltered in tenant {}",
        found.commits, found.recorded, found.tenant
    ))?;
    let missing = found.missing.iter().filter(|id| !found.fetched.contains(id)).cloned().collect();
    let lists = [
        ("missing", &missing),
        ("missing, fetched from elsewhere", &found.fetched),
        ("queued", &found.queued),
        ("refused", &found.refused),
        ("discarded", &found.discarded),
        ("lost before it was recorded", &found.lost),
        ("unreadable", &found.unreadable),
        ("not checkable here", &found.not_checkable),
    ];
    for (name, ids) in lists {
        for id in ids.iter().take(SHOWN) {
            ui.line(format!("{name}: {id}"))?;
        }
        if ids.len() > SHOWN {
            ui.line(format!("{name}: … {} in all, `--json` names them", ids.len()))?;
        }
    }
    for (id, fields) in &found.altered {
        ui.line(format!("altered: {id}: {}", fields.join(", ")))?;
    }
    if !found.missing.is_empty() {
        ui.line("next: `gitops-agent backfill --missing` records what the store lacks")?;
    }
    Ok(())
}
