//! A spare descriptor: while no other is free, the driver accepts a waiting client with it,
//! replies, and closes the connection at once.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};

/// Bytes of a request that the driver reads.
const REQUEST_BYTES: usize = 2048;

#[derive(Debug)]
pub(super) struct SpareDescriptor(Option<File>);

impl SpareDescriptor {
    pub(super) fn new() -> Self {
        Self(File::open("/dev/null").ok())
    }

    /// Accepts up to `most` clients one after the other, and closes each. `answer` gets the bytes
    /// that a client has sent, and returns the reply. Waits for no client. Returns the number of
    /// clients.
    pub(super) fn turn_away(
        &mut self,
        listener: &TcpListener,
        most: usize,
        answer: &mut impl FnMut(&[u8]) -> Option<Vec<u8>>,
    ) -> usize {
        let mut count = 0;
        while count < most && self.0.take().is_some() {
            if let Ok((mut client, _)) = listener.accept() {
                count += 1;
                let mut asked = [0; REQUEST_BYTES];
                let is_set = client.set_nonblocking(true).is_ok();
                let len = if is_set { client.read(&mut asked).unwrap_or(0) } else { 0 };
                if let Some(told) = answer(&asked[..len]).filter(|_| is_set) {
                    // If the client's socket has no room, the client sees only the end of the
                    // connection.
                    let _ = client.write_all(&told);
                    let _ = client.shutdown(Shutdown::Write);
                }
            } else {
                self.0 = File::open("/dev/null").ok();
                break;
            }
            self.0 = File::open("/dev/null").ok();
        }
        if self.0.is_none() {
            self.0 = File::open("/dev/null").ok();
        }
        count
    }
}
