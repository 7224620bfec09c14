//! What reconciliation keeps: how far it has looked in each repository, and what it could not save.
//!
//! Where the history starts and how far a look got are texts here, whose meaning is
//! `crate::reconcile`'s.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, Transaction, named_params, params};

use super::enqueue::{name_of, path_of};
use super::{Outbox, OutboxError, count, timestamp};
use crate::destination::Destination;

/// Why a repository is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// By `install` in it.
    Installed,
    /// A hook of an installation for all repositories recorded from it.
    Seen,
    /// Known, but not reconciled: backfill alone, or uninstalled.
    Off,
}

impl Tracking {
    fn as_str(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Seen => "seen",
            Self::Off => "off",
        }
    }

    /// The schema's CHECK allows no fourth word.
    fn from_text(text: &str) -> Self {
        match text {
            "installed" => Self::Installed,
            "seen" => Self::Seen,
            _ => Self::Off,
        }
    }
}

/// What is kept of one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// The folder that its worktrees share.
    pub common_dir: PathBuf,
    /// Why it is known.
    pub state: Tracking,
    /// When the last look was, or since when it is off.
    pub checked_at: Timestamp,
    /// Where the history begins that belongs to backfill.
    pub start: String,
    /// How far reconciliation has looked.
    pub cursor: String,
    /// Why the last look failed.
    pub problem: Option<String>,
}

impl Outbox {
    /// What is kept of a repository; none where it was never looked at.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn tracked(&self, common_dir: &Path) -> Result<Option<Tracked>, OutboxError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT common_dir, state, checked_at, start, cursor, problem FROM tracked WHERE common_dir = ?1",
        )?;
        Ok(statement.query_row([common_dir.as_os_str().as_bytes()], tracked).optional()?)
    }

    /// Keeps `row`, whatever was kept before, and that the working copy `place` belongs to it. Commits in
    /// `lost` are kept for good.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn track(
        &mut self,
        row: &Tracked,
        place: &Path,
        lost: &[String],
        now: Timestamp,
    ) -> Result<(), OutboxError> {
        let common_dir = row.common_dir.as_os_str().as_bytes();
        let transaction = self.begin()?;
        transaction
            .prepare_cached(
                "INSERT INTO tracked (common_dir, state, started_at, checked_at, start, cursor, problem)
                 VALUES (:common_dir, :state, :now, :checked, :start, :cursor, :problem)
                 ON CONFLICT (common_dir) DO UPDATE SET state = excluded.state, checked_at = excluded.checked_at,
                     start = excluded.start, cursor = excluded.cursor, problem = excluded.problem",
            )?
            .execute(named_params! {
                ":common_dir": common_dir, ":state": row.state.as_str(), ":now": now.as_millisecond(),
                ":checked": row.checked_at.as_millisecond(), ":start": row.start, ":cursor": row.cursor,
                ":problem": row.problem,
            })?;
        belongs(&transaction, &row.common_dir, place)?;
        for id in lost {
            transaction
                .prepare_cached(
                    "INSERT INTO lost (common_dir, id, seen_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                )?
                .execute(params![common_dir, id, now.as_millisecond()])?;
        }
        Ok(transaction.commit()?)
    }

    /// Keeps that a look found nothing new: cheaper than [`Outbox::track`], since the cursor of a
    /// repository with thousands of refs is large.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn looked(
        &mut self,
        common_dir: &Path,
        place: &Path,
        checked_at: Timestamp,
    ) -> Result<(), OutboxError> {
        let transaction = self.begin()?;
        transaction
            .prepare_cached("UPDATE tracked SET checked_at = ?2 WHERE common_dir = ?1")?
            .execute(params![common_dir.as_os_str().as_bytes(), checked_at.as_millisecond()])?;
        belongs(&transaction, common_dir, place)?;
        Ok(transaction.commit()?)
    }

    /// Ends reconciliation in one repository, or in all that `install --global` brought in.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn untrack(&mut self, common_dir: Option<&Path>, now: Timestamp) -> Result<(), OutboxError> {
        self.connection.execute(
            "UPDATE tracked SET state = 'off', checked_at = ?2
             WHERE CASE WHEN ?1 IS NULL THEN state = 'seen' ELSE common_dir = ?1 END",
            params![common_dir.map(|path| path.as_os_str().as_bytes()), now.as_millisecond()],
        )?;
        Ok(())
    }

    /// The working copies to look at, one of each repository: those that have handed in commits since the
    /// last look first, then at most `others`, the one that waited longest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn repositories_due(&self, others: usize) -> Result<Vec<PathBuf>, OutboxError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT r.path, t.tracked IS NULL OR r.seen_at >= t.checked_at AS fresh, t.tracked
             FROM repositories r LEFT JOIN tracked t USING (tracked)
             WHERE fresh OR t.state <> 'off'
             ORDER BY fresh DESC, t.checked_at, r.seen_at DESC",
        )?;
        let mut rows = statement.query([])?;
        let (mut paths, mut seen, mut left) = (Vec::new(), HashSet::new(), others);
        while let Some(row) = rows.next()? {
            let (fresh, tracked): (bool, Option<i64>) = (row.get(1)?, row.get(2)?);
            // A fresh linked worktree stays beside its main one: each has a row to be mapped.
            let again = tracked.is_some_and(|tracked| !seen.insert(tracked));
            if again || !fresh && left == 0 {
                continue;
            }
            if !fresh {
                left -= 1;
            }
            paths.push(path_of(&row.get::<_, Vec<u8>>(0)?));
        }
        Ok(paths)
    }

    /// The ids of commits that hooks recorded from a repository's working copies after `since`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn announced_from(
        &self,
        place: &Path,
        common_dir: &Path,
        since: Timestamp,
    ) -> Result<HashSet<String>, OutboxError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT e.id FROM entries e JOIN repositories r USING (repository)
             LEFT JOIN tracked t USING (tracked)
             WHERE (r.path = ?1 OR t.common_dir = ?2) AND e.urgency = 0 AND e.queued_at >= ?3",
        )?;
        let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
        let ids = statement
            .query_map(params![bytes(place), bytes(common_dir), since.as_millisecond()], |row| row.get(0))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// Those of `ids` that have an entry, whatever has become of it, for any tenant and destination: a
    /// commit that a hook recorded is recorded, also where the settings have changed since.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn recorded<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a str>,
    ) -> Result<HashSet<&'a str>, OutboxError> {
        let mut statement = self.connection.prepare_cached("SELECT 1 FROM entries WHERE id = ?1 LIMIT 1")?;
        let mut found = HashSet::new();
        for id in ids {
            if statement.exists([id])? {
                found.insert(id);
            }
        }
        Ok(found)
    }

    /// Commits of a repository that were made, never recorded, and are gone.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn lost(&self, common_dir: &Path) -> Result<BTreeSet<String>, OutboxError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id FROM lost WHERE common_dir = ?1 AND id NOT IN (SELECT id FROM entries)",
        )?;
        let ids = statement.query_map([common_dir.as_os_str().as_bytes()], |row| row.get(0))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// How many commits each working copy has handed in, by tenant and destination. Reads all entries:
    /// about 50 ms for 100 000.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn recorded_counts(&self) -> Result<RecordedCounts, OutboxError> {
        let mut statement = self.connection.prepare(
            "SELECT r.path, e.tenant, d.name, count(*) FROM entries e
             JOIN repositories r USING (repository) JOIN destinations d USING (destination)
             WHERE e.state <> 'discarded' GROUP BY e.repository, e.tenant, e.destination",
        )?;
        let rows = statement.query_map([], |row| {
            let key = (path_of(&row.get::<_, Vec<u8>>(0)?), row.get(1)?, row.get(2)?);
            Ok((key, count(row.get(3)?)))
        })?;
        Ok(RecordedCounts(rows.collect::<Result<_, _>>()?))
    }
}

/// Answer of [`Outbox::recorded_counts`].
#[derive(Clone, Debug)]
pub struct RecordedCounts(HashMap<(PathBuf, String, String), u64>);

impl RecordedCounts {
    /// Commits that the working copy at `path` handed in for this tenant and destination, the discarded
    /// ones apart.
    #[must_use]
    pub fn of(&self, path: &Path, tenant: &str, destination: &Destination) -> u64 {
        let key = (path.to_owned(), tenant.to_owned(), name_of(destination));
        self.0.get(&key).copied().unwrap_or(0)
    }

    /// The same over all tenants and destinations, for a repository whose settings cannot be read.
    #[must_use]
    pub fn of_any(&self, path: &Path) -> u64 {
        self.0.iter().filter(|((place, ..), _)| place == path).map(|(_, count)| count).sum()
    }
}

fn belongs(transaction: &Transaction<'_>, common_dir: &Path, place: &Path) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE repositories SET tracked = (SELECT tracked FROM tracked WHERE common_dir = ?1)
             WHERE path = ?2",
        )?
        .execute(params![common_dir.as_os_str().as_bytes(), place.as_os_str().as_bytes()])
        .map(drop)
}

fn tracked(row: &Row<'_>) -> rusqlite::Result<Tracked> {
    Ok(Tracked {
        common_dir: path_of(&row.get::<_, Vec<u8>>(0)?),
        state: Tracking::from_text(&row.get::<_, String>(1)?),
        checked_at: timestamp(row.get(2)?),
        start: row.get(3)?,
        cursor: row.get(4)?,
        problem: row.get(5)?,
    })
}
