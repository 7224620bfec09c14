//! Stores: where records end up. One trait, two implementations ([`local`] and [`cosmos`]) under one
//! test suite (`tests/stores.rs`).
//!
//! A store knows documents, keys and error classes; it knows neither the outbox nor what a record
//! means beyond the properties that it indexes.

pub mod cosmos;
pub mod local;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A property that a store adds to a document of a query when what it filters and sorts by says something else
/// than the document does: somebody changed one without the other.
pub const DIFFERING_COPIES: &str = "_differingCopies";

/// The full key of a document: hierarchical partition key and id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// First level of the partition key.
    pub tenant: String,
    /// Second level of the partition key, `YYYY-MM-DD`.
    pub date: String,
    /// The commit's id.
    pub id: String,
}

/// A document as it was read.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The document, the store's own `_` properties removed.
    pub document: Value,
    /// Version tag for [`Store::replace`].
    pub etag: String,
}

/// What an operation cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Request units charged; 0 in the local store.
    pub request_units: f64,
    /// Wall-clock time of the whole operation, retries inside the SDK included.
    pub latency: Duration,
}

impl std::ops::Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            request_units: self.request_units + other.request_units,
            latency: self.latency + other.latency,
        }
    }
}

/// A result and what it cost.
#[derive(Clone, Debug)]
pub struct Charged<T> {
    /// The result.
    pub value: T,
    /// Its cost.
    pub cost: Cost,
}

/// What can be asked. Everything is inside one tenant; reads across tenants do not exist.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// The tenant, always given.
    pub tenant: String,
    /// First day, inclusive, `YYYY-MM-DD`.
    pub since: Option<String>,
    /// Last day, inclusive, `YYYY-MM-DD`.
    pub until: Option<String>,
    /// Least `riskScore`.
    pub min_risk: Option<f64>,
    /// Every one of these must be in `compliance`.
    pub tags: Vec<String>,
    /// Full id, or a prefix of at least four hex digits.
    pub commit: Option<String>,
    /// The `riskLevel`.
    pub level: Option<String>,
    /// A rule that made a finding.
    pub rule: Option<String>,
    /// A citation of a finding, or what contains it: `45 CFR 164.312` finds `45 CFR 164.312(b)`.
    pub citation: Option<String>,
    /// A file that was changed or moved away, as the record spells it; with a `/` at its end, a folder.
    pub path: Option<String>,
    /// Any of these is the author's address or name, in any case, or their pseudonym.
    pub authors: Vec<String>,
    /// The id or the name of a repository that has the commit.
    pub repository: Option<String>,
    /// At most so many documents.
    pub limit: Option<usize>,
}

impl Query {
    /// Whether a document is an answer, the limit aside: what a store finds by its own means included, for documents
    /// that come another way ([`Store::changes`]).
    #[must_use]
    pub fn matches(&self, document: &Value) -> bool {
        let text = |name: &str| document[name].as_str().unwrap_or_default();
        let has_tag =
            |tag: &String| document["compliance"].as_array().is_some_and(|all| all.contains(&json!(tag)));
        document["tenantId"] == self.tenant.as_str()
            && self.since.as_deref().is_none_or(|since| text("commitDate") >= since)
            && self.until.as_deref().is_none_or(|until| text("commitDate") <= until)
            && self
                .min_risk
                .is_none_or(|least| document["riskScore"].as_f64().is_some_and(|risk| risk >= least))
            && self.tags.iter().all(has_tag)
            && self.commit.as_ref().is_none_or(|commit| text("id").starts_with(&commit.to_ascii_lowercase()))
            && self.admits(document)
    }

    /// Whether a document has what `level` and the filters after it ask for. No store indexes these but the
    /// level, since each indexed property adds to the price of every write: they are looked for in the documents
    /// that the other filters leave, here, so that every store means the same by them.
    fn admits(&self, document: &Value) -> bool {
        let text = |value: &Value, name: &str| value[name].as_str().map(str::to_owned);
        let any = |list: &str, holds: &dyn Fn(&Value) -> bool| {
            document[list].as_array().is_some_and(|items| items.iter().any(holds))
        };
        let level = self.level.as_ref().is_none_or(|level| document["riskLevel"] == level.as_str());
        let rule = self.rule.as_ref().is_none_or(|rule| any("findings", &|f| f["rule"] == rule.as_str()));
        let citation = self.citation.as_ref().is_none_or(|wanted| {
            any("findings", &|finding| {
                let citations = finding["citations"].as_array();
                citations
                    .is_some_and(|all| all.iter().filter_map(Value::as_str).any(|c| is_within(c, wanted)))
            })
        });
        let path = self.path.as_ref().is_none_or(|wanted| {
            let is = |path: String| path == *wanted || wanted.ends_with('/') && path.starts_with(wanted);
            any("filesChanged", &|file| ["path", "oldPath"].iter().any(|n| text(file, n).is_some_and(is)))
        });
        let author = self.authors.is_empty() || {
            let names = ["email", "name", "hash"].map(|name| text(&document["author"], name));
            let names: Vec<_> = names.into_iter().flatten().map(|name| name.to_lowercase()).collect();
            self.authors.iter().any(|author| names.contains(&author.to_lowercase()))
        };
        let repository = self.repository.as_ref().is_none_or(|wanted| {
            let is = |one: &Value| ["id", "name"].iter().any(|name| one[name] == wanted.as_str());
            is(&document["repository"]) || any("alsoIn", &is)
        });
        level && rule && citation && path && author && repository
    }

    /// Whether [`Query::admits`] may leave out documents that a store finds by its own means.
    fn narrows(&self) -> bool {
        let sought = [&self.rule, &self.citation, &self.path, &self.repository];
        sought.iter().any(|filter| filter.is_some()) || !self.authors.is_empty()
    }
}

/// Whether a citation is `wanted` or a part of it: `45 CFR 164.312(b)` is within `45 CFR 164.312`, and not within
/// `45 CFR 164.3`.
fn is_within(citation: &str, wanted: &str) -> bool {
    let rest = citation.strip_prefix(wanted);
    rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric()))
}

/// What to do about an error; the contract's classes, and the three answers that are not failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorClass {
    /// Try again, without end.
    Again,
    /// Waits for a person: access or the container, not the record.
    Held,
    /// This one record will never be taken.
    Refused,
    /// 409: a document with this key exists.
    Exists,
    /// 412: the document changed since it was read.
    Changed,
}

/// An error of a store, in the store's own words but without secrets.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    /// What to do.
    pub class: ErrorClass,
    /// HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// Cosmos sub-status, where there was one.
    pub sub_status: Option<u32>,
    /// A short name for programs: `unreachable`, `throttled`, `access-denied`, `no-container`, …
    pub kind: &'static str,
    /// One line for people, without secrets.
    pub message: String,
    /// What to do next, one line, where there is advice.
    pub hint: Option<String>,
    /// How long the store asked us to wait.
    pub retry_after: Option<Duration>,
    /// What the failed attempt cost.
    pub cost: Cost,
}

impl StoreError {
    /// An error without an answer from a server.
    #[must_use]
    pub fn new(class: ErrorClass, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            class,
            status: None,
            sub_status: None,
            kind,
            message: message.into(),
            hint: None,
            retry_after: None,
            cost: Cost::default(),
        }
    }
}

/// One line of `store init` or `store check`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckItem {
    /// What was looked at: `endpoint`, `credential`, `database`, `container`, `partition key`, …
    pub name: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found, or done.
    pub detail: String,
    /// How to mend it.
    pub hint: Option<String>,
}

/// Receives documents of a query one by one; returning `false` ends the query.
pub type Sink<'a> = &'a mut (dyn FnMut(Value) -> bool + Send);

/// Some of a tenant's changes, as [`Changes::next`] gives them.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Documents as they are now, each after what it was before; none where nothing has changed here.
    pub documents: Vec<Value>,
    /// Where reading goes on after this page; only the store that gave it knows what it means.
    pub cursor: String,
    /// Whether nothing is left for now.
    pub caught_up: bool,
}

/// The kind of the error that says that a cursor is of another store, or none.
pub const FOREIGN_CURSOR: &str = "foreign-cursor";

/// A tenant's changes, page by page, without an end.
#[async_trait::async_trait]
pub trait Changes: Send {
    /// The next page. After an error it may be called again: nothing is passed over.
    async fn next(&mut self) -> Result<Charged<Page>, StoreError>;
}

/// A place that keeps documents by [`Key`].
#[async_trait::async_trait]
pub trait Store: Send + Sync {
    /// Creates a document. An existing one is [`ErrorClass::Exists`] and is not touched.
    async fn create(&self, key: &Key, document: &Value) -> Result<Charged<()>, StoreError>;

    /// Creates several documents at once, each as [`Store::create`] would; one answer for each, in
    /// order, with its share of the cost. Called with at most [`Store::batch_size`] of them, those of
    /// one partition side by side.
    async fn create_many(&self, documents: &[(Key, Value)]) -> Vec<Result<Charged<()>, StoreError>> {
        let mut answers = Vec::with_capacity(documents.len());
        for (key, document) in documents {
            answers.push(self.create(key, document).await);
        }
        answers
    }

    /// How many documents [`Store::create_many`] takes at once; 1 where single creates are as good.
    fn batch_size(&self) -> usize {
        1
    }

    /// By what the store is signed in to, in a word for people; `None` where nobody signs in.
    fn signs_in_by(&self) -> Option<&'static str> {
        None
    }

    /// Reads one document; `None` where there is none (but a missing container is an error, held).
    async fn read(&self, key: &Key) -> Result<Charged<Option<Stored>>, StoreError>;

    /// Replaces a document that still has `etag`, otherwise [`ErrorClass::Changed`].
    async fn replace(&self, key: &Key, document: &Value, etag: &str) -> Result<Charged<()>, StoreError>;

    /// Streams matching documents, newest commit date first, then `timestamp` descending, then id.
    async fn query(&self, query: &Query, sink: Sink<'_>) -> Result<Charged<()>, StoreError>;

    /// The ids, dates and digests of one tenant's documents in a range of days, for `verify`.
    async fn keys(
        &self,
        tenant: &str,
        since: Option<&str>,
        until: Option<&str>,
    ) -> Result<Charged<Vec<StoredKey>>, StoreError>;

    /// A tenant's documents in the order in which they were created or replaced, from the first on or from where a
    /// cursor says. Each that changes comes at least once after its last change; versions in between may be left out.
    async fn changes(&self, tenant: &str, after: Option<&str>) -> Result<Box<dyn Changes + '_>, StoreError>;

    /// Creates what is missing (database, container, policy, time to live); safe to repeat.
    async fn init(&self) -> Result<Vec<CheckItem>, StoreError>;

    /// Looks at everything that delivery needs, in order, and stops at the first that is missing.
    async fn check(&self) -> Vec<CheckItem>;
}

/// A document's key and digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// `YYYY-MM-DD`.
    pub date: String,
    /// Commit id.
    pub id: String,
    /// The record's `digest`.
    pub digest: String,
}
