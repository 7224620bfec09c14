//! The SDK's errors in the contract's terms: what to do, one line for people, and the next step.
//!
//! Classes follow status and sub-status, never the text; the text only sharpens the advice. Whatever is
//! not known here is tried again, because an error that nobody foresaw must not cost a record.
//!
//! One deviation from "403 is held": 403/3 says that a region has just stopped taking writes. It passes
//! when the failover ends, so it is tried again like the rest of what passes by itself.

use std::error::Error as _;
use std::time::Duration;

use azure_core::error::ErrorKind;
use azure_data_cosmos::CosmosError;

use super::answer;
use crate::store::{Cost, ErrorClass, StoreError};

/// The longest part of somebody else's message that is repeated, in characters.
const MAX_DETAIL: usize = 300;
/// Somebody else answered in the store's place.
const NOT_THE_STORE: &str = "not-the-store";
/// A run of so many characters of base64's alphabet may be a secret.
const SECRET_RUN: usize = 40;

/// Where the store is, for messages and advice.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) endpoint: String,
    /// The account's name as the Azure CLI takes it.
    pub(super) account: String,
    pub(super) database: String,
    pub(super) container: String,
    /// Whether requests are signed with an account key.
    pub(super) by_key: bool,
    /// The credential's name for people.
    pub(super) credential: &'static str,
}

/// What was being done, where that changes what an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Opening the account or the container, or managing them.
    Open,
    Create,
    Read,
    Replace,
    Query,
}

impl Operation {
    /// For logs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::Read => "read",
            Self::Replace => "replace",
            Self::Query => "query",
        }
    }
}

/// An error of the store's own settings, which waits for a person.
pub(super) fn held(kind: &'static str, message: &str, hint: &str) -> StoreError {
    own(ErrorClass::Held, kind, message, Some(hint))
}

/// A request that cannot be made sense of, whoever asks.
pub(super) fn refused(kind: &'static str, message: &str) -> StoreError {
    own(ErrorClass::Refused, kind, message, None)
}

/// The container has another key than the records.
pub(super) fn partition_key(found: &str, place: &Place) -> StoreError {
    let message = format!("{}: it is {found}", sentence("partition-key", place));
    own(ErrorClass::Held, "partition-key", &message, hint("partition-key", "", place).as_deref())
}

/// An answer that reads like a success and is not Cosmos DB's: whoever stands in between has taken the request.
pub(super) fn not_the_store(place: &Place, what: &str) -> StoreError {
    let message = format!("{}: {what}", sentence(NOT_THE_STORE, place));
    own(ErrorClass::Again, NOT_THE_STORE, &message, hint(NOT_THE_STORE, "", place).as_deref())
}

/// No answer in time.
pub(super) fn timed_out(place: &Place, after: Duration) -> StoreError {
    let message = format!("{} did not answer within {} s", place.endpoint, after.as_secs());
    own(ErrorClass::Again, "timeout", &message, None)
}

fn own(class: ErrorClass, kind: &'static str, message: &str, hint: Option<&str>) -> StoreError {
    StoreError {
        class,
        status: None,
        sub_status: None,
        kind,
        message: one_line(message),
        hint: hint.map(str::to_owned),
        retry_after: None,
        cost: Cost::default(),
    }
}

/// Whether a read was answered: there is no such item in a container that exists.
pub(super) fn is_missing_item(error: &CosmosError) -> bool {
    let (status, sub_status) = codes(error);
    error.is_from_wire() && status == 404 && sub_status.unwrap_or(0) == 0
}

/// Whether a create was answered: it exists already.
pub(super) fn is_conflict(error: &CosmosError) -> bool {
    codes(error).0 == 409
}

fn codes(error: &CosmosError) -> (u16, Option<u16>) {
    let status = error.status();
    (u16::from(status.status_code()), status.sub_status().map(|code| code.value()))
}

/// An error of the SDK in the contract's terms.
pub(super) fn from_sdk(error: &CosmosError, operation: Operation, place: &Place) -> StoreError {
    let error = answer::last(error);
    let (status, sub_status) = codes(error);
    let detail = answer::detail(error);
    let (class, kind) = match sub_status {
        Some(20402 | 20401) => sign_in(error, &detail),
        _ => match classify(status, sub_status, operation) {
            // To refuse a record for good is the store's to say, which answers in JSON.
            (ErrorClass::Refused, _) if answer::is_page(error) => (ErrorClass::Again, NOT_THE_STORE),
            known => known,
        },
    };
    // Codes from 20000 up, and the statuses that go with them, are the SDK's own: no server sent them.
    let answered = error.is_from_wire();
    StoreError {
        class,
        status: answered.then_some(status),
        sub_status: sub_status.filter(|_| answered).map(u32::from),
        kind,
        message: one_line(&format!("{}: {detail}", sentence(kind, place))),
        hint: hint(kind, &detail, place),
        retry_after: error
            .response()
            .and_then(|response| response.headers().retry_after_ms)
            .map(Duration::from_millis),
        cost: Cost::default(),
    }
}

/// The contract's table. Sub-statuses from 20000 up are the SDK's own.
fn classify(status: u16, sub_status: Option<u16>, operation: Operation) -> (ErrorClass, &'static str) {
    use ErrorClass::{Again, Changed, Exists, Held, Refused};
    match (status, sub_status.unwrap_or(0)) {
        // The SDK's own findings about the address and about a key that does not fit the container.
        (_, 20108 | 20109) => (Held, "endpoint"),
        (_, 20100..=20103) => (Held, "partition-key"),
        (_, 20021) => (Refused, "bad-record"),
        (_, 20020) => (Again, NOT_THE_STORE),
        (_, 20008) => (Again, "timeout"),
        (_, 20003 | 20010..=20015) => (Again, "unreachable"),

        (400, 1001) => (Held, "partition-key"),
        (400, _) if operation == Operation::Open => (Held, "settings"),
        (400, _) => (Refused, "bad-request"),
        (401, _) => (Held, "unauthorized"),
        (403, 3) | (403, 20311) => (Again, "failover"),
        (403, 1014) => (Held, "partition-full"),
        (403, _) => (Held, "access-denied"),
        // A replica that lags behind, a container that is being made, a store that is starting.
        (404, 1002 | 1013 | 1023 | 20310) => (Again, "not-ready"),
        // The document has gone since it was read: whoever replaces it must look again.
        (404, 0) if operation == Operation::Replace => (Changed, "changed"),
        (404, _) => (Held, "no-container"),
        (409, _) => (Exists, "exists"),
        (412, _) if operation == Operation::Replace => (Changed, "changed"),
        (413, _) => (Refused, "too-large"),
        (408, _) => (Again, "timeout"),
        (429, _) => (Again, "throttled"),
        (410 | 449, _) => (Again, "busy"),
        _ => (Again, "server-error"),
    }
}

/// Tells a sign-in that was refused (a person must act) from one that did not get through.
fn sign_in(error: &CosmosError, detail: &str) -> (ErrorClass, &'static str) {
    const REFUSED: (ErrorClass, &str) = (ErrorClass::Held, "sign-in");
    const UNREACHABLE: (ErrorClass, &str) = (ErrorClass::Again, "sign-in-unreachable");
    let mut source = error.source();
    while let Some(cause) = source {
        match cause.downcast_ref::<azure_core::Error>().map(azure_core::Error::kind) {
            Some(ErrorKind::HttpResponse { status, .. }) => {
                return match u16::from(*status) {
                    // 404 and 410 are how the metadata service says "not yet".
                    404 | 408 | 410 | 429 | 500.. => UNREACHABLE,
                    _ => REFUSED,
                };
            }
            Some(ErrorKind::Io | ErrorKind::Connection) => return UNREACHABLE,
            _ => source = cause.source(),
        }
    }
    // The Azure CLI says it in words alone. Its network errors come from Python's libraries; AADSTS90033
    // and AADSTS90024 call themselves transient.
    let transient = [
        "AADSTS90033",
        "AADSTS90024",
        "Max retries exceeded",
        "Failed to establish a new connection",
        "Connection aborted",
        "Name or service not known",
        "Temporary failure in name resolution",
        "timed out",
    ];
    if transient.iter().any(|words| detail.contains(words)) { UNREACHABLE } else { REFUSED }
}

/// What happened, in the store's own words.
fn sentence(kind: &str, place: &Place) -> String {
    let Place { endpoint, database, container, credential, .. } = place;
    match kind {
        "unreachable" => format!("{endpoint} cannot be reached"),
        "timeout" => format!("{endpoint} did not answer in time"),
        NOT_THE_STORE => format!("what answered for {endpoint} is not Cosmos DB"),
        "endpoint" => format!("{endpoint} is no endpoint of a Cosmos DB account"),
        "sign-in" => format!("signing in by {credential} was refused"),
        "sign-in-unreachable" => format!("the service for signing in by {credential} cannot be reached"),
        "unauthorized" => format!("{endpoint} does not accept the {credential}"),
        "access-denied" => format!("{endpoint} denies access to {database}/{container}"),
        "no-container" => format!("database or container {database}/{container} does not exist"),
        "partition-key" => {
            format!("the partition key of {database}/{container} is not /tenantId, /commitDate")
        }
        "partition-full" => "the partition of this tenant and day is full (20 GB)".to_owned(),
        "throttled" => format!("{database}/{container} is out of request units"),
        "failover" => "the region has just stopped taking writes".to_owned(),
        "too-large" => "the record is larger than the store takes".to_owned(),
        "bad-request" | "bad-record" => "the store cannot take this request".to_owned(),
        "settings" => format!("{endpoint} cannot make sense of {database}/{container}"),
        "exists" => "a document with this key exists".to_owned(),
        "changed" => "the document changed since it was read".to_owned(),
        _ => format!("{endpoint} cannot answer now"),
    }
}

/// The next step, where a person has one.
fn hint(kind: &str, detail: &str, place: &Place) -> Option<String> {
    let Place { account, database, container, by_key, credential, .. } = place;
    let clock = "set this machine's clock: signatures count only within minutes of the service's time";
    Some(match kind {
        "unauthorized" | "access-denied" if is_clock(detail) => clock.to_owned(),
        "unauthorized" if detail.contains("Local Authorization is disabled") => {
            "the account takes no keys: unset COSMOS_KEY and sign in with Entra ID".to_owned()
        }
        "unauthorized" if *by_key => "check COSMOS_KEY: it may have been renewed in the account".to_owned(),
        "access-denied" if is_firewall(detail) => {
            format!(
                "admit this address: az cosmosdb update --name {account} --resource-group GROUP --ip-range-filter ADDRESSES"
            )
        }
        "unauthorized" | "access-denied" => role_command(place, detail),
        "no-container" if *by_key => "run `gitops-agent store init`".to_owned(),
        "no-container" => infrastructure(place),
        "partition-key" => format!(
            "a container's key cannot be changed: name another one in COSMOS_CONTAINER, or remove {database}/{container} and run `gitops-agent store init`"
        ),
        "partition-full" => {
            "shorten retention_days, or give this tenant's busiest repositories a tenant of their own"
                .to_owned()
        }
        "throttled" => format!(
            "delivery goes on by itself; for more, az cosmosdb sql container throughput update --account-name {account} --resource-group GROUP --database-name {database} --name {container} --throughput RU_PER_SECOND"
        ),
        "sign-in" => sign_in_hint(credential, detail),
        "endpoint" | "settings" => "check COSMOS_ENDPOINT, COSMOS_DATABASE and COSMOS_CONTAINER".to_owned(),
        NOT_THE_STORE => {
            "a proxy or a sign-in page of the network may stand in between; delivery tries again by itself"
                .to_owned()
        }
        "unreachable" => "check COSMOS_ENDPOINT and the network; delivery tries again by itself".to_owned(),
        _ => return None,
    })
}

fn is_clock(detail: &str) -> bool {
    detail.contains("not valid at the current time")
}

fn is_firewall(detail: &str) -> bool {
    detail.contains("firewall") || detail.contains("public internet")
}

/// Which part of the way an error is about, in the words of `store check`.
pub(super) fn at_fault(error: &StoreError, otherwise: &'static str) -> &'static str {
    match error.kind {
        "unauthorized" | "access-denied" if is_clock(&error.message) => "clock",
        "access-denied" if is_firewall(&error.message) => "endpoint",
        // An account key is no principal: what is denied to it is denied to the key.
        "access-denied" if error.status == Some(403) => "role",
        "sign-in" | "sign-in-unreachable" | "unauthorized" | "access-denied" | "no-credential" => {
            "credential"
        }
        "unreachable" | "endpoint" | "no-certificates" => "endpoint",
        "no-container" if otherwise == "database" => "database",
        "partition-key" => "partition key",
        _ => otherwise,
    }
}

/// Grants the role that `infra/` defines. The service names who was denied, and what.
fn role_command(place: &Place, detail: &str) -> String {
    let Place { account, database, .. } = place;
    let between = |before: &str| {
        let rest = detail.split_once(before)?.1;
        // Part of a command that somebody may copy: nothing but what ids and actions are made of.
        let plain = |inside: &&str| {
            !inside.is_empty() && inside.chars().all(|c| c.is_ascii_alphanumeric() || "-./".contains(c))
        };
        rest.split_once(']').map(|(inside, _)| inside).filter(plain)
    };
    let who = between("principal [").unwrap_or("PRINCIPAL");
    let what = between("perform action [").map_or_else(String::new, |action| format!(" (it lacks {action})"));
    format!(
        "grant the role \"gitops-agent writer\" of infra/{what}: az cosmosdb sql role assignment create --account-name {account} --resource-group GROUP --scope /dbs/{database} --principal-id {who} --role-definition-name \"gitops-agent writer\"; where infra/ was not deployed, --role-definition-id 00000000-0000-0000-0000-000000000002 is Azure's own, which may delete as well"
    )
}

/// What mends a refused sign-in, by credential and by what was said.
pub(super) fn sign_in_hint(credential: &str, detail: &str) -> String {
    match credential {
        "workload identity" if detail.contains("AADSTS70021") || detail.contains("AADSTS700213") => {
            "no federated credential of the application fits this token: az identity federated-credential create --name gitops-agent --identity-name IDENTITY --resource-group GROUP --issuer ISSUER --subject SUBJECT"
        }
        "workload identity" if detail.contains("AADSTS700024") => {
            "the token in AZURE_FEDERATED_TOKEN_FILE has run out: check that the cluster renews it, and this machine's clock"
        }
        "workload identity" if detail.contains("AADSTS") => {
            "check AZURE_CLIENT_ID and AZURE_TENANT_ID: az identity show --name IDENTITY --resource-group GROUP"
        }
        "workload identity" => {
            "check that AZURE_FEDERATED_TOKEN_FILE names a file that this process can read"
        }
        "managed identity" => {
            "give this machine an identity (az vm identity assign, or `createIdentity` in infra/), and set AZURE_CLIENT_ID where it has several"
        }
        "Azure CLI" if detail.contains("not found") || detail.contains("No such file") => {
            "install the Azure CLI and run `az login`, or set GITOPS_AGENT_CREDENTIAL and the values it needs"
        }
        _ => "run `az login`, or set GITOPS_AGENT_CREDENTIAL and the values it needs",
    }
    .to_owned()
}

/// What to do where this credential cannot create anything.
pub(super) fn infrastructure(place: &Place) -> String {
    let Place { account, database, container, .. } = place;
    format!(
        "Entra ID may not create databases or containers here: deploy infra/ with `infra/deploy.sh --environment dev --location REGION`, which runs `az deployment group create --resource-group GROUP --template-file infra/main.bicep --parameters environment=dev location=REGION`, for account {account}, database {database}, container {container}"
    )
}

/// One line without control characters and without what may be a secret, of bounded length.
pub(super) fn one_line(text: &str) -> String {
    let cleaned: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut line = String::with_capacity(cleaned.len().min(4 * MAX_DETAIL));
    for word in cleaned.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&without_secrets(word));
    }
    match line.char_indices().nth(MAX_DETAIL * 2) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line,
    }
}

/// Replaces long runs of base64's alphabet that mix capitals, small letters and digits: keys, tokens and
/// signatures look like that; commit ids, GUIDs and host names do not.
fn without_secrets(word: &str) -> String {
    let in_run = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '-' | '_' | '.' | '%');
    let mut out = String::with_capacity(word.len());
    let mut rest = word;
    while !rest.is_empty() {
        let run = rest.find(|c| !in_run(c)).unwrap_or(rest.len());
        let (candidate, after) = rest.split_at(run);
        let secret = candidate.len() >= SECRET_RUN
            && candidate.bytes().any(|b| b.is_ascii_uppercase())
            && candidate.bytes().any(|b| b.is_ascii_lowercase())
            && candidate.bytes().any(|b| b.is_ascii_digit());
        out.push_str(if secret { "[removed]" } else { candidate });
        let next = after.chars().next().map_or(0, char::len_utf8);
        out.push_str(&after[..next]);
        rest = &after[next..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_follow_the_contract() {
        use ErrorClass::{Again, Changed, Exists, Held, Refused};
        let table = [
            (400, Some(1001), Operation::Create, Held, "partition-key"),
            (400, None, Operation::Create, Refused, "bad-request"),
            (401, None, Operation::Create, Held, "unauthorized"),
            (403, Some(5300), Operation::Create, Held, "access-denied"),
            (403, Some(1014), Operation::Create, Held, "partition-full"),
            (403, Some(3), Operation::Create, Again, "failover"),
            (404, Some(1003), Operation::Create, Held, "no-container"),
            (404, Some(0), Operation::Create, Held, "no-container"),
            (404, None, Operation::Open, Held, "no-container"),
            (404, Some(1002), Operation::Read, Again, "not-ready"),
            (404, Some(0), Operation::Replace, Changed, "changed"),
            (404, Some(1003), Operation::Replace, Held, "no-container"),
            (408, None, Operation::Create, Again, "timeout"),
            (409, None, Operation::Create, Exists, "exists"),
            (410, Some(1002), Operation::Create, Again, "busy"),
            (412, None, Operation::Replace, Changed, "changed"),
            (412, None, Operation::Create, Again, "server-error"),
            (200, Some(20020), Operation::Read, Again, "not-the-store"),
            (413, None, Operation::Create, Refused, "too-large"),
            (429, Some(3200), Operation::Create, Again, "throttled"),
            (449, None, Operation::Create, Again, "busy"),
            (500, None, Operation::Create, Again, "server-error"),
            (503, Some(20010), Operation::Create, Again, "unreachable"),
            (418, None, Operation::Create, Again, "server-error"),
        ];
        for (status, sub_status, operation, class, kind) in table {
            assert_eq!(classify(status, sub_status, operation), (class, kind), "{status}/{sub_status:?}");
        }
    }

    #[test]
    fn messages_are_one_line_without_secrets() {
        let key = "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw==";
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let line = one_line(&format!("AccountKey={key};\r\n\tcommit {commit}\u{7}"));
        assert_eq!(line, format!("[removed]; commit {commit}"));
        assert!(one_line(&"long ".repeat(1000)).chars().count() <= 2 * MAX_DETAIL + 1);
    }
}
