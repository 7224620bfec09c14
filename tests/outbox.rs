//! The outbox against real SQLite files, threads and processes.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use gitops_agent::destination::Destination;
use gitops_agent::outbox::{
    Enqueued, NewEntry, Outbox, OutboxError, Outcome, Progress, Selection, Settlement, State, Urgency,
    spool_waiting, write_spool,
};
use jiff::Timestamp;
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp::constant(1_700_000_000, 0);

/// A record and what `NewEntry` borrows from.
struct Sample {
    id: String,
    body: Vec<u8>,
    digest: String,
    judgement: String,
    destination: Destination,
}

impl Sample {
    fn new(id: &str, version: &str) -> Self {
        Self::of(id, version, |_| {})
    }

    fn of(id: &str, version: &str, change: impl FnOnce(&mut Value)) -> Self {
        let mut record = json!({"id": id, "commitHash": id, "tenantId": "t", "commitDate": "2023-11-14",
            "complete": true, "agentVersion": version, "riskScore": 0.123,
            "rules": {"digest": "r", "packs": [{"id": "hipaa", "version": "1.0.0"}]},
            "repository": {"id": "r1", "name": "repo", "branch": "main"},
            "digest": format!("digest-{version}"), "compliance": ["HIPAA"]});
        change(&mut record);
        Self {
            id: id.to_owned(),
            body: serde_json::to_vec(&record).unwrap(),
            digest: format!("digest-{version}"),
            judgement: format!("agent {version} rules r"),
            destination: Destination::Local,
        }
    }

    fn entry(&self) -> NewEntry<'_> {
        NewEntry {
            tenant: "t",
            date: "2023-11-14",
            id: &self.id,
            destination: &self.destination,
            digest: &self.digest,
            judgement: &self.judgement,
            body: &self.body,
            urgency: Urgency::Live,
            repository: Path::new("/repo"),
            hold: None,
        }
    }
}

fn id(n: usize) -> String {
    format!("{n:040x}")
}

fn deliver_all(outbox: &mut Outbox) -> usize {
    let mut settled = 0;
    for (destination, _) in outbox.destinations().unwrap() {
        let due = outbox.due(destination, NOW, usize::MAX).unwrap();
        let settlements: Vec<_> = due
            .iter()
            .map(|w| Settlement { entry: w.entry, revision: w.revision, outcome: Outcome::Delivered })
            .collect();
        settled += settlements.len();
        outbox.settle(destination, &Progress { settlements, ..Progress::default() }, NOW).unwrap();
    }
    settled
}

fn only(outbox: &Outbox, id: &str) -> gitops_agent::outbox::EntryDetail {
    let mut found = outbox.show(id).unwrap();
    assert_eq!(found.len(), 1);
    found.pop().unwrap()
}

#[test]
fn a_commit_queued_twice_is_one_entry() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(dir.path()).unwrap();
    let sample = Sample::new(&id(1), "1.0.0");
    let first = outbox.enqueue(&[sample.entry(), sample.entry()], NOW).unwrap();
    assert_eq!(first, Enqueued { added: 1, already: 1, ..Enqueued::default() });
    assert_eq!(deliver_all(&mut outbox), 1);
    let again = outbox.enqueue(&[sample.entry()], NOW).unwrap();
    assert_eq!(again, Enqueued { already: 1, ..Enqueued::default() });
    assert_eq!(deliver_all(&mut outbox), 0);
    let known = outbox.known("t", &Destination::Local, Some(&sample.judgement)).unwrap();
    assert!(known.contains(&id(1)));
    assert!(outbox.known("t", &Destination::Local, Some("another")).unwrap().is_empty());
    assert!(outbox.known("u", &Destination::Local, Some(&sample.judgement)).unwrap().is_empty());
}

#[test]
fn delivered_is_per_destination() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(dir.path()).unwrap();
    let local = Sample::new(&id(1), "1.0.0");
    let cosmos = Sample {
        destination: Destination::Cosmos {
            endpoint: "https://a/".to_owned(),
            database: "d".to_owned(),
            container: "c".to_owned(),
        },
        ..Sample::new(&id(1), "1.0.0")
    };
    outbox.enqueue(&[local.entry()], NOW).unwrap();
    deliver_all(&mut outbox);
    assert_eq!(outbox.enqueue(&[cosmos.entry()], NOW).unwrap().added, 1);
    let stats = outbox.stats(NOW).unwrap();
    assert_eq!((stats.pending, stats.delivered), (1, 1));
    assert_eq!(stats.destinations[1].pending, 1);
    assert_eq!(outbox.repositories().unwrap()[0].recorded, 2);
}

#[test]
fn a_later_judgement_replaces_and_an_earlier_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(dir.path()).unwrap();
    let old = Sample::of(&id(1), "0.9.0", |record| record["supersedes"] = json!(["aa"]));
    let new = Sample::new(&id(1), "0.10.0");
    outbox.enqueue(&[old.entry()], NOW).unwrap();
    assert_eq!(outbox.enqueue(&[new.entry()], NOW).unwrap().replaced, 1);
    let shown = only(&outbox, &id(1));
    assert_eq!(shown.summary.digest, "digest-0.10.0");
    assert_eq!(shown.record.unwrap()["supersedes"], json!(["aa"]), "the links of the earlier one stay");
    assert_eq!(outbox.enqueue(&[old.entry()], NOW).unwrap().already, 1);
    deliver_all(&mut outbox);
    assert_eq!(outbox.enqueue(&[old.entry()], NOW).unwrap().already, 1);
    let newest = Sample::new(&id(1), "1.0.0");
    assert_eq!(outbox.enqueue(&[newest.entry()], NOW).unwrap().replaced, 1);
    assert_eq!(only(&outbox, &id(1)).summary.state, State::Pending);
    assert_eq!(only(&outbox, &id(1)).record.unwrap()["supersedes"], json!(["aa"]));
}

#[test]
fn new_links_make_a_delivered_row_pending_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(dir.path()).unwrap();
    outbox.enqueue(&[Sample::new(&id(1), "1.0.0").entry()], NOW).unwrap();
    deliver_all(&mut outbox);
    let amended = Sample::of(&id(1), "1.0.0", |record| record["supersedes"] = json!(["bb"]));
    assert_eq!(outbox.enqueue(&[amended.entry()], NOW).unwrap().merged, 1);
    assert_eq!(outbox.enqueue(&[amended.entry()], NOW).unwrap().already, 1);
    let fork =
        Sample::of(&id(1), "1.0.0", |record| record["repository"] = json!({"id": "r2", "branch": "x"}));
    assert_eq!(outbox.enqueue(&[fork.entry()], NOW).unwrap().merged, 1);
    let record = only(&outbox, &id(1)).record.unwrap();
    assert_eq!(record["supersedes"], json!(["bb"]));
    assert_eq!(record["alsoIn"], json!([{"id": "r2"}]));
    assert_eq!(deliver_all(&mut outbox), 1);
    assert_eq!(outbox.enqueue(&[fork.entry(), amended.entry()], NOW).unwrap().already, 2);
}

#[test]
fn the_answer_to_an_older_record_does_not_settle_the_newer() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(dir.path()).unwrap();
    outbox.enqueue(&[Sample::new(&id(1), "1.0.0").entry()], NOW).unwrap();
    let (destination, _) = outbox.destinations().unwrap().remove(0);
    let sent = outbox.due(destination, NOW, 1).unwrap().remove(0);
    outbox.enqueue(&[Sample::new(&id(1), "2.0.0").entry()], NOW).unwrap();
    let settlements =
        vec![Settlement { entry: sent.entry, revision: sent.revision, outcome: Outcome::Delivered }];
    outbox.settle(destination, &Progress { settlements, ..Progress::default() }, NOW).unwrap();
    assert_eq!(only(&outbox, &id(1)).summary.state, State::Pending);
}

#[test]
fn a_tombstone_stays_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(dir.path()).unwrap();
    let sample = Sample::new(&id(0xabcd), "1.0.0");
    outbox.enqueue(&[sample.entry(), Sample::new(&id(2), "1.0.0").entry()], NOW).unwrap();
    assert!(matches!(outbox.discard("ffff", "me", "why", NOW), Err(OutboxError::NotFound(_))));
    assert!(matches!(outbox.discard("0000", "me", "why", NOW), Err(OutboxError::Ambiguous { count: 2, .. })));
    let buried = outbox.discard(&id(0xabcd), "me", "patient name in it", NOW).unwrap();
    assert_eq!(buried[0].settled_by.as_deref(), Some("me"));
    assert_eq!(buried[0].reason.as_deref(), Some("patient name in it"));
    assert_eq!(buried[0].settled_at, Some(NOW));
    assert!(only(&outbox, &id(0xabcd)).record.is_none());
    assert!(matches!(outbox.discard(&id(0xabcd), "me", "", NOW), Err(OutboxError::Settled(_))));
    let later = Sample::new(&id(0xabcd), "9.0.0");
    assert_eq!(outbox.enqueue(&[later.entry()], NOW).unwrap().already, 1);
    assert_eq!(outbox.list(&Selection::In(State::Discarded), 10).unwrap().len(), 1);
    assert!(outbox.known("t", &Destination::Local, Some("any")).unwrap().contains(&id(0xabcd)));
    assert_eq!(deliver_all(&mut outbox), 1);
}

#[test]
fn refused_can_be_retried_and_exported() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(dir.path()).unwrap();
    outbox.enqueue(&[Sample::new(&id(1), "1.0.0").entry()], NOW).unwrap();
    let (destination, _) = outbox.destinations().unwrap().remove(0);
    let sent = outbox.due(destination, NOW, 1).unwrap().remove(0);
    let outcome = Outcome::Refused { kind: "too-large".to_owned(), message: "413".to_owned() };
    let settlements = vec![Settlement { entry: sent.entry, revision: sent.revision, outcome }];
    outbox.settle(destination, &Progress { settlements, ..Progress::default() }, NOW).unwrap();
    let row = outbox.list(&Selection::In(State::Refused), 10).unwrap().remove(0);
    assert_eq!((row.kind.as_deref(), row.reason.as_deref()), (Some("too-large"), Some("413")));
    assert!(outbox.destinations().unwrap().is_empty(), "in nobody's way");
    let mut lines = Vec::new();
    assert_eq!(outbox.export(&Selection::All, &mut lines).unwrap(), 1);
    assert_eq!(serde_json::from_slice::<Value>(&lines).unwrap()["id"], id(1));
    assert_eq!(outbox.retry(&Selection::In(State::Refused)).unwrap(), 1);
    assert_eq!(deliver_all(&mut outbox), 1);
}

#[test]
fn what_waits_for_a_tenant_goes_on_under_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(dir.path()).unwrap();
    let samples: Vec<Sample> = (0..3).map(|n| Sample::new(&id(n), "1.0.0")).collect();
    let held: Vec<NewEntry<'_>> =
        samples.iter().map(|sample| NewEntry { hold: Some("no tenant is set"), ..sample.entry() }).collect();
    outbox.enqueue(&held, NOW).unwrap();
    // The tenant has the third one already.
    outbox.enqueue(&[NewEntry { tenant: "clinic", ..samples[2].entry() }], NOW).unwrap();
    assert_eq!(outbox.stats(NOW).unwrap().held, 3);
    assert_eq!(outbox.retry(&Selection::In(State::Held)).unwrap(), 0);
    let went = outbox
        .assign_tenant(&Destination::Local, "clinic", NOW, |record| {
            record["tenantId"] = "clinic".into();
            Ok("new-digest".to_owned())
        })
        .unwrap();
    assert_eq!(went, 3);
    let stats = outbox.stats(NOW).unwrap();
    assert_eq!((stats.pending, stats.held), (3, 0));
    let row = only(&outbox, &id(0));
    assert_eq!((row.summary.tenant.as_str(), row.summary.digest.as_str()), ("clinic", "new-digest"));
    assert_eq!(row.record.unwrap()["tenantId"], "clinic");
    assert_eq!(outbox.repositories().unwrap()[0].recorded, 3);
}

#[test]
fn the_same_tenant_given_by_name_releases_what_waited_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(dir.path()).unwrap();
    let sample = Sample::new(&id(1), "1.0.0");
    outbox.enqueue(&[NewEntry { hold: Some("no tenant is set"), ..sample.entry() }], NOW).unwrap();
    assert_eq!(deliver_all(&mut outbox), 0);
    outbox.enqueue(&[sample.entry()], NOW).unwrap();
    assert_eq!(deliver_all(&mut outbox), 1);
}

#[test]
fn commits_made_now_go_before_history() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(dir.path()).unwrap();
    let old: Vec<Sample> = (10..20).map(|n| Sample::new(&id(n), "1.0.0")).collect();
    let history: Vec<NewEntry<'_>> =
        old.iter().map(|sample| NewEntry { urgency: Urgency::History, ..sample.entry() }).collect();
    outbox.enqueue(&history, NOW).unwrap();
    outbox.enqueue(&[Sample::new(&id(99), "1.0.0").entry(), old[7].entry()], NOW).unwrap();
    let (destination, _) = outbox.destinations().unwrap().remove(0);
    let due = outbox.due(destination, NOW, 100).unwrap();
    assert_eq!(due.len(), 11);
    let first: Vec<&str> = due[..2].iter().map(|waiting| waiting.id.as_str()).collect();
    assert!(first.contains(&id(99).as_str()) && first.contains(&id(17).as_str()), "{first:?}");
}

#[test]
fn what_is_no_record_queues_nothing_of_the_call() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(dir.path()).unwrap();
    let good = Sample::new(&id(1), "1.0.0");
    let bad = NewEntry { body: b"{\"supersedes\": 1", ..good.entry() };
    assert!(matches!(outbox.enqueue(&[good.entry(), bad], NOW), Err(OutboxError::NotARecord { .. })));
    assert_eq!(outbox.stats(NOW).unwrap().pending, 0);
}

#[test]
fn files_are_private_and_repaired() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("agent/data");
    drop(Outbox::open_for_hook(&dir).unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&dir), mode(&dir.join("outbox.db"))), (0o700, 0o600));
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(dir.join("outbox.db"), fs::Permissions::from_mode(0o644)).unwrap();
    drop(Outbox::open(&dir).unwrap());
    assert_eq!((mode(&dir), mode(&dir.join("outbox.db"))), (0o700, 0o600));
    fs::remove_file(dir.join("outbox.db")).unwrap();
    std::os::unix::fs::symlink(home.path().join("elsewhere"), dir.join("outbox.db")).unwrap();
    assert!(Outbox::open(&dir).is_err());
    assert!(!home.path().join("elsewhere").exists(), "the link must not be followed");
}

#[test]
fn a_hook_waits_a_tenth_of_a_second_for_a_writer_and_spools() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    drop(Outbox::open(dir.path()).unwrap());
    let writer = rusqlite::Connection::open(dir.path().join("outbox.db")).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    let sample = Sample::new(&id(1), "1.0.0");
    let start = std::time::Instant::now();
    let mut hook = Outbox::open_for_hook(dir.path()).unwrap();
    assert!(matches!(hook.enqueue(&[sample.entry()], NOW), Err(OutboxError::Busy)));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    write_spool(&spool, &sample.entry(), NOW).unwrap();
    writer.execute_batch("ROLLBACK").unwrap();
    let mut outbox = Outbox::open(dir.path()).unwrap();
    assert_eq!(spool_waiting(std::slice::from_ref(&spool)).len(), 1);
    assert_eq!(outbox.take_in_spool(std::slice::from_ref(&spool), NOW).unwrap().taken, 1);
    assert!(spool_waiting(&[spool]).is_empty());
    assert_eq!(only(&outbox, &id(1)).record.unwrap()["riskScore"], 0.123);
}

#[test]
fn spool_files_are_taken_in_once_and_damaged_ones_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("repo/.git/gitops-agent");
    let mut outbox = Outbox::open(dir.path()).unwrap();
    for n in 0..5 {
        let sample = Sample::new(&id(n), "1.0.0");
        write_spool(&spool, &NewEntry { hold: (n == 4).then_some("no tenant"), ..sample.entry() }, NOW)
            .unwrap();
    }
    outbox.enqueue(&[Sample::new(&id(0), "1.0.0").entry()], NOW).unwrap();
    let mut files: Vec<PathBuf> = fs::read_dir(&spool).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777, 0o600);
    let whole = fs::read(&files[3]).unwrap();
    fs::write(&files[3], &whole[..whole.len() - 7]).unwrap();
    fs::write(spool.join("0-1-1.spool"), b"rubbish").unwrap();
    fs::write(spool.join("0-1-2.tmp"), b"under way").unwrap();
    std::os::unix::fs::symlink("/etc/hostname", spool.join("0-1-3.spool")).unwrap();
    let missing = dir.path().join("missing");
    let taken_in = outbox.take_in_spool(&[missing, spool.clone()], NOW).unwrap();
    assert_eq!(taken_in.taken, 4);
    assert_eq!(taken_in.set_aside.len(), 2);
    assert!(taken_in.problems.is_empty());
    assert!(
        taken_in.set_aside.iter().all(|path| path.starts_with(spool.canonicalize().unwrap().join("damaged"))
            || path.starts_with(spool.join("damaged")))
    );
    let kept: usize = taken_in.set_aside.iter().map(|path| fs::read(path).unwrap().len()).sum();
    assert_eq!(kept, whole.len() - 7 + b"rubbish".len(), "every byte is kept");
    assert!(spool.join("0-1-2.tmp").exists());
    let stats = outbox.stats(NOW).unwrap();
    assert_eq!((stats.pending, stats.held), (3, 1));
    assert_eq!(outbox.take_in_spool(&[spool], NOW).unwrap().taken, 0);
}

#[test]
fn a_damaged_outbox_is_set_aside_with_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let garbage = vec![7_u8; 8192];
    drop(Outbox::open(dir.path()).unwrap());
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(dir.path().join(format!("outbox.db{suffix}")));
    }
    fs::write(dir.path().join("outbox.db"), &garbage).unwrap();
    assert!(matches!(Outbox::open_for_hook(dir.path()), Err(OutboxError::Damaged(_))));
    let mut outbox = Outbox::open(dir.path()).unwrap();
    let notice = outbox.notice().unwrap().clone();
    assert_eq!(fs::read(&notice.set_aside).unwrap(), garbage);
    outbox.enqueue(&[Sample::new(&id(1), "1.0.0").entry()], NOW).unwrap();
    drop(outbox);
    assert!(Outbox::open(dir.path()).unwrap().notice().is_none());
}

#[test]
fn damage_in_the_middle_is_met_and_then_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(dir.path()).unwrap();
    let samples: Vec<Sample> = (0..200).map(|n| Sample::new(&id(n), "1.0.0")).collect();
    outbox.enqueue(&samples.iter().map(Sample::entry).collect::<Vec<_>>(), NOW).unwrap();
    outbox.tidy().unwrap();
    drop(outbox);
    let path = dir.path().join("outbox.db");
    let mut bytes = fs::read(&path).unwrap();
    let from = 4096 * 2;
    for byte in &mut bytes[from..] {
        *byte = 0x55;
    }
    fs::write(&path, &bytes).unwrap();
    // The header still looks sound, so the hook meets the damage only when it writes.
    let met = Outbox::open_for_hook(dir.path())
        .and_then(|mut hook| hook.enqueue(&[Sample::new(&id(999), "1.0.0").entry()], NOW));
    assert!(matches!(met, Err(OutboxError::Damaged(_))), "{met:?}");
    let outbox = Outbox::open(dir.path()).unwrap();
    let notice = outbox.notice().unwrap();
    assert_eq!(fs::read(&notice.set_aside).unwrap().len(), bytes.len());
    assert_eq!(outbox.stats(NOW).unwrap().pending, 0);
}

/// Writes over whole pages of the outbox, counted from 1, all in the database and none in the log.
fn damage(dir: &Path, pages: impl IntoIterator<Item = usize>) {
    let path = dir.join("outbox.db");
    let mut bytes = fs::read(&path).unwrap();
    for page in pages {
        bytes[(page - 1) * 4096..page * 4096].fill(0x55);
    }
    fs::write(&path, &bytes).unwrap();
}

/// 300 commits, of which the first is delivered, the second discarded and the third refused.
fn filled(dir: &Path) -> Vec<Sample> {
    let mut outbox = Outbox::open(dir).unwrap();
    let samples: Vec<Sample> = (0..300).map(|n| Sample::new(&id(n), "1.0.0")).collect();
    outbox.enqueue(&samples.iter().map(Sample::entry).collect::<Vec<_>>(), NOW).unwrap();
    let (destination, _) = outbox.destinations().unwrap().remove(0);
    let due = outbox.due(destination, NOW, 3).unwrap();
    let refused = Outcome::Refused { kind: "too-large".to_owned(), message: "too large".to_owned() };
    let settlements = [(0, Outcome::Delivered), (2, refused)]
        .map(|(n, outcome)| Settlement { entry: due[n].entry, revision: due[n].revision, outcome })
        .to_vec();
    outbox.settle(destination, &Progress { settlements, ..Progress::default() }, NOW).unwrap();
    outbox.discard(&id(1), "ada", "a test", NOW).unwrap();
    outbox.tidy().unwrap();
    samples
}

#[test]
fn what_reads_of_a_damaged_outbox_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let samples = filled(dir.path());
    let pages = fs::read(dir.path().join("outbox.db")).unwrap().len() / 4096;
    assert!(pages > 50, "{pages}");
    damage(dir.path(), (30..pages).step_by(9));
    let mut outbox = Outbox::open(dir.path()).unwrap();
    let notice = outbox.notice().cloned().or_else(|| {
        // Where the damage is in records only, the first to read one meets it.
        assert!(
            outbox.list(&Selection::All, 1000).is_err()
                || outbox.export(&Selection::All, &mut std::io::sink()).is_err()
        );
        fs::File::create(dir.path().join("outbox.suspect")).unwrap();
        outbox = Outbox::open(dir.path()).unwrap();
        outbox.notice().cloned()
    });
    let recovered = notice.unwrap().recovered;
    assert!((150..300).contains(&recovered), "{recovered} of 300");
    let rows = outbox.list(&Selection::All, 1000).unwrap();
    assert_eq!(rows.len(), recovered);
    for row in rows.iter().filter(|row| row.bytes.is_some()) {
        let kept = only(&outbox, &row.id).record.unwrap();
        let sample = samples.iter().find(|sample| sample.id == row.id).unwrap();
        assert_eq!(kept, serde_json::from_slice::<Value>(&sample.body).unwrap());
    }
    // They are whole entries: queueing again brings back what is lost, and nothing twice.
    let again = outbox.enqueue(&samples.iter().map(Sample::entry).collect::<Vec<_>>(), NOW).unwrap();
    assert_eq!((again.added, again.already), (300 - recovered, recovered));
    assert!(deliver_all(&mut outbox) >= 290);
    assert!(Outbox::open(dir.path()).unwrap().notice().is_none());
}

#[test]
fn an_outbox_without_its_first_page_is_taken_over_with_every_state() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    damage(dir.path(), [1]);
    let outbox = Outbox::open(dir.path()).unwrap();
    assert_eq!(outbox.notice().unwrap().recovered, 300);
    let states = [0, 1, 2, 3].map(|n| only(&outbox, &id(n)).summary.state);
    assert_eq!(states, [State::Delivered, State::Discarded, State::Refused, State::Pending]);
    assert_eq!(only(&outbox, &id(1)).summary.settled_by.as_deref(), Some("ada"));
    let judged = outbox.known("t", &Destination::Local, Some("agent 1.0.0 rules r")).unwrap();
    assert_eq!(judged.len(), 300, "nothing is judged again");
    assert_eq!(outbox.repositories().unwrap()[0].recorded, 300);
}

#[test]
fn a_lost_table_of_judgements_costs_no_record() {
    let dir = tempfile::tempdir().unwrap();
    let samples = filled(dir.path());
    let connection = rusqlite::Connection::open(dir.path().join("outbox.db")).unwrap();
    let root = |table: &str| -> usize {
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        connection.query_row(sql, [table], |row| row.get::<_, i64>(0)).unwrap().try_into().unwrap()
    };
    let pages = ["judgements", "sources", "repositories"].map(root);
    drop(connection);
    damage(dir.path(), pages);
    fs::File::create(dir.path().join("outbox.suspect")).unwrap();
    let mut outbox = Outbox::open(dir.path()).unwrap();
    assert_eq!(outbox.notice().unwrap().recovered, 300);
    assert!(outbox.known("t", &Destination::Local, Some("agent 1.0.0 rules r")).unwrap().len() <= 1);
    let later = Sample::new(&samples[9].id, "1.0.1");
    assert_eq!(outbox.enqueue(&[later.entry()], NOW).unwrap().replaced, 1, "the order still holds");
    assert_eq!(deliver_all(&mut outbox), 297);
}

#[test]
fn an_interrupted_rescue_is_finished_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    damage(dir.path(), [1]);
    // Killed after the rename, before the new outbox was made.
    let name = "outbox.db.damaged-20260101T000000";
    fs::write(dir.path().join("outbox.suspect"), name).unwrap();
    for suffix in ["-wal", "-shm", ""] {
        let (from, to) = (format!("outbox.db{suffix}"), format!("{name}{suffix}"));
        let _ = fs::rename(dir.path().join(from), dir.path().join(to));
    }
    let mut hook = Outbox::open_for_hook(dir.path()).unwrap();
    hook.enqueue(&[Sample::new(&id(5), "1.0.1").entry(), Sample::new(&id(777), "1.0.0").entry()], NOW)
        .unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    assert_eq!(outbox.notice().unwrap().recovered, 299, "what is there already stays");
    assert_eq!(outbox.list(&Selection::All, 1000).unwrap().len(), 301);
    assert!(!dir.path().join("outbox.suspect").exists() && !dir.path().join("outbox.salvage").exists());
    assert!(Outbox::open(dir.path()).unwrap().notice().is_none());
}

#[test]
fn a_newer_outbox_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(Outbox::open(dir.path()).unwrap());
    let path = dir.path().join("outbox.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    // A newer agent may have chosen another journal; not even that is changed back.
    connection.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(())).unwrap();
    drop(connection);
    let before = fs::read(&path).unwrap();
    for _ in 0..2 {
        assert!(matches!(Outbox::open(dir.path()), Err(OutboxError::Newer { found: 99, .. })));
        assert!(matches!(Outbox::open_for_hook(dir.path()), Err(OutboxError::Newer { found: 99, .. })));
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn many_threads_open_and_queue_for_the_first_time_at_once() {
    for _ in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("spool");
        std::thread::scope(|scope| {
            for thread in 0..16 {
                let (dir, spool) = (dir.path(), &spool);
                scope.spawn(move || {
                    for n in 0..10 {
                        let sample = Sample::new(&id(thread * 100 + n), "1.0.0");
                        let queued = Outbox::open_for_hook(dir)
                            .and_then(|mut outbox| outbox.enqueue(&[sample.entry()], NOW));
                        match queued {
                            Ok(done) => assert_eq!(done.added, 1),
                            Err(OutboxError::Busy) => write_spool(spool, &sample.entry(), NOW).unwrap(),
                            Err(other) => panic!("{other}"),
                        }
                    }
                });
            }
        });
        let mut outbox = Outbox::open(dir.path()).unwrap();
        outbox.take_in_spool(&[spool], NOW).unwrap();
        assert_eq!(outbox.stats(NOW).unwrap().pending, 160);
    }
}

/// Run by the tests below in a process of its own: queues without end and says which ids are safe.
#[test]
#[ignore = "the child of `acknowledged_records_survive_kill_9`"]
fn child_queues_until_killed() {
    let dir = PathBuf::from(std::env::var_os("OUTBOX_TEST_DIR").unwrap());
    let base: usize = std::env::var("OUTBOX_TEST_BASE").unwrap().parse().unwrap();
    let acknowledged = dir.join(format!("acknowledged-{base}"));
    for n in base.. {
        let sample = Sample::new(&id(n), "1.0.0");
        let queued =
            Outbox::open_for_hook(&dir).and_then(|mut outbox| outbox.enqueue(&[sample.entry()], NOW));
        if queued.is_err() {
            write_spool(&dir.join("spool"), &sample.entry(), NOW).unwrap();
        }
        fs::write(&acknowledged, n.to_string()).unwrap();
    }
}

#[test]
fn acknowledged_records_survive_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let bases: Vec<usize> = (1..=4).map(|n| n * 1_000_000).collect();
    let mut children: Vec<_> = bases
        .iter()
        .map(|base| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "child_queues_until_killed", "--ignored"])
                .env("OUTBOX_TEST_DIR", dir.path())
                .env("OUTBOX_TEST_BASE", base.to_string())
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    std::thread::sleep(Duration::from_millis(700));
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut outbox = Outbox::open(dir.path()).unwrap();
    outbox.take_in_spool(&[dir.path().join("spool")], NOW).unwrap();
    let ids: Vec<String> =
        outbox.list(&Selection::All, usize::MAX).unwrap().into_iter().map(|row| row.id).collect();
    for base in bases {
        let last = fs::read_to_string(dir.path().join(format!("acknowledged-{base}"))).unwrap_or_default();
        // The kill may have met the child between emptying and writing its own note.
        let Ok(last) = last.parse::<usize>() else { continue };
        for n in base..=last {
            assert!(ids.contains(&id(n)), "{n} was acknowledged and is gone");
        }
    }
    assert!(!ids.is_empty());
}

#[test]
fn space_of_delivered_records_goes_back_to_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(dir.path()).unwrap();
    let samples: Vec<Sample> = (0..500)
        .map(|n| Sample::of(&id(n), "1.0.0", |record| record["message"] = "x".repeat(8000).into()))
        .collect();
    outbox.enqueue(&samples.iter().map(Sample::entry).collect::<Vec<_>>(), NOW).unwrap();
    let full = outbox.stats(NOW).unwrap().bytes;
    deliver_all(&mut outbox);
    outbox.tidy().unwrap();
    let empty = outbox.stats(NOW).unwrap().bytes;
    assert!(full > 4_000_000 && empty < 2_000_000, "{full} {empty}");
}

/// Every version that an agent has left on a disk, the newest too: a fixture is written when a version is.
#[test]
fn outboxes_of_every_version_are_moved_forward_with_all_they_have() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let fresh = tempfile::tempdir().unwrap();
    drop(Outbox::open(fresh.path()).unwrap());
    let version = |dir: &Path| -> i64 {
        let connection = rusqlite::Connection::open(dir.join("outbox.db")).unwrap();
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    };
    let newest = version(fresh.path());
    for old in 1..=(newest - 1).max(1) {
        let dir = tempfile::tempdir().unwrap();
        let connection = rusqlite::Connection::open(dir.path().join("outbox.db")).unwrap();
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
        let sql = fs::read_to_string(fixtures.join(format!("outbox-{old}.sql"))).unwrap();
        connection.execute_batch(&sql).unwrap();
        drop(connection);
        assert_eq!(version(dir.path()), old);
        // Many at once: one moves it forward, the others find it done.
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| drop(Outbox::open(dir.path()).unwrap()));
            }
        });
        assert_eq!(version(dir.path()), newest);
        let mut outbox = Outbox::open(dir.path()).unwrap();
        let states = [1, 2, 3, 4, 5].map(|n| only(&outbox, &id(n)).summary.state);
        let expected = [State::Held, State::Held, State::Refused, State::Delivered, State::Discarded];
        assert_eq!(states, expected, "version {old}; the first stands before a gate");
        assert_eq!(only(&outbox, &id(5)).summary.settled_by.as_deref(), Some("ada"));
        assert_eq!(outbox.stats(NOW).unwrap().request_units, 12.5);
        let again = Sample::new(&id(4), "1.0.0");
        assert_eq!(outbox.enqueue(&[again.entry()], NOW).unwrap().already, 1, "delivered is delivered");
        let later = Sample::new(&id(4), "1.0.1");
        assert_eq!(outbox.enqueue(&[later.entry()], NOW).unwrap().replaced, 1);
    }
}
