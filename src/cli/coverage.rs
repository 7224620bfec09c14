//! What `status` says of each repository: whether the hooks are in force, what is recorded and what is not.
//!
//! One row a repository, whatever the number of its worktrees. From the disk alone; limits, so that
//! a machine with hundreds of repositories gets its answer: 20 000 commits a repository, then the count is a
//! lower bound; eight worktrees are asked for their hooks (8 ms each); once 2 s have passed, commits are not
//! counted any more.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gitops_agent::capture::{CaptureError, Repo};
use gitops_agent::install::{Git, HookState, hook_report};
use gitops_agent::outbox::{Outbox, RecordedCounts, RepositoryRow};
use gitops_agent::reconcile;
use serde::Serialize;

use super::failure::Failure;
use super::session::Session;

const MAX_COMMITS: usize = 20_000;
const MAX_WORKTREES: usize = 8;
const TIME: Duration = Duration::from_secs(2);

/// How a repository stands, beside its hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Standing {
    Present,
    /// Not there any more, or another repository is.
    Gone,
    /// `gitops-agent.enabled` is false.
    Off,
    /// There, but it or its settings cannot be read; `problem` says why.
    Unreadable,
}

/// A repository that is known to the outbox.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Coverage {
    /// Its main worktree, or its own folder where it is bare.
    pub(super) path: String,
    pub(super) hook: &'static str,
    pub(super) state: Standing,
    /// Commits recorded from here for the tenant and destination in force here.
    pub(super) recorded: u64,
    /// Commits of its branches without a record for them; none where they could not be counted.
    pub(super) uncaptured: Option<usize>,
    /// Those of them that were there before the installation: backfill records them. None where the
    /// installation is not known.
    pub(super) history: Option<usize>,
    /// Whether `uncaptured` is a lower bound.
    pub(super) more: bool,
    /// Commits that were made here, never recorded, and are gone.
    pub(super) lost: usize,
    /// Why it cannot be read or reconciled.
    pub(super) problem: Option<String>,
}

/// All repositories known to the user, by path.
pub(super) fn of_all(outbox: &Outbox) -> Result<Vec<Coverage>, Failure> {
    let mut count = Counting {
        outbox,
        recorded: outbox.recorded_counts()?,
        known: HashMap::new(),
        end: Instant::now() + TIME,
    };
    let mut groups: BTreeMap<PathBuf, Vec<RepositoryRow>> = BTreeMap::new();
    for row in outbox.repositories()? {
        let opened = Repo::open_exact(&row.path).ok().map(|repo| repo.common_dir().to_owned());
        // A linked worktree that is gone belongs to its repository still.
        let common = opened.or_else(|| row.common_dir.clone()).unwrap_or_else(|| row.path.clone());
        groups.entry(common).or_default().push(row);
    }
    let mut found = groups
        .into_iter()
        .map(|(common, rows)| count.repository(&common, &rows))
        .collect::<Result<Vec<_>, _>>()?;
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

struct Counting<'a> {
    outbox: &'a Outbox,
    recorded: RecordedCounts,
    /// By tenant and destination.
    known: HashMap<(String, String), HashSet<String>>,
    end: Instant,
}

impl Counting<'_> {
    fn repository(&mut self, common: &Path, rows: &[RepositoryRow]) -> Result<Coverage, Failure> {
        let any = || rows.iter().map(|row| self.recorded.of_any(&row.path)).sum();
        let shown = |path: &Path| path.to_string_lossy().into_owned();
        let mut coverage = Coverage {
            path: shown(&rows[0].path),
            hook: HookState::Missing.name(),
            state: Standing::Gone,
            recorded: any(),
            uncaptured: None,
            history: None,
            more: false,
            lost: self.outbox.lost(common)?.len(),
            problem: self.outbox.tracked(common)?.and_then(|row| row.problem),
        };
        let repo = match Repo::open_exact(common) {
            Ok(repo) => repo,
            Err(CaptureError::NotARepository { .. }) => return Ok(coverage),
            Err(error) => {
                coverage.state = Standing::Unreadable;
                coverage.problem = Some(error.to_string());
                return Ok(coverage);
            }
        };
        let main = repo.workdir().unwrap_or_else(|| repo.git_dir());
        coverage.path = shown(main);
        coverage.hook = hooks(main, rows).name();
        let session = match Session::of_repo(&repo, None) {
            Ok(session) => session,
            Err(failure) => {
                coverage.state = Standing::Unreadable;
                coverage.problem = Some(failure.line());
                return Ok(coverage);
            }
        };
        let settings = &session.settings;
        let (tenant, destination) = (&settings.tenant.value, &settings.destination.value);
        coverage.state = if settings.enabled.value { Standing::Present } else { Standing::Off };
        coverage.recorded = rows.iter().map(|row| self.recorded.of(&row.path, tenant, destination)).sum();
        if Instant::now() > self.end {
            return Ok(coverage);
        }
        let known = match self.known.entry((tenant.clone(), destination.to_string())) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(none) => none.insert(self.outbox.known(tenant, destination, None)?),
        };
        let counted = repo.local_history(MAX_COMMITS).map(|(mut ids, all)| {
            ids.retain(|id| !known.contains(&id.hex()));
            (ids, all)
        });
        match counted {
            Ok((ids, all)) => {
                coverage.uncaptured = Some(ids.len());
                coverage.more = !all;
                if let Some(start) = reconcile::history_begins(self.outbox, &repo)? {
                    coverage.history = repo.beyond(&start, &ids).ok().map(|later| ids.len() - later.len());
                }
            }
            Err(error) => coverage.problem = Some(error.to_string()),
        }
        Ok(coverage)
    }
}

/// The hooks are as good as where they are worst: a relative `core.hooksPath` is another folder in each
/// worktree.
fn hooks(main: &Path, rows: &[RepositoryRow]) -> HookState {
    let linked = rows.iter().map(|row| row.path.as_path()).filter(|path| *path != main && path.is_dir());
    let mut worst = HookState::Active;
    for place in std::iter::once(main).chain(linked).take(MAX_WORKTREES) {
        match hook_report(&Git::new(place)).map_or(HookState::Missing, |report| report.state) {
            HookState::Missing => return HookState::Missing,
            HookState::Shadowed => worst = HookState::Shadowed,
            HookState::Active => {}
        }
    }
    worst
}
