//! Records on their way from one store to another, as NDJSON: one record a line, in the canonical form, so that the
//! same records are the same bytes whichever store they come from.
//!
//! What comes in is somebody's file. [`Gate::record`] lets through what an agent of this version could have written,
//! and nothing else: the fields of the record with their types and no further ones, a key that follows from the
//! content, a digest that fits, text without what this agent takes out of text, one tenant. What it does not let through
//! is not changed: it stays in the file, and its line is named.
//!
//! Limits: a line of [`MAX_LINE`] bytes is read whole; what is longer is passed over in pieces. A record is at most
//! [`MAX_BYTES`], what was merged into it later (`supersedes`, `alsoIn`) aside.
//!
//! Not checkable: the digest of a record whose trailers lost their people to `privacy.author = "hash"` covers the message
//! before that. And the digest has no key: it tells damage, not malice.

use std::io::{self, BufRead};

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::Value;

use sha2::{Digest as _, Sha256};

use crate::hex::hex;
use crate::record::{
    FileChange, Identity, MAX_BYTES, Record, Repository, SCHEMA_VERSION, canonical, digest, redact,
};
use crate::store::{DIFFERING_COPIES, Key};

/// The longest line that is read, bytes: a record, what is merged into it, and escapes of its control characters.
pub const MAX_LINE: usize = 1024 * 1024;

/// A line and its number, from 1.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// Which.
    pub number: u64,
    /// Its bytes without the line's end; `None` where it is longer than [`MAX_LINE`].
    pub bytes: Option<Vec<u8>>,
}

/// The lines of an input that are not blank.
pub struct Lines<R> {
    input: R,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// Begins with line 1.
    pub fn new(input: R) -> Self {
        Self { input, number: 0 }
    }

    /// The bytes up to the next line's end, which is taken too; `None` at the end of the input.
    fn bytes(&mut self) -> io::Result<Option<Option<Vec<u8>>>> {
        let (mut line, mut long, mut any) = (Vec::new(), false, false);
        loop {
            let available = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            let end = memchr::memchr(b'\n', available);
            let piece = &available[..end.unwrap_or(available.len())];
            let over = available.is_empty();
            any |= !over;
            long |= line.len() + piece.len() > MAX_LINE;
            if long {
                line = Vec::new();
            } else {
                line.extend_from_slice(piece);
            }
            let taken = piece.len() + usize::from(end.is_some());
            self.input.consume(taken);
            if over || end.is_some() {
                return Ok(any.then(|| (!long).then_some(line)));
            }
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let bytes = match self.bytes() {
                Ok(bytes) => bytes?,
                Err(error) => return Some(Err(error)),
            };
            self.number += 1;
            if bytes.as_ref().is_none_or(|line| !line.iter().all(u8::is_ascii_whitespace)) {
                return Some(Ok(Line { number: self.number, bytes }));
            }
        }
    }
}

/// Why a line is not let through.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// Longer than [`MAX_LINE`].
    #[error("the line is longer than {} KiB", MAX_LINE / 1024)]
    LongLine,
    /// Not JSON, cut off for example.
    #[error("this is no whole JSON object: {0}")]
    Json(serde_json::Error),
    /// Another shape.
    #[error("its schema version is {0}, and this agent knows {SCHEMA_VERSION}: a newer one may be needed")]
    Schema(String),
    /// A field is missing or of another type.
    #[error("this is no record: {0}")]
    Shape(serde_json::Error),
    /// More than a record has.
    #[error("{0:?} holds something that no record of schema version {SCHEMA_VERSION} holds")]
    Unknown(String),
    /// Larger than [`MAX_BYTES`].
    #[error("the record has {0} bytes, more than {MAX_BYTES}")]
    Large(usize),
    /// Another tenant's.
    #[error(
        "the record is of tenant {found:?}, not of {wanted:?}; --from-tenant takes a file of another tenant over"
    )]
    Tenant {
        /// Whose it is.
        found: String,
        /// Whose are taken.
        wanted: String,
    },
    /// Id, date and time do not fit each other.
    #[error("{0} is not what it must be")]
    Key(&'static str),
    /// The time to live is none.
    #[error("{0} s is no time to live")]
    Ttl(i64),
    /// Its time to live is over.
    #[error("the record's time to live ended on {0}: it is not brought back")]
    Expired(Timestamp),
    /// The content was changed or damaged.
    #[error("the digest does not fit the content: the record was changed or damaged")]
    Digest,
    /// An agent would have taken something out.
    #[error(
        "{0} holds an identifier or a secret that this agent takes out; `gitops-agent backfill` records the commit anew"
    )]
    Unredacted(&'static str),
}

/// What is let through.
#[derive(Clone, Debug)]
pub struct Gate {
    /// The tenant under which records are stored.
    pub tenant: String,
    /// The tenant whose records are taken, where that is another one; they go over to [`Gate::tenant`]. Digests stay,
    /// because they do not cover the tenant, and so do pseudonyms, which were made with the former tenant's name.
    pub from: Option<String>,
    /// Now: what has ended by then stays out.
    pub now: Timestamp,
}

impl Gate {
    /// The record in a line, and the key that it is stored under.
    ///
    /// # Errors
    /// When it is not let through; see [`Unfit`].
    pub fn record(&self, line: &Line) -> Result<(Key, Value), Unfit> {
        let bytes = line.bytes.as_deref().ok_or(Unfit::LongLine)?;
        let mut document: Value = serde_json::from_slice(bytes).map_err(Unfit::Json)?;
        if !document.is_object() {
            return Err(Unfit::Json(serde::de::Error::custom("it is a value of another kind")));
        }
        if document["schemaVersion"] != SCHEMA_VERSION {
            return Err(Unfit::Schema(document["schemaVersion"].to_string().chars().take(40).collect()));
        }
        // From the bytes: a member that is there twice is an error to them, and the last one wins in a `Value`.
        let record: Record = serde_json::from_slice(bytes).map_err(Unfit::Shape)?;
        known(&document, &record)?;
        size(&document)?;
        let wanted = self.from.as_ref().unwrap_or(&self.tenant);
        if record.tenant_id != *wanted {
            return Err(Unfit::Tenant { found: record.tenant_id, wanted: wanted.clone() });
        }
        self.key(&record)?;
        clean(&record)?;
        if !digest_fits(&document, &record) {
            return Err(Unfit::Digest);
        }
        document["tenantId"] = self.tenant.clone().into();
        Ok((Key { tenant: self.tenant.clone(), date: record.commit_date, id: record.id }, document))
    }

    /// Whether what queries and the time to live go by is sound.
    fn key(&self, record: &Record) -> Result<(), Unfit> {
        let hex = |id: &str| {
            matches!(id.len(), 40 | 64) && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !hex(&record.id) || record.commit_hash != record.id {
            return Err(Unfit::Key("the commit's id"));
        }
        // Times are compared as text.
        let whole = |text: &str| text.parse::<Timestamp>().is_ok_and(|time| time.to_string() == text);
        if !whole(&record.timestamp) || !whole(&record.author_timestamp) {
            return Err(Unfit::Key("a time"));
        }
        if record.commit_date.parse::<Date>().is_err()
            || record.timestamp.get(..10) != Some(record.commit_date.as_str())
        {
            return Err(Unfit::Key("the commit's date"));
        }
        let recorded: Timestamp =
            record.recorded_at.parse().map_err(|_| Unfit::Key("the time of recording"))?;
        // The service's own limit.
        if !(1..=i64::from(i32::MAX)).contains(&record.ttl) {
            return Err(Unfit::Ttl(record.ttl));
        }
        match recorded.checked_add(jiff::SignedDuration::from_secs(record.ttl)) {
            Ok(end) if end <= self.now => Err(Unfit::Expired(end)),
            _ => Ok(()),
        }
    }
}

/// Everything in the document must be what the record's own form of it has: a further member would be stored unseen.
fn known(document: &Value, record: &Record) -> Result<(), Unfit> {
    let own = serde_json::to_value(record).map_err(Unfit::Shape)?;
    let same = |a: &Value, b: &Value| a == b || canonical(a).ok() == canonical(b).ok();
    for (name, value) in document.as_object().into_iter().flatten() {
        if !own.get(name).is_some_and(|own| same(own, value)) {
            return Err(Unfit::Unknown(name.chars().take(80).collect()));
        }
    }
    Ok(())
}

fn size(document: &Value) -> Result<(), Unfit> {
    let length = |value: &Value| value.to_string().len();
    let merged: usize = ["supersedes", "alsoIn"].iter().map(|name| length(&document[*name])).sum();
    match length(document).saturating_sub(merged) {
        bytes if bytes > MAX_BYTES => Err(Unfit::Large(bytes)),
        _ => Ok(()),
    }
}

/// Whether redaction, which is idempotent, has been over the free text.
fn clean(record: &Record) -> Result<(), Unfit> {
    let message = match record.message_truncated {
        // The cut may have gone through a mark, whose rest is taken for a value.
        true => {
            record.message.rsplit_once("[redacted:").map_or(record.message.as_str(), |(before, _)| before)
        }
        false => &record.message,
    };
    let repositories = || std::iter::once(&record.repository).chain(&record.also_in);
    let places = |r: &Repository| [Some(r.name.clone()), r.remote.clone(), r.branch.clone()];
    let paths = |f: &FileChange| [Some(f.path.clone()), f.old_path.clone()];
    let allowed = record.findings.iter().filter_map(|finding| finding.allowed.as_ref());
    let soiled = |text: &str| redact::redact(text) != text;
    if soiled(message) {
        Err(Unfit::Unredacted("the message"))
    } else if repositories().flat_map(places).flatten().any(|text| soiled(&text)) {
        Err(Unfit::Unredacted("a repository's name"))
    } else if record.files_changed.iter().flat_map(paths).flatten().any(|text| soiled(&text))
        || record.findings.iter().filter_map(|finding| finding.path.as_deref()).any(soiled)
    {
        Err(Unfit::Unredacted("a path"))
    } else if allowed.flat_map(|allowed| [&allowed.reason, &allowed.owner]).any(|text| soiled(text)) {
        Err(Unfit::Unredacted("the reason for what is allowed"))
    } else {
        Ok(())
    }
}

fn digest_fits(document: &Value, record: &Record) -> bool {
    let without_people =
        matches!(record.author, Identity::Hashed { .. }) && record.message.contains(": [redacted:person]");
    without_people || digest(document, &record.message).is_ok_and(|own| own == record.digest)
}

/// What a document of a store is, before it is written down.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A record, as a line without its end.
    Record(String),
    /// A record whose columns in the local store say something else than it does.
    Differing(String),
    /// Nothing that could be read.
    Damaged,
}

/// One document of a query as a line, in the canonical form (RFC 8785).
///
/// # Errors
/// None in practice.
pub fn line(mut document: Value) -> Result<Found, serde_json::Error> {
    if document["damaged"] == true {
        return Ok(Found::Damaged);
    }
    let differing = document.as_object_mut().is_some_and(|fields| fields.remove(DIFFERING_COPIES).is_some());
    // The canonical form is UTF-8.
    let line = String::from_utf8_lossy(&canonical(&document)?).into_owned();
    Ok(if differing { Found::Differing(line) } else { Found::Record(line) })
}

/// What was written out: two exports of the same records have the same sum.
#[derive(Default)]
pub struct Tally {
    records: u64,
    hash: Sha256,
}

impl Tally {
    /// Counts a line, as it is written, its end included.
    pub fn add(&mut self, line: &str) {
        self.records += 1;
        self.hash.update(line);
    }

    /// Lines so far.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// SHA-256 of all bytes, lower-case hex.
    #[must_use]
    pub fn sum(self) -> String {
        hex(&self.hash.finalize())
    }
}
