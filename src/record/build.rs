//! Facts, verdict and risk become a [`Record`].

use jiff::Timestamp;

use super::redact::{people, redact};
use super::repository::limited;
use super::{
    ClassOf, Declared, FileChange, Identity, MAX_BYTES, MAX_FILES, MAX_MESSAGE_BYTES, Record, Repository,
    RulesUsed, SCHEMA_VERSION, Signature, Stats,
};
use crate::facts::{CommitFacts, Person, SignatureKind};
use crate::risk::{self, Risk};
use crate::rules::{self, Verdict};

/// How people are named in records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Privacy {
    /// Name and address.
    #[default]
    Plain,
    /// A pseudonym.
    Hash,
}

/// What a record needs beside the judged commit.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// First level of the partition key.
    pub tenant: &'a str,
    /// How people are named.
    pub privacy: Privacy,
    /// Time to live, in seconds.
    pub ttl: i64,
    /// The repository.
    pub repository: &'a Repository,
    /// What the repository is.
    pub class: ClassOf,
    /// The rules in force.
    pub rules: RulesUsed,
    /// Which hook or command asks.
    pub source: &'a str,
    /// Commits that this one replaced.
    pub supersedes: Vec<String>,
    /// Now.
    pub recorded_at: Timestamp,
}

/// Builds the record of a commit.
///
/// # Errors
/// None in practice: every field is a plain value and every number is finite.
pub fn build(
    facts: &CommitFacts,
    verdict: Verdict,
    risk: Risk,
    context: Context<'_>,
) -> Result<Record, serde_json::Error> {
    let (message, message_truncated) = message(&facts.message);
    let ticket = facts.carried.as_deref().and_then(|carried| rules::carried_ticket(carried, &message));
    let committed = instant(facts.commit_time);
    let tenant = context.tenant;
    let mut parents = facts.parents.clone();
    let parents_total = (parents.len() > 512).then_some(parents.len());
    parents.truncate(512);
    let mut record = Record {
        id: facts.id.clone(),
        commit_hash: facts.id.clone(),
        tenant_id: tenant.to_owned(),
        commit_date: committed.strftime("%Y-%m-%d").to_string(),
        timestamp: committed.to_string(),
        author_timestamp: instant(facts.author_time).to_string(),
        message: match context.privacy {
            Privacy::Plain => message.clone(),
            Privacy::Hash => people(&message),
        },
        message_truncated,
        author: identity(&facts.author, context.privacy, tenant),
        committer: identity(&facts.committer, context.privacy, tenant),
        parents,
        parents_total,
        complete: facts.incomplete.is_empty(),
        incomplete_because: facts.incomplete.iter().map(|reason| reason.name().to_owned()).collect(),
        repository: context.repository.clone(),
        also_in: Vec::new(),
        class: context.class,
        risk_score: risk.score,
        model: risk::MODEL.to_owned(),
        risk_level: risk.level,
        risk_percentile: None,
        risk_calibrated: None,
        risk_factors: risk.factors,
        compliance: verdict.tags.into_iter().collect(),
        findings: verdict.findings,
        findings_total: None,
        files_changed: files(facts),
        files_changed_total: facts.files.len(),
        stats: stats(facts),
        declared: Declared::read(&message, ticket),
        signature: facts.signature.map(|kind| Signature { kind: signature_name(kind).to_owned() }),
        rules: context.rules,
        source: context.source.to_owned(),
        supersedes: context.supersedes,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        schema_version: SCHEMA_VERSION,
        recorded_at: context.recorded_at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        digest: String::new(),
        ttl: context.ttl,
    };
    for finding in &mut record.findings {
        finding.path = finding.path.as_deref().map(|path| redact(path).into_owned());
        if let Some(allowed) = &mut finding.allowed {
            // Out of the repository's own files.
            allowed.reason = redact(&allowed.reason).into_owned();
            allowed.owner = redact(&allowed.owner).into_owned();
        }
    }
    if context.privacy == Privacy::Hash
        && let Some(declared) = &mut record.declared
    {
        declared.reviewed_by.fill("[redacted:person]".to_owned());
    }
    fit(&mut record)?;
    record.digest = super::digest(&serde_json::to_value(&record)?, &message)?;
    Ok(record)
}

/// A time of Git's as an instant; outside the years 1970 to 9999 the nearest end, because the second
/// partition key is a date of four digits.
fn instant(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds.clamp(0, 253_402_300_799)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The message, redacted before it is cut, so that no half of an identifier is left at the end.
fn message(whole: &str) -> (String, bool) {
    let seen = &whole[..whole.floor_char_boundary(8 * MAX_MESSAGE_BYTES)];
    let clean = redact(seen);
    let kept = &clean[..clean.floor_char_boundary(MAX_MESSAGE_BYTES)];
    (kept.to_owned(), kept.len() < clean.len() || seen.len() < whole.len())
}

fn identity(person: &Person, privacy: Privacy, tenant: &str) -> Identity {
    match privacy {
        Privacy::Plain => Identity::Plain { name: limited(&person.name), email: limited(&person.email) },
        Privacy::Hash => Identity::Hashed { hash: Identity::pseudonym(tenant, &person.email) },
    }
}

fn signature_name(kind: SignatureKind) -> &'static str {
    match kind {
        SignatureKind::Openpgp => "openpgp",
        SignatureKind::Ssh => "ssh",
        SignatureKind::X509 => "x509",
    }
}

fn files(facts: &CommitFacts) -> Vec<FileChange> {
    facts
        .files
        .iter()
        .take(MAX_FILES)
        .map(|file| FileChange {
            path: redact(&file.path.display()).into_owned(),
            old_path: file.old_path.as_ref().map(|path| redact(&path.display()).into_owned()),
            status: file.status.letter().to_owned(),
            insertions: file.insertions,
            deletions: file.deletions,
            kind: file.kind,
        })
        .collect()
}

fn stats(facts: &CommitFacts) -> Stats {
    facts.files.iter().fold(Stats { files: facts.files.len(), ..Stats::default() }, |mut sum, file| {
        sum.insertions += u64::from(file.insertions);
        sum.deletions += u64::from(file.deletions);
        sum
    })
}

/// Keeps the document under [`MAX_BYTES`] with 8 KiB to spare for what is merged in later; paths alone
/// can be 4 KiB each.
fn fit(record: &mut Record) -> Result<(), serde_json::Error> {
    const MOST: usize = MAX_BYTES - 8 * 1024;
    let findings = record.findings.len();
    debug_assert!(record.to_json()?.len() <= at_most(record));
    while at_most(record) > MOST && record.to_json()?.len() > MOST {
        if record.files_changed.len() > 1 {
            record.files_changed.truncate(record.files_changed.len() / 2);
        } else if record.findings.len() > 1 {
            record.findings.truncate(record.findings.len() / 2);
            record.findings_total = Some(findings);
        } else {
            break;
        }
    }
    Ok(())
}

/// More bytes than the document has as JSON, without writing it: nearly all documents are small.
fn at_most(record: &Record) -> usize {
    /// Of one byte, as `\u001f`.
    const ESCAPED: usize = 6;
    /// Names of fields, numbers, times, hashes, and names and references of 1 KiB each.
    const REST: usize = 64 * 1024;
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let files =
        record.files_changed.iter().map(|file| 256 + ESCAPED * (file.path.len() + text(&file.old_path)));
    let findings = record.findings.iter().map(|finding| {
        let allowed = finding.allowed.as_ref();
        let allowed =
            allowed.map_or(0, |allowed| allowed.reason.len() + allowed.owner.len() + allowed.until.len());
        let lists = finding.tags.iter().chain(&finding.citations).map(|text| text.len() + 4).sum::<usize>();
        512 + ESCAPED * (finding.rule.len() + text(&finding.path) + allowed + lists)
    });
    let packs = record.rules.packs.iter().map(|pack| 64 + ESCAPED * (pack.id.len() + pack.version.len()));
    let lists = record.parents.len() + record.supersedes.len() + record.incomplete_because.len();
    let factors = record.risk_factors.iter().map(|factor| 128 + ESCAPED * factor.factor.len());
    // The message, and what it declares.
    let ticket = record.declared.as_ref().map_or(0, |declared| text(&declared.ticket));
    let message = ESCAPED * (2 * record.message.len() + ticket);
    let tags: usize = record.compliance.iter().map(|tag| 4 + ESCAPED * tag.len()).sum();
    REST + tags + message + 128 * lists + files.chain(findings).chain(packs).chain(factors).sum::<usize>()
}
