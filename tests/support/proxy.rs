//! A proxy before a real server that makes chosen requests go wrong, and remembers what passed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy)]
pub enum Wrong {
    /// The connection breaks after this many bytes of the request's body.
    ResetAt(usize),
    /// Nothing more is read after this many bytes of the request's body.
    StallAt(usize),
    /// The answer is this status with these header lines, and the server hears nothing of it.
    Answer(u16, &'static str),
    /// The server does its work, and its answer is lost.
    AnswerLost,
    /// The answer has no `ETag`.
    NoETag,
    /// The answer's JSON is another one.
    Change(fn(&mut Value)),
}

/// A request that came by.
#[derive(Debug, Clone)]
pub struct Passed {
    /// `PUT /storage/upload/…`, without the query.
    pub what: String,
    pub operation: Option<String>,
    /// Bytes of its body that went on to the server.
    pub bytes: usize,
    /// The server's status; 0 when it gave none.
    pub status: u16,
}

#[derive(Default)]
struct State {
    /// What begins so, or is an operation of this name, goes wrong in these ways, one request after another.
    faults: Vec<(String, VecDeque<Wrong>)>,
    passed: Vec<Passed>,
    puts: usize,
    peak: usize,
    /// Wait after each piece of a body.
    slow: Duration,
}

#[derive(Clone)]
pub struct Proxy {
    pub base: String,
    server: String,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// Before the server at `host:port`; it ends with the test's runtime.
    pub async fn before(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let server = server.trim_end_matches('/').trim_start_matches("http://").to_owned();
        let proxy = Self { base, server, state: Arc::default() };
        let own = proxy.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let own = own.clone();
                tokio::spawn(async move { own.serve(socket).await });
            }
        });
        proxy
    }

    /// Makes the next requests that begin with `what`, or run the operation `what`, go wrong.
    pub fn fail(&self, what: &str, faults: impl IntoIterator<Item = Wrong>) {
        self.state.lock().unwrap().faults.push((what.to_owned(), faults.into_iter().collect()));
    }

    pub fn slow_down(&self, wait: Duration) {
        self.state.lock().unwrap().slow = wait;
    }

    pub fn forget(&self) {
        let mut state = self.state.lock().unwrap();
        state.passed.clear();
        state.faults.clear();
        state.peak = 0;
    }

    pub fn passed(&self, what: &str) -> Vec<Passed> {
        let is = |passed: &&Passed| passed.what.starts_with(what) || passed.operation.as_deref() == Some(what);
        self.state.lock().unwrap().passed.iter().filter(is).cloned().collect()
    }

    /// Most uploads that were under way at the same time.
    pub fn peak(&self) -> usize {
        self.state.lock().unwrap().peak
    }

    async fn serve(self, mut socket: TcpStream) -> Option<()> {
        let (head, rest) = read_head(&mut socket).await?;
        let line: Vec<&str> = head.lines().next()?.split(' ').collect();
        let (method, target) = (*line.first()?, *line.get(1)?);
        let what = format!("{method} {}", target.split('?').next()?);
        let length = header(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let busy = (method == "PUT" && what.contains("/storage/")).then(|| Busy::begin(&self));
        let mut exchange = Exchange { proxy: &self, socket, head, rest, length, what, busy };
        exchange.run().await
    }

    fn fault(&self, what: &str, operation: Option<&str>) -> Option<Wrong> {
        let mut state = self.state.lock().unwrap();
        let hit = |(selector, queue): &&mut (String, VecDeque<Wrong>)| {
            !queue.is_empty() && (what.starts_with(selector.as_str()) || operation == Some(selector.as_str()))
        };
        state.faults.iter_mut().find(hit).and_then(|(_, queue)| queue.pop_front())
    }
}

/// One request on its way.
struct Exchange<'a> {
    proxy: &'a Proxy,
    socket: TcpStream,
    head: String,
    /// The beginning of the body.
    rest: Vec<u8>,
    length: usize,
    what: String,
    busy: Option<Busy>,
}

/// An upload counts as under way until its answer goes out.
struct Busy(Proxy);

impl Busy {
    fn begin(proxy: &Proxy) -> Self {
        let mut state = proxy.state.lock().unwrap();
        state.puts += 1;
        state.peak = state.peak.max(state.puts);
        Self(proxy.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().puts -= 1;
    }
}

impl Exchange<'_> {
    async fn run(&mut self) -> Option<()> {
        // Requests of the API are small: read whole, to know the operation.
        let mut operation = None;
        if self.what.ends_with("/graphql") {
            while self.rest.len() < self.length {
                let more = piece(&mut self.socket).await?;
                self.rest.extend(more);
            }
            let request: Value = serde_json::from_slice(&self.rest).unwrap_or_default();
            operation = request["operationName"].as_str().map(str::to_owned);
        }
        let fault = self.proxy.fault(&self.what, operation.as_deref());
        if let Some(Wrong::Answer(status, headers)) = fault {
            let mut left = self.length - self.rest.len();
            while left > 0 {
                left -= piece(&mut self.socket).await?.len();
            }
            self.note(operation, 0, status);
            self.busy = None;
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n{headers}\r\n");
            return self.socket.write_all(answer.as_bytes()).await.ok();
        }
        let (bytes, answer) = self.forward(fault).await;
        let status = answer.as_deref().map_or(0, status_of);
        self.note(operation, bytes, status);
        self.busy = None;
        let answer = match fault {
            Some(Wrong::AnswerLost) => None,
            Some(Wrong::NoETag) => answer.map(without_etag),
            Some(Wrong::Change(change)) => answer.map(|answer| changed(&answer, change)),
            _ => answer,
        };
        self.socket.write_all(&answer?).await.ok()?;
        self.socket.shutdown().await.ok()
    }

    fn note(&self, operation: Option<String>, bytes: usize, status: u16) {
        let passed = Passed { what: self.what.clone(), operation, bytes, status };
        self.proxy.state.lock().unwrap().passed.push(passed);
    }

    /// Sends the request on; how many bytes of its body went, and the answer.
    async fn forward(&mut self, fault: Option<Wrong>) -> (usize, Option<Vec<u8>>) {
        let Ok(mut server) = TcpStream::connect(&self.proxy.server).await else { return (0, None) };
        let head = self.head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
        if server.write_all(head.as_bytes()).await.is_err() {
            return (0, None);
        }
        let (mut sent, mut next) = (0, std::mem::take(&mut self.rest));
        loop {
            let end = match fault {
                Some(Wrong::ResetAt(at) | Wrong::StallAt(at)) => at,
                _ => usize::MAX,
            };
            next.truncate(end - sent);
            if server.write_all(&next).await.is_err() {
                return (sent, None);
            }
            sent += next.len();
            match fault {
                Some(Wrong::ResetAt(at)) if sent >= at => return (sent, None),
                Some(Wrong::StallAt(at)) if sent >= at => {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    return (sent, None);
                }
                _ => {}
            }
            if sent >= self.length {
                break;
            }
            let slow = self.proxy.state.lock().unwrap().slow;
            tokio::time::sleep(slow).await;
            match piece(&mut self.socket).await {
                Some(more) => next = more,
                None => return (sent, None),
            }
        }
        let mut answer = Vec::new();
        let read = server.read_to_end(&mut answer).await;
        (sent, read.ok().filter(|_| !answer.is_empty()).map(|_| answer))
    }
}

async fn piece(socket: &mut TcpStream) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 64 << 10];
    let read = socket.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
    buffer.truncate(read);
    Some(buffer)
}

async fn read_head(socket: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        bytes.extend(piece(socket).await?);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Some((String::from_utf8(bytes).ok()?, rest));
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let pair = |line: &'a str| line.split_once(": ");
    head.lines().filter_map(pair).find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn status_of(answer: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(answer.get(9..12).unwrap_or_default()).into_owned();
    text.parse().unwrap_or(0)
}

fn split(answer: &[u8]) -> (String, &[u8]) {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    (String::from_utf8(answer[..end].to_vec()).unwrap(), &answer[end..])
}

fn without_etag(answer: Vec<u8>) -> Vec<u8> {
    let (head, body) = split(&answer);
    let lines = head.split_inclusive("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("etag:"));
    [lines.collect::<String>().as_bytes(), body].concat()
}

fn changed(answer: &[u8], change: fn(&mut Value)) -> Vec<u8> {
    let (head, body) = split(answer);
    let mut value: Value = serde_json::from_slice(body).unwrap();
    change(&mut value);
    let body = value.to_string();
    let lines = head.split_inclusive("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("content-length:"));
    let head = lines.collect::<String>().replacen("\r\n", &format!("\r\nContent-Length: {}\r\n", body.len()), 1);
    [head.as_bytes(), body.as_bytes()].concat()
}
