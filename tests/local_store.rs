//! The local store: the answers and the order that Cosmos DB would give.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use gitops_agent::store::local::LocalStore;
use gitops_agent::store::{Charged, ErrorClass, Key, Query, Store, StoreError};
use serde_json::{Value, json};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn id(n: usize) -> String {
    format!("{n:040x}")
}

fn date(n: usize) -> String {
    format!("2023-11-{:02}", n % 28 + 1)
}

fn record(n: usize, version: &str) -> Value {
    json!({"id": id(n), "tenantId": "t", "commitDate": date(n), "timestamp": format!("{}T00:00:00Z", date(n)),
        "agentVersion": version, "digest": "d", "riskScore": 0.5, "compliance": ["HIPAA"], "ttl": 220_924_800})
}

#[test]
fn the_local_store_answers_as_cosmos_does() {
    let home = tempfile::tempdir().unwrap();
    let store = LocalStore::open(home.path()).unwrap();
    let key = |n: usize| Key { tenant: "t".to_owned(), date: date(n), id: id(n) };
    let conflict = |result: Result<Charged<()>, StoreError>| result.unwrap_err().class;
    block_on(async {
        for n in 0..6 {
            let mut document = record(n, "1.0.0");
            document["riskScore"] = json!(n as f64 / 10.0);
            document["compliance"] = if n % 2 == 0 { json!(["FDA", "HIPAA"]) } else { json!(["HIPAA"]) };
            store.create(&key(n), &document).await.unwrap();
        }
        assert_eq!(conflict(store.create(&key(0), &json!({})).await), ErrorClass::Exists);
        let answers = store.create_many(&[(key(0), json!({})), (key(9), record(9, "1.0.0"))]).await;
        assert_eq!(answers[0].as_ref().unwrap_err().class, ErrorClass::Exists);
        assert!(answers[1].is_ok());
        assert_eq!(conflict(store.replace(&key(0), &json!({}), "7").await), ErrorClass::Changed);
        assert_eq!(conflict(store.replace(&key(99), &json!({}), "1").await), ErrorClass::Changed);
        assert!(store.read(&key(99)).await.unwrap().value.is_none());
        assert_eq!(store.read(&key(1)).await.unwrap().value.unwrap().document["ttl"], 220_924_800);
    });
    let ids = |query: Query| {
        let mut found = Vec::new();
        block_on(store.query(&query, &mut |document| {
            found.push(usize::from_str_radix(document["id"].as_str().unwrap(), 16).unwrap());
            true
        }))
        .unwrap();
        found
    };
    let all = || Query { tenant: "t".to_owned(), ..Query::default() };
    assert_eq!(ids(all()), [9, 5, 4, 3, 2, 1, 0]);
    assert_eq!(ids(Query { limit: Some(2), ..all() }), [9, 5]);
    assert_eq!(ids(Query { tenant: "u".to_owned(), ..all() }), [0_usize; 0]);
    assert_eq!(ids(Query { since: Some(date(1)), until: Some(date(3)), ..all() }), [3, 2, 1]);
    assert_eq!(ids(Query { min_risk: Some(0.5), ..all() }), [9, 5]);
    assert_eq!(ids(Query { tags: vec!["HIPAA".to_owned(), "FDA".to_owned()], ..all() }), [4, 2, 0]);
    assert_eq!(ids(Query { commit: Some(id(3).to_uppercase()), ..all() }), [3]);
    assert_eq!(ids(Query { commit: Some("0000".to_owned()), limit: Some(1), ..all() }), [9]);
    for bad in ["000", "00%0", "' OR 1=1", ""] {
        let query = Query { commit: Some(bad.to_owned()), ..all() };
        let refused = block_on(store.query(&query, &mut |_| true)).unwrap_err();
        assert_eq!(refused.class, ErrorClass::Refused, "{bad}");
    }
    assert_eq!(block_on(store.keys("t", Some(&date(5)), None)).unwrap().value.len(), 2);
    assert!(block_on(store.check()).iter().all(|item| item.ok));
}

#[test]
fn a_store_of_before_changes_were_counted_keeps_its_documents() {
    let home = tempfile::tempdir().unwrap();
    let file = rusqlite::Connection::open(home.path().join("store.db")).unwrap();
    file.execute_batch(
        "CREATE TABLE documents (
             document INTEGER PRIMARY KEY, tenant TEXT NOT NULL, date TEXT NOT NULL, id TEXT NOT NULL,
             version INTEGER NOT NULL, timestamp TEXT NOT NULL, risk REAL NOT NULL, digest TEXT NOT NULL,
             compliance TEXT NOT NULL, ttl INTEGER, body TEXT NOT NULL) STRICT;
         CREATE UNIQUE INDEX documents_key ON documents (tenant, date, id);
         CREATE INDEX documents_newest ON documents (tenant, date DESC, timestamp DESC, id);
         CREATE INDEX documents_commit ON documents (tenant, id);
         CREATE INDEX documents_risk ON documents (tenant, risk);
         PRAGMA user_version = 1;",
    )
    .unwrap();
    for n in [7, 3, 5] {
        let document = record(n, "1.0.0");
        file.execute(
            "INSERT INTO documents (tenant, date, id, version, timestamp, risk, digest, compliance, ttl, body)
             VALUES ('t', ?1, ?2, 1, ?3, 0.5, 'd', '[\"HIPAA\"]', 220924800, ?4)",
            [date(n), id(n), format!("{}T00:00:00Z", date(n)), document.to_string()],
        )
        .unwrap();
    }
    drop(file);
    let store = LocalStore::open(home.path()).unwrap();
    block_on(async {
        let all = |page: gitops_agent::store::Page| {
            let id = |document: &Value| usize::from_str_radix(document["id"].as_str().unwrap(), 16).unwrap();
            page.documents.iter().map(id).collect::<Vec<_>>()
        };
        let mut changes = store.changes("t", None).await.unwrap();
        assert_eq!(all(changes.next().await.unwrap().value), [7, 3, 5], "as they were written");
        let key = Key { tenant: "t".to_owned(), date: date(3), id: id(3) };
        let mut document = record(3, "2.0.0");
        document["riskScore"] = json!(0.75);
        store.replace(&key, &document, "1").await.unwrap();
        let page = changes.next().await.unwrap().value;
        assert_eq!(page.documents, [document], "whole, and not taken for one that was tampered with");
        assert!(page.caught_up);
    });
    assert_eq!(block_on(store.keys("t", None, None)).unwrap().value.len(), 3);
}
