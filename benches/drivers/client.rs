//! One thread that keeps a request under way on each of its connections, reads whatever has come,
//! and checks it.
//!
//! It reads as bytes arrive, as machines do. A client that reads one connection after the other
//! leaves the others' buffers full, and then measures how long a server takes to notice that there
//! is room again.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

use super::{PATIENCE, ServedFile};

/// Bytes read at a time: more than a small answer with its head, and small enough to stay in the
/// processor's cache.
const ROOM_BYTES: usize = 128 << 10;

/// Every byte of each seventeenth answer of a connection is compared with the file, the first one
/// included: comparing all of them would make the client the limit.
const COMPARED_EVERY: u64 = 17;

pub(crate) struct Client {
    runtime: Runtime,
    connections: Vec<Connection>,
}

impl Client {
    pub(crate) fn connect(server: SocketAddr, file: &ServedFile) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let connect = |_| runtime.block_on(Connection::open(server, file));
        let connections = (0..file.connections).map(connect).collect::<io::Result<_>>()?;
        Ok(Self { runtime, connections })
    }

    /// Asks on every connection, and again as soon as an answer is there, for this long. Returns
    /// how many answers there were; none is under way afterwards.
    pub(crate) fn load(&mut self, time: Duration) -> io::Result<u64> {
        let end = Instant::now() + time;
        let answers = Rc::new(Cell::new(0));
        let mut tasks = JoinSet::new();
        let local = LocalSet::new();
        for mut connection in self.connections.drain(..) {
            let answers = Rc::clone(&answers);
            let ask = async move {
                loop {
                    connection.ask().await?;
                    answers.set(answers.get() + 1);
                    if Instant::now() >= end {
                        return Ok(connection);
                    }
                }
            };
            tasks.spawn_local_on(ask, &local);
        }
        let all = local.run_until(tasks.join_all());
        let ended = self.runtime.block_on(async { timeout(time + PATIENCE, all).await });
        let ended: Vec<io::Result<Connection>> =
            ended.map_err(|_| wrong("an answer does not come"))?;
        self.connections = ended.into_iter().collect::<io::Result<_>>()?;
        Ok(answers.get())
    }
}

struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    expected: Bytes,
    room: Vec<u8>,
    answers: u64,
}

impl Connection {
    async fn open(server: SocketAddr, file: &ServedFile) -> io::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            request: format!("GET /{} HTTP/1.1\r\nHost: {server}\r\n\r\n", file.name).into_bytes(),
            expected: file.bytes.clone(),
            room: vec![0; ROOM_BYTES],
            answers: 0,
        })
    }

    /// Asks, and reads the answer to its end. Its status and length are those of the file, always;
    /// its bytes are compared now and then.
    async fn ask(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.request).await?;
        let is_compared = self.answers.is_multiple_of(COMPARED_EVERY);
        let mut filled = 0;
        let head = loop {
            filled += read_some(&mut self.stream, &mut self.room[filled..]).await?;
            if let Some(length) = head_length(&self.room[..filled], self.expected.len())? {
                break length;
            }
        };
        let mut body = 0;
        let mut arrived = head..filled;
        loop {
            let part = &self.room[arrived];
            let rest = &self.expected[body..];
            if part.len() > rest.len() || (is_compared && part != &rest[..part.len()]) {
                return Err(wrong("the body differs from the file"));
            }
            body += part.len();
            if body == self.expected.len() {
                self.answers += 1;
                return Ok(());
            }
            arrived = 0..read_some(&mut self.stream, &mut self.room).await?;
        }
    }
}

async fn read_some(stream: &mut TcpStream, room: &mut [u8]) -> io::Result<usize> {
    match stream.read(room).await? {
        0 => Err(wrong("the server closed the connection within an answer")),
        bytes => Ok(bytes),
    }
}

/// How long the head of the answer is, once it is whole. It must announce the file's length.
fn head_length(received: &[u8], expected: usize) -> io::Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response
        .parse(received)
        .map_err(|error| wrong(&format!("the head of the answer: {error}")))?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    let announced =
        response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let announced =
        announced.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
    if response.code != Some(200) || announced != Some(expected) {
        return Err(wrong(&format!(
            "status {:?} and length {announced:?}, not 200 and {expected}",
            response.code
        )));
    }
    Ok(Some(length))
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
