//! Request lines that never end: counted as their bytes pass, so that they get 414 and not a large buffer (H-32).

use super::limits::REQUEST_LINE_BYTES_MAX;

/// What the parser is given in place of the rest of an endless line: the end of a head that parses and can not be answered
/// but with 414.
const VERSION: &[u8] = b"HTTP/1.1";
const HEAD_END: &[u8] = b"\r\nHost: ringboot\r\nConnection: close\r\n\r\n";

/// Watches the bytes of one connection on their way to the parser. It follows heads only; [`LineGuard::stop`] ends its watch
/// where a request has a body, whose lines would look like heads.
#[derive(Debug, Default)]
pub struct LineGuard {
    state: State,
    /// Bytes of the line so far, its spaces, and the bytes after the last of them.
    line: usize,
    spaces: usize,
    word: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// In a request line, or before it (empty lines before it are allowed, RFC 9112 §2.2).
    #[default]
    RequestLine,
    Headers,
    /// A request line was cut: nothing that follows counts.
    Cut,
    Stopped,
}

impl LineGuard {
    /// Looks at bytes as they arrive, and ends a request line that is too long.
    pub fn pass(&mut self, bytes: &mut Vec<u8>) {
        let mut end = None;
        for (at, &byte) in bytes.iter().enumerate() {
            match (self.state, byte) {
                (State::Stopped, _) => return,
                (State::Cut, _) => break,
                (_, b'\r') => {}
                (_, b'\n') => {
                    self.state = if self.line == 0 { State::RequestLine } else { State::Headers };
                    (self.line, self.spaces, self.word) = (0, 0, 0);
                }
                (State::RequestLine, _) if self.line == REQUEST_LINE_BYTES_MAX => {
                    self.state = State::Cut;
                    end = Some(at);
                }
                (_, byte) => {
                    self.line += 1;
                    self.word += 1;
                    if byte == b' ' {
                        (self.spaces, self.word) = (self.spaces + 1, 0);
                    }
                }
            }
        }
        match (end, self.state) {
            (Some(at), _) => {
                bytes.truncate(at);
                // The line may have been cut in its last word.
                if self.spaces < 2 {
                    bytes.push(b' ');
                    bytes.extend_from_slice(VERSION);
                } else {
                    bytes.extend_from_slice(VERSION.get(self.word..).unwrap_or_default());
                }
                bytes.extend_from_slice(HEAD_END);
            }
            (None, State::Cut) => bytes.clear(),
            _ => {}
        }
    }

    /// Ends the watch.
    pub fn stop(&mut self) {
        if self.state != State::Cut {
            self.state = State::Stopped;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(guard: &mut LineGuard, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        guard.pass(&mut bytes);
        bytes
    }

    #[test]
    fn h32_an_endless_request_line_is_cut_and_what_follows_is_thrown_away() {
        let mut guard = LineGuard::default();
        assert_eq!(pass(&mut guard, b"GET /"), b"GET /");
        let piece = vec![b'a'; 4000];
        assert_eq!(pass(&mut guard, &piece), piece);
        assert_eq!(pass(&mut guard, &piece), piece);
        let cut = pass(&mut guard, &piece);
        assert_eq!(cut.len(), REQUEST_LINE_BYTES_MAX - 8005 + 1 + VERSION.len() + HEAD_END.len());
        assert!(cut.ends_with(HEAD_END));
        assert_eq!(pass(&mut guard, &piece), b"");
    }

    #[test]
    fn h32_a_line_that_is_cut_anywhere_near_its_end_still_parses() {
        for over in 1..40 {
            let target = "a".repeat(REQUEST_LINE_BYTES_MAX - "GET / HTTP/1.1".len() + over);
            let head = pass(&mut LineGuard::default(), format!("GET /{target} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
            let line = head.split(|&b| b == b'\r').next().unwrap_or_default();
            assert!(line.ends_with(b"a HTTP/1.1") && line.len() > REQUEST_LINE_BYTES_MAX, "{over}");
        }
    }

    #[test]
    fn h32_lines_within_the_limit_pass_in_any_number() {
        let mut guard = LineGuard::default();
        let request = format!("GET /{} HTTP/1.1\r\nHost: h\r\nCookie: {}\r\n\r\n", "a".repeat(8000), "c".repeat(9000));
        for _ in 0..5 {
            assert_eq!(pass(&mut guard, request.as_bytes()), request.as_bytes());
            assert_eq!(pass(&mut guard, b"\r\n"), b"\r\n");
        }
        assert_eq!(guard.state, State::RequestLine);
    }

    #[test]
    fn h32_a_body_is_not_taken_for_a_line() {
        let mut guard = LineGuard::default();
        pass(&mut guard, b"GET / HTTP/1.1\r\nContent-Length: 20000\r\n\r\n");
        guard.stop();
        let body = vec![b'x'; 20_000];
        assert_eq!(pass(&mut guard, &body), body);
    }
}
