//! What stands beside a score: percentile and calibrated probability, from the outbox to the store.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod world;

use world::World;

/// A hundred commits of growing size on one file each, and one large one.
fn hundred(world: &World) {
    world.git(&["init", "-q"]);
    for n in 1..=100 {
        let text: String = (0..n).map(|line| format!("line {line} of {n}\n")).collect();
        world.commit(&format!("file{n:03}.txt"), &text, &format!("Add {n}"));
    }
}

#[test]
fn backfill_learns_the_percentile_and_the_digest_does_not_see_it() {
    let world = World::new();
    hundred(&world);
    let before = world.json(&["explain", "--json"]);
    assert!(before.get("riskPercentile").is_none(), "nothing is known yet");
    world.ok(&["backfill"]);
    let stored = world.records();
    assert_eq!(stored.len(), 100);
    let percentile = |id: &str| {
        let record = stored.iter().find(|record| record["id"] == id).unwrap();
        record["riskPercentile"].as_f64().unwrap()
    };
    let newest = world.git(&["rev-parse", "HEAD"]);
    let oldest = world.git(&["rev-list", "--max-parents=0", "HEAD"]);
    assert_eq!((percentile(oldest.trim()), percentile(newest.trim())), (0.5, 99.5));
    // Tables have a column for it where somebody has one, CSV always.
    let (table, csv) =
        (world.ok(&["query", "--limit", "1"]), world.ok(&["query", "--limit", "1", "--format", "csv"]));
    let heading = table.lines().next().unwrap();
    assert!(heading.contains("PERCENTILE") && !heading.contains("CALIBRATED"), "{table}");
    assert!(table.lines().nth(1).unwrap().contains(" 99.5 "), "{table}");
    assert!(csv.starts_with("id,timestamp,") && csv.contains(",riskPercentile,riskCalibrated\n"), "{csv}");
    assert!(csv.trim_end().ends_with(",99.5,"), "{csv}");
    let after = world.json(&["explain", "--json"]);
    assert_eq!(after["riskPercentile"], 99.5);
    assert_eq!(after["digest"], before["digest"]);
    let told = world.ok(&["explain"]);
    let sentence =
        "1. 100 lines added to 1 file of 0 lines: in public histories 37 of 100 changes of this size";
    assert!(told.contains("What matters, low risk:") && told.contains(sentence), "{told}");
    assert!(told.contains("That is more than 99.5 % of this repository's commits."), "{told}");
    world.ok(&["verify"]);
}

#[test]
fn explain_names_the_three_things_that_matter_and_no_more() {
    let world = World::new();
    let code = "def sign_in(user, password):\n    if not verify_password(user, password):\n        raise Denied()\n    \
                audit.log('sign in', user)\n    return session(user)\n";
    world.commit("src/auth/login.py", code, "Start");
    world.commit("src/auth/login.py", "def sign_in(user, password):\n    return session(user)\n", "Simplify");
    let told = world.ok(&["explain"]);
    let reasons: Vec<&str> = told
        .lines()
        .skip_while(|line| !line.starts_with("What matters, "))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .collect();
    assert_eq!(reasons.len(), 3, "{told}");
    assert!(reasons[0].contains("src/auth/login.py") && reasons[0].contains("points, +0."), "{told}");
    let record = world.json(&["explain", "--json"]);
    assert!(record["riskFactors"].as_array().unwrap().len() >= 3, "{record}");
}

#[test]
fn commits_are_measured_as_they_come_and_each_once() {
    let world = World::new();
    hundred(&world);
    world.ok(&["backfill"]);
    world.ok(&["install"]);
    // Larger than all before it: 100 of 101 are below, and itself counts half.
    let id = world.commit("big.txt", &"new\n".repeat(500), "Add much");
    let record = world.delivered(&id);
    assert_eq!(record["riskPercentile"], 99.5);
    world.ok(&["backfill"]);
    world.ok(&["backfill", "--missing"]);
    let (path, sql) = (world.home().join("outbox.db"), "SELECT count(*) FROM measured");
    let measured: i64 =
        rusqlite::Connection::open(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(measured, 101);
}

#[test]
fn a_history_that_an_older_agent_recorded_is_measured_by_the_next_backfill() {
    let world = World::new();
    hundred(&world);
    world.ok(&["backfill"]);
    let path = world.home().join("outbox.db");
    rusqlite::Connection::open(path)
        .unwrap()
        .execute_batch("DELETE FROM measured; DELETE FROM histories")
        .unwrap();
    assert!(world.json(&["explain", "--json"]).get("riskPercentile").is_none());
    let told = world.ok(&["backfill"]);
    assert!(told.contains("0 recorded now") && told.contains("100 known already"), "{told}");
    assert_eq!(world.json(&["explain", "--json"])["riskPercentile"], 99.5);
}
