//! Signing in with Entra ID over the real code paths, without Azure: managed identity against a loopback
//! token endpoint, workload identity against one with TLS, the Azure CLI against a stand-in for `az`. All are
//! found by the identity library through the process's environment, so each case runs in a process of its
//! own: this test binary again, with [`child`] or [`child_over_time`] as its only test.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "stores/emulator.rs"]
mod emulator;

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use emulator::Emulator;
use futures::future::join_all;
use gitops_agent::destination::Credential;
use gitops_agent::store::cosmos::{CosmosConfig, CosmosStore, CredentialEnvironment};
use gitops_agent::store::{Key, Store as _, StoreError};
use serde_json::{Value, json};

/// What the token services here hand out. It must turn up in no message.
const TOKEN: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.c2VjcmV0LXRva2VuLW9mLXRoZS10ZXN0.c2lnbmF0dXJl";

/// Creates 20 documents at once, then asks for `init`, and writes down how both went.
#[tokio::test]
#[ignore = "the other tests run it, in processes with an environment of their own"]
async fn child() {
    let store = childs_store();
    let creates = join_all((0..20).map(|number| create(&store, number)));
    let created = creates.await.into_iter().collect::<Result<Vec<_>, _>>();
    let init = store.init().await;
    let result = json!({
        "create": created.as_ref().map_or_else(said, |created| json!(created.len())),
        "init": init.as_ref().map_or_else(said, |items| json!(items.iter().all(|item| item.ok))),
    });
    report(&result);
}

/// One create at each of these seconds, with one store, and how each went.
#[tokio::test]
#[ignore = "the other tests run it, in processes with an environment of their own"]
async fn child_over_time() {
    let store = childs_store();
    let started = Instant::now();
    let mut outcomes = Vec::new();
    for (number, second) in (0..).zip(variable("TEST_SECONDS").unwrap().split(' ')) {
        let at = Duration::from_secs_f64(second.parse().unwrap());
        tokio::time::sleep(at.saturating_sub(started.elapsed())).await;
        outcomes.push(create(&store, number).await.as_ref().map_or_else(said, |()| json!("created")));
    }
    report(&Value::Array(outcomes));
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn childs_store() -> CosmosStore {
    CosmosStore::new(CosmosConfig {
        endpoint: variable("TEST_ENDPOINT").unwrap(),
        database: "gitops".to_owned(),
        container: variable("TEST_CONTAINER").unwrap(),
        credential: Credential::Auto,
        environment: CredentialEnvironment::from_lookup(variable),
        default_ttl: 220_924_800,
    })
    .unwrap()
}

async fn create(store: &CosmosStore, number: u32) -> Result<(), StoreError> {
    let id = format!("{number:040x}");
    let document = json!({"id": id, "tenantId": "t", "commitDate": "2026-01-02"});
    let key = Key { tenant: "t".to_owned(), date: "2026-01-02".to_owned(), id };
    store.create(&key, &document).await.map(drop)
}

fn said(error: &StoreError) -> Value {
    json!({"class": error.class, "kind": error.kind, "message": error.message, "hint": error.hint})
}

fn report(result: &Value) {
    std::fs::write(variable("TEST_RESULT").unwrap(), result.to_string()).unwrap();
}

/// Runs [`child`] with these variables beside the ones for its emulator, and nothing inherited.
fn run(folder: &Path, emulator: &Emulator, container: &str, environment: &[(&str, &str)]) -> Value {
    run_test("child", folder, emulator, container, environment)
}

fn run_test(
    test: &str,
    folder: &Path,
    emulator: &Emulator,
    container: &str,
    environment: &[(&str, &str)],
) -> Value {
    let result = folder.join("result.json");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--ignored"]).env_clear().envs(environment.iter().copied());
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

/// The requests that a token endpoint got, head and body, in small letters.
type Requests = Arc<Mutex<Vec<String>>>;

/// A token endpoint that always gives this answer.
fn token_service(status: u16, body: &Value) -> (String, Requests) {
    let body = body.clone();
    token_service_over_time(move |_| (status, body.clone()))
}

/// A token endpoint whose answer depends on the time since its first request.
fn token_service_over_time(answer: impl Fn(Duration) -> (u16, Value) + Send + 'static) -> (String, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/msi/token", listener.local_addr().unwrap());
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    std::thread::spawn(move || {
        let mut first = None;
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let since = first.get_or_insert_with(Instant::now).elapsed();
            serve(stream, &answer(since), &seen);
        }
    });
    (url, requests)
}

/// Reads one request and answers it; a client that goes away is its own business.
fn serve(stream: impl Read + Write, (status, body): &(u16, Value), seen: &Requests) {
    let body = body.to_string();
    let mut reader = BufReader::new(stream);
    let (mut request, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let line = line.to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        request.push_str(&line);
        if line.trim().is_empty() {
            break;
        }
    }
    let mut content = vec![0; length];
    if reader.read_exact(&mut content).is_err() {
        return;
    }
    request.push_str(&String::from_utf8_lossy(&content).to_lowercase());
    seen.lock().unwrap().push(request);
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let stream = reader.get_mut();
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).and_then(|()| stream.flush());
}

/// A sign-in service with TLS, as Entra ID has it; `https://127.0.0.1:PORT` and its requests.
fn sign_in_service(status: u16, body: &Value) -> (String, Requests) {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let pem = loopback_pem();
    let certificate = CertificateDer::from_pem_file(&pem).unwrap();
    let key = PrivateKeyDer::from_pem_file(&pem).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![certificate], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let (requests, answer) = (Requests::default(), (status, body.clone()));
    let seen = Arc::clone(&requests);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream);
            serve(&mut stream, &answer, &seen);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    (url, requests)
}

fn loopback_pem() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/loopback.pem")
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn token_until(expires_on: u64) -> Value {
    json!({"access_token": TOKEN, "expires_on": expires_on.to_string(), "token_type": "Bearer", "resource": "r"})
}

/// One create at each of these seconds while the token endpoint answers so.
async fn over_time(
    seconds: &str,
    answer: impl Fn(Duration) -> (u16, Value) + Send + 'static,
) -> (Vec<Value>, usize) {
    let (emulator, folder) = (ready().await, tempfile::tempdir().unwrap());
    let (url, requests) = token_service_over_time(answer);
    let environment =
        [("IDENTITY_ENDPOINT", &*url), ("IDENTITY_HEADER", "header-secret"), ("TEST_SECONDS", seconds)];
    let result = run_test("child_over_time", folder.path(), &emulator, "commits", &environment);
    let count = requests.lock().unwrap().len();
    (result.as_array().unwrap().clone(), count)
}

#[tokio::test]
async fn a_token_that_cannot_be_renewed_serves_on() {
    let start = now();
    // Renewal is due five minutes before the end: here six seconds after the first sign-in.
    let (outcomes, requests) = over_time("0 8 10", move |since| match since.as_secs() {
        0..5 => (200, token_until(start + 306)),
        _ => (403, json!({"error": "nope"})),
    })
    .await;
    assert_eq!(outcomes, ["created", "created", "created"]);
    assert_eq!(requests, 2, "one sign-in, one renewal that failed and is not repeated at once");
}

#[tokio::test]
async fn a_token_that_has_run_out_is_renewed_once_the_service_is_back() {
    let start = now();
    let (outcomes, _) = over_time("0 6 11", move |since| match since.as_secs() {
        // Too short to be kept: each request asks for one.
        0..4 => (200, token_until(start + 33)),
        4..9 => (403, json!({"error": "nope"})),
        _ => (200, token_until(4_102_444_800)),
    })
    .await;
    assert_eq!((&outcomes[0], &outcomes[2]), (&json!("created"), &json!("created")), "{outcomes:?}");
    assert_eq!((&outcomes[1]["class"], &outcomes[1]["kind"]), (&json!("held"), &json!("sign-in")));
}

/// The variables of workload identity, for a sign-in service here.
fn workload<'a>(authority: &'a str, token_file: &'a str, pem: &'a str) -> [(&'a str, &'a str); 5] {
    [
        ("AZURE_CLIENT_ID", "client-7"),
        ("AZURE_TENANT_ID", "directory-1"),
        ("AZURE_FEDERATED_TOKEN_FILE", token_file),
        ("AZURE_AUTHORITY_HOST", authority),
        ("SSL_CERT_FILE", pem),
    ]
}

#[tokio::test]
async fn workload_identity_exchanges_the_token_of_its_file() {
    let (emulator, folder) = (ready().await, tempfile::tempdir().unwrap());
    let file = folder.path().join("token");
    std::fs::write(&file, "federated-token-1").unwrap();
    let (authority, requests) =
        sign_in_service(200, &json!({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}));
    let (file, pem) = (file.to_str().unwrap().to_owned(), loopback_pem());
    let environment = workload(&authority, &file, pem.to_str().unwrap());
    let result = run(folder.path(), &emulator, "commits", &environment);
    assert_eq!(result, json!({"create": 20, "init": true}));
    let requests = requests.lock().unwrap();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(requests[0].starts_with("post /directory-1/oauth2/v2.0/token "), "{requests:?}");
    for part in [
        "client_assertion=federated-token-1",
        "client_id=client-7",
        "scope=https%3a%2f%2fcosmos.azure.com%2f.default",
    ] {
        assert!(requests[0].contains(part), "{part}: {requests:?}");
    }
}

#[tokio::test]
async fn workload_identity_fails_with_what_mends_it() {
    let (emulator, folder) = (ready().await, tempfile::tempdir().unwrap());
    let file = folder.path().join("token");
    std::fs::write(&file, "federated-token-1").unwrap();
    let (file, pem) = (file.to_str().unwrap().to_owned(), loopback_pem());
    let said = |code: &str| json!({"error": "invalid_client", "error_description": format!("{code}: no.")});
    for (status, body, expected, advice) in [
        (401, said("AADSTS700213"), ("held", "sign-in"), "az identity federated-credential create"),
        (401, said("AADSTS700024"), ("held", "sign-in"), "has run out"),
        (400, said("AADSTS700016"), ("held", "sign-in"), "check AZURE_CLIENT_ID and AZURE_TENANT_ID"),
        (503, json!({}), ("again", "sign-in-unreachable"), ""),
    ] {
        let (authority, _) = sign_in_service(status, &body);
        let environment = workload(&authority, &file, pem.to_str().unwrap());
        let result = run(folder.path(), &emulator, "commits", &environment);
        assert_eq!(outcome(&result), expected, "{status}: {result}");
        assert!(result["create"]["hint"].as_str().unwrap_or_default().contains(advice), "{result}");
    }
    // A service whose certificate nobody vouches for gets no token.
    let (authority, requests) = sign_in_service(200, &json!({}));
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/other-ca.pem");
    let result =
        run(folder.path(), &emulator, "commits", &workload(&authority, &file, other.to_str().unwrap()));
    assert_eq!(outcome(&result).0, "again", "{result}");
    assert_eq!(requests.lock().unwrap().len(), 0);
    // Nor is one asked where nobody is trusted at all.
    let result = run(folder.path(), &emulator, "commits", &workload(&authority, &file, "/dev/null"));
    assert_eq!(outcome(&result), ("held", "no-certificates"), "{result}");
    assert!(result["create"]["hint"].as_str().unwrap().contains("SSL_CERT_FILE"), "{result}");
    // And without its file there is nothing to exchange.
    let environment = workload(&authority, "/nonexistent/token", pem.to_str().unwrap());
    let result = run(folder.path(), &emulator, "commits", &environment);
    assert_eq!(outcome(&result), ("held", "sign-in"), "{result}");
    assert!(result["create"]["hint"].as_str().unwrap().contains("AZURE_FEDERATED_TOKEN_FILE"), "{result}");
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
        if expected.0 == "held" {
            let hint = result["create"]["hint"].as_str().unwrap();
            assert!(hint.contains("az vm identity assign") && hint.contains("AZURE_CLIENT_ID"), "{hint}");
        }
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
