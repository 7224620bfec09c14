//! `git commit` in its many forms.

use super::{NOTHING, Scenario, made};

pub(crate) const ALL: &[Scenario] = &[
    made("commit", "", "c one"),
    made("commit -a", "", "echo more >> base.txt; git commit -q -a -m more"),
    made("commit PATH", "", "echo more >> base.txt; git commit -q -m more -- base.txt"),
    made("commit --only", "", "echo more >> base.txt; git add base.txt; git commit -q --only base.txt -m more"),
    made("commit --allow-empty", "", "git commit -q --allow-empty -m empty"),
    made("commit --allow-empty-message", "", "git commit -q --allow-empty --allow-empty-message -m ''"),
    made("commit --amend", "", "git commit -q --amend -m other"),
    made("commit, amend, amend", "", "c one; git commit -q --amend -m two; git commit -q --amend -m three"),
    made("commit --amend --no-edit", "", "echo x >> base.txt; git commit -q -a --amend --no-edit"),
    made("commit --amend --no-post-rewrite", "", "git commit -q --amend --no-post-rewrite -m other"),
    made("commit --amend --reset-author", "", "git commit -q --amend --reset-author -m mine"),
    made("commit -C", "", "git commit -q --allow-empty -C HEAD~1"),
    made("commit -c", "", "git commit -q --allow-empty -c HEAD~1"),
    made("commit --fixup", "", "echo x >> base.txt; git commit -q -a --fixup HEAD"),
    made("commit --fixup=amend:", "", "echo x >> base.txt; git commit -q -a --fixup=amend:HEAD"),
    made("commit --squash", "", "echo x >> base.txt; git commit -q -a --squash HEAD -m more"),
    made("commit --date", "", "git commit -q --allow-empty --date 2001-02-03T04:05:06Z -m old"),
    made("commit --author", "", "git commit -q --allow-empty --author 'Eve Else <eve@example.com>' -m hers"),
    made("commit -F -", "", "echo read | git commit -q --allow-empty -F -"),
    made("commit -s --trailer", "", "git commit -q --allow-empty -s --trailer 'Ticket: A-1' -m trailed"),
    made("commit --no-verify", "", "git commit -q --allow-empty --no-verify -m quick"),
    made("commit --cleanup=verbatim", "", "git commit -q --allow-empty --cleanup=verbatim -m '# kept'"),
    made("commit -v with an editor", "", "GIT_EDITOR='sh -c \"echo typed > $1\" -' git commit -q -v --allow-empty"),
    made("commit in a message that is not UTF-8", "", r"printf 'caf\351\n' | git commit -q --allow-empty -F -"),
    made(
        "commit with i18n.commitEncoding",
        "git config i18n.commitEncoding ISO-8859-1",
        r"printf 'caf\351\n' | git commit -q --allow-empty -F -",
    ),
    made("commit with a long message", "", "seq 1 20000 | git commit -q --allow-empty -F -"),
    made(
        "commit signed by ssh",
        "ssh-keygen -q -t ed25519 -N '' -f \"$W/key\" || exit 77
         git config gpg.format ssh; git config user.signingkey \"$W/key\"",
        "git commit -q -S --allow-empty -m signed",
    ),
    made(
        "commit signed by gpg",
        "export GNUPGHOME=\"$W/gpg\"; mkdir -m 700 \"$GNUPGHOME\"
         gpg -q --batch --passphrase '' --quick-gen-key 'Carl Committer <carl@example.com>' ed25519 || exit 77
         gpgconf --kill gpg-agent; git config user.signingkey carl@example.com",
        "export GNUPGHOME=\"$W/gpg\"; git commit -q -S --allow-empty -m signed; gpgconf --kill gpg-agent",
    ),
    made("commit on an orphan branch", "", "git checkout -q --orphan new; git commit -q -m root"),
    made("commit in a new repository", "git init -q -b main \"$W/new\"; \"$AGENT\" install --repo \"$W/new\"; watch \"$W/new\"",
        "cd \"$W/new\"; c root"),
    made("commit on a detached HEAD", "", "git checkout -q --detach; c one; git checkout -q main"),
    made("commit from an alias", "git config alias.save 'commit -q --allow-empty -m saved'", "git save"),
    made("commit from a shell alias", "git config alias.both '!git commit -q --allow-empty -m a && git commit -q --allow-empty -m b'", "git both"),
    made("commit with commit.verbose and a template", "echo '# template' > \"$W/t\"; git config commit.template \"$W/t\"",
        "git commit -q --allow-empty -m filled"),
    made("commit with gc.auto=1", "git config gc.auto 1; git config gc.autoDetach false", "c one; c two; c three"),
    made("commit of a rename, a deletion and a mode", "", "git mv base.txt moved.txt; git rm -q second.txt; echo > run; chmod +x run; git add run; git commit -q -m mixed"),
    made("commit --patch", "", "echo x >> base.txt; echo y | git commit -q --patch -m chosen"),
    made(
        "commit in a hook of another tool",
        "printf '#!/bin/sh\\ntest -n \"$AGAIN\" || AGAIN=1 git commit -q --allow-empty -m from-a-hook\\n' > .git/hooks/post-commit
         chmod +x .git/hooks/post-commit",
        "c one",
    ),
    made(
        "commit with a pre-commit hook that adds files",
        "printf '#!/bin/sh\\necho made > made.txt; git add made.txt\\n' > .git/hooks/pre-commit; chmod +x .git/hooks/pre-commit",
        "c one",
    ),
    made("commit-graph written with each commit", "git config fetch.writeCommitGraph true", "c one; git commit-graph write --reachable; c two"),
    made("commit after gc and repack", "", "c one; git gc -q --prune=now; c two; git repack -q -a -d"),
    Scenario { aside: NOTHING, ..made("commit that pre-commit refuses", "printf '#!/bin/sh\\nexit 1\\n' > .git/hooks/pre-commit; chmod +x .git/hooks/pre-commit", "git commit -q --allow-empty -m no || true") },
];
