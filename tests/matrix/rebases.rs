//! Rebases by both backends.

use super::{NOTHING, Scenario, made};

const SIDE: &str =
    "git checkout -q -b side; c s1; c s2; c s3; git checkout -q main; c apart; git checkout -q side";
const CONFLICT: &str =
    "git checkout -q -b side; c base theirs; c s2; git checkout -q main; c base ours; git checkout -q side";

pub(crate) const ALL: &[Scenario] = &[
    made("rebase", SIDE, "git rebase -q main"),
    made("rebase --apply", SIDE, "git rebase -q --apply main"),
    made("rebase --force-rebase", SIDE, "git rebase -q --force-rebase HEAD~2"),
    made("rebase --onto", SIDE, "git rebase -q --onto main HEAD~1"),
    made("rebase --root", SIDE, "git rebase -q --root --onto main"),
    made(
        "rebase BRANCH from elsewhere",
        SIDE,
        "git checkout -q main; git rebase -q main side; git checkout -q main",
    ),
    made(
        "rebase of a detached HEAD",
        SIDE,
        "git checkout -q --detach; git rebase -q main; git checkout -q main",
    ),
    made(
        "rebase with a conflict, --continue",
        CONFLICT,
        "git rebase -q main || true; echo both > base.txt; git add base.txt; git rebase --continue",
    ),
    made(
        "rebase --apply with a conflict, --continue",
        CONFLICT,
        "git rebase -q --apply main || true; echo both > base.txt; git add base.txt; git rebase --continue",
    ),
    made("rebase --skip", CONFLICT, "git rebase -q main || true; git rebase --skip"),
    made(
        "rebase --abort half way",
        "git checkout -q -b side; c s1; c base theirs; git checkout -q main; c base ours; git checkout -q side",
        "git rebase -q main || true; git rebase --abort",
    ),
    made(
        "rebase --quit half way",
        "git checkout -q -b side; c s1; c base theirs; git checkout -q main; c base ours; git checkout -q side",
        "git rebase -q main || true; git rebase --quit; git checkout -q -f main",
    ),
    made(
        "rebase -i, reword",
        SIDE,
        "todo 's/^pick/reword/'; GIT_EDITOR='sed -i -e s/^s/t/' git rebase -q -i HEAD~2",
    ),
    made(
        "rebase -i, edit and amend",
        SIDE,
        "todo '1s/^pick/edit/'; git rebase -q -i HEAD~2; echo x >> base.txt; git commit -q -a --amend -m edited; git rebase --continue",
    ),
    made(
        "rebase -i, edit and commit",
        SIDE,
        "todo '1s/^pick/edit/'; git rebase -q -i HEAD~2; c between; git rebase --continue",
    ),
    made("rebase -i, squash", SIDE, "todo '2,$s/^pick/squash/'; git rebase -q -i HEAD~3"),
    made("rebase -i, fixup", SIDE, "todo '2,$s/^pick/fixup/'; git rebase -q -i HEAD~3"),
    made("rebase -i, fixup -C", SIDE, "todo '2s/^pick/fixup -C/'; git rebase -q -i HEAD~3"),
    made("rebase -i, drop", SIDE, "todo '1s/^pick/drop/'; git rebase -q -i HEAD~3"),
    made("rebase -i, reorder", SIDE, "todo '1{h;d};2{G}'; git rebase -q -i HEAD~3"),
    made(
        "rebase --exec with an amend",
        SIDE,
        "git rebase -q --exec 'git commit -q --amend -m \"$(git rev-parse --short HEAD) again\"' HEAD~2",
    ),
    made(
        "rebase --exec with a commit",
        SIDE,
        "git rebase -q --exec 'git commit -q --allow-empty -m extra' HEAD~2",
    ),
    made(
        "rebase --autosquash",
        "git checkout -q -b side; c s1; c s2; echo x >> s1.txt; git commit -q -a --fixup HEAD~1",
        "git rebase -q -i --autosquash main",
    ),
    made(
        "rebase --rebase-merges",
        "git checkout -q -b inner; c inner; git checkout -q -b side main; c s1; git merge -q --no-ff -m joined inner; git checkout -q main; c apart; git checkout -q side",
        "git rebase -q --rebase-merges main",
    ),
    made(
        "rebase --update-refs",
        "git rebase -h 2>&1 | grep -q update-refs || exit 77; git checkout -q -b low; c l1; git checkout -q -b side; c s1; git checkout -q main; c apart; git checkout -q side",
        "git rebase -q --update-refs main",
    ),
    made(
        "rebase --autostash",
        SIDE,
        "echo dirty >> base.txt; git rebase -q --autostash main; git commit -q -a -m rest",
    )
    .besides(&["On side: autostash", "WIP on", "index on", "autostash"]),
    made(
        "rebase --committer-date-is-author-date",
        SIDE,
        "git rebase -q --committer-date-is-author-date main",
    ),
    made("rebase --signoff", SIDE, "git rebase -q --signoff main"),
    made(
        "rebase --keep-base",
        SIDE,
        "todo '1s/^pick/reword/'; GIT_EDITOR='sed -i -e s/^s/t/' git rebase -q -i --keep-base main",
    ),
    Scenario {
        aside: NOTHING,
        ..made("rebase, up to date", "git checkout -q -b side; c s1", "git rebase -q main")
    },
];
