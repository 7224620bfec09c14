//! Where a queued record goes. The outbox keeps it beside each record and the stores are opened from
//! it; neither knows the other, so the type has a room of its own.

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

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local => f.write_str("local store"),
            Self::Cosmos { endpoint, database, container } => {
                write!(f, "{endpoint} {database}/{container}")
            }
        }
    }
}
