//! One suite for every store. What it asks of a store is the trait's contract; what only Cosmos DB has
//! (throttling, a missing container, another partition key) follows below it.
//!
//! `CosmosStore` runs against the emulator as a process of its own over a real socket. Build it first:
//! `cargo build -p cosmos-emulator`, in the same profile as the tests.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "stores/emulator.rs"]
mod emulator;
#[path = "stores/suite.rs"]
mod suite;

use std::sync::Arc;

use azure_data_cosmos::models::{ContainerProperties, PartitionKeyDefinition};
use azure_data_cosmos::{AccountReference, CosmosClient, RoutingStrategy};
use emulator::{Emulator, KEY};
use gitops_agent::store::cosmos::CosmosStore;
use gitops_agent::store::local::LocalStore;
use gitops_agent::store::{CheckItem, ErrorClass, Query, Store, StoreError};
use suite::{document, key};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A store with nothing in it, and what must live as long as it.
struct Fixture {
    store: Arc<dyn Store>,
    _keep: Box<dyn std::any::Any>,
}

async fn cosmos() -> Fixture {
    let emulator = Emulator::start(&[]);
    let store = Arc::new(emulator.store());
    store.init().await.unwrap();
    Fixture { store, _keep: Box::new(emulator) }
}

async fn local() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(LocalStore::open(folder.path()).unwrap());
    store.init().await.unwrap();
    Fixture { store, _keep: Box::new(folder) }
}

/// The whole suite for one kind of store: a further one is one line.
macro_rules! suite {
    ($kind:ident: $($test:ident)+) => {
        mod $kind {
            $(#[tokio::test]
            async fn $test() {
                let fixture = super::$kind().await;
                super::suite::$test(&*fixture.store).await;
            })+
        }
    };
    ($kind:ident) => {
        suite!($kind:
            create_is_once
            one_of_many_at_once_creates
            read_finds_what_was_written
            replace_needs_the_version
            queries_filter
            queries_look_into_documents
            ranges_of_any_length_agree
            queries_are_ordered_and_limited
            queries_stop_when_told
            a_bad_commit_prefix_is_refused
            keys_list_ids_and_digests
            tenants_are_apart
            large_and_unusual_documents_survive
            whole_numbers_keep_their_value
            changes_go_on_where_they_were
            changes_are_read_in_pages
            a_foreign_cursor_is_refused
            init_repeats_and_check_agrees
        );
    };
}

suite!(cosmos);
suite!(local);

fn faults(items: &[CheckItem]) -> Vec<&'static str> {
    items.iter().filter(|item| !item.ok).map(|item| item.name).collect()
}

fn said(error: &StoreError) -> (ErrorClass, &'static str) {
    // What holds for every error, wherever it comes from.
    assert!(!error.message.is_empty() && !error.message.chars().any(char::is_control), "{error:?}");
    assert!(!format!("{error:?}").contains(KEY), "{error:?}");
    (error.class, error.kind)
}

/// Every operation's error, in order: create, read, replace, query, keys.
async fn errors(store: &dyn Store) -> Vec<(ErrorClass, &'static str)> {
    let document = document("t", "2026-01-02T03:04:05Z", 1);
    let key = key(&document);
    let query = Query { tenant: "t".to_owned(), ..Query::default() };
    vec![
        said(&store.create(&key, &document).await.unwrap_err()),
        said(&store.read(&key).await.unwrap_err()),
        said(&store.replace(&key, &document, "\"e\"").await.unwrap_err()),
        said(&store.query(&query, &mut |_| true).await.unwrap_err()),
        said(&store.keys("t", None, None).await.unwrap_err()),
    ]
}

#[tokio::test]
async fn operations_cost() {
    let Fixture { store, _keep } = cosmos().await;
    let document = document("t", "2026-01-02T03:04:05Z", 1);
    let key = key(&document);
    let created = store.create(&key, &document).await.unwrap();
    assert!(created.cost.request_units > 1.0 && !created.cost.latency.is_zero(), "{:?}", created.cost);
    assert!(store.read(&key).await.unwrap().cost.request_units >= 1.0);
    let query = Query { tenant: "t".to_owned(), ..Query::default() };
    assert!(store.query(&query, &mut |_| true).await.unwrap().cost.request_units > 0.0);
    let conflict = store.create(&key, &document).await.unwrap_err();
    assert!(conflict.cost.request_units > 0.0 && conflict.status == Some(409), "{conflict:?}");
}

#[tokio::test]
async fn without_a_container_everything_is_held_until_init() {
    let emulator = Emulator::start(&[]);
    let store = emulator.store();
    assert_eq!(errors(&store).await, [(ErrorClass::Held, "no-container"); 5]);
    let items = store.check().await;
    assert_eq!(faults(&items), ["database"]);
    let hint = items.iter().find_map(|item| item.hint.clone()).unwrap();
    assert!(hint.contains("store init"), "{hint}");

    // The same store, not a fresh one, goes on once the container is there.
    store.init().await.unwrap();
    let document = document("t", "2026-01-02T03:04:05Z", 1);
    store.create(&key(&document), &document).await.unwrap();
}

/// The SDK's client without anything of ours in between.
async fn plain_client(emulator: &Emulator) -> CosmosClient {
    let endpoint = emulator.endpoint().parse().unwrap();
    let account = AccountReference::with_authentication_key(endpoint, KEY.to_owned());
    CosmosClient::builder().build(account, RoutingStrategy::PreferredRegions(Vec::new())).await.unwrap()
}

async fn make_container(emulator: &Emulator, key: PartitionKeyDefinition) {
    let client = plain_client(emulator).await;
    client.create_database("gitops", None).await.unwrap();
    let properties = ContainerProperties::new("commits", key);
    client.database_client("gitops".to_owned()).create_container(properties, None).await.unwrap();
}

#[tokio::test]
async fn another_partition_key_is_held() {
    for paths in [vec!["/id"], vec!["/repository", "/tenantId"], vec!["/tenantId", "/commitDate", "/id"]] {
        let emulator = Emulator::start(&[]);
        let key = PartitionKeyDefinition::new(paths.iter().map(|path| (*path).into()).collect());
        make_container(&emulator, key).await;
        let store = emulator.store();
        let document = document("t", "2026-01-02T03:04:05Z", 1);
        let error = store.create(&suite::key(&document), &document).await.unwrap_err();
        assert_eq!(said(&error), (ErrorClass::Held, "partition-key"), "{paths:?}: {error:?}");
        assert_eq!(faults(&store.check().await), ["partition key"], "{paths:?}");
        assert_eq!(faults(&store.init().await.unwrap()), ["partition key"], "{paths:?}");
    }
}

#[tokio::test]
async fn init_mends_time_to_live_and_index() {
    let emulator = Emulator::start(&[]);
    let paths = ["/tenantId", "/commitDate"].map(Into::into).to_vec();
    make_container(&emulator, PartitionKeyDefinition::new(paths)).await;
    let store = emulator.store();
    assert_eq!(faults(&store.check().await), ["time to live", "index"]);
    assert_eq!(faults(&store.init().await.unwrap()), [""; 0]);
    assert_eq!(faults(&store.check().await), [""; 0]);
    let ttl = store.check().await.into_iter().find(|item| item.name == "time to live").unwrap();
    assert_eq!(ttl.detail, "220924800 s by default");
}

#[tokio::test]
async fn without_a_key_init_explains_and_check_names_the_credential() {
    let emulator = Emulator::start(&[]);
    // No workload token can be had: the file is not there.
    let store = emulator.store_with(&[
        ("AZURE_CLIENT_ID", "11111111-1111-1111-1111-111111111111"),
        ("AZURE_TENANT_ID", "22222222-2222-2222-2222-222222222222"),
        ("AZURE_FEDERATED_TOKEN_FILE", "/nonexistent/token"),
    ]);
    let error = store.init().await.unwrap_err();
    assert_eq!(said(&error), (ErrorClass::Held, "access-denied"), "{error:?}");
    assert!(error.message.contains("/nonexistent/token"), "{error:?}");
    assert_eq!(errors(&store).await, [(ErrorClass::Held, "sign-in"); 5]);
    assert_eq!(faults(&store.check().await), ["credential"]);
}

#[tokio::test]
async fn an_unreachable_store_is_tried_again() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let store = emulator::store_at(&format!("http://127.0.0.1:{port}/"), &[("COSMOS_KEY", KEY)]);
    assert_eq!(errors(&store).await, [(ErrorClass::Again, "unreachable"); 5]);
    assert_eq!(faults(&store.check().await), ["endpoint"]);
}

#[tokio::test]
async fn a_store_that_went_away_comes_back() {
    let mut emulator = Emulator::start(&[]);
    let store = emulator.store();
    store.init().await.unwrap();
    let document = document("t", "2026-01-02T03:04:05Z", 1);
    store.create(&key(&document), &document).await.unwrap();

    emulator.stop();
    let error = store.read(&key(&document)).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Again, "{error:?}");

    // The emulator forgets: the container is missing now, and the same store makes it again.
    emulator.restart();
    let error = store.create(&key(&document), &document).await.unwrap_err();
    assert_eq!(said(&error), (ErrorClass::Held, "no-container"), "{error:?}");
    store.init().await.unwrap();
    store.create(&key(&document), &document).await.unwrap();
}

#[tokio::test]
async fn throttling_is_handed_back_with_the_time_to_wait() {
    // A quarter of 400 RU/s for one tenant and day: a dozen small records.
    let emulator = Emulator::start(&["--throughput", "400"]);
    let store = Arc::new(emulator.store());
    store.init().await.unwrap();
    let tasks: Vec<_> = (0..100)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let document = document("t", "2026-01-02T03:04:05Z", number);
                store.create(&key(&document), &document).await
            })
        })
        .collect();
    let mut throttled = Vec::new();
    for task in tasks {
        if let Err(error) = task.await.unwrap() {
            throttled.push(error);
        }
    }
    assert!(!throttled.is_empty(), "100 creates at once fit into 100 RU/s");
    for error in &throttled {
        assert_eq!(said(error), (ErrorClass::Again, "throttled"), "{error:?}");
        assert_eq!((error.status, error.sub_status), (Some(429), Some(3200)));
        let wait = error.retry_after.unwrap();
        assert!(!wait.is_zero() && wait.as_secs() <= 1, "{wait:?}");
    }
    // What was written is what was acknowledged: neither lost nor doubled.
    let stored = store.keys("t", None, None).await.unwrap().value.len();
    assert_eq!(stored, 100 - throttled.len());
}

#[tokio::test]
async fn the_emulator_takes_what_other_clients_send() {
    let emulator = Emulator::start(&[]);
    let mut stream = tokio::net::TcpStream::connect(&emulator.endpoint()["http://".len()..]).await.unwrap();
    let mut ask = async |request: &str| {
        stream.write_all(request.replace('\n', "\r\n").as_bytes()).await.unwrap();
        let (mut answer, mut buffer) = (String::new(), [0; 16 * 1024]);
        // Every answer here is JSON with a length, and all come over one connection.
        while !answer.ends_with('}') {
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "the connection ended after {answer:?}");
            answer.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
        answer
    };
    // The account names the address that clients are to use, and the host they asked for does not matter.
    let account = ask("GET / HTTP/1.1\nHost: localhost\n\n").await;
    assert!(
        account.contains(&format!("\"databaseAccountEndpoint\":\"{}/\"", emulator.endpoint())),
        "{account}"
    );
    let made = ask("POST /dbs/ HTTP/1.1\nHost: a\nContent-Length: 10\n\n{\"id\":\"d\"}").await;
    assert!(made.starts_with("HTTP/1.1 201"), "{made}");
    let chunked = "POST /dbs HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n4\n{\"id\n6\n\":\"d\"}\n0\n\n";
    assert!(ask(chunked).await.starts_with("HTTP/1.1 409"));
    assert!(ask("GET /dbs/d/ HTTP/1.1\nHost: a\n\n").await.starts_with("HTTP/1.1 200"));
    assert!(ask("BREW /dbs HTTP/1.1\nHost: a\n\n").await.starts_with("HTTP/1.1 405"));
    assert!(
        ask("POST /dbs HTTP/1.1\nHost: a\nContent-Length: 99999999\n\n").await.starts_with("HTTP/1.1 413")
    );
}

#[tokio::test]
async fn check_names_the_permission_that_is_missing() {
    for (denied, said) in [
        ("create", "may not create: "),
        ("create,replace", "may not create, replace: "),
        ("query", "may not query: "),
        ("read", "may not read: "),
        ("metadata", "readMetadata"),
    ] {
        let emulator = Emulator::start(&["--deny", denied]);
        let wanted = if denied == "metadata" {
            emulator.store().init().await.unwrap_err().kind == "access-denied"
        } else {
            emulator.store().init().await.is_ok()
        };
        assert!(wanted, "{denied}");
        let items = emulator.store().check().await;
        assert_eq!(faults(&items), ["role"], "{denied}: {items:?}");
        let item = items.into_iter().find(|item| !item.ok).unwrap();
        assert!(item.detail.contains(said), "{item:?}");
        let hint = item.hint.unwrap();
        assert!(hint.contains("the role \"gitops-agent writer\""), "{hint}");
        assert!(hint.contains("--principal-id 00000000-1111-2222-3333-444444444444 "), "{hint}");
        assert!(hint.contains("(it lacks Microsoft.DocumentDB/databaseAccounts/"), "{hint}");
    }
}

#[tokio::test]
async fn check_tries_and_writes_nothing() {
    let Fixture { store, _keep } = cosmos().await;
    let items = store.check().await;
    let names: Vec<&str> = items.iter().map(|item| item.name).collect();
    let all = [
        "endpoint",
        "clock",
        "credential",
        "database",
        "container",
        "partition key",
        "time to live",
        "index",
        "role",
    ];
    assert_eq!((names, faults(&items)), (all.to_vec(), vec![]));
    assert_eq!(items.last().unwrap().detail, "may create, read, replace and query");
    assert!(store.keys("_doctor", None, None).await.unwrap().value.is_empty());
}

#[tokio::test]
async fn check_tells_a_wrong_clock() {
    for (offset, said) in [("3600", "behind the account's"), ("-3600", "ahead of the account's")] {
        let emulator = Emulator::start(&["--clock-offset", offset]);
        emulator.store().init().await.unwrap();
        let items = emulator.store().check().await;
        assert_eq!(faults(&items), ["clock"], "{items:?}");
        let clock = items.into_iter().find(|item| item.name == "clock").unwrap();
        let seconds: i64 = clock.detail.split(' ').next().unwrap().parse().unwrap();
        assert!((3590..3610).contains(&seconds) && clock.detail.contains(said), "{clock:?}");
        assert!(clock.hint.unwrap().contains("time server"));
    }
    let emulator = Emulator::start(&["--clock-offset", "200"]);
    emulator.store().init().await.unwrap();
    assert_eq!(faults(&emulator.store().check().await), [""; 0], "tokens are forgiven that much");
}

/// A server that gives every request the same bytes.
async fn always(answer: String) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut request = [0; 16 * 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    endpoint
}

#[tokio::test]
async fn answers_that_are_not_http_are_tried_again() {
    let endpoint = always("220 mail.example.com ESMTP\r\n".to_owned()).await;
    let store = emulator::store_at(&endpoint, &[("COSMOS_KEY", KEY)]);
    for (class, kind) in errors(&store).await {
        assert_eq!(class, ErrorClass::Again, "{kind}");
    }
}

#[tokio::test]
async fn refusals_while_opening_are_told_apart() {
    use ErrorClass::{Again, Held};
    let firewall = "Request originated from IP 203.0.113.7 through public internet. This is blocked by your Cosmos DB account firewall settings.";
    let role = "Request blocked by Auth gitops : Request is blocked because principal [p] does not have required RBAC permissions to perform action [Microsoft.DocumentDB/databaseAccounts/readMetadata] on resource [/].";
    let cases = [
        (
            401,
            "",
            "The input authorization token can't serve the request.",
            Held,
            "unauthorized",
            "COSMOS_KEY",
        ),
        (401, "", "Local Authorization is disabled. Use an AAD token.", Held, "unauthorized", "Entra ID"),
        (403, "", firewall, Held, "access-denied", "--ip-range-filter"),
        (403, "5300", role, Held, "access-denied", "az cosmosdb sql role assignment create"),
        (
            403,
            "",
            "The authorization token is not valid at the current time.",
            Held,
            "access-denied",
            "clock",
        ),
        (429, "3200", "Request rate is large.", Again, "throttled", "throughput"),
        (500, "", "Unknown.", Again, "server-error", ""),
        (503, "", "The service is unavailable.", Again, "server-error", ""),
    ];
    for (status, sub_status, message, class, kind, advice) in cases {
        let body = format!(r#"{{"code":"X","message":"{message}"}}"#);
        let answer = format!(
            "HTTP/1.1 {status} X\r\nx-ms-substatus: {sub_status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        let store = emulator::store_at(&always(answer).await, &[("COSMOS_KEY", KEY)]);
        let document = document("t", "2026-01-02T03:04:05Z", 1);
        let error = store.create(&key(&document), &document).await.unwrap_err();
        assert_eq!(said(&error), (class, kind), "{error:?}");
        assert!(error.hint.clone().unwrap_or_default().contains(advice), "{error:?}");
        assert_eq!(error.status, Some(status), "{error:?}");
        let at_fault = match advice {
            "COSMOS_KEY" | "Entra ID" => "credential",
            "az cosmosdb sql role assignment create" => "role",
            "clock" => "clock",
            _ => "endpoint",
        };
        assert_eq!(faults(&store.check().await), [at_fault], "{error:?}");
    }
}

#[tokio::test]
async fn a_slow_store_is_slow_and_no_error() {
    let emulator = Emulator::start(&["--latency-ms", "150"]);
    let store: CosmosStore = emulator.store();
    store.init().await.unwrap();
    let document = document("t", "2026-01-02T03:04:05Z", 1);
    let created = store.create(&key(&document), &document).await.unwrap();
    assert!(created.cost.latency.as_millis() >= 150, "{:?}", created.cost);
}
