//! What every store does. Each function gets a store that is ready and empty.

use futures::future::join_all;
use gitops_agent::store::{Changes, ErrorClass, FOREIGN_CURSOR, Key, Query, Store, StoredKey};
use serde_json::{Value, json};

/// A record of the field's model with the properties that stores look at. `time` is RFC 3339 in UTC.
pub(crate) fn document(tenant: &str, time: &str, number: u32) -> Value {
    let id = format!("{number:08x}{}", "0".repeat(32));
    json!({
        "id": id, "commitHash": id, "tenantId": tenant, "commitDate": &time[..10], "timestamp": time,
        "message": "Change audit logging", "riskScore": 0.25, "riskLevel": "low", "compliance": [],
        "filesChanged": [{"path": "src/a.rs", "status": "M", "insertions": 3, "deletions": 1}],
        "digest": format!("{number:064x}"), "schemaVersion": 1, "ttl": 220_924_800,
    })
}

pub(crate) fn key(document: &Value) -> Key {
    let text = |name: &str| document[name].as_str().unwrap().to_owned();
    Key { tenant: text("tenantId"), date: text("commitDate"), id: text("id") }
}

async fn put(store: &dyn Store, document: &Value) {
    store.create(&key(document), document).await.unwrap();
}

async fn ids(store: &dyn Store, query: &Query) -> Vec<String> {
    let mut ids = Vec::new();
    let mut sink = |document: Value| {
        // One number is enough to tell the suite's documents apart.
        ids.push(document["id"].as_str().unwrap()[..8].trim_start_matches('0').to_owned());
        true
    };
    store.query(query, &mut sink).await.unwrap();
    ids
}

fn of(tenant: &str) -> Query {
    Query { tenant: tenant.to_owned(), ..Query::default() }
}

pub(crate) async fn create_is_once(store: &dyn Store) {
    let first = document("t", "2026-01-02T03:04:05Z", 1);
    put(store, &first).await;
    let mut second = first.clone();
    second["message"] = json!("another");
    let error = store.create(&key(&second), &second).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Exists);
    let stored = store.read(&key(&first)).await.unwrap().value.unwrap();
    assert_eq!(stored.document, first);
}

pub(crate) async fn one_of_many_at_once_creates(store: &dyn Store) {
    let document = document("t", "2026-01-02T03:04:05Z", 1);
    let key = key(&document);
    let outcomes = join_all((0..16).map(|_| store.create(&key, &document))).await;
    let (made, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 1);
    for outcome in refused {
        assert_eq!(outcome.unwrap_err().class, ErrorClass::Exists);
    }
}

pub(crate) async fn read_finds_what_was_written(store: &dyn Store) {
    let document = document("t", "2026-01-02T03:04:05Z", 1);
    put(store, &document).await;
    let found = store.read(&key(&document)).await.unwrap().value.unwrap();
    assert_eq!(found.document, document, "nothing added, nothing lost, time to live included");
    assert!(!found.etag.is_empty());

    // Each part of the key counts.
    for other in [
        Key { tenant: "u".to_owned(), ..key(&document) },
        Key { date: "2026-01-03".to_owned(), ..key(&document) },
        Key { id: "f".repeat(40), ..key(&document) },
    ] {
        assert!(store.read(&other).await.unwrap().value.is_none(), "{other:?}");
    }
}

pub(crate) async fn replace_needs_the_version(store: &dyn Store) {
    let mut document = document("t", "2026-01-02T03:04:05Z", 1);
    let key = key(&document);
    put(store, &document).await;
    let first = store.read(&key).await.unwrap().value.unwrap().etag;

    document["supersedes"] = json!(["a".repeat(40)]);
    store.replace(&key, &document, &first).await.unwrap();
    let stored = store.read(&key).await.unwrap().value.unwrap();
    assert_eq!(stored.document, document);
    assert_ne!(stored.etag, first);

    // The version of before is stale, and nothing is written under it.
    let mut stale = document.clone();
    stale["message"] = json!("stale");
    let error = store.replace(&key, &stale, &first).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Changed);
    assert_eq!(store.read(&key).await.unwrap().value.unwrap().document, document);

    // What is not there cannot still have a version.
    let absent = self::document("t", "2026-01-02T03:04:05Z", 2);
    let error = store.replace(&self::key(&absent), &absent, &first).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Changed);
    assert!(store.read(&self::key(&absent)).await.unwrap().value.is_none());
}

/// Six records over five days: number, time, risk, tags.
async fn populate(store: &dyn Store) {
    let records: [(u32, &str, f64, &[&str]); 6] = [
        (1, "2025-12-31T23:59:59Z", 0.1, &[]),
        (2, "2026-01-01T00:00:00Z", 0.5, &["HIPAA"]),
        (3, "2026-01-01T00:00:00Z", 0.9, &["FDA", "HIPAA"]),
        (4, "2026-01-01T12:00:00Z", 0.499, &["FDA"]),
        (5, "2026-01-15T08:00:00Z", 1.0, &["GxP"]),
        (6, "2026-02-01T08:00:00Z", 0.0, &["HIPAA-like"]),
    ];
    for (number, time, risk, tags) in records {
        let mut document = document("t", time, number);
        document["riskScore"] = json!(risk);
        document["compliance"] = json!(tags);
        put(store, &document).await;
    }
    // Neighbours that must never turn up.
    put(store, &document("tt", "2026-01-01T00:00:00Z", 7)).await;
    put(store, &document("T", "2026-01-01T00:00:00Z", 8)).await;
}

pub(crate) async fn queries_filter(store: &dyn Store) {
    populate(store).await;
    let days = |since: &str, until: &str| Query {
        since: (!since.is_empty()).then(|| since.to_owned()),
        until: (!until.is_empty()).then(|| until.to_owned()),
        ..of("t")
    };
    let tags = |tags: &[&str]| Query { tags: tags.iter().map(|&tag| tag.to_owned()).collect(), ..of("t") };
    let risk = |least: f64| Query { min_risk: Some(least), ..of("t") };
    let commit = |id: &str| Query { commit: Some(id.to_owned()), ..of("t") };
    let cases: Vec<(Query, &[&str])> = vec![
        (of("t"), &["6", "5", "4", "2", "3", "1"]),
        (of("nobody"), &[]),
        (days("2026-01-01", ""), &["6", "5", "4", "2", "3"]),
        (days("", "2026-01-01"), &["4", "2", "3", "1"]),
        (days("2026-01-01", "2026-01-15"), &["5", "4", "2", "3"]),
        (days("2026-01-01", "2026-01-01"), &["4", "2", "3"]),
        (days("2026-01-02", "2026-01-14"), &[]),
        (days("2026-02-01", "2026-01-01"), &[]),
        (risk(0.5), &["5", "2", "3"]),
        (risk(1.0), &["5"]),
        (risk(0.0), &["6", "5", "4", "2", "3", "1"]),
        (tags(&["HIPAA"]), &["2", "3"]),
        (tags(&["HIPAA", "FDA"]), &["3"]),
        (tags(&["hipaa"]), &[]),
        (commit(&format!("00000004{}", "0".repeat(32))), &["4"]),
        (commit("00000005"), &["5"]),
        (commit("0000"), &["6", "5", "4", "2", "3", "1"]),
        (commit("ffff"), &[]),
        (
            Query { min_risk: Some(0.5), tags: vec!["HIPAA".to_owned()], ..days("2026-01-01", "2026-01-01") },
            &["2", "3"],
        ),
    ];
    for (query, expected) in cases {
        assert_eq!(ids(store, &query).await, expected, "{query:?}");
    }
}

pub(crate) async fn queries_look_into_documents(store: &dyn Store) {
    let finding = |rule: &str, citations: &[&str]| json!({"rule": rule, "citations": citations, "path": "x"});
    let records = [
        // number, day, level, author, findings, path, old path
        (
            1,
            1,
            "low",
            json!({"name": "Ada Author", "email": "Ada@Example.com"}),
            json!([]),
            "src/auth/a.rs",
            None,
        ),
        (
            2,
            2,
            "high",
            json!({"name": "Bob", "email": "bob@example.com"}),
            json!([
                finding("hipaa.audit", &["45 CFR 164.312(b)"]),
                finding("hipaa.audit", &["45 CFR 164.312(b)"])
            ]),
            "src/auth.rs",
            Some("src/auth/b.rs"),
        ),
        (
            3,
            9,
            "high",
            json!({"hash": "ab12"}),
            json!([finding("fda.part11", &["21 CFR 11.10(e)", "45 CFR 164.31"])]),
            "docs/auth/x.md",
            None,
        ),
        (
            4,
            9,
            "medium",
            json!({"name": "Größe", "email": "g@example.com"}),
            json!(null),
            "src/auth/%.rs",
            None,
        ),
    ];
    for (number, day, level, author, findings, path, old_path) in records {
        let mut document = document("t", &format!("2026-01-{day:02}T00:00:00Z"), number);
        document["riskLevel"] = json!(level);
        document["author"] = author;
        document["findings"] = findings;
        document["filesChanged"] = json!([{"path": "Cargo.toml"}, {"path": path, "oldPath": old_path}]);
        put(store, &document).await;
        let mut foreign = document.clone();
        foreign["tenantId"] = json!("u");
        put(store, &foreign).await;
    }
    let text = |text: &str| Some(text.to_owned());
    let authors =
        |all: &[&str]| Query { authors: all.iter().map(|&one| one.to_owned()).collect(), ..of("t") };
    let cases: Vec<(Query, &[&str])> = vec![
        (Query { level: text("high"), ..of("t") }, &["3", "2"]),
        (Query { level: text("HIGH"), ..of("t") }, &[]),
        (Query { rule: text("hipaa.audit"), ..of("t") }, &["2"]),
        (Query { rule: text("hipaa"), ..of("t") }, &[]),
        (Query { citation: text("45 CFR 164.312"), ..of("t") }, &["2"]),
        (Query { citation: text("45 CFR 164.312(b)"), ..of("t") }, &["2"]),
        (Query { citation: text("45 CFR 164.31"), ..of("t") }, &["3"]),
        (Query { citation: text("45 CFR 164"), ..of("t") }, &["3", "2"]),
        (Query { citation: text("21 CFR 11"), ..of("t") }, &["3"]),
        (Query { citation: text("164.312"), ..of("t") }, &[]),
        (Query { path: text("src/auth/"), ..of("t") }, &["4", "2", "1"]),
        (Query { path: text("src/auth"), ..of("t") }, &[]),
        (Query { path: text("src/auth.rs"), ..of("t") }, &["2"]),
        (Query { path: text("src/auth/b.rs"), ..of("t") }, &["2"]),
        (Query { path: text("src/%"), ..of("t") }, &[]),
        (Query { path: text("Cargo.toml"), limit: Some(3), ..of("t") }, &["3", "4", "2"]),
        (authors(&["ada@example.COM"]), &["1"]),
        (authors(&["bob"]), &["2"]),
        (authors(&["nobody", "AB12"]), &["3"]),
        (authors(&["GRÖSSE", "größe"]), &["4"]),
        (authors(&["example.com"]), &[]),
        (Query { level: text("high"), path: text("docs/auth/"), ..authors(&["ab12", "bob"]) }, &["3"]),
        (
            Query { since: text("2026-01-02"), until: text("2026-01-08"), level: text("high"), ..of("t") },
            &["2"],
        ),
    ];
    for (query, expected) in cases {
        assert_eq!(ids(store, &query).await, expected, "{query:?}");
    }
}

/// However long the range is, and with or without the day of a commit, the answer is the same.
pub(crate) async fn ranges_of_any_length_agree(store: &dyn Store) {
    // Two a day over twelve days and the turn of a year, one of them at the end of the day.
    let mut all = Vec::new();
    let mut day: jiff::civil::Date = "2025-12-26".parse().unwrap();
    for number in 1..=12 {
        for (time, number) in [("00:00:00", number), ("23:59:59", 100 + number)] {
            let document = document("t", &format!("{day}T{time}Z"), number);
            put(store, &document).await;
            all.push(document);
        }
        day = day.tomorrow().unwrap();
    }
    all.reverse();
    for length in 1..=12_i32 {
        for first in 0..=(12 - length) {
            let start: jiff::civil::Date = "2025-12-26".parse().unwrap();
            let days = |days: i32| jiff::Span::new().days(days);
            let since = start.checked_add(days(first)).unwrap().to_string();
            let until = start.checked_add(days(first + length - 1)).unwrap().to_string();
            let inside = |document: &&Value| {
                let date = document["commitDate"].as_str().unwrap();
                (since.as_str()..=until.as_str()).contains(&date)
            };
            let expected: Vec<&Value> = all.iter().filter(inside).collect();
            for limit in [None, Some(3)] {
                let query =
                    Query { since: Some(since.clone()), until: Some(until.clone()), limit, ..of("t") };
                let mut found = Vec::new();
                let mut sink = |document: Value| {
                    found.push(document);
                    true
                };
                store.query(&query, &mut sink).await.unwrap();
                let expected = &expected[..limit.unwrap_or(usize::MAX).min(expected.len())];
                assert!(found.iter().eq(expected.iter().copied()), "{query:?}");
            }
        }
    }
    // One commit: whole and begun, with its day, with another's, and with filters that it has and has not.
    let one = &all[3];
    let (id, date) = (one["id"].as_str().unwrap(), one["commitDate"].as_str().unwrap());
    let on = |date: &str, commit: &str| Query {
        since: Some(date.to_owned()),
        until: Some(date.to_owned()),
        commit: Some(commit.to_owned()),
        ..of("t")
    };
    let number = id[..8].trim_start_matches('0');
    assert_eq!(ids(store, &on(date, id)).await, [number]);
    assert_eq!(ids(store, &on(date, &id[..9])).await, [number]);
    assert_eq!(ids(store, &on(date, &id.to_uppercase())).await, [number]);
    assert_eq!(ids(store, &on("2025-12-26", id)).await, [""; 0]);
    assert_eq!(ids(store, &Query { tenant: "u".to_owned(), ..on(date, id) }).await, [""; 0]);
    assert_eq!(ids(store, &Query { level: Some("high".to_owned()), ..on(date, id) }).await, [""; 0]);
    assert_eq!(ids(store, &Query { min_risk: Some(0.9), ..on(date, id) }).await, [""; 0]);
    assert_eq!(ids(store, &Query { limit: Some(0), ..on(date, id) }).await, [""; 0]);
}

pub(crate) async fn queries_are_ordered_and_limited(store: &dyn Store) {
    populate(store).await;
    let all = ["6", "5", "4", "2", "3", "1"];
    for limit in 0..8 {
        let query = Query { limit: Some(limit), ..of("t") };
        assert_eq!(ids(store, &query).await, all[..limit.min(6)], "limit {limit}");
    }
    // More than a page, over many partitions, with ties.
    let documents: Vec<_> = (1000..1400)
        .map(|number| {
            document("many", &format!("2026-03-{:02}T00:00:{:02}Z", number % 28 + 1, number % 7), number)
        })
        .collect();
    for chunk in documents.chunks(50) {
        join_all(chunk.iter().map(|document| put(store, document))).await;
    }
    let mut expected = documents;
    expected.sort_by(|a, b| {
        let key =
            |d: &Value| (d["timestamp"].as_str().unwrap().to_owned(), d["id"].as_str().unwrap().to_owned());
        let ((a_time, a_id), (b_time, b_id)) = (key(a), key(b));
        b_time.cmp(&a_time).then(a_id.cmp(&b_id))
    });
    for limit in [None, Some(399), Some(150), Some(7)] {
        let mut found = Vec::new();
        let mut sink = |document: Value| {
            found.push(document);
            true
        };
        store.query(&Query { limit, ..of("many") }, &mut sink).await.unwrap();
        assert!(found == expected[..limit.unwrap_or(400)], "limit {limit:?}: {} found", found.len());
    }
}

pub(crate) async fn queries_stop_when_told(store: &dyn Store) {
    populate(store).await;
    for stop_after in 1..=6 {
        let mut seen = 0;
        let mut sink = |_| {
            seen += 1;
            seen < stop_after
        };
        store.query(&of("t"), &mut sink).await.unwrap();
        assert_eq!(seen, stop_after);
    }
}

pub(crate) async fn a_bad_commit_prefix_is_refused(store: &dyn Store) {
    for bad in ["", "abc", "main", "' OR 1=1", "%%%%"] {
        let query = Query { commit: Some(bad.to_owned()), ..of("t") };
        let error = store.query(&query, &mut |_| true).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Refused, "{bad:?}");
    }
}

pub(crate) async fn keys_list_ids_and_digests(store: &dyn Store) {
    populate(store).await;
    let numbers = |keys: Vec<StoredKey>| {
        for key in &keys {
            assert_eq!(key.digest, format!("{:0>64}", key.id[..8].trim_start_matches('0')), "{key:?}");
        }
        keys.into_iter().map(|key| format!("{} {}", key.date, &key.id[7..8])).collect::<Vec<_>>()
    };
    let all = store.keys("t", None, None).await.unwrap().value;
    let all = {
        let mut all = numbers(all);
        all.sort();
        all
    };
    assert_eq!(
        all,
        ["2025-12-31 1", "2026-01-01 2", "2026-01-01 3", "2026-01-01 4", "2026-01-15 5", "2026-02-01 6"]
    );
    let some = store.keys("t", Some("2026-01-02"), Some("2026-01-31")).await.unwrap().value;
    assert_eq!(numbers(some), ["2026-01-15 5"]);
    assert!(store.keys("nobody", None, None).await.unwrap().value.is_empty());
}

pub(crate) async fn tenants_are_apart(store: &dyn Store) {
    let tenants = [
        "acme",
        "acme2",
        "ACME",
        "ac",
        "' OR 1=1 --",
        "\" OR \"\"=\"",
        "acme' OR c.tenantId = 'acme2",
        "acme%",
        "ac_e",
        "*",
        "[\"acme\"]",
        "ácme",
    ];
    for (number, tenant) in (1..).zip(tenants) {
        put(store, &document(tenant, "2026-01-02T03:04:05Z", number)).await;
    }
    for (number, tenant) in (1..).zip(tenants) {
        let own = vec![format!("{number:x}")];
        for query in [
            of(tenant),
            Query {
                since: Some("2026-01-02".to_owned()),
                until: Some("2026-01-02".to_owned()),
                ..of(tenant)
            },
            Query { since: Some("2000-01-01".to_owned()), ..of(tenant) },
            Query { commit: Some("0000".to_owned()), ..of(tenant) },
        ] {
            assert_eq!(ids(store, &query).await, own, "{query:?}");
        }
        assert_eq!(store.keys(tenant, None, None).await.unwrap().value.len(), 1, "{tenant}");
    }
    // Values that try to widen a query widen nothing.
    let hostile = "2026-01-02' OR c.tenantId != 'acme";
    for query in [
        Query { since: Some(hostile.to_owned()), ..of("acme") },
        Query { tags: vec!["') OR (1=1".to_owned()], ..of("acme") },
        Query { level: Some("' OR true --".to_owned()), ..of("acme") },
        Query { rule: Some("' OR true --".to_owned()), ..of("acme") },
        Query { citation: Some("' OR true --".to_owned()), ..of("acme") },
        Query { path: Some("' OR true --/".to_owned()), ..of("acme") },
        Query { authors: vec!["' OR true --".to_owned()], ..of("acme") },
    ] {
        assert_eq!(ids(store, &query).await, [""; 0], "{query:?}");
    }
    assert_eq!(ids(store, &Query { until: Some(hostile.to_owned()), ..of("acme") }).await, ["1"]);
}

pub(crate) async fn large_and_unusual_documents_survive(store: &dyn Store) {
    let mut large = document("t", "2026-01-02T03:04:05Z", 1);
    large["filesChanged"] = (0..500)
        .map(|number| json!({"path": format!("src/{}/{number}.rs", "x".repeat(330)), "status": "M", "insertions": number}))
        .collect();
    assert!(large.to_string().len() > 180 * 1024 && large.to_string().len() < 256 * 1024);
    let mut unusual = document("t", "2026-01-02T03:04:05Z", 2);
    unusual["message"] = json!("Größe ≠ 大きさ 👩‍⚕️ \u{0} \u{1f} \u{2028} \"quoted\" \\ back\r\n\ttab");
    unusual["nothing"] = json!(null);
    unusual["numbers"] =
        json!([0, -1, 1.5, 0.123, 1e-9, 9_007_199_254_740_991_i64, -9_007_199_254_740_991_i64]);
    unusual["nested"] = json!({"": {"a.b": [[], {}, [[true, false]]]}, "$ref": "x", "ключ": "значение"});
    for document in [large, unusual] {
        put(store, &document).await;
        assert_eq!(store.read(&key(&document)).await.unwrap().value.unwrap().document, document);
        let query = Query { commit: Some(document["id"].as_str().unwrap().to_owned()), ..of("t") };
        let mut found = Vec::new();
        let mut sink = |document: Value| {
            found.push(document);
            true
        };
        store.query(&query, &mut sink).await.unwrap();
        assert_eq!(found, [document]);
    }
}

/// Cosmos DB has one kind of number, so a store promises the value of `1.0` and not its form.
pub(crate) async fn whole_numbers_keep_their_value(store: &dyn Store) {
    let mut document = document("t", "2026-01-02T03:04:05Z", 1);
    document["riskScore"] = json!(1.0);
    put(store, &document).await;
    let stored = store.read(&key(&document)).await.unwrap().value.unwrap().document;
    assert_eq!(stored["riskScore"].as_f64(), Some(1.0));
    assert_eq!(ids(store, &Query { min_risk: Some(1.0), ..of("t") }).await, ["1"]);
}

pub(crate) async fn init_repeats_and_check_agrees(store: &dyn Store) {
    populate(store).await;
    for _ in 0..2 {
        let items = store.init().await.unwrap();
        assert!(!items.is_empty() && items.iter().all(|item| item.ok), "{items:?}");
    }
    let items = store.check().await;
    assert!(!items.is_empty() && items.iter().all(|item| item.ok), "{items:?}");
    assert_eq!(ids(store, &of("t")).await.len(), 6, "what was there is still there");
}

/// What has changed until nothing is left, by number and message, and the cursor behind it.
async fn changed(changes: &mut dyn Changes) -> (Vec<String>, String) {
    let mut seen = Vec::new();
    loop {
        let page = changes.next().await.unwrap().value;
        for document in &page.documents {
            assert!(document["_etag"].is_null() && document["_ts"].is_null(), "{document}");
            let number = document["id"].as_str().unwrap()[..8].trim_start_matches('0');
            seen.push(format!("{number} {}", document["message"].as_str().unwrap()));
        }
        if page.caught_up {
            seen.sort();
            return (seen, page.cursor);
        }
    }
}

async fn rewrite(store: &dyn Store, document: &Value, message: &str) {
    let mut document = document.clone();
    document["message"] = json!(message);
    let etag = store.read(&key(&document)).await.unwrap().value.unwrap().etag;
    store.replace(&key(&document), &document, &etag).await.unwrap();
}

pub(crate) async fn changes_go_on_where_they_were(store: &dyn Store) {
    let documents: Vec<Value> =
        (1..=5).map(|number| document("t", &format!("2026-01-0{number}T03:04:05Z"), number)).collect();
    for document in &documents[..3] {
        put(store, document).await;
    }
    put(store, &document("u", "2026-01-02T03:04:05Z", 9)).await;
    let mut changes = store.changes("t", None).await.unwrap();
    let change = "Change audit logging";
    let (seen, first) = changed(&mut *changes).await;
    assert_eq!(seen, [format!("1 {change}"), format!("2 {change}"), format!("3 {change}")]);
    assert_eq!(changed(&mut *changes).await.0, [""; 0], "nothing twice");

    // New ones and replaced ones, the latter in their last form; another tenant's are not among them.
    put(store, &documents[3]).await;
    rewrite(store, &documents[0], "once").await;
    rewrite(store, &documents[0], "twice").await;
    put(store, &document("u", "2026-01-02T03:04:05Z", 8)).await;
    let later = ["1 twice".to_owned(), format!("4 {change}")];
    let (seen, second) = changed(&mut *changes).await;
    assert_eq!(seen, later);
    // Another reader with the cursor of before, and one that begins anew.
    assert_eq!(changed(&mut *store.changes("t", Some(&first)).await.unwrap()).await.0, later);
    assert_eq!(changed(&mut *store.changes("t", Some(&second)).await.unwrap()).await.0, [""; 0]);
    let whole = changed(&mut *store.changes("t", None).await.unwrap()).await.0;
    assert_eq!(whole, ["1 twice", &format!("2 {change}"), &format!("3 {change}"), &format!("4 {change}")]);
    assert_eq!(changed(&mut *store.changes("nobody", None).await.unwrap()).await.0, [""; 0]);
}

pub(crate) async fn changes_are_read_in_pages(store: &dyn Store) {
    for number in 1..=300 {
        put(store, &document("t", &format!("2026-01-{:02}T03:04:05Z", number % 28 + 1), number)).await;
    }
    let mut changes = store.changes("t", None).await.unwrap();
    let first = changes.next().await.unwrap().value;
    assert!(!first.caught_up && first.documents.len() < 300);
    // Behind a page, in the middle of it all.
    let rest = changed(&mut *store.changes("t", Some(&first.cursor)).await.unwrap()).await.0;
    assert_eq!(first.documents.len() + rest.len(), 300);
    assert_eq!(changed(&mut *changes).await.0, rest);
}

pub(crate) async fn a_foreign_cursor_is_refused(store: &dyn Store) {
    put(store, &document("t", "2026-01-02T03:04:05Z", 1)).await;
    for cursor in ["", "7", "0123456789abcdef/7", "c1.e30", "c1.bm90aGluZw"] {
        let error = match store.changes("t", Some(cursor)).await {
            Ok(mut changes) => changes.next().await.err(),
            Err(error) => Some(error),
        };
        let error = error.unwrap_or_else(|| panic!("{cursor:?} was taken"));
        assert_eq!((error.class, error.kind), (ErrorClass::Refused, FOREIGN_CURSOR), "{cursor:?}: {error}");
    }
}
