//! Every way to make a commit that we could think of, with the agent installed, on each Git that PATH has.
//!
//! The oracle is Git's object database: each commit object that appears must have a record after
//! `flush`, but for those that somebody else committed, which must have none, and those that are no commits
//! of a history (stashes, notes), which each scenario names by their messages. Nothing else may be recorded.
//!
//! The tables are printed (`--no-capture`) and written into the target folder, `tmp/matrix-*.txt`.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![expect(clippy::print_stdout, reason = "the table is for people")]

#[path = "matrix/commits.rs"]
mod commits;
#[path = "matrix/merges.rs"]
mod merges;
#[path = "matrix/picks.rs"]
mod picks;
#[path = "matrix/places.rs"]
mod places;
#[path = "matrix/plumbing.rs"]
mod plumbing;
#[path = "matrix/rebases.rs"]
mod rebases;
#[path = "matrix/remotes.rs"]
mod remotes;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use world::World;

/// One way to make commits.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    name: &'static str,
    /// Shell, run before the agent is installed, after two commits on `main`.
    before: &'static str,
    /// Shell, run with the agent installed.
    act: &'static str,
    /// Run after that.
    then: Option<fn(&Path)>,
    /// How the messages of commit objects begin that are no commits of a history.
    aside: &'static [&'static str],
}

/// For scenarios that make no commit: then there must be none.
pub(crate) const NOTHING: &[&str] = &["nothing is made"];

/// A scenario that makes commits; with another `aside` than none, one that need not.
pub(crate) const fn made(name: &'static str, before: &'static str, act: &'static str) -> Scenario {
    Scenario { name, before, act, then: None, aside: &[] }
}

impl Scenario {
    /// Makes commits, and these besides.
    const fn besides(self, aside: &'static [&'static str]) -> Self {
        Self { aside, ..self }
    }
}

const GROUPS: &[(&str, &[Scenario])] = &[
    ("commits", commits::ALL),
    ("merges", merges::ALL),
    ("rebases", rebases::ALL),
    ("picks", picks::ALL),
    ("places", places::ALL),
    ("plumbing", plumbing::ALL),
    ("remotes", remotes::ALL),
];

/// What the scenarios' shell knows. 77 means that this Git, or this machine, lacks something.
const PRELUDE: &str = r#"
export GIT_EDITOR=true
c() { mkdir -p "$(dirname "$1")"; echo "${2:-$1}" > "$1.txt"; git add "$1.txt"; git commit -q -m "$1"; }
off() { git -c core.hooksPath=/dev/null "$@"; }
todo() { export GIT_SEQUENCE_EDITOR="sed -i -e '$1'"; }
watch() { echo "$(cd "$1" && pwd)" >> "$W/watched"; }
others() {
    git clone -q . "$W/theirs"; git remote add origin "$W/theirs"; git fetch -q origin; git branch -q -u origin/main
}
theirs() {
    ( cd "$W/theirs"; export GIT_COMMITTER_NAME='Theo Them' GIT_COMMITTER_EMAIL=theo@example.com; c "$@" )
}
"#;

/// What became of a scenario.
struct Row {
    name: &'static str,
    made: usize,
    by_hooks: usize,
    by_reconciliation: usize,
    /// Made by others, or no commits of a history.
    others: usize,
    wrong: String,
    skipped: bool,
}

struct Run {
    world: World,
}

impl Run {
    fn shell(&self, script: &str) -> std::process::Output {
        let mut command: Command = self.world.shell(&format!("{PRELUDE}\n{script}\n"));
        command.env("W", self.world.root()).env("AGENT", world::agent()).output().unwrap()
    }

    /// Every commit object in every watched repository: its committer and first line.
    fn objects(&self) -> BTreeMap<String, (String, String)> {
        let more = std::fs::read_to_string(self.world.root().join("watched")).unwrap_or_default();
        let places = more.lines().map(PathBuf::from).chain([self.world.repo()]);
        let mut found = BTreeMap::new();
        for place in places {
            let script = "git cat-file --batch-all-objects --batch-check='%(objecttype) %(objectname)' |
                sed -n 's/^commit //p' | GIT_NO_REPLACE_OBJECTS=1 xargs -r git -c i18n.logOutputEncoding=UTF-8 \
                log --no-walk --format='%H%x00%cn%x00%s'";
            let output = self.world.shell(script).current_dir(&place).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            for line in String::from_utf8_lossy(&output.stdout).lines() {
                let words: Vec<&str> = line.split('\0').collect();
                found.insert(words[0].to_owned(), (words[1].to_owned(), words[2].to_owned()));
            }
        }
        found
    }
}

fn run(git: &Path, scenario: &Scenario) -> Row {
    let mut row = Row {
        name: scenario.name,
        made: 0,
        by_hooks: 0,
        by_reconciliation: 0,
        others: 0,
        wrong: String::new(),
        skipped: false,
    };
    let mut world = World::bare();
    let path = std::env::var("PATH").unwrap();
    world.set("PATH", &format!("{}:{path}", git.parent().unwrap().display()));
    std::fs::create_dir(world.repo()).unwrap();
    let run = Run { world };
    let before = format!("git init -q -b main; c base; c second\n{}", scenario.before);
    let steps = [before.as_str(), "\"$AGENT\" install --repo \"$W/repo\" > /dev/null"];
    for step in steps {
        // Long ago, or a commit made anew within the same second would be the same commit.
        let long_ago = "export GIT_AUTHOR_DATE='1600000000 +0000' GIT_COMMITTER_DATE='1600000000 +0000'";
        let output = run.shell(&format!("{long_ago}\n{step}"));
        if output.status.code() == Some(77) {
            row.skipped = true;
            return row;
        }
        assert!(output.status.success(), "{}: {step}: {}", row.name, String::from_utf8_lossy(&output.stderr));
    }
    let earlier = run.objects();
    let output = run.shell(scenario.act);
    if !output.status.success() {
        row.wrong = format!("the scenario failed: {}", String::from_utf8_lossy(&output.stderr));
        return row;
    }
    if let Some(then) = scenario.then {
        then(&run.world.repo());
    }
    run.world.ok(&["flush"]);
    compare(&run, scenario, &earlier, &mut row);
    row
}

fn compare(run: &Run, scenario: &Scenario, earlier: &BTreeMap<String, (String, String)>, row: &mut Row) {
    let later = run.objects();
    let records = run.world.records();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let sources: BTreeMap<String, String> =
        records.iter().map(|record| (text(&record["id"]), text(&record["source"]))).collect();
    if sources.len() != records.len() {
        row.wrong.push_str("two records of one commit; ");
    }
    let new: BTreeSet<&String> = later.keys().filter(|id| !earlier.contains_key(*id)).collect();
    for id in &new {
        let (committer, subject) = &later[*id];
        let source = sources.get(*id).map(String::as_str);
        let theirs = committer == "Theo Them";
        let aside = scenario.aside.iter().any(|start| subject.starts_with(start));
        match source {
            Some(_) if theirs => _ = write!(row.wrong, "theirs was recorded: {id} {subject}; "),
            Some("reconcile") => row.by_reconciliation += 1,
            Some(_) => row.by_hooks += 1,
            None if theirs || aside => row.others += 1,
            None => _ = write!(row.wrong, "not recorded: {id} {subject}; "),
        }
        row.made += usize::from(!theirs && (source.is_some() || !aside));
    }
    for id in sources.keys().filter(|id| !new.contains(id)) {
        _ = write!(row.wrong, "recorded, but not new: {id}; ");
    }
    let makes = scenario.aside.is_empty() || row.made > 0;
    if (makes && row.made == 0) || (scenario.aside == NOTHING && row.made > 0) {
        _ = write!(row.wrong, "{} commits were made; ", row.made);
    }
}

/// Every `git` that PATH has, links to the same one counted once, with its version.
fn gits() -> Vec<(PathBuf, String)> {
    let path = std::env::var_os("PATH").unwrap();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for folder in std::env::split_paths(&path) {
        let Ok(output) = Command::new(folder.join("git")).arg("--version").output() else { continue };
        let version = String::from_utf8_lossy(&output.stdout).trim().replace("git version ", "");
        if output.status.success() && seen.insert(version.clone()) {
            found.push((folder.join("git"), version));
        }
    }
    found
}

fn group(name: &str) {
    let scenarios = GROUPS.iter().find(|(group, _)| *group == name).unwrap().1;
    let mut text = String::new();
    let mut wrong = 0;
    for (git, version) in gits() {
        let rows: Vec<Row> = scenarios.iter().map(|scenario| run(&git, scenario)).collect();
        _ = writeln!(
            text,
            "\n{name}, Git {version}\n{:<58} {:>5} {:>6} {:>10} {:>6}",
            "", "made", "hooks", "reconciled", "others"
        );
        for row in rows {
            let verdict = match row.wrong.as_str() {
                _ if row.skipped => "skipped: this Git or machine lacks it".to_owned(),
                "" => "ok".to_owned(),
                words => format!("WRONG {words}"),
            };
            wrong += usize::from(!row.wrong.is_empty());
            let counts = [row.made, row.by_hooks, row.by_reconciliation, row.others];
            let [made, hooks, reconciled, others] = counts;
            _ = writeln!(
                text,
                "{:<58} {made:>5} {hooks:>6} {reconciled:>10} {others:>6}  {verdict}",
                row.name
            );
        }
    }
    println!("{text}");
    std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("matrix-{name}.txt")), &text).unwrap();
    assert_eq!(wrong, 0, "{text}");
}

#[test]
fn commits_in_all_forms() {
    group("commits");
}

#[test]
fn merges_of_all_kinds() {
    group("merges");
}

#[test]
fn rebases_by_both_backends() {
    group("rebases");
}

#[test]
fn picks_reverts_patches_and_stashes() {
    group("picks");
}

#[test]
fn places_and_environments() {
    group("places");
}

#[test]
fn plumbing_and_other_clients() {
    group("plumbing");
}

#[test]
fn commits_of_others_and_pushes() {
    group("remotes");
}

#[test]
fn the_matrix_has_at_least_seventy_scenarios_with_names_of_their_own() {
    let names: Vec<&str> = GROUPS.iter().flat_map(|(_, all)| all.iter().map(|one| one.name)).collect();
    let distinct: BTreeSet<&str> = names.iter().copied().collect();
    assert!(distinct.len() >= 70 && distinct.len() == names.len(), "{} of {}", distinct.len(), names.len());
}
