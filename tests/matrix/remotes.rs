//! Commits of others beside one's own: what is fetched is not queued, what is made of it is.

use super::{NOTHING, Scenario, made};

pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        aside: NOTHING,
        ..made("pull by fast-forward", "others", "theirs one; git pull -q --ff-only")
    },
    Scenario { aside: NOTHING, ..made("fetch", "others", "theirs one; git fetch -q") },
    Scenario {
        aside: NOTHING,
        ..made("fetch into a branch", "others", "theirs one; git fetch -q origin main:copy")
    },
    Scenario {
        aside: NOTHING,
        ..made("fetch by address into a branch", "others", "theirs one; git fetch -q \"$W/theirs\" main:copy")
    },
    Scenario {
        aside: NOTHING,
        ..made("fetch, reset --hard", "others", "theirs one; git fetch -q; git reset -q --hard origin/main")
    },
    Scenario {
        aside: NOTHING,
        ..made("fetch, merge by fast-forward", "others", "theirs one; git fetch -q; git merge -q origin/main")
    },
    Scenario {
        aside: NOTHING,
        ..made(
            "fetch, checkout -b",
            "others",
            "theirs one; git fetch -q; git checkout -q -b copy origin/main",
        )
    },
    Scenario {
        aside: NOTHING,
        ..made("pull by address", "others", "theirs one; git pull -q --ff-only \"$W/theirs\" main")
    },
    Scenario {
        aside: NOTHING,
        ..made(
            "fetch --tags, checkout of a tag",
            "others",
            "theirs one; git -C \"$W/theirs\" tag v1; git -C \"$W/theirs\" reset -q --hard HEAD~1; git fetch -q --tags; git checkout -q v1; git checkout -q main",
        )
    },
    Scenario {
        aside: NOTHING,
        ..made("pull --rebase by fast-forward", "others", "theirs one; git pull -q --rebase")
    },
    Scenario {
        aside: NOTHING,
        ..made(
            "bundle",
            "others",
            "theirs one; git -C \"$W/theirs\" bundle create -q \"$W/b\" main; git fetch -q \"$W/b\" main:bundled",
        )
    },
    Scenario {
        aside: NOTHING,
        ..made("maintenance prefetch", "others", "theirs one; git maintenance run --task=prefetch --quiet")
    },
    Scenario {
        aside: NOTHING,
        ..made(
            "push received",
            "others; git config receive.denyCurrentBranch updateInstead",
            "theirs one; git -C \"$W/theirs\" push -q origin main:main",
        )
    },
    made("pull with a merge", "others", "theirs one; c mine; git pull -q --no-rebase --no-edit"),
    made(
        "pull with a merge, hooks off",
        "others",
        "theirs one; off commit -q --allow-empty -m mine; off pull -q --no-rebase --no-edit",
    ),
    made(
        "pull by address with a merge, hooks off",
        "others",
        "theirs one; off commit -q --allow-empty -m mine; off pull -q --no-rebase --no-edit \"$W/theirs\" main",
    ),
    made(
        "pull with a conflict, commit",
        "others",
        "theirs base hers; c base mine; git pull -q --no-rebase > /dev/null 2>&1 || true; echo both > base.txt; git commit -q -a -m mended",
    ),
    made("pull --rebase", "others", "theirs one; c mine; git pull -q --rebase"),
    made(
        "pull --rebase, hooks off",
        "others",
        "theirs one; theirs two; off commit -q --allow-empty -m mine; off pull -q --rebase",
    ),
    made("pull --rebase=merges", "others", "theirs one; c mine; git pull -q --rebase=merges"),
    made(
        "pull --squash, commit",
        "others",
        "theirs one; c mine; git pull -q --no-rebase --squash > /dev/null 2>&1; git commit -q -m squashed",
    ),
    made(
        "fetch, merge, hooks off",
        "others",
        "theirs one; off commit -q --allow-empty -m mine; git fetch -q; off merge -q --no-edit origin/main",
    ),
    made("fetch, rebase", "others", "theirs one; c mine; git fetch -q; git rebase -q origin/main"),
    made(
        "fetch, cherry-pick of theirs",
        "others",
        "theirs one; theirs two; git fetch -q; git cherry-pick origin/main > /dev/null",
    ),
    made(
        "fetch, amend of theirs, hooks off",
        "others",
        "theirs one; git pull -q; off commit -q --amend -m better",
    ),
    made(
        "am of their patch",
        "others",
        "theirs one; git -C \"$W/theirs\" format-patch -q -1 -o \"$W/mail\"; git am -q \"$W\"/mail/*",
    ),
    made(
        "clone, install, commit, pull, commit",
        "others; git clone -q \"$W/theirs\" \"$W/mine\"; \"$AGENT\" install --repo \"$W/mine\"; watch \"$W/mine\"",
        "theirs one; cd \"$W/mine\"; c mine; git pull -q --no-rebase --no-edit; off commit -q --allow-empty -m last",
    ),
    made("push", "others", "c one; git push -q origin main:pushed"),
    made(
        "push of what no hook saw",
        "others",
        "off commit -q --allow-empty -m one; off commit -q --allow-empty -m two; git push -q origin main:pushed",
    ),
    made(
        "push, hooks off, then fetch",
        "others",
        "off commit -q --allow-empty -m one; off push -q origin main:pushed; git fetch -q",
    ),
    made(
        "push of plumbing, hooks off, then pull",
        "others",
        "git update-ref HEAD $(git commit-tree -m one -p HEAD HEAD^{tree}); off push -q origin main:pushed; git pull -q",
    ),
    made(
        "push of a tag on plumbing",
        "others",
        "git tag v1 $(git commit-tree -m one -p HEAD HEAD^{tree}); git push -q origin v1",
    ),
    made(
        "push by --all and --mirror",
        "others; git init -q --bare \"$W/mirror\"",
        "off commit -q --allow-empty -m one; git branch two; git push -q --mirror \"$W/mirror\"",
    ),
];
