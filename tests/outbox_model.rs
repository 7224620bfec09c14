//! The outbox against a model of its states: whatever is done in whatever order, each commit is one entry, in the
//! state that the header of `src/outbox/mod.rs` draws.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::path::Path;

use gitops_agent::destination::Destination;
use gitops_agent::outbox::{
    NewEntry, Outbox, OutboxError, Outcome, Progress, Selection, Settlement, State, Urgency, Waiting,
    write_spool,
};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

const NOW: Timestamp = Timestamp::constant(1_700_000_000, 0);

#[derive(Clone, Debug)]
enum Step {
    /// A commit, judged by an agent of this version, perhaps without a tenant, perhaps by a spool file.
    Queue {
        commit: u8,
        version: u8,
        hold: bool,
        spool: bool,
    },
    /// The store takes everything that is due.
    Deliver,
    /// The store refuses one commit, or asks to come back.
    Refuse(u8),
    Again(u8),
    /// An answer to a record that has been replaced since arrives late.
    Stale(u8),
    Retry,
    Discard(u8),
    /// The process ends; another opens the file.
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let commit = || 0_u8..5;
    prop_oneof![
        5 => (commit(), 0_u8..3, prop::bool::weighted(0.2), any::<bool>())
            .prop_map(|(commit, version, hold, spool)| Step::Queue { commit, version, hold, spool }),
        1 => Just(Step::Deliver),
        1 => commit().prop_map(Step::Refuse),
        1 => commit().prop_map(Step::Again),
        1 => commit().prop_map(Step::Stale),
        1 => Just(Step::Retry),
        1 => commit().prop_map(Step::Discard),
        1 => Just(Step::Reopen),
    ]
}

fn id(commit: u8) -> String {
    format!("{commit:040x}")
}

/// State and version of each commit.
type Model = BTreeMap<u8, (State, u8)>;

fn queue(outbox: &mut Outbox, spool: Option<&Path>, commit: u8, version: u8, hold: bool) {
    let (id, judgement) = (id(commit), format!("1.0.{version}"));
    let body = json!({"id": id, "complete": true, "agentVersion": judgement, "rules": {"packs": []},
        "repository": {"id": "r1"}, "digest": "d"});
    let body = serde_json::to_vec(&body).unwrap();
    let entry = NewEntry {
        tenant: "t",
        date: "2023-11-14",
        id: &id,
        destination: &Destination::Local,
        digest: "d",
        judgement: &judgement,
        body: &body,
        urgency: Urgency::Live,
        repository: Path::new("/repo"),
        hold: hold.then_some("no tenant"),
    };
    match spool {
        Some(spool) => {
            write_spool(spool, &entry, NOW).unwrap();
            assert_eq!(outbox.take_in_spool(&[spool.to_owned()], NOW).unwrap().taken, 1);
        }
        None => drop(outbox.enqueue(&[entry], NOW).unwrap()),
    }
}

fn queue_in_model(model: &mut Model, commit: u8, version: u8, hold: bool) {
    let fresh = (if hold { State::Held } else { State::Pending }, version);
    match model.get_mut(&commit) {
        None => drop(model.insert(commit, fresh)),
        Some((State::Discarded, _)) => {}
        Some(entry) if version > entry.1 => *entry = fresh,
        Some(entry) if entry.0 == State::Held && !hold => entry.0 = State::Pending,
        Some(_) => {}
    }
}

fn due(outbox: &Outbox) -> Vec<Waiting> {
    let destinations = outbox.destinations().unwrap();
    destinations.iter().flat_map(|(id, _)| outbox.due(*id, NOW, 100).unwrap()).collect()
}

fn settle(outbox: &mut Outbox, settlements: Vec<Settlement>) {
    let Some((destination, _)) = outbox.destinations().unwrap().pop() else { return };
    outbox.settle(destination, &Progress { settlements, ..Progress::default() }, NOW).unwrap();
}

fn answer(outbox: &mut Outbox, commit: u8, late: i64, outcome: &Outcome) {
    let waiting = due(outbox).into_iter().find(|waiting| waiting.id == id(commit));
    let settlement =
        waiting.map(|w| Settlement { entry: w.entry, revision: w.revision - late, outcome: outcome.clone() });
    settle(outbox, settlement.into_iter().collect());
}

fn run(outbox: &mut Outbox, dir: &Path, model: &mut Model, step: &Step) {
    let (kind, message) = ("kind".to_owned(), "words".to_owned());
    match step {
        Step::Queue { commit, version, hold, spool } => {
            let folder = dir.join("spool");
            queue(outbox, spool.then_some(&folder), *commit, *version, *hold);
            queue_in_model(model, *commit, *version, *hold);
        }
        Step::Deliver => {
            let delivered =
                |w: Waiting| Settlement { entry: w.entry, revision: w.revision, outcome: Outcome::Delivered };
            let settlements = due(outbox).into_iter().map(delivered).collect();
            settle(outbox, settlements);
            model
                .values_mut()
                .filter(|entry| entry.0 == State::Pending)
                .for_each(|entry| entry.0 = State::Delivered);
        }
        Step::Refuse(commit) => {
            answer(outbox, *commit, 0, &Outcome::Refused { kind, message });
            model.entry(*commit).and_modify(|entry| {
                if entry.0 == State::Pending {
                    entry.0 = State::Refused;
                }
            });
        }
        // Due at once again: only the attempts are counted.
        Step::Again(commit) => answer(outbox, *commit, 0, &Outcome::Again { not_before: NOW, kind, message }),
        Step::Stale(commit) => answer(outbox, *commit, 1, &Outcome::Delivered),
        Step::Retry => {
            outbox.retry(&Selection::All).unwrap();
            model
                .values_mut()
                .filter(|entry| entry.0 == State::Refused)
                .for_each(|entry| entry.0 = State::Pending);
        }
        Step::Discard(commit) => {
            let result = outbox.discard(&id(*commit), "ada", "a test", NOW);
            match model.get_mut(commit) {
                None => assert!(matches!(result, Err(OutboxError::NotFound(_)))),
                Some((State::Delivered | State::Discarded, _)) => {
                    assert!(matches!(result, Err(OutboxError::Settled(_))));
                }
                Some(entry) => {
                    assert_eq!(result.unwrap().len(), 1);
                    entry.0 = State::Discarded;
                }
            }
        }
        Step::Reopen => *outbox = Outbox::open(dir).unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_done_each_commit_is_one_entry_in_the_state_that_is_drawn(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(dir.path()).unwrap();
        let mut model = Model::new();
        for (number, step) in steps.iter().enumerate() {
            run(&mut outbox, dir.path(), &mut model, step);
            let rows = outbox.list(&Selection::All, 100).unwrap();
            let found: BTreeMap<String, (State, String)> =
                rows.iter().map(|row| (row.id.clone(), (row.state, row.judgement.clone()))).collect();
            let expected: BTreeMap<String, (State, String)> = model
                .iter()
                .map(|(commit, (state, version))| (id(*commit), (*state, format!("1.0.{version}"))))
                .collect();
            prop_assert_eq!(rows.len(), expected.len());
            prop_assert_eq!(found, expected, "after step {} {:?}", number, step);
            // Nothing that waits has given up its record, and everything that is settled has.
            for row in rows {
                let settled = matches!(row.state, State::Delivered | State::Discarded);
                prop_assert_eq!(row.bytes.is_none(), settled);
            }
        }
    }
}
