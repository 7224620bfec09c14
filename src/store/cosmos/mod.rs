//! The store in Azure Cosmos DB, through Microsoft's SDK (`azure_data_cosmos` 1.0).
//!
//! One container with the hierarchical partition key `/tenantId`, `/commitDate`: a tenant's day is a
//! logical partition, reads and queries name the tenant always and the day where they know it, so that
//! nothing here can read across tenants.
//!
//! Invariants:
//! * A document is created, or replaced under `If-Match`; never upserted, which would restart its time to
//!   live and let two machines overwrite each other.
//! * The SDK repeats a create after an ambiguous failure, so "exists" may mean "it was ours".
//! * Keys, tokens and signatures stay out of messages, logs and `Debug` output.
//! * Plain `http` is taken for loopback only.
//!
//! Limits: an operation is given up after `OPERATION_TIMEOUT`; a throttled read is repeated twice within
//! 3 s and then handed back, a throttled write at once, because the outbox waits better than an open connection. One store
//! serves one Tokio runtime, with time and IO enabled. Numbers keep their value and not their form: the
//! service knows one kind of number, so `1.0` comes back as `1`.
//!
//! The SDK reads its own `AZURE_COSMOS_*` variables; `AZURE_COSMOS_BINARY_ENCODING_ENABLED=false` is
//! needed for Microsoft's Linux emulator. It also asks the metadata address of Azure's virtual machines
//! once in each process, for telemetry, and waits up to 2 s for it, unless `COSMOS_DISABLE_IMDS` is set
//! in the process's environment.

mod answer;
mod changes;
mod credential;
mod errors;
#[cfg(all(test, feature = "fault_injection"))]
mod faults;
mod once;
mod policy;
mod probe;
mod query;

use std::sync::Arc;
use std::time::{Duration, Instant};

use azure_core::http::{StatusCode, Url};
use azure_data_cosmos::clients::{ContainerClient, CosmosClient, CosmosClientBuilder, DatabaseClient};
use azure_data_cosmos::diagnostics::DiagnosticsContext;
use azure_data_cosmos::options::{
    ConnectionPoolOptions, ContentResponseOnWrite, EndToEndOperationLatencyPolicy, ItemWriteOptions,
    OperationOptions, Precondition, ThrottlingRetryOptions, UserAgentSuffix,
};
use azure_data_cosmos::{AccountEndpoint, CosmosError, CosmosRuntime, PartitionKey, RoutingStrategy};
use serde_json::Value;

pub use credential::{AccountKey, CredentialEnvironment};

use self::credential::Chosen;
use self::errors::{Operation, Place};
use self::once::Once;
use super::{Changes, Charged, CheckItem, Cost, Key, Query, Sink, Store, StoreError, Stored, StoredKey};
use crate::destination::Credential;

/// The longest that one operation takes, connecting and the SDK's own retries included. The SDK repeats a 449 for
/// 30 s, which cannot be set; then the store's answer is heard, and not only that the time was over.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(35);
/// The longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest wait for an answer about the account or the container, where the SDK would wait 65 s.
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);
/// How often, and for how long altogether, the SDK repeats a throttled read.
const THROTTLED_RETRIES: u32 = 2;
const THROTTLED_WAIT: Duration = Duration::from_secs(3);
/// Slower operations are logged with their diagnostics.
const SLOW: Duration = Duration::from_millis(100);

/// Everything that names a container and says how to get in.
#[derive(Clone, Debug)]
pub struct CosmosConfig {
    /// Account endpoint, such as `https://example.documents.azure.com/`.
    pub endpoint: String,
    /// Database name.
    pub database: String,
    /// Container name.
    pub container: String,
    /// Which credential to use.
    pub credential: Credential,
    /// What the environment says about credentials.
    pub environment: CredentialEnvironment,
    /// The container's default time to live, seconds; used when `init` creates it.
    pub default_ttl: i64,
}

/// A container of an Azure Cosmos DB account.
pub struct CosmosStore {
    endpoint: AccountEndpoint,
    place: Place,
    credential: Chosen,
    /// Seconds.
    default_ttl: u32,
    client: Once<CosmosClient>,
    /// Filled once the container was seen to have the records' partition key.
    key_fits: Once<()>,
}

impl std::fmt::Debug for CosmosStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CosmosStore").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Why an operation ended early: the SDK's reason, or one of this module's.
enum Failure {
    Sdk(CosmosError),
    Own(StoreError),
}

impl From<CosmosError> for Failure {
    fn from(error: CosmosError) -> Self {
        Self::Sdk(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Own(error)
    }
}

/// A value and the SDK's account of how it came.
type Answer<T> = Result<(T, Option<Arc<DiagnosticsContext>>), Failure>;

impl CosmosStore {
    /// Checks the settings and chooses the credential. Cheap: the first operation connects and signs in.
    pub fn new(config: CosmosConfig) -> Result<Self, StoreError> {
        let endpoint = endpoint(&config.endpoint)?;
        let credential = Chosen::choose(config.credential, config.environment)?;
        for (name, value) in [("database", &config.database), ("container", &config.container)] {
            // The service's own rule for ids.
            if value.is_empty() || value.len() > 255 || value.contains(['/', '\\', '#', '?']) {
                let message = format!("{value:?} is no name for a {name}");
                let hint = "names have 1 to 255 characters without / \\ # ?; check COSMOS_DATABASE and COSMOS_CONTAINER";
                return Err(errors::held("settings", &message, hint));
            }
        }
        let default_ttl = u32::try_from(config.default_ttl)
            .ok()
            .filter(|seconds| (1..=i32::MAX.cast_unsigned()).contains(seconds))
            .ok_or_else(|| {
                let message = format!("{} s is no time to live", config.default_ttl);
                errors::held("settings", &message, "set retention_days between 1 and 24855")
            })?;
        let host = endpoint.url().host_str().unwrap_or_default();
        let place = Place {
            endpoint: endpoint.url().as_str().trim_end_matches('/').to_owned(),
            account: host.split('.').next().unwrap_or(host).to_owned(),
            database: config.database,
            container: config.container,
            by_key: credential.manages(),
            credential: credential.name(),
        };
        Ok(Self {
            endpoint,
            place,
            credential,
            default_ttl,
            client: Once::default(),
            key_fits: Once::default(),
        })
    }

    /// The SDK's client, made on first use.
    async fn client(&self) -> Result<CosmosClient, Failure> {
        Ok(self.client.get(async { self.connect().await.map_err(|failure| self.opened(failure)) }).await?)
    }

    /// A failure while opening the account or the container. Whatever its sub-status, a 404 there is about
    /// the container, never about an item.
    fn opened(&self, failure: Failure) -> StoreError {
        match failure {
            Failure::Sdk(error) => errors::from_sdk(&error, Operation::Open, &self.place),
            Failure::Own(error) => error,
        }
    }

    async fn connect(&self) -> Result<CosmosClient, Failure> {
        self.connect_with(CosmosClientBuilder::new()).await
    }

    async fn connect_with(&self, builder: CosmosClientBuilder) -> Result<CosmosClient, Failure> {
        let account = self.credential.account(self.endpoint.clone())?;
        // Loopback emulators speak HTTP/1.1 without TLS, where HTTP/2 cannot be negotiated, and no proxy
        // reaches them; towards Azure a company's proxy may be the only way.
        let remote = self.endpoint.url().scheme() == "https";
        let pool = ConnectionPoolOptions::builder()
            .with_proxy_allowed(remote)
            .with_max_connect_timeout(CONNECT_TIMEOUT)
            .with_max_metadata_request_timeout(METADATA_TIMEOUT)
            .with_is_http2_allowed(remote)
            .build()?;
        // A runtime of our own: the SDK's global one would outlive the Tokio runtime that it runs on.
        let mut runtime = CosmosRuntime::builder().with_connection_pool(pool);
        if let Ok(suffix) = UserAgentSuffix::try_from("gitops-agent") {
            runtime = runtime.with_user_agent_suffix(suffix);
        }
        let runtime = runtime.build().await?;
        let mut throttling = ThrottlingRetryOptions::default();
        throttling.max_retry_count = Some(THROTTLED_RETRIES);
        throttling.max_retry_wait_time = Some(THROTTLED_WAIT);
        let mut operation = OperationOptions::default();
        operation.content_response_on_write = Some(ContentResponseOnWrite::Disabled);
        operation.end_to_end_latency_policy = Some(EndToEndOperationLatencyPolicy::new(OPERATION_TIMEOUT));
        operation.throttling_retry_options = Some(throttling);
        // An empty list keeps the account's own order of regions.
        let client = builder
            .with_runtime(runtime)
            .with_default_operation_options(operation)
            .build(account, RoutingStrategy::PreferredRegions(Vec::new()))
            .await?;
        Ok(client)
    }

    async fn database(&self) -> Result<DatabaseClient, Failure> {
        Ok(self.client().await?.database_client(self.place.database.clone()))
    }

    /// The container, known to have the records' key. In one with another key a query would find nothing
    /// and say so, which reads like a clean bill; the look costs one request in each process.
    async fn container(&self) -> Result<ContainerClient, Failure> {
        let container = self.any_container().await?;
        let look = async { self.expect_key(&container).await.map_err(|failure| self.opened(failure)) };
        self.key_fits.get(look).await?;
        Ok(container)
    }

    async fn expect_key(&self, container: &ContainerClient) -> Result<(), Failure> {
        let properties = container.read(None).await?.into_model()?;
        match policy::other_key(&properties) {
            None => Ok(()),
            Some(found) => Err(errors::partition_key(&found, &self.place).into()),
        }
    }

    /// The SDK keeps what it knows of a container, and renews it when the container is made anew.
    async fn any_container(&self) -> Result<ContainerClient, Failure> {
        let database = self.database().await?;
        let container = database.container_client(self.place.container.clone(), None).await;
        container.map_err(|error| self.opened(error.into()).into())
    }

    /// Bounds an operation in time, adds up its cost, logs it where it was slow, and puts its error
    /// into the contract's terms.
    async fn run<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = Answer<T>> + Send,
    ) -> Result<Charged<T>, StoreError> {
        let started = Instant::now();
        let (outcome, diagnostics) = match tokio::time::timeout(OPERATION_TIMEOUT, work).await {
            Ok(Ok((value, diagnostics))) => (Ok(value), diagnostics),
            Ok(Err(Failure::Sdk(error))) => {
                (Err(errors::from_sdk(&error, operation, &self.place)), error.diagnostics())
            }
            Ok(Err(Failure::Own(error))) => (Err(error), None),
            Err(_) => (Err(errors::timed_out(&self.place, OPERATION_TIMEOUT)), None),
        };
        let cost = Cost {
            request_units: diagnostics.as_ref().map_or(0.0, |d| d.total_request_charge().value()),
            latency: started.elapsed(),
        };
        log_slow(operation, cost, diagnostics.as_deref());
        match outcome {
            Ok(value) => Ok(Charged { value, cost }),
            Err(error) => Err(StoreError { cost, ..error }),
        }
    }
}

/// One line for an operation over [`SLOW`]. Diagnostics hold addresses, times and charges, no documents
/// and no credentials.
fn log_slow(operation: Operation, cost: Cost, diagnostics: Option<&DiagnosticsContext>) {
    if cost.latency > SLOW {
        tracing::warn!(
            operation = operation.name(),
            latency_ms = cost.latency.as_millis(),
            request_units = cost.request_units,
            diagnostics = diagnostics.map(|d| format!("{d:#}")).unwrap_or_default(),
            "slow store operation"
        );
    }
}

/// An account's address: `https` anywhere, `http` on loopback only, and nothing beside host and port.
fn endpoint(text: &str) -> Result<AccountEndpoint, StoreError> {
    let refused = |reason: &str| {
        let hint = "set COSMOS_ENDPOINT to an address such as https://ACCOUNT.documents.azure.com/";
        errors::held("endpoint", &format!("the store's endpoint {reason}"), hint)
    };
    let url = Url::parse(text.trim()).map_err(|error| refused(&format!("is no address: {error}")))?;
    // Not repeated in the message: it may be a password.
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("carries a user or password, which does not belong there"));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(refused(&format!("{text:?} has more than a host and a port")));
    }
    let loopback = match url.host_str() {
        Some(host) => ["localhost", "127.0.0.1", "[::1]"].contains(&host),
        None => return Err(refused(&format!("{text:?} names no host"))),
    };
    match url.scheme() {
        "https" => Ok(AccountEndpoint::from(url)),
        "http" if loopback => Ok(AccountEndpoint::from(url)),
        "http" => Err(refused(&format!("{text:?} is not encrypted, which is for loopback only"))),
        _ => Err(refused(&format!("{text:?} is not an https address"))),
    }
}

/// A throttled write is handed back at once: whoever delivers must know of it to slow down, and the outbox
/// waits better than an open connection.
fn write_options() -> ItemWriteOptions {
    let mut throttling = ThrottlingRetryOptions::default();
    throttling.max_retry_count = Some(0);
    let mut operation = OperationOptions::default();
    operation.throttling_retry_options = Some(throttling);
    ItemWriteOptions::default().with_operation_options(operation)
}

fn partition(key: &Key) -> PartitionKey {
    PartitionKey::from((key.tenant.clone(), key.date.clone()))
}

/// The service answers a document whose key is another's as it answers a container with another key,
/// which would stop every record for the sake of one.
fn matches_key(key: &Key, document: &Value) -> Result<(), StoreError> {
    let wanted = [("id", &key.id), ("tenantId", &key.tenant), ("commitDate", &key.date)];
    match wanted.iter().find(|(name, value)| document[*name].as_str() != Some(value.as_str())) {
        None => Ok(()),
        Some((name, _)) => {
            let message = format!("the record {} is to be stored under another {name} than its own", key.id);
            Err(errors::refused("bad-record", &message))
        }
    }
}

/// Removes the service's own properties and returns the version tag among them.
fn strip(document: &mut Value) -> Option<String> {
    let fields = document.as_object_mut()?;
    for name in ["_rid", "_self", "_attachments", "_ts"] {
        fields.remove(name);
    }
    match fields.remove("_etag") {
        Some(Value::String(etag)) => Some(etag),
        _ => None,
    }
}

#[async_trait::async_trait]
impl Store for CosmosStore {
    async fn create(&self, key: &Key, document: &Value) -> Result<Charged<()>, StoreError> {
        matches_key(key, document)?;
        self.run(Operation::Create, async {
            let container = self.container().await?;
            let response =
                container.create_item(partition(key), &key.id, document, Some(write_options())).await?;
            answer::acknowledges(StatusCode::Created, &response, &self.place)?;
            Ok(((), Some(response.diagnostics())))
        })
        .await
    }

    fn signs_in_by(&self) -> Option<&'static str> {
        Some(self.place.credential)
    }

    async fn read(&self, key: &Key) -> Result<Charged<Option<Stored>>, StoreError> {
        self.run(Operation::Read, async {
            let container = self.container().await?;
            let response = match container.read_item(partition(key), &key.id, None).await {
                Ok(response) => response,
                Err(error) if errors::is_missing_item(&error) => return Ok((None, error.diagnostics())),
                Err(error) => return Err(error.into()),
            };
            let diagnostics = response.diagnostics();
            let header = response.headers().etag().map(ToString::to_string);
            let mut document: Value = response.into_model()?;
            if document["id"].as_str() != Some(&key.id) {
                let what = "a document without the id that was asked for";
                return Err(errors::not_the_store(&self.place, what).into());
            }
            let etag = strip(&mut document).or(header).unwrap_or_default();
            Ok((Some(Stored { document, etag }), Some(diagnostics)))
        })
        .await
    }

    async fn replace(&self, key: &Key, document: &Value, etag: &str) -> Result<Charged<()>, StoreError> {
        matches_key(key, document)?;
        self.run(Operation::Replace, async {
            let container = self.container().await?;
            let options = write_options().with_precondition(Precondition::if_match(etag.to_owned()));
            let response = container.replace_item(partition(key), &key.id, document, Some(options)).await?;
            answer::acknowledges(StatusCode::Ok, &response, &self.place)?;
            Ok(((), Some(response.diagnostics())))
        })
        .await
    }

    async fn query(&self, query: &Query, sink: Sink<'_>) -> Result<Charged<()>, StoreError> {
        self.select(query, sink).await
    }

    async fn keys(
        &self,
        tenant: &str,
        since: Option<&str>,
        until: Option<&str>,
    ) -> Result<Charged<Vec<StoredKey>>, StoreError> {
        self.select_keys(tenant, since, until).await
    }

    async fn changes(&self, tenant: &str, after: Option<&str>) -> Result<Box<dyn Changes + '_>, StoreError> {
        Ok(Box::new(self.feed(tenant, after)))
    }

    async fn init(&self) -> Result<Vec<CheckItem>, StoreError> {
        self.create_missing().await
    }

    async fn check(&self) -> Vec<CheckItem> {
        self.look().await
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use serde_json::json;

    use super::*;
    use crate::store::ErrorClass;

    fn config(endpoint: &str) -> CosmosConfig {
        CosmosConfig {
            endpoint: endpoint.to_owned(),
            database: "gitops".to_owned(),
            container: "commits".to_owned(),
            credential: Credential::Auto,
            environment: CredentialEnvironment::default(),
            default_ttl: 220_924_800,
        }
    }

    #[test]
    fn plain_http_is_for_loopback() {
        for good in [
            "https://a.documents.azure.com",
            "http://127.0.0.1:8081/",
            "http://localhost:1",
            "http://[::1]:1/",
        ] {
            assert!(CosmosStore::new(config(good)).is_ok(), "{good}");
        }
        let secret = "https://user:hunter2@a.documents.azure.com/";
        for bad in [
            "http://a.documents.azure.com/",
            "http://127.0.0.1.example.com/",
            "ftp://localhost/",
            "gitops",
            "https://a.example.com/path",
            secret,
        ] {
            let error = CosmosStore::new(config(bad)).unwrap_err();
            assert_eq!((error.class, error.kind), (ErrorClass::Held, "endpoint"), "{bad}");
            assert!(!error.message.contains("hunter2"));
        }
    }

    #[test]
    fn settings_that_cannot_be_are_held() {
        let store =
            CosmosStore::new(CosmosConfig { database: "a/b".to_owned(), ..config("https://a.example.com") });
        assert_eq!(store.unwrap_err().kind, "settings");
        for ttl in [0, -1, i64::MAX] {
            let store =
                CosmosStore::new(CosmosConfig { default_ttl: ttl, ..config("https://a.example.com") });
            assert_eq!(store.unwrap_err().kind, "settings", "{ttl}");
        }
    }

    #[test]
    fn a_document_goes_under_its_own_key_only() {
        let key = Key { tenant: "t".to_owned(), date: "2026-01-02".to_owned(), id: "c0ffee".to_owned() };
        let document = json!({"id": "c0ffee", "tenantId": "t", "commitDate": "2026-01-02"});
        assert!(matches_key(&key, &document).is_ok());
        for name in ["id", "tenantId", "commitDate"] {
            let mut other = document.clone();
            other[name] = json!("other");
            assert_eq!(matches_key(&key, &other).unwrap_err().class, ErrorClass::Refused);
        }
    }

    #[test]
    fn the_services_own_properties_go() {
        let mut document = json!({"id": "1", "ttl": 60, "_rid": "r", "_self": "s", "_etag": "\"e\"", "_attachments": "a", "_ts": 1});
        assert_eq!(strip(&mut document).unwrap(), "\"e\"");
        assert_eq!(document, json!({"id": "1", "ttl": 60}));
    }
}
