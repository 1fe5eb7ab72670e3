//! A server that answers from a list, in the clear or over TLS, and remembers what it was asked; and a proxy.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What a Viewer query is answered with.
pub const VIEWER: &str = r#"{"data":{"viewer":{"id":"u","entity":"team","username":"ada","email":"","teams":null}}}"#;

/// One answer: status, further header lines, body.
pub type Answer = (u16, String, String);

/// An answer without further headers.
pub fn answer(status: u16, body: &str) -> Answer {
    (status, String::new(), body.to_owned())
}

/// The server; after its list it answers as to a Viewer query.
#[derive(Clone)]
pub struct Scripted {
    pub address: String,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    /// Heads and bodies of all requests.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    pub async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::listen(answers, None).await
    }

    pub async fn with_tls(answers: impl IntoIterator<Item = Answer>) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls");
        let chain = vec![CertificateDer::from_pem_file(folder.join("server.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
        Self::listen(answers, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn listen(answers: impl IntoIterator<Item = Answer>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server =
            Self { address, answers: Arc::new(Mutex::new(answers.into_iter().collect())), seen: Arc::default() };
        let own = server.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (own, tls) = (own.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => own.serve(socket).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(socket).await {
                                own.serve(stream).await;
                            }
                        }
                    }
                });
            }
        });
        server
    }

    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    async fn serve(self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let Some(request) = read_request(&mut stream).await else { return };
        self.seen.lock().unwrap().push(request);
        let next = self.answers.lock().unwrap().pop_front();
        let (status, headers, body) = next.unwrap_or_else(|| answer(200, VIEWER));
        let length = body.len();
        let text =
            format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}");
        let _ = stream.write_all(text.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

/// A proxy that opens a tunnel to `target` whatever it is asked for, or shows the door without the right password.
pub struct Tunnel {
    pub address: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Tunnel {
    pub async fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tunnel = Self { address: listener.local_addr().unwrap().to_string(), seen: Arc::default() };
        let seen = Arc::clone(&tunnel.seen);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (seen, target) = (Arc::clone(&seen), target.clone());
                tokio::spawn(async move {
                    let Some(request) = read_request(&mut socket).await else { return };
                    seen.lock().unwrap().push(request);
                    let mut far = TcpStream::connect(target).await.unwrap();
                    socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut socket, &mut far).await;
                });
            }
        });
        tunnel
    }

    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(text.into_owned());
            }
        }
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
    }
}
