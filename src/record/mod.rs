//! The record: one JSON document per tenant and commit, its canonical form and its digest.
//!
//! [`build()`] turns facts, verdict and risk into a [`Record`]; nothing here knows a repository or a
//! store. Identifiers and secrets are taken out of every free text ([`redact`]) before the record
//! exists, so no undigested text can reach the disk.
//!
//! Limits: the message 8 KiB, 500 files, 200 findings, names and references 1 KiB each, the whole
//! document [`MAX_BYTES`]; what was cut is counted (`filesChangedTotal`, `findingsTotal`,
//! `parentsTotal`).

mod build;
mod declared;
mod digest;
pub mod redact;
mod repository;

pub use build::{Context, Privacy, build};
pub use declared::Declared;
pub(crate) use digest::canonical;
pub use digest::digest;
pub use repository::Repository;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::hex::hex;
use crate::risk::{Factor, Level};
use crate::rules::{Class, Finding, PackId};

/// Version of the document's shape, in `schemaVersion`.
pub const SCHEMA_VERSION: u32 = 1;
/// Upper limit of a record as JSON, in bytes.
pub const MAX_BYTES: usize = 256 * 1024;
/// Upper limit of `filesChanged`.
pub const MAX_FILES: usize = 500;
/// Upper limit of `message`, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 8 * 1024;

/// The record of one commit, in the contract's names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Full commit id, lower-case hex.
    pub id: String,
    /// The same again, under the name that people look for.
    pub commit_hash: String,
    /// First level of the partition key.
    pub tenant_id: String,
    /// Second level of the partition key: committer date in UTC, `YYYY-MM-DD`.
    pub commit_date: String,
    /// Committer time, RFC 3339, UTC.
    pub timestamp: String,
    /// Author time, RFC 3339, UTC.
    pub author_timestamp: String,
    /// Message, redacted, at most [`MAX_MESSAGE_BYTES`].
    pub message: String,
    /// Whether the message was cut.
    pub message_truncated: bool,
    /// Author.
    pub author: Identity,
    /// Committer.
    pub committer: Identity,
    /// Parents as the commit's header names them.
    pub parents: Vec<String>,
    /// Number of parents, where more than the list holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parents_total: Option<usize>,
    /// Whether everything of the commit was there to be judged.
    pub complete: bool,
    /// Why not, sorted.
    pub incomplete_because: Vec<String>,
    /// The repository it was recorded in first.
    pub repository: Repository,
    /// Further repositories with the same commit.
    #[serde(default)]
    pub also_in: Vec<Repository>,
    /// What the repository is, and who said so.
    pub class: ClassOf,
    /// 0 to 1, three decimals.
    pub risk_score: f64,
    /// Name and version of the risk model.
    pub model: String,
    /// Level by the thresholds in force.
    pub risk_level: Level,
    /// Percent of the repository's commits with a lower change risk, where enough are known; beside the score and in no
    /// digest, since it follows from the history that this machine knows. Written when the record is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk_percentile: Option<f64>,
    /// The probability by the model that `calibrate` fitted, where one is kept; as `risk_percentile`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk_calibrated: Option<f64>,
    /// The reasons, largest first.
    pub risk_factors: Vec<Factor>,
    /// `HIPAA`, `FDA`, …, sorted.
    pub compliance: Vec<String>,
    /// The evidence.
    pub findings: Vec<Finding>,
    /// Number of findings, where more than the list holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings_total: Option<usize>,
    /// Files against the first parent, at most [`MAX_FILES`].
    pub files_changed: Vec<FileChange>,
    /// Number of files changed.
    pub files_changed_total: usize,
    /// Sums over all files.
    pub stats: Stats,
    /// What the author declared in the message.
    pub declared: Option<Declared>,
    /// The signature's kind, where the commit carries one.
    pub signature: Option<Signature>,
    /// Which rules judged it.
    pub rules: RulesUsed,
    /// Which hook or command made the record.
    pub source: String,
    /// Commits that this one replaced (amend, rebase).
    #[serde(default)]
    pub supersedes: Vec<String>,
    /// The agent's version.
    pub agent_version: String,
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// When the record was made, RFC 3339, UTC.
    pub recorded_at: String,
    /// SHA-256 over the canonical form, see [`digest()`].
    pub digest: String,
    /// Time to live in seconds, Cosmos DB's own property.
    pub ttl: i64,
}

/// A person, or their pseudonym.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Identity {
    /// As the commit names them.
    Plain {
        /// Name.
        name: String,
        /// Mail address.
        email: String,
    },
    /// SHA-256 of tenant, a NUL and the lower-case address: a pseudonym, not anonymity.
    Hashed {
        /// Lower-case hex.
        hash: String,
    },
}

impl Identity {
    /// The hash that stands for a person: SHA-256 of tenant, a NUL and the lower-case address, in hex.
    #[must_use]
    pub fn pseudonym(tenant: &str, email: &str) -> String {
        hex(&Sha256::digest(format!("{tenant}\0{}", email.to_lowercase())))
    }
}

/// What the repository is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassOf {
    /// The class.
    pub value: Class,
    /// Who said so.
    pub origin: ClassOrigin,
}

/// Who decided the class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassOrigin {
    /// The user's settings.
    Set,
    /// The repository's own `.gitops-agent.toml`.
    Carried,
    /// What the tree holds.
    Inferred,
    /// Nobody.
    Unknown,
}

/// One changed file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileChange {
    /// Path, redacted; in Git's quotes where it is not plain UTF-8.
    pub path: String,
    /// Old path of a rename or copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_path: Option<String>,
    /// `A` `M` `D` `R` `C` `T`.
    pub status: String,
    /// Lines added.
    pub insertions: u32,
    /// Lines removed.
    pub deletions: u32,
    /// What kind of file.
    pub kind: crate::facts::FileKind,
}

/// Sums over all changed files, those beyond [`MAX_FILES`] included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Files changed.
    pub files: usize,
    /// Lines added.
    pub insertions: u64,
    /// Lines removed.
    pub deletions: u64,
}

/// The signature's kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// `openpgp`, `ssh` or `x509`.
    pub kind: String,
}

/// Which rules judged a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesUsed {
    /// SHA-256 over all packs.
    pub digest: String,
    /// The packs.
    pub packs: Vec<PackId>,
}

impl Record {
    /// The record as the JSON that is stored.
    ///
    /// # Errors
    /// None in practice: every field is a plain value.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}
