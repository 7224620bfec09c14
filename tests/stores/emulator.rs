//! The emulator as a process of its own.

#![allow(dead_code, unreachable_pub, reason = "several test binaries share this file, each its own part")]

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use gitops_agent::destination::Credential;
use gitops_agent::store::cosmos::{CosmosConfig, CosmosStore, CredentialEnvironment};

/// The public key of Microsoft's emulators, which is no secret.
pub const KEY: &str =
    "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw==";

/// A running emulator; it ends with this value.
pub struct Emulator {
    process: Child,
    endpoint: String,
}

impl Emulator {
    /// Starts one on a free port and waits until it is ready.
    pub fn start(arguments: &[&str]) -> Self {
        let (process, endpoint) = spawn("0", arguments);
        Self { process, endpoint }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A store on it that signs in with the key.
    pub fn store(&self) -> CosmosStore {
        self.store_with(&[("COSMOS_KEY", KEY)])
    }

    /// A store on it with these variables for credentials.
    pub fn store_with(&self, environment: &[(&str, &str)]) -> CosmosStore {
        store_at(&self.endpoint, environment)
    }

    /// Ends the process; connections to its port are refused from now on.
    pub fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts a new one, empty, on the same port.
    pub fn restart(&mut self) {
        let port = self.endpoint.rsplit(':').next().unwrap().to_owned();
        (self.process, self.endpoint) = spawn(&port, &[]);
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A store at an endpoint, whatever is there.
pub fn store_at(endpoint: &str, environment: &[(&str, &str)]) -> CosmosStore {
    let lookup =
        |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    CosmosStore::new(CosmosConfig {
        endpoint: endpoint.to_owned(),
        database: "gitops".to_owned(),
        container: "commits".to_owned(),
        credential: Credential::Auto,
        environment: CredentialEnvironment::from_lookup(lookup),
        default_ttl: 220_924_800,
    })
    .unwrap()
}

fn spawn(port: &str, arguments: &[&str]) -> (Child, String) {
    let mut process = Command::new(binary())
        .args(["--port", port])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let endpoint = line.trim().strip_prefix("ready ").unwrap_or_else(|| panic!("not ready: {line:?}"));
    let endpoint = endpoint.to_owned();
    (process, endpoint)
}

/// Beside the tests' own folder: `target/PROFILE/deps/stores-…` and `target/PROFILE/cosmos-emulator`.
fn binary() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let profile = tests.parent().and_then(|deps| deps.parent()).unwrap();
    let binary = profile.join(format!("cosmos-emulator{}", std::env::consts::EXE_SUFFIX));
    assert!(
        binary.is_file(),
        "{} is missing; build it first, in the same profile as the tests: cargo build -p cosmos-emulator",
        binary.display()
    );
    binary
}
