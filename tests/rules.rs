//! The rule packs from outside: the built-in ones prove themselves, broken ones say what is wrong.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::path::Path;

use gitops_agent::facts::{
    ChangedFile, ChangedText, CommitFacts, FileKind, Person, RepoPath, SideText, Status,
};
use gitops_agent::risk::{self, Level, Thresholds};
use gitops_agent::rules::{Class, RuleSet, Side};

const PACK: &str = r#"[pack]
id = "own"
version = "1.2.0"
format = 1
min_tool = "0.1.0"
as_of = "2026-09-01"
licence = "MIT"
[[citation]]
id = "sop-7"
title = "House rule"
"#;

const RULE: &str = r#"
[[rule]]
id = "own.topic.name"
version = 3
status = "stable"
title = "Magic word"
why = "It is magic."
ask = "Which magic?"
tags = { HOUSE = ["sop-7"] }
severity = "high"
weight = 40
keywords = ["magic"]
[rule.sel.word]
in = "added"
regex = ['\bmagic\(']
[rule.when]
all = ["word"]
[[rule.test]]
name = "hit"
path = "a.c"
diff = "+magic(1)"
expect = "match"
[[rule.test]]
name = "miss"
path = "a.c"
diff = "+magical(1)"
expect = "no_match"
"#;

fn pack(dir: &Path, head: &str, rules: &str) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("pack.toml"), head).unwrap();
    fs::write(dir.join("rules.toml"), rules).unwrap();
}

fn side(lines: &[&str]) -> SideText {
    let mut side = SideText::default();
    for (number, line) in (1..).zip(lines) {
        side.push(number, line.as_bytes());
    }
    side
}

fn file(path: &str, removed: &[&str], added: &[&str]) -> ChangedFile {
    ChangedFile {
        path: RepoPath::new(path),
        old_path: None,
        status: Status::Modified,
        old_mode: 0o100_644,
        new_mode: 0o100_644,
        insertions: u32::try_from(added.len()).unwrap(),
        deletions: u32::try_from(removed.len()).unwrap(),
        old_lines: 100,
        size: None,
        binary: false,
        kind: FileKind::Source,
        text: ChangedText { added: side(added), removed: side(removed) },
        manifest: None,
    }
}

fn commit(message: &str, files: Vec<ChangedFile>) -> CommitFacts {
    let person = Person { name: "A".to_owned(), email: "a@example.org".to_owned() };
    CommitFacts {
        id: "a".repeat(40),
        parents: Vec::new(),
        message: message.to_owned(),
        author: person.clone(),
        committer: person,
        author_time: 1_767_225_600,
        commit_time: 1_767_225_600,
        signature: None,
        files,
        merged: None,
        incomplete: Vec::new(),
        carried: None,
    }
}

fn audit_call() -> ChangedFile {
    file("src/Records.java", &["    auditLog.record(user, VIEW, patient);"], &[])
}

#[test]
fn every_built_in_rule_passes_its_examples() {
    let report = RuleSet::builtin().check("2026-09-01");
    assert!(report.failures.is_empty(), "{:#?}", report.failures);
    assert!(report.rules >= 120 && report.tests >= 2 * report.rules);
}

#[test]
fn a_removed_safeguard_is_high_in_one_line() {
    let facts = commit("Tidy", vec![audit_call()]);
    let verdict = RuleSet::builtin().judge(&facts, Class::Ehr);
    let finding = &verdict.findings[0];
    assert_eq!(finding.rule, "hipaa.audit.call-removed");
    assert_eq!((finding.side, finding.line, finding.count), (Some(Side::Removed), Some(1), 1));
    assert_eq!(finding.path.as_deref(), Some("src/Records.java"));
    assert_eq!(verdict.tags.iter().map(String::as_str).collect::<Vec<_>>(), ["FDA", "HIPAA"]);
    assert_eq!(risk::assess(&facts, &verdict, &Thresholds::default()).level, Level::High);
}

#[test]
fn size_alone_is_never_high() {
    let lines: Vec<String> = (0..5000).map(|number| format!("key{number} = value")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let facts = commit("Translate", vec![file("messages_de.txt", &[], &lines)]);
    let verdict = RuleSet::builtin().judge(&facts, Class::Ehr);
    assert!(verdict.findings.is_empty(), "{:?}", verdict.findings);
    assert_eq!(risk::assess(&facts, &verdict, &Thresholds::default()).level, Level::Low);
}

#[test]
fn the_class_decides_the_tags() {
    let rules = RuleSet::builtin();
    let facts = commit("Tidy", vec![audit_call()]);
    let tags = |class| rules.judge(&facts, class).tags.into_iter().collect::<Vec<_>>().join(",");
    assert_eq!(tags(Class::Device), "FDA,HIPAA");
    assert_eq!(tags(Class::Unknown), "HIPAA");
    assert_eq!(tags(Class::Other), "");
    assert!(rules.judge(&facts, Class::Other).findings.is_empty());
}

#[test]
fn lines_that_move_between_files_cancel() {
    let moved = file("src/New.java", &[], &["auditLog.record(user, VIEW, patient);"]);
    let verdict = RuleSet::builtin().judge(&commit("Move", vec![moved, audit_call()]), Class::Ehr);
    assert!(verdict.findings.is_empty(), "{:?}", verdict.findings);
}

/// Also where the white space is inside of what is looked for.
#[test]
fn a_line_that_was_only_formatted_is_none() {
    let judge = |added: &str| {
        let changed = file("src/session.js", &["  login (user);"], &[added]);
        RuleSet::builtin().judge(&commit("Format", vec![changed]), Class::Ehr)
    };
    let verdict = judge("login(user);");
    assert!(verdict.findings.is_empty(), "{:?}", verdict.findings);
    assert!(!judge("login(user, token);").findings.is_empty());
}

#[test]
fn further_files_count_a_tenth_and_no_more_than_three() {
    let files = (0..9)
        .map(|n| file(&format!("src/R{n}.java"), &[&format!("  auditLog.record({n});")], &[]))
        .collect();
    let verdict = RuleSet::builtin().judge(&commit("Tidy", files), Class::Ehr);
    let points: Vec<f64> = verdict
        .findings
        .iter()
        .filter(|finding| finding.rule == "hipaa.audit.call-removed")
        .map(|f| f.points)
        .collect();
    assert_eq!(points, [45.0, 4.5, 4.5, 4.5, 0.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn the_message_alone_gives_five_points_at_most() {
    let verdict = RuleSet::builtin().judge(&commit("Fix CVE-2024-12345, XSS", Vec::new()), Class::Ehr);
    assert_eq!((verdict.points, verdict.findings.len()), (5.0, 1));
    assert_eq!((verdict.findings[0].path.clone(), verdict.findings[0].side), (None, Some(Side::Message)));
}

#[test]
fn the_digest_is_of_the_content() {
    let dir = tempfile::tempdir().unwrap();
    let (unix, dos) = (dir.path().join("unix"), dir.path().join("dos"));
    pack(&unix, PACK, RULE);
    pack(&dos, &PACK.replace('\n', "\r\n"), &RULE.replace('\n', "\r\n"));
    let digest = |dir: &Path| RuleSet::builtin().with_folder(dir).unwrap().digest().to_owned();
    assert_eq!(digest(&unix), digest(&dos));
    assert_ne!(digest(&unix), RuleSet::builtin().digest());
    pack(&dos, PACK, &RULE.replace("weight = 40", "weight = 41"));
    assert_ne!(digest(&unix), digest(&dos));
}

#[test]
fn a_folder_adds_rules_and_switches_others_off() {
    let dir = tempfile::tempdir().unwrap();
    let head = PACK.replace("licence", "disable = [\"hipaa.audit.call-removed\"]\nlicence");
    pack(&dir.path().join("own"), &head, RULE);
    let rules = RuleSet::builtin().with_folder(dir.path()).unwrap();
    let report = rules.check("2026-09-01");
    assert!(report.failures.is_empty(), "{:#?}", report.failures);
    assert!(rules.packs().iter().any(|pack| pack.id == "own" && pack.version == "1.2.0"));
    let facts = commit("Tidy", vec![audit_call(), file("a.c", &[], &["x", "magic(1)"])]);
    let verdict = rules.judge(&facts, Class::Ehr);
    assert!(verdict.tags.contains("HOUSE"));
    assert!(
        verdict.findings.iter().any(|finding| finding.rule == "own.topic.name" && finding.line == Some(2))
    );
    assert!(verdict.findings.iter().all(|finding| finding.rule != "hipaa.audit.call-removed"));
    assert!(rules.rules().all(|rule| rule.id != "hipaa.audit.call-removed"));
}

#[test]
fn an_allowed_finding_stays_without_points_until_its_day() {
    let dir = tempfile::tempdir().unwrap();
    let judge = |until: &str, path: &str, added: &str| {
        let allow = format!(
            "[[rule.allow]]\npath = [\"gen/**\"]\nregex = ['magic\\(1']\nreason = \"made\"\nowner = \"qa\"\nuntil = \"{until}\"\n[[rule.test]]\nname = \"hit\""
        );
        pack(dir.path(), PACK, &RULE.replacen("[[rule.test]]\nname = \"hit\"", &allow, 1));
        let rules = RuleSet::builtin().with_folder(dir.path()).unwrap();
        let mut verdict = rules.judge(&commit("x", vec![file(path, &[], &[added])]), Class::Ehr);
        let tagged = verdict.tags.contains("HOUSE");
        let finding = verdict.findings.remove(0);
        assert_eq!(finding.allowed.is_none(), tagged);
        assert_eq!(finding.points > 0.0, tagged);
        finding.allowed.is_some()
    };
    assert!(judge("2026-01-01", "gen/a.c", "magic(1)"));
    assert!(!judge("2025-12-31", "gen/a.c", "magic(1)"));
    assert!(!judge("2026-01-01", "src/a.c", "magic(1)"));
    assert!(!judge("2026-01-01", "gen/a.c", "magic(2)"));
}

#[test]
fn a_broken_pack_names_file_line_rule_and_what_to_do() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("weight = 40", "weight = 40\nwieght = 3", &["own/rules.toml:12", "wieght"]),
        ("[\"sop-7\"]", "[\"sop-8\"]", &["own/rules.toml:2", "rule own.topic.name", "sop-8", "[[citation]]"]),
        ("\\bmagic\\(", "magic(", &["rules.toml:2", "own.topic.name", "regex", "unclosed group"]),
        ("\\bmagic\\(", "x*", &["matches everything"]),
        ("expect = \"no_match\"", "expect = \"match\"", &["own.topic.name", "no example", "no_match"]),
        ("in = \"added\"", "in = \"manifest\"\nchange = [\"huge\"]", &["unknown change \"huge\"", "minor"]),
        ("in = \"added\"", "in = \"manifest\"", &["a key that its subject does not have"]),
        ("in = \"added\"", "in = \"path\"\nvalidator = \"ssn\"", &["a key that its subject does not have"]),
        ("in = \"added\"", "in = \"added\"\nvalidator = \"nope\"", &["unknown validator \"nope\"", "luhn"]),
        ("weight = 40", "weight = 400", &["weight 400", "0 to 50"]),
        ("all = [\"word\"]", "all = [\"wrd\"]", &["unknown selection \"wrd\""]),
        ("own.topic.name", "hipaa.audit.changed", &["hipaa.audit.changed", "already used"]),
        ("keywords = [\"magic\"]", "keywords = [\"ma\"]", &["keyword \"ma\""]),
        ("severity = \"high\"", "severity = \"huge\"", &["rules.toml:10", "huge"]),
    ];
    for (from, to, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own");
        pack(&own, PACK, &RULE.replace(from, to));
        let error = RuleSet::builtin().with_folder(&own).unwrap_err().to_string();
        for part in *expected {
            assert!(error.contains(part), "{to}: {error:?} does not name {part:?}");
        }
    }
}

#[test]
fn a_broken_head_is_refused() {
    let cases = [
        ("format = 1", "format = 2", "unknown format 2"),
        ("min_tool = \"0.1.0\"", "min_tool = \"99.0.0\"", "needs gitops-agent 99.0.0"),
        ("version = \"1.2.0\"", "version = \"one\"", "version \"one\""),
        ("2026-09-01", "2026-02-30", "no date"),
        ("id = \"own\"", "id = \"hipaa\"", "already loaded"),
        ("[pack]", "[package]", "package"),
        ("licence", "extends = [\"gone\"]\nlicence", "extends \"gone\""),
        ("licence", "disable = [\"a.b.c\"]\nlicence", "disables \"a.b.c\""),
    ];
    for (from, to, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        pack(dir.path(), &PACK.replacen(from, to, 1), RULE);
        let error = RuleSet::builtin().with_folder(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains(expected) && error.contains("pack.toml"),
            "{error:?} does not say {expected:?}"
        );
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(RuleSet::builtin().with_folder(empty.path()).unwrap_err().to_string().contains("no pack.toml"));
    assert!(RuleSet::builtin().with_folder(&empty.path().join("absent")).is_err());
}

#[test]
fn one_rule_set_serves_all_threads() {
    let rules = RuleSet::builtin();
    let facts = commit(
        "Tidy",
        vec![audit_call(), file("lib/dosing/rate.js", &["max_basal = 2"], &["max_basal = 3"])],
    );
    let verdicts: Vec<_> = std::thread::scope(|scope| {
        let judge = || rules.judge(&facts, Class::Device);
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(judge)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(!verdicts[0].findings.is_empty());
    assert!(verdicts.iter().all(|verdict| *verdict == verdicts[0]));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_are_judged_and_findings_name_lines_that_exist(
        removed in proptest::collection::vec(fragments(), 0..6),
        added in proptest::collection::vec(fragments(), 0..6),
    ) {
        let slices = |lines: &[Vec<u8>]| {
            let mut side = SideText::default();
            for (number, line) in (1..).zip(lines) {
                side.push(number, line);
            }
            side
        };
        let mut changed = file("src/patient/Auth.java", &[], &[]);
        changed.text = ChangedText { added: slices(&added), removed: slices(&removed) };
        let facts = commit("x", vec![changed]);
        let rules = RuleSet::builtin();
        let verdict = rules.judge(&facts, Class::Records);
        proptest::prop_assert!((0.0..=100.0).contains(&verdict.points));
        for finding in &verdict.findings {
            let lines = if finding.side == Some(Side::Added) { added.len() } else { removed.len() };
            proptest::prop_assert!(finding.line.is_none_or(|line| line >= 1 && line as usize <= lines));
        }
        proptest::prop_assert_eq!(verdict, rules.judge(&facts, Class::Records));
    }
}

/// Lines of pieces that rules look for, and of bytes that nobody looks for.
fn fragments() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
    use proptest::prelude::*;
    let pieces = [
        "auditLog.record(",
        "verify=False",
        "ssn,",
        "patient",
        "// ",
        " ",
        "max_dose = 3",
        "\u{fffd}",
        "://a:b@",
        "password = ",
    ];
    let piece = prop_oneof![
        proptest::sample::select(pieces.to_vec()).prop_map(|piece| piece.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>().prop_filter("a line", |byte| *byte != b'\n'), 0..6),
    ];
    proptest::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

#[test]
fn the_example_in_the_manual_works() {
    let manual = include_str!("../docs/rules.md");
    let example = manual.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("pack.toml"), example).unwrap();
    let report = RuleSet::builtin().with_folder(dir.path()).unwrap().check("2026-09-01");
    assert!(report.failures.is_empty(), "{:#?}", report.failures);
}

fn with_carried(mut facts: CommitFacts, text: &str) -> CommitFacts {
    facts.carried = Some(text.as_bytes().to_vec());
    facts
}

#[test]
fn an_item_asks_more_of_its_paths_and_never_less() {
    let rules = RuleSet::builtin();
    let dosing = || commit("x", vec![file("lib/dose/rate.js", &["a = 1;"], &["a = 2;"])]);
    let items = |class: &str| {
        format!(
            "[[item]]\nname = \"dosing\"\npaths = [\"lib/dose/**\"]\nclass = \"{class}\"\niec62304 = \"C\"\n"
        )
    };
    let names = |facts: &CommitFacts, class| -> Vec<String> {
        rules.judge(facts, class).findings.into_iter().map(|finding| finding.rule).collect()
    };
    let raised = names(&with_carried(dosing(), &items("device")), Class::Ehr);
    assert!(raised.contains(&"fda.item.class-c-changed".to_owned()), "{raised:?}");
    assert!(raised.contains(&"fda.software.item-changed".to_owned()), "{raised:?}");
    assert!(!names(&dosing(), Class::Ehr).contains(&"fda.software.item-changed".to_owned()));
    let kept = names(&with_carried(dosing(), &items("other")), Class::Device);
    assert!(kept.contains(&"fda.software.item-changed".to_owned()), "{kept:?}");
}

#[test]
fn what_a_repository_allows_stays_a_finding_without_points() {
    let rules = RuleSet::builtin();
    let allow = |until: &str| {
        format!(
            "[[allow]]\nrule = \"hipaa.audit.call-removed\"\npaths = [\"src/**\"]\nreason = \"moved to the proxy\"\nowner = \"qa\"\nuntil = \"{until}\"\n"
        )
    };
    let find = |until: &str| {
        let facts = with_carried(commit("x", vec![audit_call()]), &allow(until));
        let verdict = rules.judge(&facts, Class::Ehr);
        let found = verdict.findings.iter().find(|finding| finding.rule == "hipaa.audit.call-removed");
        found.cloned().unwrap()
    };
    let allowed = find("2026-01-01");
    assert_eq!((allowed.points, allowed.allowed.map(|allowed| allowed.owner)), (0.0, Some("qa".to_owned())));
    assert_eq!(find("2025-12-31").allowed, None);
}

#[test]
fn an_allowance_in_the_text_covers_its_line_and_the_next() {
    let rules = RuleSet::builtin();
    let judge = |lines: &[&str]| {
        let verdict = rules.judge(&commit("x", vec![file("app/client.py", &[], lines)]), Class::Ehr);
        let covered = verdict
            .findings
            .iter()
            .find(|finding| finding.rule == "hipaa.transport.verification-off")
            .map(|finding| finding.allowed.is_some());
        (covered, verdict.findings.iter().any(|finding| finding.rule == "declared.allowance.void"))
    };
    let comment =
        "# gitops-agent: allow hipaa.transport.verification-off until=2026-12-31 reason=\"loopback\"";
    let call = "r = requests.get(url, verify=False)";
    assert_eq!(judge(&[call]), (Some(false), false));
    assert_eq!(judge(&[comment, call]), (Some(true), false));
    assert_eq!(judge(&[&format!("{call}  {comment}")]), (Some(true), false));
    assert_eq!(judge(&[comment, "pass", call]), (Some(false), false));
    assert_eq!(judge(&[comment, call, "pass", call]), (Some(false), false));
    assert_eq!(judge(&[&comment.replace("2026", "2025"), call]), (Some(false), true));
    assert_eq!(judge(&[&comment.replace(" reason=\"loopback\"", ""), call]), (Some(false), true));
    assert_eq!(judge(&[&comment.replace("verification-off", "nothing"), call]), (Some(false), true));
}

#[test]
fn a_declaration_is_held_against_what_was_found() {
    let rules = RuleSet::builtin();
    let declared = |message: &str| -> Vec<String> {
        let verdict = rules.judge(&commit(message, vec![audit_call()]), Class::Ehr);
        let found = verdict.findings.into_iter().map(|finding| finding.rule);
        found.filter(|rule| rule.starts_with("declared.")).collect()
    };
    assert_eq!(declared("Tidy\n\nPHI-Impact: None"), ["declared.phi.less-than-found"]);
    assert_eq!(declared("Tidy\n\nRisk-Level: low"), ["declared.risk.less-than-found"]);
    assert_eq!(declared("Tidy\n\nCompliance: FDA"), ["declared.compliance.hipaa-missing"]);
    assert_eq!(declared("Tidy\n\nPHI-Impact: High\nRisk-Level: high"), [""; 0]);
    assert_eq!(declared("Tidy"), [""; 0]);
}

#[test]
fn declarations_can_be_required() {
    let optional = RuleSet::builtin();
    let required = RuleSet::builtin().with_required_declarations().unwrap();
    assert_ne!(optional.digest(), required.digest());
    assert!(required.check("2026-09-01").failures.is_empty());
    let asked = |rules: &RuleSet, message: &str, class| {
        let verdict = rules.judge(&commit(message, vec![audit_call()]), class);
        verdict.findings.iter().any(|finding| finding.rule == "declared.nothing.stated")
    };
    assert!(asked(&required, "Tidy", Class::Ehr));
    assert!(!asked(&required, "Tidy\n\nRisk-Level: high", Class::Ehr));
    assert!(!asked(&required, "Tidy", Class::Other));
    assert!(!asked(&optional, "Tidy", Class::Ehr));
}

#[test]
fn every_subject_and_combination_of_the_format_is_asked() {
    let judge = |sel: &str, when: &str, facts: &CommitFacts| -> Option<f64> {
        let dir = tempfile::tempdir().unwrap();
        let rule = RULE
            .replace("[rule.sel.word]\nin = \"added\"\nregex = ['\\bmagic\\(']\n", sel)
            .replace("all = [\"word\"]", when);
        pack(dir.path(), PACK, &rule);
        let rules = RuleSet::builtin().with_folder(dir.path()).unwrap();
        let verdict = rules.judge(facts, Class::Ehr);
        verdict.findings.iter().find(|finding| finding.rule == "own.topic.name").map(|finding| finding.points)
    };
    let sel = |name: &str, keys: &str| format!("[rule.sel.{name}]\n{keys}\n");
    let one = |keys: &str, facts: &CommitFacts| judge(&sel("s", keys), "all = [\"s\"]", facts).is_some();
    let mut facts =
        commit("Add magic\n\nReviewed-by: B", vec![file("src/a.c", &["old magic(1)"], &["magic(2)", "x"])]);
    facts.files[0].new_mode = 0o100_755;
    let cases: &[(&str, &str)] = &[
        ("in = \"added\"\nregex = ['magic\\(2']", "in = \"added\"\nregex = ['magic\\(1']"),
        ("in = \"removed\"\nregex = ['magic\\(1']", "in = \"removed\"\nregex = ['magic\\(2']"),
        ("in = \"net_added\"\nregex = ['magic']", "in = \"net_added\"\nregex = ['magic']\nmore = true"),
        ("in = \"net_removed\"\nregex = ['magic']", "in = \"net_removed\"\nregex = ['magic']\nfewer = true"),
        ("in = \"message\"\nregex = ['magic$']", "in = \"message\"\nregex = ['^magic']"),
        ("in = \"path\"\nglob = [\"src/*.c\"]", "in = \"path\"\nglob = [\"lib/**\"]"),
        ("in = \"kind\"\nkind = [\"source\"]", "in = \"kind\"\nkind = [\"test\"]"),
        ("in = \"author\"\nregex = ['<a@']", "in = \"author\"\nregex = ['<b@']"),
        ("in = \"trailer\"\nregex = ['^Reviewed-by: B']", "in = \"trailer\"\nregex = ['^Signed-off-by:']"),
        ("in = \"size\"\nmin_count = 3", "in = \"size\"\nmin_count = 4"),
        ("in = \"mode\"\nregex = ['100644 100755']", "in = \"mode\"\nregex = ['100755 100644']"),
    ];
    for (holds, fails) in cases {
        assert!(one(holds, &facts), "{holds}");
        assert!(!one(fails, &facts), "{fails}");
    }
    let three = sel("a", "in = \"added\"\nregex = ['magic']")
        + &sel("b", "in = \"path\"\nglob = [\"src/**\"]")
        + &sel("c", "in = \"path\"\nglob = [\"lib/**\"]");
    let points = |when: &str| judge(&three, when, &facts);
    assert_eq!(points("any = [\"a\", \"b\", \"c\"]\nat_least = 2"), Some(40.0));
    assert_eq!(points("any = [\"a\", \"b\", \"c\"]\nat_least = 3"), None);
    assert_eq!(points("all = [\"a\"]\nnone = [\"c\"]\nboost = { b = 5.0 }"), Some(45.0));
    assert_eq!(points("all = [\"a\"]\nnone = [\"b\"]\nboost = { c = 5.0 }"), None);
    assert_eq!(points("all = [\"a\"]\nany = [\"b\", \"c\"]\nby_class = { ehr = 0.5 }"), Some(20.0));
}

#[test]
fn a_component_is_asked_for_by_name_and_change() {
    let dir = tempfile::tempdir().unwrap();
    let mut changed = file("web/package.json", &[], &["x"]);
    changed.manifest = gitops_agent::facts::Manifest::new(
        b"web/package.json",
        Some(br#"{"dependencies":{"@Scope/JWT-lib":"1.2.0","same":"1"}}"#),
        Some(br#"{"dependencies":{"@Scope/JWT-lib":"2.0.0","same":"1"}}"#),
    );
    let facts = commit("x", vec![changed]);
    let holds = |keys: &str| {
        let rule =
            RULE.replace("in = \"added\"\nregex = ['\\bmagic\\(']", &format!("in = \"manifest\"\n{keys}"));
        pack(dir.path(), PACK, &rule);
        let rules = RuleSet::builtin().with_folder(dir.path()).unwrap();
        rules.judge(&facts, Class::Ehr).findings.iter().any(|finding| finding.rule == "own.topic.name")
    };
    for keys in
        ["", "change = [\"major\"]", "package = [\"jwt*\"]", "package = [\"@scope/*\"]\nchange = [\"major\"]"]
    {
        assert!(holds(keys), "{keys}");
    }
    for keys in
        ["change = [\"minor\", \"patch\", \"added\"]", "package = [\"same\"]", "package = [\"scope\"]"]
    {
        assert!(!holds(keys), "{keys}");
    }
}

#[test]
fn the_table_of_citations_is_that_of_the_packs() {
    let table = RuleSet::builtin().citations_table();
    let docs = include_str!("../docs/citations.md");
    assert!(
        docs.ends_with(&table),
        "run: gitops-agent rules list --citations, and put it into docs/citations.md"
    );
    assert!(!table.contains("|  |"), "a citation that no rule uses");
}
