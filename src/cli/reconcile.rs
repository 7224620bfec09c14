//! Reconciliation for the worker, `flush` and `verify`: looks into repositories and queues the commits that
//! no hook announced.
//!
//! The worker looks into the repositories that have handed in commits since the last look, and into a few
//! others, so that each gets its turn; `flush` looks into all, `verify` into its own. A commit that is not
//! recorded yet may be one whose hook is still at work: the worker waits and looks again before it
//! records. One look without news costs about 1 ms.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use gitops_agent::capture::{CaptureError, Found, Repo};
use gitops_agent::install::{Git, HookState, hook_report};
use gitops_agent::outbox::{NewEntry, Outbox, Tracking, spool_in};
use gitops_agent::reconcile::{self, Work};
use gitops_agent::recorder;
use jiff::Timestamp;

use super::failure::Failure;
use super::hook;
use super::session::Session;
use super::ui::Ui;

/// Who reconciles, and with how much patience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// A person waits: all repositories, all commits, at once.
    Foreground,
    /// Nobody waits: a few repositories, so many commits at a time, and hooks get time to finish.
    Background,
}

/// Repositories without news that a worker looks into.
const OTHERS: usize = 4;

/// Commits of one repository that a worker records before it delivers again.
const SLICE: usize = 1000;

/// Commits that go into the outbox in one transaction.
const BATCH: usize = 256;

/// A hook is done by then.
const SETTLING: Duration = Duration::from_secs(2);

/// Looks into the repositories that are due, and into `repo`. Whether there is more to record.
pub(super) fn all(
    session: &Session,
    outbox: &mut Outbox,
    repo: Option<&Repo>,
    pace: Pace,
    ui: &Ui,
) -> Result<bool, Failure> {
    let others = if pace == Pace::Foreground { usize::MAX } else { OTHERS };
    let mut seen: HashSet<PathBuf> = HashSet::new();
    if let Some(repo) = repo {
        if let Err(failure) = here(outbox, repo, ui) {
            ui.note(format!("not reconciled: {}", failure.line()));
        }
        seen.insert(repo.common_dir().to_owned());
    }
    let mut more = false;
    for path in outbox.repositories_due(others)? {
        let repo = match Repo::open_exact(&path) {
            Ok(repo) => repo,
            // `status` shows it as gone.
            Err(CaptureError::NotARepository { .. }) => continue,
            Err(error) => {
                ui.note(format!("not reconciled: {error}"));
                continue;
            }
        };
        if !seen.insert(repo.common_dir().to_owned()) {
            continue;
        }
        match one(session, outbox, &repo, pace, ui) {
            Ok(left) => more |= left,
            Err(failure) => ui.note(format!("{}: not reconciled: {}", path.display(), failure.line())),
        }
    }
    Ok(more)
}

/// Looks into the repository at hand; one that an installation for all repositories covers begins here.
pub(super) fn here(outbox: &mut Outbox, repo: &Repo, ui: &Ui) -> Result<(), Failure> {
    let now = Timestamp::now();
    let place = repo.workdir().unwrap_or_else(|| repo.git_dir());
    let known = outbox.tracked(repo.common_dir())?;
    if known.as_ref().is_none_or(|row| row.state == Tracking::Off) {
        let active = hook_report(&Git::new(place)).is_ok_and(|report| report.state == HookState::Active);
        let since = known.map_or(Timestamp::UNIX_EPOCH, |row| row.checked_at);
        if active && outbox.announced_from(place, repo.common_dir(), since)?.is_empty() {
            let id = recorder::repository(repo, || None).id;
            outbox.register_repository(place, &id, now)?;
            return Ok(reconcile::begin(outbox, repo, now)?);
        }
    }
    let Some(work) = reconcile::look(outbox, repo, now)? else { return Ok(()) };
    record(outbox, repo, work, usize::MAX, ui).map(drop)
}

fn one(session: &Session, outbox: &mut Outbox, repo: &Repo, pace: Pace, ui: &Ui) -> Result<bool, Failure> {
    let Some(mut work) = reconcile::look(outbox, repo, Timestamp::now())? else { return Ok(false) };
    if pace == Pace::Foreground {
        return record(outbox, repo, work, usize::MAX, ui);
    }
    if !work.found.is_empty() {
        std::thread::sleep(SETTLING);
        let folders = [spool_in(session.paths()?.data()), spool_in(&repo.common_dir().join("gitops-agent"))];
        outbox.take_in_spool(&folders, Timestamp::now())?;
        work.look_again(outbox)?;
    }
    record(outbox, repo, work, SLICE, ui)
}

/// Queues what a look found, at most `limit` commits. Whether there is more.
fn record(outbox: &mut Outbox, repo: &Repo, mut work: Work, limit: usize, ui: &Ui) -> Result<bool, Failure> {
    let now = Timestamp::now();
    if work.found.is_empty() && work.lost.is_empty() && !work.imported {
        reconcile::done(outbox, repo, work, now)?;
        return Ok(false);
    }
    let place = repo.workdir().unwrap_or_else(|| repo.git_dir());
    let session = Session::of_repo(repo, None)?;
    if !session.settings.enabled.value {
        reconcile::skip(outbox, repo, work, now)?;
        return Ok(false);
    }
    if work.imported {
        ui.note(format!(
            "{}: more than 100000 new commits; `gitops-agent backfill --all` there records them",
            place.display()
        ));
    }
    for id in &work.lost {
        ui.note(format!("{}: commit {id} was never recorded and is gone", place.display()));
    }
    let mut more = work.found.len() > limit;
    work.found.truncate(limit);
    if !work.found.is_empty() {
        let mut unreadable = Vec::new();
        for batch in work.found.chunks(BATCH) {
            queue(outbox, repo, &session, batch, &mut unreadable, now)?;
        }
        let count = work.found.len() - unreadable.len();
        more &= count > 0;
        let commits = if count == 1 { "commit" } else { "commits" };
        ui.note(format!("{}: {count} {commits} found that no hook announced", place.display()));
        for problem in unreadable {
            ui.note(format!("not recorded: {problem}"));
        }
    }
    if !more {
        reconcile::done(outbox, repo, work, now)?;
    }
    Ok(more)
}

/// One transaction. A commit that cannot be read stays unrecorded, as `verify` will say.
fn queue(
    outbox: &mut Outbox,
    repo: &Repo,
    session: &Session,
    batch: &[Found],
    unreadable: &mut Vec<String>,
    now: Timestamp,
) -> Result<(), Failure> {
    let rules = session.rules()?;
    let place = repo.workdir().unwrap_or_else(|| repo.git_dir());
    let named = recorder::repository(repo, || None);
    let mut records = Vec::with_capacity(batch.len());
    repo.reading(|reading| {
        for found in batch {
            let mut repository = named.clone();
            repository.branch.clone_from(&found.branch);
            let recorder = session.recorder_of(repository, &rules);
            match recorder.record(reading, &found.id, "reconcile", found.supersedes.clone(), now) {
                Ok(made) => records.push(made),
                Err(error) => unreadable.push(error.to_string()),
            }
        }
    })?;
    let destination = &session.settings.destination.value;
    let entries: Vec<NewEntry<'_>> =
        records.iter().map(|made| hook::entry(made, session, destination, place)).collect();
    outbox.enqueue(&entries, now)?;
    Ok(())
}
