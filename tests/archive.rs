//! What `import` lets in: lines of any length and content, and records that an agent could have written, no others.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod world;

use std::io::{BufReader, Read};

use gitops_agent::archive::{Found, Gate, Line, Lines, MAX_LINE, line};
use gitops_agent::record::{MAX_BYTES, digest};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use world::World;

fn gate() -> Gate {
    Gate { tenant: "local".to_owned(), from: None, now: Timestamp::now() }
}

fn said(gate: &Gate, text: impl Into<Vec<u8>>) -> Result<Value, String> {
    let line = Line { number: 1, bytes: Some(text.into()) };
    gate.record(&line).map(|(_, document)| document).map_err(|unfit| unfit.to_string())
}

/// The document with a digest that fits it, as somebody would make who means to deceive.
fn resigned(mut document: Value) -> Value {
    let message = document["message"].as_str().unwrap().to_owned();
    document["digest"] = digest(&document, &message).unwrap().into();
    document
}

/// A record with findings, a rename and trailers, as the agent makes it.
fn record() -> Value {
    let world = World::new();
    world.commit("src/audit/old.py", "import logging\naudit_log.enable()\nvalue = 1\n", "One");
    world.git(&["mv", "src/audit/old.py", "src/audit/new.py"]);
    world.commit(
        "src/auth/session.py",
        "verify = False\nSESSION_TIMEOUT = 10\n",
        "Shorten \u{7} the session\n\nPatient MRN: 12345678\n\nReviewed-by: Ann <ann@example.com>\n",
    );
    world.ok(&["backfill"]);
    let records = world.records();
    assert!(records[0]["findings"].as_array().is_some_and(|all| !all.is_empty()));
    assert!(records[0]["message"].as_str().unwrap().contains("[redacted:"));
    records[0].clone()
}

#[test]
fn what_an_agent_wrote_comes_in_and_nothing_else_does() {
    let record = record();
    assert_eq!(said(&gate(), record.to_string()).unwrap(), record);
    // As a store gives it back that knows one kind of number.
    let Found::Record(canonical) = line(record.clone()).unwrap() else { panic!("a sound record") };
    assert_eq!(said(&gate(), canonical).unwrap()["digest"], record["digest"]);

    type Change = fn(&mut Value);
    let wrong: &[(&str, Change)] = &[
        ("schema version is 2", |r| r["schemaVersion"] = json!(2)),
        ("schema version is null", |r| drop(r.as_object_mut().unwrap().remove("schemaVersion"))),
        ("missing field `stats`", |r| drop(r.as_object_mut().unwrap().remove("stats"))),
        ("invalid type", |r| r["riskScore"] = json!("high")),
        ("unknown variant", |r| r["riskLevel"] = json!("none")),
        ("is of tenant \"clinic-b\"", |r| r["tenantId"] = json!("clinic-b")),
        ("\"_etag\" holds something", |r| r["_etag"] = json!("\"e\"")),
        ("\"notes\" holds something", |r| r["notes"] = json!("MRN: 12345678")),
        ("\"stats\" holds something", |r| r["stats"]["notes"] = json!("MRN: 12345678")),
        ("\"findings\" holds something", |r| r["findings"][0]["text"] = json!("secret")),
        ("the commit's id", |r| r["commitHash"] = json!("0".repeat(40))),
        ("the commit's id", |r| {
            r["id"] = json!("../../x");
            r["commitHash"] = json!("../../x");
        }),
        ("the commit's date", |r| r["commitDate"] = json!("2023-11-99")),
        ("the commit's date", |r| r["commitDate"] = json!("2020-01-01")),
        ("a time", |r| r["timestamp"] = json!("2023-11-14 22:13:20")),
        ("the time of recording", |r| r["recordedAt"] = json!("yesterday")),
        ("0 s is no time to live", |r| r["ttl"] = json!(0)),
        ("-1 s is no time to live", |r| r["ttl"] = json!(-1)),
        ("time to live ended", |r| r["recordedAt"] = json!("2001-01-01T00:00:00.000Z")),
        ("more than 262144", |r| r["riskFactors"] = json!(vec![r["riskFactors"][0].clone(); 6000])),
        ("the message holds an identifier", |r| r["message"] = json!("Patient MRN: 12345678")),
        ("a path holds an identifier", |r| r["filesChanged"][0]["path"] = json!("MRN: 12345678.txt")),
        ("a repository's name", |r| r["repository"]["branch"] = json!("fix-mrn: 12345678")),
    ];
    for (what, change) in wrong {
        let mut document = record.clone();
        change(&mut document);
        let said = said(&gate(), resigned(document).to_string()).unwrap_err();
        assert!(said.contains(what), "{what}: {said}");
    }
    // Without a new digest each change is one that the digest tells, or one of the above.
    for (name, value) in [("riskScore", json!(0.0)), ("compliance", json!([])), ("findings", json!([]))] {
        let mut document = record.clone();
        document[name] = value;
        assert!(said(&gate(), document.to_string()).unwrap_err().contains("digest does not fit"), "{name}");
    }
    // The same member twice: which one holds must not be for each reader to decide.
    let twice = record.to_string().replacen('{', "{\"tenantId\":\"clinic-b\",", 1);
    assert!(said(&gate(), twice).unwrap_err().contains("duplicate field"));
    for text in ["[]", "null", "{\"id\":", "\u{feff}{}", "{} {}"] {
        assert!(said(&gate(), text).is_err(), "{text:?}");
    }
    assert!(said(&gate(), *b"{\"id\":\"\xff\"}").is_err());
}

#[test]
fn links_that_were_merged_later_may_be_large() {
    let mut record = record();
    record["supersedes"] = (0..500).map(|n| format!("{n:064x}")).collect();
    let other = |n: usize| json!({"id": format!("{n:064x}"), "name": "n".repeat(1000), "remote": "r".repeat(2000), "branch": null});
    record["alsoIn"] = (0..100).map(other).collect();
    assert!(record.to_string().len() > MAX_BYTES);
    assert_eq!(said(&gate(), record.to_string()).unwrap(), record);
}

#[test]
fn another_tenants_records_are_taken_over_only_when_asked() {
    let record = record();
    let gate = Gate { tenant: "clinic-a".to_owned(), ..gate() };
    assert!(said(&gate, record.to_string()).unwrap_err().contains("--from-tenant"));
    let gate = Gate { from: Some("local".to_owned()), ..gate };
    let taken = said(&gate, record.to_string()).unwrap();
    assert_eq!(taken, {
        let mut wanted = record.clone();
        wanted["tenantId"] = json!("clinic-a");
        wanted
    });
    // And then no others: not even those of the tenant in force.
    assert!(said(&gate, taken.to_string()).is_err());
}

#[test]
fn people_that_privacy_took_out_of_trailers_do_not_cost_the_record() {
    let world = World::new();
    std::fs::write(world.home().join("config.toml"), "[privacy]\nauthor = \"hash\"\n").unwrap();
    world.commit("a.txt", "one\n", "One\n\nReviewed-by: Ann <ann@example.com>\n");
    world.commit("a.txt", "two\n", "Two");
    world.ok(&["backfill"]);
    for record in world.records() {
        assert!(record["author"]["hash"].is_string());
        assert_eq!(said(&gate(), record.to_string()).unwrap(), record);
    }
}

/// Gives out its bytes in pieces of a fixed size.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.1.min(self.0.len()).min(buffer.len());
        buffer[..length].copy_from_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        Ok(length)
    }
}

proptest! {
    #[test]
    fn lines_are_what_lies_between_line_ends(
        lines in prop::collection::vec("[ a-z]{0,6}", 0..12), piece in 1_usize..9, end in any::<bool>(),
    ) {
        let mut text = lines.join("\n");
        if end && !text.is_empty() {
            text.push('\n');
        }
        let read: Vec<(u64, Vec<u8>)> = Lines::new(BufReader::with_capacity(4, Pieces(text.as_bytes(), piece)))
            .map(|line| line.unwrap())
            .map(|line| (line.number, line.bytes.unwrap()))
            .collect();
        let wanted: Vec<(u64, Vec<u8>)> = (1..)
            .zip(text.split('\n'))
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(number, line)| (number, line.as_bytes().to_vec()))
            .collect();
        prop_assert_eq!(read, wanted);
    }
}

#[test]
fn a_line_of_any_length_takes_bounded_room() {
    // 64 MiB without a line's end, then one that is short.
    let endless = std::io::repeat(b'x').take(64 * 1024 * 1024);
    let input = BufReader::new(endless.chain(&b"\n{}\n"[..]));
    let lines: Vec<Line> = Lines::new(input).map(|line| line.unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((lines[0].number, &lines[0].bytes), (1, &None));
    assert_eq!((lines[1].number, lines[1].bytes.as_deref()), (2, Some(&b"{}"[..])));
    assert!(gate().record(&lines[0]).unwrap_err().to_string().contains("1024 KiB"));
    // The longest that is read, and one more.
    for (length, read) in [(MAX_LINE, true), (MAX_LINE + 1, false)] {
        let text = [vec![b'y'; length], vec![b'\n']].concat();
        let line = Lines::new(&text[..]).next().unwrap().unwrap();
        assert_eq!(line.bytes.is_some(), read, "{length}");
    }
}

#[test]
fn a_damaged_and_a_tampered_document_are_told() {
    assert_eq!(line(json!({"id": "c0ffee", "damaged": true})).unwrap(), Found::Damaged);
    let tampered = json!({"b": 1.0, "a": "ü", "_differingCopies": true});
    assert_eq!(line(tampered).unwrap(), Found::Differing(r#"{"a":"ü","b":1}"#.to_owned()));
}
