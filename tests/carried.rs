//! Rules and the ticket pattern that a repository carries: they add, and can do nothing else.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod world;

use serde_json::{Value, json};
use world::World;

fn rule(name: &str, body: &str) -> String {
    format!(
        "[[rule]]\nid = \"{name}\"\nversion = 1\nstatus = \"stable\"\ntitle = \"Pump table\"\nwhy = \"w\"\nask = \"a?\"\n\
         tags = {{ HOUSE = [\"sop-7\"], HIPAA = [\"45cfr164.312(b)\"] }}\nseverity = \"high\"\nweight = 50\n{body}\n\
         [[rule.test]]\nname = \"hit\"\npath = \"a.c\"\ndiff = \"+pump_table\"\nexpect = \"match\"\n\
         [[rule.test]]\nname = \"miss\"\npath = \"a.c\"\ndiff = \"+table\"\nexpect = \"no_match\"\n"
    )
}

const LINES: &str = "keywords = [\"pump_table\"]\n[rule.sel.a]\nin = \"added\"\n[rule.when]\nall = [\"a\"]";
const CITATION: &str = "[[citation]]\nid = \"sop-7\"\ntitle = \"House rule\"\n";
const AUDIT: &str = "auditLog.record(user, VIEW, patient);\n";

fn explain(world: &World) -> Value {
    world.json(&["explain", "--json"])
}

fn of<'a>(record: &'a Value, prefix: &str) -> Vec<&'a Value> {
    let findings = record["findings"].as_array().unwrap();
    findings.iter().filter(|finding| finding["rule"].as_str().unwrap().starts_with(prefix)).collect()
}

#[test]
fn carried_rules_add_findings_that_show_where_they_come_from() {
    let mut world = World::new();
    world.set("GITOPS_AGENT_CLASS", "ehr");
    world.ok(&["install"]);
    world.commit(
        ".gitops-agent.toml",
        &format!("{CITATION}{}", rule("carried.pump.table", LINES)),
        "Describe",
    );
    let id = world.commit("src/a.c", "pump_table = 3\n", "Change");
    let record = world.delivered(&id);
    assert_eq!(record["compliance"], json!(["HIPAA", "HOUSE"]));
    let finding = of(&record, "carried.pump.table")[0];
    assert_eq!(
        (&finding["path"], &finding["line"], &finding["points"]),
        (&json!("src/a.c"), &json!(1), &json!(50))
    );
    assert_eq!(
        record["rules"]["packs"].as_array().unwrap().len(),
        5,
        "the packs in force are those of the user"
    );
    assert!(world.ok(&["explain"]).contains("the repository itself carries"));
    let report = world.json(&["rules", "check", "--json"]);
    let built_in = world.json(&["rules", "list", "--json"])["rules"].as_array().unwrap().len();
    assert_eq!(report["rules"], built_in + 1);
    world.ok(&["verify"]);
}

#[test]
fn carried_rules_change_nothing_of_what_the_packs_find() {
    let mut world = World::new();
    world.set("GITOPS_AGENT_CLASS", "ehr");
    world.commit("src/Records.java", AUDIT, "Begin");
    world.git(&["checkout", "-q", "-b", "plain"]);
    world.commit("src/Records.java", "\n", "Tidy\n\nPHI-Impact: None");
    let plain = explain(&world);
    assert_eq!(of(&plain, "hipaa.audit.call-removed").len(), 1);
    assert_eq!(of(&plain, "declared.").len(), 1);
    world.git(&["checkout", "-q", "main"]);
    // Twenty loud rules for every file, one of them with the id of the rule that it would like to be.
    let any = "[rule.sel.a]\nin = \"path\"\nglob = [\"**\"]\n[rule.when]\nall = [\"a\"]";
    let mut text = CITATION.to_owned();
    for name in ["hipaa.audit.call-removed", "declared.phi.less-than-found"] {
        text.push_str(&rule(name, any));
    }
    (0..25).for_each(|number| text.push_str(&rule(&format!("carried.noise.n{number}"), any)));
    world.commit(".gitops-agent.toml", &text, "Describe");
    for number in 0..300 {
        std::fs::write(world.repo().join(format!("f{number}")), "x\n").unwrap();
    }
    let id = world.commit("src/Records.java", "\n", "Tidy\n\nPHI-Impact: None");
    assert_eq!(id, world.git(&["rev-parse", "HEAD"]));
    let loud = explain(&world);
    for kept in ["hipaa.", "declared."] {
        assert_eq!(of(&plain, kept), of(&loud, kept));
    }
    assert_eq!(loud["findings"].as_array().unwrap().len(), 200);
    assert!(of(&loud, "carried.noise.n19").len() + of(&loud, "carried.noise.n0").len() > 0);
    assert_eq!(of(&loud, "carried.noise.n20").len(), 0, "the first twenty entries are read");
    let points = |record: &Value| -> f64 {
        record["findings"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|finding| !finding["rule"].as_str().unwrap().starts_with("carried."))
            .map(|finding| finding["points"].as_f64().unwrap())
            .sum()
    };
    assert!((points(&plain) - points(&loud)).abs() < 0.001);
    assert!(plain["riskScore"].as_f64().unwrap() < loud["riskScore"].as_f64().unwrap());
}

#[test]
fn what_is_wrong_with_a_carried_rule_costs_only_itself_and_doctor_says_it() {
    let world = World::new();
    world.ok(&["install"]);
    let heavy =
        "[rule.sel.a]\nin = \"added\"\nregex = ['(?:(?:ab?c?){50}){50}x']\n[rule.when]\nall = [\"a\"]";
    let found = "[rule.sel.a]\nin = \"found\"\nregex = ['HIPAA']\n[rule.when]\nnone = [\"a\"]\nall = [\"a\"]";
    let text = format!(
        "ticket = '['\n{CITATION}{}{}{}{}{}{}",
        rule("carried.pump.table", LINES),
        rule("carried.pump.table", LINES),
        rule("carried.too.heavy", heavy),
        rule("carried.asks.others", found),
        rule("hipaa.mine.now", LINES),
        rule("carried.cites.nothing", LINES).replace("sop-7", "sop-8"),
    );
    world.commit(".gitops-agent.toml", &text, "Describe");
    world.commit("a.c", "pump_table\n", "Change");
    let record = explain(&world);
    assert_eq!(of(&record, "carried.").len(), 1);
    assert_eq!(of(&record, "hipaa.mine").len(), 0);
    let doctor: Value = serde_json::from_slice(&world.output(&["doctor", "--json"]).stdout).unwrap();
    let checks = doctor["checks"].as_array().unwrap().iter().filter(|check| check["check"] == "carried");
    let said: Vec<&str> = checks.map(|check| check["message"].as_str().unwrap()).collect();
    for part in [
        ".gitops-agent.toml: ticket:",
        "rule carried.pump.table: the id is already used",
        "rule carried.too.heavy: regex",
        "rule carried.asks.others: `found` is for packs",
        "rule hipaa.mine.now: not the id of a carried rule",
        "rule carried.cites.nothing: unknown citation \"sop-8\"",
    ] {
        assert!(said.iter().any(|message| message.contains(part)), "{part}: {said:#?}");
    }
    assert_eq!(world.fails(&["rules", "check"]).0, 1);
}

#[test]
fn a_hostile_carried_file_costs_a_hook_seconds_at_most() {
    let world = World::new();
    world.ok(&["install"]);
    let slow = "[rule.sel.a]\nin = \"added\"\nregex = ['(?:a|aa|aaa|ab|b)*(?:a[ab]{12}){2}c']\n[rule.when]\nall = [\"a\"]";
    let text: String = (0..20).map(|number| rule(&format!("carried.slow.n{number}"), slow)).collect();
    world.commit(".gitops-agent.toml", &format!("{CITATION}{text}"), "Describe");
    let line: String = (0..250_000).map(|number| if number % 7 < 4 { 'a' } else { 'b' }).collect();
    let start = std::time::Instant::now();
    world.commit("a.txt", &line, "Change");
    // This is a build without optimisation, and one of several tests at a time.
    assert!(start.elapsed() < std::time::Duration::from_secs(120), "{:?}", start.elapsed());
}

#[test]
fn the_repositorys_ticket_pattern_fills_in_the_ticket() {
    let mut world = World::new();
    world.ok(&["install"]);
    world.commit(".gitops-agent.toml", "ticket = '\\b(?:EHR|PUMP)-\\d+\\b'\n", "Describe");
    let id = world.commit("a.c", "1\n", "PUMP-41: raise the limit, see EHR-7");
    assert_eq!(world.delivered(&id)["declared"], json!({ "ticket": "PUMP-41" }));
    let id = world.commit("a.c", "2\n", "PUMP-42: more\n\nTicket: EHR-9");
    assert_eq!(world.delivered(&id)["declared"]["ticket"], "EHR-9");
    let id = world.commit("a.c", "3\n", "No ticket");
    assert_eq!(world.delivered(&id)["declared"], Value::Null);
    // A pattern that would copy people and sentences finds nothing.
    world.commit(".gitops-agent.toml", "ticket = '(?s).+'\n", "Copy");
    world.set("GITOPS_AGENT_TENANT", "local");
    let id = world.commit("a.c", "4\n", "Call Ada 555\n\nSigned-off-by: Ada Author <ada@example.com>");
    assert_eq!(world.delivered(&id)["declared"], Value::Null);
    world.ok(&["verify"]);
}
