//! Commits without any hook: plumbing, imports, rewriting tools, libgit2.

use std::path::Path;

use super::{Scenario, made};

/// A commit by libgit2: another one, an amended one, and one on a branch that is not checked out.
fn libgit2(path: &Path) {
    let repo = git2::Repository::open(path).unwrap();
    let person = git2::Signature::now("Lib Git", "lib@example.com").unwrap();
    let parent = repo.head().unwrap().peel_to_commit().unwrap();
    let tree = parent.tree().unwrap();
    let id = repo.commit(Some("HEAD"), &person, &person, "By libgit2", &tree, &[&parent]).unwrap();
    let made = repo.find_commit(id).unwrap();
    made.amend(Some("HEAD"), None, None, None, Some("By libgit2, amended"), None).unwrap();
    let other = repo.commit(None, &person, &person, "On a branch", &tree, &[&parent]).unwrap();
    repo.branch("by-libgit2", &repo.find_commit(other).unwrap(), false).unwrap();
}

pub(crate) const ALL: &[Scenario] = &[
    made(
        "commit-tree, update-ref",
        "",
        "git update-ref refs/heads/main $(git commit-tree -m one -p HEAD HEAD^{tree})",
    ),
    made(
        "commit-tree, update-ref, three deep",
        "",
        "id=HEAD; for n in 1 2 3; do id=$(git commit-tree -m $n -p $id HEAD^{tree}); done; git update-ref HEAD $id",
    ),
    made(
        "commit-tree, update-ref --stdin",
        "",
        "echo \"create refs/heads/new $(git commit-tree -m one -p HEAD HEAD^{tree})\" | git update-ref --stdin",
    ),
    made("commit-tree, branch -f", "", "git branch -f other $(git commit-tree -m one -p HEAD HEAD^{tree})"),
    made(
        "commit-tree, reset --hard",
        "",
        "git reset -q --hard $(git commit-tree -m one -p HEAD HEAD^{tree})",
    ),
    made(
        "commit-tree, checkout",
        "",
        "git checkout -q $(git commit-tree -m one -p HEAD HEAD^{tree}); git checkout -q main",
    ),
    made(
        "commit-tree, merge by fast-forward",
        "",
        "git merge -q $(git commit-tree -m one -p HEAD HEAD^{tree})",
    ),
    made(
        "commit-tree, then git commit on it",
        "",
        "git update-ref HEAD $(git commit-tree -m one -p HEAD HEAD^{tree}); git commit -q --allow-empty -m two",
    ),
    made(
        "commit-tree of a root",
        "",
        "git update-ref refs/heads/root $(git commit-tree -m root HEAD^{tree})",
    ),
    made(
        "write-tree, commit-tree",
        "",
        "echo x > x; git update-index --add x; git update-ref HEAD $(git commit-tree -m one -p HEAD $(git write-tree))",
    ),
    made(
        "hash-object -t commit",
        "",
        "git cat-file commit HEAD | sed s/second/hashed/ | git hash-object -t commit -w --stdin > \"$W/id\"; git update-ref HEAD $(cat \"$W/id\")",
    ),
    made("ref written by hand", "", "git commit-tree -m one -p HEAD HEAD^{tree} > .git/refs/heads/by-hand"),
    made(
        "merge-tree --write-tree, commit-tree",
        "git merge-tree -h 2>&1 | grep -q write-tree || exit 77; git checkout -q -b side; c side; git checkout -q main; c apart",
        "git update-ref HEAD $(git commit-tree -m merged -p main -p side $(git merge-tree --write-tree main side))",
    ),
    made(
        "fast-import",
        "",
        "printf 'commit refs/heads/imported\\ncommitter I <i@m> 1700000000 +0000\\ndata 3\\none\\nM 644 inline f\\ndata 1\\nx\\n\\ncommit refs/heads/imported\\ncommitter I <i@m> 1700000001 +0000\\ndata 3\\ntwo\\n\\n' | git fast-import --quiet",
    ),
    made(
        "fast-export, sed, fast-import",
        "",
        "git fast-export main | sed s/second/sekond/ | git fast-import --quiet --force",
    ),
    made(
        "filter-branch",
        "c one; c two",
        "FILTER_BRANCH_SQUELCH_WARNING=1 git filter-branch --msg-filter 'sed s/^/filtered:/' HEAD~2.. > /dev/null 2>&1",
    ),
    made(
        "filter-branch --all",
        "git branch other; c one",
        "FILTER_BRANCH_SQUELCH_WARNING=1 git filter-branch --env-filter 'GIT_AUTHOR_NAME=Eve; export GIT_AUTHOR_NAME' -- --all > /dev/null 2>&1",
    ),
    made(
        "replay",
        "git --list-cmds=main | grep -qx replay || exit 77; git checkout -q -b side; c s1; c s2; git checkout -q main; c apart",
        "git replay --onto main main..side | git update-ref --stdin",
    ),
    made(
        "commit with core.hooksPath=/dev/null",
        "",
        "off commit -q --allow-empty -m one; off commit -q --allow-empty -m two",
    ),
    made(
        "amend with core.hooksPath=/dev/null",
        "",
        "off commit -q --allow-empty -m one; off commit -q --allow-empty --amend -m two; off commit -q --allow-empty --amend -m three",
    ),
    made(
        "rebase with core.hooksPath=/dev/null",
        "git checkout -q -b side; c s1; c s2; git checkout -q main; c apart; git checkout -q side",
        "off rebase -q main",
    ),
    made(
        "am with core.hooksPath=/dev/null",
        "git checkout -q -b side; c s1; git format-patch -q -o \"$W/mail\" main; git checkout -q main",
        "off am -q \"$W\"/mail/*",
    ),
    made(
        "merge with core.hooksPath=/dev/null",
        "git checkout -q -b side; c s1; git checkout -q main; c apart",
        "off merge -q --no-edit side",
    ),
    made(
        "made, reset away, branch deleted",
        "",
        "git checkout -q -b gone; off commit -q --allow-empty -m one; git checkout -q main; git branch -q -D gone; off commit -q --allow-empty -m two; git reset -q --hard HEAD~1",
    ),
    made(
        "made, reflog expired",
        "",
        "off commit -q --allow-empty -m one; git reflog expire --expire=now --all; off commit -q --allow-empty -m two; git gc -q",
    ),
    made("detached HEAD and a branch moved as jj does", "git checkout -q --detach", "
        one=$(git commit-tree -m one -p HEAD HEAD^{tree}); two=$(git commit-tree -m two -p $one HEAD^{tree})
        git update-ref refs/jj/keep/1 $(git commit-tree -m snapshot -p $two HEAD^{tree})
        git update-ref -m 'export from jj' refs/heads/main $one; git update-ref --no-deref -m 'export from jj' HEAD $two")
        .besides(&["snapshot"]),
    made("quiltimport", "test -x \"$(git --exec-path)/git-quiltimport\" || exit 77
        mkdir \"$W/patches\"; git checkout -q -b side; c s1; git format-patch -q -1 --stdout > \"$W/patches/1.patch\"; git checkout -q main
        echo 1.patch > \"$W/patches/series\"", "git quiltimport --patches \"$W/patches\" > /dev/null"),
    made("subtree split (contrib)", "git subtree 2>&1 | grep -q usage || exit 77; c lib/a; c lib/b", "git subtree split -q --prefix=lib -b split > /dev/null"),
    Scenario { then: Some(libgit2), ..made("libgit2", "", "") },
    Scenario { then: Some(libgit2), ..made("libgit2 and git by turns", "", "c one") },
];
