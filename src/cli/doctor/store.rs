//! Can the store be reached and written: the checks of `store check`, and with `--write` a document.

use gitops_agent::destination::Destination;
use gitops_agent::store::{ErrorClass, Key, Store, StoreError};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::session::{Session, block_on};
use super::Findings;

/// Nobody's records are in this tenant.
const TENANT: &str = "_doctor";
/// Seconds that the probe lives.
const TTL: u64 = 60;
const CHECK: &str = "`gitops-agent store check` looks at each part of the way";

pub(super) fn look(session: &Session, write: bool, found: &mut Findings) {
    let store = match session.open_store(&session.settings.destination.value) {
        Ok(store) => store,
        Err(error) => return failed(found, "store-open", &error),
    };
    let items = match block_on(store.check()) {
        Ok(items) => items,
        Err(failure) => return found.failed("store-open", failure.line(), CHECK),
    };
    for item in &items {
        let name = format!("store-{}", item.name.replace(' ', "-"));
        if item.ok {
            found.ok(&name, &item.detail);
        } else {
            found.failed(&name, &item.detail, item.hint.as_deref().unwrap_or(CHECK));
        }
    }
    if !write || items.iter().any(|item| !item.ok) {
        return;
    }
    match block_on(probe(store.as_ref())) {
        Ok(Ok(())) => {
            let end = match session.settings.destination.value {
                Destination::Local => "and left for the next probe to replace".to_owned(),
                Destination::Cosmos { .. } => format!("gone in {TTL} s"),
            };
            found.ok("store-probe", format!("written and read back in tenant {TENANT}, {end}"));
        }
        Ok(Err(error)) => failed(found, "store-probe", &error),
        Err(failure) => found.failed("store-probe", failure.line(), CHECK),
    }
}

fn failed(found: &mut Findings, check: &str, error: &StoreError) {
    found.failed(check, &error.message, error.hint.as_deref().unwrap_or(CHECK));
}

/// One document a day, replaced where it is there: the local store carries out no time to live.
async fn probe(store: &dyn Store) -> Result<(), StoreError> {
    let now = Timestamp::now();
    let key =
        Key { tenant: TENANT.to_owned(), date: now.strftime("%Y-%m-%d").to_string(), id: "probe".to_owned() };
    let document = json!({
        "id": key.id, "tenantId": key.tenant, "commitDate": key.date, "timestamp": now, "ttl": TTL,
        "compliance": [], "digest": "", "riskScore": 0.0,
    });
    match store.create(&key, &document).await {
        Err(error) if error.class == ErrorClass::Exists => {
            if let Some(old) = store.read(&key).await?.value {
                store.replace(&key, &document, &old.etag).await?;
            }
        }
        other => {
            other?;
        }
    }
    let back = store.read(&key).await?.value;
    if back.is_some_and(|stored| stored.document.get("timestamp") == Some(&Value::String(now.to_string()))) {
        Ok(())
    } else {
        Err(StoreError::new(ErrorClass::Again, "probe", "what was written did not come back"))
    }
}
