//! Signing in with Entra ID over the real code paths, without Azure: managed identity against a loopback
//! token endpoint, the Azure CLI against a stand-in for `az`. Both are found by the identity library
//! through the process's environment, so each case runs in a process of its own: this test binary again,
//! with [`child`] as its only test.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "stores/emulator.rs"]
mod emulator;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use emulator::Emulator;
use futures::future::join_all;
use gitops_agent::destination::Credential;
use gitops_agent::store::cosmos::{CosmosConfig, CosmosStore, CredentialEnvironment};
use gitops_agent::store::{Key, Store as _};
use serde_json::{Value, json};

/// What the token services here hand out. It must turn up in no message.
const TOKEN: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.c2VjcmV0LXRva2VuLW9mLXRoZS10ZXN0.c2lnbmF0dXJl";

/// Creates 20 documents at once, then asks for `init`, and writes down how both went.
#[tokio::test]
#[ignore = "the other tests run it, in processes with an environment of their own"]
async fn child() {
    let variable = |name: &str| std::env::var(name).ok();
    let store = CosmosStore::new(CosmosConfig {
        endpoint: variable("TEST_ENDPOINT").unwrap(),
        database: "gitops".to_owned(),
        container: variable("TEST_CONTAINER").unwrap(),
        credential: Credential::Auto,
        environment: CredentialEnvironment::from_lookup(variable),
        default_ttl: 220_924_800,
    })
    .unwrap();
    let creates = join_all((0..20).map(|number| {
        let store = &store;
        async move {
            let id = format!("{number:040x}");
            let document = json!({"id": id, "tenantId": "t", "commitDate": "2026-01-02"});
            let key = Key { tenant: "t".to_owned(), date: "2026-01-02".to_owned(), id };
            store.create(&key, &document).await
        }
    }));
    let created = creates.await.into_iter().collect::<Result<Vec<_>, _>>();
    let init = store.init().await;
    let said = |error: &gitops_agent::store::StoreError| json!({"class": error.class, "kind": error.kind, "message": error.message, "hint": error.hint});
    let result = json!({
        "create": created.as_ref().map_or_else(said, |created| json!(created.len())),
        "init": init.as_ref().map_or_else(said, |items| json!(items.iter().all(|item| item.ok))),
    });
    std::fs::write(variable("TEST_RESULT").unwrap(), result.to_string()).unwrap();
}

/// Runs [`child`] with these variables beside the ones for its emulator, and nothing inherited.
fn run(folder: &Path, emulator: &Emulator, container: &str, environment: &[(&str, &str)]) -> Value {
    let result = folder.join("result.json");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["child", "--exact", "--ignored"]).env_clear().envs(environment.iter().copied());
    command.env("TEST_ENDPOINT", emulator.endpoint()).env("TEST_CONTAINER", container);
    command.env("TEST_RESULT", &result).env("COSMOS_DISABLE_IMDS", "1");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(result).unwrap();
    assert!(!text.contains(TOKEN) && !text.contains("c2VjcmV0"), "a token in a message: {text}");
    serde_json::from_str(&text).unwrap()
}

/// An emulator with the container `commits`.
async fn ready() -> Emulator {
    let emulator = Emulator::start(&[]);
    emulator.store().init().await.unwrap();
    emulator
}

fn outcome(result: &Value) -> (&str, &str) {
    let create = &result["create"];
    (create["class"].as_str().unwrap_or_default(), create["kind"].as_str().unwrap_or_default())
}

/// A token endpoint that always gives this answer, and the heads of the requests that it got.
fn token_service(status: u16, body: &Value) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/msi/token", listener.local_addr().unwrap());
    let requests = Arc::new(Mutex::new(Vec::new()));
    let answer = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.to_string().len()
    );
    let seen = Arc::clone(&requests);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<_> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            seen.lock().unwrap().push(head.join("\n").to_lowercase());
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (url, requests)
}

#[tokio::test]
async fn managed_identity_signs_in_once() {
    let (emulator, folder) = (ready().await, tempfile::tempdir().unwrap());
    // The year 2100, as a string, which is how this service gives it.
    let body =
        json!({"access_token": TOKEN, "expires_on": "4102444800", "token_type": "Bearer", "resource": "r"});
    let (url, requests) = token_service(200, &body);
    let environment =
        [("IDENTITY_ENDPOINT", &*url), ("IDENTITY_HEADER", "header-secret"), ("AZURE_CLIENT_ID", "client-7")];
    let result = run(folder.path(), &emulator, "commits", &environment);
    assert_eq!(
        result,
        json!({"create": 20, "init": true}),
        "everything is there, so init has nothing to explain"
    );
    let requests = requests.lock().unwrap();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(
        requests[0].contains("x-identity-header: header-secret")
            && requests[0].contains("client_id=client-7")
    );
}

#[tokio::test]
async fn managed_identity_fails_in_the_contracts_classes() {
    let (emulator, folder) = (ready().await, tempfile::tempdir().unwrap());
    for (status, expected) in
        [(400, ("held", "sign-in")), (403, ("held", "sign-in")), (503, ("again", "sign-in-unreachable"))]
    {
        let (url, _) = token_service(status, &json!({"error": "nope"}));
        let environment = [("IDENTITY_ENDPOINT", &*url), ("IDENTITY_HEADER", "header-secret")];
        let result = run(folder.path(), &emulator, "commits", &environment);
        assert_eq!(outcome(&result), expected, "{status}: {result}");
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let environment =
        [("IDENTITY_ENDPOINT", &*format!("http://127.0.0.1:{port}/")), ("IDENTITY_HEADER", "header-secret")];
    let result = run(folder.path(), &emulator, "commits", &environment);
    assert_eq!(outcome(&result), ("again", "sign-in-unreachable"), "{result}");
}

#[tokio::test]
async fn init_without_a_key_names_infra() {
    let (emulator, folder) = (ready().await, tempfile::tempdir().unwrap());
    let body =
        json!({"access_token": TOKEN, "expires_on": "4102444800", "token_type": "Bearer", "resource": "r"});
    let (url, _) = token_service(200, &body);
    let environment = [("IDENTITY_ENDPOINT", &*url), ("IDENTITY_HEADER", "header-secret")];
    let result = run(folder.path(), &emulator, "absent", &environment);
    assert_eq!(outcome(&result), ("held", "no-container"), "{result}");
    for said in [&result["create"], &result["init"]] {
        let hint = said["hint"].as_str().unwrap();
        assert!(hint.contains("infra/deploy.sh") && hint.contains("az deployment group create"), "{result}");
    }
    assert_eq!(result["init"]["kind"], "needs-infrastructure");
}

/// A folder for PATH with a stand-in for `az` that notes each call.
fn azure_cli(folder: &Path, script: &str) -> PathBuf {
    let az = folder.join("az");
    std::fs::write(&az, format!("#!/bin/sh\necho \"$@\" >> {}/calls\n{script}\n", folder.display())).unwrap();
    std::fs::set_permissions(&az, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder.join("calls")
}

#[tokio::test]
async fn the_azure_cli_is_asked_once() {
    let (emulator, folder) = (ready().await, tempfile::tempdir().unwrap());
    let token = json!({"accessToken": TOKEN, "expires_on": 4_102_444_800_u64, "tokenType": "Bearer"});
    let calls = azure_cli(folder.path(), &format!("printf '%s' '{token}'"));
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let result = run(folder.path(), &emulator, "commits", &[("PATH", &path)]);
    assert_eq!(result, json!({"create": 20, "init": true}));
    let calls = std::fs::read_to_string(calls).unwrap();
    assert_eq!(calls.lines().count(), 1, "{calls}");
    assert!(calls.contains("https://cosmos.azure.com/.default"), "{calls}");
}

#[tokio::test]
async fn the_azure_cli_fails_in_the_contracts_classes() {
    let (emulator, folder) = (ready().await, tempfile::tempdir().unwrap());
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    for (script, expected) in [
        ("echo \"ERROR: Please run 'az login' to setup account.\" >&2; exit 1", ("held", "sign-in")),
        ("echo 'ERROR: AADSTS50173: The provided grant has expired' >&2; exit 1", ("held", "sign-in")),
        ("echo 'Max retries exceeded with url: /oauth2' >&2; exit 1", ("again", "sign-in-unreachable")),
    ] {
        azure_cli(folder.path(), script);
        let result = run(folder.path(), &emulator, "commits", &[("PATH", &path)]);
        assert_eq!(outcome(&result), expected, "{script}: {result}");
    }
    // Nothing is announced and no `az` is there: what a first run without any sign-in meets.
    let result = run(folder.path(), &emulator, "commits", &[("PATH", "/nonexistent")]);
    assert_eq!(outcome(&result), ("held", "sign-in"), "{result}");
    assert!(result["create"]["hint"].as_str().unwrap().contains("az login"), "{result}");
}
