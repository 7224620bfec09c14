//! What can still be read of a damaged outbox goes into the new one.
//!
//! Works on a copy: SQLite writes into what it opens, and the bytes that were set aside stay as they are.
//! A table is read from its first row on; where a page does not read, the rest of the range is halved, and each
//! half tried, until the rows around the damage are found. A first page that is none any more (it has the
//! schema, without which nothing reads) is replaced by that of a new outbox, whose tables lie on the same pages.
//!
//! Every row is checked as if somebody else had written it: a record must be one, a destination must be one.
//! A row whose judgement, source or repository cannot be read keeps its record and gets what the record
//! itself says. Gates are not taken over: the next probe finds out.
//!
//! Limits: at most [`MOST_FAILURES`] reads that fail for each table, which finds the rows around some thousand
//! bad pages; then the rest of the table is given up.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use rusqlite::{Connection, OpenFlags, Row, TransactionBehavior, named_params, params};
use serde_json::json;

use super::{OutboxError, PATIENCE, SCHEMA};
use crate::destination::Destination;
use crate::durable;
use crate::judgement::{Essence, Standing};
use crate::sqlite::{self, Opening};

const MOST_FAILURES: usize = 10_000;
/// No outbox has had more rows than this.
const LAST_ROW: i64 = 1 << 40;
/// The folder of the copy.
const WORKSHOP: &str = "outbox.salvage";

/// A row of `entries` as it was read, its dictionaries still numbers.
struct Salvaged {
    tenant: String,
    date: String,
    id: String,
    destination: i64,
    state: String,
    urgency: i64,
    attempts: i64,
    queued_at: i64,
    settled_at: Option<i64>,
    kind: Option<String>,
    reason: Option<String>,
    settled_by: Option<String>,
    repository: i64,
    judgement: i64,
    source: i64,
    lists: Option<String>,
    digest: String,
    body: Option<Vec<u8>>,
}

/// The small tables that rows point into.
struct Dictionaries {
    destinations: HashMap<i64, String>,
    judgements: HashMap<i64, (String, String)>,
    sources: HashMap<i64, String>,
    repositories: HashMap<i64, (Vec<u8>, String)>,
}

/// Copies what reads of `set_aside` into the outbox in `dir`, which is open as `new`. Rows that it has already
/// stay. Returns how many were added.
pub(super) fn into(new: &mut Connection, dir: &Path, set_aside: &Path) -> Result<usize, OutboxError> {
    let at = |source| OutboxError::io(dir, source);
    let workshop = dir.join(WORKSHOP);
    remove(&workshop).map_err(at)?;
    let workshop = durable::own_folder(&workshop).map_err(at)?;
    let copy = workshop.join("copy.db");
    fs::copy(set_aside, &copy).map_err(at)?;
    let mut log = set_aside.as_os_str().to_owned();
    log.push("-wal");
    if Path::new(&log).exists() {
        fs::copy(&log, workshop.join("copy.db-wal")).map_err(at)?;
    }
    if tables(&copy).is_err() {
        // Closing the only connection moves everything from its log into the file.
        let opening = Opening { busy_timeout: PATIENCE, checkpoints: true };
        drop(
            sqlite::open(&workshop, "sound.db", opening, SCHEMA)
                .map_err(|error| OutboxError::opening(dir, error))?,
        );
        mend_first_page(&copy, &workshop.join("sound.db")).map_err(at)?;
    }
    let added = match tables(&copy) {
        Ok(old) => transfer(&old, new)?,
        Err(_) => 0,
    };
    remove(&workshop).map_err(at)?;
    Ok(added)
}

fn remove(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The copy, opened, where its schema reads.
fn tables(copy: &Path) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let old = Connection::open_with_flags(copy, flags)?;
    old.prepare("SELECT entry FROM entries")?;
    Ok(old)
}

/// Puts the first page of a sound outbox in the place of the copy's.
fn mend_first_page(copy: &Path, sound: &Path) -> std::io::Result<()> {
    let mut page = vec![0_u8; 4096];
    fs::File::open(sound)?.read_exact(&mut page)?;
    let mut file = fs::OpenOptions::new().read(true).write(true).open(copy)?;
    let length = file.metadata()?.len();
    // File format, 1.3: the size in pages, and no free pages, which would name pages of the other file.
    let pages = u32::try_from(length / 4096).unwrap_or(u32::MAX);
    page[28..32].copy_from_slice(&pages.to_be_bytes());
    page[32..40].fill(0);
    file.rewind()?;
    file.write_all(&page)
}

fn transfer(old: &Connection, new: &mut Connection) -> Result<usize, OutboxError> {
    let dictionaries = Dictionaries {
        destinations: dictionary(old, "destinations", "destination, name", |row| row.get(1))?,
        judgements: dictionary(old, "judgements", "judgement, name, standing", |row| {
            Ok((row.get(1)?, row.get(2)?))
        })?,
        sources: dictionary(old, "sources", "source, content", |row| row.get(1))?,
        repositories: dictionary(old, "repositories", "repository, path, repository_id", |row| {
            Ok((row.get(1)?, row.get(2)?))
        })?,
    };
    let transaction = new.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut added = 0;
    let columns =
        "entry, tenant, date, id, destination, state, urgency, attempts, queued_at, settled_at, kind,
        reason, settled_by, repository, judgement, source, lists, digest, body";
    scan(old, "entries", columns, salvaged, |_, row| {
        added += insert(&transaction, &dictionaries, &row)?;
        Ok(())
    })?;
    transaction.commit()?;
    Ok(added)
}

fn dictionary<T>(
    old: &Connection,
    table: &str,
    columns: &str,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<HashMap<i64, T>, OutboxError> {
    let mut found = HashMap::new();
    scan(old, table, columns, read, |number, value| {
        found.insert(number, value);
        Ok(())
    })?;
    Ok(found)
}

/// Hands every row that reads to `take`, with its number, the first of `columns`.
fn scan<T>(
    old: &Connection,
    table: &str,
    columns: &str,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    mut take: impl FnMut(i64, T) -> Result<(), OutboxError>,
) -> Result<(), OutboxError> {
    let number = columns.split(',').next().unwrap_or_default();
    let sql = format!(
        "SELECT {columns} FROM {table} NOT INDEXED WHERE {number} BETWEEN ?1 AND ?2 ORDER BY {number}"
    );
    let Ok(mut statement) = old.prepare(&sql) else { return Ok(()) };
    // Breadth first, so that a budget spent on one bad region leaves the others read in the large.
    let mut ranges = VecDeque::from([(1, LAST_ROW)]);
    let mut failures = 0;
    while let Some((from, to)) = ranges.pop_front() {
        let mut next = from;
        let mut rows = match statement.query(params![from, to]) {
            Ok(rows) => rows,
            Err(_) => continue,
        };
        let whole = loop {
            match rows.next() {
                Ok(None) => break true,
                Err(_) => break false,
                Ok(Some(row)) => {
                    let Ok(number) = row.get::<_, i64>(0) else { break false };
                    // What the damage made of this row does not fit the columns: only this row is lost.
                    if let Ok(value) = read(row) {
                        take(number, value)?;
                    }
                    next = number + 1;
                }
            }
        };
        drop(rows);
        if !whole && next < to {
            failures += 1;
            if failures > MOST_FAILURES {
                break;
            }
            let middle = next + (to - next) / 2;
            ranges.push_back((next, middle));
            ranges.push_back((middle + 1, to));
        }
    }
    Ok(())
}

fn salvaged(row: &Row<'_>) -> rusqlite::Result<Salvaged> {
    Ok(Salvaged {
        tenant: row.get(1)?,
        date: row.get(2)?,
        id: row.get(3)?,
        destination: row.get(4)?,
        state: row.get(5)?,
        urgency: row.get(6)?,
        attempts: row.get(7)?,
        queued_at: row.get(8)?,
        settled_at: row.get(9)?,
        kind: row.get(10)?,
        reason: row.get(11)?,
        settled_by: row.get(12)?,
        repository: row.get(13)?,
        judgement: row.get(14)?,
        source: row.get(15)?,
        lists: row.get(16)?,
        digest: row.get(17)?,
        body: row.get(18)?,
    })
}

/// Adds one row, unless it makes no sense or is there already; how many were added.
fn insert(new: &Connection, from: &Dictionaries, row: &Salvaged) -> Result<usize, OutboxError> {
    let commit = matches!(row.id.len(), 40 | 64) && row.id.bytes().all(|byte| byte.is_ascii_hexdigit());
    // Where it was to go cannot be guessed.
    let destination = from
        .destinations
        .get(&row.destination)
        .filter(|name| serde_json::from_str::<Destination>(name).is_ok());
    let essence = row.body.as_deref().map(Essence::from_slice);
    let (Some(destination), true, None | Some(Ok(_))) = (destination, commit, &essence) else { return Ok(0) };
    let essence = essence.and_then(Result::ok);
    let (own_source, own_standing) = match &essence {
        Some(essence) => (essence.links.to_parts().0, json!(essence.standing).to_string()),
        None => ("null".to_owned(), json!({"complete": false, "agentVersion": "", "packs": {}}).to_string()),
    };
    let source = from.sources.get(&row.source).unwrap_or(&own_source);
    let known = from.judgements.get(&row.judgement);
    let (judgement, standing) = known
        .filter(|(_, standing)| serde_json::from_str::<Standing>(standing).is_ok())
        .map_or(("", own_standing.as_str()), |(name, standing)| (name, standing));
    let nowhere = (Vec::new(), String::new());
    let (path, repository_id) = from.repositories.get(&row.repository).unwrap_or(&nowhere);
    new.prepare_cached("INSERT OR IGNORE INTO destinations (name) VALUES (?1)")?.execute([destination])?;
    new.prepare_cached("INSERT OR IGNORE INTO sources (content) VALUES (?1)")?.execute([source])?;
    new.prepare_cached("INSERT OR IGNORE INTO judgements (name, standing) VALUES (?1, ?2)")?
        .execute([judgement, standing])?;
    new.prepare_cached(
        "INSERT OR IGNORE INTO repositories (path, repository_id, seen_at) VALUES (?1, ?2, ?3)",
    )?
    .execute(params![path, repository_id, row.queued_at])?;
    let inserted = new
        .prepare_cached(
            "INSERT OR IGNORE INTO entries (tenant, date, id, destination, state, urgency, attempts, queued_at,
                 settled_at, kind, reason, settled_by, repository, judgement, source, lists, digest, body)
             VALUES (:tenant, :date, :id, (SELECT destination FROM destinations WHERE name = :destination),
                 :state, :urgency, :attempts, :queued_at, :settled_at, :kind, :reason, :settled_by,
                 (SELECT repository FROM repositories WHERE path = :path),
                 (SELECT judgement FROM judgements WHERE name = :judgement AND standing = :standing),
                 (SELECT source FROM sources WHERE content = :source), :lists, :digest, :body)",
        )?
        .execute(named_params! {
            ":tenant": row.tenant, ":date": row.date, ":id": row.id, ":destination": destination,
            ":state": row.state, ":urgency": row.urgency, ":attempts": row.attempts,
            ":queued_at": row.queued_at, ":settled_at": row.settled_at, ":kind": row.kind,
            ":reason": row.reason, ":settled_by": row.settled_by, ":path": path, ":judgement": judgement,
            ":standing": standing, ":source": source, ":lists": row.lists, ":digest": row.digest,
            ":body": row.body,
        })?;
    if inserted == 1 {
        new.prepare_cached("UPDATE repositories SET recorded = recorded + 1 WHERE path = ?1")?
            .execute([path])?;
    }
    Ok(inserted)
}
