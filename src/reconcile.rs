//! Reconciliation: what is new in a repository since the last look, less what the outbox has already.
//!
//! [`begin`] sets the starting point: what is there is history and belongs to backfill. [`look`] compares the
//! repository with where the last look ended ([`crate::capture::Cursor`]) and gives the commits that no hook
//! has brought into the outbox. The caller queues them and then calls [`done`], which moves the cursor: a
//! process that ends in between loses nothing, the next look finds the rest again.
//!
//! A repository of `install --global` begins by itself, at the first look after a hook recorded from it: its
//! history then ends before the first commit that a hook announced. Backfill alone begins nothing.
//!
//! Where the agent is switched off (`gitops-agent.enabled=false`), hooks write the commits that they pass over
//! into a file of the repository ([`pass_over`]), so that switching on again does not bring them back.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use jiff::Timestamp;

use crate::capture::{CaptureError, CommitId, Cursor, Found, Repo};
use crate::hints;
use crate::outbox::{Outbox, OutboxError, Tracked, Tracking};

/// The file that lists commits made while the agent was off.
const PASSED_OVER: &str = "passed-over";

/// It is not written beyond 4 MiB, 100 000 commits.
const MAX_PASSED_OVER: u64 = 4 << 20;

/// Why a repository could not be reconciled.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The repository would not be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The outbox could not be read or written.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// A cursor could not be written as JSON.
    #[error("the state of reconciliation cannot be written: {0}; this is a fault of the agent")]
    Json(#[from] serde_json::Error),
}

/// What a look found. Goes back into [`done`] or [`skip`].
#[derive(Debug)]
pub struct Work {
    /// Commits made here that have no entry, parents before children.
    pub found: Vec<Found>,
    /// Commits made here, never recorded, and gone.
    pub lost: Vec<String>,
    /// Whether there were so many that they are left to backfill.
    pub imported: bool,
    row: Tracked,
    start: BTreeSet<String>,
    next: Cursor,
    changed: bool,
}

/// Sets the starting point of a repository that is installed into; one that is installed already keeps its
/// own. The working copy must be registered ([`Outbox::register_repository`]).
///
/// # Errors
/// Where the repository cannot be read or the outbox cannot be written.
pub fn begin(outbox: &mut Outbox, repo: &Repo, now: Timestamp) -> Result<(), ReconcileError> {
    match outbox.tracked(repo.common_dir())? {
        Some(row) if row.state != Tracking::Off => {
            let row = Tracked { state: Tracking::Installed, ..row };
            Ok(outbox.track(&row, place(repo), &[], now)?)
        }
        _ => start(outbox, repo, Tracking::Installed, &HashSet::new(), now).map(drop),
    }
}

/// What was made in a repository since the last look and is not recorded. None where it is not
/// reconciled: never installed, and no hook of a global installation has recorded from it.
///
/// # Errors
/// Where the repository cannot be read, which is kept for `status`, or the outbox cannot be used.
pub fn look(outbox: &mut Outbox, repo: &Repo, now: Timestamp) -> Result<Option<Work>, ReconcileError> {
    let row = match outbox.tracked(repo.common_dir())? {
        Some(row) if row.state != Tracking::Off => row,
        known => {
            let since = known.as_ref().map_or(Timestamp::UNIX_EPOCH, |row| row.checked_at);
            let announced = outbox.announced_from(place(repo), repo.common_dir(), since)?;
            if announced.is_empty() {
                let checked_at = known.as_ref().map_or(now, |row| row.checked_at.max(now));
                let row = known.unwrap_or_else(|| unknown(repo, now));
                outbox.track(&Tracked { checked_at, ..row }, place(repo), &[], now)?;
                return Ok(None);
            }
            start(outbox, repo, Tracking::Seen, &announced, now)?
        }
    };
    match find(outbox, repo, row.clone(), now) {
        Err(error @ ReconcileError::Capture(_)) => {
            let row = Tracked { problem: Some(error.to_string()), checked_at: now, ..row };
            outbox.track(&row, place(repo), &[], now)?;
            Err(error)
        }
        other => other.map(Some),
    }
}

fn find(outbox: &Outbox, repo: &Repo, row: Tracked, now: Timestamp) -> Result<Work, ReconcileError> {
    // What another version wrote, or nobody can read any more, starts anew from nothing seen: what the
    // starting point reaches stays history.
    let mut start: BTreeSet<String> = serde_json::from_str(&row.start).unwrap_or_default();
    let mut cursor: Cursor = serde_json::from_str(&row.cursor).unwrap_or_default();
    let before = start.len();
    for id in passed_over(repo.common_dir()) {
        start.insert(id.hex());
        cursor.pass(&id);
    }
    let news = repo.news(&start, &cursor)?;
    let ids: Vec<String> = news.found.iter().map(|found| found.id.hex()).collect();
    let recorded = outbox.recorded(ids.iter().map(String::as_str))?;
    let mut kept = ids.iter().map(|id| !recorded.contains(id.as_str()));
    let found = news.found.into_iter().filter(|_| kept.next().unwrap_or(true)).collect();
    let gone = outbox.recorded(news.gone.iter().map(String::as_str))?;
    let lost = news.gone.iter().filter(|id| !gone.contains(id.as_str())).cloned().collect();
    let imported = !news.imported.is_empty();
    start.extend(news.imported);
    let changed = start.len() != before || news.cursor != cursor || row.problem.is_some();
    let row = Tracked { checked_at: now, ..row };
    Ok(Work { found, lost, imported, row, start, next: news.cursor, changed })
}

impl Work {
    /// Drops what has been recorded since the look, by a hook that was still at work then.
    ///
    /// # Errors
    /// When the outbox cannot be read.
    pub fn look_again(&mut self, outbox: &Outbox) -> Result<(), OutboxError> {
        let ids: Vec<String> = self.found.iter().map(|found| found.id.hex()).collect();
        let recorded = outbox.recorded(ids.iter().map(String::as_str))?;
        self.found.retain(|found| !recorded.contains(found.id.hex().as_str()));
        Ok(())
    }
}

/// Everything of `work` is in the outbox: the next look goes on from there.
///
/// # Errors
/// When the outbox cannot be written.
pub fn done(outbox: &mut Outbox, repo: &Repo, work: Work, now: Timestamp) -> Result<(), ReconcileError> {
    if work.changed || !work.lost.is_empty() {
        let row = Tracked {
            start: serde_json::to_string(&work.start)?,
            cursor: serde_json::to_string(&work.next)?,
            problem: None,
            ..work.row
        };
        outbox.track(&row, place(repo), &work.lost, now)?;
    } else {
        outbox.looked(repo.common_dir(), place(repo), work.row.checked_at)?;
    }
    // Whoever removes it while a hook appends loses that line: the commit is then taken for one made
    // while the agent was on.
    let _ = std::fs::remove_file(repo.common_dir().join(PASSED_OVER));
    Ok(())
}

/// Counts what `work` found as history: the agent is switched off here.
///
/// # Errors
/// When the outbox cannot be written.
pub fn skip(outbox: &mut Outbox, repo: &Repo, mut work: Work, now: Timestamp) -> Result<(), ReconcileError> {
    work.start.extend(work.found.drain(..).map(|found| found.id.hex()));
    work.lost.clear();
    work.changed = true;
    done(outbox, repo, work, now)
}

/// Remembers commits made while the agent is switched off in this repository. Best effort: what cannot be
/// written here is found once the agent is on again.
pub fn pass_over(common_dir: &Path, ids: &[CommitId]) {
    let lines: String = ids.iter().map(|id| format!("{id}\n")).collect();
    let _ = hints::append(common_dir, PASSED_OVER, lines.as_bytes(), MAX_PASSED_OVER);
}

fn passed_over(common_dir: &Path) -> Vec<CommitId> {
    let text = hints::read(common_dir, PASSED_OVER, 2 * MAX_PASSED_OVER).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().filter_map(CommitId::from_hex).collect()
}

/// What reconciliation keeps in the repository itself goes with the hooks.
pub fn forget(common_dir: &Path) {
    hints::forget(common_dir, PASSED_OVER);
}

/// What counts as history in a repository: all that these commits reach. None where it is not reconciled.
///
/// # Errors
/// When the outbox cannot be read.
pub fn history_begins(outbox: &Outbox, repo: &Repo) -> Result<Option<BTreeSet<String>>, OutboxError> {
    let row = outbox.tracked(repo.common_dir())?.filter(|row| row.state != Tracking::Off);
    Ok(row.map(|row| serde_json::from_str(&row.start).unwrap_or_default()))
}

fn start(
    outbox: &mut Outbox,
    repo: &Repo,
    state: Tracking,
    announced: &HashSet<String>,
    now: Timestamp,
) -> Result<Tracked, ReconcileError> {
    let cursor = repo.starting_point(announced)?;
    let start: BTreeSet<&str> = cursor.tips().collect();
    let row = Tracked {
        state,
        start: serde_json::to_string(&start)?,
        cursor: serde_json::to_string(&cursor)?,
        ..unknown(repo, now)
    };
    outbox.track(&row, place(repo), &[], now)?;
    Ok(row)
}

fn unknown(repo: &Repo, now: Timestamp) -> Tracked {
    Tracked {
        common_dir: repo.common_dir().to_owned(),
        state: Tracking::Off,
        checked_at: now,
        start: "[]".to_owned(),
        cursor: "{}".to_owned(),
        problem: None,
    }
}

fn place(repo: &Repo) -> &Path {
    repo.workdir().unwrap_or_else(|| repo.git_dir())
}
