//! The way of one commit from repository to record: capture, judge, assess, build. Hook, backfill,
//! `explain` and `verify` all go this way, so that the same commit gives the same record.

use std::path::Path;

use jiff::Timestamp;

use crate::capture::{CaptureError, CommitId, Reading, Repo};
use crate::config::Settings;
use crate::facts::CommitFacts;
use crate::inferred::Inferred;
use crate::record::{self, ClassOf, ClassOrigin, Context, Record, Repository, RulesUsed};
use crate::risk;
use crate::rules::{self, Class, RuleSet};

/// Why a commit could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The repository would not give the commit.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The document could not be written as JSON.
    #[error("commit {id}: the record cannot be written as JSON: {source}")]
    Json {
        /// The commit.
        id: String,
        /// The cause.
        source: serde_json::Error,
    },
}

/// A record, ready to be queued.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The record.
    pub record: Record,
    /// Its JSON.
    pub json: Vec<u8>,
    /// [`Recorder::judgement`], marked where the record is incomplete, so that a later run in a complete
    /// clone judges it again.
    pub judgement: String,
}

/// Makes records of one repository's commits under fixed settings and rules.
#[derive(Debug)]
pub struct Recorder<'a> {
    settings: &'a Settings,
    rules: &'a RuleSet,
    used: RulesUsed,
    repository: Repository,
    inferred: Inferred,
}

impl<'a> Recorder<'a> {
    /// Takes settings, rules and the repository's name.
    #[must_use]
    pub fn new(settings: &'a Settings, rules: &'a RuleSet, repository: Repository) -> Self {
        let used = RulesUsed { digest: rules.digest().to_owned(), packs: rules.packs().to_vec() };
        Self { settings, rules, used, repository, inferred: Inferred::default() }
    }

    /// The repository that the records name.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// What kind of repository this is by what its trees hold; asked only where the user set no class.
    #[must_use]
    pub fn inferred(&self) -> &Inferred {
        &self.inferred
    }

    /// What judges: agent, model, rules and the class that the user set. Equal strings mean that judging a
    /// commit again would change nothing.
    #[must_use]
    pub fn judgement(&self) -> String {
        let class =
            self.settings.class.as_ref().map_or_else(|| "-".to_owned(), |class| class.value.to_string());
        format!("{} {} {} {class}", env!("CARGO_PKG_VERSION"), risk::MODEL, self.used.digest)
    }

    /// Records one commit.
    ///
    /// # Errors
    /// If the repository does not give the commit.
    pub fn record(
        &self,
        reading: &Reading<'_>,
        id: &CommitId,
        source: &str,
        supersedes: Vec<String>,
        now: Timestamp,
    ) -> Result<Recorded, RecordError> {
        self.judge(self.facts(reading, id)?, source, supersedes, now)
    }

    /// Records a commit of which [`Recorder::facts`] are known: all that needs no repository.
    ///
    /// # Errors
    /// If the document cannot be written as JSON.
    pub fn judge(
        &self,
        (facts, class): (CommitFacts, ClassOf),
        source: &str,
        supersedes: Vec<String>,
        now: Timestamp,
    ) -> Result<Recorded, RecordError> {
        let verdict = self.rules.judge(&facts, class.value);
        let risk = risk::assess(&facts, &verdict, &self.settings.thresholds.value);
        let context = Context {
            tenant: &self.settings.tenant.value,
            privacy: self.settings.privacy.value,
            ttl: self.settings.ttl(),
            repository: &self.repository,
            class,
            rules: self.used.clone(),
            source,
            supersedes,
            recorded_at: now,
        };
        let json = |source| RecordError::Json { id: facts.id.clone(), source };
        let record = record::build(&facts, verdict, risk, context).map_err(json)?;
        let bytes = record.to_json().map_err(json)?;
        let mut judgement = self.judgement();
        if !record.complete {
            judgement.push_str(" incomplete");
        }
        Ok(Recorded { record, json: bytes, judgement })
    }

    /// The facts of a commit and the class that it is judged in, for whoever judges itself.
    ///
    /// # Errors
    /// If the repository does not give the commit.
    pub fn facts(&self, reading: &Reading<'_>, id: &CommitId) -> Result<(CommitFacts, ClassOf), RecordError> {
        let facts = reading.facts(id)?;
        let class = self.class(reading, id, &facts);
        Ok((facts, class))
    }

    /// The class: what the user set, else what the repository says of itself unless that is less than what its
    /// tree speaks for, else what its tree speaks for, else unknown.
    fn class(&self, repo: &Repo, id: &CommitId, facts: &CommitFacts) -> ClassOf {
        if let Some(set) = &self.settings.class {
            return ClassOf { value: set.value, origin: ClassOrigin::Set };
        }
        let inferred = self.inferred.class(repo, id).map(|inferred| inferred.class);
        let carried = facts.carried.as_deref().and_then(rules::carried_class);
        match (carried.filter(|carried| carried.stands_beside(inferred)), inferred) {
            (Some(value), _) => ClassOf { value, origin: ClassOrigin::Carried },
            (None, Some(value)) => ClassOf { value, origin: ClassOrigin::Inferred },
            (None, None) => ClassOf { value: Class::Unknown, origin: ClassOrigin::Unknown },
        }
    }
}

/// Names the repository that `repo` opened. `known_id`, asked where there is no remote, gives what an
/// earlier run found and spares the walk to the root commits.
#[must_use]
pub fn repository(repo: &Repo, known_id: impl FnOnce() -> Option<String>) -> Repository {
    // A linked worktree is named after the repository, as its other worktrees are.
    let folder = match repo.workdir() {
        Some(folder) if repo.git_dir() == repo.common_dir() => folder,
        _ if repo.common_dir().ends_with(".git") => repo.common_dir().parent().unwrap_or(Path::new("")),
        _ => repo.common_dir(),
    };
    let folder = folder.file_name().map_or_else(|| "repository".into(), |name| name.to_string_lossy());
    Repository::new(
        repo.remote_url().as_deref(),
        || {
            known_id().ok_or_else(|| {
                // A history that cannot be walked names nothing: the same id for all such, and not for long.
                repo.root_commits()
                    .map_or_else(|_| Vec::new(), |roots| roots.ids.iter().map(CommitId::hex).collect())
            })
        },
        folder.trim_end_matches(".git"),
        repo.branch().as_deref(),
    )
}
