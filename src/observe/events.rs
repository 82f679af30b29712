//! Events of machines: cores push them into a bounded queue, and the journal thread prints and
//! remembers them.

use std::collections::VecDeque;
use std::mem::{Discriminant, discriminant};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ringboot_protocol::boot::names::is_optional_file;
use ringboot_protocol::boot::quirks::TransferAttempt;
use ringboot_protocol::model::machine::{Firmware, Mac};

/// Events that may wait for the journal thread. A core drops and counts one more: it never waits.
pub const EVENTS_QUEUED_MAX: usize = 8192;
/// How often a thread that waits for the journal thread checks its progress.
const PROGRESS_CHECKED_EVERY: Duration = Duration::from_millis(1);

/// The step of a boot an event belongs to, in the order in which a machine meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MachineStage {
    /// DHCP, from DISCOVER to the lease.
    Dhcp,
    /// A boot program: pxelinux.0, shimx64.efi, ipxe.efi.
    Loader,
    /// A menu or a script of the loader: grub.cfg, pxelinux.cfg/default, boot.ipxe.
    Menu,
    /// The kernel of a menu entry.
    Kernel,
    /// An initrd of a menu entry.
    Initrd,
    /// A file for the installer: ks.cfg, preseed.cfg, autoinstall.
    AnswerFile,
    /// Any other file.
    File,
}

impl MachineStage {
    /// Every stage, in the order in which a machine meets them.
    pub const ALL: [Self; 7] = [
        Self::Dhcp,
        Self::Loader,
        Self::Menu,
        Self::Kernel,
        Self::Initrd,
        Self::AnswerFile,
        Self::File,
    ];

    /// The word of the stage in the log and the timeline.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dhcp => "dhcp",
            Self::Loader => "loader",
            Self::Menu => "menu",
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::AnswerFile => "answer file",
            Self::File => "file",
        }
    }
}

/// The level of an event in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventWeight {
    /// DEBUG: normal between firmware and server (a size probe, a missing grub.cfg-01-...).
    Detail,
    /// INFO: a step of a boot, or news for an operator.
    Step,
    /// WARN: a fault that an operator can and should mend.
    Warning,
}

words! {
    /// Why DHCP left a message without an answer.
    pub enum UnansweredReason {
        /// No subnet of the configuration matches this segment.
        NoSubnet = "no-subnet",
        /// The same for a message that a relay agent or a router forwarded.
        NoSubnetBehind = "no-subnet-behind",
        /// The message was relayed, and its subnet serves its own link only.
        NotForRelays = "not-for-relays",
        /// The subnet has `mode = "off"`.
        SubnetOff = "subnet-off",
        /// The client does not ask for a network boot, and the subnet has `clients = "pxe"`.
        NotPxe = "not-pxe",
        /// The client has no reservation, and the subnet has `clients = "known"`.
        NotReserved = "not-reserved",
        /// Another DHCP server answers on the segment.
        OtherServer = "silent",
        /// The server still looks for other DHCP servers on the segment.
        Looking = "looking",
        /// The subnet's interface does not exist, or has no address in the subnet.
        NoInterface = "no-interface",
        /// INIT-REBOOT of an unknown client, which another server may know.
        UnknownClient = "unknown-client",
        /// BOOTP, without a reservation.
        Bootp = "bootp",
        /// The client declined so many addresses that the pools give it none for a while.
        DeclinedTooMuch = "declined-too-much",
        /// The DECLINE that reached that limit, or the first one that the server does not store.
        LastDecline = "last-decline",
        /// The mandatory options do not fit the message size that the client accepts.
        TooLarge = "too-large",
        /// The message makes no sense, or asks for an address that the client does not have.
        Odd = "odd",
    }
}

words! {
    /// Why the server refuses a file although it exists, or may exist.
    pub enum FileDenial {
        /// The permissions keep the server's user, or others, out.
        Unreadable = "unreadable",
        /// The name, or a link in it, leads outside the root.
        OutsideRoot = "outside-root",
        /// A directory or a device.
        NotAFile = "not-a-file",
        /// A component of the name is one that the server hides, such as `.git`.
        Hidden = "hidden",
        /// The server's own configuration or state.
        Private = "private",
        /// The name leads above the root, or has a control character.
        BadName = "bad-name",
        /// Too large for a translation to netascii.
        TooLarge = "too-large",
    }
}

/// What happened, with the facts by which [`super::cause`] judges where a boot stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The server sent an OFFER.
    Offered {
        /// The program that sent the DISCOVER.
        to: Firmware,
    },
    /// The server sent an ACK for a new lease.
    Leased {
        /// The program that sent the REQUEST.
        to: Firmware,
        /// Another machine has the same hardware address.
        twin: bool,
    },
    /// The server extended a lease that the machine holds.
    Renewed,
    /// An OFFER or ACK without the boot file that the firmware wants.
    NoLoader {
        /// The program that asked.
        to: Firmware,
        /// A clause that names the missing line of `[boot]`.
        why: String,
    },
    /// The server sent a NAK.
    Nak,
    /// The pools of the subnet have no free address.
    NoAddressFree,
    /// The REQUEST of the client chose another server.
    OtherServer {
        /// That server's identifier (option 54).
        server: Ipv4Addr,
    },
    /// The client found its address in use (DECLINE).
    Declined,
    /// The client gave its address back (RELEASE).
    Released,
    /// DHCP left a message without an answer for some other reason.
    Unanswered {
        /// The reason.
        why: UnansweredReason,
        /// The subnet or the address that this is about; empty where there is none.
        about: String,
        /// The DHCP server that answers there.
        other: Option<(Ipv4Addr, Mac)>,
    },
    /// Another host uses an address that is not leased.
    Conflict,
    /// The pools of a subnet are full or nearly full.
    PoolFills,
    /// The pools of that subnet have free addresses again.
    PoolHasRoom,
    /// The client asked for the size or the existence of a file, and fetched nothing.
    SizeProbe,
    /// A file was sent completely.
    Sent {
        /// The file as the client named it.
        name: String,
        /// Bytes of the body.
        bytes: u64,
    },
    /// The file does not exist.
    Missing {
        /// The file as the client named it.
        name: String,
        /// The line of the configuration that names the file; None where no line does.
        rule: Option<String>,
    },
    /// The file exists, or may exist, and the server refuses it.
    Denied {
        /// The file as the client named it.
        name: String,
        /// The reason.
        why: FileDenial,
    },
    /// A template could not be rendered; the sentence says where.
    TemplateFailed,
    /// The client sent a TFTP write request (WRQ).
    WriteRefused,
    /// The request is malformed, or of a kind that the server does not serve.
    BadRequest,
    /// The client stopped acknowledging.
    Stalled {
        /// The file as the client named it.
        name: String,
        /// The first block that was not acknowledged, counted from 1 and never wrapped.
        block: u64,
    },
    /// The client ended the transfer with a TFTP ERROR.
    ClientAborted {
        /// The file as the client named it.
        name: String,
        /// The error code (RFC 1350 appendix, RFC 2347 for 8).
        code: u16,
    },
    /// The file was changed in place under a transfer.
    Changed {
        /// The file as the client named it.
        name: String,
    },
    /// ACKs came from a sender that does not know the transfer's port.
    Forged {
        /// The file as the client named it.
        name: String,
    },
    /// The server cut an HTTP connection whose client was too slow.
    TooSlow,
    /// A fault of the server: the sentence says which.
    Failed,
    /// The server is short of memory, descriptors or sessions, and leaves requests unanswered.
    Short,
    /// An event that never stops a boot.
    Other,
}

/// A kind without its facts: lines of one sort share a count in the pace of the log.
pub type EventSort = (Discriminant<EventKind>, Option<UnansweredReason>);

/// The ERROR code of a client that rejects the options of an OACK (RFC 2347): no fault.
const OPTIONS_REFUSED: u16 = 8;

impl EventKind {
    /// The level of the event in the log; docs/log.md has the same table.
    pub fn weight(&self) -> EventWeight {
        match self {
            Self::Offered { .. } | Self::Renewed | Self::Released | Self::OtherServer { .. } => {
                EventWeight::Detail
            }
            Self::SizeProbe | Self::ClientAborted { code: OPTIONS_REFUSED, .. } | Self::Other => {
                EventWeight::Detail
            }
            // Loaders and firmware ask for such names in every boot (T-54).
            Self::Missing { rule: None, name } if is_optional_file(name) => EventWeight::Detail,
            Self::Leased { twin: false, .. }
            | Self::Nak
            | Self::PoolHasRoom
            | Self::Sent { .. } => EventWeight::Step,
            Self::Missing { rule: None, .. }
            | Self::Denied { why: FileDenial::Hidden | FileDenial::BadName, .. } => {
                EventWeight::Step
            }
            Self::ClientAborted { .. } | Self::WriteRefused | Self::BadRequest => EventWeight::Step,
            Self::Unanswered { why, .. } => why.weight(),
            Self::Leased { twin: true, .. } | Self::NoLoader { .. } | Self::NoAddressFree => {
                EventWeight::Warning
            }
            Self::Declined | Self::Conflict | Self::PoolFills => EventWeight::Warning,
            Self::Missing { rule: Some(_), .. } | Self::Denied { .. } | Self::TemplateFailed => {
                EventWeight::Warning
            }
            Self::Stalled { .. } | Self::Changed { .. } | Self::Forged { .. } | Self::TooSlow => {
                EventWeight::Warning
            }
            Self::Failed | Self::Short => EventWeight::Warning,
        }
    }

    /// A step that every machine takes: a boot storm has many, and the log has all of them.
    pub fn is_step(&self) -> bool {
        matches!(self, Self::Leased { twin: false, .. } | Self::Sent { .. })
    }

    /// The class in which the pace of the log counts this event.
    pub fn to_sort(&self) -> EventSort {
        let why = if let Self::Unanswered { why, .. } = self { Some(*why) } else { None };
        (discriminant(self), why)
    }

    /// Bytes of the strings in this kind, for the journal's limit.
    pub(super) fn count_text_bytes(&self) -> usize {
        match self {
            Self::NoLoader { why, .. } => why.len(),
            Self::Unanswered { about, .. } => about.len(),
            Self::Missing { name, rule } => name.len() + rule.as_ref().map_or(0, String::len),
            Self::Sent { name, .. }
            | Self::Denied { name, .. }
            | Self::Stalled { name, .. }
            | Self::ClientAborted { name, .. }
            | Self::Forged { name }
            | Self::Changed { name } => name.len(),
            _ => 0,
        }
    }
}

impl UnansweredReason {
    /// The level of an unanswered message. INFO where a line of the configuration keeps the machine
    /// out, since the operator may want that.
    pub fn weight(self) -> EventWeight {
        match self {
            Self::NoSubnet | Self::NoSubnetBehind | Self::NotForRelays => EventWeight::Warning,
            Self::LastDecline | Self::TooLarge => EventWeight::Warning,
            Self::SubnetOff | Self::NotPxe | Self::NotReserved | Self::Bootp => EventWeight::Step,
            Self::OtherServer | Self::NoInterface => EventWeight::Step,
            Self::Looking | Self::UnknownClient | Self::DeclinedTooMuch | Self::Odd => {
                EventWeight::Detail
            }
        }
    }
}

/// One event of one machine, on its way from a core to the journal thread.
#[derive(Clone, Debug)]
pub struct MachineEvent {
    /// None where only the address of the machine is known.
    pub mac: Option<Mac>,
    /// None in DHCP before the machine has an address.
    pub address: Option<IpAddr>,
    /// The step of the boot to which the event belongs.
    pub stage: MachineStage,
    /// The level in the log; mostly [`EventKind::weight`].
    pub weight: EventWeight,
    /// What happened, with its facts.
    pub kind: EventKind,
    /// One sentence with its reasons.
    pub text: String,
    /// Set at the end of a TFTP transfer with a known machine: what it shows of its firmware.
    pub attempt: Option<Box<TransferAttempt>>,
}

impl MachineEvent {
    /// An event with the weight of its kind.
    pub fn new(
        mac: Option<Mac>,
        address: Option<IpAddr>,
        stage: MachineStage,
        kind: EventKind,
        text: String,
    ) -> Self {
        Self { mac, address, stage, weight: kind.weight(), kind, text, attempt: None }
    }
}

/// The sending end of the event queue. Each thread has a clone.
#[derive(Clone, Debug)]
pub struct EventSender {
    queue: SyncSender<MachineEvent>,
    dropped: Arc<AtomicU64>,
    progress: Arc<JournalProgress>,
    aside: Arc<DivertedEvents>,
}

/// How many events were pushed, and how many of them the journal remembers.
#[derive(Debug, Default)]
pub struct JournalProgress {
    pushed: AtomicU64,
    remembered: AtomicU64,
}

impl JournalProgress {
    /// Counts an event that the journal thread has remembered.
    pub fn count_remembered(&self) {
        self.remembered.fetch_add(1, Ordering::Release);
    }
}

/// Events of loopback addresses from which `check --live` walks: kept for the walk, and neither
/// printed nor remembered.
#[derive(Debug, Default)]
struct DivertedEvents {
    /// True since the first walk: before it, `push` takes no lock.
    is_used: AtomicBool,
    /// The newest last. An address stays here after its walk, because the event of a transfer's
    /// end may come later.
    kept: Mutex<VecDeque<(IpAddr, Vec<MachineEvent>)>>,
}

/// Addresses whose events are diverted at one time; beyond it the oldest is dropped.
const ASIDE_MAX: usize = 64;

/// Events kept of one diverted address; a walk of a machine's files makes a few dozen.
const EVENTS_ASIDE_MAX: usize = 1024;

/// Opens a queue of events: the sending end for the cores, the receiving end for the journal
/// thread.
pub fn open_event_queue() -> (EventSender, Receiver<MachineEvent>) {
    let (sender, receiver) = sync_channel(EVENTS_QUEUED_MAX);
    (
        EventSender {
            queue: sender,
            dropped: Arc::default(),
            progress: Arc::default(),
            aside: Arc::default(),
        },
        receiver,
    )
}

impl EventSender {
    /// Pushes an event without waiting; a full queue drops the event and counts the drop.
    pub fn push(&self, event: MachineEvent) {
        let Some(event) = self.aside.divert(event) else { return };
        // Counted before the send: a thread that waits in between must wait for this event too.
        self.progress.pushed.fetch_add(1, Ordering::AcqRel);
        if self.queue.try_send(event).is_err() {
            self.progress.pushed.fetch_sub(1, Ordering::AcqRel);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts that the journal thread advances.
    pub fn progress(&self) -> Arc<JournalProgress> {
        Arc::clone(&self.progress)
    }

    /// Waits until the journal remembers every event that was pushed before this call. False where
    /// that takes longer than `limit`.
    pub fn wait_until_remembered(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let pushed = self.progress.pushed.load(Ordering::Acquire);
        while self.progress.remembered.load(Ordering::Acquire) < pushed {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(PROGRESS_CHECKED_EVERY);
        }
        true
    }

    /// Events that a full queue dropped since the start.
    pub fn count_dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Keeps events of this loopback address for [`take_diverted`](Self::take_diverted) from now
    /// on.
    pub fn divert_address(&self, address: IpAddr) {
        let mut kept = self.aside.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(known, _)| *known != address);
        if kept.len() == ASIDE_MAX {
            kept.pop_front();
        }
        kept.push_back((address, Vec::new()));
        self.aside.is_used.store(true, Ordering::Release);
    }

    /// Takes the events that were kept of this address, in order.
    pub fn take_diverted(&self, address: IpAddr) -> Vec<MachineEvent> {
        let mut kept = self.aside.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, events)) = kept.iter_mut().find(|(known, _)| *known == address) else {
            return Vec::new();
        };
        std::mem::take(events)
    }
}

impl DivertedEvents {
    /// Keeps an event of a diverted address, and returns every other event. Only loopback addresses
    /// take the lock, and only after the first walk; a push is all that happens under it.
    fn divert(&self, event: MachineEvent) -> Option<MachineEvent> {
        let address =
            event.address.map(|address| address.to_canonical()).filter(IpAddr::is_loopback);
        let Some(address) = address.filter(|_| self.is_used.load(Ordering::Acquire)) else {
            return Some(event);
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, events)) = kept.iter_mut().find(|(known, _)| *known == address) else {
            return Some(event);
        };
        if events.len() < EVENTS_ASIDE_MAX {
            events.push(event);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;

    #[test]
    fn who_asks_waits_for_what_was_pushed_before() {
        let (events, printed) = open_event_queue();
        assert!(events.wait_until_remembered(Duration::ZERO), "nothing was pushed");
        let (mac, address, stage, weight, kind) =
            (None, None, MachineStage::File, EventWeight::Step, EventKind::Other);
        events.push(MachineEvent {
            mac,
            address,
            stage,
            weight,
            kind,
            text: String::new(),
            attempt: None,
        });
        assert!(
            !events.wait_until_remembered(Duration::from_millis(20)),
            "the journal thread has not remembered it"
        );
        assert_eq!(printed.try_iter().count(), 1);
        events.progress().count_remembered();
        assert!(events.wait_until_remembered(Duration::ZERO));
    }

    #[test]
    fn events_of_an_address_that_was_set_aside_are_no_machines() {
        let (events, printed) = open_event_queue();
        let [walk, other, outside] =
            ["127.200.0.1", "127.77.1.1", "10.0.0.1"].map(|ip| ip.parse::<IpAddr>().unwrap());
        let event = |address| MachineEvent {
            mac: None,
            address: Some(address),
            stage: MachineStage::File,
            weight: EventWeight::Step,
            kind: EventKind::Other,
            text: String::new(),
            attempt: None,
        };
        events.divert_address(walk);
        [walk, other, outside, walk].into_iter().for_each(|address| events.push(event(address)));
        assert_eq!(
            printed.try_iter().filter_map(|event| event.address).collect::<Vec<_>>(),
            [other, outside]
        );
        assert_eq!(events.take_diverted(walk).len(), 2);
        events.push(event(walk));
        assert_eq!(printed.try_iter().count(), 0, "what is told late is of the walk as well");
        (1..=ASIDE_MAX)
            .for_each(|number| events.divert_address(IpAddr::from([127, 201, 0, number as u8])));
        events.push(event(walk));
        assert_eq!(printed.try_iter().count(), 1, "it is an address like any other again");
    }
}
