//! Delivery from a real outbox into the real local store, with faults put in between.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use gitops_agent::delivery::{
    Arrival, Backoff, Import, Options, Patience, Report, Surroundings, Told, claim, deliver, drain, import,
};
use gitops_agent::destination::Destination;
use gitops_agent::outbox::{Circuit, NewEntry, Outbox, Selection, State, Urgency, write_spool};
use gitops_agent::store::local::LocalStore;
use gitops_agent::store::{
    Changes, Charged, CheckItem, Cost, ErrorClass, Key, Query, Sink, Store, StoreError, Stored, StoredKey,
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// What a fault says about a request: its kind of operation, key and number.
type Fault = Box<dyn FnMut(&str, &Key, usize) -> Option<StoreError> + Send>;

/// The local store with faults in front, which takes one document at a time as Cosmos DB does.
struct Faulty {
    inner: LocalStore,
    fault: Mutex<Fault>,
    requests: AtomicUsize,
    hangs: bool,
}

impl Faulty {
    fn new(
        dir: &Path,
        fault: impl FnMut(&str, &Key, usize) -> Option<StoreError> + Send + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            inner: LocalStore::open(dir).unwrap(),
            fault: Mutex::new(Box::new(fault)),
            requests: AtomicUsize::new(0),
            hangs: false,
        })
    }

    async fn pass(&self, operation: &str, key: &Key) -> Result<(), StoreError> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        tokio::task::yield_now().await;
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        (self.fault.lock().unwrap())(operation, key, number).map_or(Ok(()), Err)
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Store for Faulty {
    async fn create(&self, key: &Key, document: &Value) -> Result<Charged<()>, StoreError> {
        self.pass("create", key).await?;
        self.inner.create(key, document).await
    }
    async fn read(&self, key: &Key) -> Result<Charged<Option<Stored>>, StoreError> {
        self.pass("read", key).await?;
        self.inner.read(key).await
    }
    async fn replace(&self, key: &Key, document: &Value, etag: &str) -> Result<Charged<()>, StoreError> {
        self.pass("replace", key).await?;
        self.inner.replace(key, document, etag).await
    }
    async fn query(&self, query: &Query, sink: Sink<'_>) -> Result<Charged<()>, StoreError> {
        self.inner.query(query, sink).await
    }
    async fn keys(
        &self,
        tenant: &str,
        since: Option<&str>,
        until: Option<&str>,
    ) -> Result<Charged<Vec<StoredKey>>, StoreError> {
        self.inner.keys(tenant, since, until).await
    }
    async fn changes(&self, tenant: &str, after: Option<&str>) -> Result<Box<dyn Changes + '_>, StoreError> {
        self.inner.changes(tenant, after).await
    }
    async fn init(&self) -> Result<Vec<CheckItem>, StoreError> {
        self.inner.init().await
    }
    async fn check(&self) -> Vec<CheckItem> {
        self.inner.check().await
    }
}

fn error(class: ErrorClass, status: u16, kind: &'static str) -> StoreError {
    StoreError {
        class,
        status: Some(status),
        sub_status: None,
        kind,
        message: format!("the store said {status}"),
        hint: None,
        retry_after: None,
        cost: Cost { request_units: 1.0, latency: Duration::from_millis(3) },
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// Short waits; does not stay for a later attempt.
fn options() -> Options {
    let short = |ms| Backoff { first: Duration::from_millis(ms), longest: Duration::from_millis(ms * 4) };
    Options { patience: Duration::ZERO, again: short(20), held: short(60_000), ..Options::default() }
}

fn drained(outbox: &mut Outbox, store: &Arc<Faulty>, options: &Options) -> Report {
    drained_at(outbox, store, options, &Timestamp::now)
}

fn drained_at(
    outbox: &mut Outbox,
    store: &Arc<Faulty>,
    options: &Options,
    now: &dyn Fn() -> Timestamp,
) -> Report {
    let open =
        |_: &Destination| -> Result<Arc<dyn Store>, StoreError> { Ok(Arc::clone(store) as Arc<dyn Store>) };
    let surroundings = Surroundings { now, random: &mut || 1.0 };
    block_on(drain(outbox, open, options, surroundings)).unwrap()
}

fn id(n: usize) -> String {
    format!("{n:040x}")
}

fn date(n: usize) -> String {
    format!("2023-11-{:02}", n % 28 + 1)
}

fn record(n: usize, version: &str) -> Value {
    json!({"id": id(n), "tenantId": "t", "commitDate": date(n), "timestamp": format!("{}T00:00:00Z", date(n)),
        "complete": true, "agentVersion": version, "digest": format!("d{version}"), "riskScore": 0.5,
        "rules": {"packs": []}, "repository": {"id": "r1"}, "compliance": ["HIPAA"], "ttl": 220_924_800,
        "message": "m".repeat(1500)})
}

fn enqueue_values(outbox: &mut Outbox, destination: &Destination, records: &[(usize, Value)]) {
    let bodies: Vec<Vec<u8>> =
        records.iter().map(|(_, record)| serde_json::to_vec(record).unwrap()).collect();
    let keys: Vec<(String, String)> = records.iter().map(|(n, _)| (id(*n), date(*n))).collect();
    let entries: Vec<NewEntry<'_>> = keys
        .iter()
        .zip(&bodies)
        .map(|((id, date), body)| NewEntry {
            tenant: "t",
            date,
            id,
            destination,
            digest: "d",
            judgement: "j",
            body,
            urgency: Urgency::History,
            repository: Path::new("/repo"),
            hold: None,
        })
        .collect();
    outbox.enqueue(&entries, Timestamp::now()).unwrap();
}

fn enqueue(outbox: &mut Outbox, numbers: std::ops::Range<usize>) {
    let records: Vec<(usize, Value)> = numbers.map(|n| (n, record(n, "1.0.0"))).collect();
    enqueue_values(outbox, &Destination::Local, &records);
}

fn count(store: &dyn Store) -> usize {
    block_on(store.keys("t", None, None)).unwrap().value.len()
}

fn read(store: &dyn Store, n: usize) -> Stored {
    let key = Key { tenant: "t".to_owned(), date: date(n), id: id(n) };
    block_on(store.read(&key)).unwrap().value.unwrap()
}

#[test]
fn five_thousand_records_reach_the_local_store_and_a_second_time_change_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(home.path()).unwrap();
    enqueue(&mut outbox, 0..5000);
    let store: Arc<dyn Store> = Arc::new(LocalStore::open(home.path()).unwrap());
    let open = |_: &Destination| Ok(Arc::clone(&store));
    let start = Instant::now();
    let surroundings = Surroundings { now: &Timestamp::now, random: &mut || 0.5 };
    let report = block_on(drain(&mut outbox, open, &options(), surroundings)).unwrap();
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!((report.delivered, report.already, report.pending), (5000, 0, 0));
    assert_eq!(count(&*store), 5000);
    let stats = outbox.stats(Timestamp::now()).unwrap();
    assert_eq!(stats.delivered, 5000);
    assert!(stats.latency_ms.unwrap().p99 > 0.0);
    assert!(stats.destinations[0].last_success.is_some());
    drop(outbox);

    // As after the loss of the outbox: everything is sent again and found there.
    std::fs::remove_file(home.path().join("outbox.db")).unwrap();
    let mut outbox = Outbox::open(home.path()).unwrap();
    enqueue(&mut outbox, 0..5000);
    let before = read(&*store, 7).etag;
    let surroundings = Surroundings { now: &Timestamp::now, random: &mut || 0.5 };
    let report = block_on(drain(&mut outbox, open, &options(), surroundings)).unwrap();
    assert_eq!((report.delivered, report.already), (5000, 5000));
    assert_eq!(read(&*store, 7).etag, before, "a repetition must not write");
}

#[test]
fn a_store_that_denies_access_is_asked_once_and_everything_goes_on_when_it_works() {
    let home = tempfile::tempdir().unwrap();
    let open = Arc::new(AtomicUsize::new(0));
    let gate = Arc::clone(&open);
    let store = Faulty::new(home.path(), move |_, _, _| {
        (gate.load(Ordering::SeqCst) == 0).then(|| error(ErrorClass::Held, 403, "access-denied"))
    });
    let mut outbox = Outbox::open(home.path()).unwrap();
    enqueue(&mut outbox, 0..1000);
    let report = drained(&mut outbox, &store, &options());
    assert_eq!((report.delivered, report.pending, report.held), (0, 0, 1000));
    assert_eq!(report.errors[0].kind, "access-denied");
    let asked = store.requests();
    assert!(asked <= 16, "{asked} requests");

    // The gate outlives the process; a new commit behind it is held too.
    drop(outbox);
    let mut outbox = Outbox::open(home.path()).unwrap();
    enqueue(&mut outbox, 1000..1001);
    drained(&mut outbox, &store, &options());
    assert_eq!(store.requests(), asked);
    let stats = outbox.stats(Timestamp::now()).unwrap();
    assert_eq!((stats.held, stats.destinations[0].circuit), (1001, Circuit::Open));
    assert!(stats.destinations[0].next_attempt.is_some());
    assert_eq!(stats.destinations[0].last_error.as_ref().unwrap().message, "the store said 403");
    let row = outbox.list(&Selection::In(State::Held), 1).unwrap().remove(0);
    assert_eq!(row.reason.as_deref(), Some("the store said 403"));

    let force = Options { force: true, ..options() };
    drained(&mut outbox, &store, &force);
    assert_eq!(store.requests(), asked + 1, "one probe, because somebody asked");
    open.store(1, Ordering::SeqCst);
    let report = drained(&mut outbox, &store, &force);
    assert_eq!((report.delivered, report.held), (1001, 0));
    assert_eq!(outbox.stats(Timestamp::now()).unwrap().destinations[0].circuit, Circuit::Closed);
    assert_eq!(count(&*store), 1001);
}

#[test]
fn a_store_that_is_down_is_left_alone_and_tried_again_without_end() {
    let home = tempfile::tempdir().unwrap();
    let store = Faulty::new(home.path(), |_, _, number| {
        (number < 40).then(|| error(ErrorClass::Again, 503, "unavailable"))
    });
    let mut outbox = Outbox::open(home.path()).unwrap();
    enqueue(&mut outbox, 0..500);
    // A gate that waits a minute: on a slow machine one of milliseconds is due again, and probed, before the
    // last answers have been written down.
    let long = Backoff { first: Duration::from_secs(60), longest: Duration::from_secs(60) };
    let report = drained(&mut outbox, &store, &Options { again: long, ..options() });
    assert_eq!((report.delivered, report.pending), (0, 500));
    // Sixteen under way, and one more for each of the four failures before the one that opens the gate.
    assert!(store.requests() <= 20, "{} requests", store.requests());
    assert_eq!(outbox.stats(Timestamp::now()).unwrap().destinations[0].circuit, Circuit::Open);
    let patient = Options { patience: Duration::from_secs(5), ..options() };
    let report = drained_at(&mut outbox, &store, &patient, &|| {
        Timestamp::now().checked_add(jiff::SignedDuration::from_secs(60)).unwrap()
    });
    assert_eq!((report.delivered, report.pending), (500, 0));
    assert!(store.requests() <= 540 + 16, "{} requests", store.requests());
    assert_eq!(count(&*store), 500);
}

#[test]
fn one_refused_record_is_in_nobodys_way() {
    let home = tempfile::tempdir().unwrap();
    let bad = id(3);
    let store = Faulty::new(home.path(), move |_, key, _| {
        (key.id == bad).then(|| error(ErrorClass::Refused, 413, "too-large"))
    });
    let mut outbox = Outbox::open(home.path()).unwrap();
    enqueue(&mut outbox, 0..100);
    let report = drained(&mut outbox, &store, &options());
    assert_eq!((report.delivered, report.refused, report.pending), (99, 1, 0));
    let row = outbox.list(&Selection::In(State::Refused), 10).unwrap().remove(0);
    assert_eq!((row.id, row.kind.as_deref()), (id(3), Some("too-large")));
    drained(&mut outbox, &store, &options());
    assert_eq!(store.requests(), 100, "a refused record is not sent again");
}

#[test]
fn a_full_partition_holds_its_own_records_only() {
    let home = tempfile::tempdir().unwrap();
    let full = date(3);
    let store = Faulty::new(home.path(), move |_, key, number| {
        (key.date == full && number < 200).then(|| error(ErrorClass::Held, 403, "partition-full"))
    });
    let mut outbox = Outbox::open(home.path()).unwrap();
    enqueue(&mut outbox, 0..140);
    let report = drained(&mut outbox, &store, &options());
    assert_eq!((report.delivered, report.held, report.pending), (135, 5, 0));
    let asked = store.requests();
    let report = drained(&mut outbox, &store, &options());
    assert_eq!((store.requests(), report.held), (asked, 5));
    for _ in 0..200 {
        if drained(&mut outbox, &store, &Options { force: true, ..options() }).held == 0 {
            break;
        }
    }
    assert_eq!(outbox.stats(Timestamp::now()).unwrap().delivered, 140);
}

#[test]
fn the_later_judgement_stays_and_links_are_united() {
    let home = tempfile::tempdir().unwrap();
    let store = Faulty::new(home.path(), |_, _, _| None);
    for (n, version) in [(0, "2.0.0"), (1, "0.1.0"), (2, "1.0.0"), (3, "2.0.0")] {
        let mut theirs = record(n, version);
        theirs["supersedes"] = json!(["aa"]);
        let key = Key { tenant: "t".to_owned(), date: date(n), id: id(n) };
        block_on(store.inner.create(&key, &theirs)).unwrap();
    }
    let mut outbox = Outbox::open(home.path()).unwrap();
    let mut ours: Vec<(usize, Value)> = (0..4).map(|n| (n, record(n, "1.0.0"))).collect();
    ours[3].1["supersedes"] = json!(["bb"]);
    enqueue_values(&mut outbox, &Destination::Local, &ours);
    let report = drained(&mut outbox, &store, &options());
    assert_eq!((report.delivered, report.replaced, report.merged, report.already), (4, 1, 1, 2));
    assert_eq!(read(&store.inner, 0).document["agentVersion"], "2.0.0");
    assert_eq!(read(&store.inner, 1).document["agentVersion"], "1.0.0");
    assert_eq!(read(&store.inner, 1).document["supersedes"], json!(["aa"]));
    assert_eq!(read(&store.inner, 2).etag, "1");
    assert_eq!(read(&store.inner, 3).document["agentVersion"], "2.0.0");
    assert_eq!(read(&store.inner, 3).document["supersedes"], json!(["aa", "bb"]));
}

#[test]
fn a_document_that_changes_between_read_and_replace_is_read_again() {
    let home = tempfile::tempdir().unwrap();
    let key = Key { tenant: "t".to_owned(), date: date(0), id: id(0) };
    let other = LocalStore::open(home.path()).unwrap();
    block_on(other.create(&key, &record(0, "0.1.0"))).unwrap();
    let mut rival = record(0, "0.2.0");
    rival["supersedes"] = json!(["cc"]);
    let rival_key = key.clone();
    let mut raced = false;
    let store = Faulty::new(home.path(), move |operation, _, _| {
        if operation == "replace" && !std::mem::replace(&mut raced, true) {
            let etag = futures::executor::block_on(other.read(&rival_key)).unwrap().value.unwrap().etag;
            futures::executor::block_on(other.replace(&rival_key, &rival, &etag)).unwrap();
        }
        None
    });
    let mut outbox = Outbox::open(home.path()).unwrap();
    enqueue(&mut outbox, 0..1);
    let report = drained(&mut outbox, &store, &options());
    assert_eq!((report.delivered, report.replaced), (1, 1));
    let stored = read(&store.inner, 0);
    assert_eq!((stored.etag.as_str(), &stored.document["agentVersion"]), ("3", &json!("1.0.0")));
    assert_eq!(stored.document["supersedes"], json!(["cc"]), "what the rival wrote is not lost");
}

#[test]
fn a_reply_lost_after_the_write_makes_no_second_document() {
    let home = tempfile::tempdir().unwrap();
    let lost = LocalStore::open(home.path()).unwrap();
    let store = Faulty::new(home.path(), move |operation, key, number| {
        (operation == "create" && number < 3).then(|| {
            let n = usize::from_str_radix(&key.id, 16).unwrap();
            futures::executor::block_on(lost.create(key, &record(n, "1.0.0"))).unwrap();
            error(ErrorClass::Again, 408, "timeout")
        })
    });
    let mut outbox = Outbox::open(home.path()).unwrap();
    enqueue(&mut outbox, 0..3);
    let report = drained(&mut outbox, &store, &Options { patience: Duration::from_secs(2), ..options() });
    assert_eq!((report.delivered, report.already, report.pending), (3, 3, 0));
    assert_eq!(read(&store.inner, 0).etag, "1");
}

#[test]
fn a_hanging_store_does_not_outlast_the_deadline_and_loses_nothing() {
    let home = tempfile::tempdir().unwrap();
    let store = Arc::new(Faulty {
        inner: LocalStore::open(home.path()).unwrap(),
        fault: Mutex::new(Box::new(|_, _, _| None)),
        requests: AtomicUsize::new(0),
        hangs: true,
    });
    let mut outbox = Outbox::open(home.path()).unwrap();
    enqueue(&mut outbox, 0..50);
    let start = Instant::now();
    let report =
        drained(&mut outbox, &store, &Options { deadline: Some(Duration::from_millis(300)), ..options() });
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(report.timed_out);
    assert_eq!((report.delivered, report.pending), (0, 50));
}

#[test]
fn each_record_goes_to_its_own_destination_and_one_that_fails_stops_only_itself() {
    let home = tempfile::tempdir().unwrap();
    let cosmos = Destination::Cosmos {
        endpoint: "https://a/".to_owned(),
        database: "d".to_owned(),
        container: "c".to_owned(),
    };
    let mut outbox = Outbox::open(home.path()).unwrap();
    let records: Vec<(usize, Value)> = (0..10).map(|n| (n, record(n, "1.0.0"))).collect();
    enqueue_values(&mut outbox, &cosmos, &records);
    enqueue_values(&mut outbox, &Destination::Local, &records[..4]);
    let local: Arc<dyn Store> = Arc::new(LocalStore::open(home.path()).unwrap());
    let open = |destination: &Destination| match destination {
        Destination::Local => Ok(Arc::clone(&local)),
        Destination::Cosmos { .. } => Err(error(ErrorClass::Held, 401, "sign-in-failed")),
    };
    let surroundings = Surroundings { now: &Timestamp::now, random: &mut || 0.5 };
    let report = block_on(drain(&mut outbox, open, &options(), surroundings)).unwrap();
    assert_eq!((report.delivered, report.held, report.pending), (4, 10, 0));
    assert_eq!(count(&*local), 4);
    assert_eq!(report.errors.len(), 1);
    assert_eq!(report.errors[0].destination, cosmos);
}

#[test]
fn what_throttles_is_slowed_down_for_and_everything_arrives() {
    let home = tempfile::tempdir().unwrap();
    let store = Faulty::new(home.path(), |_, _, number| {
        (number < 60 && number % 5 == 0).then(|| StoreError {
            retry_after: Some(Duration::from_millis(5)),
            ..error(ErrorClass::Again, 429, "throttled")
        })
    });
    let mut outbox = Outbox::open(home.path()).unwrap();
    enqueue(&mut outbox, 0..300);
    let report = drained(&mut outbox, &store, &Options { patience: Duration::from_secs(2), ..options() });
    assert_eq!((report.delivered, report.pending, report.throttled), (300, 0, 12));
    assert!(report.request_units > 0.0);
}

#[test]
fn a_commit_made_while_history_flows_goes_before_the_rest_of_it() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().to_owned();
    let sent = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&sent);
    let store = Faulty::new(home.path(), move |_, key, number| {
        if number == 20 {
            spool(&dir, 9999);
        }
        log.lock().unwrap().push(key.id.clone());
        None
    });
    let mut outbox = Outbox::open(home.path()).unwrap();
    enqueue(&mut outbox, 0..500);
    let report =
        drained(&mut outbox, &store, &Options { spool_dirs: vec![home.path().join("spool")], ..options() });
    assert_eq!((report.delivered, report.pending, report.spooled), (501, 0, 1));
    let place = sent.lock().unwrap().iter().position(|sent| *sent == id(9999)).unwrap();
    assert!(place < 100, "it was number {place} of 501");
}

/// Hooks that commit, and start a delivery only where the lock is free, leave nothing behind between them.
#[test]
fn no_commit_is_left_behind_between_hook_and_worker() {
    for round in 0..10 {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path();
        drop(Outbox::open(dir).unwrap());
        let started = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let started = &started;
                scope.spawn(move || {
                    for n in 0..5 {
                        let mut outbox = Outbox::open(dir).unwrap();
                        if (thread + n) % 4 == 0 {
                            spool(dir, thread * 100 + n);
                        } else {
                            enqueue(&mut outbox, thread * 100 + n..thread * 100 + n + 1);
                        }
                        let Some(lock) = claim(dir).unwrap() else { continue };
                        started.fetch_add(1, Ordering::SeqCst);
                        let open = |_: &Destination| -> Result<Arc<dyn Store>, StoreError> {
                            Ok(Arc::new(LocalStore::open(dir)?))
                        };
                        let options = Options { spool_dirs: vec![dir.join("spool")], ..options() };
                        let surroundings = Surroundings { now: &Timestamp::now, random: &mut || 0.5 };
                        block_on(deliver(lock, &mut outbox, open, &options, surroundings)).unwrap();
                    }
                });
            }
        });
        let stats = Outbox::open(dir).unwrap().stats(Timestamp::now()).unwrap();
        assert_eq!((stats.pending, stats.delivered), (0, 40), "round {round}");
        assert_eq!(count(&LocalStore::open(dir).unwrap()), 40);
        assert!(started.load(Ordering::SeqCst) >= 1);
    }
}

fn spool(dir: &Path, n: usize) {
    let (id, date, body) = (id(n), date(n), serde_json::to_vec(&record(n, "1.0.0")).unwrap());
    let entry = NewEntry {
        tenant: "t",
        date: &date,
        id: &id,
        destination: &Destination::Local,
        digest: "d",
        judgement: "j",
        body: &body,
        urgency: Urgency::Live,
        repository: Path::new("/repo"),
        hold: None,
    };
    write_spool(&dir.join("spool"), &entry, Timestamp::now()).unwrap();
}

/// Delivers until it is done or killed.
#[test]
#[ignore = "the child of `a_worker_killed_again_and_again_delivers_everything_once`"]
fn child_delivers() {
    let dir = PathBuf::from(std::env::var_os("DELIVERY_TEST_DIR").unwrap());
    let lock = gitops_agent::delivery::WorkerLock::try_acquire(&dir).unwrap().unwrap();
    let store = Faulty::new(&dir, |_, _, _| None);
    let open =
        |_: &Destination| -> Result<Arc<dyn Store>, StoreError> { Ok(Arc::clone(&store) as Arc<dyn Store>) };
    let surroundings = Surroundings { now: &Timestamp::now, random: &mut || 0.5 };
    let mut outbox = Outbox::open(&dir).unwrap();
    block_on(deliver(lock, &mut outbox, open, &options(), surroundings)).unwrap();
}

#[test]
fn a_worker_killed_again_and_again_delivers_everything_once() {
    let home = tempfile::tempdir().unwrap();
    enqueue(&mut Outbox::open(home.path()).unwrap(), 0..1500);
    let mut kills = 0;
    for round in 0_u64.. {
        let mut worker = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_delivers", "--ignored"])
            .env("DELIVERY_TEST_DIR", home.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(60 + 37 * round));
        if worker.try_wait().unwrap().is_none() {
            kills += 1;
            worker.kill().unwrap();
        }
        worker.wait().unwrap();
        let stats = Outbox::open(home.path()).unwrap().stats(Timestamp::now()).unwrap();
        assert_eq!(stats.pending + stats.delivered, 1500, "round {round}");
        assert!(stats.delivered <= count(&LocalStore::open(home.path()).unwrap()) as u64);
        if stats.pending == 0 {
            break;
        }
    }
    assert!(kills > 1, "the test killed nothing");
    let store = LocalStore::open(home.path()).unwrap();
    assert_eq!(count(&store), 1500);
    assert!((0..1500).all(|n| read(&store, n).etag == "1"), "sent again, but never written again");
}

/// Imports records; the lines that the store refused, and what came of it.
fn imported(store: &Faulty, records: &[(usize, Value)], patience: Patience) -> (Vec<u64>, Import) {
    let arrivals: Vec<Arrival> = (1..)
        .zip(records)
        .map(|(line, (n, document))| Arrival {
            line,
            key: Key { tenant: "t".to_owned(), date: date(*n), id: id(*n) },
            document: document.clone(),
        })
        .collect();
    let mut refused = Vec::new();
    let mut tell = |told: Told<'_>| {
        if let Told::Refused(line, _) = told {
            refused.push(line);
        }
    };
    let came = block_on(import(store, futures::stream::iter(arrivals), patience, &mut tell));
    refused.sort_unstable();
    (refused, came)
}

fn patience() -> Patience {
    let again = Backoff { first: Duration::from_millis(5), longest: Duration::from_millis(20) };
    Patience { again, give_up: Duration::from_millis(300), ..Patience::default() }
}

#[test]
fn an_import_gets_through_faults_that_pass_and_repeats_nothing() {
    let home = tempfile::tempdir().unwrap();
    let records: Vec<(usize, Value)> = (0..60).map(|n| (n, record(n, "1.0.0"))).collect();
    // Each second request fails in one of three ways; a third of the creates is answered with an error after the fact.
    let store = Faulty::new(home.path(), |_, _, number| match number % 6 {
        1 => Some(error(ErrorClass::Again, 503, "unavailable")),
        3 => Some(error(ErrorClass::Again, 429, "throttled")),
        5 => Some(error(ErrorClass::Again, 408, "timeout")),
        _ => None,
    });
    let (refused, Import { done, error }) = imported(&store, &records, patience());
    assert!(error.is_none() && refused.is_empty() && done.unanswered_from.is_none(), "{done:?}");
    assert_eq!((done.created, done.already), (60, 0));
    assert!(done.throttled > 0);
    assert_eq!(block_on(store.keys("t", None, None)).unwrap().value.len(), 60);

    // Once more, with some that are later judgements and one that is an earlier one.
    let mut again = records.clone();
    again[7] = (7, record(7, "2.0.0"));
    again[8] = (8, record(8, "0.9.0"));
    again[9].1["supersedes"] = json!(["f".repeat(40)]);
    let quiet = Faulty::new(home.path(), |_, _, _| None);
    let done = imported(&quiet, &again, patience()).1.done;
    assert_eq!((done.created, done.replaced, done.merged, done.already), (0, 1, 1, 58));
    let of = |n: usize| {
        let key = Key { tenant: "t".to_owned(), date: date(n), id: id(n) };
        block_on(quiet.read(&key)).unwrap().value.unwrap().document
    };
    assert_eq!((&of(7)["agentVersion"], &of(8)["agentVersion"]), (&json!("2.0.0"), &json!("1.0.0")));
    assert_eq!(of(9)["supersedes"], json!(["f".repeat(40)]));
}

#[test]
fn an_import_that_ends_early_names_where_to_go_on() {
    let records: Vec<(usize, Value)> = (0..60).map(|n| (n, record(n, "1.0.0"))).collect();
    for (class, status, kind) in [(ErrorClass::Held, 403, "access-denied"), (ErrorClass::Again, 503, "away")]
    {
        let home = tempfile::tempdir().unwrap();
        let store =
            Faulty::new(home.path(), move |_, _, number| (number >= 30).then(|| error(class, status, kind)));
        let (_, came) = imported(&store, &records, patience());
        assert_eq!(came.error.unwrap().kind, kind);
        assert!((20..=30).contains(&came.done.created), "{:?}", came.done);
        let from = came.done.unanswered_from.unwrap();
        // One that is away is not asked for each of the rest.
        assert!(store.requests() < 30 + 16 * 100, "{}", store.requests());
        let rest = &records[usize::try_from(from).unwrap() - 1..];
        let quiet = Faulty::new(home.path(), |_, _, _| None);
        assert!(imported(&quiet, rest, patience()).1.error.is_none());
        assert_eq!(block_on(quiet.keys("t", None, None)).unwrap().value.len(), 60);
    }
}

#[test]
fn one_record_that_is_refused_holds_no_other_and_a_budget_holds_all() {
    let home = tempfile::tempdir().unwrap();
    let records: Vec<(usize, Value)> = (0..60).map(|n| (n, record(n, "1.0.0"))).collect();
    let store = Faulty::new(home.path(), |_, key, _| {
        (key.id == id(4)).then(|| error(ErrorClass::Refused, 413, "too-large"))
    });
    let (refused, came) = imported(&store, &records, patience());
    assert_eq!((refused, came.done.created, came.done.refused), (vec![5], 59, 1));
    assert!(came.error.is_none());

    let home = tempfile::tempdir().unwrap();
    // Failures are the only thing here that is charged: one unit each.
    let dear = Faulty::new(home.path(), |_, _, number| {
        number.is_multiple_of(2).then(|| error(ErrorClass::Again, 503, "away"))
    });
    let (_, came) = imported(&dear, &records, Patience { budget: Some(10.0), ..patience() });
    assert!(came.done.budget_spent && came.error.is_none(), "{:?}", came.done);
    assert!((10.0..10.0 + 16.0).contains(&came.done.request_units), "{:?}", came.done);
    assert!(came.done.unanswered_from.is_some() && came.done.created < 59);
    let none = imported(&dear, &records, Patience { budget: Some(0.0), ..patience() }).1.done;
    assert_eq!((none.created, none.budget_spent), (0, true));
}
