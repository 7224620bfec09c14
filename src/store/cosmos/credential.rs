//! Who the store signs in as: the order of the contract, over the credentials of `azure_identity`.
//!
//! `auto` takes an account key if there is one, then workload identity, then managed identity where the
//! environment announces it, then the Azure CLI. The metadata address of virtual machines is asked only
//! where `AZURE_CLIENT_ID` or the setting `managed` says so: probing it on a guess costs seconds on every
//! machine outside Azure.
//!
//! The choice is made from plain values ([`CredentialEnvironment`]); this library reads no environment.
//! `azure_identity` does, with no way to pass the values in: `IDENTITY_ENDPOINT`, `IDENTITY_HEADER`,
//! `IDENTITY_SERVER_THUMBPRINT`, `IMDS_ENDPOINT`, `MSI_ENDPOINT` and `MSI_SECRET` for managed identity,
//! `AZURE_AUTHORITY_HOST` for workload identity, and `PATH` for the Azure CLI. So the values given here
//! decide *which* credential is used, and the process's own decide where that credential goes.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind;
use azure_core::http::{ClientOptions, ExponentialRetryOptions, HttpClient, RetryOptions, Transport};
use azure_core::time;
use azure_data_cosmos::{AccountEndpoint, AccountReference};
use azure_identity::{
    AzureCliCredential, AzureCliCredentialOptions, ClientAssertionCredentialOptions,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};
use tokio::sync::Mutex;

use super::errors;
use crate::destination::Credential;
use crate::store::StoreError;

/// How long one sign-in may take. The Azure CLI alone needs up to several seconds.
const SIGN_IN_TIMEOUT: Duration = Duration::from_secs(20);
/// A token is renewed when it has less than this left, as `azure_identity` does with its own.
const RENEW_BEFORE: time::Duration = time::Duration::seconds(300);
/// What a token that could not be renewed must have left to be used.
const LAST_USE: time::Duration = time::Duration::seconds(30);
/// How long a failed renewal is not tried again while the old token serves.
const RENEW_AGAIN: Duration = Duration::from_secs(20);

/// An account key. Printing it, by whatever way, prints its name.
#[derive(Clone, PartialEq, Eq)]
pub struct AccountKey(Secret);

impl From<String> for AccountKey {
    fn from(key: String) -> Self {
        Self(Secret::new(key))
    }
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountKey")
    }
}

/// What the environment says about credentials, as plain values.
#[derive(Clone, Debug, Default)]
pub struct CredentialEnvironment {
    /// `COSMOS_KEY`.
    pub account_key: Option<AccountKey>,
    /// `AZURE_CLIENT_ID`: the application or user-assigned identity.
    pub client_id: Option<String>,
    /// `AZURE_TENANT_ID`: the directory, which has nothing to do with a record's tenant.
    pub tenant_id: Option<String>,
    /// `AZURE_FEDERATED_TOKEN_FILE`.
    pub federated_token_file: Option<PathBuf>,
    /// `IDENTITY_ENDPOINT`; only its presence counts here.
    pub identity_endpoint: Option<String>,
    /// `MSI_ENDPOINT`, the older name; only its presence counts here.
    pub msi_endpoint: Option<String>,
}

impl CredentialEnvironment {
    /// Takes the values from a lookup by name, such as the process's environment. Empty values count
    /// as absent.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let value = |name: &str| lookup(name).filter(|value| !value.trim().is_empty());
        Self {
            account_key: value("COSMOS_KEY").map(AccountKey::from),
            client_id: value("AZURE_CLIENT_ID"),
            tenant_id: value("AZURE_TENANT_ID"),
            federated_token_file: value("AZURE_FEDERATED_TOKEN_FILE").map(PathBuf::from),
            identity_endpoint: value("IDENTITY_ENDPOINT"),
            msi_endpoint: value("MSI_ENDPOINT"),
        }
    }
}

/// The credential that will be used, with what it needs.
#[derive(Debug)]
pub(super) enum Chosen {
    Key(Secret),
    Workload { tenant: String, client: String, file: PathBuf },
    Managed { client: Option<String> },
    Cli,
}

impl Chosen {
    /// Follows the setting, or the contract's order where that is `auto`.
    pub(super) fn choose(choice: Credential, environment: CredentialEnvironment) -> Result<Self, StoreError> {
        let CredentialEnvironment {
            account_key,
            client_id,
            tenant_id,
            federated_token_file,
            identity_endpoint,
            msi_endpoint,
        } = environment;
        let announced = identity_endpoint.is_some() || msi_endpoint.is_some() || client_id.is_some();
        let workload = match (&tenant_id, &client_id, &federated_token_file) {
            (Some(tenant), Some(client), Some(file)) => {
                Some(Self::Workload { tenant: tenant.clone(), client: client.clone(), file: file.clone() })
            }
            _ => None,
        };
        match choice {
            Credential::Auto => match (account_key, workload) {
                (Some(key), _) => Self::key(key),
                (None, Some(workload)) => Ok(workload),
                (None, None) if announced => Ok(Self::Managed { client: client_id }),
                (None, None) => Ok(Self::Cli),
            },
            Credential::Key => match account_key {
                Some(key) => Self::key(key),
                None => Err(errors::held(
                    "no-credential",
                    "the credential is set to an account key, and there is none",
                    "put the account's key into COSMOS_KEY, or set GITOPS_AGENT_CREDENTIAL to auto",
                )),
            },
            Credential::Workload => workload.ok_or_else(|| {
                errors::held(
                    "no-credential",
                    "the credential is set to workload identity, and its settings are incomplete",
                    "set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_FEDERATED_TOKEN_FILE",
                )
            }),
            Credential::Managed => Ok(Self::Managed { client: client_id }),
            Credential::Cli => Ok(Self::Cli),
        }
    }

    fn key(key: AccountKey) -> Result<Self, StoreError> {
        // The SDK finds out while it signs the first request, and calls it a failed sign-in.
        if azure_core::base64::decode(key.0.secret()).is_err() {
            return Err(errors::held(
                "no-credential",
                "COSMOS_KEY is no account key: it is not base64",
                "copy the key whole, with the = signs at its end",
            ));
        }
        Ok(Self::Key(key.0))
    }

    /// For people: what `store check` shows.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Key(_) => "account key",
            Self::Workload { .. } => "workload identity",
            Self::Managed { .. } => "managed identity",
            Self::Cli => "Azure CLI",
        }
    }

    /// Whether the service lets this credential create databases and containers.
    pub(super) fn manages(&self) -> bool {
        matches!(self, Self::Key(_))
    }

    /// The account for the SDK. Workload identity reads its token file here.
    pub(super) fn account(&self, endpoint: AccountEndpoint) -> Result<AccountReference, StoreError> {
        let options = match self {
            Self::Workload { .. } | Self::Managed { .. } => client_options(http_client()?),
            Self::Key(_) | Self::Cli => ClientOptions::default(),
        };
        let credential: azure_core::Result<Arc<dyn TokenCredential>> = match self {
            Self::Key(key) => return Ok(AccountReference::with_authentication_key(endpoint, key.clone())),
            Self::Workload { tenant, client, file } => {
                WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
                    credential_options: ClientAssertionCredentialOptions { client_options: options },
                    client_id: Some(client.clone()),
                    tenant_id: Some(tenant.clone()),
                    token_file_path: Some(file.clone()),
                }))
                .map(|credential| credential as _)
            }
            Self::Managed { client } => {
                let options = ManagedIdentityCredentialOptions {
                    user_assigned_id: client.clone().map(UserAssignedId::ClientId),
                    client_options: options,
                };
                ManagedIdentityCredential::new(Some(options)).map(|credential| credential as _)
            }
            Self::Cli => AzureCliCredential::new(Some(AzureCliCredentialOptions::default()))
                .map(|credential| credential as _),
        };
        let inner = credential.map_err(|error| {
            let error = error.to_string();
            let message = format!("signing in by {} cannot be set up: {error}", self.name());
            errors::held("sign-in", &message, &errors::sign_in_hint(self.name(), &error))
        })?;
        Ok(AccountReference::with_credential(endpoint, Arc::new(SignIn { inner, last: Mutex::default() })))
    }
}

/// A client for requests beside the store's own. The SDK would make one for itself and panic where it cannot.
pub(super) fn http_client() -> Result<Arc<dyn HttpClient>, StoreError> {
    let client = reqwest::Client::builder()
        .connect_timeout(super::CONNECT_TIMEOUT)
        .read_timeout(SIGN_IN_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build();
    match client {
        Ok(client) => Ok(Arc::new(client)),
        Err(error) => {
            let reason = std::error::Error::source(&error).map_or(error.to_string(), ToString::to_string);
            let message = format!("no secure connection can be made from this machine: {reason}");
            let hint = "install the system's CA certificates (apt-get install ca-certificates), or name a file of them in SSL_CERT_FILE";
            Err(errors::held("no-certificates", &message, hint))
        }
    }
}

/// Fewer retries than the SDK's eight: the outbox has all the patience that is needed.
fn client_options(client: Arc<dyn HttpClient>) -> ClientOptions {
    let retry = ExponentialRetryOptions {
        max_retries: 2,
        max_total_elapsed: time::Duration::seconds(10),
        ..ExponentialRetryOptions::default()
    };
    ClientOptions {
        retry: RetryOptions::exponential(retry),
        transport: Some(Transport::new(client)),
        ..ClientOptions::default()
    }
}

/// Bounds a sign-in in time and keeps its token. The SDK asks for a token with every request, and the
/// Azure CLI's credential starts a process for every question; one at a time asks here, and the rest share
/// what it got, be it a token or a refusal.
///
/// A token is renewed [`RENEW_BEFORE`] its end. Where that fails the old one serves on until [`LAST_USE`] before
/// its end, with another attempt every [`RENEW_AGAIN`]: a sign-in service that is away for a minute does not stop
/// a long delivery.
#[derive(Debug)]
struct SignIn {
    inner: Arc<dyn TokenCredential>,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    token: Option<AccessToken>,
    failure: Option<(Instant, Shared)>,
}

impl Last {
    /// The token, where it need not or cannot be renewed now.
    fn usable(&self) -> Option<&AccessToken> {
        let left = |token: &AccessToken| token.expires_on - time::OffsetDateTime::now_utc();
        let failed = self.failure.as_ref().is_some_and(|(when, _)| when.elapsed() < RENEW_AGAIN);
        let needed = if failed { LAST_USE } else { RENEW_BEFORE };
        self.token.as_ref().filter(|token| left(token) > needed)
    }
}

/// An error of the identity library that several requests have in common.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
struct Shared(#[source] Arc<azure_core::Error>);

impl From<Shared> for azure_core::Error {
    fn from(shared: Shared) -> Self {
        let message = shared.to_string();
        Self::with_error(ErrorKind::Credential, shared, message)
    }
}

#[async_trait::async_trait]
impl TokenCredential for SignIn {
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let asked = Instant::now();
        // One account, one scope: what is kept needs no key.
        let mut last = self.last.lock().await;
        if let Some(token) = last.usable() {
            return Ok(token.clone());
        }
        if let Some((_, error)) = last.failure.as_ref().filter(|(when, _)| *when >= asked) {
            return Err(error.clone().into());
        }
        let answer = tokio::time::timeout(SIGN_IN_TIMEOUT, self.inner.get_token(scopes, options)).await;
        let answer = answer.unwrap_or_else(|_| {
            let message = format!("no answer from the sign-in within {} s", SIGN_IN_TIMEOUT.as_secs());
            Err(azure_core::Error::with_message(ErrorKind::Io, message))
        });
        match answer {
            Ok(token) => {
                *last = Last { token: Some(token.clone()), failure: None };
                Ok(token)
            }
            Err(error) => {
                let error = Shared(Arc::new(error));
                last.failure = Some((Instant::now(), error.clone()));
                last.usable().cloned().ok_or_else(|| error.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    const KEY: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQ=";

    fn environment(values: &[(&str, &str)]) -> CredentialEnvironment {
        CredentialEnvironment::from_lookup(|name| {
            values.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn chosen(choice: Credential, values: &[(&str, &str)]) -> &'static str {
        Chosen::choose(choice, environment(values)).map_or_else(|error| error.kind, |chosen| chosen.name())
    }

    const WORKLOAD: [(&str, &str); 3] =
        [("AZURE_CLIENT_ID", "c"), ("AZURE_TENANT_ID", "t"), ("AZURE_FEDERATED_TOKEN_FILE", "/f")];

    #[test]
    fn auto_follows_the_contracts_order() {
        let all: Vec<_> = [("COSMOS_KEY", KEY), ("IDENTITY_ENDPOINT", "http://127.0.0.1/")]
            .into_iter()
            .chain(WORKLOAD)
            .collect();
        assert_eq!(chosen(Credential::Auto, &all), "account key");
        assert_eq!(chosen(Credential::Auto, &all[1..]), "workload identity");
        assert_eq!(
            chosen(Credential::Auto, &[("IDENTITY_ENDPOINT", "http://127.0.0.1/")]),
            "managed identity"
        );
        assert_eq!(chosen(Credential::Auto, &[("AZURE_CLIENT_ID", "c")]), "managed identity");
        assert_eq!(chosen(Credential::Auto, &[]), "Azure CLI");
        assert_eq!(chosen(Credential::Auto, &[("COSMOS_KEY", " ")]), "Azure CLI");
    }

    #[test]
    fn a_setting_is_followed_or_refused() {
        assert_eq!(chosen(Credential::Key, &WORKLOAD), "no-credential");
        assert_eq!(chosen(Credential::Workload, &[("COSMOS_KEY", KEY)]), "no-credential");
        assert_eq!(chosen(Credential::Managed, &[("COSMOS_KEY", KEY)]), "managed identity");
        assert_eq!(chosen(Credential::Cli, &[("COSMOS_KEY", KEY)]), "Azure CLI");
        assert_eq!(chosen(Credential::Key, &[("COSMOS_KEY", "not base64!")]), "no-credential");
    }

    #[test]
    fn the_key_does_not_print() {
        let environment = environment(&[("COSMOS_KEY", KEY)]);
        assert!(!format!("{environment:?}").contains(KEY));
        let chosen = Chosen::choose(Credential::Auto, environment).unwrap();
        assert!(!format!("{chosen:?}").contains(KEY));
    }

    #[test]
    fn names_round_trip() {
        for name in ["auto", "key", "workload", "managed", "cli"] {
            assert_eq!(name.parse::<Credential>().unwrap().to_string(), name);
        }
        assert!("token".parse::<Credential>().is_err());
    }
}
