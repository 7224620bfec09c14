//! The HTTP side: reads a request whole, hands it to the emulator, writes its answer. What the emulator has no
//! notion of and the service does, a missing permission and a clock of its own, is added here.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use azure_core::http::headers::{HeaderName, HeaderValue};
use azure_core::http::{Method, Request as EmulatorRequest, Url};
use azure_core::time::{OffsetDateTime, to_rfc7231};
use azure_data_cosmos_driver::in_memory_emulator::{
    InMemoryEmulatorHttpClient, VirtualAccountConfig, VirtualRegion,
};
use bytes::Bytes;
use clap::ValueEnum;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};

use crate::complain;

/// The longest request body, bytes. The service's own limit for a request is 2 MiB and some.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// How long a client may take for a request's head; it also ends connections that say nothing.
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);

/// What a role of the data plane grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Action {
    Metadata,
    Create,
    Read,
    Replace,
    Query,
    Delete,
}

impl Action {
    /// What a request needs; `None` for the account document, which every principal may read.
    fn of(method: &hyper::Method, path: &str, headers: &hyper::HeaderMap) -> Option<Self> {
        let is = |name: &str, value: &str| {
            headers.get(name).and_then(|v| v.to_str().ok()).is_some_and(|v| v.eq_ignore_ascii_case(value))
        };
        let documents = path.split('/').nth(5) == Some("docs");
        Some(match *method {
            _ if path.len() <= 1 => return None,
            hyper::Method::GET | hyper::Method::HEAD if !documents => Self::Metadata,
            hyper::Method::GET | hyper::Method::HEAD => Self::Read,
            // Databases and containers are made by an account key, which has no role.
            _ if !documents => return None,
            hyper::Method::POST if is("x-ms-documentdb-isquery", "true") => Self::Query,
            hyper::Method::POST if is("content-type", "application/query+json") => Self::Query,
            hyper::Method::POST => Self::Create,
            hyper::Method::DELETE => Self::Delete,
            _ => Self::Replace,
        })
    }

    /// As the service calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Metadata => "Microsoft.DocumentDB/databaseAccounts/readMetadata",
            Self::Create => "Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers/items/create",
            Self::Read => "Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers/items/read",
            Self::Replace => "Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers/items/replace",
            Self::Query => "Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers/executeQuery",
            Self::Delete => "Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers/items/delete",
        }
    }
}

/// What is wrong with this account.
pub(crate) struct Faults {
    pub(crate) latency: Duration,
    pub(crate) denied: Vec<Action>,
    /// Seconds.
    pub(crate) clock_offset: i64,
}

/// The emulator and what is done to the requests on their way to it.
pub(crate) struct Server {
    emulator: InMemoryEmulatorHttpClient,
    origin: Url,
    throughput: Option<u64>,
    faults: Faults,
}

impl Server {
    /// `origin` is what the account document names as its endpoint; `throughput` is RU/s.
    pub(crate) fn new(origin: &str, throughput: Option<u64>, faults: Faults) -> Result<Arc<Self>, String> {
        let origin = Url::parse(origin).map_err(|error| format!("{origin} is no address: {error}"))?;
        let emulator = VirtualAccountConfig::new(vec![VirtualRegion::new("Local", origin.clone())])
            .map(|account| account.with_throttling_enabled(throughput.is_some()))
            .and_then(InMemoryEmulatorHttpClient::try_new)
            .map_err(|error| format!("the emulator does not start: {error}"))?;
        Ok(Arc::new(Self { emulator, origin, throughput, faults }))
    }

    /// Serves each connection in a task of its own until `stop` completes.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => drop(tokio::spawn(Arc::clone(&self).connection(stream))),
                Err(error) => {
                    // Mostly "too many open files": wait until others end instead of spinning.
                    complain(&format!("cannot accept a connection: {error}"));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        // Answers are small and clients wait for them, so they must not wait for more to send.
        let _ = stream.set_nodelay(true);
        let service = service_fn(move |request| {
            let server = Arc::clone(&self);
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        // A client that goes away in the middle ends its connection with an error: its own business.
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        builder.http2().timer(TokioTimer::new());
        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let action = Action::of(request.method(), request.uri().path(), request.headers());
        let mut answer = match action.filter(|action| self.faults.denied.contains(action)) {
            Some(action) => denial(action),
            None => match self.take(request).await {
                Ok(request) => self.ask(&request).await,
                Err((status, message)) => refusal(status, &message),
            },
        };
        if self.faults.clock_offset != 0 {
            let date =
                OffsetDateTime::now_utc() + azure_core::time::Duration::seconds(self.faults.clock_offset);
            if let Ok(date) = hyper::header::HeaderValue::from_str(&to_rfc7231(&date)) {
                answer.headers_mut().insert(hyper::header::DATE, date);
            }
        }
        if !self.faults.latency.is_zero() {
            tokio::time::sleep(self.faults.latency).await;
        }
        answer
    }

    /// Turns the request from the wire into the emulator's.
    async fn take(&self, request: Request<Incoming>) -> Result<EmulatorRequest, (StatusCode, String)> {
        let (head, body) = request.into_parts();
        let method = method(&head.method).ok_or_else(|| {
            (StatusCode::METHOD_NOT_ALLOWED, format!("{} is not a method of Cosmos DB", head.method))
        })?;
        // Whatever host name the client used for loopback, the emulator knows one.
        let mut url = self.origin.clone();
        url.set_path(head.uri.path());
        if url.path().len() > 1 {
            let path = url.path().trim_end_matches('/').to_owned();
            url.set_path(&path);
        }
        url.set_query(head.uri.query());
        let creates_container = method == Method::Post && is_containers(url.path());

        let mut taken = EmulatorRequest::new(url, method);
        for (name, value) in &head.headers {
            let Ok(value) = value.to_str() else {
                return Err((StatusCode::BAD_REQUEST, format!("the header {name} is not text")));
            };
            taken
                .headers_mut()
                .insert(HeaderName::from(name.as_str().to_owned()), HeaderValue::from(value.to_owned()));
        }
        if let Some(throughput) = self.throughput
            && creates_container
            && !head.headers.contains_key("x-ms-offer-throughput")
        {
            taken.insert_header("x-ms-offer-throughput", throughput.to_string());
        }
        // Said in advance, or found out on the way.
        if body.size_hint().lower() > MAX_BODY as u64 {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, format!("a request has at most {MAX_BODY} bytes")));
        }
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| {
            let status = match error.downcast_ref::<http_body_util::LengthLimitError>() {
                Some(_) => StatusCode::PAYLOAD_TOO_LARGE,
                None => StatusCode::BAD_REQUEST,
            };
            (status, format!("the request's body cannot be read: {error}"))
        })?;
        taken.set_body(body.to_bytes());
        Ok(taken)
    }

    async fn ask(&self, request: &EmulatorRequest) -> Response<Full<Bytes>> {
        let answer = match self.emulator.execute_request(request).await {
            Ok(answer) => answer.try_into_raw_response().await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let (status, headers, body) = match answer {
            Ok(answer) => answer.deconstruct(),
            Err(message) => return refusal(StatusCode::INTERNAL_SERVER_ERROR, &message),
        };
        let mut response = Response::builder().status(u16::from(status));
        for (name, value) in headers.iter() {
            // hyper frames the message itself.
            if !matches!(name.as_str(), "content-length" | "transfer-encoding" | "connection") {
                response = response.header(name.as_str(), value.as_str());
            }
        }
        response
            .body(Full::new(Bytes::from(body)))
            .unwrap_or_else(|error| refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()))
    }
}

/// The emulator's name for a method of the wire.
fn method(method: &hyper::Method) -> Option<Method> {
    Some(match *method {
        hyper::Method::GET => Method::Get,
        hyper::Method::HEAD => Method::Head,
        hyper::Method::POST => Method::Post,
        hyper::Method::PUT => Method::Put,
        hyper::Method::PATCH => Method::Patch,
        hyper::Method::DELETE => Method::Delete,
        _ => return None,
    })
}

/// Whether a path is `/dbs/NAME/colls`.
fn is_containers(path: &str) -> bool {
    let mut segments = path.split('/').skip(1);
    segments.next() == Some("dbs")
        && segments.next().is_some()
        && segments.next() == Some("colls")
        && segments.next().is_none()
}

/// What a principal is told whose role lacks an action.
fn denial(action: Action) -> Response<Full<Bytes>> {
    let message = format!(
        "Request blocked by Auth gitops : Request is blocked because principal [00000000-1111-2222-3333-444444444444] does not have required RBAC permissions to perform action [{}] on resource [dbs/gitops/colls/commits].",
        action.name()
    );
    let mut response = refusal(StatusCode::FORBIDDEN, &message);
    let sub_status = hyper::header::HeaderValue::from_static("5301");
    response.headers_mut().insert("x-ms-substatus", sub_status);
    response
}

/// An answer of this server's own, in the form of the service's errors.
fn refusal(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let text: String =
        message.chars().map(|c| if c.is_control() || c == '"' || c == '\\' { ' ' } else { c }).collect();
    let body = format!(r#"{{"code":"{}","message":"{text}"}}"#, status.as_u16());
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_needs_one_action() {
        use hyper::{HeaderMap, Method};
        let mut query = HeaderMap::new();
        query.insert("x-ms-documentdb-isquery", hyper::header::HeaderValue::from_static("True"));
        let docs = "/dbs/d/colls/c/docs";
        for (method, path, headers, action) in [
            (Method::GET, "/", HeaderMap::new(), None),
            (Method::GET, "/dbs/d/colls/c/pkranges", HeaderMap::new(), Some(Action::Metadata)),
            (Method::GET, "/dbs/d/colls/c/docs/1", HeaderMap::new(), Some(Action::Read)),
            (Method::POST, "/dbs/d/colls", HeaderMap::new(), None),
            (Method::POST, docs, HeaderMap::new(), Some(Action::Create)),
            (Method::POST, docs, query, Some(Action::Query)),
            (Method::PUT, "/dbs/d/colls/c/docs/1", HeaderMap::new(), Some(Action::Replace)),
            (Method::DELETE, "/dbs/d/colls/c/docs/1", HeaderMap::new(), Some(Action::Delete)),
        ] {
            assert_eq!(Action::of(&method, path, &headers), action, "{method} {path}");
        }
    }

    #[test]
    fn only_the_list_of_containers_creates_one() {
        assert!(is_containers("/dbs/gitops/colls"));
        assert!(!is_containers("/dbs/gitops/colls/commits"));
        assert!(!is_containers("/dbs/gitops"));
        assert!(!is_containers("/offers/x/colls"));
    }
}
