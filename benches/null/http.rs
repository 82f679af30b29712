//! An HTTP server that decides nothing: one thread, epoll and sendfile, files that it opened at
//! the start. It looks for the path, a range and `Connection: close` of a request that arrives
//! whole.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use ringboot::engine::net;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};

/// A file of at most this size leaves from memory, in one send with its head.
const SMALL_BYTES: u64 = 16 << 10;
/// A request of a client is shorter.
const REQUEST_BYTES_MAX: usize = 4096;
/// Most events of one wait.
const EVENTS_MAX: usize = 256;

/// The served files, by their path from the root.
pub(crate) type ServedFiles = HashMap<String, Arc<ServedFile>>;

/// A file and its prepared answer.
pub(crate) struct ServedFile {
    file: File,
    size: u64,
    /// The head, and behind it a small file's bytes.
    answer: Vec<u8>,
}

/// A server on its socket.
pub(crate) struct BareServer {
    listener: TcpListener,
    files: ServedFiles,
}

struct Connection {
    stream: TcpStream,
    /// The rest of a body.
    body: Option<BodyRest>,
    closes: bool,
}

struct BodyRest {
    file: Arc<ServedFile>,
    from: u64,
    end: u64,
}

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It waits for a request.
    Idle,
    /// Its socket is full.
    Full,
    Ended,
}

impl ServedFile {
    pub(crate) fn open(mut file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").into_bytes();
        if size <= SMALL_BYTES {
            file.read_to_end(&mut answer)?;
        }
        Ok(Self { file, size, answer })
    }

    /// Every file below this directory.
    pub(crate) fn open_below(root: &Path) -> io::Result<ServedFiles> {
        let (mut files, mut folders) = (HashMap::new(), vec![root.to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(root).map_err(io::Error::other)?;
                let file = Self::open(File::open(&path)?)?;
                files.insert(name.display().to_string(), Arc::new(file));
            }
        }
        Ok(files)
    }
}

impl BareServer {
    /// A server of these files. `send_buffer`: the size of each connection's send buffer, past the
    /// limits of the host; None: as the kernel chooses. `congestion`: as the host has it, if None.
    pub(crate) fn open(
        address: SocketAddr,
        files: ServedFiles,
        send_buffer: Option<usize>,
        congestion: Option<&str>,
    ) -> io::Result<Self> {
        let listener = net::open_tcp_listener(address, false)?;
        listener.set_nonblocking(true)?;
        // Connections have these settings from their listener.
        if let Some(bytes) = send_buffer {
            sockopt::set_socket_send_buffer_size_force(&listener, bytes)?;
        }
        if let Some(name) = congestion {
            net::set_congestion_control(&listener, name)?;
        }
        Ok(Self { listener, files })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Ends only with an error.
    pub(crate) fn run(&self) -> io::Result<()> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &self.listener, data_of(&self.listener), EventFlags::IN)?;
        let mut places = ConnectionPlaces { epoll, open: Vec::new() };
        let mut request = vec![0; REQUEST_BYTES_MAX];
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            epoll::wait(&places.epoll, spare_capacity(&mut events), None)?;
            for event in events.drain(..) {
                if event.data.u64() != data_of(&self.listener).u64() {
                    places.serve(event.data, &self.files, &mut request)?;
                    continue;
                }
                while let Ok((stream, _)) = self.listener.accept() {
                    stream.set_nonblocking(true)?;
                    let new = Connection { stream, body: None, closes: false };
                    places.welcome(new, &self.files, &mut request)?;
                }
            }
        }
    }
}

/// The open connections, by the number of their descriptor.
struct ConnectionPlaces {
    epoll: OwnedFd,
    open: Vec<Option<Connection>>,
}

impl ConnectionPlaces {
    /// A request that came with the connection may be all that it is for: then it needs no place.
    fn welcome(
        &mut self,
        mut new: Connection,
        files: &ServedFiles,
        request: &mut [u8],
    ) -> io::Result<()> {
        let standing = new.advance(files, request);
        if standing == Standing::Ended {
            return Ok(());
        }
        let data = data_of(&new.stream);
        epoll::add(&self.epoll, &new.stream, data, standing.flags())?;
        let place = usize::try_from(data.u64()).unwrap_or_default();
        self.open.resize_with(self.open.len().max(place + 1), || None);
        self.open[place] = Some(new);
        Ok(())
    }

    fn serve(
        &mut self,
        data: EventData,
        files: &ServedFiles,
        request: &mut [u8],
    ) -> io::Result<()> {
        let place = usize::try_from(data.u64()).unwrap_or(usize::MAX);
        let Some(known) = self.open.get_mut(place) else { return Ok(()) };
        let Some(connection) = known else { return Ok(()) };
        let before = connection.standing();
        let standing = connection.advance(files, request);
        if standing == Standing::Ended {
            *known = None;
        } else if standing != before {
            epoll::modify(&self.epoll, &connection.stream, data, standing.flags())?;
        }
        Ok(())
    }
}

fn data_of(socket: &impl AsRawFd) -> EventData {
    EventData::new_u64(u64::from(socket.as_raw_fd().unsigned_abs()))
}

impl Standing {
    fn flags(self) -> EventFlags {
        if self == Self::Full { EventFlags::OUT } else { EventFlags::IN }
    }
}

impl Connection {
    fn standing(&self) -> Standing {
        if self.body.is_some() { Standing::Full } else { Standing::Idle }
    }

    /// Goes on with the body, or takes the next request.
    fn advance(&mut self, files: &ServedFiles, request: &mut [u8]) -> Standing {
        let done = if self.body.is_some() {
            self.send_body()
        } else {
            match recv(&self.stream, &mut *request, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Standing::Ended,
                Ok((bytes, _)) => self.meet(request.get(..bytes).unwrap_or_default(), files),
                Err(error) => Err(error.into()),
            }
        };
        match done {
            Ok(()) if self.closes => Standing::Ended,
            Ok(()) => Standing::Idle,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.standing(),
            Err(_) => Standing::Ended,
        }
    }

    fn meet(&mut self, request: &[u8], files: &ServedFiles) -> io::Result<()> {
        let no_answer = || io::Error::from(io::ErrorKind::InvalidData);
        let text = std::str::from_utf8(request).map_err(|_| no_answer())?;
        let text = text.strip_suffix("\r\n\r\n").ok_or_else(no_answer)?;
        let (path, _) = text
            .strip_prefix("GET /")
            .and_then(|rest| rest.split_once(' '))
            .ok_or_else(no_answer)?;
        let file = files.get(path).ok_or_else(no_answer)?;
        self.closes = text.contains("\r\nConnection: close");

        let (from, end) = match text.split_once("\r\nRange: bytes=") {
            None if file.size <= SMALL_BYTES => {
                return self.send(&file.answer, SendFlags::empty());
            }
            None => {
                self.send(&file.answer, SendFlags::MORE)?;
                (0, file.size)
            }
            Some((_, range)) => {
                let (from, last) = parse_range(range, file.size).ok_or_else(no_answer)?;
                let head = format!(
                    "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\n\
                     Content-Range: bytes {from}-{last}/{}\r\n\r\n",
                    last + 1 - from,
                    file.size
                );
                self.send(head.as_bytes(), SendFlags::MORE)?;
                (from, last + 1)
            }
        };
        self.body = Some(BodyRest { file: Arc::clone(file), from, end });
        self.send_body()
    }

    /// A head, or a small answer: a socket with an empty buffer takes all of it.
    fn send(&self, bytes: &[u8], flags: SendFlags) -> io::Result<()> {
        let sent = send(&self.stream, bytes, flags | SendFlags::NOSIGNAL)?;
        if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    fn send_body(&mut self) -> io::Result<()> {
        let Some(body) = &mut self.body else { return Ok(()) };
        while body.from < body.end {
            let left = usize::try_from(body.end - body.from).unwrap_or(usize::MAX);
            if rustix::fs::sendfile(&self.stream, &body.file.file, Some(&mut body.from), left)? == 0
            {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.body = None;
        Ok(())
    }
}

/// First and last byte of `A-B...` or `A-...`.
fn parse_range(text: &str, size: u64) -> Option<(u64, u64)> {
    let range = text.split("\r\n").next()?;
    let (from, last) = range.split_once('-')?;
    let last = if last.is_empty() { size - 1 } else { last.parse().ok()? };
    let from = from.parse().ok()?;
    (from <= last && last < size).then_some((from, last))
}
