//! One blocking thread that keeps a request under way on each of its connections, and checks what comes back.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;

use super::{PATIENCE, ServedFile};

/// Bytes read at a time: more than a small answer with its head, and small enough to stay in the processor's cache.
const ROOM_BYTES: usize = 128 << 10;

/// Every byte of each seventeenth answer is compared with the file: comparing all of them would make the client the limit. A
/// prime, so that every connection has its turn.
const COMPARED_EVERY: u64 = 17;

pub(crate) struct Client {
    connections: Vec<TcpStream>,
    request: Vec<u8>,
    expected: Bytes,
    room: Vec<u8>,
    answers: u64,
}

impl Client {
    pub(crate) fn connect(server: SocketAddr, file: &ServedFile) -> io::Result<Self> {
        let connect = |_| {
            let stream = TcpStream::connect(server)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        Ok(Self {
            connections: (0..file.connections).map(connect).collect::<io::Result<_>>()?,
            request: format!("GET /{} HTTP/1.1\r\nHost: {server}\r\n\r\n", file.name).into_bytes(),
            expected: file.bytes.clone(),
            room: vec![0; ROOM_BYTES],
            answers: 0,
        })
    }

    /// Asks on every connection, and again as soon as an answer is there, for as long as `goes_on`. Returns how many answers
    /// there were; none is under way afterwards.
    pub(crate) fn load(&mut self, mut goes_on: impl FnMut() -> bool) -> io::Result<u64> {
        let before = self.answers;
        for number in 0..self.connections.len() {
            self.ask(number)?;
        }
        while goes_on() {
            for number in 0..self.connections.len() {
                self.read_answer(number)?;
                self.ask(number)?;
            }
        }
        for number in 0..self.connections.len() {
            self.read_answer(number)?;
        }
        Ok(self.answers - before)
    }

    fn ask(&mut self, number: usize) -> io::Result<()> {
        self.connections[number].write_all(&self.request)
    }

    /// Reads one answer to its end. Its status and length are those of the file, always; its bytes are compared now and then.
    fn read_answer(&mut self, number: usize) -> io::Result<()> {
        let is_compared = self.answers.is_multiple_of(COMPARED_EVERY);
        let stream = &mut self.connections[number];
        let mut filled = 0;
        let head = loop {
            filled += read_some(stream, &mut self.room[filled..])?;
            if let Some(length) = head_length(&self.room[..filled], self.expected.len())? {
                break length;
            }
        };
        let mut body = 0;
        let mut arrived = head..filled;
        loop {
            let part = &self.room[arrived];
            let rest = self.expected.get(body..).unwrap_or_default();
            if part.len() > rest.len() || (is_compared && part != &rest[..part.len()]) {
                return Err(wrong("the body differs from the file"));
            }
            body += part.len();
            if body == self.expected.len() {
                self.answers += 1;
                return Ok(());
            }
            arrived = 0..read_some(stream, &mut self.room)?;
        }
    }
}

fn read_some(stream: &mut TcpStream, room: &mut [u8]) -> io::Result<usize> {
    match stream.read(room)? {
        0 => Err(wrong("the server closed the connection within an answer")),
        bytes => Ok(bytes),
    }
}

/// How long the head of the answer is, once it is whole. It must announce the file's length.
fn head_length(received: &[u8], expected: usize) -> io::Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(received).map_err(|error| wrong(&format!("the head of the answer: {error}")))?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    let announced = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let announced = announced.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
    if response.code != Some(200) || announced != Some(expected) {
        return Err(wrong(&format!("status {:?} and length {announced:?}, not 200 and {expected}", response.code)));
    }
    Ok(Some(length))
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
