//! Which of two records of one commit stays, and what the one that stays takes over from the other.
//!
//! The outbox asks when a commit is queued a second time, delivery when the store already has a record;
//! both must answer alike or two agents would overwrite each other in turn. So the answer is written
//! once, as pure functions over two records:
//!
//! * [`Standing`] is a total order: complete before incomplete, then the higher `agentVersion`, then the
//!   higher pack versions. Pack versions are compared pack by pack in the order of their ids; the first
//!   that differs decides, and a pack that is absent is lower than any version of it. Records that are
//!   equal in this order are left alone, whatever else differs.
//! * [`Links`] grow only: `supersedes` and `alsoIn` of both records are united, and a record made in
//!   another repository adds that repository to `alsoIn`. Uniting is commutative, associative and
//!   idempotent, so the order in which agents arrive does not matter and each document settles. To keep
//!   records small the first 500 superseded commits and the first 100 repositories in the order of their
//!   ids are kept; that too is the same whoever comes first.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Most entries kept in `supersedes`.
pub const MAX_SUPERSEDES: usize = 500;
/// Most entries kept in `alsoIn`.
pub const MAX_ALSO_IN: usize = 100;

/// A version as it is compared: one that is no semantic version is lower than any that is one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
enum Release {
    Other(String),
    Semver(semver::Version),
}

impl From<String> for Release {
    fn from(text: String) -> Self {
        semver::Version::parse(&text).map_or(Self::Other(text), Self::Semver)
    }
}

impl From<Release> for String {
    fn from(release: Release) -> Self {
        match release {
            Release::Other(text) => text,
            Release::Semver(version) => version.to_string(),
        }
    }
}

/// Where a record stands in the contract's order of judgements; the greater one stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    complete: bool,
    agent_version: Release,
    packs: BTreeMap<String, Release>,
}

impl Ord for Standing {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let by_packs = || {
            let ids: BTreeSet<&String> = self.packs.keys().chain(other.packs.keys()).collect();
            ids.into_iter()
                .map(|id| self.packs.get(id).cmp(&other.packs.get(id)))
                .find(|order| order.is_ne())
                .unwrap_or(std::cmp::Ordering::Equal)
        };
        self.complete
            .cmp(&other.complete)
            .then_with(|| self.agent_version.cmp(&other.agent_version))
            .then_with(by_packs)
    }
}

impl PartialOrd for Standing {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// What of a record grows by merging.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    repository: Value,
    growth: Growth,
}

/// The two lists that grow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Growth {
    supersedes: Vec<String>,
    also_in: Vec<Value>,
}

/// The part of a record that outbox and delivery read.
#[derive(Clone, Debug)]
pub struct Essence {
    /// Which of two records stays.
    pub standing: Standing,
    /// What the one that stays takes over.
    pub links: Links,
}

/// A record's JSON names, everything else skipped without being built.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    complete: bool,
    agent_version: String,
    #[serde(default)]
    rules: WireRules,
    #[serde(default)]
    repository: Value,
    #[serde(default)]
    supersedes: Vec<String>,
    #[serde(default)]
    also_in: Vec<Value>,
}

#[derive(Deserialize, Default)]
struct WireRules {
    #[serde(default)]
    packs: Vec<WirePack>,
}

#[derive(Deserialize)]
struct WirePack {
    id: String,
    version: String,
}

impl From<Wire> for Essence {
    fn from(wire: Wire) -> Self {
        Self {
            standing: Standing {
                complete: wire.complete,
                agent_version: wire.agent_version.into(),
                packs: wire.rules.packs.into_iter().map(|pack| (pack.id, pack.version.into())).collect(),
            },
            links: Links {
                repository: wire.repository,
                growth: Growth { supersedes: wire.supersedes, also_in: wire.also_in },
            },
        }
    }
}

impl Essence {
    /// Reads it from a record's bytes.
    ///
    /// # Errors
    /// When the bytes are not a JSON object with fields of the contract's types.
    pub fn from_slice(record: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice::<Wire>(record).map(Self::from)
    }

    /// Reads it from a record.
    ///
    /// # Errors
    /// When the value is not an object with fields of the contract's types.
    pub fn from_value(record: &Value) -> Result<Self, serde_json::Error> {
        Wire::deserialize(record).map(Self::from)
    }
}

/// What makes an entry of `alsoIn` the same as another: its `id`, or all of it where it has none.
fn identity(repository: &Value) -> String {
    match repository.get("id") {
        Some(Value::String(id)) => id.clone(),
        _ => repository.to_string(),
    }
}

/// The part of `repository` that is kept in another record: a branch says nothing there.
fn as_further(repository: &Value) -> Value {
    let mut kept = repository.clone();
    if let Some(fields) = kept.as_object_mut() {
        fields.remove("branch");
    }
    kept
}

impl Links {
    /// Takes over what `other` has and this has not; whether that was anything.
    pub fn absorb(&mut self, other: &Self) -> bool {
        let mut supersedes: BTreeSet<&String> = self.growth.supersedes.iter().collect();
        supersedes.extend(&other.growth.supersedes);
        let supersedes: Vec<String> = supersedes.into_iter().take(MAX_SUPERSEDES).cloned().collect();

        let own = (!self.repository.is_null()).then(|| identity(&self.repository));
        let mut also_in: BTreeMap<String, Value> = BTreeMap::new();
        let theirs = (!other.repository.is_null()).then(|| as_further(&other.repository));
        for repository in self.growth.also_in.iter().chain(&other.growth.also_in).chain(&theirs) {
            let id = identity(repository);
            if own.as_ref() != Some(&id) {
                also_in.entry(id).or_insert_with(|| repository.clone());
            }
        }
        let also_in: Vec<Value> = also_in.into_values().take(MAX_ALSO_IN).collect();

        let grew = supersedes.iter().any(|id| !self.growth.supersedes.contains(id))
            || also_in.iter().any(|repository| {
                let id = identity(repository);
                !self.growth.also_in.iter().any(|known| identity(known) == id)
            });
        if grew {
            self.growth = Growth { supersedes, also_in };
        }
        grew
    }

    /// Written down in two parts: the repository, which many records share, and the lists, which most
    /// records do not have.
    #[must_use]
    pub fn to_parts(&self) -> (String, Option<String>) {
        let lists = (self.growth != Growth::default()).then(|| serde_json::json!(self.growth));
        (as_further(&self.repository).to_string(), lists.map(|lists| lists.to_string()))
    }

    /// Reads what [`Links::to_parts`] wrote.
    ///
    /// # Errors
    /// When the texts are not what it wrote.
    pub fn from_parts(repository: &str, lists: Option<&str>) -> Result<Self, serde_json::Error> {
        let repository = serde_json::from_str(repository)?;
        let growth = lists.map(serde_json::from_str).transpose()?.unwrap_or_default();
        Ok(Self { repository, growth })
    }

    /// The `id` of the record's own repository, empty where it has none.
    #[must_use]
    pub fn repository_id(&self) -> &str {
        self.repository.get("id").and_then(Value::as_str).unwrap_or_default()
    }

    /// Writes `supersedes` and `alsoIn` into a record; its `repository` stays its own.
    pub fn write_into(&self, record: &mut Map<String, Value>) {
        if !self.growth.supersedes.is_empty() {
            record.insert("supersedes".to_owned(), self.growth.supersedes.clone().into());
        }
        if !self.growth.also_in.is_empty() {
            record.insert("alsoIn".to_owned(), self.growth.also_in.clone().into());
        }
    }
}

/// What to do with a record where another record of the same commit already is.
#[derive(Clone, Debug, PartialEq)]
pub enum Meeting {
    /// Nothing: what is there says all that this one says, or more.
    Leave,
    /// Put this document in its place; `ours` says whose judgement it carries.
    Put {
        /// The document.
        document: Value,
        /// Whether our judgement was the later one (otherwise theirs stays, with our links).
        ours: bool,
    },
}

/// Decides between `ours`, about to be stored, and `theirs`, stored already.
///
/// # Errors
/// When one of them is not a record.
pub fn meet(ours: &Value, theirs: &Value) -> Result<Meeting, serde_json::Error> {
    let our = Essence::from_value(ours)?;
    let their = Essence::from_value(theirs)?;
    let later = our.standing > their.standing;
    let (mut links, other, base) =
        if later { (our.links, &their.links, ours) } else { (their.links, &our.links, theirs) };
    let grew = links.absorb(other);
    if !later && !grew {
        return Ok(Meeting::Leave);
    }
    let mut document = base.clone();
    if let Some(fields) = document.as_object_mut() {
        links.write_into(fields);
    }
    Ok(Meeting::Put { document, ours: later })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn record(complete: bool, agent: &str, packs: &[(&str, &str)]) -> Value {
        let packs: Vec<Value> = packs.iter().map(|(id, v)| json!({"id": id, "version": v})).collect();
        json!({"complete": complete, "agentVersion": agent, "rules": {"digest": "d", "packs": packs},
            "repository": {"id": "r1", "name": "a", "branch": "main"}, "supersedes": []})
    }

    fn standing(record: &Value) -> Standing {
        Essence::from_value(record).unwrap().standing
    }

    #[test]
    fn complete_then_agent_then_packs() {
        let ascending = [
            record(false, "9.0.0", &[("a", "9.0.0")]),
            record(true, "not-a-version", &[("a", "9.0.0")]),
            record(true, "0.9.0", &[("a", "9.0.0")]),
            record(true, "0.10.0", &[]),
            record(true, "0.10.0", &[("a", "1.9.0")]),
            record(true, "0.10.0", &[("a", "1.9.0"), ("b", "1.0.0")]),
            record(true, "0.10.0", &[("a", "1.10.0")]),
        ];
        for pair in ascending.windows(2) {
            assert!(standing(&pair[0]) < standing(&pair[1]), "{} < {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn equal_records_leave_each_other_alone() {
        let mut theirs = record(true, "1.0.0", &[("a", "1.0.0")]);
        theirs["digest"] = json!("another");
        let ours = record(true, "1.0.0", &[("a", "1.0.0")]);
        assert_eq!(meet(&ours, &theirs).unwrap(), Meeting::Leave);
    }

    #[test]
    fn the_later_judgement_takes_over_the_links_of_the_earlier() {
        let mut theirs = record(false, "1.0.0", &[]);
        theirs["supersedes"] = json!(["bb"]);
        theirs["repository"] = json!({"id": "r2", "name": "fork", "branch": "x"});
        let mut ours = record(true, "1.0.0", &[]);
        ours["supersedes"] = json!(["aa"]);
        let Meeting::Put { document, ours: true } = meet(&ours, &theirs).unwrap() else { panic!() };
        assert_eq!(document["supersedes"], json!(["aa", "bb"]));
        assert_eq!(document["alsoIn"], json!([{"id": "r2", "name": "fork"}]));
        assert_eq!(document["repository"]["id"], "r1");
        assert_eq!(meet(&ours, &document).unwrap(), Meeting::Leave);
        assert_eq!(meet(&theirs, &document).unwrap(), Meeting::Leave);
    }

    #[test]
    fn an_earlier_judgement_brings_only_its_links() {
        let mut ours = record(true, "0.9.0", &[]);
        ours["supersedes"] = json!(["aa"]);
        let theirs = record(true, "1.0.0", &[]);
        let Meeting::Put { document, ours: false } = meet(&ours, &theirs).unwrap() else { panic!() };
        assert_eq!(document["agentVersion"], "1.0.0");
        assert_eq!(document["supersedes"], json!(["aa"]));
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        assert!(meet(&record(true, "1.0.0", &[]), &json!({})).is_err());
        assert!(meet(&json!([]), &record(true, "1.0.0", &[])).is_err());
        assert!(Essence::from_slice(b"{\"supersedes\": 7}").is_err());
    }

    fn any_standing() -> impl Strategy<Value = Standing> {
        let release = prop::sample::select(vec!["", "x", "1.0.0", "1.2.0", "1.10.0", "2.0.0-rc.1"]);
        (
            any::<bool>(),
            release.clone(),
            prop::collection::btree_map(prop::sample::select(vec!["a", "b", "c"]), release, 0..4),
        )
            .prop_map(|(complete, agent, packs)| Standing {
                complete,
                agent_version: agent.to_owned().into(),
                packs: packs.into_iter().map(|(id, v)| (id.to_owned(), v.to_owned().into())).collect(),
            })
    }

    fn any_links() -> impl Strategy<Value = Links> {
        (
            0_u8..4,
            prop::collection::vec("[a-f]", 0..4),
            prop::collection::vec((0_u8..6).prop_map(|n| json!({"id": format!("r{n}")})), 0..4),
        )
            .prop_map(|(n, supersedes, also_in)| Links {
                repository: json!({"id": format!("r{n}"), "branch": "main"}),
                growth: Growth { supersedes, also_in },
            })
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in any_standing(), b in any_standing(), c in any_standing()) {
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(a == b, a.cmp(&b).is_eq());
            if a <= b && b <= c {
                prop_assert!(a <= c);
            }
        }

        #[test]
        fn a_standing_survives_being_written_down(a in any_standing()) {
            let text = serde_json::to_string(&a).unwrap();
            prop_assert_eq!(serde_json::from_str::<Standing>(&text).unwrap(), a);
        }

        #[test]
        fn links_settle(base in any_links(), x in any_links(), y in any_links()) {
            let mut one = base.clone();
            one.absorb(&x);
            one.absorb(&y);
            let mut other = base.clone();
            other.absorb(&y);
            other.absorb(&x);
            let ids = |links: &Links| -> BTreeSet<String> { links.growth.also_in.iter().map(identity).collect() };
            if one != base && other != base {
                prop_assert_eq!(ids(&one), ids(&other));
            }
            prop_assert!(!one.clone().absorb(&x), "absorbing again must bring nothing");
            prop_assert!(!one.clone().absorb(&y), "absorbing again must bring nothing");
        }
    }
}
