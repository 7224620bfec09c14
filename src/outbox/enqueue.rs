//! Queueing: one immediate transaction per call, idempotent by (commit, tenant, destination).

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Transaction, named_params, params};
use serde_json::Value;

use super::measured;
use super::{Enqueued, HELD_BY_SETTING, NewEntry, Outbox, OutboxError, RepositoryRow, State, count};
use crate::destination::Destination;
use crate::judgement::{Essence, Links, Standing};

/// What one entry did.
enum Effect {
    Added,
    Replaced,
    Merged,
    Already,
}

/// The row that is there already.
struct Existing {
    entry: i64,
    state: State,
    urgency: i64,
    standing: Standing,
    links: Links,
    body: Option<Vec<u8>>,
}

impl Outbox {
    /// Queues records, all or none of them; when this returns they survive a power cut.
    ///
    /// An entry whose commit is queued or delivered already for the same destination is decided as
    /// [`crate::judgement`] says; a discarded one stays discarded.
    ///
    /// # Errors
    /// When a body is no record, or the file cannot be written. Nothing of the call is then queued as far
    /// as this process can tell; queueing again is harmless.
    pub fn enqueue(&mut self, entries: &[NewEntry<'_>], now: Timestamp) -> Result<Enqueued, OutboxError> {
        let result = self.enqueue_all(entries, now);
        result.map_err(|error| self.suspect(error))
    }

    fn enqueue_all(&mut self, entries: &[NewEntry<'_>], now: Timestamp) -> Result<Enqueued, OutboxError> {
        // Parsed before the lock is taken: the lock is what other processes wait for.
        let essences = entries
            .iter()
            .map(|entry| {
                Essence::from_slice(entry.body)
                    .map_err(|source| OutboxError::NotARecord { id: entry.id.to_owned(), source })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut done = Enqueued::default();
        let mut writer = Writer::new(self.begin()?, now);
        for (entry, essence) in entries.iter().zip(essences) {
            match writer.enqueue(entry, essence)? {
                Effect::Added => done.added += 1,
                Effect::Replaced => done.replaced += 1,
                Effect::Merged => done.merged += 1,
                Effect::Already => done.already += 1,
            }
        }
        writer.commit()?;
        Ok(done)
    }

    /// Commits that need no judging again: those recorded for this tenant and destination with exactly
    /// this judgement (with any, where none is given), whatever has become of them, and the discarded ones.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn known(
        &self,
        tenant: &str,
        destination: &Destination,
        judgement: Option<&str>,
    ) -> Result<HashSet<String>, OutboxError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT e.id FROM entries e
             JOIN destinations d USING (destination) JOIN judgements j USING (judgement)
             WHERE e.tenant = ?1 AND d.name = ?2 AND (?3 IS NULL OR j.name = ?3 OR e.state = 'discarded')",
        )?;
        let ids = statement.query_map(params![tenant, name_of(destination), judgement], |row| row.get(0))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// Forgets delivered records that `gone` names, so that they can be queued again. Returns how many.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn forget_delivered(
        &mut self,
        tenant: &str,
        destination: &Destination,
        gone: impl Fn(&str) -> bool,
    ) -> Result<usize, OutboxError> {
        let transaction = self.begin()?;
        let rows: Vec<(i64, String)> = transaction
            .prepare(
                "SELECT e.entry, e.id FROM entries e JOIN destinations d USING (destination)
                 WHERE e.tenant = ?1 AND d.name = ?2 AND e.state = 'delivered'",
            )?
            .query_map(params![tenant, name_of(destination)], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let mut forgotten = 0;
        for (entry, _) in rows.iter().filter(|(_, id)| gone(id)) {
            forgotten +=
                transaction.prepare_cached("DELETE FROM entries WHERE entry = ?1")?.execute([entry])?;
        }
        measured::removed(&transaction)?;
        transaction.commit()?;
        Ok(forgotten)
    }

    /// Remembers a working copy, so that `status` and reconciliation know it before its first commit.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn register_repository(
        &mut self,
        path: &Path,
        repository_id: &str,
        now: Timestamp,
    ) -> Result<(), OutboxError> {
        self.connection.prepare_cached(UPSERT_REPOSITORY)?.execute(params![
            path.as_os_str().as_bytes(),
            repository_id,
            now.as_millisecond()
        ])?;
        Ok(())
    }

    /// The working copies that have handed in commits or were registered, by path.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn repositories(&self) -> Result<Vec<RepositoryRow>, OutboxError> {
        let mut statement = self
            .connection
            .prepare("SELECT path, repository_id, recorded, common_dir FROM repositories LEFT JOIN tracked USING (tracked) ORDER BY path")?;
        let rows = statement.query_map([], |row| {
            Ok(RepositoryRow {
                path: path_of(&row.get::<_, Vec<u8>>(0)?),
                id: row.get(1)?,
                recorded: count(row.get(2)?),
                common_dir: row.get::<_, Option<Vec<u8>>>(3)?.map(|bytes| path_of(&bytes)),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Lets the records go that wait for a setting, under the tenant that is set now. `rewrite` changes a
    /// record for its tenant and returns its new digest. All of it happens in one transaction; a record of the same
    /// commit that the tenant has already decides as always. Returns how many went.
    ///
    /// # Errors
    /// When `rewrite` fails or the file cannot be written; nothing is changed then.
    pub fn assign_tenant(
        &mut self,
        destination: &Destination,
        tenant: &str,
        now: Timestamp,
        mut rewrite: impl FnMut(&mut Value) -> Result<String, serde_json::Error>,
    ) -> Result<usize, OutboxError> {
        let mut writer = Writer::new(self.begin()?, now);
        let waiting = writer.take_held_by_setting(destination)?;
        for row in &waiting {
            let wrong = |source| OutboxError::NotARecord { id: row.id.clone(), source };
            let mut record: Value = serde_json::from_slice(&row.body).map_err(wrong)?;
            let digest = rewrite(&mut record).map_err(wrong)?;
            let body = record.to_string().into_bytes();
            let entry = NewEntry {
                tenant,
                date: &row.date,
                id: &row.id,
                destination,
                digest: &digest,
                judgement: &row.judgement,
                body: &body,
                urgency: super::Urgency::from_code(row.urgency),
                repository: &row.repository,
                hold: None,
            };
            writer.enqueue(&entry, Essence::from_slice(&body).map_err(wrong)?)?;
        }
        writer.commit()?;
        Ok(waiting.len())
    }
}

/// An entry lifted out of its row by [`Writer::take_held_by_setting`].
struct Lifted {
    date: String,
    id: String,
    urgency: i64,
    judgement: String,
    repository: PathBuf,
    body: Vec<u8>,
}

/// Which dictionary a text is in.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Dictionary {
    Destination,
    Judgement,
    Source,
    Repository,
}

const UPSERT_REPOSITORY: &str = "INSERT INTO repositories (path, repository_id, seen_at) VALUES (?1, ?2, ?3)
     ON CONFLICT (path) DO UPDATE SET repository_id = excluded.repository_id, seen_at = excluded.seen_at";

/// One transaction, and what it has looked up already.
struct Writer<'a> {
    transaction: Transaction<'a>,
    now: Timestamp,
    interned: HashMap<(Dictionary, Vec<u8>), i64>,
    /// New rows of each repository.
    recorded: HashMap<i64, i64>,
}

impl<'a> Writer<'a> {
    fn new(transaction: Transaction<'a>, now: Timestamp) -> Self {
        Self { transaction, now, interned: HashMap::new(), recorded: HashMap::new() }
    }

    fn commit(self) -> Result<(), OutboxError> {
        for (repository, rows) in &self.recorded {
            self.transaction
                .prepare_cached("UPDATE repositories SET recorded = recorded + ?2 WHERE repository = ?1")?
                .execute([repository, rows])?;
        }
        Ok(self.transaction.commit()?)
    }

    fn enqueue(&mut self, entry: &NewEntry<'_>, essence: Essence) -> Result<Effect, OutboxError> {
        let destination = self.destination(entry.destination)?;
        match self.existing(entry, destination)? {
            None => self.insert(entry, &essence, destination),
            Some(existing) if existing.state == State::Discarded => Ok(Effect::Already),
            Some(existing) if essence.standing > existing.standing => self.replace(entry, essence, &existing),
            Some(existing) => self.merge(entry, &essence, existing),
        }
    }

    fn existing(&self, entry: &NewEntry<'_>, destination: i64) -> Result<Option<Existing>, OutboxError> {
        let mut statement = self.transaction.prepare_cached(
            "SELECT e.entry, e.state, e.urgency, j.standing, s.content, e.lists, e.body
             FROM entries e JOIN judgements j USING (judgement) JOIN sources s USING (source)
             WHERE e.id = ?1 AND e.tenant = ?2 AND e.destination = ?3",
        )?;
        let found = statement
            .query_row(params![entry.id, entry.tenant, destination], |row| {
                let lists: Option<String> = row.get(5)?;
                Ok(Existing {
                    entry: row.get(0)?,
                    state: State::from_text(&row.get::<_, String>(1)?),
                    urgency: row.get(2)?,
                    standing: from_json(3, &row.get::<_, String>(3)?)?,
                    links: Links::from_parts(&row.get::<_, String>(4)?, lists.as_deref())
                        .map_err(|error| not_json(5, error))?,
                    body: row.get(6)?,
                })
            })
            .optional()?;
        Ok(found)
    }

    fn insert(
        &mut self,
        entry: &NewEntry<'_>,
        essence: &Essence,
        destination: i64,
    ) -> Result<Effect, OutboxError> {
        let repository = self.repository(entry.repository, essence.links.repository_id())?;
        let judgement = self.judgement(entry.judgement, &essence.standing)?;
        let (source, lists) = essence.links.to_parts();
        let source = self.source(source)?;
        let (state, kind) = state_of(entry);
        self.transaction
            .prepare_cached(
                "INSERT INTO entries (tenant, date, id, destination, state, urgency, queued_at, kind, reason,
                     repository, judgement, source, lists, digest, body)
                 VALUES (:tenant, :date, :id, :destination, :state, :urgency, :now, :kind, :reason,
                     :repository, :judgement, :source, :lists, :digest, :body)",
            )?
            .execute(named_params! {
                ":tenant": entry.tenant, ":date": entry.date, ":id": entry.id, ":destination": destination,
                ":state": state.as_str(), ":urgency": entry.urgency.code(),
                ":now": self.now.as_millisecond(), ":kind": kind, ":reason": entry.hold,
                ":repository": repository, ":judgement": judgement, ":source": source, ":lists": lists,
                ":digest": entry.digest, ":body": entry.body,
            })?;
        *self.recorded.entry(repository).or_default() += 1;
        Ok(Effect::Added)
    }

    /// A later judgement takes the row over, with the links of the earlier one.
    fn replace(
        &mut self,
        entry: &NewEntry<'_>,
        essence: Essence,
        existing: &Existing,
    ) -> Result<Effect, OutboxError> {
        let mut links = essence.links;
        let body = with_links(entry, entry.body, links.absorb(&existing.links).then_some(&links))?;
        let judgement = self.judgement(entry.judgement, &essence.standing)?;
        let (source, lists) = links.to_parts();
        let source = self.source(source)?;
        let (state, kind) = state_of(entry);
        self.transaction
            .prepare_cached(
                "UPDATE entries SET state = :state, kind = :kind, reason = :reason, date = :date,
                     urgency = min(urgency, :urgency), revision = revision + 1, attempts = 0, not_before = 0,
                     queued_at = :now, settled_at = NULL, judgement = :judgement, source = :source,
                     lists = :lists, digest = :digest, body = :body
                 WHERE entry = :entry",
            )?
            .execute(named_params! {
                ":state": state.as_str(), ":kind": kind, ":reason": entry.hold, ":date": entry.date,
                ":urgency": entry.urgency.code(), ":now": self.now.as_millisecond(), ":judgement": judgement,
                ":source": source, ":lists": lists, ":digest": entry.digest, ":body": body,
                ":entry": existing.entry,
            })?;
        Ok(Effect::Replaced)
    }

    /// The row's judgement stays; links that it does not have yet are added.
    fn merge(
        &self,
        entry: &NewEntry<'_>,
        essence: &Essence,
        existing: Existing,
    ) -> Result<Effect, OutboxError> {
        let mut links = existing.links;
        let released = existing.state == State::Held && entry.hold.is_none();
        if !links.absorb(&essence.links) {
            let sooner = existing.state == State::Pending && entry.urgency.code() < existing.urgency;
            if released || sooner {
                self.transaction
                    .prepare_cached(
                        "UPDATE entries SET urgency = min(urgency, ?1), state = 'pending', kind = NULL,
                             reason = NULL WHERE entry = ?2",
                    )?
                    .execute(params![entry.urgency.code(), existing.entry])?;
            }
            return Ok(Effect::Already);
        }
        // A delivered row has no record any more. The new one carries the links to the store, where the
        // later of the two judgements stays; the row goes on to say which one that is.
        let delivered = existing.body.is_none();
        let base = existing.body.as_deref().unwrap_or(entry.body);
        let body = with_links(entry, base, Some(&links))?;
        let state = if delivered || released { State::Pending } else { existing.state };
        let (_, lists) = links.to_parts();
        self.transaction
            .prepare_cached(
                "UPDATE entries SET lists = :lists, body = :body, revision = revision + 1, state = :state,
                     urgency = CASE WHEN :delivered THEN :urgency ELSE min(urgency, :urgency) END,
                     queued_at = CASE WHEN :delivered THEN :now ELSE queued_at END, settled_at = NULL
                 WHERE entry = :entry",
            )?
            .execute(named_params! {
                ":lists": lists, ":body": body, ":state": state.as_str(), ":delivered": delivered,
                ":urgency": entry.urgency.code(), ":now": self.now.as_millisecond(), ":entry": existing.entry,
            })?;
        Ok(Effect::Merged)
    }

    fn take_held_by_setting(&mut self, destination: &Destination) -> Result<Vec<Lifted>, OutboxError> {
        let destination = self.destination(destination)?;
        let lifted = self
            .transaction
            .prepare(
                "SELECT e.date, e.id, e.urgency, j.name, r.path, e.body FROM entries e
                 JOIN judgements j USING (judgement) JOIN repositories r USING (repository)
                 WHERE e.destination = ?1 AND e.state = 'held' AND e.kind = ?2 ORDER BY e.entry",
            )?
            .query_map(params![destination, HELD_BY_SETTING], |row| {
                Ok(Lifted {
                    date: row.get(0)?,
                    id: row.get(1)?,
                    urgency: row.get(2)?,
                    judgement: row.get(3)?,
                    repository: path_of(&row.get::<_, Vec<u8>>(4)?),
                    body: row.get(5)?,
                })
            })?
            .collect::<Result<Vec<_>, _>>()?;
        // The new rows count again.
        self.transaction.execute(
            "UPDATE repositories SET recorded = recorded - (
                 SELECT count(*) FROM entries e WHERE e.repository = repositories.repository
                 AND e.destination = ?1 AND e.state = 'held' AND e.kind = ?2)",
            params![destination, HELD_BY_SETTING],
        )?;
        self.transaction.execute(
            "DELETE FROM entries WHERE destination = ?1 AND state = 'held' AND kind = ?2",
            params![destination, HELD_BY_SETTING],
        )?;
        measured::removed(&self.transaction)?;
        Ok(lifted)
    }

    fn destination(&mut self, destination: &Destination) -> Result<i64, OutboxError> {
        let name = name_of(destination);
        self.intern(Dictionary::Destination, name.clone().into_bytes(), |transaction| {
            transaction
                .prepare_cached("INSERT INTO destinations (name) VALUES (?1) ON CONFLICT DO NOTHING")?
                .execute([&name])?;
            transaction
                .prepare_cached("SELECT destination FROM destinations WHERE name = ?1")?
                .query_row([&name], |row| row.get(0))
        })
    }

    fn judgement(&mut self, name: &str, standing: &Standing) -> Result<i64, OutboxError> {
        let standing = serde_json::json!(standing).to_string();
        self.intern(Dictionary::Judgement, format!("{name}\0{standing}").into_bytes(), |transaction| {
            transaction
                .prepare_cached(
                    "INSERT INTO judgements (name, standing) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                )?
                .execute([name, &standing])?;
            transaction
                .prepare_cached("SELECT judgement FROM judgements WHERE name = ?1 AND standing = ?2")?
                .query_row([name, &standing], |row| row.get(0))
        })
    }

    fn source(&mut self, content: String) -> Result<i64, OutboxError> {
        self.intern(Dictionary::Source, content.clone().into_bytes(), |transaction| {
            transaction
                .prepare_cached("INSERT INTO sources (content) VALUES (?1) ON CONFLICT DO NOTHING")?
                .execute([&content])?;
            transaction
                .prepare_cached("SELECT source FROM sources WHERE content = ?1")?
                .query_row([&content], |row| row.get(0))
        })
    }

    fn repository(&mut self, path: &Path, repository_id: &str) -> Result<i64, OutboxError> {
        let bytes = path.as_os_str().as_bytes();
        let now = self.now.as_millisecond();
        self.intern(Dictionary::Repository, bytes.to_vec(), |transaction| {
            transaction.prepare_cached(UPSERT_REPOSITORY)?.execute(params![bytes, repository_id, now])?;
            transaction
                .prepare_cached("SELECT repository FROM repositories WHERE path = ?1")?
                .query_row([bytes], |row| row.get(0))
        })
    }

    fn intern(
        &mut self,
        dictionary: Dictionary,
        text: Vec<u8>,
        look_up: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<i64>,
    ) -> Result<i64, OutboxError> {
        if let Some(&number) = self.interned.get(&(dictionary, text.clone())) {
            return Ok(number);
        }
        let number = look_up(&self.transaction)?;
        self.interned.insert((dictionary, text), number);
        Ok(number)
    }
}

fn state_of(entry: &NewEntry<'_>) -> (State, Option<&'static str>) {
    match entry.hold {
        Some(_) => (State::Held, Some(HELD_BY_SETTING)),
        None => (State::Pending, None),
    }
}

/// `body`, with the links written into it where there are any to write.
fn with_links(entry: &NewEntry<'_>, body: &[u8], links: Option<&Links>) -> Result<Vec<u8>, OutboxError> {
    let Some(links) = links else { return Ok(body.to_vec()) };
    let wrong = |source| OutboxError::NotARecord { id: entry.id.to_owned(), source };
    let mut record: serde_json::Map<String, Value> = serde_json::from_slice(body).map_err(wrong)?;
    links.write_into(&mut record);
    serde_json::to_vec(&record).map_err(wrong)
}

/// The name under which a destination is kept.
pub(super) fn name_of(destination: &Destination) -> String {
    serde_json::json!(destination).to_string()
}

pub(super) fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// A JSON column whose text is not what this module wrote.
pub(super) fn not_json(column: usize, error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(column: usize, text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| not_json(column, error))
}
