//! What most commands need: folders, settings, and from them rules, outbox and store.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gitops_agent::capture::{CaptureError, Repo};
use gitops_agent::config::{ConfigError, Declarations, GitKey, Origin, Paths, Settings, Sources};
use gitops_agent::destination::Destination;
use gitops_agent::last_good::LastGood;
use gitops_agent::outbox::{Outbox, spool_in};
use gitops_agent::record::Repository;
use gitops_agent::recorder::{self, Recorder};
use gitops_agent::rules::{PackTexts, RuleError, RuleSet};
use gitops_agent::store::cosmos::{CosmosConfig, CosmosStore, CredentialEnvironment};
use gitops_agent::store::local::LocalStore;
use gitops_agent::store::{Store, StoreError};
use jiff::Timestamp;

use super::environment;
use super::failure::{DISK, Failure};

/// Folders and settings of one invocation.
pub(super) struct Session {
    paths: Option<Paths>,
    pub(super) settings: Settings,
}

/// Rules to judge by, and what is wrong with the rules folder.
pub(super) struct InForce {
    pub(super) rules: RuleSet,
    pub(super) broken: Option<BrokenRules>,
}

/// A rules folder that does not load.
pub(super) struct BrokenRules {
    pub(super) folder: PathBuf,
    pub(super) error: RuleError,
    /// When that was first noticed.
    pub(super) since: Timestamp,
    /// Since when the packs that are used instead had been in force; none where no copy of them is kept, and the
    /// built-in packs judge alone.
    pub(super) kept_at: Option<Timestamp>,
}

impl BrokenRules {
    /// What is used instead, in words.
    pub(super) fn instead(&self) -> String {
        match self.kept_at {
            Some(kept_at) => format!("the last good packs, of {}", kept_at.strftime("%Y-%m-%d %H:%M:%SZ")),
            None => "the built-in packs alone".to_owned(),
        }
    }
}

impl Session {
    /// The settings of the user alone.
    pub(super) fn of_user() -> Result<Self, Failure> {
        Self::from_sources(Vec::new(), None)
    }

    /// The settings in a repository.
    pub(super) fn of_repo(repo: &Repo, rules: Option<PathBuf>) -> Result<Self, Failure> {
        Self::from_sources(git_keys(repo)?, rules)
    }

    /// The settings in the current folder's repository, or of the user where there is none.
    pub(super) fn here(rules: Option<PathBuf>) -> Result<Self, Failure> {
        match Repo::open_from_env() {
            Ok(repo) => Self::of_repo(&repo, rules),
            Err(CaptureError::NotARepository { .. }) => Self::from_sources(Vec::new(), rules),
            Err(error) => Err(error.into()),
        }
    }

    /// The settings in a repository, or of the user alone, although some are wrong, and these: for commands
    /// that tell what is wrong.
    pub(super) fn survey(repo: Option<&Repo>) -> Result<(Self, Vec<ConfigError>), Failure> {
        let paths = environment::paths();
        let git = repo.map(git_keys).transpose()?.unwrap_or_default();
        let sources = Sources { environment: environment::settings(), git, rules_flag: None };
        let survey = Settings::survey(paths.as_ref(), &sources);
        Ok((Self { paths, settings: survey.settings }, survey.problems))
    }

    /// Where records of a repository go, also where other settings do not load.
    pub(super) fn destination(repo: &Repo) -> Option<Destination> {
        let sources = Sources {
            environment: environment::settings(),
            git: git_keys(repo).unwrap_or_default(),
            rules_flag: None,
        };
        Settings::destination(environment::paths().as_ref(), &sources)
    }

    fn from_sources(git: Vec<GitKey>, rules_flag: Option<PathBuf>) -> Result<Self, Failure> {
        let paths = environment::paths();
        let sources = Sources { environment: environment::settings(), git, rules_flag };
        let settings = Settings::load(paths.as_ref(), &sources)?;
        Ok(Self { paths, settings })
    }

    /// The agent's folders.
    pub(super) fn paths(&self) -> Result<&Paths, Failure> {
        self.paths.as_ref().ok_or_else(|| {
            Failure::new(DISK, "there is no home folder to keep the outbox in")
                .hint("set HOME, or GITOPS_AGENT_HOME to a folder of your own")
        })
    }

    /// The outbox of the user, with what hooks have spooled since.
    pub(super) fn outbox(&self) -> Result<Outbox, Failure> {
        let data = self.paths()?.data();
        let mut outbox = Outbox::open(data)?;
        outbox.trust(&self.settings.destination.value);
        outbox.take_in_spool(&[spool_in(data)], Timestamp::now())?;
        Ok(outbox)
    }

    /// The built-in rules and those of the rules folder.
    pub(super) fn rules(&self) -> Result<RuleSet, Failure> {
        let InForce { rules, broken } = self.rules_in_force()?;
        match broken {
            None => Ok(rules),
            Some(broken) => Err(broken.error.into()),
        }
    }

    /// The rules by which a hook judges: where the rules folder does not load, its packs as they last did.
    pub(super) fn rules_in_force(&self) -> Result<InForce, Failure> {
        let Some(folder) = &self.settings.rules else {
            return Ok(InForce { rules: self.built_in()?, broken: None });
        };
        let trial = matches!(folder.origin, Origin::Flag(_));
        let now = Timestamp::now();
        let folder = std::path::absolute(&folder.value).unwrap_or_else(|_| folder.value.clone());
        let kept = self.paths.as_ref().filter(|_| !trial).map(|paths| LastGood::of(paths.data(), &folder));
        let loaded = PackTexts::read(&folder).and_then(|texts| {
            let rules = self.built_in()?.with_texts(&texts)?;
            Ok((rules, texts))
        });
        match loaded {
            Ok((rules, texts)) => {
                if let Some(kept) = kept {
                    // Best effort: a folder that cannot be written is `doctor`'s to report.
                    let _ = kept.keep(&folder, &texts, now);
                }
                Ok(InForce { rules, broken: None })
            }
            Err(error) => {
                let since = kept.as_ref().map_or(now, |kept| kept.broken_since(now));
                // A copy that this program does not take (an update changed what it builds upon) is none.
                let copy = kept.and_then(|kept| kept.copy()).and_then(|copy| {
                    let rules = self.built_in().ok()?.with_texts(&copy.texts).ok()?;
                    Some((rules, copy.kept_at))
                });
                let (rules, kept_at) = match copy {
                    Some((rules, kept_at)) => (rules, Some(kept_at)),
                    None => (self.built_in()?, None),
                };
                Ok(InForce { rules, broken: Some(BrokenRules { folder, error, since, kept_at }) })
            }
        }
    }

    /// The rules in force, but packs that are in `folder` too taken from there.
    pub(super) fn rules_with_versions(&self, folder: &Path) -> Result<RuleSet, Failure> {
        let further =
            self.settings.rules.as_ref().map(|folder| PackTexts::read(&folder.value)).transpose()?;
        let rules = RuleSet::of_other_versions(further.as_ref(), &PackTexts::read(folder)?)?;
        Ok(match self.settings.declarations.value {
            Declarations::Required => rules.with_required_declarations()?,
            _ => rules,
        })
    }

    /// The packs of this program.
    fn built_in(&self) -> Result<RuleSet, RuleError> {
        let rules = RuleSet::builtin();
        match self.settings.declarations.value {
            Declarations::Required => rules.with_required_declarations(),
            _ => Ok(rules),
        }
    }

    /// The recorder for a repository.
    pub(super) fn recorder<'a>(&'a self, repo: &Repo, rules: &'a RuleSet) -> Recorder<'a> {
        let recorder = self.recorder_of(recorder::repository(repo, || None), rules);
        if self.settings.class.is_none() {
            recorder.inferred().look_closely(repo);
        }
        recorder
    }

    /// The recorder for a repository that is named already.
    pub(super) fn recorder_of<'a>(&'a self, repository: Repository, rules: &'a RuleSet) -> Recorder<'a> {
        Recorder::new(&self.settings, rules, repository)
    }

    /// The configured store.
    pub(super) fn store(&self) -> Result<Arc<dyn Store>, Failure> {
        Ok(self.open_store(&self.settings.destination.value)?)
    }

    /// Any store that a queued record names.
    pub(super) fn open_store(&self, destination: &Destination) -> Result<Arc<dyn Store>, StoreError> {
        match destination {
            Destination::Local => {
                let folder = self.paths.as_ref().map(Paths::data).unwrap_or_else(|| Path::new("."));
                Ok(Arc::new(LocalStore::open(folder)?))
            }
            Destination::Cosmos { endpoint, database, container } => {
                let config = CosmosConfig {
                    endpoint: endpoint.clone(),
                    database: database.clone(),
                    container: container.clone(),
                    credential: self.settings.credential.value,
                    environment: credentials(),
                    default_ttl: self.settings.ttl(),
                };
                Ok(Arc::new(CosmosStore::new(config)?))
            }
        }
    }
}

/// `gitops-agent.*` keys of a repository.
pub(super) fn git_keys(repo: &Repo) -> Result<Vec<GitKey>, CaptureError> {
    let keys = repo.settings()?;
    Ok(keys
        .into_iter()
        .map(|setting| GitKey { key: setting.key, value: setting.value, origin: setting.origin })
        .collect())
}

fn credentials() -> CredentialEnvironment {
    CredentialEnvironment::from_lookup(environment::variable)
}

/// Runs the asynchronous part of a command on this thread.
pub(super) fn block_on<F: Future>(future: F) -> Result<F::Output, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Failure::new(DISK, format!("the runtime for network access cannot start: {error}"))
    })?;
    Ok(runtime.block_on(future))
}
