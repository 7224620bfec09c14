//! What `store check` finds out by trying: this machine's clock and what the credential may do.
//!
//! Nothing is written. The service looks at permissions before it looks at a request, so each operation is tried in
//! a form that it has to turn down afterwards: a document that is not there is read and replaced, one is created
//! under another partition key than its own. A permission that is missing answers with 403, one that is there with
//! 404, 412 or 400.

use std::time::Duration;

use azure_core::http::headers::HeaderName;
use azure_core::http::{Method, Request};
use azure_data_cosmos::PartitionKey;
use azure_data_cosmos::options::{ItemWriteOptions, Precondition};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::errors::{self, Operation};
use super::policy::{failed, fault, item};
use super::{CosmosStore, Failure, credential, write_options};
use crate::store::{CheckItem, ErrorClass, Query, StoreError};

/// The longest wait for the account's clock.
const PATIENCE: Duration = Duration::from_secs(10);
/// Microsoft Entra ID forgives a token five minutes, Cosmos DB a signature fifteen.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// Nobody's records are in this tenant.
const TENANT: &str = "_doctor";
const DAY: &str = "1970-01-01";

impl CosmosStore {
    /// This machine's clock beside the `Date` of an answer, whatever the answer is: asked without a credential,
    /// because a wrong clock spoils each of them. `None` where nobody answers, which the next step reports.
    pub(super) async fn clock(&self) -> Option<CheckItem> {
        let request = Request::new(self.endpoint.url().clone(), Method::Get);
        let asked = Timestamp::now();
        let client = credential::http_client().ok()?;
        let answer = tokio::time::timeout(PATIENCE, client.execute_request(&request)).await;
        let (answer, now) = (answer.ok()?.ok()?, Timestamp::now());
        let date = answer.headers().get_optional_str(&HeaderName::from_static("date"))?;
        let theirs = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
        // The header has whole seconds, and was written somewhere between question and answer.
        let ahead = if now < theirs { now.duration_since(theirs) } else { asked.duration_since(theirs) };
        let seconds = ahead.as_secs();
        if ahead.abs() <= SKEW {
            return Some(item("clock", format!("within {} s of the account's", seconds.abs().max(1))));
        }
        let side = if seconds > 0 { "ahead of" } else { "behind" };
        let detail = format!("{} s {side} the account's: sign-ins and signatures are refused", seconds.abs());
        let mend = "set this machine's clock, and let it follow a time server: timedatectl set-ntp true";
        Some(fault("clock", detail, Some(mend.to_owned())))
    }

    /// Whether the credential may do everything that delivery, `query` and `verify` do.
    pub(super) async fn role(&self) -> CheckItem {
        let tries = [
            ("read", self.try_read().await),
            ("query", self.try_query().await),
            ("create", self.try_create().await),
            ("replace", self.try_replace().await),
        ];
        let mut missing = Vec::new();
        let mut first = None;
        for (name, tried) in tries {
            match tried {
                Err(error) if error.status == Some(403) || error.status == Some(401) => {
                    missing.push(name);
                    first.get_or_insert(error);
                }
                // About the store, not about permissions.
                Err(error) if error.class == ErrorClass::Again => return failed("role", error),
                Ok(()) | Err(_) => {}
            }
        }
        match first {
            None => item("role", "may create, read, replace and query"),
            Some(error) => {
                let detail = format!("may not {}: {}", missing.join(", "), error.message);
                fault(errors::at_fault(&error, "role"), detail, error.hint)
            }
        }
    }

    async fn try_read(&self) -> Result<(), StoreError> {
        let key =
            crate::store::Key { tenant: TENANT.to_owned(), date: DAY.to_owned(), id: "role".to_owned() };
        crate::store::Store::read(self, &key).await.map(drop)
    }

    async fn try_query(&self) -> Result<(), StoreError> {
        let day = Some(DAY.to_owned());
        let query = Query { tenant: TENANT.to_owned(), since: day.clone(), until: day, ..Query::default() };
        self.select(&query, &mut |_: Value| false).await.map(drop)
    }

    async fn try_create(&self) -> Result<(), StoreError> {
        // Its own key is another day's than the one it is sent to.
        let document = json!({"id": "role", "tenantId": TENANT, "commitDate": "1970-01-02", "ttl": 1});
        self.try_write(async |options| {
            let container = self.container().await?;
            Ok(container.create_item(partition(), "role", &document, Some(options)).await.map(drop)?)
        })
        .await
    }

    async fn try_replace(&self) -> Result<(), StoreError> {
        let document = json!({"id": "role", "tenantId": TENANT, "commitDate": DAY, "ttl": 1});
        self.try_write(async |options| {
            let container = self.container().await?;
            let options = options.with_precondition(Precondition::if_match("\"never\"".to_owned()));
            Ok(container.replace_item(partition(), "role", &document, Some(options)).await.map(drop)?)
        })
        .await
    }

    async fn try_write(
        &self,
        write: impl AsyncFnOnce(ItemWriteOptions) -> Result<(), Failure>,
    ) -> Result<(), StoreError> {
        match tokio::time::timeout(PATIENCE, write(write_options())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Failure::Sdk(error))) => Err(errors::from_sdk(&error, Operation::Create, &self.place)),
            Ok(Err(Failure::Own(error))) => Err(error),
            Err(_) => Err(errors::timed_out(&self.place, PATIENCE)),
        }
    }
}

fn partition() -> PartitionKey {
    PartitionKey::from((TENANT.to_owned(), DAY.to_owned()))
}
