//! The embedded store: a SQLite file in the agent's data folder, the default without an account.
//!
//! It answers as Cosmos DB does: a create of an existing key is 409, a replace with an old etag 412, a
//! query is ordered. What queries ask for is taken out of the document into columns when it is written; the
//! document itself is kept as it came. The time to live is kept and not carried out.
//!
//! Calls block for as long as SQLite does, well under a millisecond but for syncs: [`Store::create_many`]
//! writes 256 documents with one sync. Several processes may use the file at once.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, TransactionBehavior, params_from_iter};
use rusqlite::{params, types::Value as Bound};
use serde_json::Value;

use super::{
    Changes, Charged, CheckItem, Cost, DIFFERING_COPIES, ErrorClass, FOREIGN_CURSOR, Key, Page, Query, Sink,
    Store, StoreError, Stored, StoredKey,
};
use crate::sqlite::{self, Opening};

/// The name of the store in the agent's data folder.
pub const FILE_NAME: &str = "store.db";

/// Documents written with one sync.
const BATCH: usize = 256;

/// Changes in one page.
const PAGE: usize = 256;

const SCHEMA: &[&str] = &["
    CREATE TABLE documents (
        document   INTEGER PRIMARY KEY,
        tenant     TEXT NOT NULL,
        date       TEXT NOT NULL,             -- YYYY-MM-DD
        id         TEXT NOT NULL,             -- commit
        version    INTEGER NOT NULL,          -- the etag: counts replacements
        timestamp  TEXT NOT NULL,             -- from here to ttl: copies out of the body, to query by
        risk       REAL NOT NULL,
        digest     TEXT NOT NULL,
        compliance TEXT NOT NULL,             -- JSON array
        ttl        INTEGER,                   -- seconds; kept, not carried out
        body       TEXT NOT NULL              -- the document, JSON
    ) STRICT;
    CREATE UNIQUE INDEX documents_key ON documents (tenant, date, id);
    CREATE INDEX documents_newest ON documents (tenant, date DESC, timestamp DESC, id);
    CREATE INDEX documents_commit ON documents (tenant, id);
    CREATE INDEX documents_risk ON documents (tenant, risk);
",
"
    -- Counts a tenant's writes: the order in which `changes` gives documents. One writes at a time, so a number is seen
    -- before any higher one is given.
    ALTER TABLE documents ADD COLUMN change INTEGER NOT NULL DEFAULT 0;
    UPDATE documents SET change = document;
    CREATE UNIQUE INDEX documents_change ON documents (tenant, change);
    -- Tells this file from one that took its place, where the numbers mean something else.
    CREATE TABLE identity (store TEXT NOT NULL) STRICT;
    INSERT INTO identity VALUES (lower(hex(randomblob(8))));
"];

/// The store in one folder.
pub struct LocalStore {
    connection: Mutex<Connection>,
}

impl LocalStore {
    /// Opens the store in `dir`, creating both where they are missing.
    ///
    /// # Errors
    /// When folder or file cannot be used.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let opening = Opening { busy_timeout: Duration::from_secs(5), checkpoints: true };
        let connection = sqlite::open(dir, FILE_NAME, opening, SCHEMA).map_err(|failure| {
            let path = dir.join(FILE_NAME);
            match failure {
                sqlite::OpenError::Sqlite(source) => failed(&source),
                other => {
                    let mut error = StoreError::new(
                        ErrorClass::Held,
                        "local-store",
                        format!("{}: {other}", path.display()),
                    );
                    error.hint =
                        Some("check that the folder exists, is yours and is on a local disk".to_owned());
                    error
                }
            }
        })?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    /// A panic elsewhere cannot leave a transaction open: it is rolled back on unwinding.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The class of SQLite's answer: what passes by itself is tried again, what needs a person is held.
fn failed(source: &rusqlite::Error) -> StoreError {
    let (class, kind, hint) = match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => (
            ErrorClass::Held,
            "local-store-damaged",
            Some("move store.db away and run `gitops-agent backfill --missing`"),
        ),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            (ErrorClass::Held, "local-store-denied", Some("make the agent's data folder writable"))
        }
        Some(ErrorCode::DiskFull) => (ErrorClass::Again, "local-store-full", Some("make room on the disk")),
        _ => (ErrorClass::Again, "local-store", None),
    };
    let mut error = StoreError::new(class, kind, format!("local store: {source}"));
    error.hint = hint.map(str::to_owned);
    error
}

fn exists(key: &Key) -> StoreError {
    StoreError {
        status: Some(409),
        ..StoreError::new(ErrorClass::Exists, "exists", format!("a document for {} exists", key.id))
    }
}

fn charged<T>(start: Instant, value: T) -> Charged<T> {
    Charged { value, cost: Cost { request_units: 0.0, latency: start.elapsed() } }
}

fn text<'a>(document: &'a Value, name: &str) -> &'a str {
    document.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The columns that are copies out of the document, in the order of the statements below.
fn columns(key: &Key, document: &Value) -> [Bound; 9] {
    let compliance = document.get("compliance").filter(|value| value.is_array());
    [
        Bound::Text(key.tenant.clone()),
        Bound::Text(key.date.clone()),
        Bound::Text(key.id.clone()),
        Bound::Text(text(document, "timestamp").to_owned()),
        Bound::Real(document.get("riskScore").and_then(Value::as_f64).unwrap_or_default()),
        Bound::Text(text(document, "digest").to_owned()),
        Bound::Text(compliance.map_or_else(|| "[]".to_owned(), Value::to_string)),
        document.get("ttl").and_then(Value::as_i64).map_or(Bound::Null, Bound::Integer),
        Bound::Text(document.to_string()),
    ]
}

/// Whether it was inserted; false where the key exists.
fn insert(connection: &Connection, key: &Key, document: &Value) -> rusqlite::Result<bool> {
    let inserted = connection
        .prepare_cached(
            "INSERT INTO documents (tenant, date, id, version, timestamp, risk, digest, compliance, ttl, body, change)
             VALUES (?1, ?2, ?3, 1, ?4, ?5, ?6, ?7, ?8, ?9,
                 (SELECT coalesce(max(change), 0) + 1 FROM documents WHERE tenant = ?1))
             ON CONFLICT (tenant, date, id) DO NOTHING",
        )?
        .execute(params_from_iter(columns(key, document)))?;
    Ok(inserted == 1)
}

fn parse(body: &str) -> Result<Value, StoreError> {
    serde_json::from_str(body).map_err(|source| {
        StoreError::new(
            ErrorClass::Held,
            "local-store-damaged",
            format!("local store: a document is no JSON: {source}"),
        )
    })
}

/// The document of a row of [`statement_of`]. A damaged one must not hide the others; one whose columns say
/// something else than it does, so that queries miss it, is marked ([`DIFFERING_COPIES`]).
fn document_of(row: &Row<'_>) -> rusqlite::Result<Value> {
    let (body, id): (String, String) = (row.get(0)?, row.get(1)?);
    let Ok(mut document) = parse(&body) else {
        return Ok(serde_json::json!({ "id": id, "damaged": true }));
    };
    let own = |name| text(&document, name).to_owned();
    let key = Key { id: own("id"), tenant: own("tenantId"), date: own("commitDate") };
    let [tenant, date, id, copies @ .., _] = columns(&key, &document);
    let mut same = true;
    for (column, copy) in [id, tenant, date].into_iter().chain(copies).enumerate() {
        same &= row.get::<_, Bound>(column + 1)? == copy;
    }
    if !same && let Some(fields) = document.as_object_mut() {
        fields.insert(DIFFERING_COPIES.to_owned(), Value::Bool(true));
    }
    Ok(document)
}

/// The statement of a query and what is bound to it.
fn statement_of(query: &Query) -> Result<(String, Vec<Bound>), StoreError> {
    let mut sql = String::from(
        "SELECT body, id, tenant, date, timestamp, risk, digest, compliance, ttl FROM documents WHERE tenant = ?",
    );
    let mut bound = vec![Bound::Text(query.tenant.clone())];
    let mut add = |condition: &str, value: Bound| {
        sql.push_str(" AND ");
        sql.push_str(condition);
        bound.push(value);
    };
    if let Some(since) = &query.since {
        add("date >= ?", Bound::Text(since.clone()));
    }
    if let Some(until) = &query.until {
        add("date <= ?", Bound::Text(until.clone()));
    }
    if let Some(risk) = query.min_risk {
        add("risk >= ?", Bound::Real(risk));
    }
    for tag in &query.tags {
        add("EXISTS (SELECT 1 FROM json_each(compliance) WHERE value = ?)", Bound::Text(tag.clone()));
    }
    if let Some(commit) = &query.commit {
        let prefix = commit.to_ascii_lowercase();
        if prefix.len() < 4 || !prefix.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let message = format!("{commit:?} is no commit id: at least four hex digits are needed");
            return Err(StoreError::new(ErrorClass::Refused, "bad-query", message));
        }
        // `g` follows every hex digit, so this is where the ids that begin so end.
        add("id < ?", Bound::Text(format!("{prefix}g")));
        add("id >= ?", Bound::Text(prefix));
    }
    sql.push_str(" ORDER BY date DESC, timestamp DESC, id");
    Ok((sql, bound))
}

/// See [`Store::changes`].
struct LocalChanges<'a> {
    store: &'a LocalStore,
    identity: String,
    tenant: String,
    /// The last change that was given.
    after: i64,
}

fn foreign_cursor() -> StoreError {
    let message = "the cursor is not one of this local store";
    StoreError::new(ErrorClass::Refused, FOREIGN_CURSOR, message)
}

#[async_trait]
impl Changes for LocalChanges<'_> {
    async fn next(&mut self) -> Result<Charged<Page>, StoreError> {
        let start = Instant::now();
        let rows = self
            .store
            .lock()
            .prepare_cached(
                "SELECT body, id, tenant, date, timestamp, risk, digest, compliance, ttl, change FROM documents
                 WHERE tenant = ?1 AND change > ?2 ORDER BY change LIMIT ?3",
            )
            .and_then(|mut statement| {
                let rows = statement.query_map(params![self.tenant, self.after, PAGE as i64], |row| {
                    Ok((document_of(row)?, row.get::<_, i64>(9)?))
                })?;
                rows.collect::<rusqlite::Result<Vec<(Value, i64)>>>()
            })
            .map_err(|error| failed(&error))?;
        self.after = rows.last().map_or(self.after, |(_, change)| *change);
        let caught_up = rows.len() < PAGE;
        let documents = rows.into_iter().map(|(document, _)| document).collect();
        let cursor = format!("{}/{}", self.identity, self.after);
        Ok(charged(start, Page { documents, cursor, caught_up }))
    }
}

#[async_trait]
impl Store for LocalStore {
    async fn create(&self, key: &Key, document: &Value) -> Result<Charged<()>, StoreError> {
        let start = Instant::now();
        match insert(&self.lock(), key, document) {
            Ok(true) => Ok(charged(start, ())),
            Ok(false) => Err(exists(key)),
            Err(error) => Err(failed(&error)),
        }
    }

    async fn create_many(&self, documents: &[(Key, Value)]) -> Vec<Result<Charged<()>, StoreError>> {
        let start = Instant::now();
        let mut connection = self.lock();
        let mut write = || -> rusqlite::Result<Vec<bool>> {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let inserted = documents
                .iter()
                .map(|(key, document)| insert(&transaction, key, document))
                .collect::<rusqlite::Result<Vec<bool>>>()?;
            transaction.commit()?;
            Ok(inserted)
        };
        let result = write();
        // One operation: each document bears its share of the time.
        let latency = start.elapsed() / u32::try_from(documents.len().max(1)).unwrap_or(u32::MAX);
        let share = Cost { request_units: 0.0, latency };
        let answer = |(key, inserted): (&Key, bool)| {
            if inserted { Ok(Charged { value: (), cost: share }) } else { Err(exists(key)) }
        };
        match result {
            Ok(inserted) => documents.iter().map(|(key, _)| key).zip(inserted).map(answer).collect(),
            Err(error) => documents.iter().map(|_| Err(failed(&error))).collect(),
        }
    }

    fn batch_size(&self) -> usize {
        BATCH
    }

    async fn read(&self, key: &Key) -> Result<Charged<Option<Stored>>, StoreError> {
        let start = Instant::now();
        let found = self
            .lock()
            .prepare_cached("SELECT body, version FROM documents WHERE tenant = ?1 AND date = ?2 AND id = ?3")
            .and_then(|mut statement| {
                statement
                    .query_row(params![key.tenant, key.date, key.id], |row| {
                        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
                    })
                    .optional()
            })
            .map_err(|error| failed(&error))?;
        let stored = match found {
            Some((body, version)) => Some(Stored { document: parse(&body)?, etag: version.to_string() }),
            None => None,
        };
        Ok(charged(start, stored))
    }

    async fn replace(&self, key: &Key, document: &Value, etag: &str) -> Result<Charged<()>, StoreError> {
        let start = Instant::now();
        let replaced = self
            .lock()
            .prepare_cached(
                "UPDATE documents SET version = version + 1, timestamp = ?4, risk = ?5, digest = ?6,
                     compliance = ?7, ttl = ?8, body = ?9,
                     change = (SELECT max(change) + 1 FROM documents WHERE tenant = ?1)
                 WHERE tenant = ?1 AND date = ?2 AND id = ?3 AND CAST(version AS TEXT) = ?10",
            )
            .and_then(|mut statement| {
                let etag = Bound::Text(etag.to_owned());
                statement.execute(params_from_iter(columns(key, document).into_iter().chain([etag])))
            })
            .map_err(|error| failed(&error))?;
        if replaced == 1 {
            return Ok(charged(start, ()));
        }
        Err(StoreError {
            status: Some(412),
            ..StoreError::new(
                ErrorClass::Changed,
                "changed",
                format!("the document for {} has changed", key.id),
            )
        })
    }

    async fn query(&self, query: &Query, sink: Sink<'_>) -> Result<Charged<()>, StoreError> {
        let start = Instant::now();
        let (sql, bound) = statement_of(query)?;
        let connection = self.lock();
        let mut statement = connection.prepare(&sql).map_err(|error| failed(&error))?;
        let mut rows = statement.query(params_from_iter(bound)).map_err(|error| failed(&error))?;
        // Rows come one by one in the order of an index, so what is not asked for is not read.
        let mut left = query.limit.unwrap_or(usize::MAX);
        while left > 0
            && let Some(row) = rows.next().map_err(|error| failed(&error))?
        {
            let document = document_of(row).map_err(|error| failed(&error))?;
            if query.admits(&document) {
                left -= 1;
                if !sink(document) {
                    break;
                }
            }
        }
        Ok(charged(start, ()))
    }

    async fn keys(
        &self,
        tenant: &str,
        since: Option<&str>,
        until: Option<&str>,
    ) -> Result<Charged<Vec<StoredKey>>, StoreError> {
        let start = Instant::now();
        let keys = self
            .lock()
            .prepare_cached(
                "SELECT date, id, digest FROM documents WHERE tenant = ?1
                     AND (?2 IS NULL OR date >= ?2) AND (?3 IS NULL OR date <= ?3) ORDER BY date, id",
            )
            .and_then(|mut statement| {
                statement
                    .query_map(params![tenant, since, until], |row| {
                        Ok(StoredKey { date: row.get(0)?, id: row.get(1)?, digest: row.get(2)? })
                    })?
                    .collect::<rusqlite::Result<Vec<_>>>()
            })
            .map_err(|error| failed(&error))?;
        Ok(charged(start, keys))
    }

    async fn changes(&self, tenant: &str, after: Option<&str>) -> Result<Box<dyn Changes + '_>, StoreError> {
        let identity = self
            .lock()
            .query_row("SELECT store FROM identity", [], |row| row.get::<_, String>(0))
            .map_err(|error| failed(&error))?;
        let after = match after {
            None => 0,
            Some(cursor) => match cursor.split_once('/') {
                Some((store, number)) if store == identity => number.parse().map_err(|_| foreign_cursor())?,
                _ => return Err(foreign_cursor()),
            },
        };
        Ok(Box::new(LocalChanges { store: self, identity, tenant: tenant.to_owned(), after }))
    }

    async fn init(&self) -> Result<Vec<CheckItem>, StoreError> {
        // Opening has created everything.
        Ok(self.check().await)
    }

    async fn check(&self) -> Vec<CheckItem> {
        let connection = self.lock();
        let sound = connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))
            .unwrap_or_else(|error| error.to_string());
        let mut items = vec![CheckItem {
            name: "database",
            ok: sound == "ok",
            detail: format!("{}: {sound}", connection.path().unwrap_or(FILE_NAME)),
            hint: (sound != "ok")
                .then(|| "move store.db away and run `gitops-agent backfill --missing`".to_owned()),
        }];
        if sound == "ok" {
            // Takes the write lock and gives it back: nothing is written.
            let writable = connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK");
            items.push(CheckItem {
                name: "write",
                ok: writable.is_ok(),
                detail: writable.map_or_else(|error| error.to_string(), |()| "can be written".to_owned()),
                hint: None,
            });
        }
        items
    }
}
