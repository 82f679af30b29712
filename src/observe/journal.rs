//! The journal: the last events of each machine in memory, and the changes that the store keeps.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::entry::JournalEntry;
use super::events::{EventKind, MachineEvent, MachineStage};
use super::pace::EventSource;
use ringboot_protocol::model::machine::Mac;

/// Events remembered of one machine: two boots with every missing file that loaders try.
pub const ENTRIES_MAX: usize = 64;
/// Machines remembered; beyond it the journal forgets the least recently active one.
pub const MACHINES_MAX: usize = 16_384;
/// Bytes of the whole journal in memory. The disk holds about as much, and a restart reads it all.
pub const BYTES_MAX: usize = 32 << 20;
/// Strangers (sources that never fetched a file as a known machine) get at most one part in this
/// many of both limits while known machines exist: DHCP messages are easy to forge.
const STRANGERS_SHARE: usize = 4;
/// Bytes of an event's sentence that the journal remembers; the log has the whole sentence.
pub const TEXT_BYTES_MAX: usize = 400;

/// A change of the journal, for the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalChange {
    /// A new entry, or one that replaces the machine's entry with the same number.
    Entry {
        /// The machine.
        mac: Mac,
        /// Counts the machine's entries from 0.
        number: u64,
        /// The entry itself.
        entry: JournalEntry,
    },
    /// The machine is no longer remembered.
    Forgotten(Mac),
}

/// Writes changes to the store. Called on the journal thread, which may wait for a disk.
pub type JournalKeeper = Box<dyn FnMut(&[JournalChange]) + Send>;

/// The last events of every machine. The journal thread writes it, any thread may read it.
#[derive(Default)]
pub struct MachineJournal(Mutex<RememberedMachines>);

impl fmt::Debug for MachineJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MachineJournal of {} machines", self.lock().rings.len())
    }
}

impl MachineJournal {
    /// Adds an entry that an earlier process stored. The entries of one machine must come in order.
    pub fn load_entry(&self, (mac, number, entry): (Mac, u64, JournalEntry)) {
        self.lock().add_entry(EventSource::Machine(mac), Some(number), entry);
    }

    /// Remembers an event. A source that is known by its address only is remembered in memory and
    /// never stored.
    pub fn record_event(&self, event: MachineEvent, at_ms: u64) {
        let Some(source) = EventSource::from_event(&event)
            .filter(|source| source.machine().is_some() || event.stage != MachineStage::Dhcp)
        else {
            return;
        };
        let MachineEvent { address, stage, kind, mut text, .. } = event;
        // No boundary lies beyond the end of the text.
        let end = (0..=TEXT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        let entry = JournalEntry { at_ms, address, stage, kind, text };
        self.lock().add_entry(source, None, entry);
    }

    /// Takes what the store does not have yet: the machines that it must forget, then new entries
    /// of the machines that wait longest, whole machines, until `most` changes are taken. What a
    /// machine did before the journal forgot it never reaches the store.
    pub fn take_changes(&self, most: usize) -> Vec<JournalChange> {
        let mut machines = self.lock();
        let RememberedMachines { rings, unsaved, forgotten, .. } = &mut *machines;
        let mut changes: Vec<_> = forgotten.drain(..).map(JournalChange::Forgotten).collect();
        while changes.len() < most
            && let Some(source) = unsaved.pop_front()
        {
            // The machine may be forgotten by now, or it waits twice because it came back.
            let (Some(mac), Some(ring)) = (source.machine(), rings.get_mut(&source)) else {
                continue;
            };
            let Some(from) = ring.unsaved_from.take() else { continue };
            ring.is_stored = true;
            let entries = ring.numbered_entries().filter(|(number, _)| *number >= from);
            changes.extend(entries.map(|(number, entry)| JournalChange::Entry {
                mac,
                number,
                entry: entry.clone(),
            }));
        }
        changes
    }

    /// Whether [`Self::take_changes`] would return any.
    pub fn has_changes(&self) -> bool {
        let machines = self.lock();
        !(machines.unsaved.is_empty() && machines.forgotten.is_empty())
    }

    /// Every remembered machine, the most recently active first.
    pub fn list_machines(&self) -> Vec<Mac> {
        let machines = self.lock();
        let queued = machines.strangers.by_turn.iter().chain(&machines.known.by_turn);
        let by_turn: BTreeMap<u64, Mac> =
            queued.filter_map(|(turn, source)| Some((*turn, source.machine()?))).collect();
        by_turn.into_values().rev().collect()
    }

    /// The entries of a machine, oldest first; empty for an unknown machine.
    pub fn entries(&self, mac: Mac) -> Vec<JournalEntry> {
        self.entries_of(EventSource::Machine(mac))
    }

    /// The entries of an address that belongs to no known machine, oldest first.
    pub fn entries_at(&self, address: IpAddr) -> Vec<JournalEntry> {
        self.entries_of(EventSource::Address(address.to_canonical()))
    }

    fn entries_of(&self, source: EventSource) -> Vec<JournalEntry> {
        let machines = self.lock();
        let Some(ring) = machines.rings.get(&source) else { return Vec::new() };
        ring.entries.iter().cloned().collect()
    }

    /// The whole journal as changes, for a store that begins empty.
    pub fn export_entries(&self) -> Vec<JournalChange> {
        let mut changes = Vec::new();
        for (source, ring) in &mut self.lock().rings {
            let Some(mac) = source.machine() else { continue };
            ring.is_stored = true;
            for (number, entry) in ring.numbered_entries() {
                changes.push(JournalChange::Entry { mac, number, entry: entry.clone() });
            }
        }
        changes
    }

    /// The machine that last had this address.
    pub fn find_machine(&self, address: IpAddr) -> Option<Mac> {
        self.lock().holders.get(&address.to_canonical()).copied()
    }

    fn lock(&self) -> MutexGuard<'_, RememberedMachines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct RememberedMachines {
    rings: HashMap<EventSource, EventRing>,
    /// Machines of which the server knows nothing but DHCP, and sources without a hardware address.
    strangers: RecencyQueue,
    /// Machines that have asked for a file.
    known: RecencyQueue,
    /// Counts entries; a source's turn is that of its latest entry.
    next_turn: u64,
    /// The last address of each remembered machine, and that machine.
    holders: HashMap<IpAddr, Mac>,
    /// Machines with entries that the store does not have; the one that waits longest first.
    unsaved: VecDeque<EventSource>,
    /// Machines that the store has and the journal no longer remembers.
    forgotten: Vec<Mac>,
}

/// Sources in the order of their latest entry, with the bytes of their rings.
#[derive(Default)]
struct RecencyQueue {
    by_turn: BTreeMap<u64, EventSource>,
    bytes: usize,
}

/// The last entries of one source.
#[derive(Default)]
struct EventRing {
    /// True for a machine, false for an address.
    has_machine: bool,
    entries: VecDeque<JournalEntry>,
    /// The number of the next entry.
    next_number: u64,
    turn: u64,
    address: Option<IpAddr>,
    bytes: usize,
    /// The number of the first entry that the store does not have; None: it has all of them.
    unsaved_from: Option<u64>,
    /// The store has entries of this machine.
    is_stored: bool,
}

impl RememberedMachines {
    /// Adds an entry; `stored`: its number, where the store has it already.
    fn add_entry(&mut self, source: EventSource, stored: Option<u64>, entry: JournalEntry) {
        // The ring leaves its queue while it changes: a first file moves it to the known machines.
        let mut ring = self.rings.remove(&source).unwrap_or_default();
        self.queue_of(&ring).remove_ring(&ring);
        ring.has_machine = source.machine().is_some();
        ring.turn = self.next_turn;
        self.next_turn += 1;

        // Another machine may hold the former address by now: its entry stays.
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

        let number = stored.unwrap_or_else(|| ring.number_entry(&entry));
        ring.push_entry(number, entry);
        ring.is_stored |= stored.is_some();
        if ring.has_machine && stored.is_none() {
            match &mut ring.unsaved_from {
                Some(from) => *from = number.min(*from),
                from @ None => {
                    *from = Some(number);
                    self.unsaved.push_back(source);
                }
            }
        }
        self.queue_of(&ring).insert_ring(&ring, source);
        self.rings.insert(source, ring);

        while self.rings.len() > 1
            && (self.rings.len() > MACHINES_MAX || self.count_bytes() > BYTES_MAX)
        {
            self.forget_oldest();
        }
    }

    /// Forgets the least recently active source: a stranger, while strangers have more than their
    /// share.
    fn forget_oldest(&mut self) {
        let strangers = &self.strangers;
        let too_many = strangers.bytes > BYTES_MAX / STRANGERS_SHARE
            || strangers.by_turn.len() > MACHINES_MAX / STRANGERS_SHARE
            || self.known.by_turn.is_empty();
        let queue = if too_many { &self.strangers } else { &self.known };
        let Some((_, &source)) = queue.by_turn.first_key_value() else { return };
        let Some(ring) = self.rings.remove(&source) else { return };
        self.queue_of(&ring).remove_ring(&ring);
        let Some(mac) = source.machine() else { return };
        if let Some(address) =
            ring.address.filter(|address| self.holders.get(address) == Some(&mac))
        {
            self.holders.remove(&address);
        }
        self.forgotten.extend(ring.is_stored.then_some(mac));
    }

    fn queue_of(&mut self, ring: &EventRing) -> &mut RecencyQueue {
        if ring.is_known() { &mut self.known } else { &mut self.strangers }
    }

    fn count_bytes(&self) -> usize {
        self.strangers.bytes + self.known.bytes
    }
}

impl RecencyQueue {
    fn insert_ring(&mut self, ring: &EventRing, source: EventSource) {
        self.by_turn.insert(ring.turn, source);
        self.bytes += ring.bytes;
    }

    fn remove_ring(&mut self, ring: &EventRing) {
        if self.by_turn.remove(&ring.turn).is_some() {
            self.bytes -= ring.bytes;
        }
    }
}

impl EventRing {
    /// True for a machine that has asked for a file: a forged DHCP message never does.
    fn is_known(&self) -> bool {
        self.has_machine && self.entries.iter().any(|entry| entry.stage != MachineStage::Dhcp)
    }

    /// The number for a new entry. A renewal replaces the renewal before it: a machine that runs
    /// for a month must not push out its boot.
    fn number_entry(&self, entry: &JournalEntry) -> u64 {
        let renews = entry.kind == EventKind::Renewed;
        let again =
            renews && self.entries.back().is_some_and(|last| last.kind == EventKind::Renewed);
        self.next_number - u64::from(again)
    }

    fn numbered_entries(&self) -> impl Iterator<Item = (u64, &JournalEntry)> {
        (self.next_number - self.entries.len() as u64..).zip(&self.entries)
    }

    fn push_entry(&mut self, number: u64, entry: JournalEntry) {
        let replaced = if number < self.next_number { self.entries.pop_back() } else { None };
        self.next_number = number + 1;
        let oldest =
            if self.entries.len() == ENTRIES_MAX { self.entries.pop_front() } else { None };
        self.bytes -= replaced.iter().chain(&oldest).map(count_entry_bytes).sum::<usize>();
        self.bytes += count_entry_bytes(&entry);
        self.entries.push_back(entry);
    }
}

/// Bytes of an entry in memory, and about as many on the disk.
fn count_entry_bytes(entry: &JournalEntry) -> usize {
    size_of::<JournalEntry>() + entry.text.len() + entry.kind.count_text_bytes()
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
        let journal = MachineJournal::default();
        (0..100).for_each(|at| journal.record_event(event(1, 7, EventKind::Nak), at));
        let entries = journal.entries(mac(1));
        assert_eq!((entries.len(), entries[0].at_ms, entries[63].at_ms), (ENTRIES_MAX, 36, 99));
        assert_eq!(entries[0].text.len(), TEXT_BYTES_MAX);
        assert_eq!(numbers(&journal.take_changes(usize::MAX)), (36..100).collect::<Vec<_>>());

        assert_eq!(journal.export_entries().len(), ENTRIES_MAX);
        assert!(matches!(journal.export_entries()[0], JournalChange::Entry { number: 36, .. }));

        let again = MachineJournal::default();
        entries
            .into_iter()
            .zip(36..)
            .for_each(|(entry, number)| again.load_entry((mac(1), number, entry)));
        assert_eq!(again.take_changes(usize::MAX), []);
        again.record_event(event(1, 7, EventKind::Nak), 100);
        assert_eq!(numbers(&again.take_changes(usize::MAX)), [100]);
        assert_eq!(again.entries(mac(1)).len(), ENTRIES_MAX);
    }

    #[test]
    fn the_store_gets_each_entry_once_and_nothing_of_machines_that_came_and_went() {
        let journal = MachineJournal::default();
        let tell = |machines: std::ops::Range<u32>| {
            machines.for_each(|n| journal.record_event(event(n, n + 1, EventKind::Nak), 0));
        };
        tell(0..3);
        tell(0..1);
        assert!(journal.has_changes());
        assert_eq!(numbers(&journal.take_changes(1)), [0, 1], "all of one machine");
        assert_eq!(numbers(&journal.take_changes(usize::MAX)), [0, 0], "the other two");
        assert!(!journal.has_changes());
        tell(0..1);
        assert_eq!(numbers(&journal.take_changes(usize::MAX)), [2]);

        // Far more machines than are remembered: 1 and 2 go from the store, and most of the others
        // never reach it.
        tell(3..10 * MACHINES_MAX as u32);
        let changes = journal.take_changes(usize::MAX);
        let forgotten = [0, 1, 2].map(|n| JournalChange::Forgotten(mac(n)));
        assert!(forgotten.iter().all(|change| changes.contains(change)));
        assert_eq!(changes.len(), forgotten.len() + journal.list_machines().len());
        assert!(!journal.has_changes());
    }

    fn numbers(changes: &[JournalChange]) -> Vec<u64> {
        let number = |change: &JournalChange| match change {
            JournalChange::Entry { number, .. } => Some(*number),
            JournalChange::Forgotten(_) => None,
        };
        changes.iter().filter_map(number).collect()
    }

    #[test]
    fn renewals_take_one_place() {
        let journal = MachineJournal::default();
        journal.record_event(event(1, 7, EventKind::Nak), 0);
        (1..500).for_each(|at| journal.record_event(event(1, 7, EventKind::Renewed), at));
        let entries = journal.entries(mac(1));
        assert_eq!(
            (entries.len(), entries[0].kind.clone(), entries[1].at_ms),
            (2, EventKind::Nak, 499)
        );
    }

    #[test]
    fn of_too_many_machines_the_one_heard_of_least_recently_goes() {
        let journal = MachineJournal::default();
        let machines = MACHINES_MAX as u32;
        (0..machines).for_each(|n| journal.record_event(event(n, n + 1, EventKind::Nak), 0));
        journal.record_event(event(0, 1, EventKind::Nak), 1);
        journal.take_changes(usize::MAX);
        journal.record_event(event(machines, machines + 1, EventKind::Nak), 2);
        assert!(journal.take_changes(usize::MAX).contains(&JournalChange::Forgotten(mac(1))));
        assert!(journal.entries(mac(1)).is_empty() && journal.entries(mac(0)).len() == 2);
        assert_eq!(journal.find_machine(IpAddr::V4(2.into())), None);
        assert_eq!(journal.find_machine(IpAddr::V4(3.into())), Some(mac(2)));
    }

    #[test]
    fn invented_machines_push_out_no_machine_that_boots() {
        let journal = MachineJournal::default();
        let honest = 2000;
        for n in 0..honest {
            journal.record_event(event(n, n + 1, EventKind::Nak), 0);
            let sent = EventKind::Sent { name: "pxelinux.0".into(), bytes: 1 };
            journal.record_event(
                MachineEvent { stage: MachineStage::Loader, ..event(n, n + 1, sent) },
                0,
            );
        }
        for n in 0..100_000 {
            journal.record_event(event(1_000_000 + n, 1_000_000 + n, EventKind::Nak), 1);
        }
        assert_eq!(
            (0..honest).filter(|n| journal.entries(mac(*n)).len() == 2).count(),
            honest as usize
        );
        assert!(journal.lock().rings.len() <= MACHINES_MAX);
    }

    #[test]
    fn what_is_remembered_is_bounded_by_its_bytes() {
        let journal = MachineJournal::default();
        let mut forgotten = 0;
        for n in 0..4000 {
            for _ in 0..40 {
                let missing = EventKind::Missing { name: "x".repeat(200), rule: None };
                journal.record_event(
                    MachineEvent { stage: MachineStage::File, ..event(n, n + 1, missing) },
                    0,
                );
            }
            let changes = journal.take_changes(usize::MAX);
            forgotten += changes.len() - numbers(&changes).len();
        }
        let machines = journal.lock();
        let counted: usize =
            machines.rings.values().flat_map(|ring| &ring.entries).map(count_entry_bytes).sum();
        assert!(
            counted == machines.count_bytes() && counted <= BYTES_MAX && counted > BYTES_MAX / 2,
            "{counted}"
        );
        assert_eq!(forgotten + machines.rings.len(), 4000);
    }

    #[test]
    fn an_address_is_its_last_holders() {
        let journal = MachineJournal::default();
        journal.record_event(event(1, 7, EventKind::Nak), 0);
        journal.record_event(event(2, 7, EventKind::Nak), 0);
        journal.record_event(event(1, 8, EventKind::Nak), 0);
        assert_eq!(journal.find_machine(IpAddr::V4(7.into())), Some(mac(2)));
        assert_eq!(journal.find_machine(IpAddr::V4(8.into())), Some(mac(1)));
        assert_eq!(
            journal.list_machines(),
            [mac(1), mac(2)],
            "the one that was heard of last first"
        );
        let stranger = MachineEvent {
            mac: None,
            stage: MachineStage::File,
            ..event(3, 9, EventKind::TemplateFailed)
        };
        journal.take_changes(usize::MAX);
        journal.record_event(stranger, 0);
        assert_eq!(journal.find_machine(IpAddr::V4(9.into())), None);
        assert!(!journal.has_changes(), "it is never stored");
        assert_eq!(
            journal.entries_at(IpAddr::V4(9.into())).len(),
            1,
            "who has no name is known by the address"
        );
        assert_eq!(journal.list_machines().len(), 2);
    }
}
