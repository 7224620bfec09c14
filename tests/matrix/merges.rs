//! Merges of every kind.

use super::{NOTHING, Scenario, made};

const SIDE: &str = "git checkout -q -b side; c side; git checkout -q main";
const APART: &str = "git checkout -q -b side; c side; git checkout -q main; c apart";
const CONFLICT: &str = "git checkout -q -b side; c base theirs; git checkout -q main; c base ours";

pub(crate) const ALL: &[Scenario] = &[
    made("merge, clean", APART, "git merge -q -m merged side"),
    made("merge --no-ff", SIDE, "git merge -q --no-ff --no-edit side"),
    Scenario { aside: NOTHING, ..made("merge by fast-forward", SIDE, "git merge -q side") },
    Scenario { aside: NOTHING, ..made("merge --ff-only", SIDE, "git merge -q --ff-only side") },
    Scenario { aside: NOTHING, ..made("merge --abort", CONFLICT, "git merge -q side || true; git merge --abort") },
    made("merge with a conflict, commit", CONFLICT, "git merge -q side || true; echo both > base.txt; git commit -q -a -m mended"),
    made("merge --continue", CONFLICT, "git merge -q side || true; echo both > base.txt; git add base.txt; git merge --continue"),
    made("merge --no-commit, commit", APART, "git merge -q --no-commit side; git commit -q -m later"),
    made("merge --squash, commit", APART, "git merge -q --squash side; git commit -q -m squashed"),
    made("merge -s ours", APART, "git merge -q -s ours -m ours side"),
    made("merge -X theirs", CONFLICT, "git merge -q -X theirs -m theirs side"),
    made("merge -s resolve", APART, "git merge -q -s resolve -m resolved side"),
    made("merge of three (octopus)", "for b in x y z; do git checkout -q -b $b main; c $b; done; git checkout -q main", "git merge -q -m octopus x y z"),
    made("merge of unrelated histories", "git checkout -q --orphan other; git rm -q -rf .; c other; git checkout -q main", "git merge -q --allow-unrelated-histories -m joined other"),
    made("merge -s subtree", "git checkout -q --orphan lib; git rm -q -rf .; c lib; git checkout -q main
         git merge -q -s ours --no-commit --allow-unrelated-histories lib; git read-tree --prefix=lib/ -u lib; git commit -q -m added
         git checkout -q lib; c more; git checkout -q main", "git merge -q -s subtree -m subtree lib"),
    made("read-tree --prefix, commit", "git checkout -q --orphan lib; git rm -q -rf .; c lib; git checkout -q main",
        "git merge -q -s ours --no-commit --allow-unrelated-histories lib; git read-tree --prefix=lib/ -u lib; git commit -q -m added"),
    made("merge on a detached HEAD", APART, "git checkout -q --detach; git merge -q -m detached side; git checkout -q main"),
    made("merge of a tag", "git checkout -q -b side; c side; git tag -a -m v1 v1; git checkout -q main; c apart", "git merge -q --no-edit v1"),
    made("merge with --autostash", APART, "echo dirty >> base.txt; git merge -q --autostash -m merged side; git commit -q -a -m rest")
        .besides(&["On main: autostash", "WIP on", "index on", "untracked", "autostash"]),
    made("merges in a row", APART, "git merge -q -m one side; git checkout -q side; c again; git checkout -q main; git merge -q -m two side"),
    made("subtree add (contrib)", "git checkout -q --orphan lib; git rm -q -rf .; c lib; git checkout -q main; git subtree 2>&1 | grep -q usage || exit 77",
        "git subtree -q add --prefix=lib lib"),
];
