//! The digest: SHA-256 over the canonical JSON (RFC 8785) of what follows from commit, rules, class and
//! model, and of nothing else.
//!
//! Left out, with the reason: `tenantId`, `repository`, `alsoIn`, `source`, `supersedes`, `recordedAt`,
//! `agentVersion` and `ttl` say who recorded it where; `riskLevel` follows from thresholds that are
//! settings; `author` and `committer` follow from the privacy setting (`verify` compares them with the
//! commit itself); `class.origin` says who said it, not what it is.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Record;

/// The digest of a record, lower-case hex. `message` is the redacted message before the privacy setting
/// replaced people in its trailers, so that the setting does not change the digest.
///
/// # Errors
/// None in practice: every field is a plain value and every number is finite.
pub fn digest(record: &Record, message: &str) -> Result<String, serde_json::Error> {
    let canonical: Value = json!({
        "id": record.id,
        "commitDate": record.commit_date,
        "timestamp": record.timestamp,
        "authorTimestamp": record.author_timestamp,
        "message": message,
        "messageTruncated": record.message_truncated,
        "parents": record.parents,
        "complete": record.complete,
        "incompleteBecause": record.incomplete_because,
        "class": record.class.value,
        "riskScore": record.risk_score,
        "model": record.model,
        "riskFactors": record.risk_factors,
        "compliance": record.compliance,
        "findings": record.findings,
        "findingsTotal": record.findings_total,
        "filesChanged": record.files_changed,
        "filesChangedTotal": record.files_changed_total,
        "stats": record.stats,
        "declared": super::Declared::read(message),
        "signature": record.signature,
        "rules": record.rules,
        "schemaVersion": record.schema_version,
    });
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
