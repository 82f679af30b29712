//! Events: one per machine and stage, pushed by cores into a bounded queue, printed by the journal
//! thread.

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

/// Events that may wait for the journal thread; one more is dropped and counted, never waited for.
pub const EVENTS_QUEUED_MAX: usize = 8192;
/// How often whoever waits for the journal thread looks.
const SETTLED_LOOKED_EVERY: Duration = Duration::from_millis(1);

/// The step of a boot an event belongs to, in the order in which a machine meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MachineStage {
    Dhcp,
    Loader,
    Menu,
    Kernel,
    Initrd,
    AnswerFile,
    File,
}

impl MachineStage {
    pub const ALL: [Self; 7] = [
        Self::Dhcp,
        Self::Loader,
        Self::Menu,
        Self::Kernel,
        Self::Initrd,
        Self::AnswerFile,
        Self::File,
    ];

    /// The stage in the words of log and timeline.
    pub fn word(self) -> &'static str {
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

/// How loud an event is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventWeight {
    /// Normal between firmware and server (a size probe, a missing grub.cfg-01-...).
    Detail,
    /// A step of a boot, or what an operator may want to know of.
    Step,
    /// Something that an operator can and should mend.
    Warning,
}

words! {
    /// Why DHCP left a message without an answer.
    pub enum UnansweredReason {
        /// No subnet of the configuration is for this segment.
        NoSubnet = "no-subnet",
        /// The same for what a relay agent or a router brought.
        NoSubnetBehind = "no-subnet-behind",
        /// Its subnet is served on its own link alone.
        NotForRelays = "not-for-relays",
        SubnetOff = "subnet-off",
        /// It says nothing of network boot, and `clients = "pxe"`.
        NotPxe = "not-pxe",
        /// It has no reservation, and `clients = "known"`.
        NotReserved = "not-reserved",
        /// Another DHCP server answers on the segment.
        OtherServer = "silent",
        /// Other servers are looked for.
        Looking = "looking",
        /// The subnet's interface is not there, or has no address in it.
        NoInterface = "no-interface",
        /// Another server may know it.
        UnknownClient = "unknown-client",
        /// BOOTP, without a reservation.
        Bootp = "bootp",
        /// It has declined so many addresses that it gets none.
        DeclinedTooMuch = "declined-too-much",
        /// The last of these declines, or the first that is not kept.
        LastDecline = "last-decline",
        /// The options that it must have do not fit its message.
        TooLarge = "too-large",
        /// The message makes no sense, or asks for what the client has not.
        Odd = "odd",
    }
}

words! {
    /// Why a file that is there, or may be, is not given.
    pub enum FileDenial {
        Unreadable = "unreadable",
        OutsideRoot = "outside-root",
        NotAFile = "not-a-file",
        Hidden = "hidden",
        /// Configuration and state.
        Private = "private",
        /// `..` or a control character.
        BadName = "bad-name",
        TooLarge = "too-large",
    }
}

/// What happened, with the facts by which [`super::cause`] judges where a boot stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    Offered {
        to: Firmware,
    },
    Leased {
        to: Firmware,
        /// Another machine has the same hardware address.
        twin: bool,
    },
    /// A lease that the machine holds was made longer.
    Renewed,
    /// Offered or leased, without the boot file that its firmware wants; `why` is a clause.
    NoLoader {
        to: Firmware,
        why: String,
    },
    Nak,
    NoAddressFree,
    OtherServer {
        server: Ipv4Addr,
    },
    /// The client found its address in use.
    Declined,
    /// The client gave its address back.
    Released,
    /// DHCP left a message without an answer for some other reason.
    Unanswered {
        why: UnansweredReason,
        /// The subnet or the address that this is about; empty where there is none.
        about: String,
        /// The DHCP server that answers there.
        other: Option<(Ipv4Addr, Mac)>,
    },
    /// An address that nobody was given is in use.
    Conflict,
    /// The pools of a subnet are (almost) full, or have room again.
    PoolFills,
    PoolHasRoom,
    /// The client looked for a size or a name and wanted no more.
    SizeProbe,
    Sent {
        name: String,
        bytes: u64,
    },
    /// `rule`: the line of the configuration that names the file.
    Missing {
        name: String,
        rule: Option<String>,
    },
    /// The file is there, or may be, and is not given.
    Denied {
        name: String,
        why: FileDenial,
    },
    TemplateFailed,
    /// The client wanted to write a file.
    WriteRefused,
    /// A request that is none: malformed, or of a kind that is not served.
    BadRequest,
    /// The client fell silent; `block` is the first that it did not acknowledge, counted from 1 and
    /// never wrapped.
    Stalled {
        name: String,
        block: u64,
    },
    ClientAborted {
        name: String,
        code: u16,
    },
    /// The file was changed in place under a transfer.
    Changed {
        name: String,
    },
    /// Somebody who does not know its port acknowledged a transfer.
    Forged {
        name: String,
    },
    /// An HTTP connection was cut because its client was too slow.
    TooSlow,
    /// A fault of ours: the sentence says which.
    Failed,
    /// The server is short of something, and leaves requests without an answer.
    Short,
    /// Nothing that a boot hangs on.
    Other,
}

/// A kind without its facts.
pub type EventSort = (Discriminant<EventKind>, Option<UnansweredReason>);

/// TFTP's code for options that a client does not want: no fault (RFC 2347).
const OPTIONS_REFUSED: u16 = 8;

impl EventKind {
    /// How loud it is in the log; docs/log.md has the same as a table.
    pub fn weight(&self) -> EventWeight {
        match self {
            Self::Offered { .. } | Self::Renewed | Self::Released | Self::OtherServer { .. } => {
                EventWeight::Detail
            }
            Self::SizeProbe | Self::ClientAborted { code: OPTIONS_REFUSED, .. } | Self::Other => {
                EventWeight::Detail
            }
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

    /// A step that every machine takes: there are many in a storm, and all are told.
    pub fn is_step(&self) -> bool {
        matches!(self, Self::Leased { twin: false, .. } | Self::Sent { .. })
    }

    /// What is counted together where it is too much.
    pub fn sort(&self) -> EventSort {
        let why = if let Self::Unanswered { why, .. } = self { Some(*why) } else { None };
        (discriminant(self), why)
    }

    /// Of its texts.
    pub(super) fn octets(&self) -> usize {
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
    /// A machine that is left out by a line of the configuration is told at INFO: somebody may have
    /// meant it so.
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

/// One thing that happened to one machine.
#[derive(Clone, Debug)]
pub struct MachineEvent {
    pub mac: Option<Mac>,
    pub address: Option<IpAddr>,
    pub stage: MachineStage,
    pub weight: EventWeight,
    pub kind: EventKind,
    /// One sentence, reasons included.
    pub text: String,
    /// The end of a TFTP transfer with a known machine: what it shows of its firmware.
    pub attempt: Option<Box<TransferAttempt>>,
}

impl MachineEvent {
    /// As loud as its kind is.
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

/// The cores' end of the queue. Cloned to every thread.
#[derive(Clone, Debug)]
pub struct EventSender {
    queue: SyncSender<MachineEvent>,
    dropped: Arc<AtomicU64>,
    progress: Arc<JournalProgress>,
    aside: Arc<DivertedEvents>,
}

/// How far the journal thread has come.
#[derive(Debug, Default)]
pub struct JournalProgress {
    pushed: AtomicU64,
    remembered: AtomicU64,
}

impl JournalProgress {
    /// The journal thread has remembered one more.
    pub fn note(&self) {
        self.remembered.fetch_add(1, Ordering::Release);
    }
}

/// Loopback addresses whose events are no machine's: kept for whoever asked for that, and neither
/// printed nor remembered.
#[derive(Debug, Default)]
struct DivertedEvents {
    any: AtomicBool,
    /// The newest last. An address stays when its walk has ended, for the end of a transfer may be
    /// told after that.
    kept: Mutex<VecDeque<(IpAddr, Vec<MachineEvent>)>>,
}

/// Addresses that are set aside at once; the oldest is an address like any other again.
const ASIDE_MAX: usize = 64;

/// Events kept aside of one address; a walk of a machine's files makes a few dozen.
const EVENTS_ASIDE_MAX: usize = 1024;

/// A queue of events: the cores' end, and the journal thread's.
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
    /// Hands an event over without waiting; a full queue drops it and counts the drop.
    pub fn push(&self, event: MachineEvent) {
        let Some(event) = self.aside.keep(event) else { return };
        // Counted before, so that nobody takes it for remembered who asks in between.
        self.progress.pushed.fetch_add(1, Ordering::AcqRel);
        if self.queue.try_send(event).is_err() {
            self.progress.pushed.fetch_sub(1, Ordering::AcqRel);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn progress(&self) -> Arc<JournalProgress> {
        Arc::clone(&self.progress)
    }

    /// Waits until every event that was pushed before is remembered; false where that takes longer
    /// than `limit`.
    pub fn settle(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let pushed = self.progress.pushed.load(Ordering::Acquire);
        while self.progress.remembered.load(Ordering::Acquire) < pushed {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(SETTLED_LOOKED_EVERY);
        }
        true
    }

    /// Events lost to a full queue since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// From now on events of this loopback address are kept aside.
    pub fn set_aside(&self, address: IpAddr) {
        let mut kept = self.aside.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(known, _)| *known != address);
        if kept.len() == ASIDE_MAX {
            kept.pop_front();
        }
        kept.push_back((address, Vec::new()));
        self.aside.any.store(true, Ordering::Release);
    }

    /// What was kept aside of this address, in order.
    pub fn take_aside(&self, address: IpAddr) -> Vec<MachineEvent> {
        let mut kept = self.aside.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let events = kept.iter_mut().find(|(known, _)| *known == address);
        events.map(|(_, events)| std::mem::take(events)).unwrap_or_default()
    }
}

impl DivertedEvents {
    /// The event again, unless it is one to keep aside. The lock is taken only for loopback
    /// addresses and once one has been set aside, and held for a push.
    fn keep(&self, event: MachineEvent) -> Option<MachineEvent> {
        let address =
            event.address.map(|address| address.to_canonical()).filter(IpAddr::is_loopback);
        let Some(address) = address.filter(|_| self.any.load(Ordering::Acquire)) else {
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
        assert!(events.settle(Duration::ZERO), "nothing was pushed");
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
        assert!(!events.settle(Duration::from_millis(20)), "nobody has remembered it");
        assert_eq!(printed.try_iter().count(), 1);
        events.progress().note();
        assert!(events.settle(Duration::ZERO));
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
        events.set_aside(walk);
        [walk, other, outside, walk].into_iter().for_each(|address| events.push(event(address)));
        assert_eq!(
            printed.try_iter().filter_map(|event| event.address).collect::<Vec<_>>(),
            [other, outside]
        );
        assert_eq!(events.take_aside(walk).len(), 2);
        events.push(event(walk));
        assert_eq!(printed.try_iter().count(), 0, "what is told late is of the walk as well");
        (1..=ASIDE_MAX)
            .for_each(|number| events.set_aside(IpAddr::from([127, 201, 0, number as u8])));
        events.push(event(walk));
        assert_eq!(printed.try_iter().count(), 1, "it is an address like any other again");
    }
}
