//! Whom blame names for the lines that a fix removed: through renames, branches and merges.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod world;

use gitops_agent::calibration::Change;
use gitops_agent::capture::{CommitId, Reading, Repo};
use gitops_agent::szz::{self, Traced};
use world::World;

/// Traces the history of HEAD with changes that say only what blame needs.
fn traced(world: &World) -> (Vec<String>, Traced) {
    let folder = world.repo();
    let repo = Repo::open(&folder).unwrap();
    let commits = repo.resolve(&[], None, None).unwrap();
    let change = |repo: &Reading<'_>, id: &CommitId| {
        let facts = repo.facts(id).unwrap();
        Some(Change {
            id: facts.id,
            repository: String::new(),
            merge: facts.parents.len() > 1,
            fix: facts.message.starts_with("Fix"),
            time: facts.commit_time,
            added: 1,
            prior: 1,
            deleted: 1,
            files_total: facts.files.len(),
            files: vec![7],
            author: 8,
        })
    };
    let traced = szz::trace(&commits, 2, || Repo::open(&folder), change, || {}).unwrap();
    (commits.iter().map(CommitId::hex).collect(), traced)
}

fn fixed(world: &World) -> Vec<(String, String)> {
    let (ids, traced) = traced(world);
    let pairs = traced.fixed_at.iter().enumerate();
    pairs.filter_map(|(at, fix)| Some((ids[at].clone(), ids[(*fix)?].clone()))).collect()
}

const START: &str = "int one = 1;\nint two = 2;\nint three = 3;\nint four = 4;\nint five = 5;\nint six = 6;\nint seven = 7;\n";

#[test]
fn lines_are_followed_through_renames_and_merges() {
    let world = World::new();
    world.commit("a.c", START, "Start");
    let two = world.commit("a.c", &START.replace("two = 2", "two = 22"), "Change two");
    world.git(&["mv", "a.c", "b.c"]);
    world.git(&["commit", "-q", "-m", "Rename"]);
    world.git(&["checkout", "-q", "-b", "side"]);
    let text = START.replace("two = 2", "two = 22");
    let six = world.commit("b.c", &text.replace("six = 6", "six = 66"), "Change six");
    world.git(&["checkout", "-q", "main"]);
    world.commit("b.c", &text.replace("four = 4", "four = 44"), "Change four");
    world.git(&["merge", "-q", "--no-ff", "-m", "Merge", "side"]);
    let text = text.replace("four = 4", "four = 44");
    let fix = world.commit("b.c", &text.replace("two = 22", "two = 2"), "Fix two and six");
    let mut found = fixed(&world);
    found.sort();
    let mut expected = vec![(two, fix.clone()), (six, fix)];
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn the_first_fix_counts_and_idle_lines_do_not() {
    let world = World::new();
    let start = world.commit("a.c", START, "Start");
    world.commit("a.c", &format!("// a comment\n\n{START}"), "Comment");
    let first = world.commit("a.c", &START.replace("one = 1", "one = 0"), "Fix one");
    world.commit("a.c", &START.replace("one = 1", "one = 0").replace("two = 2", "two = 0"), "Fix two");
    let readme = world.commit("README.md", "wrong\n", "Say something");
    world.commit("README.md", "right\n", "Fix what was said");
    let found = fixed(&world);
    assert_eq!(found, [(start, first)]);
    assert!(!found.iter().any(|(id, _)| *id == readme));
}
