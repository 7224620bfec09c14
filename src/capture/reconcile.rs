//! Finds the commits that no hook announced: what branches, heads of worktrees and their reflogs name now
//! and did not name at the last look.
//!
//! A commit counts once a branch (`refs/heads/`) or the HEAD of a worktree names it, or has named it and the
//! reflog tells. Stashes, notes, tags, `refs/original/`, `refs/replace/` and the refs that tools keep for
//! themselves (`refs/jj/`) make no commit of a history, and are not looked at.
//!
//! What came from elsewhere is told apart by reflogs, first by those of the remote-tracking refs, whose
//! entries are fetches unless they say `update by push`; then by `FETCH_HEAD`, for fetches that update no
//! ref. Where a remote-tracking ref has no reflog, its commits count as fetched unless the committer's
//! address is the user's own. An entry such as `commit: …` or `am: …` wins over all of this: its commit was
//! made here.
//!
//! Invariants:
//! * [`Repo::news`] changes nothing, and the cursor that it gives is for the moment before it looked: what
//!   happens meanwhile is found next time.
//! * Nothing that `start` reaches is ever found.
//!
//! Limits: a look reads every ref and the sizes of all reflogs, 35 µs per ref in an unoptimised build. More than 100 000
//! new commits at once are an import: they stay history, which backfill records.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use git2::{Oid, Sort};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::reflog::{self, Log, Mark, Origin};
use super::{CaptureError, CommitId, Repo, commit};
use crate::hex::hex;

/// More new commits than this at once are an import.
const MAX_NEW: usize = 100_000;

/// A larger `FETCH_HEAD` (10 000 refs) is not read.
const MAX_FETCH_HEAD: u64 = 2 << 20;

/// How far a repository was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// What refs and heads named: ids in hex.
    tips: BTreeSet<String>,
    /// How far each reflog was read, by [`key`].
    logs: BTreeMap<String, Mark>,
}

/// What stands for a reflog's path below the common Git folder in a cursor: a branch's name can hold what must not
/// reach the disk.
fn key(log: &str) -> String {
    hex(&Sha256::digest(log)[..8])
}

impl Cursor {
    /// The commits that refs and heads named: what they reach needs no second look.
    pub fn tips(&self) -> impl Iterator<Item = &str> {
        self.tips.iter().map(String::as_str)
    }

    /// Lets what this commit reaches count as looked at.
    pub fn pass(&mut self, id: &CommitId) {
        self.tips.insert(id.hex());
    }
}

/// A commit that was made here since the last look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The commit.
    pub id: CommitId,
    /// The branch that has it, where one has.
    pub branch: Option<String>,
    /// The commit that it replaced, where the reflog says so.
    pub supersedes: Vec<String>,
}

/// What is new since the last look.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// Commits made here, parents before children.
    pub found: Vec<Found>,
    /// Commits that a reflog says were made here, and that are gone.
    pub gone: Vec<String>,
    /// The tips of an import: too many commits for reconciliation.
    pub imported: Vec<String>,
    /// How far this look got.
    pub cursor: Cursor,
}

/// A branch, or the detached HEAD of a worktree.
struct Tip {
    id: Oid,
    branch: Option<String>,
}

/// All that is there to be looked at.
struct View {
    tips: Vec<Tip>,
    /// Name and commit.
    remote: Vec<(String, Oid)>,
    tagged: HashSet<Oid>,
    /// Path below the common folder and content; of HEADs, branches, and remote-tracking refs.
    logs: Vec<(String, Log)>,
}

impl Repo {
    /// The cursor with which everything that is there counts as history, but for `announced` commits, which
    /// hooks have recorded already: history ends where the first of them was made.
    ///
    /// # Errors
    /// Refs that cannot be listed.
    pub fn starting_point(&self, announced: &HashSet<String>) -> Result<Cursor, CaptureError> {
        let mut view = self.view(&Cursor::default())?;
        let mut cursor = Cursor::default();
        let mut cut: HashMap<Oid, Option<Oid>> = HashMap::new();
        for (_, log) in view.logs.iter_mut().filter(|(name, _)| !is_remote(name)) {
            let last = log.entries.last().and_then(|entry| entry.new);
            if let Some(before) = log.cut_before(announced)
                && let Some(last) = last
            {
                cut.insert(last.0, before.map(|id| id.0));
            }
        }
        for tip in &view.tips {
            let known = cut.get(&tip.id).copied().unwrap_or(Some(tip.id));
            cursor.tips.extend(known.map(|id| id.to_string()));
        }
        for (name, id) in &view.remote {
            let id = if announced.is_empty() { Some(*id) } else { fetched_last(&view, name, *id) };
            cursor.tips.extend(id.map(|id| id.to_string()));
        }
        let tags = view.tagged.iter().filter(|id| !cut.contains_key(id));
        cursor.tips.extend(tags.map(Oid::to_string));
        cursor.logs = view.logs.into_iter().map(|(name, log)| (key(&name), log.mark)).collect();
        Ok(cursor)
    }

    /// What was made here since `cursor`, and is not reached by `start`, where history began.
    ///
    /// # Errors
    /// Refs that cannot be listed, or a history that cannot be walked.
    pub fn news(&self, start: &BTreeSet<String>, cursor: &Cursor) -> Result<News, CaptureError> {
        let view = self.view(cursor)?;
        let mut news = News { cursor: view.cursor(), ..News::default() };
        let unchanged = view.logs.iter().all(|(_, log)| log.entries.is_empty() && !log.rewritten);
        if unchanged && news.cursor.tips.is_subset(&cursor.tips) {
            return Ok(news);
        }
        let mut evidence = Evidence::default();
        for (name, log) in view.logs.iter().filter(|(name, _)| !is_remote(name)) {
            evidence.take(self, name, log);
        }
        let mut hidden = self.fetched(&view, cursor);
        hidden.extend(evidence.fetched.iter().copied());
        hidden.extend(start.iter().chain(&cursor.tips).filter_map(|id| self.parse_id(id)));
        evidence.made.retain(|id| !start.contains(&id.to_string()));
        let mut wanted = evidence.moved.clone();
        for tip in &view.tips {
            // A detached HEAD at a tag is where somebody looks at a release.
            if tip.branch.is_some() || !view.tagged.contains(&tip.id) {
                wanted.insert(tip.id, tip.branch.clone());
            }
        }
        wanted.retain(|id, _| !hidden.contains(id) || evidence.made.contains(id));
        self.collect_new(wanted, &hidden, &evidence, &mut news)?;
        Ok(news)
    }

    /// Which of `ids` the commits in `start` do not reach: made or fetched after it.
    ///
    /// # Errors
    /// A history that cannot be walked.
    pub fn beyond(
        &self,
        start: &BTreeSet<String>,
        ids: &[CommitId],
    ) -> Result<HashSet<CommitId>, CaptureError> {
        let odb = self.odb()?;
        let mut walk = self.walk(Sort::NONE)?;
        let walking = "walking what came after the installation";
        for id in ids.iter().filter(|id| odb.exists(id.0)) {
            walk.push(id.0).map_err(CaptureError::git(walking))?;
        }
        for id in start.iter().filter_map(|id| self.parse_id(id)).filter(|id| odb.exists(*id)) {
            walk.hide(id).map_err(CaptureError::git(walking))?;
        }
        let asked: HashSet<Oid> = ids.iter().map(|id| id.0).collect();
        let mut found = HashSet::new();
        for id in walk {
            let id = id.map_err(CaptureError::git(walking))?;
            if asked.contains(&id) {
                found.insert(CommitId(id));
            }
        }
        Ok(found)
    }

    /// The commits that branches and heads of worktrees reach, newest first, at most `limit`; and whether
    /// these are all.
    ///
    /// # Errors
    /// Refs that cannot be listed, or a history that cannot be walked.
    pub fn local_history(&self, limit: usize) -> Result<(Vec<CommitId>, bool), CaptureError> {
        let mut walk = self.walk(Sort::TIME)?;
        for tip in self.local_tips()? {
            walk.push(tip.id).map_err(CaptureError::git("walking its history"))?;
        }
        let mut ids = Vec::new();
        for id in walk {
            if ids.len() == limit {
                return Ok((ids, false));
            }
            ids.push(CommitId(id.map_err(CaptureError::git("walking its history"))?));
        }
        Ok((ids, true))
    }

    fn view(&self, cursor: &Cursor) -> Result<View, CaptureError> {
        let listing = "listing its refs";
        // Logs before refs: a commit made in between is then found by its ref, and its entry next time.
        let common = self.common_dir();
        let mut names: Vec<String> =
            self.head_folders().iter().map(|folder| below(common, &folder.join("logs/HEAD"))).collect();
        for tree in ["logs/refs/heads", "logs/refs/remotes"] {
            files_below(&common.join(tree), &mut |path| names.push(below(common, path)));
        }
        let logs = names.into_iter().map(|name| {
            let log = reflog::read(&common.join(&name), cursor.logs.get(&key(&name)));
            (name, log)
        });
        let logs = logs.collect();
        let mut remote = Vec::new();
        let references = self.inner.references_glob("refs/remotes/*").map_err(CaptureError::git(listing))?;
        for reference in references.flatten() {
            // `origin/HEAD` only repeats another one.
            if let Some(id) = reference.target() {
                remote.push((String::from_utf8_lossy(reference.name_bytes()).into_owned(), id));
            }
        }
        let tagged = self.tips("refs/tags/*")?.into_iter().collect();
        Ok(View { tips: self.local_tips()?, remote, tagged, logs })
    }

    /// Branches and detached heads.
    fn local_tips(&self) -> Result<Vec<Tip>, CaptureError> {
        let listing = "listing its branches";
        let mut tips = Vec::new();
        let references = self.inner.references_glob("refs/heads/*").map_err(CaptureError::git(listing))?;
        for reference in references.flatten() {
            let Some(id) = reference.resolve().ok().and_then(|reference| reference.target()) else {
                continue;
            };
            let name = String::from_utf8_lossy(reference.name_bytes()).into_owned();
            tips.push(Tip { id, branch: name.strip_prefix("refs/heads/").map(str::to_owned) });
        }
        for folder in self.head_folders() {
            let head = std::fs::read_to_string(folder.join("HEAD")).unwrap_or_default();
            if let Some(id) = self.parse_id(head.trim()) {
                tips.push(Tip { id, branch: super::revisions::rebased_branch(&folder) });
            }
        }
        let odb = self.odb()?;
        tips.retain(|tip| odb.exists(tip.id));
        Ok(tips)
    }

    /// The folders that hold the HEAD of a worktree.
    fn head_folders(&self) -> Vec<PathBuf> {
        let linked = std::fs::read_dir(self.common_dir().join("worktrees")).into_iter().flatten().flatten();
        std::iter::once(self.common_dir().to_owned()).chain(linked.map(|entry| entry.path())).collect()
    }

    /// What came from elsewhere, as far as remote-tracking refs and `FETCH_HEAD` tell.
    fn fetched(&self, view: &View, cursor: &Cursor) -> HashSet<Oid> {
        let mut fetched = HashSet::new();
        let mut own = None;
        for (name, id) in &view.remote {
            match view.log(name) {
                Some(log) => {
                    let fetches = log.entries.iter().filter(|entry| entry.message != "update by push");
                    fetched.extend(fetches.filter_map(|entry| Some(entry.new?.0)));
                }
                None if cursor.tips.contains(&id.to_string()) => {}
                None => {
                    let own = own.get_or_insert_with(|| self.own_address());
                    if !self.committed_by(*id, own.as_deref()) {
                        fetched.insert(*id);
                    }
                }
            }
        }
        let tracked: HashSet<Oid> = view.remote.iter().map(|(_, id)| *id).collect();
        for folder in self.head_folders() {
            let path = folder.join("FETCH_HEAD");
            if path.metadata().is_ok_and(|found| found.len() <= MAX_FETCH_HEAD) {
                let text = std::fs::read(&path).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                // A pull of one's own branch (`git pull . side`) fetches from `.`.
                let lines = text.lines().filter(|line| !line.ends_with(" of ."));
                let ids = lines.filter_map(|line| self.parse_id(line.split('\t').next()?));
                fetched.extend(ids.filter(|id| !tracked.contains(id)));
            }
        }
        fetched
    }

    fn own_address(&self) -> Option<String> {
        self.inner.config().ok()?.get_string("user.email").ok()
    }

    fn committed_by(&self, id: Oid, address: Option<&str>) -> bool {
        let Some(address) = address else { return false };
        self.inner.find_commit(id).is_ok_and(|commit| commit.committer().email_bytes() == address.as_bytes())
    }

    /// Walks from what is wanted down to what is hidden.
    fn collect_new(
        &self,
        wanted: HashMap<Oid, Option<String>>,
        hidden: &HashSet<Oid>,
        evidence: &Evidence,
        news: &mut News,
    ) -> Result<(), CaptureError> {
        let walking = "walking what is new";
        let odb = self.odb()?;
        let mut walk = self.walk(Sort::TOPOLOGICAL | Sort::TIME)?;
        for id in wanted.keys().filter(|id| odb.exists(**id)) {
            walk.push(*id).map_err(CaptureError::git(walking))?;
        }
        for id in hidden.iter().filter(|id| odb.exists(**id) && !evidence.made.contains(*id)) {
            walk.hide(*id).map_err(CaptureError::git(walking))?;
        }
        let mut branches = wanted;
        let mut found = Vec::new();
        for id in walk {
            let id = id.map_err(CaptureError::git(walking))?;
            if found.len() == MAX_NEW {
                news.imported = branches.keys().map(Oid::to_string).collect();
                found.clear();
                break;
            }
            // A commit is on the branch of the child by which it was reached.
            let branch = branches.get(&id).cloned().flatten();
            if branch.is_some() {
                let object = odb.read(id).map_err(CaptureError::git(walking))?;
                for parent in commit::parse(object.data()).parents {
                    if let Some(parent) = self.parse_id(&parent) {
                        let known = branches.entry(parent).or_default();
                        if known.is_none() {
                            known.clone_from(&branch);
                        }
                    }
                }
            }
            found.push((id, branch));
        }
        found.reverse();
        let seen: HashSet<Oid> = found.iter().map(|(id, _)| *id).collect();
        let alone = evidence.made.iter().filter(|id| !seen.contains(*id));
        for id in alone {
            if odb.exists(*id) {
                found.push((*id, branches.get(id).cloned().flatten()));
            } else {
                news.gone.push(id.to_string());
            }
        }
        let replaced = evidence.amended.values().filter(|id| !odb.exists(**id) && !hidden.contains(*id));
        news.gone.extend(replaced.map(Oid::to_string));
        let supersedes = |id: &Oid| evidence.amended.get(id).map(Oid::to_string).into_iter().collect();
        news.found = found
            .into_iter()
            .map(|(id, branch)| Found { supersedes: supersedes(&id), id: CommitId(id), branch })
            .collect();
        Ok(())
    }
}

/// What the reflogs of heads and branches tell.
#[derive(Default)]
struct Evidence {
    /// Made here for certain.
    made: HashSet<Oid>,
    /// The new commit, and the one that it replaced.
    amended: HashMap<Oid, Oid>,
    /// Came from elsewhere.
    fetched: HashSet<Oid>,
    /// Named by a branch or HEAD meanwhile, with the branch.
    moved: HashMap<Oid, Option<String>>,
}

impl Evidence {
    fn take(&mut self, repo: &Repo, name: &str, log: &Log) {
        let branch = name.strip_prefix("logs/refs/heads/").map(str::to_owned);
        for entry in &log.entries {
            let Some(new) = entry.new.map(|id| id.0) else { continue };
            let origin = if log.rewritten && entry.origin() != Origin::Fetched {
                // It may be older than the last look.
                Origin::Moved
            } else {
                entry.origin()
            };
            match origin {
                Origin::Fetched => {
                    self.fetched.insert(new);
                    continue;
                }
                Origin::Amended => {
                    self.made.insert(new);
                    if let Some(old) = entry.old.filter(|old| old.0 != new) {
                        self.amended.insert(new, old.0);
                        self.moved.entry(old.0).or_insert_with(|| branch.clone());
                    }
                }
                Origin::Made => drop(self.made.insert(new)),
                Origin::Pulled => {
                    self.made.insert(new);
                    let parents = repo.inner.find_commit(new).map(|merge| merge.parent_ids().collect());
                    self.fetched.extend(parents.unwrap_or_else(|_| Vec::new()).into_iter().skip(1));
                }
                Origin::Moved => {}
            }
            let known = self.moved.entry(new).or_default();
            if known.is_none() {
                known.clone_from(&branch);
            }
        }
    }
}

impl View {
    fn cursor(&self) -> Cursor {
        let tips = self.tips.iter().map(|tip| tip.id).chain(self.remote.iter().map(|(_, id)| *id));
        Cursor {
            tips: tips.map(|id| id.to_string()).collect(),
            logs: self.logs.iter().map(|(name, log)| (key(name), log.mark.clone())).collect(),
        }
    }

    fn log(&self, reference: &str) -> Option<&Log> {
        self.logs.iter().find(|(name, _)| name.strip_prefix("logs/") == Some(reference)).map(|(_, log)| log)
    }
}

/// What a remote-tracking ref had before one pushed to it.
fn fetched_last(view: &View, name: &str, now: Oid) -> Option<Oid> {
    let Some(log) = view.log(name) else { return Some(now) };
    let fetch = log.entries.iter().rev().find(|entry| entry.message != "update by push");
    match fetch {
        Some(fetch) => fetch.new.map(|id| id.0),
        None => log.entries.first().and_then(|first| first.old).map(|id| id.0),
    }
}

fn is_remote(log: &str) -> bool {
    log.starts_with("logs/refs/remotes/")
}

fn below(common: &Path, path: &Path) -> String {
    path.strip_prefix(common).unwrap_or(path).to_string_lossy().into_owned()
}

/// Calls `sink` for each file in a tree of folders; links are not followed.
fn files_below(folder: &Path, sink: &mut dyn FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files_below(&entry.path(), sink),
            Ok(kind) if kind.is_file() => sink(&entry.path()),
            _ => {}
        }
    }
}
