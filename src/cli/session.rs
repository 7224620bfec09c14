//! What most commands need: folders, settings, and from them rules, outbox and store.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gitops_agent::capture::{CaptureError, Repo};
use gitops_agent::config::{ConfigError, Declarations, GitKey, Paths, Settings, Sources};
use gitops_agent::destination::Destination;
use gitops_agent::outbox::{Outbox, spool_in};
use gitops_agent::record::Repository;
use gitops_agent::recorder::{self, Recorder};
use gitops_agent::rules::RuleSet;
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
        let mut rules = RuleSet::builtin();
        if self.settings.declarations.value == Declarations::Required {
            rules = rules.with_required_declarations()?;
        }
        match &self.settings.rules {
            Some(folder) => Ok(rules.with_folder(&folder.value)?),
            None => Ok(rules),
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
