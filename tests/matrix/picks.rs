//! Cherry-picks, reverts, patches by mail, stashes, and what is no commit of a history.

use super::{NOTHING, Scenario, made};

const SIDE: &str = "git checkout -q -b side; c s1; c s2; c s3; git checkout -q main";
const CONFLICT: &str = "git checkout -q -b side; c base theirs; c s2; git checkout -q main; c base ours";
const MAIL: &str =
    "git checkout -q -b side; c s1; c s2; git format-patch -q -o \"$W/mail\" main; git checkout -q main";
const MAIL_CONFLICT: &str = "git checkout -q -b side; c base theirs; c s2; git format-patch -q -o \"$W/mail\" main; git checkout -q main; c base ours";
const STASHED: &[&str] = &["WIP on", "On main", "index on", "untracked files on"];

pub(crate) const ALL: &[Scenario] = &[
    made("cherry-pick", SIDE, "git cherry-pick side > /dev/null"),
    made("cherry-pick of a range", SIDE, "git cherry-pick main..side > /dev/null"),
    made("cherry-pick -x", SIDE, "git cherry-pick -x side > /dev/null"),
    made("cherry-pick --no-commit, commit", SIDE, "git cherry-pick --no-commit main..side; git commit -q -m picked"),
    Scenario { aside: NOTHING, ..made("cherry-pick --ff", SIDE, "git cherry-pick --ff side~2 > /dev/null") },
    made("cherry-pick with a conflict, --continue", CONFLICT, "git cherry-pick main..side > /dev/null || true; echo both > base.txt; git add base.txt; git cherry-pick --continue > /dev/null"),
    made("cherry-pick --skip", CONFLICT, "git cherry-pick main..side > /dev/null || true; git cherry-pick --skip > /dev/null"),
    made("cherry-pick -m 1", "git checkout -q -b side; c s1; git checkout -q -b t main; c t; git merge -q --no-edit side; git checkout -q main", "git cherry-pick -m 1 t > /dev/null"),
    made("cherry-pick --edit --signoff", SIDE, "git cherry-pick --edit --signoff side > /dev/null"),
    made("cherry-pick --allow-empty", "git checkout -q -b side; git commit -q --allow-empty -m none; git checkout -q main", "git cherry-pick --allow-empty side > /dev/null"),
    made("revert", "", "git revert --no-edit HEAD > /dev/null"),
    made("revert of a range", "c one; c two", "git revert --no-edit HEAD~2.. > /dev/null"),
    made("revert --no-commit, commit", "c one; c two", "git revert --no-commit HEAD~2..; git commit -q -m back"),
    made("revert -m 1", "git checkout -q -b side; c s1; git checkout -q main; git merge -q --no-ff --no-edit side", "git revert --no-edit -m 1 HEAD > /dev/null"),
    made("revert with a conflict, --continue", "c base new; c base newer", "git revert --no-edit HEAD~1 > /dev/null 2>&1 || true; echo mended > base.txt; git add base.txt; git revert --continue > /dev/null"),
    made("am", MAIL, "git am -q \"$W\"/mail/*"),
    made("am -3", MAIL_CONFLICT, "git am -q -3 \"$W\"/mail/* > /dev/null 2>&1 || true; echo both > base.txt; git add base.txt; git am -q --continue"),
    made("am --resolved", MAIL_CONFLICT, "git am -q \"$W\"/mail/* > /dev/null 2>&1 || true; echo both > base.txt; git add base.txt; git am -q --resolved"),
    made("am --skip", MAIL_CONFLICT, "git am -q \"$W\"/mail/* > /dev/null 2>&1 || true; git am -q --skip"),
    made("am --signoff of a mailbox", MAIL, "cat \"$W\"/mail/* | git am -q --signoff"),
    made("am --abort half way", "git checkout -q -b side; c s1; c base theirs; git format-patch -q -o \"$W/mail\" main; git checkout -q main; c base ours", "git am -q \"$W\"/mail/* > /dev/null 2>&1 || true; git am --abort"),
    made("apply --index, commit", MAIL, "git apply --index \"$W\"/mail/0001*; git commit -q -m applied"),
    Scenario { aside: STASHED, ..made("stash push, pop", "", "echo x >> base.txt; git stash -q; git stash pop -q") },
    Scenario { aside: STASHED, ..made("stash -u, kept", "", "echo x > new.txt; git stash -q -u") },
    made("stash branch, commit", "", "echo x >> base.txt; git stash -q; git stash branch -q new 2> /dev/null || git stash branch new > /dev/null; git commit -q -a -m out").besides(STASHED),
    made("stash apply, commit", "", "echo x >> base.txt; git stash -q; git stash apply -q; git commit -q -a -m out").besides(STASHED),
    Scenario { aside: &["Notes added", "Notes removed"], ..made("notes add", "", "git notes add -m note; git notes remove 2> /dev/null") },
    Scenario { aside: NOTHING, ..made("tag -a, branch, reset, checkout", "", "git tag -a -m v1 v1; git branch b; git reset -q --hard HEAD~1; git checkout -q b") },
    Scenario { aside: NOTHING, ..made("bisect", "c one; c two; c three", "git bisect start -q HEAD HEAD~3 > /dev/null; git bisect good > /dev/null; git bisect reset > /dev/null 2>&1") },
    Scenario { aside: &["dangling"], ..made("commit-tree that nothing names", "", "git commit-tree -m dangling HEAD^{tree} > /dev/null") },
    Scenario { aside: &["base"], ..made("replace --edit", "", "GIT_EDITOR='sed -i -e s/Ada/Eva/' git replace --edit HEAD~1") },
];
