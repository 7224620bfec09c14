//! Comparing what the store holds with what the repository says.
//!
//! A record is compared field by field with the record that this agent makes of the same commit now.
//! Git's facts are compared always; judgements only where agent, rules and class are the same, since a
//! newer rule may rightly say something else. To compare a history of any length in little memory, only a
//! hash of each field is kept until the store's document arrives.
//!
//! Beside that, the digest of the stored document is computed anew, so that a judgement cannot be changed
//! alone, not even by pretending that another agent made it.
//!
//! What this cannot show: the digest has no key. Somebody who can write to the store can change a judgement
//! together with the digest if they also change the rules or the agent that it names; and fields that do
//! not follow from the commit (`source`, `recordedAt`, `supersedes`, `alsoIn`) are in no digest.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::{Value, json};

use crate::record::{Identity, Record, canonical, digest, redact};

/// Fields that follow from the commit's header alone.
const HEADER: &[&str] = &[
    "id",
    "commitHash",
    "commitDate",
    "timestamp",
    "authorTimestamp",
    "parents",
    "parentsTotal",
    "signature",
];
/// Fields that follow from the commit's trees and blobs.
const TREES: &[&str] = &["filesChanged", "filesChangedTotal", "stats"];
/// Fields that follow from agent, rules and class too.
const JUDGED: &[&str] = &[
    "messageTruncated",
    "incompleteBecause",
    "riskScore",
    "model",
    "riskFactors",
    "compliance",
    "findings",
    "findingsTotal",
    "declared",
    "digest",
];

/// What a record of a commit must say.
#[derive(Clone, Debug)]
pub struct Expected {
    complete: bool,
    judge: u64,
    /// Hashes in the order of [`HEADER`], [`TREES`] and [`JUDGED`].
    fields: Vec<u64>,
    kinds: u64,
    people: [Person; 2],
    message: [u64; 2],
    /// The message that the digest covers, where the stored one may have lost people to the privacy setting.
    plain_message: Option<String>,
    /// Only where the thresholds are the built-in ones: a level follows from a setting that the record
    /// does not hold.
    level: Option<u64>,
}

#[derive(Clone, Debug)]
struct Person {
    field: &'static str,
    plain: u64,
    hashed: u64,
}

impl Expected {
    /// Takes the record that this agent makes now, with people named plainly; `level` tells whether its
    /// level was found with the built-in thresholds.
    ///
    /// # Errors
    /// None in practice: a record is plain values.
    pub fn new(record: &Record, level: bool) -> Result<Self, serde_json::Error> {
        let document = serde_json::to_value(record)?;
        let person = |field: &'static str, identity: &Identity| {
            let hashed = match identity {
                Identity::Plain { email, .. } => {
                    json!({ "hash": Identity::pseudonym(&record.tenant_id, email) })
                }
                Identity::Hashed { hash } => json!({ "hash": hash }),
            };
            Person { field, plain: hash_of(&document[field]), hashed: hash_of(&hashed) }
        };
        Ok(Self {
            complete: record.complete,
            judge: judge(&document),
            fields: field_hashes(&document),
            kinds: hash_of(&kinds(&document)),
            people: [person("author", &record.author), person("committer", &record.committer)],
            message: [
                hash_of(&document["message"]),
                hash_of(&Value::String(redact::people(&record.message))),
            ],
            plain_message: (redact::people(&record.message) != record.message)
                .then(|| record.message.clone()),
            level: level.then(|| hash_of(&document["riskLevel"])),
        })
    }

    /// The names of the fields in which a stored document differs; empty when it is as it must be.
    #[must_use]
    pub fn differences(&self, document: &Value) -> Vec<&'static str> {
        let found = field_hashes(document);
        let both_complete = self.complete && document["complete"] == Value::Bool(true);
        let same_judge = self.judge == judge(document) && document["complete"] == Value::Bool(self.complete);
        let mut differing: Vec<&'static str> = names()
            .zip(self.fields.iter().zip(&found))
            .enumerate()
            .filter(|(index, _)| match index {
                index if *index < HEADER.len() => true,
                index if *index < HEADER.len() + TREES.len() => both_complete || same_judge,
                _ => same_judge,
            })
            .filter(|(_, (_, (expected, found)))| expected != found)
            .map(|(_, (name, _))| name)
            .collect();
        for person in &self.people {
            let hash = hash_of(&document[person.field]);
            if hash != person.plain && hash != person.hashed {
                differing.push(person.field);
            }
        }
        if same_judge && !self.message.contains(&hash_of(&document["message"])) {
            differing.push("message");
        }
        if same_judge && self.level.is_some_and(|level| level != hash_of(&document["riskLevel"])) {
            differing.push("riskLevel");
        }
        // The document must be what its own digest says, whoever judged it.
        let stored = document["message"].as_str().unwrap_or_default();
        let message = match &self.plain_message {
            Some(plain) if redact::people(plain) == stored => plain,
            _ => stored,
        };
        let own = digest(document, message).ok();
        if own.as_deref() != document["digest"].as_str() && !differing.contains(&"digest") {
            differing.push("digest");
        }
        if document["ttl"].as_i64().is_none_or(|seconds| seconds <= 0) {
            differing.push("ttl");
        }
        // Which kind a file is of is the agent's opinion.
        if same_judge && self.kinds != hash_of(&kinds(document)) && !differing.contains(&"filesChanged") {
            differing.push("filesChanged");
        }
        differing
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    HEADER.iter().chain(TREES).chain(JUDGED).copied()
}

fn field_hashes(document: &Value) -> Vec<u64> {
    names()
        .map(|name| match name {
            "filesChanged" => hash_of(&without_kinds(&document[name])),
            _ => hash_of(&document[name]),
        })
        .collect()
}

/// Who judged: equal for two documents whose judgements must agree.
fn judge(document: &Value) -> u64 {
    hash_of(&json!([
        document["agentVersion"],
        document.pointer("/rules/digest"),
        document.pointer("/class/value"),
        document["schemaVersion"],
    ]))
}

fn without_kinds(files: &Value) -> Value {
    let mut files = files.clone();
    for file in files.as_array_mut().into_iter().flatten() {
        if let Some(file) = file.as_object_mut() {
            file.remove("kind");
        }
    }
    files
}

fn kinds(document: &Value) -> Value {
    let files = document["filesChanged"].as_array();
    files.into_iter().flatten().map(|file| file["kind"].clone()).collect()
}

/// A hash of a JSON value by its canonical form. Not cryptographic: both sides are in this process.
fn hash_of(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    // A store may hand a whole number back as 1 or as 1.0, which the canonical form makes one.
    canonical(value).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}
