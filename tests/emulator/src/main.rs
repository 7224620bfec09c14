//! Microsoft's in-memory Cosmos DB emulator behind HTTP on loopback, for development and tests.
//!
//! `azure_data_cosmos_driver` carries an emulator that answers whole requests inside a process. This
//! program puts a socket in front of it, so that the real agent, and any other Cosmos client, can be
//! tried against it as a separate process, without Docker and without an account. It speaks HTTP/1.1, and
//! HTTP/2 to clients that begin with it, as Microsoft's own Rust SDK does unless told otherwise.
//!
//! What it does to requests on their way: the trailing slash that other clients send is dropped
//! (the emulator follows the service in refusing it), and containers made while `--throughput` is in
//! force get that throughput unless the request names its own.
//!
//! Limits: everything is in memory and gone at exit; time to live is stored and never carried out; any
//! account key and any token is accepted; a request body may have 4 MiB (the service takes items of
//! 2 MiB); only loopback is served, because nothing here is authenticated.

mod server;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::net::TcpListener;

/// Serves Microsoft's in-memory Azure Cosmos DB emulator over HTTP on 127.0.0.1 until it is stopped.
///
/// Prints `ready http://127.0.0.1:PORT` once it accepts connections. Data lives in memory and ends with
/// the process. Any account key is accepted; documentation and tools use the public one of the emulators:
/// C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw==
#[derive(Parser)]
#[command(name = "cosmos-emulator", version)]
struct Arguments {
    /// Port on 127.0.0.1; 0 takes a free one, which the `ready` line names
    #[arg(long, default_value_t = 8081)]
    port: u16,

    /// Request units per second of each container; beyond them requests get 429 with a time to wait.
    /// As in the service the figure is shared out evenly to the physical partitions, of which a
    /// container here always has four, so a single tenant and day has a quarter. At least 400.
    /// Without it nothing is throttled
    #[arg(long, value_name = "RU_PER_SECOND", value_parser = clap::value_parser!(u64).range(400..))]
    throughput: Option<u64>,

    /// Holds each answer back for so many milliseconds
    #[arg(long, value_name = "N", default_value_t = 0)]
    latency_ms: u64,

    /// Denies these permissions of the data plane as the service does to a principal without the role:
    /// metadata, create, read, replace, query, delete
    #[arg(long, value_name = "ACTION", value_delimiter = ',')]
    deny: Vec<server::Action>,

    /// Puts the clock that answers carry (their `Date`) so many seconds forward, or back
    #[arg(long, value_name = "SECONDS", default_value_t = 0, allow_negative_numbers = true)]
    clock_offset: i64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            complain(&message);
            ExitCode::from(2)
        }
    }
}

/// Binds, announces itself, and serves until SIGINT or SIGTERM.
async fn run(arguments: &Arguments) -> Result<(), String> {
    let listener = TcpListener::bind(("127.0.0.1", arguments.port)).await.map_err(|error| {
        format!("cannot listen on 127.0.0.1:{}: {error}; choose another --port", arguments.port)
    })?;
    let address = listener.local_addr().map_err(|error| format!("no local address: {error}"))?;
    // The account document names the endpoint that clients go to, so it must carry the real port.
    let origin = format!("http://{address}");
    let latency = Duration::from_millis(arguments.latency_ms);
    let faults =
        server::Faults { latency, denied: arguments.deny.clone(), clock_offset: arguments.clock_offset };
    let server = server::Server::new(&origin, arguments.throughput, faults)?;

    let stop = stop_signal()?;
    announce(&origin).map_err(|error| format!("cannot write to standard output: {error}"))?;
    server.serve(listener, stop).await;
    Ok(())
}

/// Completes on the first SIGINT or SIGTERM; the handlers are in place when this returns.
#[cfg(unix)]
fn stop_signal() -> Result<impl Future<Output = ()>, String> {
    use tokio::signal::unix::{SignalKind, signal};
    let handler = |kind| signal(kind).map_err(|error| format!("cannot handle signals: {error}"));
    let mut terminate = handler(SignalKind::terminate())?;
    let mut interrupt = handler(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Completes on Ctrl-C.
#[cfg(not(unix))]
fn stop_signal() -> Result<impl Future<Output = ()>, String> {
    Ok(async {
        // Without a handler the system ends the process on Ctrl-C, which is as good.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

/// The one line of standard output that scripts wait for.
fn announce(origin: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready {origin}")?;
    out.flush()
}

/// One line on standard error; a closed one is no reason to fail.
pub(crate) fn complain(message: &str) {
    let _ = writeln!(std::io::stderr().lock(), "cosmos-emulator: {message}");
}
