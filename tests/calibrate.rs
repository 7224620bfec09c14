//! `calibrate` and `risk eval` over a made history in which one file breaks again and again.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod world;

use std::io::Write as _;
use std::process::Stdio;

use world::World;

/// 340 commits: `pump.c` gets a line now and then that the commit after the next one has to mend, the other
/// files get lines of the same size that nobody ever touches again.
fn history(world: &World) {
    let mut pump: Vec<String> = (0..40).map(|line| format!("int start_{line} = {line};")).collect();
    let mut quiet: Vec<Vec<String>> = vec![vec!["int calm = 1;".to_owned()]; 6];
    let mut stream = String::new();
    let mut commit = |n: usize, path: &str, lines: &[String], message: &str| {
        let text = lines.join("\n") + "\n";
        let time = 1_600_000_000 + n * 3600;
        stream.push_str(&format!(
            "commit refs/heads/main\ncommitter Ada <ada@example.com> {time} +0000\ndata {}\n{message}\n\
             M 100644 inline {path}\ndata {}\n{text}\n",
            message.len(),
            text.len()
        ));
    };
    for n in 0..340_usize {
        match n % 4 {
            0 => {
                pump.push(format!("int rate_{n} = read_rate({n});"));
                commit(n, "pump.c", &pump, &format!("Extend pump {n}"));
            }
            2 => {
                let last = pump.len() - 1;
                pump[last] = format!("int rate_{n} = checked(read_rate({n}));");
                commit(n, "pump.c", &pump, &format!("Fix pump {n}"));
            }
            _ => {
                let at = n % 6;
                quiet[at].push(format!("int calm_{n} = {n};"));
                commit(n, &format!("quiet{at}.c"), &quiet[at], &format!("Extend {at} {n}"));
            }
        }
    }
    let mut import = world.git_command(&["fast-import", "--quiet"]);
    let mut child = import.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stream.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    world.git(&["reset", "-q", "--hard"]);
}

#[test]
fn a_model_that_beats_m2_is_kept_and_stands_beside_the_score() {
    let world = World::new();
    history(&world);
    let before = world.json(&["explain", "--json"]);
    let dry = world.json(&["calibrate", "--dry-run", "--json", "--jobs", "1"]);
    assert_eq!((dry["better"].as_bool(), dry["kept"].as_bool()), (Some(true), Some(false)));
    let report = world.json(&["calibrate", "--json", "--jobs", "4"]);
    assert_eq!(report["kept"], true);
    assert_eq!((&report["m2"], &report["weights"]), (&dry["m2"], &dry["weights"]), "the same every time");
    assert_eq!((report["commits"].as_u64(), report["fixes"].as_u64()), (Some(340), Some(85)));
    // Every extension of the pump was mended by the commit after the next one.
    assert_eq!(report["defects"], 85);
    let auc = |model: &str| report[model]["auc"].as_f64().unwrap();
    assert!(auc("calibrated") > auc("m2"), "{report}");

    let after = world.json(&["explain", "--json"]);
    assert_eq!(after["digest"], before["digest"]);
    assert_eq!(after["riskScore"], before["riskScore"]);
    assert!(before.get("riskCalibrated").is_none() && after["riskCalibrated"].is_number());

    world.ok(&["backfill"]);
    world.ok(&["install"]);
    let id = world.commit("pump.c", "int only = 1;\n", "Rewrite");
    assert!(world.delivered(&id)["riskCalibrated"].is_number());
    let all = world.records();
    assert_eq!(all.len(), 341);
    assert!(all.iter().all(|record| record["riskCalibrated"].is_number()));
    world.ok(&["verify"]);

    // The labels of the newest quarter judge both models; those that the model was fitted on do not.
    let mut labels = String::from("label,hash,who\n");
    for record in &all {
        let defect = record["message"].as_str().unwrap().starts_with("Extend pump");
        labels.push_str(&format!("{},{},me\n", u8::from(defect), record["id"].as_str().unwrap()));
    }
    let file = world.root().join("labels.csv");
    std::fs::write(&file, labels).unwrap();
    let found = world.json(&["risk", "eval", file.to_str().unwrap(), "--json"]);
    assert_eq!((found["m2"]["commits"].as_u64(), found["m2"]["defects"].as_u64()), (Some(341), Some(85)));
    assert_eq!(found["heldBack"]["m2"]["commits"], 86);
    let held = |model: &str| found["heldBack"][model]["auc"].as_f64().unwrap();
    assert!(held("calibrated") > held("m2"), "{found}");
    let table = world.ok(&["risk", "eval", file.to_str().unwrap()]);
    assert!(table.contains("AUC") && table.contains("riskiest fifth"), "{table}");
}

#[test]
fn a_short_history_keeps_nothing_and_says_why() {
    let world = World::new();
    world.commit("a.c", "int a;\n", "Fix it");
    let output = world.output(&["calibrate"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("not kept: 1 commits") && told.contains("at least 200"), "{told}");
    assert!(world.json(&["explain", "--json"]).get("riskCalibrated").is_none());
}

#[test]
fn wrong_labels_are_named_with_file_line_and_remedy() {
    let world = World::new();
    let id = world.commit("a.c", "int a;\n", "One");
    let file = world.root().join("labels.csv");
    let path = file.to_str().unwrap();
    let absent = "0".repeat(40);
    let cases = [
        (String::new(), "no column `hash`"),
        (format!("{id},1\n"), "no column `hash`"),
        ("hash,bug\n".to_owned(), "no column `label`"),
        ("hash,label\n".to_owned(), "no labels"),
        (format!("hash,label\n{id},perhaps\n"), "line 2: \"perhaps\" is no label"),
        (format!("hash,label\n{id},\n"), "line 2: \"\" is no label"),
        ("hash,label\nHEAD,1\n".to_owned(), "line 2: \"HEAD\" is no commit id"),
        (format!("hash,label\n{id},1\n{id},0\n"), "line 3"),
        (format!("hash,label\n{id},1,2\n"), "line: 2"),
        (format!("hash,label\n{absent},1\n"), "none of its commits"),
    ];
    for (text, expected) in cases {
        std::fs::write(&file, &text).unwrap();
        let (code, message) = world.fails(&["risk", "eval", path]);
        assert_eq!(code, 2, "{text}: {message}");
        assert!(message.contains(expected) && message.contains("labels.csv"), "{text}: {message}");
    }
    std::fs::write(&file, format!("Hash,Label\n{},yes\n{absent},no\n", &id[..8])).unwrap();
    let (code, message) = world.fails(&["risk", "eval", path]);
    assert_eq!(code, 3);
    assert!(message.contains("line 3") && message.contains(&absent), "{message}");
    let (code, message) = world.fails(&["risk", "eval", "nowhere.csv"]);
    assert!(code == 2 && message.contains("nowhere.csv"), "{message}");
}
