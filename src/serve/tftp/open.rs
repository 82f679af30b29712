//! From a requested name to the content of a transfer: the shelf finds the file, a worker reads
//! what is needed before the first block.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::held::{AskedFile, CarriedContent, HeldFile, LookedUp, OpenedFile, TftpLetter};
use super::limits::{SECURE_PAUSE, START_BYTES, TRANSLATED_AT_ONCE};
use super::plan::OptionsFor;
use super::transfers::CoreTransfers;
use crate::engine::mailbox::MailboxSender;
use crate::images::{self, COPY_FREE, CleanPath, OwedAnswer, ServedContent};
use crate::serve::quirks;
use crate::serve::shelf::{FileAnswer, FileReply, FileRequest, FileResolver, FileSources};
use crate::tftp::limits::{NETASCII_BYTES_MAX, OVERHEAD_V4, OVERHEAD_V6};
use crate::tftp::netascii;
use crate::tftp::options::negotiate_options;
use crate::tftp::packet::{StoredReadRequest, TftpRefusal, TransferMode};
use crate::tftp::table::{LocalAddress, TransferFailure, TransferId};

/// Opens files for the transfers of one core.
pub(super) struct FileOpener {
    shelf: FileResolver,
    options_for: Arc<OptionsFor>,
    letters: MailboxSender<TftpLetter>,
}

impl FileOpener {
    pub(super) fn new(
        names: Arc<FileSources>,
        options_for: Arc<OptionsFor>,
        letters: MailboxSender<TftpLetter>,
    ) -> Self {
        Self { shelf: FileResolver::new(names), options_for, letters }
    }

    pub(super) fn names(&self) -> &Arc<FileSources> {
        self.shelf.names()
    }

    /// Opens the file that a request names, and restricts the options to those that its client may
    /// negotiate.
    pub(super) fn open(
        &mut self,
        transfers: &mut CoreTransfers,
        id: TransferId,
        (peer, local): (SocketAddr, LocalAddress),
        request: &StoredReadRequest,
    ) {
        let name = request.name();
        let path = match images::clean_tftp_name(name) {
            Ok(path) => path,
            Err(refusal) => {
                let shown = name.escape_ascii().to_string();
                let why = format!("{shown}: {refusal}");
                refuse(transfers, id, peer, (shown, why), refusal);
                return;
            }
        };

        // The client may negotiate what the configuration grants it, what its firmware has proved
        // to handle, and what its link carries in one frame.
        let machine = self.names().machine_at(peer.ip());
        let mtu = transfers.mtus.find(local.interface);
        let mut options = (self.options_for)(self.names().address_of(peer.ip()), machine.as_ref());
        let overhead = if peer.is_ipv4() { OVERHEAD_V4 } else { OVERHEAD_V6 };
        if let Some(machine) = &machine {
            options = quirks::restricted(options, self.names().published.allowance(machine));
        }
        options.block_size_max = options.block_size_max.min(mtu.saturating_sub(overhead));
        transfers.table.restrict_options(id, options);

        let repaired = images::strip_trailing_garbage(name)
            .and_then(|name| images::clean_tftp_name(name).ok());
        let ask =
            FileRequest { path, repaired, peer: peer.ip(), local: local.address, over_http: false };
        let mode = request.mode();
        let is_plain =
            !negotiate_options(request.options(), &options, mode, 0, &mut Vec::new()).acknowledged;
        self.look_up(transfers, id, Arc::new(AskedFile { ask, mode, is_plain }), prepare_start);
    }

    /// Looks up the whole content of a transfer whose client has answered.
    pub(super) fn secure_content(
        &mut self,
        transfers: &mut CoreTransfers,
        id: TransferId,
        asked: Arc<AskedFile>,
    ) {
        self.look_up(transfers, id, asked, prepare_whole);
    }

    /// Looks a name up, at once or on a worker.
    fn look_up(
        &mut self,
        transfers: &mut CoreTransfers,
        id: TransferId,
        asked: Arc<AskedFile>,
        prepare: PrepareReply,
    ) {
        let (letters, names, later) =
            (self.letters.clone(), Arc::clone(self.names()), Arc::clone(&asked));
        let reply = self.shelf.ask(asked.ask.clone(), move |reply| {
            letters.send(TftpLetter::LookedUp(id, prepare(&names, later, reply)));
        });
        let Some(reply) = reply else { return };

        // A worker must still translate some files, or read their first bytes.
        let names = Arc::clone(self.names());
        let needs_disk =
            matches!(&reply, FileReply::Content(answer) if asked.needs_disk(&answer.content));
        if !needs_disk {
            let looked_up = prepare(&names, asked, reply);
            return take_looked_up(transfers, id, looked_up);
        }

        let (letters, later, workers) =
            (self.letters.clone(), Arc::clone(&asked), names.images.workers().clone());
        let owed = OwedAnswer::new(
            move |reply| letters.send(TftpLetter::LookedUp(id, prepare(&names, later, reply))),
            |panicked| {
                let (refusal, why) = if panicked {
                    (images::NameRefusal::ReadFailed, "the worker that read the file panicked")
                } else {
                    (images::NameRefusal::Busy, "every worker is busy and the queue is full")
                };
                FileReply::Refused(refusal, why.into())
            },
        );
        // If every worker is busy, dropping `owed` answers.
        let _ = workers.submit_slow_job(asked.ask.asker(), move || owed.deliver(reply));
    }

    /// Handles a worker's answer, and remembers the file for the next request.
    pub(super) fn take_letter(
        &mut self,
        transfers: &mut CoreTransfers,
        id: TransferId,
        looked_up: LookedUp,
    ) {
        if let FileReply::Content(answer) = looked_up.reply() {
            self.shelf.remember(&answer.content);
        }
        take_looked_up(transfers, id, looked_up);
    }
}

fn take_looked_up(transfers: &mut CoreTransfers, id: TransferId, looked_up: LookedUp) {
    match looked_up {
        LookedUp::Opened(opened) => take_opened(transfers, id, opened),
        LookedUp::Secured(reply) => take_secured(transfers, id, reply),
    }
}

/// Hands the table the content of a new transfer, or refuses the request.
fn take_opened(transfers: &mut CoreTransfers, id: TransferId, opened: OpenedFile) {
    let path = &opened.asked.ask.path;
    match opened.reply {
        FileReply::Content(FileAnswer { content, origin, reasons }) => {
            let len = opened.whole_bytes.unwrap_or(content.len());
            let etag = content.meta().etag.clone();
            // Before the first ACK a file costs no mapping (T-64). The weak handle finds it while
            // another transfer or the image store holds it; a copy cannot be looked up again.
            let carried = match opened.whole_bytes {
                Some(_) => CarriedContent::Start(content),
                None if content.is_copy() => CarriedContent::Whole(content),
                None => CarriedContent::Known(content.downgrade()),
            };

            let held = HeldFile { carried, etag, origin, reasons, asked: opened.asked };
            let now = transfers.now();
            drop(transfers.table.finish_open(now, id, Ok((held, len))));
        }
        FileReply::Directory => {
            let why = format!("{}: a directory", path.display());
            refuse_open(transfers, id, path, images::NameRefusal::NotRegular, why);
        }
        FileReply::Refused(refusal, why) => refuse_open(transfers, id, path, refusal, why),
    }
}

/// Gives a transfer its whole content, if the file is still the version that the client was
/// offered.
fn take_secured(transfers: &mut CoreTransfers, id: TransferId, reply: FileReply) {
    let now = transfers.now();
    let Some(held) = transfers.table.content_mut(id) else { return };
    match reply {
        FileReply::Content(answer) if answer.content.meta().etag == held.etag => {
            let len = answer.content.len();
            held.carried = CarriedContent::Whole(answer.content);
            transfers.table.set_len(id, len);
            transfers.table.resume(id);
        }
        FileReply::Refused(images::NameRefusal::Busy | images::NameRefusal::TooMany, _) => {
            transfers.counters.busy.add(1);
            transfers.waiting.postpone(id, now + SECURE_PAUSE);
        }
        FileReply::Refused(images::NameRefusal::ReadFailed, _) => {
            transfers.table.fail_transfer(now, id, TransferFailure::Unreadable)
        }
        _ => transfers.table.fail_transfer(now, id, TransferFailure::ContentLost),
    }
}

fn refuse_open(
    transfers: &mut CoreTransfers,
    id: TransferId,
    path: &CleanPath,
    refusal: images::NameRefusal,
    why: String,
) {
    let now = transfers.now();
    if matches!(refusal, images::NameRefusal::Busy | images::NameRefusal::TooMany) {
        transfers.counters.busy.add(1);
        transfers.journal.log_busy(Instant::now(), &why);
        // An ERROR is final for a ROM; silence makes it ask again.
        transfers.table.forget_request(now, id);
        return;
    }
    match transfers.table.peer(id) {
        Some(peer) => {
            let told = (path.display().into_owned(), why);
            refuse(transfers, id, peer, told, refusal);
        }
        None => drop(transfers.table.finish_open(now, id, Err(wire_refusal(refusal)))),
    }
}

/// Logs a refusal and sends its ERROR. `told`: the name and the reason.
fn refuse(
    transfers: &mut CoreTransfers,
    id: TransferId,
    peer: SocketAddr,
    told: (String, String),
    refusal: images::NameRefusal,
) {
    transfers.journal.log_refused(Instant::now(), peer, told, refusal);
    let now = transfers.now();
    drop(transfers.table.finish_open(now, id, Err(wire_refusal(refusal))));
}

/// Makes of a lookup's reply what the table gets. May wait for the disk where a file is translated.
type PrepareReply = fn(&FileSources, Arc<AskedFile>, FileReply) -> LookedUp;

/// Prepares a new transfer. Before the client's first ACK a transfer holds no more than the first
/// bytes of anything that costs memory or disk reads, so that a forged request cannot have anything
/// large made, read or kept (T-64). The version finds the content again.
fn prepare_start(_: &FileSources, asked: Arc<AskedFile>, reply: FileReply) -> LookedUp {
    let FileReply::Content(answer) = reply else { return report_opened(asked, reply, None) };

    let (content, is_text) = (&answer.content, asked.mode == TransferMode::Netascii);
    if is_text && content.len() > NETASCII_BYTES_MAX as u64 {
        let refusal = images::NameRefusal::TooLarge;
        return report_opened(
            asked,
            FileReply::Refused(refusal, format!("as netascii: {refusal}")),
            None,
        );
    }

    // Whole where that is cheap: a short translation, a small copy, a file that need not be read
    // yet.
    let is_whole = match () {
        () if is_text => content.len() <= TRANSLATED_AT_ONCE,
        () if content.is_copy() => content.len() <= COPY_FREE,
        () => !asked.needs_disk(content),
    };
    if is_whole && !is_text {
        return report_opened(asked, FileReply::Content(answer), None);
    }

    let bytes = if is_whole { usize::MAX } else { START_BYTES };
    let start = content.read_start(bytes).and_then(|start| match is_text {
        true => netascii::translate_netascii(&start)
            .map(Into::into)
            .map_err(|_| images::NameRefusal::TooLarge),
        false => Ok(start),
    });

    // The length of the source stands in for that of the translation, which nobody knows yet:
    // netascii has no `tsize` (T-19). `take_secured` sets the true one.
    match start {
        Ok(start) => {
            let (meta, of) = (content.meta(), (!is_whole).then_some(content.len()));
            // One block is enough, and a translation may be twice as long as its source.
            let start = start.slice(..start.len().min(bytes));
            let content = ServedContent::copy_of(start, meta.etag.clone(), meta.mtime, None);
            report_opened(asked, FileReply::Content(FileAnswer { content, ..answer }), of)
        }
        Err(refusal) => {
            let why = format!("{}: {refusal}", asked.ask.path.display());
            report_opened(asked, FileReply::Refused(refusal, why), None)
        }
    }
}

fn report_opened(asked: Arc<AskedFile>, reply: FileReply, whole_bytes: Option<u64>) -> LookedUp {
    LookedUp::Opened(OpenedFile { asked, reply, whole_bytes })
}

/// Prepares the whole content, for a client that has answered.
fn prepare_whole(names: &FileSources, asked: Arc<AskedFile>, reply: FileReply) -> LookedUp {
    match reply {
        FileReply::Content(answer) if asked.mode == TransferMode::Netascii => {
            LookedUp::Secured(translate(names, &asked, answer))
        }
        reply => LookedUp::Secured(reply),
    }
}

/// Translates a file to netascii (T-8): in memory, with CR LF line ends, one copy for all clients
/// that ask for it.
fn translate(names: &FileSources, asked: &AskedFile, answer: FileAnswer) -> FileReply {
    let translated = names.images.translate_once(&answer.content, asked.ask.peer, |bytes| {
        netascii::translate_netascii(bytes).map_err(|_| images::NameRefusal::TooLarge)
    });
    match translated {
        Ok(content) => FileReply::Content(FileAnswer { content, ..answer }),
        Err(refusal) => FileReply::Refused(refusal, format!("as netascii: {refusal}")),
    }
}

/// The ERROR for a refusal (T-53). The log has the reason.
fn wire_refusal(refusal: images::NameRefusal) -> TftpRefusal {
    use images::NameRefusal as R;
    match refusal {
        R::NotFound => TftpRefusal::NOT_FOUND,
        R::AboveRoot
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
