//! The settings: layers, later wins, each value with its origin.
//!
//! built-in < `config.toml` in the user's configuration folder < `git config` keys `gitops-agent.*` <
//! environment < flags. This module reads the file that it is pointed to; the environment and Git's keys
//! are handed in as plain values, so that two settings can live in one process.
//!
//! Nothing that a repository's tree carries is a layer here: what it says of itself is read from the
//! commit and can only describe.

mod file;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod paths;
mod survey;

pub use paths::Paths;
pub use survey::Survey;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::destination::{Credential, Destination};
use crate::record::Privacy;
use crate::risk::Thresholds;
use crate::rules::Class;

/// Seconds of a day.
const DAY: i64 = 86_400;
/// Seven years of 365.25 days, rounded up. HIPAA asks for six (45 CFR 164.316(b)(2)(i)).
pub const DEFAULT_RETENTION_DAYS: u32 = 2557;
/// The tenant when none is set: good for the local store only.
pub const LOCAL_TENANT: &str = "local";

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    BuiltIn,
    /// `config.toml`.
    File(PathBuf),
    /// A `git config` file, such as `git config (local)`.
    Git(String),
    /// An environment variable.
    Environment(&'static str),
    /// A flag of the command line.
    Flag(&'static str),
    /// Follows from another setting.
    Derived(&'static str),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Git(origin) => f.write_str(origin),
            Self::Environment(name) => write!(f, "environment ({name})"),
            Self::Flag(name) => write!(f, "flag ({name})"),
            Self::Derived(from) => write!(f, "because of {from}"),
        }
    }
}

/// A value and its origin.
#[derive(Clone, Debug, PartialEq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub origin: Origin,
}

/// What is asked of the messages of commits that touch something regulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Declarations {
    /// Nothing.
    #[default]
    Optional,
    /// A commit that declares nothing carries a finding.
    Required,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value is not allowed.
    #[error("{name} = {value:?} ({origin}) {problem}")]
    Value {
        /// The setting.
        name: &'static str,
        /// The value, control characters escaped.
        value: String,
        /// Where it came from.
        origin: Origin,
        /// What is wrong, and what is allowed.
        problem: String,
    },
    /// `config.toml` cannot be read.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column where known.
        problem: String,
    },
}

/// One `git config` key under `gitops-agent.`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitKey {
    /// Key in lower case, `gitops-agent.tenant`.
    pub key: String,
    /// Value.
    pub value: String,
    /// The file or level, such as `git config (local)`.
    pub origin: String,
}

/// Everything the settings are made from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Environment variables by name; only those the settings know are looked at.
    pub environment: BTreeMap<String, String>,
    /// Git's keys, later wins.
    pub git: Vec<GitKey>,
    /// `--rules DIR`.
    pub rules_flag: Option<PathBuf>,
}

/// The settings in force.
#[derive(Clone, Debug)]
pub struct Settings {
    /// First level of the partition key, 1–64 of `A-Za-z0-9._-`.
    pub tenant: Sourced<String>,
    /// Where records go.
    pub destination: Sourced<Destination>,
    /// Which credential to use.
    pub credential: Sourced<Credential>,
    /// Request units that may be spent in a day (UTC) before history waits for the next; commits made now never
    /// wait.
    pub budget_ru: Option<Sourced<u32>>,
    /// Class, where the user set one.
    pub class: Option<Sourced<Class>>,
    /// Folder of further rule packs.
    pub rules: Option<Sourced<PathBuf>>,
    /// Days that records are kept.
    pub retention_days: Sourced<u32>,
    /// How people are named.
    pub privacy: Sourced<Privacy>,
    /// Whether a commit that touches something regulated must declare so.
    pub declarations: Sourced<Declarations>,
    /// Level thresholds.
    pub thresholds: Sourced<Thresholds>,
    /// `gitops-agent.enabled=false` switches a repository off.
    pub enabled: Sourced<bool>,
}

impl Settings {
    /// Reads `config.toml` (absent is fine) and lays the other sources over it.
    ///
    /// # Errors
    /// The first value that is not allowed, with its name, origin and what is allowed.
    pub fn load(paths: Option<&Paths>, sources: &Sources) -> Result<Self, ConfigError> {
        let file = paths.map(|paths| file::read(&paths.config_file())).transpose()?.flatten();
        Layers { file, sources }.settle()
    }

    /// The destination alone, where it can be known although other settings do not load: a commit noted then
    /// must not go elsewhere because the settings have changed meanwhile. Without a `config.toml` that reads
    /// only the environment can name it.
    #[must_use]
    pub fn destination(paths: Option<&Paths>, sources: &Sources) -> Option<Destination> {
        let file = paths.map(|paths| file::read(&paths.config_file())).transpose();
        let named = ["GITOPS_AGENT_STORE", "COSMOS_ENDPOINT"]
            .iter()
            .any(|name| sources.environment.get(*name).is_some_and(|value| !value.is_empty()));
        let layers = match file {
            Ok(file) => Layers { file: file.flatten(), sources },
            Err(_) if named => Layers { file: None, sources },
            Err(_) => return None,
        };
        let store = layers.file.as_ref().map(|(_, file)| file.store.clone()).unwrap_or_default();
        layers.destination(&store).ok().map(|found| found.value)
    }

    /// Time to live of a record, in seconds.
    #[must_use]
    pub fn ttl(&self) -> i64 {
        i64::from(self.retention_days.value) * DAY
    }

    /// Why records must wait although everything else is in order: Cosmos DB needs a tenant that somebody
    /// chose.
    #[must_use]
    pub fn hold(&self) -> Option<&'static str> {
        self.hold_at(&self.destination.value)
    }

    /// The same for a destination that is not the settings' own.
    #[must_use]
    pub fn hold_at(&self, destination: &Destination) -> Option<&'static str> {
        (self.tenant.origin == Origin::BuiltIn && *destination != Destination::Local)
            .then_some("no tenant is set: set GITOPS_AGENT_TENANT or `tenant` in config.toml")
    }
}

struct Layers<'a> {
    file: Option<(PathBuf, file::File)>,
    sources: &'a Sources,
}

impl Layers<'_> {
    fn settle(self) -> Result<Settings, ConfigError> {
        let file = self.file.as_ref().map(|(_, file)| file.clone()).unwrap_or_default();
        let tenant = self.pick(file.tenant, "gitops-agent.tenant", "GITOPS_AGENT_TENANT").map_or_else(
            || Ok(built_in(LOCAL_TENANT.to_owned())),
            |found| checked("tenant", found, tenant),
        )?;
        let class = self
            .pick(file.class, "gitops-agent.class", "GITOPS_AGENT_CLASS")
            .map(|found| checked("class", found, class))
            .transpose()?;
        let rules = match &self.sources.rules_flag {
            Some(path) => Some(Sourced { value: path.clone(), origin: Origin::Flag("--rules") }),
            None => self.pick(file.rules, "", "GITOPS_AGENT_RULES").map(|found| self.rules_folder(found)),
        };
        let retention_days = self
            .pick(file.retention_days.map(|days| days.to_string()), "", "GITOPS_AGENT_RETENTION_DAYS")
            .map_or_else(
                || Ok(built_in(DEFAULT_RETENTION_DAYS)),
                |found| checked("retention_days", found, retention_days),
            )?;
        let credential =
            self.pick(file.store.credential.clone(), "", "GITOPS_AGENT_CREDENTIAL").map_or_else(
                || Ok(built_in(Credential::Auto)),
                |found| checked("store.credential", found, str::parse),
            )?;
        let budget_ru = self
            .pick(file.store.budget_ru.map(|units| units.to_string()), "", "")
            .map(|found| checked("store.budget_ru", found, budget))
            .transpose()?;
        let privacy = self.pick(file.privacy.author.clone(), "", "").map_or_else(
            || Ok(built_in(Privacy::Plain)),
            |found| checked("privacy.author", found, privacy),
        )?;
        let declarations = self.pick(file.declarations, "gitops-agent.declarations", "").map_or_else(
            || Ok(built_in(Declarations::Optional)),
            |found| checked("declarations", found, declarations),
        )?;
        let enabled = self
            .pick(None, "gitops-agent.enabled", "")
            .map_or_else(|| Ok(built_in(true)), |found| checked("gitops-agent.enabled", found, boolean))?;
        Ok(Settings {
            tenant,
            destination: self.destination(&file.store)?,
            credential,
            budget_ru,
            class,
            rules,
            retention_days,
            privacy,
            declarations,
            thresholds: self.thresholds(file.risk)?,
            enabled,
        })
    }

    /// The last layer that has a value. An empty variable counts as not set, as shells leave them.
    fn pick(&self, file: Option<String>, git: &str, variable: &'static str) -> Option<Sourced<String>> {
        if let Some(value) = self.sources.environment.get(variable).filter(|value| !value.is_empty()) {
            return Some(Sourced { value: value.clone(), origin: Origin::Environment(variable) });
        }
        if let Some(found) = self.sources.git.iter().rev().find(|found| found.key.eq_ignore_ascii_case(git)) {
            return Some(Sourced { value: found.value.clone(), origin: Origin::Git(found.origin.clone()) });
        }
        Some(Sourced { value: file?, origin: self.file_origin() })
    }

    fn file_origin(&self) -> Origin {
        self.file.as_ref().map_or(Origin::BuiltIn, |(path, _)| Origin::File(path.clone()))
    }

    /// A relative folder in `config.toml` is relative to that file.
    fn rules_folder(&self, found: Sourced<String>) -> Sourced<PathBuf> {
        let value = match (&found.origin, &self.file) {
            (Origin::File(_), Some((path, _))) => {
                path.parent().unwrap_or_else(|| Path::new("")).join(&found.value)
            }
            _ => PathBuf::from(&found.value),
        };
        Sourced { value, origin: found.origin }
    }

    fn destination(&self, store: &file::Store) -> Result<Sourced<Destination>, ConfigError> {
        let endpoint = self.pick(store.endpoint.clone(), "", "COSMOS_ENDPOINT");
        let kind = self.pick(store.kind.clone(), "", "GITOPS_AGENT_STORE");
        let cosmos = match &kind {
            Some(kind) => match kind.value.as_str() {
                "local" => false,
                "cosmos" => true,
                _ => return Err(refused("store.kind", kind, "must be `local` or `cosmos`")),
            },
            None => endpoint.is_some(),
        };
        if !cosmos {
            let origin = kind.map_or(Origin::BuiltIn, |kind| kind.origin);
            return Ok(Sourced { value: Destination::Local, origin });
        }
        let Some(found) = endpoint else {
            let kind = kind.unwrap_or_else(|| built_in("cosmos".to_owned()));
            return Err(refused(
                "store.kind",
                &kind,
                "needs an endpoint: set COSMOS_ENDPOINT or `store.endpoint` in config.toml",
            ));
        };
        let origin = kind.map_or_else(|| found.origin.clone(), |kind| kind.origin);
        let endpoint = match endpoint_url(&found.value) {
            Ok(endpoint) => endpoint,
            Err(problem) => {
                let shown = Sourced { value: without_credentials(&found.value), origin: found.origin };
                return Err(refused("store.endpoint", &shown, problem));
            }
        };
        let name = |setting, file: &Option<String>, variable, default: &str| {
            self.pick(file.clone(), "", variable).map_or_else(
                || Ok(default.to_owned()),
                |found| checked(setting, found, resource).map(|ok| ok.value),
            )
        };
        Ok(Sourced {
            value: Destination::Cosmos {
                endpoint,
                database: name("store.database", &store.database, "COSMOS_DATABASE", "gitops")?,
                container: name("store.container", &store.container, "COSMOS_CONTAINER", "commits")?,
            },
            origin,
        })
    }

    fn thresholds(&self, risk: file::Risk) -> Result<Sourced<Thresholds>, ConfigError> {
        let default = Thresholds::default();
        let value = Thresholds {
            medium: risk.medium.unwrap_or(default.medium),
            high: risk.high.unwrap_or(default.high),
        };
        if !(0.0 < value.medium && value.medium < value.high && value.high <= 1.0) {
            return Err(ConfigError::Value {
                name: "risk.medium, risk.high",
                value: format!("{}, {}", value.medium, value.high),
                origin: self.file_origin(),
                problem: "must be 0 < medium < high <= 1".to_owned(),
            });
        }
        let set = risk.medium.is_some() || risk.high.is_some();
        Ok(Sourced { value, origin: if set { self.file_origin() } else { Origin::BuiltIn } })
    }
}

fn built_in<T>(value: T) -> Sourced<T> {
    Sourced { value, origin: Origin::BuiltIn }
}

fn refused(name: &'static str, found: &Sourced<String>, problem: impl Into<String>) -> ConfigError {
    ConfigError::Value {
        name,
        value: found.value.clone(),
        origin: found.origin.clone(),
        problem: problem.into(),
    }
}

fn checked<T>(
    name: &'static str,
    found: Sourced<String>,
    parse: fn(&str) -> Result<T, String>,
) -> Result<Sourced<T>, ConfigError> {
    match parse(&found.value) {
        Ok(value) => Ok(Sourced { value, origin: found.origin }),
        Err(problem) => Err(refused(name, &found, problem)),
    }
}

/// Checks a tenant's name; also for `query --tenant`.
///
/// # Errors
/// What is allowed.
pub fn tenant(text: &str) -> Result<String, String> {
    let ok = (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if ok { Ok(text.to_owned()) } else { Err("must be 1 to 64 characters of A-Z a-z 0-9 . _ -".to_owned()) }
}

fn class(text: &str) -> Result<Class, String> {
    match text.parse() {
        Ok(Class::Unknown) | Err(_) => Err("must be `device`, `records`, `ehr` or `other`".to_owned()),
        Ok(class) => Ok(class),
    }
}

fn retention_days(text: &str) -> Result<u32, String> {
    // Cosmos DB keeps the time to live in a signed 32-bit number of seconds: 24855 days.
    text.parse()
        .ok()
        .filter(|days| (1..=24_855).contains(days))
        .ok_or_else(|| "must be a whole number of days from 1 to 24855 (2557 are seven years)".to_owned())
}

fn declarations(text: &str) -> Result<Declarations, String> {
    match text {
        "optional" => Ok(Declarations::Optional),
        "required" => Ok(Declarations::Required),
        _ => Err("must be `optional` or `required`".to_owned()),
    }
}

fn budget(text: &str) -> Result<u32, String> {
    let units = text.parse().ok().filter(|units| *units > 0);
    units.ok_or_else(|| format!("must be a whole number of request units a day from 1 to {}", u32::MAX))
}

fn privacy(text: &str) -> Result<Privacy, String> {
    match text {
        "plain" => Ok(Privacy::Plain),
        "hash" => Ok(Privacy::Hash),
        _ => Err("must be `plain` or `hash`".to_owned()),
    }
}

/// Git's spellings of a boolean.
fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" | "" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("must be `true` or `false`".to_owned()),
    }
}

/// `https` anywhere, `http` on loopback only; never with a user or password in it.
fn endpoint_url(text: &str) -> Result<String, String> {
    let (scheme, rest) =
        text.split_once("://").ok_or("must be a URL such as https://ACCOUNT.documents.azure.com/")?;
    let authority = rest.split('/').next().unwrap_or("");
    if authority.is_empty() || rest.contains(char::is_whitespace) || rest.contains(char::is_control) {
        return Err("must name a host, such as https://ACCOUNT.documents.azure.com/".to_owned());
    }
    if authority.contains('@') || rest.contains('?') || rest.contains('#') {
        return Err("must not carry credentials or a query: an account key goes into COSMOS_KEY".to_owned());
    }
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(""),
        None => authority.split(':').next().unwrap_or(""),
    };
    let loopback =
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    match scheme {
        "https" => {}
        "http" if loopback => {}
        "http" => return Err("must be https: plain http is for the emulator on this machine only".to_owned()),
        _ => return Err("must begin with https://".to_owned()),
    }
    Ok(format!("{}/", text.trim_end_matches('/')))
}

/// An address as an error may show it: what stands before an `@` or after a `?` or `;` can be a secret.
fn without_credentials(address: &str) -> String {
    let shown = address.split(['?', '#', ';']).next().unwrap_or_default();
    let (scheme, rest) = shown.split_once("://").unwrap_or(("", shown));
    let rest = rest.rsplit_once('@').map_or(rest.to_owned(), |(_, host)| format!("[removed]@{host}"));
    let cut = if shown.len() < address.len() { "…" } else { "" };
    if scheme.is_empty() { format!("{rest}{cut}") } else { format!("{scheme}://{rest}{cut}") }
}

/// Cosmos DB's rule for the names of databases and containers.
fn resource(text: &str) -> Result<String, String> {
    let ok = (1..=255).contains(&text.len())
        && !text.contains(['/', '\\', '?', '#'])
        && !text.contains(char::is_control)
        && text.trim() == text;
    if ok { Ok(text.to_owned()) } else { Err("must be 1 to 255 characters without / \\ ? #".to_owned()) }
}

#[cfg(test)]
mod tests;
