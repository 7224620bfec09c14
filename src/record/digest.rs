//! The digest: SHA-256 over the canonical JSON (RFC 8785) of what follows from commit, rules, class and
//! model, and of nothing else.
//!
//! Left out, with the reason: `tenantId`, `repository`, `alsoIn`, `source`, `supersedes`, `recordedAt`,
//! `agentVersion` and `ttl` say who recorded it where; `riskLevel` follows from thresholds that are
//! settings; `author` and `committer` follow from the privacy setting (`verify` compares them with the
//! commit itself); `class.origin` says who said it, not what it is.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// What the digest covers as it stands in the document; `message`, `declared` and `class` are taken apart.
const COVERED: &[&str] = &[
    "id",
    "commitDate",
    "timestamp",
    "authorTimestamp",
    "messageTruncated",
    "parents",
    "complete",
    "incompleteBecause",
    "riskScore",
    "model",
    "riskFactors",
    "compliance",
    "findings",
    "findingsTotal",
    "filesChanged",
    "filesChangedTotal",
    "stats",
    "signature",
    "rules",
    "schemaVersion",
];

/// The digest of a record as JSON, lower-case hex, whatever its `digest` says. `message` is the redacted
/// message before the privacy setting replaced people in its trailers, so that the setting does not change
/// the digest.
///
/// # Errors
/// None in practice: a document is plain values and every number is finite.
pub fn digest(document: &Value, message: &str) -> Result<String, serde_json::Error> {
    let mut canonical: Map<String, Value> =
        COVERED.iter().map(|name| ((*name).to_owned(), document[*name].clone())).collect();
    canonical.insert("message".to_owned(), message.into());
    canonical.insert("declared".to_owned(), serde_json::to_value(super::Declared::read(message))?);
    canonical.insert("class".to_owned(), document["class"]["value"].clone());
    let bytes = serde_json_canonicalizer::to_vec(&canonical)?;
    Ok(hex(&Sha256::digest(&bytes)))
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}
