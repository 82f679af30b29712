//! HTTP as boot loaders speak it: one GET at a time, resumed where it broke, every byte checked,
//! no buffer per machine.

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
    HEAD_OCTETS_MAX, HTTP_RETRY, HTTP_SILENCE_MAX, READ_OCTETS, SAMPLE_OCTETS, SAMPLE_TAIL_OCTETS,
};
use crate::measure::line::{AskedProtocol, NobodyThere};
use crate::measure::progress::{ClientOddity, ServerRefusal};
use crate::net::checker::ContentChecker;
use crate::net::context::FleetContext;
use ringboot_io::engine::net::discard_input;
use ringboot_protocol::model::machine::{Mac, Uuid};
use ringboot_protocol::model::random::SeededRandom;

/// Which program asks: they differ in version, headers, and whether they keep the connection.
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
    /// A client of no firmware.
    Plain { keep: bool },
}

/// One machine's HTTP client.
#[derive(Debug)]
pub(crate) struct HttpFetcher<'a> {
    context: &'a FleetContext,
    agent: HttpAgent,
    /// The leased address: requests come from it.
    address: Ipv4Addr,
    /// Kept alive after a whole answer, with the server it leads to.
    idle: Option<(TcpStream, SocketAddr)>,
    /// Of files that parts were fetched of, by path.
    sizes: HashMap<String, u64>,
}

impl<'a> HttpFetcher<'a> {
    pub(crate) fn new(context: &'a FleetContext, agent: HttpAgent, address: Ipv4Addr) -> Self {
        Self { context, agent, address, idle: None, sizes: HashMap::new() }
    }

    /// Fetches a whole file, through as many connections as it takes. The bytes are given back
    /// only where `keep` says so.
    pub(crate) async fn fetch(&mut self, url: &Url, keep: bool) -> Result<Vec<u8>, BootFailure> {
        let checker = self.context.checker(&self.shown(url), keep);
        self.fetch_checked(url, checker).await
    }

    /// Fetches this many bytes from a random place of a file; the whole of a shorter one.
    pub(crate) async fn fetch_range(
        &mut self,
        url: &Url,
        octets: u64,
        random: &mut SeededRandom,
    ) -> Result<(), BootFailure> {
        let name = self.shown(url);
        let known = self.context.expected(&name).map(ExpectedContent::octets);
        // Of a file that nobody knows, the first answer tells the size; until then, its beginning
        // is asked for.
        let size = known.or_else(|| self.sizes.get(&url.path).copied()).unwrap_or(octets);
        let octets = octets.min(size);
        let from = random.below(size - octets + 1);
        let checker = self.context.checker(&name, false).of_part(from..from + octets);
        self.fetch_checked(url, checker).await.map(drop)
    }

    /// Fetches a text that may be missing: then None.
    pub(crate) async fn find(&mut self, url: &Url) -> Result<Option<Vec<u8>>, BootFailure> {
        match self.fetch(url, true).await {
            Ok(text) => Ok(Some(text)),
            Err(BootFailure::HttpStatus(_, 404)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Asks for the head alone, on the connection that the file will come by; gives the size that
    /// it must tell.
    pub(crate) async fn head(&mut self, url: &Url) -> Result<u64, BootFailure> {
        let name = self.shown(url);
        let begun = Instant::now();
        let mut broken = 0;
        loop {
            let failure = match self.attempt_head(url).await {
                Ok(size) => return size.ok_or(BootFailure::HttpNoSize(name)),
                Err(BrokenConnection::Machine(failure)) => return Err(failure),
                Err(BrokenConnection::Connection(end)) => end.failure(&name, 0),
            };
            if begun.elapsed() > self.context.pace.patience {
                return Err(failure);
            }
            broken += 1;
            self.ensure_goes_on(broken, &failure)?;
            self.context.progress.add_retry();
            sleep(self.context.pace.hurried(HTTP_RETRY)).await;
        }
    }

    /// An error after so many connections that broke, the last one with this failure, where this
    /// program tries no more.
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
        let nonsense = || BrokenConnection::Machine(BootFailure::HttpNonsense(self.shown(url)));
        let head = self
            .read_head(&stream, |head, _| {
                ResponseHead::parse(head, self.agent).ok_or_else(nonsense)
            })
            .await?;
        match head.status {
            200 => {}
            429 | 503 if !self.context.pace.gives_up => {
                return Err(BrokenConnection::Connection(ConnectionEnd::Status(head.status)));
            }
            status => {
                return Err(BrokenConnection::Machine(BootFailure::HttpStatus(
                    self.shown(url),
                    status,
                )));
            }
        }
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
        let name = self.shown(url);
        let begun = Instant::now();
        let mut etag = None;
        // When, and how far. Begun again from the first byte, a file has made no progress until it
        // is further than before.
        let mut furthest = (Instant::now(), 0);
        let mut broken = 0;
        loop {
            let reused = self.idle.is_some();
            let failure = match self.attempt(url, &mut checker, &mut etag).await {
                Ok(octets) => {
                    if let Some(walking) = &self.context.walking {
                        self.look_at_end(url, octets, &checker).await?;
                        walking.write_down(checker.asked(url.to_string(), octets, begun.elapsed()));
                    }
                    return checker.finish();
                }
                Err(BrokenConnection::Machine(failure)) => return Err(failure),
                Err(BrokenConnection::Connection(end)) => end.failure(&name, checker.offset()),
            };
            self.context.progress.add_retry();
            if checker.received() > furthest.1 {
                furthest = (Instant::now(), checker.received());
            }
            if furthest.0.elapsed() > self.context.pace.patience {
                return Err(failure);
            }
            // A kept connection that the server has closed meanwhile says nothing about the server:
            // no pause.
            if !reused {
                broken += 1;
                self.ensure_goes_on(broken, &failure)?;
                sleep(self.context.pace.hurried(HTTP_RETRY)).await;
            }
        }
    }

    /// A fleet counts failures by path; a walk tells the whole URL.
    fn shown(&self, url: &Url) -> String {
        if self.context.walking.is_some() { url.to_string() } else { url.path.clone() }
    }

    /// A walk also sees whether the last bytes of a longer file are there.
    async fn look_at_end(
        &mut self,
        url: &Url,
        octets: u64,
        checker: &ContentChecker,
    ) -> Result<(), BootFailure> {
        if octets <= checker.received() {
            return Ok(());
        }
        let from = octets.saturating_sub(SAMPLE_TAIL_OCTETS);
        let looked = async {
            let stream = self.connect(url).await?;
            write_to_stream(&stream, self.agent.request(url, Some((from, None)), None).as_bytes())
                .await?;
            let mut end = self.context.checker(&url.path, false);
            let left = self.read_head(&stream, |head, first| {
                let head = ResponseHead::parse(head, self.agent)
                    .filter(|head| head.status == 206)
                    .ok_or(BrokenConnection::Connection(ConnectionEnd::Closed))?;
                end.take(first)?;
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
            Ok(received) => Err(BootFailure::WrongLength(self.shown(url), from + received, octets)),
            // A server without ranges cannot be asked for an end.
            Err(_) => Ok(()),
        }
    }

    /// One request and its answer; gives the size of the whole file. What has come before is asked
    /// for no more (H-16, H-20).
    async fn attempt(
        &mut self,
        url: &Url,
        checker: &mut ContentChecker,
        etag: &mut Option<String>,
    ) -> Result<u64, BrokenConnection> {
        let _asked = self.context.progress.ask(AskedProtocol::Http);
        let stream = self.connect(url).await?;
        let range = match (checker.part(), checker.received()) {
            (Some(part), _) => Some((checker.offset(), Some(part.end.saturating_sub(1)))),
            (None, 0) if checker.samples() => Some((0, Some(SAMPLE_OCTETS - 1))),
            (None, 0) => None,
            (None, from) => Some((from, None)),
        };
        let request = self.agent.request(url, range, etag.as_deref());
        write_to_stream(&stream, request.as_bytes()).await?;
        let (head, left) =
            self.read_head(&stream, |head, rest| self.meet(url, head, rest, checker, etag)).await?;
        let read = self.read_body(&stream, left, checker).await;
        if matches!(read, Err(BrokenConnection::Connection(_))) {
            self.context.progress.add_oddities(ClientOddity::CutOff, 1);
        }
        read?;
        // A part, or a walk's sample, ends before the file does.
        let is_rest = range.is_some_and(|(_, to)| to.is_none());
        if is_rest && head.total.is_some_and(|total| total != checker.received()) {
            return Err(BrokenConnection::Machine(BootFailure::HttpWrongRange(self.shown(url))));
        }
        if self.agent.keeps() && !head.closes && !checker.is_sample_full() {
            self.idle = Some((stream, url.server));
        }
        if let (Some(_), Some(total)) = (checker.part(), head.total) {
            self.sizes.entry(url.path.clone()).or_insert(total);
        }
        Ok(head.total.or(head.length).unwrap_or(checker.received()))
    }

    /// What an answer means for the file: its head, and how many bytes are still to come after
    /// these first ones.
    fn meet(
        &self,
        url: &Url,
        head: &[u8],
        first: &[u8],
        checker: &mut ContentChecker,
        etag: &mut Option<String>,
    ) -> Result<(ResponseHead, u64), BrokenConnection> {
        let nonsense = || BrokenConnection::Machine(BootFailure::HttpNonsense(self.shown(url)));
        let mut head = ResponseHead::parse(head, self.agent).ok_or_else(nonsense)?;
        match head.status {
            200 if checker.part().is_some() => {
                return Err(BrokenConnection::Machine(BootFailure::HttpNotInPart(self.shown(url))));
            }
            200 => {
                if checker.received() > 0 {
                    self.context.progress.add_oddities(ClientOddity::WholeForRest, 1);
                }
                checker.restart();
            }
            206 if head.range_start != Some(checker.offset()) => {
                return Err(BrokenConnection::Machine(BootFailure::HttpWrongRange(
                    self.shown(url),
                )));
            }
            206 if etag.is_some() && head.etag.is_some() && *etag != head.etag => {
                return Err(BrokenConnection::Machine(BootFailure::HttpOtherVersion(
                    self.shown(url),
                )));
            }
            206 => {}
            // 412: the file is another one now; 416: it has become shorter. Both begin again.
            412 | 416 if checker.received() > 0 => {
                checker.restart();
                *etag = None;
                return Err(BrokenConnection::Connection(ConnectionEnd::Status(head.status)));
            }
            status @ (429 | 503) => {
                self.context.progress.add_refusal(ServerRefusal::HttpBusy);
                // Firmware knows no "later": for it this is an error like any other.
                if self.context.pace.gives_up && self.agent.resumes_max().is_some() {
                    return Err(BrokenConnection::Machine(BootFailure::HttpStatus(
                        self.shown(url),
                        status,
                    )));
                }
                return Err(BrokenConnection::Connection(ConnectionEnd::Status(status)));
            }
            status => {
                return Err(BrokenConnection::Machine(BootFailure::HttpStatus(
                    self.shown(url),
                    status,
                )));
            }
        }
        if let Some(total) = head.total {
            checker.clip(total);
        }
        *etag = head.etag.take();
        let length = head.length.ok_or_else(nonsense)?;
        let left = length.checked_sub(first.len() as u64).ok_or_else(nonsense)?;
        checker.take(first)?;
        Ok((head, left))
    }

    async fn connect(&mut self, url: &Url) -> Result<TcpStream, BrokenConnection> {
        let progress = &self.context.progress;
        if let Some((stream, kept)) = self.idle.take()
            && kept == url.server
        {
            return Ok(stream);
        }
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
        match &connected {
            Ok(_) => progress.line(AskedProtocol::Http).is_met(),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                progress.add_refusal(ServerRefusal::NoConnection);
                progress
                    .line(AskedProtocol::Http)
                    .comes_to(NobodyThere { at: url.server, why: "connection refused" });
            }
            Err(_) => {}
        }
        Ok(connected?)
    }

    /// Reads up to the empty line after the head and hands over the head and what came after it in
    /// the same read.
    async fn read_head<T>(
        &self,
        stream: &TcpStream,
        mut meet: impl FnMut(&[u8], &[u8]) -> Result<T, BrokenConnection>,
    ) -> Result<T, BrokenConnection> {
        // Of a head that comes in pieces; most come whole.
        let mut pieces = Vec::new();
        loop {
            let mut met = None;
            let octets = self.read(stream, READ_OCTETS, |bytes| {
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
            if octets == 0 || pieces.len() > HEAD_OCTETS_MAX {
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
            let most = usize::try_from(left).unwrap_or(READ_OCTETS).min(READ_OCTETS);
            let mut taken = Ok(());
            let octets = if checker.reads() {
                self.read(stream, most, |bytes| taken = checker.take(bytes)).await?
            } else {
                let octets = self.drop_octets(stream, most).await?;
                checker.count(octets as u64);
                octets
            };
            taken?;
            self.context.hub.glance();
            if octets == 0 {
                return Err(BrokenConnection::Connection(ConnectionEnd::Closed));
            }
            left -= octets as u64;
            if checker.is_sample_full() {
                return Ok(());
            }
            if octets == READ_OCTETS {
                // More is waiting already: let the other machines have their turn.
                yield_now().await;
            }
        }
        Ok(())
    }

    /// Takes at most `most` bytes off the stream that nobody looks at; 0 at its end.
    async fn drop_octets(
        &self,
        stream: &TcpStream,
        most: usize,
    ) -> Result<usize, BrokenConnection> {
        let octets = receive_when_readable(stream, || {
            stream.try_io(Interest::READABLE, || discard_input(stream, most))
        })
        .await?;
        self.context.progress.line(AskedProtocol::Http).hears();
        Ok(octets)
    }

    /// One read of at most `most` bytes into the shared buffer; 0 at the end of the stream.
    async fn read(
        &self,
        stream: &TcpStream,
        most: usize,
        mut take: impl FnMut(&[u8]),
    ) -> Result<usize, BrokenConnection> {
        let read = || {
            self.context.with_scratch(|buffer| {
                let room = buffer.get_mut(..most).unwrap_or_default();
                stream
                    .try_read(room)
                    .inspect(|&octets| take(room.get(..octets).unwrap_or_default()))
            })
        };
        let octets = receive_when_readable(stream, read).await?;
        self.context.progress.line(AskedProtocol::Http).hears();
        Ok(octets)
    }
}

/// Tries, and where nothing has come yet, waits and tries again.
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

/// Where the body begins.
fn find_head_end(octets: &[u8]) -> Option<usize> {
    // A head that is no head (a whole buffer of file) is not searched to its end.
    let searched = octets.get(..HEAD_OCTETS_MAX).unwrap_or(octets);
    searched.windows(4).position(|four| four == b"\r\n\r\n").map(|end| end + 4)
}

/// Why one connection brought no whole file.
enum BrokenConnection {
    /// To be tried again.
    Connection(ConnectionEnd),
    /// Nothing that trying again would mend.
    Machine(BootFailure),
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionEnd {
    Refused,
    /// Nothing came for too long.
    Silent,
    /// Ended or reset by the server.
    Closed,
    /// An answer that says: not now, or not this version.
    Status(u16),
}

impl ConnectionEnd {
    /// The machine's failure, where every connection before this one has ended without a whole
    /// file; this one at that byte.
    fn failure(self, name: &str, octet: u64) -> BootFailure {
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
    fn keeps(self) -> bool {
        matches!(self, Self::Ipxe | Self::Edk2 | Self::Plain { keep: true })
    }

    /// Its name, and how often it takes up a broken transfer; None where it does so again and
    /// again: iPXE by the retry that boot scripts have, a client of no firmware.
    fn resumes_max(self) -> Option<(&'static str, u32)> {
        match self {
            // H-10.
            Self::Edk2 => Some(("UEFI HTTP Boot", 5)),
            Self::Grub => Some(("GRUB", 0)),
            Self::Syslinux { .. } => Some(("PXELINUX", 0)),
            Self::Ipxe | Self::Installer | Self::Plain { .. } => None,
        }
    }

    /// The request as that program writes it; with a range (first and last byte) where not the
    /// whole file is wanted.
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

/// What a loader needs of an answer's head.
#[derive(Debug, PartialEq, Eq)]
struct ResponseHead {
    status: u16,
    length: Option<u64>,
    range_start: Option<u64>,
    /// Of the whole file, from Content-Range.
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
            let is = |wanted: &str| {
                if agent == HttpAgent::Grub {
                    name == wanted
                } else {
                    name.eq_ignore_ascii_case(wanted)
                }
            };
            let value = value.trim();
            if is("Content-Length") {
                head.length = Some(value.parse().ok()?);
            } else if is("Content-Range") {
                head.total = value.rsplit_once('/').and_then(|(_, total)| total.parse().ok());
                head.range_start = value.strip_prefix("bytes ")?.split('-').next()?.parse().ok();
            } else if name.eq_ignore_ascii_case("ETag") {
                head.etag = Some(value.to_owned());
            } else if is("Connection") {
                head.closes |= value.eq_ignore_ascii_case("close");
            }
        }
        Some(head)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::thread::{JoinHandle, spawn};
    use std::time::Duration;

    use super::*;
    use crate::clients::url::UrlScheme;
    use crate::content::ContentMap;
    use crate::net::wire::{ContentProof, WireSettings};
    use crate::pace::FleetPace;

    #[test]
    fn h1_grub_sees_content_length_in_title_case_only() {
        let lower = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
        assert_eq!(ResponseHead::parse(lower, HttpAgent::Grub).unwrap().length, None);
        assert_eq!(ResponseHead::parse(lower, HttpAgent::Ipxe).unwrap().length, Some(5));
        let title = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(ResponseHead::parse(title, HttpAgent::Grub).unwrap().length, Some(5));
    }

    #[test]
    fn h16_h20_a_broken_transfer_is_asked_for_from_where_it_broke() {
        let url = Url::parse("http://127.0.0.1:8080/initrd").unwrap();
        let whole = HttpAgent::Grub.request(&url, None, Some("\"a\""));
        assert!(!whole.contains("Range"), "{whole}");
        let rest = HttpAgent::Grub.request(&url, Some((1000, None)), Some("\"a\""));
        assert!(rest.contains("Range: bytes=1000-\r\nIf-Match: \"a\"\r\n\r\n"), "{rest}");
        let head = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes \
              1000-1999/2000\r\nContent-Length: 1000\r\n\r\n";
        assert_eq!(ResponseHead::parse(head, HttpAgent::Grub).unwrap().range_start, Some(1000));
    }

    #[test]
    fn an_answer_that_is_not_http_is_nonsense() {
        for wrong in [
            &b"SSH-2.0-OpenSSH\r\n\r\n"[..],
            b"HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 20x OK\r\n\r\n",
            b"\xff\xff\r\n\r\n",
        ] {
            assert_eq!(ResponseHead::parse(wrong, HttpAgent::Ipxe), None);
        }
    }

    /// Answers connection after connection with these bytes and closes each; gives the requests.
    fn server(answers: Vec<Vec<u8>>) -> (SocketAddr, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = spawn(move || {
            let answer_one = |answer: Vec<u8>| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut octet = [0];
                    stream.read_exact(&mut octet).unwrap();
                    request.extend_from_slice(&octet);
                }
                stream.write_all(&answer).unwrap();
                String::from_utf8(request).unwrap()
            };
            answers.into_iter().map(answer_one).collect()
        });
        (SocketAddr::from((Ipv4Addr::LOCALHOST, port)), requests)
    }

    fn fetch(server: SocketAddr, content: &ExpectedContent) -> (Result<Vec<u8>, BootFailure>, u64) {
        fetch_verified(server, content, ContentProof::Full)
    }

    fn fetch_verified(
        server: SocketAddr,
        content: &ExpectedContent,
        verify: ContentProof,
    ) -> (Result<Vec<u8>, BootFailure>, u64) {
        let mut contents = ContentMap::default();
        contents.insert("initrd", content.clone());
        let pace = FleetPace {
            haste: 1000,
            idle_waits: false,
            gives_up: false,
            patience: Duration::from_secs(5),
        };
        let wire = WireSettings { verify, ..WireSettings::default() };
        let context = FleetContext::new(server, contents, pace, Arc::default()).with_wire(wire, 1);
        let url = Url { scheme: UrlScheme::Http, server, path: "/initrd".to_owned() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let fetched = runtime.block_on(
            HttpFetcher::new(&context, HttpAgent::Ipxe, Ipv4Addr::LOCALHOST).fetch(&url, false),
        );
        (fetched, context.progress.retries())
    }

    #[test]
    fn h16_h20_a_transfer_goes_on_where_its_connection_broke() {
        let content = ExpectedContent::Generated { seed: 3, octets: 100_000 };
        let mut file = Vec::new();
        content.write_to(&mut file).unwrap();
        let head = |status: &str, more: &str| {
            format!("HTTP/1.1 {status}\r\nETag: \"a\"\r\n{more}\r\n\r\n").into_bytes()
        };
        let first = [head("200 OK", "Content-Length: 100000"), file[..60_000].to_vec()].concat();
        let range = "Content-Length: 40000\r\nContent-Range: bytes 60000-99999/100000";
        let second = [head("206 Partial Content", range), file[60_000..].to_vec()].concat();
        let (address, requests) = server(vec![first, second]);
        assert_eq!(fetch(address, &content), (Ok(vec![]), 1));
        assert!(requests.join().unwrap()[1].contains("Range: bytes=60000-\r\nIf-Match: \"a\"\r\n"));
    }

    #[test]
    fn h10_each_program_takes_up_a_broken_transfer_as_often_as_it_does() {
        let fetched = |agent, answers: usize| {
            let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec();
            let (address, requests) = server(vec![cut; answers]);
            let pace = FleetPace {
                haste: 1000,
                idle_waits: false,
                gives_up: true,
                patience: Duration::from_secs(5),
            };
            let context = FleetContext::new(address, ContentMap::default(), pace, Arc::default());
            let url = Url { scheme: UrlScheme::Http, server: address, path: "/initrd".to_owned() };
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let fetched = runtime.block_on(
                HttpFetcher::new(&context, agent, Ipv4Addr::LOCALHOST).fetch(&url, false),
            );
            assert_eq!(requests.join().unwrap().len(), answers);
            fetched.unwrap_err().to_string()
        };
        assert_eq!(
            fetched(HttpAgent::Grub, 1),
            "GRUB gives up: HTTP: the connection ended before the end of /initrd, 1 tries in 0 s"
        );
        let said = fetched(HttpAgent::Edk2, 6);
        assert_eq!(
            said,
            "UEFI HTTP Boot gives up: HTTP: the connection ended before the end of /initrd, 6 \
             tries in 10 s"
        );
    }

    #[test]
    fn h19_uefi_http_boot_asks_for_the_size_and_then_the_file_on_one_connection() {
        let content = ExpectedContent::Generated { seed: 3, octets: 1000 };
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec();
        let mut file = head.clone();
        content.write_to(&mut file).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            [head, file].map(|answer| {
                let mut request = [0; 1000];
                let octets = stream.read(&mut request).unwrap();
                stream.write_all(&answer).unwrap();
                String::from_utf8_lossy(&request[..octets]).split(' ').next().unwrap().to_owned()
            })
        });
        let pace = FleetPace {
            haste: 1,
            idle_waits: false,
            gives_up: true,
            patience: Duration::from_secs(5),
        };
        let mut contents = ContentMap::default();
        contents.insert("nbp.efi", content);
        let context = FleetContext::new(address, contents, pace, Arc::default());
        let url = Url { scheme: UrlScheme::Http, server: address, path: "/nbp.efi".to_owned() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut http = HttpFetcher::new(&context, HttpAgent::Edk2, Ipv4Addr::LOCALHOST);
            assert_eq!(http.head(&url).await, Ok(1000));
            http.fetch(&url, false).await.unwrap();
        });
        assert_eq!(asked.join().unwrap(), ["HEAD", "GET"]);
    }

    #[test]
    fn a_part_of_a_file_is_checked_where_it_belongs_and_the_whole_is_no_part() {
        let content = ExpectedContent::Generated { seed: 3, octets: 1000 };
        let mut file = Vec::new();
        content.write_to(&mut file).unwrap();
        let part = |from: usize| {
            let head =
                "HTTP/1.1 206 Partial Content\r\nContent-Length: 100\r\nContent-Range: bytes";
            [format!("{head} 450-549/1000\r\n\r\n").as_bytes(), &file[from..from + 100]].concat()
        };
        let whole = [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", &file[..]].concat();
        let name = || "/initrd".to_owned();
        for (answer, expected) in [
            (part(450), Ok(())),
            (part(449), Err(BootFailure::WrongContent(name(), 450))),
            (whole, Err(BootFailure::HttpNotInPart(name()))),
        ] {
            let (address, _requests) = server(vec![answer]);
            let pace = FleetPace {
                haste: 1,
                idle_waits: false,
                gives_up: true,
                patience: Duration::from_secs(5),
            };
            let mut contents = ContentMap::default();
            contents.insert("initrd", content.clone());
            let context = FleetContext::new(address, contents, pace, Arc::default());
            let url = Url { scheme: UrlScheme::Http, server: address, path: name() };
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let checker = context.checker("/initrd", false).of_part(450..550);
            let mut http =
                HttpFetcher::new(&context, HttpAgent::Plain { keep: true }, Ipv4Addr::LOCALHOST);
            assert_eq!(runtime.block_on(http.fetch_checked(&url, checker)).map(drop), expected);
        }
    }

    #[test]
    fn h12_another_version_of_the_file_is_seen_and_not_mixed_in() {
        let content = ExpectedContent::Generated { seed: 3, octets: 1000 };
        let mut other = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec();
        ExpectedContent::Generated { seed: 4, octets: 1000 }.write_to(&mut other).unwrap();
        let (address, _requests) = server(vec![other]);
        assert_eq!(
            fetch(address, &content).0,
            Err(BootFailure::WrongContent("/initrd".to_owned(), 0))
        );
    }

    #[test]
    fn what_is_not_verified_is_counted_all_the_same() {
        let content = ExpectedContent::Generated { seed: 3, octets: 300_000 };
        let answer = |octets| {
            let mut answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {octets}\r\n\r\n").into_bytes();
            ExpectedContent::Generated { seed: 4, octets }.write_to(&mut answer).unwrap();
            answer
        };
        let name = || "/initrd".to_owned();
        for (verify, octets, expected) in [
            (ContentProof::Full, 300_000, Err(BootFailure::WrongContent(name(), 0))),
            (ContentProof::Length, 300_000, Ok(vec![])),
            (
                ContentProof::Length,
                299_999,
                Err(BootFailure::WrongLength(name(), 299_999, 300_000)),
            ),
            (ContentProof::None, 299_999, Ok(vec![])),
        ] {
            let (address, _requests) = server(vec![answer(octets)]);
            assert_eq!(
                fetch_verified(address, &content, verify).0,
                expected,
                "{verify:?} {octets}"
            );
        }
    }

    #[test]
    fn a_head_may_come_in_pieces_and_a_body_with_it() {
        let content = ExpectedContent::Generated { seed: 3, octets: 1000 };
        let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec();
        content.write_to(&mut answer).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            answer.chunks(7).for_each(|piece| stream.write_all(piece).unwrap());
            // Until the client has closed: an earlier end with its request unread would reset the
            // connection.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        assert_eq!(fetch(address, &content), (Ok(vec![]), 0));
        server.join().unwrap();
    }

    #[test]
    fn h30_a_missing_file_ends_the_boot_at_once() {
        let (address, _requests) =
            server(vec![b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec()]);
        let content = ExpectedContent::Generated { seed: 3, octets: 1000 };
        assert_eq!(
            fetch(address, &content).0,
            Err(BootFailure::HttpStatus("/initrd".to_owned(), 404))
        );
    }
}
