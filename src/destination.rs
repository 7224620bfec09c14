//! Where a queued record goes, and which credential opens the way. The outbox keeps the destination beside
//! each record and the stores are opened from it, settings name both; none knows the other, so the types
//! have a room of their own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A store, named completely. Two records go to the same place exactly when these are equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Destination {
    /// The embedded store in the agent's own data folder.
    Local,
    /// A container of an Azure Cosmos DB account.
    Cosmos {
        /// Account endpoint, such as `https://example.documents.azure.com/`, without credentials.
        endpoint: String,
        /// Database name.
        database: String,
        /// Container name.
        container: String,
    },
}

impl Destination {
    /// `local` or `cosmos`, as in the settings.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Cosmos { .. } => "cosmos",
        }
    }

    /// The endpoint, where there is one.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        match self {
            Self::Local => None,
            Self::Cosmos { endpoint, .. } => Some(endpoint),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local store"),
            Self::Cosmos { endpoint, database, container } => {
                write!(f, "{endpoint} {database}/{container}")
            }
        }
    }
}

/// How a Cosmos DB account is signed in to: the setting `store.credential`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Credential {
    /// The first that the environment announces, in the order of the contract.
    #[default]
    Auto,
    /// The account key.
    Key,
    /// Workload identity, with a federated token from a file.
    Workload,
    /// Managed identity.
    Managed,
    /// Whoever is signed in to the Azure CLI.
    Cli,
}

impl FromStr for Credential {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "auto" => Self::Auto,
            "key" => Self::Key,
            "workload" => Self::Workload,
            "managed" => Self::Managed,
            "cli" => Self::Cli,
            _ => return Err("must be `auto`, `key`, `workload`, `managed` or `cli`".to_owned()),
        })
    }
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Key => "key",
            Self::Workload => "workload",
            Self::Managed => "managed",
            Self::Cli => "cli",
        })
    }
}
