//! The faults that the SDK injects into itself, below its own retries: what it makes of them must arrive here in the
//! contract's classes. `tests/hostile_store.rs` does the same from outside, over the wire.
//!
//! Compiled with the feature `fault_injection` alone:
//! `cargo test --lib --features fault_injection store::cosmos::faults`.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../../../tests/stores/emulator.rs"]
mod emulator;

use std::sync::Arc;

use azure_data_cosmos::CosmosClientBuilder;
use azure_data_cosmos::fault_injection::{
    FaultInjectionConditionBuilder, FaultInjectionErrorType, FaultInjectionResultBuilder, FaultInjectionRule,
    FaultInjectionRuleBuilder, FaultOperationType,
};
use serde_json::{Value, json};

use super::CosmosStore;
use crate::store::{ErrorClass, Key, Store as _, StoreError};
use emulator::{Emulator, KEY};

/// A store whose requests of one kind meet a fault while the rule is enabled.
async fn store(
    emulator: &Emulator,
    operation: FaultOperationType,
    fault: FaultInjectionErrorType,
) -> (CosmosStore, Arc<FaultInjectionRule>) {
    let result = FaultInjectionResultBuilder::new().with_error(fault).build();
    let condition = FaultInjectionConditionBuilder::new().with_operation_type(operation).build();
    let rule = Arc::new(FaultInjectionRuleBuilder::new("fault", result).with_condition(condition).build());
    let store = emulator.store();
    let builder = CosmosClientBuilder::new().with_fault_injection_rules(vec![Arc::clone(&rule)]).unwrap();
    let client = store.connect_with(builder).await;
    store.client.get(async { client.map_err(|failure| store.opened(failure)) }).await.unwrap();
    (store, rule)
}

fn document(number: usize) -> (Key, Value) {
    let key = Key { tenant: "t".to_owned(), date: "2026-01-02".to_owned(), id: format!("{number:040x}") };
    let document = json!({"id": key.id, "tenantId": key.tenant, "commitDate": key.date, "ttl": 600});
    (key, document)
}

fn said(error: &StoreError) -> (ErrorClass, &'static str) {
    assert!(!format!("{error:?}").contains(KEY), "{error:?}");
    (error.class, error.kind)
}

#[tokio::test]
async fn the_sdks_own_faults_end_in_the_contracts_classes() {
    use ErrorClass::{Again, Held};
    use FaultInjectionErrorType as Fault;
    let emulator = Emulator::start(&[]);
    emulator.store().init().await.unwrap();
    let table = [
        (Fault::InternalServerError, Again, "server-error"),
        (Fault::TooManyRequests, Again, "throttled"),
        (Fault::RetryWith, Again, "busy"),
        // After these the SDK gives up with a status of its own, and the store's is the reason of it.
        (Fault::ReadSessionNotAvailable, Again, "not-ready"),
        (Fault::WriteForbidden, Again, "failover"),
        (Fault::Timeout, Again, "timeout"),
        (Fault::ServiceUnavailable, Again, "server-error"),
        (Fault::PartitionIsGone, Again, "busy"),
        (Fault::DatabaseAccountNotFound, Held, "access-denied"),
        (Fault::ConnectionError, Again, "unreachable"),
        (Fault::ResponseTimeout, Again, "unreachable"),
    ];
    let cases = table.into_iter().enumerate().map(|(number, (fault, class, kind))| {
        let emulator = &emulator;
        async move {
            let (store, rule) = store(emulator, FaultOperationType::CreateItem, fault).await;
            let (key, document) = document(number);
            let error = store.create(&key, &document).await.unwrap_err();
            assert!(rule.hit_count() > 0, "{fault:?}");
            assert_eq!(said(&error), (class, kind), "{fault:?}: {error:?}");
            assert!(store.read(&key).await.unwrap().value.is_none(), "{fault:?}");
            rule.disable();
            store.create(&key, &document).await.unwrap();
        }
    });
    futures::future::join_all(cases).await;
}

#[tokio::test]
async fn a_reply_that_the_sdk_loses_after_the_write_is_found_written_once() {
    let emulator = Emulator::start(&[]);
    emulator.store().init().await.unwrap();
    let lost = FaultInjectionErrorType::ResponseTimeoutAfterService;
    let (key, document) = document(0);

    // The SDK repeats the create and hears that the document is there: which is its own.
    let (creating, rule) = store(&emulator, FaultOperationType::CreateItem, lost).await;
    let error = creating.create(&key, &document).await.unwrap_err();
    assert_eq!(said(&error), (ErrorClass::Exists, "exists"), "{error:?}");
    assert_eq!(rule.hit_count(), 1);
    let stored = creating.read(&key).await.unwrap().value.unwrap();
    assert_eq!(stored.document, document);

    // A replace that is repeated has changed the version it asks for.
    let (replacing, rule) = store(&emulator, FaultOperationType::ReplaceItem, lost).await;
    let mut later = document.clone();
    later["agentVersion"] = json!("2.0.0");
    let error = replacing.replace(&key, &later, &stored.etag).await.unwrap_err();
    assert_eq!(said(&error), (ErrorClass::Changed, "changed"), "{error:?}");
    assert_eq!(rule.hit_count(), 1);
    assert_eq!(replacing.read(&key).await.unwrap().value.unwrap().document, later);
}
