//! What records cost: the day's budget, what the outbox keeps of it, and `cost`.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod world;

use serde_json::{Value, json};
use world::{Emulator, World};

fn budget(world: &World, units: &str) {
    std::fs::write(world.home().join("config.toml"), format!("[store]\nbudget_ru = {units}\n")).unwrap();
}

#[test]
fn a_budget_slows_history_and_never_todays_commits() {
    let emulator = Emulator::start(&[]);
    let world = World::with_cosmos(emulator.endpoint(), "clinic-a");
    world.ok(&["store", "init"]);
    world.history(120);
    let all: usize = world.git(&["rev-list", "--count", "HEAD"]).parse().unwrap();
    // Enough for one record: what one fetch had in hand goes out, the rest waits.
    budget(&world, "10");
    let output = world.output(&["backfill"]);
    assert_eq!(output.status.code(), Some(3), "records are still pending");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("of history wait for tomorrow (UTC): the day's store.budget_ru is spent"),
        "{said}"
    );
    let sent = world.records().len();
    assert!(0 < sent && sent < all / 2, "{sent} of {all}");
    assert_eq!(world.json(&["status", "--json"])["outbox"]["pending"], all - sent);

    // Asked for by hand it is the same: the budget was set by a person, too.
    let again: Value = {
        let output = world.output(&["flush", "--json"]);
        assert_eq!(output.status.code(), Some(3));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    assert_eq!((&again["delivered"], &again["postponed"]), (&json!(0), &json!(all - sent)), "{again}");

    // A commit made now goes at once, by the worker that its hook starts.
    world.ok(&["install"]);
    let id = world.commit("now.txt", "now\n", "Made now");
    world.delivered(&id);
    assert_eq!(world.records().len(), sent + 1);

    // With more to spend everything goes.
    budget(&world, "1000000");
    world.ok(&["flush"]);
    assert_eq!(world.records().len(), all + 1);
    world.ok(&["verify"]);
}

#[test]
fn cost_adds_up() {
    let emulator = Emulator::start(&[]);
    let mut world = World::with_cosmos(emulator.endpoint(), "clinic-a");
    world.history(20);
    let all: usize = world.git(&["rev-list", "--count", "HEAD"]).parse().unwrap();
    // Before anything was sent, from Azure's figures.
    let before = world.json(&["cost", "--json"]);
    assert_eq!(before["measured"]["perRecord"], Value::Null);
    assert_eq!(before["forecast"]["perRecordFrom"], "published");
    assert_eq!(
        (&before["sample"]["commits"], &before["forecast"]["history"]["commits"]),
        (&json!(all), &json!(all as f64))
    );
    // An ordinary commit's record costs six units at most: by its size, with every property indexed.
    let each = before["sample"]["publishedPerRecord"].as_f64().unwrap();
    assert!((5.0..=6.0).contains(&each), "{each}");
    // No commit of the last year: the dates of this history are of 2023.
    assert_eq!(before["forecast"]["month"]["commits"], 0.0);

    world.ok(&["store", "init"]);
    let report = world.json(&["backfill", "--json"]);
    let charged = report["delivery"]["requestUnits"].as_f64().unwrap();
    budget(&world, "100");
    let after = world.json(&["cost", "--json", "--price-ru", "1000000"]);
    let measured = &after["measured"];
    assert_eq!(measured["records"], all);
    let units = measured["requestUnits"].as_f64().unwrap();
    assert!((units - charged).abs() < 0.01 && units > 0.0, "{charged}: {after}");
    let days: f64 =
        measured["days"].as_array().unwrap().iter().map(|day| day["requestUnits"].as_f64().unwrap()).sum();
    assert!((days - units).abs() < 0.01, "the days are the sum: {after}");
    assert_eq!(after["forecast"]["perRecordFrom"], "measured");
    let history = &after["forecast"]["history"];
    assert!((history["requestUnits"].as_f64().unwrap() - units).abs() < 0.01);
    assert!((history["price"].as_f64().unwrap() - units).abs() < 0.01, "at a price of 1 for each unit");
    assert_eq!(after["forecast"]["historyDays"], (units / 100.0).ceil());

    let table = world.ok(&["cost"]);
    assert!(table.contains("budget: 100 RU a day") && table.contains("history, once"), "{table}");
    // The local store costs nothing, and says what Cosmos DB would.
    world.set("GITOPS_AGENT_STORE", "local");
    let local = world.json(&["cost", "--json"]);
    assert_eq!(
        (&local["measured"]["perRecord"], &local["forecast"]["perRecordFrom"]),
        (&Value::Null, &json!("published"))
    );
}

#[test]
fn a_budget_is_a_number_of_units() {
    let world = World::new();
    for wrong in ["0", "-1", "99999999999"] {
        budget(&world, wrong);
        let (code, said) = world.fails(&["query"]);
        assert_eq!(code, 2);
        assert!(said.contains("store.budget_ru") && said.contains("whole number"), "{said}");
    }
    budget(&world, "5000");
    let shown = world.json(&["config", "show", "--json"]);
    assert_eq!(shown["store.budget_ru"]["value"], "5000");
}
