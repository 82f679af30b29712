//! What is remembered of each machine: its last events, in memory, and on their way to whoever
//! keeps them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::entry::JournalEntry;
use super::events::{EventKind, MachineEvent, MachineStage};
use super::pace::EventSource;
use ringboot_protocol::model::machine::Mac;

/// Events remembered of one machine: two boots, with all that loaders ask for in vain.
pub const ENTRIES_MAX: usize = 64;
/// Machines remembered; beyond it the one that was heard of least recently goes.
pub const MACHINES_MAX: usize = 16_384;
/// Octets of all that is remembered. A restart reads it all, and the disk holds as much.
pub const OCTETS_MAX: usize = 32 << 20;
/// The share of them that machines have at most of which nothing but DHCP is known, once there are
/// others: anybody can invent such.
const STRANGERS_SHARE: usize = 4;
/// Bytes of an event's sentence that are remembered; the log has all of it.
pub const TEXT_BYTES_MAX: usize = 400;

/// A change of the journal, for whoever keeps it beyond the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalChange {
    /// `number` counts the machine's entries from 0; where it is one that was there before, it
    /// takes that one's place.
    Entry { mac: Mac, number: u64, entry: JournalEntry },
    /// The machine is no longer remembered.
    Forgotten(Mac),
}

/// Keeps notes beyond the process. Called on the log thread, which may wait for a disk.
pub type JournalKeeper = Box<dyn FnMut(&[JournalChange]) + Send>;

/// The last events of every machine. Written by the log thread, read by whoever asks.
#[derive(Default)]
pub struct MachineJournal(Mutex<RememberedMachines>);

impl fmt::Debug for MachineJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Journal of {} machines", self.lock().rings.len())
    }
}

impl MachineJournal {
    /// An entry that was kept of an earlier process; each machine's come in order. Notes for whom
    /// there is no room any more.
    pub fn load(
        &self,
        (mac, number, entry): (Mac, u64, JournalEntry),
        forgotten: &mut Vec<JournalChange>,
    ) {
        let mut notes = Vec::new();
        self.lock().add(EventSource::Machine(mac), Some(number), entry, &mut notes);
        forgotten
            .extend(notes.into_iter().filter(|note| matches!(note, JournalChange::Forgotten(_))));
    }

    /// Remembers an event and tells what has changed. Of who is known by the address alone nothing
    /// is kept beyond the process.
    pub fn add(&self, event: &MachineEvent, at_ms: u64, notes: &mut Vec<JournalChange>) {
        let Some(source) = EventSource::of(event)
            .filter(|source| source.machine().is_some() || event.stage != MachineStage::Dhcp)
        else {
            return;
        };
        let MachineEvent { address, stage, .. } = *event;
        let entry = JournalEntry {
            at_ms,
            address,
            stage,
            kind: event.kind.clone(),
            text: cut_event_text(&event.text).to_owned(),
        };
        self.lock().add(source, None, entry, notes);
    }

    /// Every machine that is remembered, the one that was heard of last first.
    pub fn machines(&self) -> Vec<Mac> {
        let machines = self.lock();
        let both = machines.strangers.by_turn.iter().chain(&machines.known.by_turn);
        let by_turn: BTreeMap<u64, Mac> =
            both.filter_map(|(turn, source)| Some((*turn, source.machine()?))).collect();
        by_turn.into_values().rev().collect()
    }

    /// What is remembered of a machine, oldest first; empty where it is not known.
    pub fn entries(&self, mac: Mac) -> Vec<JournalEntry> {
        self.entries_of(EventSource::Machine(mac))
    }

    /// The same of who asked from an address that no machine is known to have.
    pub fn entries_at(&self, address: IpAddr) -> Vec<JournalEntry> {
        self.entries_of(EventSource::Address(address.to_canonical()))
    }

    fn entries_of(&self, source: EventSource) -> Vec<JournalEntry> {
        self.lock()
            .rings
            .get(&source)
            .map(|ring| ring.entries.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// All that is remembered, for whoever keeps it anew.
    pub fn notes(&self) -> Vec<JournalChange> {
        let machines = self.lock();
        let of = |(source, ring): (&EventSource, &EventRing)| {
            let mac = source.machine()?;
            let first = ring.next_number - ring.entries.len() as u64;
            let note = |(entry, number): (&JournalEntry, u64)| JournalChange::Entry {
                mac,
                number,
                entry: entry.clone(),
            };
            Some(ring.entries.iter().zip(first..).map(note).collect::<Vec<_>>())
        };
        machines.rings.iter().filter_map(of).flatten().collect()
    }

    /// The machine that was last heard of at this address.
    pub fn find(&self, address: IpAddr) -> Option<Mac> {
        self.lock().holders.get(&address.to_canonical()).copied()
    }

    fn lock(&self) -> MutexGuard<'_, RememberedMachines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct RememberedMachines {
    rings: HashMap<EventSource, EventRing>,
    /// Those of which nothing but DHCP is known, or nothing but an address, and those that have
    /// asked for a file.
    strangers: RecencyQueue,
    known: RecencyQueue,
    next_turn: u64,
    /// Only addresses of remembered machines, one for each machine.
    holders: HashMap<IpAddr, Mac>,
}

/// Machines by when they were last heard of.
#[derive(Default)]
struct RecencyQueue {
    by_turn: BTreeMap<u64, EventSource>,
    octets: usize,
}

#[derive(Default)]
struct EventRing {
    /// It is a machine's, not an address's.
    has_machine: bool,
    entries: VecDeque<JournalEntry>,
    /// Of the entry that comes next.
    next_number: u64,
    turn: u64,
    address: Option<IpAddr>,
    octets: usize,
}

impl RememberedMachines {
    fn add(
        &mut self,
        source: EventSource,
        number: Option<u64>,
        entry: JournalEntry,
        notes: &mut Vec<JournalChange>,
    ) {
        let mut ring = self.rings.remove(&source).unwrap_or_default();
        self.queue(&ring).leave(&ring);
        ring.has_machine = source.machine().is_some();
        ring.turn = self.next_turn;
        self.next_turn += 1;
        if let (Some(mac), Some(address)) =
            (source.machine(), entry.address.map(|address| address.to_canonical()))
        {
            let before = ring.address.replace(address);
            if let Some(before) =
                before.filter(|before| *before != address && self.holders.get(before) == Some(&mac))
            {
                self.holders.remove(&before);
            }
            self.holders.insert(address, mac);
        }
        let number = number.unwrap_or_else(|| ring.number_for(&entry));
        ring.put(number, entry.clone());
        self.queue(&ring).enter(&ring, source);
        self.rings.insert(source, ring);
        notes.extend(source.machine().map(|mac| JournalChange::Entry { mac, number, entry }));
        while self.rings.len() > 1
            && (self.rings.len() > MACHINES_MAX || self.octets() > OCTETS_MAX)
        {
            self.forget_one(notes);
        }
    }

    /// The one that was heard of least recently: a stranger, while strangers have more than their
    /// share.
    fn forget_one(&mut self, notes: &mut Vec<JournalChange>) {
        let strangers = &self.strangers;
        let too_many = strangers.octets > OCTETS_MAX / STRANGERS_SHARE
            || strangers.by_turn.len() > MACHINES_MAX / STRANGERS_SHARE
            || self.known.by_turn.is_empty();
        let queue = if too_many { &self.strangers } else { &self.known };
        let Some((_, &source)) = queue.by_turn.first_key_value() else { return };
        let Some(ring) = self.rings.remove(&source) else { return };
        self.queue(&ring).leave(&ring);
        let Some(mac) = source.machine() else { return };
        if let Some(address) =
            ring.address.filter(|address| self.holders.get(address) == Some(&mac))
        {
            self.holders.remove(&address);
        }
        notes.push(JournalChange::Forgotten(mac));
    }

    fn queue(&mut self, ring: &EventRing) -> &mut RecencyQueue {
        if ring.is_known() { &mut self.known } else { &mut self.strangers }
    }

    fn octets(&self) -> usize {
        self.strangers.octets + self.known.octets
    }
}

impl RecencyQueue {
    fn enter(&mut self, ring: &EventRing, source: EventSource) {
        self.by_turn.insert(ring.turn, source);
        self.octets += ring.octets;
    }

    fn leave(&mut self, ring: &EventRing) {
        if self.by_turn.remove(&ring.turn).is_some() {
            self.octets -= ring.octets;
        }
    }
}

impl EventRing {
    /// A machine that has asked for a file: nobody invents one that does.
    fn is_known(&self) -> bool {
        self.has_machine && self.entries.iter().any(|entry| entry.stage != MachineStage::Dhcp)
    }

    /// A renewal takes the place of the one before: a machine that runs for a month must not forget
    /// its boot.
    fn number_for(&self, entry: &JournalEntry) -> u64 {
        let renews = entry.kind == EventKind::Renewed;
        let again =
            renews && self.entries.back().is_some_and(|last| last.kind == EventKind::Renewed);
        self.next_number - u64::from(again)
    }

    fn put(&mut self, number: u64, entry: JournalEntry) {
        let replaced = if number < self.next_number { self.entries.pop_back() } else { None };
        self.next_number = number + 1;
        let oldest =
            if self.entries.len() == ENTRIES_MAX { self.entries.pop_front() } else { None };
        self.octets -= replaced.iter().chain(&oldest).map(count_entry_bytes).sum::<usize>();
        self.octets += count_entry_bytes(&entry);
        self.entries.push_back(entry);
    }
}

/// What an entry takes, in memory and, more or less, on the disk.
fn count_entry_bytes(entry: &JournalEntry) -> usize {
    size_of::<JournalEntry>() + entry.text.len() + entry.kind.octets()
}

/// The beginning of a text, whole characters only.
fn cut_event_text(text: &str) -> &str {
    let end = text
        .char_indices()
        .map(|(at, character)| at + character.len_utf8())
        .take_while(|end| *end <= TEXT_BYTES_MAX);
    &text[..end.last().unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::super::events::EventWeight;
    use super::*;

    fn mac(n: u32) -> Mac {
        let [a, b, c, d] = n.to_be_bytes();
        Mac([2, 0, a, b, c, d])
    }

    fn event(machine: u32, address: u32, kind: EventKind) -> MachineEvent {
        MachineEvent {
            mac: Some(mac(machine)),
            address: Some(IpAddr::V4(address.into())),
            stage: MachineStage::Dhcp,
            weight: EventWeight::Step,
            kind,
            text: "é".repeat(TEXT_BYTES_MAX),
            attempt: None,
        }
    }

    #[test]
    fn a_machine_keeps_its_last_64_events_and_their_numbers_go_on() {
        let (journal, mut notes) = (MachineJournal::default(), Vec::new());
        (0..100).for_each(|at| journal.add(&event(1, 7, EventKind::Nak), at, &mut notes));
        let entries = journal.entries(mac(1));
        assert_eq!((entries.len(), entries[0].at_ms, entries[63].at_ms), (ENTRIES_MAX, 36, 99));
        assert_eq!(entries[0].text.len(), TEXT_BYTES_MAX);
        assert!(matches!(notes[99], JournalChange::Entry { number: 99, .. }));

        assert_eq!(journal.notes().len(), ENTRIES_MAX);
        assert!(matches!(journal.notes()[0], JournalChange::Entry { number: 36, .. }));

        let again = MachineJournal::default();
        notes.clear();
        entries
            .into_iter()
            .zip(36..)
            .for_each(|(entry, number)| again.load((mac(1), number, entry), &mut notes));
        assert_eq!(notes, []);
        again.add(&event(1, 7, EventKind::Nak), 100, &mut notes);
        assert!(matches!(notes[0], JournalChange::Entry { number: 100, .. }), "{notes:?}");
        assert_eq!(again.entries(mac(1)).len(), ENTRIES_MAX);
    }

    #[test]
    fn renewals_take_one_place() {
        let (journal, mut notes) = (MachineJournal::default(), Vec::new());
        journal.add(&event(1, 7, EventKind::Nak), 0, &mut notes);
        (1..500).for_each(|at| journal.add(&event(1, 7, EventKind::Renewed), at, &mut notes));
        let entries = journal.entries(mac(1));
        assert_eq!(
            (entries.len(), entries[0].kind.clone(), entries[1].at_ms),
            (2, EventKind::Nak, 499)
        );
    }

    #[test]
    fn of_too_many_machines_the_one_heard_of_least_recently_goes() {
        let (journal, mut notes) = (MachineJournal::default(), Vec::new());
        let machines = MACHINES_MAX as u32;
        (0..machines).for_each(|n| journal.add(&event(n, n + 1, EventKind::Nak), 0, &mut notes));
        journal.add(&event(0, 1, EventKind::Nak), 1, &mut notes);
        notes.clear();
        journal.add(&event(machines, machines + 1, EventKind::Nak), 2, &mut notes);
        assert!(notes.contains(&JournalChange::Forgotten(mac(1))));
        assert!(journal.entries(mac(1)).is_empty() && journal.entries(mac(0)).len() == 2);
        assert_eq!(journal.find(IpAddr::V4(2.into())), None);
        assert_eq!(journal.find(IpAddr::V4(3.into())), Some(mac(2)));
    }

    #[test]
    fn invented_machines_push_out_no_machine_that_boots() {
        let (journal, mut notes) = (MachineJournal::default(), Vec::new());
        let honest = 2000;
        for n in 0..honest {
            journal.add(&event(n, n + 1, EventKind::Nak), 0, &mut notes);
            let sent = EventKind::Sent { name: "pxelinux.0".into(), bytes: 1 };
            journal.add(
                &MachineEvent { stage: MachineStage::Loader, ..event(n, n + 1, sent) },
                0,
                &mut notes,
            );
        }
        notes.clear();
        for n in 0..100_000 {
            journal.add(&event(1_000_000 + n, 1_000_000 + n, EventKind::Nak), 1, &mut notes);
            notes.truncate(1000);
        }
        assert_eq!(
            (0..honest).filter(|n| journal.entries(mac(*n)).len() == 2).count(),
            honest as usize
        );
        assert!(journal.lock().rings.len() <= MACHINES_MAX);
    }

    #[test]
    fn what_is_remembered_is_bounded_by_its_octets() {
        let (journal, mut notes) = (MachineJournal::default(), Vec::new());
        for n in 0..4000 {
            for _ in 0..40 {
                let missing = EventKind::Missing { name: "x".repeat(200), rule: None };
                journal.add(
                    &MachineEvent { stage: MachineStage::File, ..event(n, n + 1, missing) },
                    0,
                    &mut notes,
                );
            }
            notes.retain(|note| matches!(note, JournalChange::Forgotten(_)));
        }
        let machines = journal.lock();
        let counted: usize =
            machines.rings.values().flat_map(|ring| &ring.entries).map(count_entry_bytes).sum();
        assert!(
            counted == machines.octets() && counted <= OCTETS_MAX && counted > OCTETS_MAX / 2,
            "{counted}"
        );
        assert_eq!(notes.len() + machines.rings.len(), 4000);
    }

    #[test]
    fn an_address_is_its_last_holders() {
        let (journal, mut notes) = (MachineJournal::default(), Vec::new());
        journal.add(&event(1, 7, EventKind::Nak), 0, &mut notes);
        journal.add(&event(2, 7, EventKind::Nak), 0, &mut notes);
        journal.add(&event(1, 8, EventKind::Nak), 0, &mut notes);
        assert_eq!(journal.find(IpAddr::V4(7.into())), Some(mac(2)));
        assert_eq!(journal.find(IpAddr::V4(8.into())), Some(mac(1)));
        assert_eq!(journal.machines(), [mac(1), mac(2)], "the one that was heard of last first");
        let stranger = MachineEvent {
            mac: None,
            stage: MachineStage::File,
            ..event(3, 9, EventKind::TemplateFailed)
        };
        notes.clear();
        journal.add(&stranger, 0, &mut notes);
        assert_eq!((journal.find(IpAddr::V4(9.into())), notes), (None, Vec::new()));
        assert_eq!(
            journal.entries_at(IpAddr::V4(9.into())).len(),
            1,
            "who has no name is known by the address"
        );
        assert_eq!(journal.machines().len(), 2);
    }
}
