//! Where a commit is made: worktrees, submodules, bare and odd repositories, and programs without a shell's
//! environment.

use super::{Scenario, made};

pub(crate) const ALL: &[Scenario] = &[
    made("commit in a linked worktree", "git worktree add -q -b side \"$W/tree\"", "cd \"$W/tree\"; c one"),
    made("commit in a worktree added later", "", "git worktree add -q -b side \"$W/tree\"; cd \"$W/tree\"; c one"),
    made("commit in a detached worktree, removed", "", "git worktree add -q --detach \"$W/tree\"; (cd \"$W/tree\"; c one); git worktree remove --force \"$W/tree\""),
    made("plumbing in a detached worktree", "git worktree add -q --detach \"$W/tree\"", "cd \"$W/tree\"; git update-ref HEAD $(git commit-tree -m one -p HEAD HEAD^{tree})"),
    made("rebase in a linked worktree", "git worktree add -q -b side \"$W/tree\"; (cd \"$W/tree\"; c s1; c s2); c apart", "cd \"$W/tree\"; git rebase -q main"),
    made("cherry-pick in four worktrees", "git checkout -q -b side; c s1; git checkout -q main; for n in 1 2 3 4; do git worktree add -q -b t$n \"$W/t$n\"; done",
        "for n in 1 2 3 4; do git -C \"$W/t$n\" -c user.name=t$n commit -q --allow-empty -m t$n; git -C \"$W/t$n\" cherry-pick side > /dev/null; done"),
    made("commit in a submodule and of it", "git clone -q . \"$W/lib\"; git -c protocol.file.allow=always submodule --quiet add \"$W/lib\" sub; git commit -q -m sub
         \"$AGENT\" install --repo sub; watch sub", "(cd sub; git checkout -q -b work; c one); git add sub; git commit -q -m bump"),
    made("plumbing in a submodule", "git clone -q . \"$W/lib\"; git -c protocol.file.allow=always submodule --quiet add \"$W/lib\" sub; git commit -q -m sub
         \"$AGENT\" install --repo sub; watch sub", "cd sub; git update-ref HEAD $(git commit-tree -m one -p HEAD HEAD^{tree})"),
    made("plumbing in a bare repository", "git clone -q --bare . \"$W/bare\"; \"$AGENT\" install --repo \"$W/bare\"; watch \"$W/bare\"",
        "cd \"$W/bare\"; git update-ref HEAD $(git commit-tree -m one -p HEAD HEAD^{tree})"),
    made("commit in a worktree of a bare repository", "git clone -q --bare . \"$W/bare\"; \"$AGENT\" install --repo \"$W/bare\"; watch \"$W/bare\"",
        "git -C \"$W/bare\" worktree add -q -b side \"$W/tree\"; cd \"$W/tree\"; c one"),
    made("commit in --separate-git-dir", "git clone -q --separate-git-dir \"$W/apart.git\" . \"$W/apart\"; \"$AGENT\" install --repo \"$W/apart\"; watch \"$W/apart\"",
        "cd \"$W/apart\"; c one; off commit -q --allow-empty -m two"),
    made("commit by --git-dir and --work-tree", "mkdir \"$W/else\"", "cd \"$W/else\"; git --git-dir=\"$W/repo/.git\" --work-tree=\"$W/repo\" commit -q --allow-empty -m one"),
    made("commit by GIT_DIR and GIT_WORK_TREE", "", "cd /; GIT_DIR=\"$W/repo/.git\" GIT_WORK_TREE=\"$W/repo\" git commit -q --allow-empty -m one"),
    made("commit by GIT_DIR inside another repository", "git init -q \"$W/other\"", "cd \"$W/other\"; GIT_DIR=\"$W/repo/.git\" GIT_WORK_TREE=\"$W/repo\" git commit -q --allow-empty -m one"),
    made("commit by GIT_INDEX_FILE", "", "GIT_INDEX_FILE=\"$W/index\" git read-tree HEAD; GIT_INDEX_FILE=\"$W/index\" git commit -q --allow-empty -m one"),
    made("commit by git -C", "mkdir -p deep/er", "cd /; git -C \"$W/repo/deep/er\" commit -q --allow-empty -m one"),
    made("commit in a subfolder", "mkdir -p deep/er", "cd deep/er; c one"),
    made("commit in a folder with blanks and umlauts", "git clone -q . \"$W/ä ö\"; \"$AGENT\" install --repo \"$W/ä ö\"; watch \"$W/ä ö\"", "cd \"$W/ä ö\"; c one; off commit -q --allow-empty -m two"),
    made("commit through a link to the folder", "ln -s \"$W/repo\" \"$W/link\"", "cd \"$W/link\"; c one; off commit -q --allow-empty -m two"),
    made("commit in a sparse checkout", "mkdir in out; c in/a; c out/b; git sparse-checkout set --no-cone in", "c in/c"),
    made("commit in a shallow clone", "git clone -q --depth 1 \"file://$W/repo\" \"$W/shallow\"; \"$AGENT\" install --repo \"$W/shallow\"; watch \"$W/shallow\"", "cd \"$W/shallow\"; c one; off commit -q --allow-empty -m two"),
    made("commit in a partial clone", "git config uploadpack.allowFilter true; git clone -q --filter=blob:none \"file://$W/repo\" \"$W/partial\"; \"$AGENT\" install --repo \"$W/partial\"; watch \"$W/partial\"", "cd \"$W/partial\"; c one; off commit -q --allow-empty -m two"),
    made("commit in a clone with --shared", "git clone -q --shared . \"$W/shared\"; \"$AGENT\" install --repo \"$W/shared\"; watch \"$W/shared\"", "cd \"$W/shared\"; c one; off commit -q --allow-empty -m two"),
    made("commit in a SHA-256 repository", "git init -q -b main --object-format=sha256 \"$W/256\" 2> /dev/null; \"$AGENT\" install --repo \"$W/256\"; watch \"$W/256\"", "cd \"$W/256\"; c one; off commit -q --allow-empty -m two; git commit -q --allow-empty --amend -m three"),
    made("commit below a replaced one", "git replace HEAD~1 $(git commit-tree -m replaced HEAD~1^{tree})", "c one; off commit -q --allow-empty -m two"),
    made("commit with refs packed", "", "c one; git pack-refs --all; off commit -q --allow-empty -m two; git pack-refs --all"),
    made("commit without reflogs", "git config core.logAllRefUpdates false", "c one; off commit -q --allow-empty -m two"),
    made("commit from a program with a bare environment", "", "env -i PATH=/nowhere HOME=\"$HOME\" GITOPS_AGENT_HOME=\"$GITOPS_AGENT_HOME\" GIT_CONFIG_GLOBAL=/dev/null \"$(command -v git)\" -c user.name=G -c user.email=g@u.i commit -q --allow-empty -m gui"),
    made("commit in the background of a closed terminal", "", "(c one) < /dev/null > /dev/null 2>&1 & wait"),
    made("commit with core.hooksPath set by a tool", "mkdir .husky; git config core.hooksPath .husky", "c one; off commit -q --allow-empty -m two"),
    made("commit after core.hooksPath went elsewhere", "", "mkdir \"$W/none\"; git config core.hooksPath \"$W/none\"; c one"),
    made("commit with GITOPS_AGENT=0", "", "GITOPS_AGENT=0 git commit -q --allow-empty -m quiet"),
    made("commit with a home that cannot be written", "echo > \"$W/file\"", "GITOPS_AGENT_HOME=\"$W/file\" git commit -q --allow-empty -m homeless"),
    made("commit with neither home nor repository to write to", "echo > \"$W/file\"", "rm -rf .git/gitops-agent; echo > .git/gitops-agent; GITOPS_AGENT_HOME=\"$W/file\" git commit -q --allow-empty -m homeless 2> /dev/null; rm .git/gitops-agent"),
];
