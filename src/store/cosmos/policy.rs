//! The container as it should be, `store init` and `store check`.
//!
//! The index holds what queries ask for and nothing else: file lists and findings make up most of a
//! record, each indexed property adds to the charge of every write, and nobody filters by them here.
//! `id` is always indexed by the service and may not be listed.
//!
//! All of it is in `infra/container.json`, which the Bicep deploys: one text, so that the two cannot differ.
//!
//! The container's default time to live must be set, or the service ignores the one of each record.

use std::sync::LazyLock;

use azure_data_cosmos::CosmosError;
use azure_data_cosmos::models::{
    ContainerProperties, IndexingMode, IndexingPolicy, PartitionKeyDefinition, TimeToLive,
};
use serde::Deserialize;

use super::errors::{self, Operation};
use super::{CosmosStore, Failure};
use crate::store::{CheckItem, StoreError};

/// Key, index and time to live as `infra/` deploys them, in the words of the service's own interface.
const SHAPE: &str = include_str!("../../../infra/container.json");

/// The part of [`SHAPE`] that `store init` puts into force; the default time to live is a setting.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    partition_key: PartitionKeyDefinition,
    indexing_policy: IndexingPolicy,
}

/// The container as it should be.
fn shape() -> &'static Shape {
    static SHAPE_READ: LazyLock<Shape> = LazyLock::new(|| {
        // Built in, and read by each test of this room.
        serde_json::from_str(SHAPE).expect("infra/container.json is valid")
    });
    &SHAPE_READ
}

fn key_paths(key: &PartitionKeyDefinition) -> Vec<&str> {
    key.paths().iter().map(AsRef::as_ref).collect()
}

/// The partition key of a container, where it is not the records'.
pub(super) fn other_key(container: &ContainerProperties) -> Option<String> {
    let paths = key_paths(&container.partition_key);
    (paths != key_paths(&shape().partition_key)).then(|| paths.join(", "))
}

/// What the index lacks, or holds too much of, in words.
fn index_faults(policy: Option<&IndexingPolicy>) -> Option<String> {
    let Some(policy) = policy else { return Some("no indexing policy".to_owned()) };
    let wanted = &shape().indexing_policy;
    let mut faults = Vec::new();
    if !policy.automatic || policy.indexing_mode == Some(IndexingMode::None) {
        faults.push("indexing is off".to_owned());
    }
    if !policy.excluded_paths.contains(&"/*".into()) {
        faults.push("everything is indexed, which makes each write dearer".to_owned());
    }
    let everything = policy.included_paths.contains(&"/*".into());
    for path in &wanted.included_paths {
        if !everything && !policy.included_paths.contains(path) {
            faults.push(format!("{} is not indexed", path.path));
        }
    }
    for index in &wanted.composite_indexes {
        if !policy.composite_indexes.contains(index) {
            let paths: Vec<_> = index.properties.iter().map(|property| property.path.as_str()).collect();
            faults.push(format!("no composite index over {}", paths.join(", ")));
        }
    }
    (!faults.is_empty()).then(|| faults.join("; "))
}

pub(super) fn item(name: &'static str, detail: impl Into<String>) -> CheckItem {
    CheckItem { name, ok: true, detail: detail.into(), hint: None }
}

pub(super) fn fault(name: &'static str, detail: impl Into<String>, hint: Option<String>) -> CheckItem {
    CheckItem { name, ok: false, detail: detail.into(), hint }
}

pub(super) fn failed(name: &'static str, error: StoreError) -> CheckItem {
    fault(name, error.message, error.hint)
}

impl CosmosStore {
    /// `store check`: stops at the first thing that is missing. Each item is one part of the way, so that whoever
    /// reads the list knows whose work the mend is.
    pub(super) async fn look(&self) -> Vec<CheckItem> {
        let mut items = Vec::new();
        if let Err(error) = self.open(&mut items).await {
            items.push(error);
            return items;
        }
        let container = self
            .run(Operation::Open, async {
                let response = self.any_container().await?.read(None).await?;
                let diagnostics = response.diagnostics();
                Ok((response.into_model()?, Some(diagnostics)))
            })
            .await;
        match container {
            Ok(container) => {
                items.extend(self.judge(&container.value));
                if items.iter().all(|item| item.ok || item.name == "clock") {
                    items.push(self.role().await);
                }
            }
            Err(error) => items.push(failed(errors::at_fault(&error, "container"), error)),
        }
        items
    }

    /// Endpoint, clock, credential and database; the error is the item that is not as it should be.
    async fn open(&self, items: &mut Vec<CheckItem>) -> Result<(), CheckItem> {
        let clock = self.clock().await;
        let connected = self.run(Operation::Open, async {
            self.client().await?;
            Ok(((), None))
        });
        let connected = connected.await;
        let reached = match &connected {
            Ok(_) => true,
            Err(error) => errors::at_fault(error, "endpoint") != "endpoint",
        };
        if reached {
            items.push(item("endpoint", self.place.endpoint.clone()));
            items.extend(clock);
        }
        if let Err(error) = connected {
            return Err(failed(errors::at_fault(&error, "endpoint"), error));
        }
        let database = self
            .run(Operation::Open, async {
                let response = self.database().await?.read(None).await?;
                Ok(((), Some(response.diagnostics())))
            })
            .await;
        let part = database.as_ref().err().map(|error| errors::at_fault(error, "database"));
        if part != Some("credential") {
            items.push(item("credential", self.place.credential));
        }
        match database {
            Ok(_) => {
                items.push(item("database", self.place.database.clone()));
                Ok(())
            }
            Err(error) => Err(failed(errors::at_fault(&error, "database"), error)),
        }
    }

    /// Container, partition key, default time to live and index of a container that exists.
    fn judge(&self, container: &ContainerProperties) -> Vec<CheckItem> {
        let mut items = vec![item("container", self.place.container.clone())];
        if let Some(found) = other_key(container) {
            items.push(failed("partition key", errors::partition_key(&found, &self.place)));
            return items;
        }
        items.push(item("partition key", key_paths(&shape().partition_key).join(", ")));
        let mend = if self.credential.manages() {
            "run `gitops-agent store init`".to_owned()
        } else {
            errors::infrastructure(&self.place)
        };
        items.push(match &container.default_ttl {
            TimeToLive::Seconds(seconds) => item("time to live", format!("{seconds} s by default")),
            TimeToLive::NoDefault => item("time to live", "as each record says"),
            _ => fault("time to live", "off: records would be kept for ever", Some(mend.clone())),
        });
        items.push(match index_faults(container.indexing_policy.as_ref()) {
            None => item("index", "as the queries need it"),
            Some(faults) => fault("index", faults, Some(mend)),
        });
        items
    }

    /// `store init`: makes what is missing, mends what can be mended, leaves the rest.
    pub(super) async fn create_missing(&self) -> Result<Vec<CheckItem>, StoreError> {
        if !self.credential.manages() {
            return self.only_look().await;
        }
        let mut items = vec![item("endpoint", self.place.endpoint.clone())];
        let created = self
            .run(Operation::Open, async {
                let made = self.client().await?.create_database(&self.place.database, None).await;
                Ok((made_or_there(made.map(drop))?, None))
            })
            .await?
            .value;
        items.push(item("database", format!("{} {}", self.place.database, said(created))));

        let created = self
            .run(Operation::Open, async {
                let properties =
                    ContainerProperties::new(self.place.container.clone(), shape().partition_key.clone())
                        .with_indexing_policy(shape().indexing_policy.clone())
                        .with_default_ttl(self.default_ttl);
                let made = self.database().await?.create_container(properties, None).await;
                Ok((made_or_there(made.map(drop))?, None))
            })
            .await?
            .value;
        let container = self.run(Operation::Open, self.mended()).await?.value;
        let mut judged = self.judge(&container).into_iter();
        if let Some(first) = judged.next() {
            items.push(CheckItem { detail: format!("{} {}", first.detail, said(created)), ..first });
        }
        items.extend(judged);
        Ok(items)
    }

    /// The container after its index and time to live were put right, where that is possible.
    async fn mended(&self) -> super::Answer<ContainerProperties> {
        let client = self.any_container().await?;
        let found: ContainerProperties = client.read(None).await?.into_model()?;
        let off = found.default_ttl.is_forever();
        if other_key(&found).is_some() || !off && index_faults(found.indexing_policy.as_ref()).is_none() {
            return Ok((found, None));
        }
        let mut wanted = found.with_indexing_policy(shape().indexing_policy.clone());
        // A default that somebody has set is theirs: each record brings its own time to live anyway.
        if off {
            wanted = wanted.with_default_ttl(self.default_ttl);
        }
        client.replace(wanted, None).await?;
        Ok((client.read(None).await?.into_model()?, None))
    }

    /// With Entra ID the service creates nothing for us: fine where everything is there already.
    async fn only_look(&self) -> Result<Vec<CheckItem>, StoreError> {
        let items = self.look().await;
        match items.iter().find(|item| !item.ok) {
            None => Ok(items),
            Some(missing) if matches!(missing.name, "endpoint" | "clock" | "credential" | "role") => {
                let hint = missing.hint.clone().unwrap_or_default();
                Err(errors::held("access-denied", &missing.detail, &hint))
            }
            Some(missing) => {
                let message = format!("{} ({}) cannot be made with Entra ID", missing.detail, missing.name);
                Err(errors::held("needs-infrastructure", &message, &errors::infrastructure(&self.place)))
            }
        }
    }
}

/// `true` where it was created, `false` where it was there.
fn made_or_there(made: Result<(), CosmosError>) -> Result<bool, Failure> {
    match made {
        Ok(()) => Ok(true),
        Err(error) if errors::is_conflict(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn said(created: bool) -> &'static str {
    if created { "created" } else { "exists" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_policy_has_no_faults() {
        assert_eq!(index_faults(Some(&shape().indexing_policy)), None);
    }

    #[test]
    fn faults_are_named() {
        let faults = |policy: &IndexingPolicy| index_faults(Some(policy)).unwrap_or_default();
        assert!(faults(&IndexingPolicy::default()).contains("indexing is off"));
        let mut everything = IndexingPolicy::default().with_included_path("/*");
        everything.automatic = true;
        let text = faults(&everything);
        assert!(text.contains("everything is indexed") && text.contains("/tenantId, /riskScore"), "{text}");
        assert!(!text.contains("is not indexed"), "{text}");
        let mut less = shape().indexing_policy.clone();
        less.included_paths.retain(|path| path.path != "/timestamp/?");
        assert_eq!(faults(&less), "/timestamp/? is not indexed");
        // What the service adds of its own accord is no fault.
        assert_eq!(
            index_faults(Some(&shape().indexing_policy.clone().with_excluded_path("/\"_etag\"/?"))),
            None
        );
    }
}
