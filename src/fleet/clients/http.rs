//! HTTP as boot loaders use it: one GET at a time, resumed after a break, every byte checked, no
//! buffer for each machine.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

use super::url::Url;
use crate::content::ExpectedContent;
use crate::failure::BootFailure;
use crate::limits::{
    HEAD_BYTES_MAX, HTTP_RETRY, HTTP_SILENCE_MAX, READ_BYTES, SAMPLE_BYTES, SAMPLE_TAIL_BYTES,
};
use crate::measure::line::{AskedProtocol, NobodyThere};
use crate::measure::progress::{ClientOddity, ServerRefusal};
use crate::net::checker::ContentChecker;
use crate::net::context::FleetContext;
use ringboot_io::engine::net::discard_input;
use ringboot_protocol::model::machine::{Mac, Uuid};
use ringboot_protocol::model::random::SeededRandom;

/// The program that asks: programs differ in version, headers, and whether they keep the
/// connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpAgent {
    /// lpxelinux.0: HTTP/1.0, a connection per file, its inventory in a Cookie (capture
    /// `bios-lpxelinux`).
    Syslinux { mac: Mac, uuid: Uuid },
    /// GRUB: HTTP/1.1, a connection per file; finds headers only as `ExpectedContent-Length: `
    /// (H-1, H-2).
    Grub,
    /// iPXE: HTTP/1.1, one connection kept for all files.
    Ipxe,
    /// EDK2's HTTP Boot (H-8).
    Edk2,
    /// The wget of an installer, which fetches its answer file.
    Installer,
    /// A client without firmware.
    Plain { keep: bool },
}

/// One machine's HTTP client.
#[derive(Debug)]
pub(crate) struct HttpFetcher<'a> {
    context: &'a FleetContext,
    agent: HttpAgent,
    /// The source address: the lease, or unspecified.
    address: Ipv4Addr,
    /// The connection that was kept after a whole answer, with its server.
    idle: Option<(TcpStream, SocketAddr)>,
    /// Sizes of files of which parts were fetched, by path.
    sizes: HashMap<String, u64>,
}

impl<'a> HttpFetcher<'a> {
    pub(crate) fn new(context: &'a FleetContext, agent: HttpAgent, address: Ipv4Addr) -> Self {
        Self { context, agent, address, idle: None, sizes: HashMap::new() }
    }

    /// Fetches a whole file, through as many connections as it takes. Returns the bytes only if
    /// `keep` is set.
    pub(crate) async fn fetch(&mut self, url: &Url, keep: bool) -> Result<Vec<u8>, BootFailure> {
        let checker = self.context.make_checker(&self.format_url(url), keep);
        self.fetch_checked(url, checker).await
    }

    /// Fetches this many bytes from a random place of a file; a shorter file completely.
    pub(crate) async fn fetch_range(
        &mut self,
        url: &Url,
        octets: u64,
        random: &mut SeededRandom,
    ) -> Result<(), BootFailure> {
        let name = self.format_url(url);
        let known = self.context.find_expected(&name).map(ExpectedContent::octets);
        // The first answer tells the size of an unknown file; until then ask for its beginning.
        let size = known.or_else(|| self.sizes.get(&url.path).copied()).unwrap_or(octets);
        let octets = octets.min(size);
        let from = random.below(size - octets + 1);
        let checker = self.context.make_checker(&name, false).with_part(from..from + octets);
        self.fetch_checked(url, checker).await.map(drop)
    }

    /// Fetches an optional text: None if it is missing.
    pub(crate) async fn find(&mut self, url: &Url) -> Result<Option<Vec<u8>>, BootFailure> {
        match self.fetch(url, true).await {
            Ok(text) => Ok(Some(text)),
            Err(BootFailure::HttpStatus(_, 404)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Sends HEAD on the connection that the file will use, and returns the size, which the answer
    /// must have.
    pub(crate) async fn head(&mut self, url: &Url) -> Result<u64, BootFailure> {
        let name = self.format_url(url);
        let begun = Instant::now();
        let mut broken = 0;
        loop {
            let failure = match self.attempt_head(url).await {
                Ok(size) => return size.ok_or(BootFailure::HttpNoSize(name)),
                Err(BrokenConnection::Machine(failure)) => return Err(failure),
                Err(BrokenConnection::Connection(end)) => end.to_failure(&name, 0),
            };
            if begun.elapsed() > self.context.pace.patience {
                return Err(failure);
            }
            broken += 1;
            self.ensure_goes_on(broken, &failure)?;
            self.context.progress.add_retry();
            sleep(self.context.pace.scale_wait(HTTP_RETRY)).await;
        }
    }

    /// Returns an error after `broken` broken connections, the last one with this failure, if this
    /// program does not try again.
    fn ensure_goes_on(&self, broken: u32, last: &BootFailure) -> Result<(), BootFailure> {
        match self.agent.resumes_max() {
            Some((who, most)) if self.context.pace.gives_up && broken > most => {
                let seconds = (HTTP_RETRY * most).as_secs();
                Err(BootFailure::GaveUp { who, what: last.cause(), tries: broken, seconds })
            }
            _ => Ok(()),
        }
    }

    async fn attempt_head(&mut self, url: &Url) -> Result<Option<u64>, BrokenConnection> {
        let stream = self.connect(url).await?;
        let request = self.agent.request(url, None, None).replacen("GET", "HEAD", 1);
        write_to_stream(&stream, request.as_bytes()).await?;
        let head = self
            .read_head(&stream, |head, _| {
                ResponseHead::parse(head, self.agent).ok_or_else(|| {
                    BrokenConnection::Machine(BootFailure::HttpNonsense(self.format_url(url)))
                })
            })
            .await?;

        // Firmware that gives up does not know "later": 429 and 503 end its boot like any other
        // error.
        match head.status {
            200 => {}
            429 | 503 if !self.context.pace.gives_up => {
                return Err(BrokenConnection::Connection(ConnectionEnd::Status(head.status)));
            }
            status => {
                return Err(BrokenConnection::Machine(BootFailure::HttpStatus(
                    self.format_url(url),
                    status,
                )));
            }
        }

        // No body follows the head of this answer (RFC 9110 section 9.3.2), so the GET can use the
        // connection at once, as EDK2 does.
        if !head.closes {
            self.idle = Some((stream, url.server));
        }
        Ok(head.length)
    }

    async fn fetch_checked(
        &mut self,
        url: &Url,
        mut checker: ContentChecker,
    ) -> Result<Vec<u8>, BootFailure> {
        let name = self.format_url(url);
        let begun = Instant::now();
        let mut etag = None;
        // The time and the place of the last progress. A file that begins again at its first byte
        // has made no progress until it is further than before.
        let mut furthest = (Instant::now(), 0);
        let mut broken = 0;
        loop {
            let reused = self.idle.is_some();
            let failure = match self.attempt(url, &mut checker, &mut etag).await {
                Ok(octets) => {
                    if let Some(walking) = &self.context.walking {
                        self.check_end(url, octets, &checker).await?;
                        walking.write_down(checker.record_file(
                            url.to_string(),
                            octets,
                            begun.elapsed(),
                        ));
                    }
                    return checker.finish();
                }
                Err(BrokenConnection::Machine(failure)) => return Err(failure),
                Err(BrokenConnection::Connection(end)) => end.to_failure(&name, checker.offset()),
            };
            self.context.progress.add_retry();
            if checker.received() > furthest.1 {
                furthest = (Instant::now(), checker.received());
            }
            if furthest.0.elapsed() > self.context.pace.patience {
                return Err(failure);
            }
            // The server may have closed a kept connection meanwhile, which is no fault: no pause.
            if !reused {
                broken += 1;
                self.ensure_goes_on(broken, &failure)?;
                sleep(self.context.pace.scale_wait(HTTP_RETRY)).await;
            }
        }
    }

    /// A fleet counts failures by path; a walk shows the whole URL.
    fn format_url(&self, url: &Url) -> String {
        if self.context.walking.is_some() { url.to_string() } else { url.path.clone() }
    }

    /// A walk also checks the last bytes of a longer file.
    async fn check_end(
        &mut self,
        url: &Url,
        octets: u64,
        checker: &ContentChecker,
    ) -> Result<(), BootFailure> {
        if octets <= checker.received() {
            return Ok(());
        }
        let from = octets.saturating_sub(SAMPLE_TAIL_BYTES);
        let looked = async {
            let stream = self.connect(url).await?;
            write_to_stream(&stream, self.agent.request(url, Some((from, None)), None).as_bytes())
                .await?;
            let mut end = self.context.make_checker(&url.path, false);
            let left = self.read_head(&stream, |head, first| {
                let head = ResponseHead::parse(head, self.agent)
                    .filter(|head| head.status == 206)
                    .ok_or(BrokenConnection::Connection(ConnectionEnd::Closed))?;
                end.take_bytes(first)?;
                head.length
                    .unwrap_or(0)
                    .checked_sub(first.len() as u64)
                    .ok_or(BrokenConnection::Connection(ConnectionEnd::Closed))
            });
            let left = left.await?;
            self.read_body(&stream, left, &mut end).await?;
            Ok::<u64, BrokenConnection>(end.received())
        };
        match looked.await {
            Ok(received) if from + received == octets => Ok(()),
            Ok(received) => {
                Err(BootFailure::WrongLength(self.format_url(url), from + received, octets))
            }
            // Without ranges the end of a file cannot be fetched alone.
            Err(_) => Ok(()),
        }
    }

    /// Sends one request and reads its answer; returns the size of the whole file. It does not ask
    /// again for bytes that have arrived (H-16, H-20).
    async fn attempt(
        &mut self,
        url: &Url,
        checker: &mut ContentChecker,
        etag: &mut Option<String>,
    ) -> Result<u64, BrokenConnection> {
        let _asked = self.context.progress.begin_request(AskedProtocol::Http);
        let stream = self.connect(url).await?;
        let range = match (checker.part(), checker.received()) {
            (Some(part), _) => Some((checker.offset(), Some(part.end.saturating_sub(1)))),
            (None, 0) if checker.needs_sample() => Some((0, Some(SAMPLE_BYTES - 1))),
            (None, 0) => None,
            (None, from) => Some((from, None)),
        };
        let request = self.agent.request(url, range, etag.as_deref());
        write_to_stream(&stream, request.as_bytes()).await?;
        let (head, left) = self
            .read_head(&stream, |head, rest| self.judge_head(url, head, rest, checker, etag))
            .await?;
        let read = self.read_body(&stream, left, checker).await;
        if matches!(read, Err(BrokenConnection::Connection(_))) {
            self.context.progress.add_oddities(ClientOddity::CutOff, 1);
        }
        read?;
        // A part, or a walk's sample, ends before the file does.
        let is_rest = range.is_some_and(|(_, to)| to.is_none());
        if is_rest && head.total.is_some_and(|total| total != checker.received()) {
            return Err(BrokenConnection::Machine(BootFailure::HttpWrongRange(
                self.format_url(url),
            )));
        }
        if self.agent.keeps_connection() && !head.closes && !checker.is_sample_full() {
            self.idle = Some((stream, url.server));
        }
        if let (Some(_), Some(total)) = (checker.part(), head.total) {
            self.sizes.entry(url.path.clone()).or_insert(total);
        }
        Ok(head.total.or(head.length).unwrap_or(checker.received()))
    }

    /// Judges the head of an answer, and returns the number of body bytes that follow the first
    /// ones.
    fn judge_head(
        &self,
        url: &Url,
        head: &[u8],
        first: &[u8],
        checker: &mut ContentChecker,
        etag: &mut Option<String>,
    ) -> Result<(ResponseHead, u64), BrokenConnection> {
        let nonsense =
            || BrokenConnection::Machine(BootFailure::HttpNonsense(self.format_url(url)));
        let mut head = ResponseHead::parse(head, self.agent).ok_or_else(nonsense)?;
        match head.status {
            200 if checker.part().is_some() => {
                return Err(BrokenConnection::Machine(BootFailure::HttpNotInPart(
                    self.format_url(url),
                )));
            }
            200 => {
                if checker.received() > 0 {
                    self.context.progress.add_oddities(ClientOddity::WholeForRest, 1);
                }
                checker.restart();
            }
            206 if head.range_start != Some(checker.offset()) => {
                return Err(BrokenConnection::Machine(BootFailure::HttpWrongRange(
                    self.format_url(url),
                )));
            }
            206 if etag.is_some() && head.etag.is_some() && *etag != head.etag => {
                return Err(BrokenConnection::Machine(BootFailure::HttpOtherVersion(
                    self.format_url(url),
                )));
            }
            206 => {}
            // 412: the file has changed; 416: it is shorter now. Begin again in both cases.
            412 | 416 if checker.received() > 0 => {
                checker.restart();
                *etag = None;
                return Err(BrokenConnection::Connection(ConnectionEnd::Status(head.status)));
            }
            status @ (429 | 503) => {
                self.context.progress.add_refusal(ServerRefusal::HttpBusy);
                // Firmware does not know "later": this is an error like any other.
                if self.context.pace.gives_up && self.agent.resumes_max().is_some() {
                    return Err(BrokenConnection::Machine(BootFailure::HttpStatus(
                        self.format_url(url),
                        status,
                    )));
                }
                return Err(BrokenConnection::Connection(ConnectionEnd::Status(status)));
            }
            status => {
                return Err(BrokenConnection::Machine(BootFailure::HttpStatus(
                    self.format_url(url),
                    status,
                )));
            }
        }
        if let Some(total) = head.total {
            checker.clip_end(total);
        }
        *etag = head.etag.take();
        let length = head.length.ok_or_else(nonsense)?;
        let left = length.checked_sub(first.len() as u64).ok_or_else(nonsense)?;
        checker.take_bytes(first)?;
        Ok((head, left))
    }

    async fn connect(&mut self, url: &Url) -> Result<TcpStream, BrokenConnection> {
        let progress = &self.context.progress;

        // A loader keeps one connection: one to another server closes here.
        if let Some((stream, kept)) = self.idle.take()
            && kept == url.server
        {
            return Ok(stream);
        }

        // Only IPv4 machines have addresses of their own. Over IPv6 the kernel chooses the host's.
        let socket = if url.server.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
        if url.server.is_ipv4() {
            socket.bind(SocketAddr::from((
                self.context.speaks_from(self.address, url.server.ip()),
                0,
            )))?;
        }
        let connected = timeout(HTTP_SILENCE_MAX, socket.connect(url.server)).await;
        let connected =
            connected.map_err(|_| BrokenConnection::Connection(ConnectionEnd::Silent))?;

        // Only a refused connection proves that no server listens. The report then names the
        // address, and not a limit of the server.
        match &connected {
            Ok(_) => progress.line(AskedProtocol::Http).is_met(),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                progress.add_refusal(ServerRefusal::NoConnection);
                progress
                    .line(AskedProtocol::Http)
                    .note_absent_server(NobodyThere { at: url.server, why: "connection refused" });
            }
            Err(_) => {}
        }
        Ok(connected?)
    }

    /// Reads up to the empty line after the head, and hands over the head and the bytes that came
    /// after it in the same read.
    async fn read_head<T>(
        &self,
        stream: &TcpStream,
        mut meet: impl FnMut(&[u8], &[u8]) -> Result<T, BrokenConnection>,
    ) -> Result<T, BrokenConnection> {
        // Used only for a head that arrives in pieces; most arrive whole.
        let mut pieces = Vec::new();
        loop {
            let mut met = None;
            let octets = self.read(stream, READ_BYTES, |bytes| {
                if !pieces.is_empty() || find_head_end(bytes).is_none() {
                    pieces.extend_from_slice(bytes);
                }
                let whole = if pieces.is_empty() { bytes } else { &pieces };
                met = find_head_end(whole)
                    .and_then(|end| whole.split_at_checked(end))
                    .map(|(head, rest)| meet(head, rest));
            });
            let octets = octets.await?;
            if let Some(met) = met {
                return met;
            }
            if octets == 0 || pieces.len() > HEAD_BYTES_MAX {
                return Err(BrokenConnection::Connection(ConnectionEnd::Closed));
            }
        }
    }

    async fn read_body(
        &self,
        stream: &TcpStream,
        mut left: u64,
        checker: &mut ContentChecker,
    ) -> Result<(), BrokenConnection> {
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(READ_BYTES).min(READ_BYTES);
            let mut taken = Ok(());
            let octets = if checker.needs_bytes() {
                self.read(stream, most, |bytes| taken = checker.take_bytes(bytes)).await?
            } else {
                let octets = self.drop_bytes(stream, most).await?;
                checker.count_bytes(octets as u64);
                octets
            };
            taken?;
            self.context.hub.read_shared_if_due();
            if octets == 0 {
                return Err(BrokenConnection::Connection(ConnectionEnd::Closed));
            }
            left -= octets as u64;
            if checker.is_sample_full() {
                return Ok(());
            }
            if octets == READ_BYTES {
                // More bytes are waiting: let the other machines run first.
                yield_now().await;
            }
        }
        Ok(())
    }

    /// Discards at most `most` bytes of the stream without copying; 0 at its end.
    async fn drop_bytes(&self, stream: &TcpStream, most: usize) -> Result<usize, BrokenConnection> {
        let octets = receive_when_readable(stream, || {
            stream.try_io(Interest::READABLE, || discard_input(stream, most))
        })
        .await?;
        self.context.progress.line(AskedProtocol::Http).note_answer();
        Ok(octets)
    }

    /// Reads at most `most` bytes into the shared buffer; 0 at the end of the stream.
    async fn read(
        &self,
        stream: &TcpStream,
        most: usize,
        mut take: impl FnMut(&[u8]),
    ) -> Result<usize, BrokenConnection> {
        let octets = receive_when_readable(stream, || {
            self.context.with_scratch(|buffer| {
                let room = buffer.get_mut(..most).unwrap_or_default();
                stream
                    .try_read(room)
                    .inspect(|&octets| take(room.get(..octets).unwrap_or_default()))
            })
        })
        .await?;
        self.context.progress.line(AskedProtocol::Http).note_answer();
        Ok(octets)
    }
}

/// Tries to read; waits and tries again if no byte has arrived.
async fn receive_when_readable(
    stream: &TcpStream,
    mut receive: impl FnMut() -> io::Result<usize>,
) -> Result<usize, BrokenConnection> {
    loop {
        match receive() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                timeout(HTTP_SILENCE_MAX, stream.readable())
                    .await
                    .map_err(|_| BrokenConnection::Connection(ConnectionEnd::Silent))??;
            }
            other => return Ok(other?),
        }
    }
}

/// The offset of the body.
fn find_head_end(octets: &[u8]) -> Option<usize> {
    // Search only the greatest length of a head, not a whole buffer of file.
    let searched = octets.get(..HEAD_BYTES_MAX).unwrap_or(octets);
    searched.windows(4).position(|four| four == b"\r\n\r\n").map(|end| end + 4)
}

/// Why one connection brought no whole file.
enum BrokenConnection {
    /// The client may try again.
    Connection(ConnectionEnd),
    /// Another try would fail as well.
    Machine(BootFailure),
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionEnd {
    Refused,
    /// No byte arrived for too long.
    Silent,
    /// Ended or reset by the server.
    Closed,
    /// The answer says: not now, or not this version.
    Status(u16),
}

impl ConnectionEnd {
    /// The machine's failure if every connection has ended without the whole file; the last one at
    /// this byte.
    fn to_failure(self, name: &str, octet: u64) -> BootFailure {
        let name = name.to_owned();
        match (self, octet) {
            (Self::Refused, _) => BootFailure::HttpRefused(name),
            (Self::Silent, 0) => BootFailure::HttpSilent(name),
            (Self::Silent, _) => BootFailure::HttpStalled(name, octet),
            (Self::Closed, _) => BootFailure::HttpCutOff(name, octet),
            (Self::Status(status), _) => BootFailure::HttpStatus(name, status),
        }
    }
}

impl From<io::Error> for BrokenConnection {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::PermissionDenied => {
                Self::Machine(error.into())
            }
            io::ErrorKind::ConnectionRefused => Self::Connection(ConnectionEnd::Refused),
            _ => Self::Connection(ConnectionEnd::Closed),
        }
    }
}

impl From<BootFailure> for BrokenConnection {
    fn from(failure: BootFailure) -> Self {
        Self::Machine(failure)
    }
}

async fn write_to_stream(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(octets) => bytes = bytes.get(octets..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl HttpAgent {
    /// Whether it keeps a connection for its next file.
    fn keeps_connection(self) -> bool {
        matches!(self, Self::Ipxe | Self::Edk2 | Self::Plain { keep: true })
    }

    /// Its name, and how often it resumes a broken transfer; None without a limit: iPXE by the
    /// retry of boot scripts, and a client without firmware.
    fn resumes_max(self) -> Option<(&'static str, u32)> {
        match self {
            // H-10.
            Self::Edk2 => Some(("UEFI HTTP Boot", 5)),
            Self::Grub => Some(("GRUB", 0)),
            Self::Syslinux { .. } => Some(("PXELINUX", 0)),
            Self::Ipxe | Self::Installer | Self::Plain { .. } => None,
        }
    }

    /// Whether this program takes `name` for the header field `wanted`. GRUB compares the names
    /// with regard to case (H-1).
    fn is_field(self, name: &str, wanted: &str) -> bool {
        if self == Self::Grub { name == wanted } else { name.eq_ignore_ascii_case(wanted) }
    }

    /// The request as that program writes it; with a range (first and last byte) unless it asks for
    /// the whole file.
    fn request(self, url: &Url, range: Option<(u64, Option<u64>)>, etag: Option<&str>) -> String {
        let (path, ip, authority) = (&url.path, url.server.ip(), url.authority());
        let mut request = match self {
            Self::Syslinux { mac, uuid } => format!(
                "GET {path} HTTP/1.0\r\nHost: {ip}\r\nUser-Agent: Syslinux/6.04\r\nConnection: \
                 close\r\n\
                 Cookie: _Syslinux_BOOTIF=01-{};_Syslinux_SYSUUID={uuid};\r\n",
                mac.to_dashed()
            ),
            // GRUB leaves the port out of Host, and so does EDK2 (H-8).
            Self::Grub => {
                format!("GET {path} HTTP/1.1\r\nHost: {ip}\r\nUser-Agent: GRUB 2.06-13+deb12u2\r\n")
            }
            Self::Ipxe => format!(
                "GET {path} HTTP/1.1\r\nConnection: keep-alive\r\n\
                 User-Agent: iPXE/1.0.0+git-20190125.36a4c85-5.1\r\nHost: {authority}\r\n"
            ),
            Self::Edk2 => {
                format!(
                    "GET {path} HTTP/1.1\r\nHost: {ip}\r\nAccept: */*\r\nUser-Agent: \
                     UefiHttpBoot/1.0\r\n"
                )
            }
            Self::Installer => format!(
                "GET {path} HTTP/1.1\r\nUser-Agent: debian-installer\r\nAccept: \
                 */*\r\nAccept-Encoding: identity\r\n\
                 Host: {authority}\r\n"
            ),
            Self::Plain { keep } => {
                let close = if keep { "" } else { "Connection: close\r\n" };
                format!(
                    "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: loadtest\r\n{close}"
                )
            }
        };
        if let Some((from, to)) = range {
            let to = to.map(|to| to.to_string()).unwrap_or_default();
            request.push_str(&format!("Range: bytes={from}-{to}\r\n"));
            if let Some(etag) = etag {
                request.push_str(&format!("If-Match: {etag}\r\n"));
            }
        }
        request.push_str("\r\n");
        request
    }
}

/// The fields of an answer's head that a loader needs.
#[derive(Debug, PartialEq, Eq)]
struct ResponseHead {
    status: u16,
    length: Option<u64>,
    range_start: Option<u64>,
    /// The size of the whole file, from Content-Range.
    total: Option<u64>,
    etag: Option<String>,
    closes: bool,
}

impl ResponseHead {
    fn parse(octets: &[u8], agent: HttpAgent) -> Option<Self> {
        let text = std::str::from_utf8(octets).ok()?;
        let mut lines = text.split("\r\n");
        let (version, rest) = lines.next()?.split_once(' ')?;
        let answers_1_0 = version == "HTTP/1.0";
        if version != "HTTP/1.1" && !answers_1_0 {
            return None;
        }
        let status = rest.get(..3)?.parse().ok()?;
        let mut head = Self {
            status,
            length: None,
            range_start: None,
            total: None,
            etag: None,
            closes: answers_1_0,
        };
        for line in lines.take_while(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':')?;
            let value = value.trim();
            if agent.is_field(name, "Content-Length") {
                head.length = Some(value.parse().ok()?);
            } else if agent.is_field(name, "Content-Range") {
                head.total = value.rsplit_once('/').and_then(|(_, total)| total.parse().ok());
                head.range_start = value.strip_prefix("bytes ")?.split('-').next()?.parse().ok();
            } else if name.eq_ignore_ascii_case("ETag") {
                head.etag = Some(value.to_owned());
            } else if agent.is_field(name, "Connection") {
                head.closes |= value.eq_ignore_ascii_case("close");
            }
        }
        Some(head)
    }
}

#[cfg(test)]
mod tests;
