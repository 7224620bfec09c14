//! The digest: SHA-256 over the canonical JSON (RFC 8785) of what follows from commit, rules, class and
//! model, and of nothing else.
//!
//! Left out, with the reason: `tenantId`, `repository`, `alsoIn`, `source`, `supersedes`, `recordedAt`,
//! `agentVersion` and `ttl` say who recorded it where; `riskLevel` follows from thresholds that are
//! settings; `riskPercentile` and `riskCalibrated` follow from the history that a machine knows; `author` and
//! `committer` follow from the privacy setting (`verify` compares them with the commit itself); `class.origin` says who said it, not what it is.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};
use sha2::{Digest, Sha256};

use crate::hex::hex;

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
    let (message, class) = (Value::from(message), &document["class"]["value"]);
    // What a repository's own pattern found in the message cannot be found again without the repository.
    let ticket = document["declared"]["ticket"].as_str().map(str::to_owned);
    let declared = super::Declared::read(message.as_str().unwrap_or_default(), ticket);
    let declared = serde_json::to_value(declared)?;
    let mut covered: BTreeMap<&str, &Value> = COVERED.iter().map(|name| (*name, &document[*name])).collect();
    covered.extend([("message", &message), ("declared", &declared), ("class", class)]);
    Ok(hex(&Sha256::digest(canonical(&covered)?)))
}

/// The canonical form (RFC 8785) of JSON whose maps are sorted, as those of [`Value`] are: our keys are all ASCII,
/// so that the order by bytes is the RFC's by UTF-16, and our whole numbers are below 2^53.
///
/// `serde_json_canonicalizer`, with which the tests compare, took a twentieth of a whole backfill.
///
/// # Errors
/// None in practice.
pub(crate) fn canonical(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::with_capacity(4096);
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Canonical))?;
    Ok(bytes)
}

/// What the RFC asks beyond compact JSON as `serde_json` writes it: numbers as in ECMAScript.
struct Canonical;

impl Formatter for Canonical {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(ryu_js::Buffer::new().format(value).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use proptest::prelude::*;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0_u64..1 << 53).prop_map(Value::from),
            (-1_i64 << 52..0).prop_map(Value::from),
            prop::num::f64::NORMAL.prop_map(Value::from),
            (0_i32..100_000).prop_map(|number| Value::from(f64::from(number) / 1000.0)),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map("[ -~]{0,8}", inner, 0..6)
                    .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_that_of_rfc_8785(value in any_value()) {
            prop_assert_eq!(canonical(&value).unwrap(), serde_json_canonicalizer::to_vec(&value).unwrap());
        }
    }
}
