//! A store that misbehaves in every way that a network, a middleman or the service itself knows, between the real
//! agent and the real emulator. For each fault: the commit succeeds at once and says nothing; the record waits in the
//! state that the contract names, and `status` and `outbox` have the store's words without its secrets; once the fault
//! is over every commit is in the store exactly once, written once, however often it was sent.
//!
//! `cargo test --test hostile_store -- --nocapture --test-threads=1` prints the table of `docs/reliability.md`.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![expect(clippy::print_stdout, reason = "the table is what a full run is for")]

mod hostile;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use gitops_agent::outbox::{Outbox, Stats};
use gitops_agent::store::cosmos::CosmosStore;
use gitops_agent::store::{Key, Store as _};
use hostile::{Fault, Operation, Proxy, Reply};
use jiff::Timestamp;
use serde_json::Value;
use world::{Emulator, World, wait_for};

/// A commit that waited for the store would take seconds.
const AT_ONCE: Duration = Duration::from_secs(5);
/// How many cases run at once: they wait more than they work.
const AT_A_TIME: usize = 6;
/// As the service answers, with what must not be shown.
const WORDS: &str = "the hostile words, signed {signature}, AccountKey=C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw==;";

/// Where a record waits while the fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Again,
    Held,
    Refused,
    /// The agent, or the SDK below it, gets over it by itself.
    Delivered,
}

struct Case {
    name: &'static str,
    on: Operation,
    fault: Fault,
    state: State,
    /// The error's short name.
    kind: &'static str,
    /// The record is in the store already while it waits here.
    committed: bool,
    /// What `flush` says of the next step.
    hint: &'static str,
}

fn case(name: &'static str, on: Operation, fault: Fault, (state, kind): (State, &'static str)) -> Case {
    Case { name, on, fault, state, kind, committed: false, hint: "" }
}

/// An answer in the service's form to each create.
fn answer(name: &'static str, status: u16, sub_status: Option<u32>, expected: (State, &'static str)) -> Case {
    case(name, Operation::Create, Fault::Answer(Reply::json(status, sub_status, WORDS)), expected)
}

/// The document's version tag for each commit that the store has. An id that is there twice fails.
fn stored(store: &CosmosStore, tenant: &str) -> BTreeMap<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut tags = BTreeMap::new();
        for known in store.keys(tenant, None, None).await.unwrap().value {
            let key = Key { tenant: tenant.to_owned(), date: known.date, id: known.id };
            let document = store.read(&key).await.unwrap().value.unwrap();
            assert_eq!(document.document["id"], key.id.as_str());
            assert!(tags.insert(key.id, document.etag).is_none(), "twice");
        }
        tags
    })
}

fn stats(home: &Path) -> Stats {
    Outbox::open(home).unwrap().stats(Timestamp::now()).unwrap()
}

/// Commits as a GUI does; the commit's id.
fn commit(world: &World, number: usize) -> String {
    std::fs::write(world.repo().join("a.txt"), format!("{number}\n")).unwrap();
    world.git(&["add", "-A"]);
    let start = Instant::now();
    let output = world.git_command(&["commit", "-q", "-m", "Change"]).output().unwrap();
    let took = start.elapsed();
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    assert!(took < AT_ONCE, "the commit took {took:?}");
    world.git(&["rev-parse", "HEAD"])
}

/// Every text that the agent shows of its queue, and every file that it keeps.
fn shown(world: &World, id: &str) -> String {
    let mut all = String::new();
    for words in [
        &["status"][..],
        &["status", "--json"],
        &["outbox", "list"],
        &["outbox", "list", "--json"],
        &["outbox", "show", id],
        &["outbox", "export"],
    ] {
        let output = world.output(words);
        all.push_str(&String::from_utf8_lossy(&output.stdout));
        all.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    for file in std::fs::read_dir(world.home()).unwrap().flatten() {
        all.push_str(&String::from_utf8_lossy(&std::fs::read(file.path()).unwrap_or_default()));
    }
    all
}

/// The middle of an account key or a signature, whatever its beginning and its escapes became.
fn secrets(proxy: &Proxy) -> Vec<String> {
    let mut secrets = vec!["ob0N8A7Cgv30VRDJIWEHLM".to_owned()];
    for signature in
        proxy.signatures().iter().filter_map(|authorization| authorization.split("sig%3D").nth(1))
    {
        secrets.push(signature.split("%3D").next().unwrap().to_owned());
    }
    assert!(secrets.len() > 1, "no request was signed");
    secrets
}

struct Row {
    name: &'static str,
    on: Operation,
    state: State,
    kind: String,
    /// Requests of that kind that the fault met.
    hits: usize,
}

fn run(case: &Case, number: usize, emulator: &Emulator) -> Row {
    let (name, tenant) = (case.name, format!("tenant-{number}"));
    let proxy = Proxy::start(emulator.endpoint());
    let world = World::with_cosmos(proxy.endpoint(), &tenant);
    let store = emulator.store();
    if matches!(case.on, Operation::Read | Operation::Replace) {
        return run_known(case, &world, &proxy, &store, &tenant);
    }
    world.ok(&["install"]);
    let first = commit(&world, 0);
    wait_for(60, name, || stored(&store, &tenant).contains_key(&first).then_some(()));
    wait_for(60, name, || (stats(&world.home()).pending == 0).then_some(()));

    proxy.set(case.on, usize::MAX, case.fault.clone());
    let second = commit(&world, 1);
    let stats_then = wait_for(90, name, || {
        let stats = stats(&world.home());
        let waits = stats.destinations[0].last_error.is_some() || case.state == State::Delivered;
        let there = match case.state {
            State::Again => stats.pending == 1,
            State::Held => stats.held == 1,
            State::Refused => stats.refused == 1,
            // A hook spools, so the commit is no row before the worker has taken it in.
            State::Delivered => stats.pending == 0 && stored(&store, &tenant).contains_key(&second),
        };
        (waits && there).then_some(stats)
    });
    let kind = stats_then.destinations[0].last_error.as_ref().map(|error| error.kind.clone());
    let kind = kind.unwrap_or_default();
    assert_eq!(kind, case.kind, "{name}: {stats_then:?}");
    let status = world.json(&["status", "--json"]);
    let (says, text) = (&status["store"]["lastError"]["message"], shown(&world, &second));
    if let Fault::Answer(reply) | Fault::AnswerAfter(reply) = &case.fault
        && reply.body.contains("the hostile words")
        && case.state != State::Delivered
    {
        assert!(says.as_str().is_some_and(|says| says.contains("the hostile words")), "{name}: {status}");
        let list = world.json(&["outbox", "list", &second, "--json"]);
        let reason = list[0]["reason"].as_str();
        assert!(reason.is_some_and(|reason| reason.contains("the hostile words")), "{name}: {list}");
    }
    for secret in secrets(&proxy) {
        assert!(!text.contains(&secret), "{name}: {secret} is shown in {text}");
    }
    let tags = stored(&store, &tenant);
    assert_eq!(tags.contains_key(&second), case.committed || case.state == State::Delivered, "{name}");

    // A commit behind a fault that stands is as quick.
    let third = commit(&world, 2);
    let flush = world.output(&["flush", "--timeout", "60"]);
    let said = String::from_utf8_lossy(&flush.stdout);
    assert!(said.contains(case.hint), "{name}: {said}");
    let code = flush.status.code().unwrap();
    let expected = match case.state {
        State::Held => 4,
        State::Again | State::Refused => 3,
        State::Delivered => 0,
    };
    assert_eq!(code, expected, "{name}: flush");
    let hits = proxy.seen().iter().filter(|seen| seen.hit).count();
    assert!(hits > 0, "{name}: the fault did not take place");

    proxy.lift();
    world.ok(&["outbox", "retry"]);
    world.ok(&["flush", "--timeout", "60"]);
    let now = stored(&store, &tenant);
    assert_eq!(now.keys().collect::<Vec<_>>(), sorted([&first, &second, &third]), "{name}");
    for (id, tag) in &tags {
        assert_eq!(&now[id], tag, "{name}: {id} was written again, and its time to live restarted");
    }
    let answered = |operation, status| {
        let seen = proxy.seen();
        seen.iter().filter(|seen| seen.operation == operation && seen.answered == Some(status)).count()
    };
    assert_eq!((answered(Operation::Create, 201), answered(Operation::Replace, 200)), (3, 0), "{name}");
    let status: Value = world.json(&["status", "--json"]);
    let left = ["pending", "held", "refused"].map(|state| status["outbox"][state].as_u64().unwrap());
    assert_eq!(left, [0, 0, 0], "{name}: {status}");
    assert_eq!(status["store"]["circuit"], "closed", "{name}: {status}");
    Row { name, on: case.on, state: case.state, kind, hits }
}

/// The same for a commit that the store has already, which is read, and replaced where there is more to say of it:
/// here that a second repository has it too.
fn run_known(case: &Case, world: &World, proxy: &Proxy, store: &CosmosStore, tenant: &str) -> Row {
    let name = case.name;
    let id = world.commit("a.txt", "one\n", "One");
    world.ok(&["backfill"]);
    let before = stored(store, tenant);
    let other = world.root().join("other");
    world.git(&["clone", "-q", ".", other.to_str().unwrap()]);
    world.git(&[
        "-C",
        other.to_str().unwrap(),
        "remote",
        "set-url",
        "origin",
        "https://example.com/other.git",
    ]);
    world.ok(&["backfill", "--no-flush", "--repo", other.to_str().unwrap()]);

    proxy.set(case.on, usize::MAX, case.fault.clone());
    let code = world.output(&["flush", "--timeout", "60"]).status.code().unwrap();
    let stats = stats(&world.home());
    let kind = stats.destinations[0].last_error.as_ref().map(|error| error.kind.clone()).unwrap_or_default();
    assert_eq!(kind, case.kind, "{name}: {stats:?}");
    let expected = match case.state {
        State::Held => (4, 0, 1, 0),
        State::Again => (3, 1, 0, 0),
        State::Refused => (3, 0, 0, 1),
        State::Delivered => (0, 0, 0, 0),
    };
    assert_eq!((code, stats.pending, stats.held, stats.refused), expected, "{name}");
    let text = shown(world, &id);
    for secret in secrets(proxy) {
        assert!(!text.contains(&secret), "{name}: {secret} is shown in {text}");
    }
    let tags = stored(store, tenant);
    assert_eq!(tags != before, case.committed, "{name}");
    let hits = proxy.seen().iter().filter(|seen| seen.hit).count();
    assert!(hits > 0, "{name}: the fault did not take place");

    proxy.lift();
    world.ok(&["outbox", "retry"]);
    world.ok(&["flush", "--timeout", "60"]);
    let record = world.records().remove(0);
    assert_eq!(record["alsoIn"].as_array().map(Vec::len), Some(1), "{name}: {record}");
    if case.committed {
        assert_eq!(stored(store, tenant), tags, "{name}: written again, and its time to live restarted");
    }
    let written = |operation, status| {
        let seen = proxy.seen();
        seen.iter().filter(|seen| seen.operation == operation && seen.answered == Some(status)).count()
    };
    assert_eq!((written(Operation::Create, 201), written(Operation::Replace, 200)), (1, 1), "{name}");
    Row { name, on: case.on, state: case.state, kind, hits }
}

fn sorted(mut ids: [&String; 3]) -> Vec<&String> {
    ids.sort();
    ids.to_vec()
}

/// Runs cases some at a time and prints their rows of the table.
fn try_all(cases: Vec<Case>) {
    let emulator = Emulator::start(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { gitops_agent::store::Store::init(&emulator.store()).await.unwrap() });
    let (next, rows, failed) = (Mutex::new(0), Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let number = {
                        let mut next = next.lock().unwrap();
                        *next += 1;
                        *next - 1
                    };
                    let Some(case) = cases.get(number) else { break };
                    // The other cases are tried all the same.
                    match catch_unwind(AssertUnwindSafe(|| run(case, number, &emulator))) {
                        Ok(row) => drop(rows.lock().unwrap().insert(number, row)),
                        Err(_) => failed.lock().unwrap().push(case.name),
                    }
                }
            });
        }
    });
    for row in rows.lock().unwrap().values() {
        let (on, state) = (format!("{:?}", row.on).to_lowercase(), format!("{:?}", row.state).to_lowercase());
        println!("{:<58} {on:<9} {state:<9} {:<15} {:>3}", row.name, row.kind, row.hits);
    }
    assert!(failed.lock().unwrap().is_empty(), "failed: {failed:?}");
}

#[test]
fn every_refusal_of_the_store_ends_in_the_state_of_the_contract() {
    use State::{Again, Held, Refused};
    let hint = |hint, case| Case { hint, ..case };
    let clock = "The authorization token is not valid at the current time, in the hostile words";
    let clock = Fault::Answer(Reply::json(403, None, clock));
    let throttled = Reply::json(429, Some(3200), WORDS).with("x-ms-retry-after-ms", "300");
    try_all(vec![
        answer("400", 400, None, (Refused, "bad-request")),
        hint(
            "a container's key cannot be changed",
            answer("400/1001, another partition key", 400, Some(1001), (Held, "partition-key")),
        ),
        hint("check COSMOS_KEY", answer("401", 401, None, (Held, "unauthorized"))),
        answer("403", 403, None, (Held, "access-denied")),
        answer("403/3, the region takes no writes now", 403, Some(3), (Again, "failover")),
        hint(
            "shorten retention_days",
            answer("403/1014, partition full", 403, Some(1014), (Held, "partition-full")),
        ),
        hint(
            "grant the role \"gitops-agent writer\"",
            answer("403/5301, no role", 403, Some(5301), (Held, "access-denied")),
        ),
        hint(
            "set this machine's clock",
            case("403, a wrong clock", Operation::Create, clock, (Held, "access-denied")),
        ),
        hint("store init", answer("404", 404, None, (Held, "no-container"))),
        hint("store init", answer("404/1003, no container", 404, Some(1003), (Held, "no-container"))),
        answer("408", 408, None, (Again, "timeout")),
        answer("409, and there is no document", 409, None, (Again, "contended")),
        answer("410", 410, None, (Again, "busy")),
        answer("412", 412, None, (Again, "server-error")),
        answer("413", 413, None, (Refused, "too-large")),
        answer("429", 429, Some(3200), (Again, "throttled")),
        case("429 with a time to wait", Operation::Create, Fault::Answer(throttled), (Again, "throttled")),
        answer("449", 449, None, (Again, "busy")),
        answer("500", 500, None, (Again, "server-error")),
        answer("503", 503, None, (Again, "server-error")),
    ]);
}

#[test]
fn a_cut_slow_or_truncated_connection_loses_nothing() {
    use State::{Again, Delivered};
    let on = |name, fault, expected| case(name, Operation::Create, fault, expected);
    let unreachable = (Again, "unreachable");
    try_all(vec![
        on("cut before the request is passed on", Fault::CutBefore, unreachable),
        Case { committed: true, ..on("cut in the head of the answer", Fault::CutInHead, unreachable) },
        Case { committed: true, ..on("cut in the body of the answer", Fault::CutInBody, unreachable) },
        on("slow: two seconds for each answer", Fault::Delay(Duration::from_secs(2)), (Delivered, "")),
        Case {
            committed: true,
            ..on("silent: no answer", Fault::Delay(Duration::from_secs(100)), unreachable)
        },
        case("account: cut", Operation::Account, Fault::CutBefore, unreachable),
        case("account: cut in the body", Operation::Account, Fault::CutInBody, unreachable),
        case("account: truncated", Operation::Account, Fault::Truncate, (Again, "not-the-store")),
        case("container: cut", Operation::Metadata, Fault::CutBefore, unreachable),
        case("container: truncated", Operation::Metadata, Fault::Truncate, (Again, "not-the-store")),
    ]);
}

#[test]
fn an_answer_that_is_not_the_stores_is_no_acknowledgement() {
    use State::Again;
    let html = "<html><body>Please sign in to this network</body></html>";
    let mut cases = Vec::new();
    for (on, place) in
        [(Operation::Create, "create"), (Operation::Account, "account"), (Operation::Metadata, "container")]
    {
        let replies = [
            ("200 with a page of HTML", Fault::Answer(Reply::plain(200, "text/html", html))),
            ("200 without a body", Fault::Answer(Reply::plain(200, "application/json", ""))),
            ("201 without a body", Fault::Answer(Reply::plain(201, "application/json", ""))),
            ("200 with JSON of another shape", Fault::Answer(Reply::plain(200, "application/json", "[1]"))),
            ("bytes that are no HTTP", Fault::Bytes(b"\x16\x03\x01 SSH-2.0 what\r\n\r\n\0\xff".to_vec())),
        ];
        for (name, fault) in replies {
            let name: &'static str = format!("{place}: {name}").leak();
            let kind = if matches!(fault, Fault::Bytes(_)) { "unreachable" } else { "not-the-store" };
            cases.push(case(name, on, fault, (Again, kind)));
        }
    }
    let page = Fault::Answer(Reply::plain(400, "text/html", html));
    cases.push(case("create: 400 with a page of HTML", Operation::Create, page, (Again, "not-the-store")));
    try_all(cases);
}

#[test]
fn a_reply_lost_after_the_commit_is_recognised() {
    use State::{Again, Held, Refused};
    let on = |name, status, sub_status, expected| Case {
        committed: true,
        ..case(name, Operation::Create, Fault::AnswerAfter(Reply::json(status, sub_status, WORDS)), expected)
    };
    try_all(vec![
        on("written, then 400", 400, None, (Refused, "bad-request")),
        on("written, then 401", 401, None, (Held, "unauthorized")),
        on("written, then 408", 408, None, (Again, "timeout")),
        on("written, then 410", 410, None, (Again, "busy")),
        on("written, then 429", 429, Some(3200), (Again, "throttled")),
        on("written, then 500", 500, None, (Again, "server-error")),
        on("written, then 503", 503, None, (Again, "server-error")),
    ]);
}

#[test]
fn a_known_commit_is_read_and_replaced_through_every_fault() {
    use Operation::{Read, Replace};
    use State::{Again, Held, Refused};
    let json = |status, sub_status| Fault::Answer(Reply::json(status, sub_status, WORDS));
    let lost = |status, sub_status| Fault::AnswerAfter(Reply::json(status, sub_status, WORDS));
    let page = || Fault::Answer(Reply::plain(200, "text/html", "<html></html>"));
    let other = || Fault::Answer(Reply::plain(200, "application/json", r#"{"id":"other"}"#));
    let committed = |case| Case { committed: true, ..case };
    try_all(vec![
        case("read: cut", Read, Fault::CutBefore, (Again, "unreachable")),
        case("read: cut in the body", Read, Fault::CutInBody, (Again, "unreachable")),
        case("read: truncated", Read, Fault::Truncate, (Again, "not-the-store")),
        case("read: 200 with a page of HTML", Read, page(), (Again, "not-the-store")),
        case("read: 200 with JSON of another shape", Read, other(), (Again, "not-the-store")),
        case("read: 403", Read, json(403, Some(5301)), (Held, "access-denied")),
        case("read: 404, though it is there", Read, json(404, None), (Again, "contended")),
        case("read: 429", Read, json(429, Some(3200)), (Again, "throttled")),
        case("read: 503", Read, json(503, None), (Again, "server-error")),
        case("replace: cut", Replace, Fault::CutBefore, (Again, "unreachable")),
        case("replace: 200 with a page of HTML", Replace, page(), (Again, "not-the-store")),
        case("replace: 403", Replace, json(403, Some(5301)), (Held, "access-denied")),
        case("replace: 404", Replace, json(404, None), (Again, "contended")),
        case("replace: 409", Replace, json(409, None), (Again, "contended")),
        case("replace: 412", Replace, json(412, None), (Again, "contended")),
        case("replace: 413", Replace, json(413, None), (Refused, "too-large")),
        case("replace: 429", Replace, json(429, Some(3200)), (Again, "throttled")),
        committed(case("replaced, then cut in the head", Replace, Fault::CutInHead, (Again, "unreachable"))),
        committed(case("replaced, then 408", Replace, lost(408, None), (Again, "timeout"))),
        committed(case("replaced, then 429", Replace, lost(429, Some(3200)), (Again, "throttled"))),
    ]);
}

#[test]
fn a_time_to_wait_is_obeyed() {
    let emulator = Emulator::start(&[]);
    let proxy = Proxy::start(emulator.endpoint());
    let world = World::with_cosmos(proxy.endpoint(), "clinic-a");
    world.ok(&["store", "init"]);
    world.ok(&["install"]);
    let reply = Reply::json(429, Some(3200), WORDS).with("x-ms-retry-after-ms", "3000");
    proxy.set(Operation::Create, 1, Fault::Answer(reply));
    let id = commit(&world, 0);
    wait_for(60, "delivery", || stored(&emulator.store(), "clinic-a").contains_key(&id).then_some(()));
    let creates: Vec<_> =
        proxy.seen().into_iter().filter(|seen| seen.operation == Operation::Create).collect();
    assert_eq!(creates.len(), 2);
    let waited = creates[1].at - creates[0].at;
    assert!(waited >= Duration::from_secs(3) && waited < Duration::from_secs(10), "{waited:?}");
}

#[test]
fn a_garbled_answer_to_a_question_is_not_an_empty_one() {
    let emulator = Emulator::start(&[]);
    let proxy = Proxy::start(emulator.endpoint());
    let world = World::with_cosmos(proxy.endpoint(), "clinic-a");
    world.ok(&["store", "init"]);
    world.commit("a.txt", "one\n", "One");
    world.ok(&["backfill"]);
    for (name, fault) in [
        ("truncated", Fault::Truncate),
        ("cut", Fault::CutInBody),
        ("a page", Fault::Answer(Reply::plain(200, "text/html", "<html></html>"))),
        ("empty", Fault::Answer(Reply::plain(200, "application/json", ""))),
        ("another shape", Fault::Answer(Reply::plain(200, "application/json", r#"{"hello":"world"}"#))),
    ] {
        proxy.set(Operation::Query, usize::MAX, fault);
        for words in [&["query"][..], &["verify"]] {
            let output = world.output(words);
            assert_eq!(output.status.code(), Some(3), "{words:?}, {name}: {output:?}");
        }
        proxy.lift();
    }
    world.ok(&["verify"]);
}
