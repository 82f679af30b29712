//! A client that sees bytes: what is sent is written out, what comes is kept as it came.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use super::server::PATIENCE;

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
}

/// An answer, head as text without its last empty line.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, received: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// GET over HTTP/1.1 with these further header lines.
    pub(crate) fn get(&mut self, target: &str, lines: &[&str]) -> Answer {
        self.ask("GET", target, lines)
    }

    pub(crate) fn ask(&mut self, method: &str, target: &str, lines: &[&str]) -> Answer {
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: ringboot\r\n{lines}\r\n"));
        self.answer(method != "HEAD")
    }

    /// The next answer; its body is as long as Content-Length says.
    pub(crate) fn answer(&mut self, has_body: bool) -> Answer {
        let head = self.head().expect("an answer");
        let len = head.value("Content-Length").map_or(0, |len| len.parse().unwrap());
        let body = if has_body && head.status() != 304 { self.body(len) } else { Vec::new() };
        Answer { body, ..head }
    }

    /// The next head; None where the connection ends before it.
    pub(crate) fn head(&mut self) -> Option<Answer> {
        loop {
            if let Some(end) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = self.received.split_off(end + 4);
                let head = std::mem::replace(&mut self.received, rest);
                return Some(Answer {
                    head: String::from_utf8(head[..end + 2].to_vec()).unwrap(),
                    body: Vec::new(),
                });
            }
            if self.read() == 0 {
                assert!(
                    self.received.is_empty(),
                    "a head cut short: {:?}",
                    self.received.escape_ascii().to_string()
                );
                return None;
            }
        }
    }

    pub(crate) fn body(&mut self, len: usize) -> Vec<u8> {
        while self.received.len() < len {
            assert!(self.read() > 0, "a body cut short at {} of {len}", self.received.len());
        }
        let rest = self.received.split_off(len);
        std::mem::replace(&mut self.received, rest)
    }

    /// Everything until the connection ends, however it ends.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.read() > 0 {}
        std::mem::take(&mut self.received)
    }

    /// Waits for the end of the connection, which must come without another byte.
    pub(crate) fn expect_end(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "more came: {:?}", rest.escape_ascii().to_string());
    }

    pub(crate) fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// A reset counts as an end.
    fn read(&mut self) -> usize {
        let mut piece = [0; 64 * 1024];
        match self.stream.read(&mut piece) {
            Ok(len) => {
                self.received.extend_from_slice(&piece[..len]);
                len
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) =>
            {
                0
            }
            Err(error) => panic!("reading: {error}, after {} bytes", self.received.len()),
        }
    }
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The value of a header whose name is spelt exactly so.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}
