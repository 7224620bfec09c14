//! A loopback proxy between the real agent and the real emulator that does to requests and answers what networks,
//! middlemen and overloaded services do. Standard library only: it must be able to send what no HTTP library would.
//!
//! It understands just enough of HTTP/1.1 to tell requests apart, to count them and to cut answers at chosen
//! places. The account document names the endpoint that clients go to, so the proxy puts itself there.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The account document.
    Account,
    /// Databases, containers, their partitions.
    Metadata,
    Create,
    Read,
    Replace,
    Query,
}

/// What is done to a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection ends before the request is passed on.
    CutBefore,
    /// The request is passed on; the connection ends in the middle of the answer's head.
    CutInHead,
    /// The same in the middle of its body.
    CutInBody,
    /// The request is passed on; its answer, and the body it announces, end half way, as if that were all of it.
    Truncate,
    /// The request is passed on, and its answer held back.
    Delay(Duration),
    /// Nothing is passed on: this is the answer.
    Answer(Reply),
    /// The request is passed on, and this is the answer instead of its own.
    AnswerAfter(Reply),
    /// Nothing is passed on: these bytes are sent, and the connection ends.
    Bytes(Vec<u8>),
}

/// An answer of the proxy's own.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    /// `{signature}` stands for the signature of the request, which services like to repeat.
    pub body: String,
}

impl Reply {
    /// An error in the service's form.
    pub fn json(status: u16, sub_status: Option<u32>, message: &str) -> Self {
        let body = format!(r#"{{"code":"Fault","message":"{message}"}}"#);
        let headers = sub_status.map(|code| ("x-ms-substatus", code.to_string())).into_iter().collect();
        Self { status, headers, body }.with("content-type", "application/json")
    }

    pub fn plain(status: u16, kind: &str, body: &str) -> Self {
        Self { status, headers: Vec::new(), body: body.to_owned() }.with("content-type", kind)
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn bytes(&self, signature: &str) -> Vec<u8> {
        let body = self.body.replace("{signature}", signature);
        let mut text = format!("HTTP/1.1 {} Fault\r\ncontent-length: {}\r\n", self.status, body.len());
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        format!("{text}\r\n{body}").into_bytes()
    }
}

/// A request that came by.
#[derive(Clone, Debug)]
pub struct Seen {
    pub operation: Operation,
    pub at: Instant,
    /// The store's own answer, where the request reached it.
    pub answered: Option<u16>,
    /// Whether something was done to it.
    pub hit: bool,
}

#[derive(Default)]
struct Script {
    fault: Option<(Operation, usize, Fault)>,
    seen: Vec<Seen>,
    signatures: Vec<String>,
}

/// A running proxy. Its threads end with the connections, the listening one with the test process.
pub struct Proxy {
    endpoint: String,
    script: Arc<Mutex<Script>>,
}

impl Proxy {
    /// In front of `upstream`, `http://127.0.0.1:PORT`.
    pub fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(Script::default()));
        let way = Way { upstream: upstream.to_owned(), own: endpoint.clone(), script: Arc::clone(&script) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let way = way.clone();
                // A client that goes away in the middle ends its thread with an error, which is its own business.
                std::thread::spawn(move || way.serve(&stream));
            }
        });
        Self { endpoint, script }
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Does this to the next `times` requests of a kind.
    pub fn set(&self, operation: Operation, times: usize, fault: Fault) {
        self.script.lock().unwrap().fault = Some((operation, times, fault));
    }

    /// From now on everything passes.
    pub fn lift(&self) {
        self.script.lock().unwrap().fault = None;
    }

    /// Everything that came by.
    pub fn seen(&self) -> Vec<Seen> {
        self.script.lock().unwrap().seen.clone()
    }

    /// The signatures and tokens of all requests.
    pub fn signatures(&self) -> Vec<String> {
        self.script.lock().unwrap().signatures.clone()
    }
}

#[derive(Clone)]
struct Way {
    upstream: String,
    own: String,
    script: Arc<Mutex<Script>>,
}

/// A message as it came: the lines of its head, without line ends, and its body.
struct Message {
    head: Vec<String>,
    body: Vec<u8>,
}

impl Message {
    /// `None` where the connection ends instead.
    fn read(stream: &mut impl std::io::BufRead) -> std::io::Result<Option<Self>> {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let line = line.trim_end().to_owned();
            if line.is_empty() {
                break;
            }
            head.push(line);
        }
        let mut message = Self { head, body: Vec::new() };
        let length = message.header("content-length").map_or(0, |length| length.parse().unwrap());
        message.body = vec![0; length];
        stream.read_exact(&mut message.body)?;
        Ok(Some(message))
    }

    fn header(&self, wanted: &str) -> Option<&str> {
        self.head.iter().skip(1).find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    }

    /// With a body of its own length, or of the one that is claimed.
    fn head_bytes(&self, length: usize, last: &str) -> Vec<u8> {
        let mut text = String::new();
        for line in &self.head {
            let name = line.split(':').next().unwrap().to_ascii_lowercase();
            if name != "content-length" && name != "connection" {
                text.push_str(&format!("{line}\r\n"));
            }
        }
        format!("{text}content-length: {length}\r\n{last}\r\n").into_bytes()
    }

    fn operation(&self) -> Operation {
        let mut words = self.head[0].split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let query =
            self.header("x-ms-documentdb-isquery").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        match (method, path.split('/').nth(5)) {
            _ if path == "/" => Operation::Account,
            ("GET", Some("docs")) => Operation::Read,
            ("POST", Some("docs")) if query => Operation::Query,
            ("POST", Some("docs")) => Operation::Create,
            ("PUT", Some("docs")) => Operation::Replace,
            _ => Operation::Metadata,
        }
    }
}

impl Way {
    fn serve(&self, stream: &TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut requests = BufReader::new(stream.try_clone()?);
        let mut client = stream.try_clone()?;
        while let Some(request) = Message::read(&mut requests)? {
            if !self.answer(&request, &mut client)? {
                stream.shutdown(std::net::Shutdown::Both)?;
                break;
            }
        }
        Ok(())
    }

    /// Whether the connection goes on.
    fn answer(&self, request: &Message, client: &mut TcpStream) -> std::io::Result<bool> {
        let operation = request.operation();
        let signature = request.header("authorization").unwrap_or_default().to_owned();
        let (fault, place) = {
            let mut script = self.script.lock().unwrap();
            let fault = match &mut script.fault {
                Some((on, times, fault)) if *on == operation && *times > 0 => {
                    *times -= 1;
                    Some(fault.clone())
                }
                _ => None,
            };
            script.seen.push(Seen { operation, at: Instant::now(), answered: None, hit: fault.is_some() });
            script.signatures.push(signature.clone());
            (fault, script.seen.len() - 1)
        };
        match &fault {
            Some(Fault::CutBefore) => return Ok(false),
            Some(Fault::Answer(reply)) => return client.write_all(&reply.bytes(&signature)).map(|()| true),
            Some(Fault::Bytes(bytes)) => return client.write_all(bytes).map(|()| false),
            _ => {}
        }
        let reply = self.forward(request)?;
        let status = reply.head[0].split(' ').nth(1).unwrap().parse().unwrap();
        self.script.lock().unwrap().seen[place].answered = Some(status);
        let whole = reply.head_bytes(reply.body.len(), "");
        let half = reply.body.len() / 2;
        match fault {
            Some(Fault::CutInHead) => client.write_all(&whole[..whole.len() / 2]).map(|()| false),
            Some(Fault::CutInBody) => {
                // An answer without a body gets one that never comes.
                client.write_all(&reply.head_bytes(reply.body.len().max(64), ""))?;
                client.write_all(&reply.body[..half]).map(|()| false)
            }
            Some(Fault::Truncate) => {
                client.write_all(&reply.head_bytes(half, ""))?;
                client.write_all(&reply.body[..half]).map(|()| true)
            }
            Some(Fault::AnswerAfter(own)) => client.write_all(&own.bytes(&signature)).map(|()| true),
            other => {
                if let Some(Fault::Delay(time)) = other {
                    std::thread::sleep(time);
                }
                client.write_all(&whole)?;
                client.write_all(&reply.body).map(|()| true)
            }
        }
    }

    fn forward(&self, request: &Message) -> std::io::Result<Message> {
        let mut stream = TcpStream::connect(&self.upstream["http://".len()..])?;
        stream.write_all(&request.head_bytes(request.body.len(), "connection: close\r\n"))?;
        stream.write_all(&request.body)?;
        let mut reply = Message::read(&mut BufReader::new(stream))?
            .ok_or_else(|| std::io::Error::other("the emulator did not answer"))?;
        if request.operation() == Operation::Account {
            reply.body =
                String::from_utf8(reply.body).unwrap().replace(&self.upstream, &self.own).into_bytes();
        }
        Ok(reply)
    }
}
