//! Heads, branches, remotes and walks over history.
//!
//! Walks go through libgit2 and therefore end where a shallow clone ends, as `git rev-list` does.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use git2::{ErrorCode, ObjectType, Oid, Revwalk, Sort};

use super::{CaptureError, CommitId, Repo, commit};

/// Commits that a search for root commits visits: about a second.
const MAX_ROOT_WALK: usize = 200_000;

/// Commits that one push is asked about.
const MAX_UNPUBLISHED: usize = 10_000;

/// The last entry of a reflog is looked for in this many bytes.
const REFLOG_TAIL: u64 = 16 << 10;

/// The first commits of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// Commits without parents, sorted by id.
    pub ids: Vec<CommitId>,
    /// `false` where the history ends early: a shallow clone, or more than 200 000 commits.
    pub complete: bool,
}

/// What a push would publish, or brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpublished {
    /// The commits, oldest first.
    pub ids: Vec<CommitId>,
    /// Whether there are more: at most 10 000 are listed, the newest.
    pub truncated: bool,
}

impl Repo {
    /// The commit that HEAD names; none before the first commit.
    ///
    /// # Errors
    /// A HEAD that Git could not read either.
    pub fn head(&self) -> Result<Option<CommitId>, CaptureError> {
        match self.inner.refname_to_id("HEAD") {
            Ok(id) => Ok(Some(CommitId(id))),
            Err(error) if matches!(error.code(), ErrorCode::NotFound | ErrorCode::UnbornBranch) => Ok(None),
            Err(error) => Err(CaptureError::git("reading HEAD")(error)),
        }
    }

    /// The current branch's short name: during a rebase the one that is being rebased, none where HEAD
    /// is detached.
    #[must_use]
    pub fn branch(&self) -> Option<String> {
        if let Some(name) = self.inner.find_reference("HEAD").ok()?.symbolic_target_bytes() {
            return short(name);
        }
        rebased_branch(self.git_dir())
    }

    /// The commit that a rebase in progress builds on.
    #[must_use]
    pub fn rebase_base(&self) -> Option<CommitId> {
        ["rebase-merge/onto", "rebase-apply/onto"].iter().find_map(|file| {
            CommitId::from_hex(std::fs::read_to_string(self.git_dir().join(file)).ok()?.trim())
        })
    }

    /// The address, as configured, of the remote that the branch follows, else of `origin`, else of the
    /// only remote. It may hold a user name and a password.
    #[must_use]
    pub fn remote_url(&self) -> Option<String> {
        let config = self.inner.config().ok()?;
        // Git asks the first of several addresses; libgit2's plain lookup gives the last.
        let url = |remote: &str| {
            let mut values = config.multivar(&format!("remote.{remote}.url"), None).ok()?;
            let first = values.next()?.ok()?.value_bytes();
            Some(String::from_utf8_lossy(first).into_owned()).filter(|url| !url.is_empty())
        };
        let followed = || {
            let branch = self.branch()?;
            url(&config.get_string(&format!("branch.{branch}.remote")).ok()?)
        };
        let only = || {
            let remotes = self.inner.remotes().ok()?;
            let mut names = remotes.iter();
            let first = names.next()?.ok().flatten()?.to_owned();
            if names.next().is_some() { None } else { url(&first) }
        };
        followed().or_else(|| url("origin")).or_else(only)
    }

    /// The commits without parents in HEAD's whole history, for a repository that has no remote to be
    /// known by. Reads every commit (about 5 µs each), 200 000 at most: callers keep the answer.
    ///
    /// # Errors
    /// As [`Repo::head`].
    pub fn root_commits(&self) -> Result<Roots, CaptureError> {
        let odb = self.odb()?;
        let mut roots = Roots { ids: Vec::new(), complete: true };
        let mut waiting: Vec<Oid> = self.head()?.into_iter().map(|id| id.0).collect();
        let mut seen: HashSet<Oid> = waiting.iter().copied().collect();
        while let Some(id) = waiting.pop() {
            let Ok(object) = odb.read(id) else {
                roots.complete = false;
                continue;
            };
            let mut parents = commit::parents(object.data()).peekable();
            if parents.peek().is_none() {
                roots.ids.push(CommitId(id));
            }
            for parent in parents.filter_map(|parent| self.parse_id(parent)) {
                if seen.len() >= MAX_ROOT_WALK {
                    roots.complete = false;
                } else if seen.insert(parent) {
                    waiting.push(parent);
                }
            }
        }
        roots.ids.sort_unstable();
        Ok(roots)
    }

    /// The message of HEAD's last reflog entry, such as `commit (amend): Fix it`.
    #[must_use]
    pub fn last_reflog_message(&self) -> Option<String> {
        let line = last_line(&self.git_dir().join("logs/HEAD"))?;
        let tab = memchr::memchr(b'\t', &line)?;
        Some(String::from_utf8_lossy(&line[tab + 1..]).into_owned())
    }

    /// The commits that the given revisions select, oldest first, parents before children: the same as
    /// `git rev-list`. Understood are `A`, `^A`, `A..B`, `A...B` and the words `--all`, `--branches`,
    /// `--tags`, `--remotes`; nothing, or exclusions only, means HEAD. A HEAD before its first commit
    /// selects nothing.
    ///
    /// `since` and `until` (seconds since 1970, both included) choose by committer time alone. Where
    /// clocks were wrong `git rev-list --since` stops early; this does not (`--since-as-filter`).
    ///
    /// # Errors
    /// A revision that names no commit here.
    pub fn resolve(
        &self,
        revisions: &[String],
        since: Option<i64>,
        until: Option<i64>,
    ) -> Result<Vec<CommitId>, CaptureError> {
        let mut walk = self.walk(Sort::TOPOLOGICAL | Sort::TIME | Sort::REVERSE)?;
        let mut positive = false;
        for revision in revisions {
            positive |= self.select(&mut walk, revision)?;
        }
        if !positive {
            self.select(&mut walk, "HEAD")?;
        }
        let ids = collect(walk)?;
        if since.is_none() && until.is_none() {
            return Ok(ids);
        }
        let odb = self.odb()?;
        let wanted = |id: &CommitId| {
            let time = odb.read(id.0).map_or(0, |object| commit::commit_time(object.data()));
            since.is_none_or(|since| time >= since) && until.is_none_or(|until| time <= until)
        };
        Ok(ids.into_iter().filter(wanted).collect())
    }

    /// The one commit that a revision names; annotated tags are followed.
    ///
    /// # Errors
    /// A revision that names no commit here.
    pub fn resolve_one(&self, revision: &str) -> Result<CommitId, CaptureError> {
        let object = self.inner.revparse_single(revision).map_err(|error| refused(revision, &error))?;
        let commit = object.peel(ObjectType::Commit).map_err(|error| refused(revision, &error))?;
        Ok(CommitId(commit.id()))
    }

    /// The commits reachable from `tips` that no remote-tracking ref of `remote` has; a name that is no
    /// remote's (Git gives the address when it was asked to push to one) stands for all remotes.
    ///
    /// # Errors
    /// A history that cannot be walked.
    pub fn unpublished(&self, tips: &[CommitId], remote: &str) -> Result<Unpublished, CaptureError> {
        let mut walk = self.walk(Sort::TIME)?;
        for tip in tips {
            walk.push(tip.0).map_err(CaptureError::git("walking what is pushed"))?;
        }
        let known = self.inner.find_remote(remote).is_ok();
        let pattern = if known { format!("refs/remotes/{remote}/*") } else { "refs/remotes/*".to_owned() };
        for id in self.tips(&pattern)? {
            walk.hide(id).map_err(CaptureError::git("walking what is published"))?;
        }
        newest(walk)
    }

    /// For each ref that a push moved (where it is now, where it was), the commits that are new here: not
    /// reachable from where the refs were, from any other ref, nor from a ref before it in the list.
    ///
    /// # Errors
    /// A history that cannot be walked.
    pub fn received(&self, moved: &[(CommitId, Option<CommitId>)]) -> Result<Vec<Unpublished>, CaptureError> {
        let hiding = "walking what was here before";
        // A tag can name something else than a commit, which brings none.
        let commit =
            |id: &CommitId| Some(self.inner.find_object(id.0, None).ok()?.peel_to_commit().ok()?.id());
        let now: HashSet<Oid> = moved.iter().filter_map(|(new, _)| commit(new)).collect();
        let mut before: Vec<Oid> = self.tips("refs/*")?.into_iter().filter(|id| !now.contains(id)).collect();
        before.extend(moved.iter().filter_map(|(_, old)| commit(old.as_ref()?)));
        let mut found = Vec::with_capacity(moved.len());
        for (new, _) in moved {
            let Some(tip) = commit(new) else {
                found.push(Unpublished { ids: Vec::new(), truncated: false });
                continue;
            };
            let mut walk = self.walk(Sort::TIME)?;
            walk.push(tip).map_err(CaptureError::git("walking what was pushed"))?;
            for id in &before {
                walk.hide(*id).map_err(CaptureError::git(hiding))?;
            }
            found.push(newest(walk)?);
            before.push(tip);
        }
        Ok(found)
    }

    pub(super) fn walk(&self, order: Sort) -> Result<Revwalk<'_>, CaptureError> {
        let walking = "walking its history";
        let mut walk = self.inner.revwalk().map_err(CaptureError::git(walking))?;
        walk.set_sorting(order).map_err(CaptureError::git(walking))?;
        Ok(walk)
    }

    /// Adds one revision to a walk; whether it selects anything rather than excluding.
    fn select(&self, walk: &mut Revwalk<'_>, revision: &str) -> Result<bool, CaptureError> {
        let push = |walk: &mut Revwalk<'_>, id: Oid| walk.push(id).map_err(|error| refused(revision, &error));
        let hide = |walk: &mut Revwalk<'_>, id: Oid| walk.hide(id).map_err(|error| refused(revision, &error));
        let pattern = match revision {
            "--all" => Some("refs/*"),
            "--branches" => Some("refs/heads/*"),
            "--tags" => Some("refs/tags/*"),
            "--remotes" => Some("refs/remotes/*"),
            "HEAD" if self.head()?.is_none() => return Ok(true),
            _ => None,
        };
        if let Some(pattern) = pattern {
            for id in self.tips(pattern)? {
                push(walk, id)?;
            }
            if revision == "--all" {
                for id in self.all_heads()? {
                    push(walk, id)?;
                }
            }
            return Ok(true);
        }
        if let Some(excluded) = revision.strip_prefix('^') {
            hide(walk, self.resolve_one(excluded)?.0)?;
            return Ok(false);
        }
        let or_head = |end: &str| self.resolve_one(if end.is_empty() { "HEAD" } else { end });
        if let Some((one, other)) = revision.split_once("...") {
            let (one, other) = (or_head(one)?.0, or_head(other)?.0);
            push(walk, one)?;
            push(walk, other)?;
            match self.inner.merge_bases(one, other) {
                Ok(bases) => bases.iter().try_for_each(|base| hide(walk, *base))?,
                Err(error) if error.code() == ErrorCode::NotFound => {}
                Err(error) => return Err(refused(revision, &error)),
            }
        } else if let Some((from, to)) = revision.split_once("..") {
            hide(walk, or_head(from)?.0)?;
            push(walk, or_head(to)?.0)?;
        } else {
            push(walk, self.resolve_one(revision)?.0)?;
        }
        Ok(true)
    }

    /// The commits that matching refs name; tags of other objects and refs to absent ones name none.
    pub(super) fn tips(&self, pattern: &str) -> Result<Vec<Oid>, CaptureError> {
        let references =
            self.inner.references_glob(pattern).map_err(CaptureError::git("listing its refs"))?;
        Ok(references.flatten().filter_map(|reference| Some(reference.peel_to_commit().ok()?.id())).collect())
    }

    /// HEAD of every worktree. Those on a branch are among the refs already: only detached ones matter.
    fn all_heads(&self) -> Result<Vec<Oid>, CaptureError> {
        let mut ids: Vec<Oid> = self.head()?.into_iter().map(|id| id.0).collect();
        let worktrees =
            std::fs::read_dir(self.common_dir().join("worktrees")).into_iter().flatten().flatten();
        let folders = worktrees.map(|entry| entry.path()).chain([self.common_dir().to_owned()]);
        let detached = folders.filter_map(|folder| {
            let head = std::fs::read_to_string(folder.join("HEAD")).ok()?;
            let id = self.parse_id(head.trim())?;
            self.inner.find_commit(id).ok().map(|commit| commit.id())
        });
        ids.extend(detached);
        Ok(ids)
    }
}

/// The first of a walk that begins with the newest, as many as are listed, oldest first.
fn newest(walk: Revwalk<'_>) -> Result<Unpublished, CaptureError> {
    let mut found = Unpublished { ids: Vec::new(), truncated: false };
    for id in walk {
        if found.ids.len() == MAX_UNPUBLISHED {
            found.truncated = true;
            break;
        }
        found.ids.push(CommitId(id.map_err(CaptureError::git("walking what a push moves"))?));
    }
    found.ids.reverse();
    Ok(found)
}

fn short(name: &[u8]) -> Option<String> {
    let name = name.trim_ascii().strip_prefix(b"refs/heads/")?;
    Some(String::from_utf8_lossy(name).into_owned())
}

/// The branch that is being rebased in the worktree with this Git folder.
pub(super) fn rebased_branch(git_dir: &Path) -> Option<String> {
    ["rebase-merge/head-name", "rebase-apply/head-name"]
        .iter()
        .find_map(|file| short(&std::fs::read(git_dir.join(file)).ok()?))
}

fn collect(walk: Revwalk<'_>) -> Result<Vec<CommitId>, CaptureError> {
    walk.map(|id| id.map(CommitId))
        .collect::<Result<_, _>>()
        .map_err(CaptureError::git("walking its history"))
}

fn refused(revision: &str, error: &git2::Error) -> CaptureError {
    CaptureError::Revision { revision: revision.to_owned(), reason: error.message().to_owned() }
}

/// The last line of a file, without reading the rest: reflogs grow for years.
fn last_line(path: &Path) -> Option<Vec<u8>> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(REFLOG_TAIL))).ok()?;
    let mut tail = Vec::new();
    file.take(REFLOG_TAIL).read_to_end(&mut tail).ok()?;
    let text = tail.strip_suffix(b"\n").unwrap_or(&tail);
    let line = memchr::memrchr(b'\n', text).map_or(text, |at| &text[at + 1..]);
    (!line.is_empty()).then(|| line.to_vec())
}
