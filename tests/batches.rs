//! Whether transactional batches would pay: the same records into one partition (one tenant, one day), one by one
//! as the agent sends them, and a hundred at a time through the SDK; and what a batch does that meets a record which
//! is there already. `docs/decisions.md` has the figures and what follows from them.
//!
//! A measurement, so it runs only where it is asked for:
//! `cargo test --test batches -- --ignored --nocapture`.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

mod world;

use std::time::{Duration, Instant};

use azure_data_cosmos::clients::ContainerClient;
use azure_data_cosmos::{AccountReference, CosmosClient, PartitionKey, RoutingStrategy, TransactionalBatch};
use futures::StreamExt as _;
use gitops_agent::store::cosmos::CosmosStore;
use gitops_agent::store::{Key, Store as _};
use serde_json::Value;
use world::{EMULATOR_KEY, Emulator, World};

const RECORDS: usize = 1000;
/// The service's limit for a batch; its other one, 2 MB, is far away for records of some kilobytes.
const BATCH: usize = 100;
const DAY: &str = "2026-01-02";

/// Records as the agent makes them, all of one day.
fn records(tenant: &str) -> Vec<Value> {
    let world = World::new();
    world.history(40);
    let text = world.ok(&["backfill", "--dry-run", "--json"]);
    let made: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (0..RECORDS)
        .map(|number| {
            let mut record = made[number % made.len()].clone();
            record["id"] = format!("{number:040x}").into();
            record["tenantId"] = tenant.into();
            record["commitDate"] = DAY.into();
            record
        })
        .collect()
}

async fn container(emulator: &Emulator) -> ContainerClient {
    let endpoint = emulator.endpoint().parse().unwrap();
    let account = AccountReference::with_authentication_key(endpoint, EMULATOR_KEY.to_owned());
    let client = CosmosClient::builder().build(account, RoutingStrategy::PreferredRegions(Vec::new()));
    let database = client.await.unwrap().database_client("gitops".to_owned());
    database.container_client("commits".to_owned(), None).await.unwrap()
}

/// Request units of each record, and the time for all.
async fn one_by_one(store: &CosmosStore, records: &[Value], at_once: usize) -> (f64, Duration) {
    let start = Instant::now();
    let costs = futures::stream::iter(records).map(|record| async {
        let text = |name: &str| record[name].as_str().unwrap().to_owned();
        let key = Key { tenant: text("tenantId"), date: text("commitDate"), id: text("id") };
        store.create(&key, record).await.unwrap().cost.request_units
    });
    let units: f64 = costs.buffer_unordered(at_once).collect::<Vec<_>>().await.iter().sum();
    (units / records.len() as f64, start.elapsed())
}

/// The status of a batch, those of its operations, and its charge.
async fn batch(container: &ContainerClient, records: &[Value]) -> (u16, Vec<u16>, f64) {
    let tenant = records[0]["tenantId"].as_str().unwrap().to_owned();
    let batch = records
        .iter()
        .fold(TransactionalBatch::new(PartitionKey::from((tenant, DAY.to_owned()))), |batch, record| {
            batch.create_item(record).unwrap()
        });
    let response = container.execute_transactional_batch(batch, None).await.unwrap();
    let status = u16::from(response.status().status_code());
    let units = response.headers().request_charge().map_or(0.0, |charge| charge.value());
    let results = response.into_model().unwrap();
    (status, results.results().iter().map(|result| result.status_code()).collect(), units)
}

async fn in_batches(container: &ContainerClient, records: &[Value], at_once: usize) -> (f64, Duration) {
    let start = Instant::now();
    let batches = futures::stream::iter(records.chunks(BATCH)).map(|some| async {
        let (status, each, units) = batch(container, some).await;
        assert!(status == 200 && each.iter().all(|status| *status == 201), "{status}: {each:?}");
        units
    });
    let units: f64 = batches.buffer_unordered(at_once).collect::<Vec<_>>().await.iter().sum();
    (units / records.len() as f64, start.elapsed())
}

#[tokio::test]
#[ignore = "a measurement of a minute"]
async fn batches_and_single_creates_side_by_side() {
    println!("{:>10} {:>28} {:>11} {:>19}", "round trip", "way", "RU a record", "seconds for 1000");
    for latency in [0, 20, 80] {
        let emulator = Emulator::start(&["--latency-ms", &latency.to_string()]);
        let store = emulator.store();
        store.init().await.unwrap();
        let container = container(&emulator).await;
        let row = |way: String, (units, time): (f64, Duration)| {
            println!("{latency:>7} ms {way:>28} {units:>11.2} {:>19.2}", time.as_secs_f64());
        };
        for at_once in [16, 64] {
            let records = records(&format!("single-{at_once}"));
            row(format!("single creates, {at_once} at once"), one_by_one(&store, &records, at_once).await);
        }
        for at_once in [1, 4] {
            let records = records(&format!("batch-{at_once}"));
            row(
                format!("batches of {BATCH}, {at_once} at once"),
                in_batches(&container, &records, at_once).await,
            );
        }
    }
}

#[tokio::test]
#[ignore = "belongs to the measurement"]
async fn one_record_that_is_there_fails_its_whole_batch() {
    let emulator = Emulator::start(&[]);
    let store = emulator.store();
    store.init().await.unwrap();
    let container = container(&emulator).await;
    let records = records("t");
    one_by_one(&store, &records[57..58], 1).await;
    let (status, each, units) = batch(&container, &records[..BATCH]).await;
    println!("one of {BATCH} is there: status {status}, {units:.2} RU, each {each:?}");
    assert_eq!(each.iter().filter(|status| **status == 409).count(), 1);
    assert_eq!(each.iter().filter(|status| **status == 424).count(), BATCH - 1);
    assert_eq!(store.keys("t", None, None).await.unwrap().value.len(), 1);
}
