//! The values that go into the outbox and come out of it.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::destination::Destination;

/// How soon a record is wanted: commits made now go before history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Urgency {
    /// A commit made just now.
    Live,
    /// Backfill and reconciliation.
    History,
}

impl Urgency {
    pub(super) fn code(self) -> i64 {
        match self {
            Self::Live => 0,
            Self::History => 1,
        }
    }

    pub(super) fn from_code(code: i64) -> Self {
        if code == 0 { Self::Live } else { Self::History }
    }
}

/// A record to be queued.
#[derive(Clone, Copy, Debug)]
pub struct NewEntry<'a> {
    /// First level of the partition key.
    pub tenant: &'a str,
    /// Second level of the partition key, `YYYY-MM-DD`.
    pub date: &'a str,
    /// The commit's full id.
    pub id: &'a str,
    /// Where the record goes, now and later.
    pub destination: &'a Destination,
    /// The record's `digest`.
    pub digest: &'a str,
    /// Who judged, as one opaque text: equal texts mean that judging again would say the same.
    pub judgement: &'a str,
    /// The record, one JSON object.
    pub body: &'a [u8],
    /// How soon it is wanted.
    pub urgency: Urgency,
    /// The working copy (or bare repository) that it comes from.
    pub repository: &'a Path,
    /// Why it has to wait for a setting, such as a missing tenant; `None` where it can go.
    pub hold: Option<&'a str>,
}

/// What became of the entries handed to [`super::Outbox::enqueue`]; the counts add up to their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Enqueued {
    /// New ones.
    pub added: usize,
    /// Took the place of an earlier judgement.
    pub replaced: usize,
    /// Brought only `supersedes` or `alsoIn` that were not known yet.
    pub merged: usize,
    /// Said nothing new, or had been discarded.
    pub already: usize,
}

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Waits for its turn.
    Pending,
    /// Waits for a person: access, container, or a setting.
    Held,
    /// The store will never take it as it is.
    Refused,
    /// The store has it.
    Delivered,
    /// Given up by a person.
    Discarded,
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Held => "held",
            Self::Refused => "refused",
            Self::Delivered => "delivered",
            Self::Discarded => "discarded",
        }
    }

    /// The schema's CHECK allows no sixth word.
    pub(super) fn from_text(text: &str) -> Self {
        match text {
            "held" => Self::Held,
            "refused" => Self::Refused,
            "delivered" => Self::Delivered,
            "discarded" => Self::Discarded,
            _ => Self::Pending,
        }
    }
}

/// An entry as `outbox list` shows it, the record itself left out.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EntrySummary {
    /// The commit's id.
    pub id: String,
    /// Tenant.
    pub tenant: String,
    /// `YYYY-MM-DD`.
    pub date: String,
    /// Where it goes.
    pub destination: Destination,
    /// Where it stands.
    pub state: State,
    /// Live or history.
    pub urgency: Urgency,
    /// Failed attempts.
    pub attempts: u32,
    /// When it was queued, or queued again.
    pub queued_at: Timestamp,
    /// Not before this, where an attempt has failed.
    pub next_attempt: Option<Timestamp>,
    /// When it was delivered or discarded.
    pub settled_at: Option<Timestamp>,
    /// Who discarded it.
    pub settled_by: Option<String>,
    /// Short name of what it waits for or why it was refused.
    pub kind: Option<String>,
    /// The same in the store's words; for a discarded one, why.
    pub reason: Option<String>,
    /// The record's digest.
    pub digest: String,
    /// Who judged.
    pub judgement: String,
    /// The working copy that it comes from.
    pub repository: PathBuf,
    /// Size of the record in bytes; `None` once it was delivered or discarded.
    pub bytes: Option<u64>,
}

/// An entry with its record.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryDetail {
    /// All but the record.
    #[serde(flatten)]
    pub summary: EntrySummary,
    /// The record; `None` once it was delivered or discarded, or where it is no JSON.
    pub record: Option<serde_json::Value>,
}

/// Which entries `list`, `retry` and `export` mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All of them.
    All,
    /// Those in one state.
    In(State),
    /// Those whose commit id begins so.
    Commit(String),
}

/// A working copy that has handed in commits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RepositoryRow {
    /// Its path.
    pub path: PathBuf,
    /// The record's `repository.id`.
    pub id: String,
    /// The folder that all worktrees of its repository share, once reconciliation has seen it.
    pub common_dir: Option<PathBuf>,
    /// Commits recorded from here, each counted once per tenant and destination.
    pub recorded: u64,
}
