//! From a name to what a transfer carries: next to nothing before its client has answered, all of
//! its content after that.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::{Letter, Running, mtu_of};
use crate::images::{self, COPY_FREE, CleanPath, OwedAnswer, ServedContent, WeakServedContent};
use crate::serve::quirks;
use crate::serve::shelf::{Answer, Ask, Names, Origin, Reply};
use crate::tftp::Tick;
use crate::tftp::limits::{BLOCK_SIZE_DEFAULT, NETASCII_OCTETS_MAX, OVERHEAD_V4, OVERHEAD_V6};
use crate::tftp::netascii;
use crate::tftp::options::negotiate_options;
use crate::tftp::packet::{StoredReadRequest, TftpRefusal, TransferMode};
use crate::tftp::table::{LocalAddress, TransferFailure, TransferId};

/// How long a transfer waits that is to hold its content and finds too little memory for it, before
/// it asks again.
const SECURE_PAUSE: Tick = 200_000_000;

/// Octets that the transfer of a copy carries before its client has answered: a block without
/// options.
const START_OCTETS: usize = BLOCK_SIZE_DEFAULT as usize;

/// A name's answer on its way to the table.
pub(super) struct Opened {
    pub(super) asked: Arc<Asked>,
    pub(super) reply: Reply,
    /// The reply's content is the start of one of (at least) so many octets.
    pub(super) of: Option<u64>,
}

/// What a client wants, kept to look it up once more.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) ask: Ask,
    pub(super) mode: TransferMode,
    /// Nothing is agreed, so that the first answer is a block.
    pub(super) is_plain: bool,
}

impl Asked {
    /// Whether bytes of this content are read before anything can be sent.
    fn needs_disk(&self, content: &ServedContent) -> bool {
        self.mode == TransferMode::Netascii || self.is_plain && content.inline_bytes().is_none()
    }
}

/// What the table keeps for a transfer.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) carried: Carried,
    /// Of the version that the client was offered.
    pub(super) etag: String,
    pub(super) origin: Origin,
    pub(super) reasons: Vec<String>,
    pub(super) asked: Arc<Asked>,
}

/// How much of its content a transfer holds. Before the client's first ACK it is next to nothing.
#[derive(Debug)]
pub(super) enum Carried {
    Whole(ServedContent),
    /// A file that others hold, or the images until they need its place.
    Known(WeakServedContent),
    /// The first octets of a copy.
    Start(ServedContent),
}

impl Held {
    /// What it carries is as it was; nothing is known of what it does not hold.
    pub(super) fn is_unchanged(&self) -> bool {
        match &self.carried {
            Carried::Whole(content) | Carried::Start(content) => content.is_unchanged(),
            Carried::Known(_) => true,
        }
    }
}

impl Running {
    pub(super) fn open(
        &mut self,
        id: TransferId,
        peer: SocketAddr,
        local: LocalAddress,
        request: &StoredReadRequest,
    ) {
        let name = request.name();
        let path = match images::clean_tftp_name(name) {
            Ok(path) => path,
            Err(refusal) => {
                let why = format!("{}: {refusal}", name.escape_ascii());
                self.refuse(id, peer, name.escape_ascii().to_string(), refusal, why);
                return;
            }
        };
        let machine = self.shelf.names().machine_at(peer.ip());
        let mtu = mtu_of(&mut self.mtus, local.interface);
        let mut options =
            (self.plan.options_for)(self.shelf.names().address_of(peer.ip()), machine.as_ref());
        let overhead = if peer.is_ipv4() { OVERHEAD_V4 } else { OVERHEAD_V6 };
        if let Some(machine) = &machine {
            options = quirks::restricted(options, self.shelf.names().published.allowance(machine));
        }
        options.block_size_max = options.block_size_max.min(mtu.saturating_sub(overhead));
        self.table.restrict(id, options);
        let repaired = images::strip_trailing_garbage(name)
            .and_then(|name| images::clean_tftp_name(name).ok());
        let ask = Ask { path, repaired, peer: peer.ip(), local: local.address, over_http: false };
        let mode = request.mode();
        let is_plain =
            !negotiate_options(request.options(), &options, mode, 0, &mut Vec::new()).acknowledged;
        self.look(id, Arc::new(Asked { ask, mode, is_plain }), prepare);
    }

    /// Looks a name up, for a transfer that is to be opened or for one that is to hold all of it
    /// from now on.
    pub(super) fn look(&mut self, id: TransferId, asked: Arc<Asked>, prepare: Prepare) {
        let (letters, names, later) =
            (self.letters.clone(), Arc::clone(self.shelf.names()), Arc::clone(&asked));
        let reply = self
            .shelf
            .ask(asked.ask.clone(), move |reply| letters.send(prepare(&names, id, later, reply)));
        let Some(reply) = reply else { return };
        let (names, workers) =
            (Arc::clone(self.shelf.names()), self.shelf.names().images.workers().clone());
        // A file that is known already: to be translated, or read at its start.
        let needs_disk =
            matches!(&reply, Reply::Content(answer) if asked.needs_disk(&answer.content));
        if !needs_disk {
            return self.read(prepare(&names, id, asked, reply));
        }
        let (letters, later) = (self.letters.clone(), Arc::clone(&asked));
        let owed = OwedAnswer::new(
            move |reply| letters.send(prepare(&names, id, later, reply)),
            |panicked| {
                let refusal = if panicked {
                    images::NameRefusal::ReadFailed
                } else {
                    images::NameRefusal::Busy
                };
                Reply::Refused(refusal, "every worker is busy and the queue is full".into())
            },
        );
        // Refused: what is owed has been paid by the drop.
        let _ = workers.make(asked.ask.asker(), move || owed.pay(reply));
    }

    pub(super) fn opened(&mut self, id: TransferId, opened: Opened) {
        let now = self.now();
        let path = &opened.asked.ask.path;
        match opened.reply {
            Reply::Content(Answer { content, origin, reasons }) => {
                let len = opened.of.unwrap_or(content.len());
                let etag = content.meta().etag.clone();
                let carried = match opened.of {
                    Some(_) => Carried::Start(content),
                    None if content.is_copy() => Carried::Whole(content),
                    None => Carried::Known(content.downgrade()),
                };
                let held = Held { carried, etag, origin, reasons, asked: opened.asked };
                drop(self.table.opened(now, id, Ok((held, len))));
            }
            Reply::Directory => {
                let why = format!("{}: a directory", path.display());
                self.refuse_open(id, path, images::NameRefusal::NotRegular, why);
            }
            Reply::Refused(refusal, why) => self.refuse_open(id, path, refusal, why),
        }
    }

    /// A transfer whose client is there holds its content from now on, if that is still what it was
    /// offered.
    pub(super) fn secured(&mut self, id: TransferId, reply: Reply) {
        let now = self.now();
        let Some(held) = self.table.content_mut(id) else { return };
        match reply {
            Reply::Content(answer) if answer.content.meta().etag == held.etag => {
                let len = answer.content.len();
                held.carried = Carried::Whole(answer.content);
                self.table.set_len(id, len);
                self.table.resume(id);
            }
            Reply::Refused(images::NameRefusal::Busy | images::NameRefusal::TooMany, _) => {
                self.counters.busy.add(1);
                self.postponed.push((id, now + SECURE_PAUSE));
            }
            Reply::Refused(images::NameRefusal::ReadFailed, _) => {
                self.table.failed(now, id, TransferFailure::Unreadable)
            }
            _ => self.table.failed(now, id, TransferFailure::ContentLost),
        }
    }

    fn refuse_open(
        &mut self,
        id: TransferId,
        path: &CleanPath,
        refusal: images::NameRefusal,
        why: String,
    ) {
        if matches!(refusal, images::NameRefusal::Busy | images::NameRefusal::TooMany) {
            self.counters.busy.add(1);
            self.journal.busy(Instant::now(), &why, self.counters.busy.read());
            // An ERROR is final for a ROM; silence makes it ask again.
            self.table.forget(self.now(), id);
            return;
        }
        match self.table.peer(id) {
            Some(peer) => self.refuse(id, peer, path.display().into_owned(), refusal, why),
            None => drop(self.table.opened(self.now(), id, Err(wire_refusal(refusal)))),
        }
    }

    fn refuse(
        &mut self,
        id: TransferId,
        peer: SocketAddr,
        name: String,
        refusal: images::NameRefusal,
        why: String,
    ) {
        let left_out = &self.counters.events_left_out;
        self.journal.refused(
            Instant::now(),
            self.shelf.names(),
            peer,
            (name, why),
            refusal,
            left_out,
        );
        drop(self.table.opened(self.now(), id, Err(wire_refusal(refusal))));
    }
}

/// What a lookup's reply becomes on its way to the table. May wait for the disk where a file is to
/// be translated.
type Prepare = fn(&Names, TransferId, Arc<Asked>, Reply) -> Letter;

/// Before its client has answered, a transfer carries no more than the first octets of what would
/// cost memory or a disk: whoever forges requests has nothing large made, read or kept (T-64). What
/// it is to be found again by is its version.
fn prepare(_: &Names, id: TransferId, asked: Arc<Asked>, reply: Reply) -> Letter {
    let opened = |asked, reply, of| Letter::Opened(id, Opened { asked, reply, of });
    let Reply::Content(answer) = reply else { return opened(asked, reply, None) };
    let (content, is_text) = (&answer.content, asked.mode == TransferMode::Netascii);
    if is_text && content.len() > NETASCII_OCTETS_MAX as u64 {
        let refusal = images::NameRefusal::TooLarge;
        return opened(asked, Reply::Refused(refusal, format!("as netascii: {refusal}")), None);
    }
    let is_whole = match () {
        () if is_text => content.len() <= COPY_FREE / 2,
        () if content.is_copy() => content.len() <= COPY_FREE,
        () => !asked.needs_disk(content),
    };
    if is_whole && !is_text {
        return opened(asked, Reply::Content(answer), None);
    }
    let octets = if is_whole { usize::MAX } else { START_OCTETS };
    let start = content.read_start(octets).and_then(|start| match is_text {
        true => netascii::translate_netascii(&start)
            .map(Into::into)
            .map_err(|_| images::NameRefusal::TooLarge),
        false => Ok(start),
    });
    match start {
        Ok(start) => {
            let (meta, of) = (content.meta(), (!is_whole).then_some(content.len()));
            let start = start.slice(..start.len().min(octets));
            let content = ServedContent::copy_of(start, meta.etag.clone(), meta.mtime, None);
            opened(asked, Reply::Content(Answer { content, ..answer }), of)
        }
        Err(refusal) => {
            let why = format!("{}: {refusal}", asked.ask.path.display());
            opened(asked, Reply::Refused(refusal, why), None)
        }
    }
}

/// The whole content, for a client that is there.
pub(super) fn prepare_whole(
    names: &Names,
    id: TransferId,
    asked: Arc<Asked>,
    reply: Reply,
) -> Letter {
    match reply {
        Reply::Content(answer) if asked.mode == TransferMode::Netascii => {
            Letter::Secured(id, translated(names, &asked, answer))
        }
        reply => Letter::Secured(id, reply),
    }
}

/// T-8: the whole file with CR LF line ends, in memory, one copy for all who ask for it.
fn translated(names: &Names, asked: &Asked, answer: Answer) -> Reply {
    let translate = |bytes: &[u8]| {
        netascii::translate_netascii(bytes).map_err(|_| images::NameRefusal::TooLarge)
    };
    match names.images.translated(&answer.content, asked.ask.peer, translate) {
        Ok(content) => Reply::Content(Answer { content, ..answer }),
        Err(refusal) => Reply::Refused(refusal, format!("as netascii: {refusal}")),
    }
}

/// T-53: the code for the wire; the log has the reason.
fn wire_refusal(refusal: images::NameRefusal) -> TftpRefusal {
    use images::NameRefusal as R;
    match refusal {
        R::NotFound => TftpRefusal::NOT_FOUND,
        R::DotDot
        | R::ControlCharacter
        | R::Hidden
        | R::OutsideRoot
        | R::NotRegular
        | R::Unreadable
        | R::Private => TftpRefusal::ACCESS_VIOLATION,
        R::TooLarge | R::ReadFailed | R::TooMany | R::TemplateFailed | R::Busy => {
            TftpRefusal::INTERNAL
        }
    }
}
