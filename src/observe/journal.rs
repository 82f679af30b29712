//! What is remembered of each machine: its last events, in memory, and on their way to whoever keeps them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::events::{Event, Kind};
use super::timeline::Entry;
use crate::boot::machine::Mac;

/// Events remembered of one machine: two boots, with all that loaders ask for in vain.
pub const ENTRIES_MAX: usize = 64;
/// Machines remembered; beyond it the one that was heard of least recently goes.
pub const MACHINES_MAX: usize = 16_384;
/// Bytes of an event's sentence that are remembered; the log has all of it.
pub const TEXT_BYTES_MAX: usize = 400;

/// A change of the journal, for whoever keeps it beyond the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// `number` counts the machine's entries from 0; where it is one that was there before, it takes that one's place.
    Entry { mac: Mac, number: u64, entry: Entry },
    /// The machine is no longer remembered.
    Forgotten(Mac),
}

/// Keeps notes beyond the process. Called on the log thread, which may wait for a disk.
pub type Keep = Box<dyn FnMut(&[Note]) + Send>;

/// The last events of every machine. Written by the log thread, read by whoever asks.
#[derive(Default)]
pub struct Journal(Mutex<Machines>);

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Journal of {} machines", self.lock().rings.len())
    }
}

impl Journal {
    /// What was kept of an earlier process: entries with their numbers, each machine's in order. Notes what there is no room for.
    pub fn load(&self, kept: impl IntoIterator<Item = (Mac, u64, Entry)>) -> Vec<Note> {
        let mut notes = Vec::new();
        let mut machines = self.lock();
        for (mac, number, entry) in kept {
            machines.add(mac, Some(number), entry, &mut notes);
        }
        notes.retain(|note| matches!(note, Note::Forgotten(_)));
        notes
    }

    /// Remembers an event of a known machine and tells what has changed.
    pub fn add(&self, event: &Event, at_ms: u64, notes: &mut Vec<Note>) {
        let Some(mac) = event.mac else { return };
        let Event { address, stage, .. } = *event;
        let entry = Entry { at_ms, address, stage, kind: event.kind.clone(), text: cut(&event.text).to_owned() };
        self.lock().add(mac, None, entry, notes);
    }

    /// Every machine that is remembered, the one that was heard of last first.
    pub fn machines(&self) -> Vec<Mac> {
        self.lock().by_turn.values().rev().copied().collect()
    }

    /// What is remembered of a machine, oldest first; empty where it is not known.
    pub fn entries(&self, mac: Mac) -> Vec<Entry> {
        self.lock().rings.get(&mac).map(|ring| ring.entries.iter().cloned().collect()).unwrap_or_default()
    }

    /// The machine that was last heard of at this address.
    pub fn find(&self, address: IpAddr) -> Option<Mac> {
        self.lock().holders.get(&address.to_canonical()).copied()
    }

    fn lock(&self) -> MutexGuard<'_, Machines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Machines {
    rings: HashMap<Mac, Ring>,
    /// Machines by when they were last heard of.
    by_turn: BTreeMap<u64, Mac>,
    next_turn: u64,
    /// Only addresses of remembered machines, one for each machine.
    holders: HashMap<IpAddr, Mac>,
}

#[derive(Default)]
struct Ring {
    entries: VecDeque<Entry>,
    /// Of the entry that comes next.
    next_number: u64,
    turn: u64,
    address: Option<IpAddr>,
}

impl Machines {
    fn add(&mut self, mac: Mac, number: Option<u64>, entry: Entry, notes: &mut Vec<Note>) {
        if !self.rings.contains_key(&mac) && self.rings.len() >= MACHINES_MAX {
            self.forget_oldest(notes);
        }
        let ring = self.rings.entry(mac).or_default();
        self.by_turn.remove(&ring.turn);
        ring.turn = self.next_turn;
        self.by_turn.insert(ring.turn, mac);
        self.next_turn += 1;
        if let Some(address) = entry.address.map(|address| address.to_canonical()) {
            let before = ring.address.replace(address);
            if let Some(before) = before.filter(|before| *before != address && self.holders.get(before) == Some(&mac)) {
                self.holders.remove(&before);
            }
            self.holders.insert(address, mac);
        }
        let number = number.unwrap_or_else(|| ring.number_for(&entry));
        ring.put(number, entry.clone());
        notes.push(Note::Entry { mac, number, entry });
    }

    fn forget_oldest(&mut self, notes: &mut Vec<Note>) {
        let Some((_, mac)) = self.by_turn.pop_first() else { return };
        let address = self.rings.remove(&mac).and_then(|ring| ring.address);
        if let Some(address) = address.filter(|address| self.holders.get(address) == Some(&mac)) {
            self.holders.remove(&address);
        }
        notes.push(Note::Forgotten(mac));
    }
}

impl Ring {
    /// A renewal takes the place of the one before: a machine that runs for a month must not forget its boot.
    fn number_for(&self, entry: &Entry) -> u64 {
        let renews = entry.kind == Kind::Renewed;
        let again = renews && self.entries.back().is_some_and(|last| last.kind == Kind::Renewed);
        self.next_number - u64::from(again)
    }

    fn put(&mut self, number: u64, entry: Entry) {
        if number < self.next_number {
            self.entries.pop_back();
        }
        self.next_number = number + 1;
        if self.entries.len() == ENTRIES_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }
}

/// The beginning of a text, whole characters only.
fn cut(text: &str) -> &str {
    let end =
        text.char_indices().map(|(at, character)| at + character.len_utf8()).take_while(|end| *end <= TEXT_BYTES_MAX);
    &text[..end.last().unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::super::events::{Stage, Weight};
    use super::*;

    fn mac(n: u32) -> Mac {
        let [a, b, c, d] = n.to_be_bytes();
        Mac([2, 0, a, b, c, d])
    }

    fn event(machine: u32, address: u32, kind: Kind) -> Event {
        Event {
            mac: Some(mac(machine)),
            address: Some(IpAddr::V4(address.into())),
            stage: Stage::Dhcp,
            weight: Weight::Step,
            kind,
            text: "é".repeat(TEXT_BYTES_MAX),
            attempt: None,
        }
    }

    #[test]
    fn a_machine_keeps_its_last_64_events_and_their_numbers_go_on() {
        let (journal, mut notes) = (Journal::default(), Vec::new());
        (0..100).for_each(|at| journal.add(&event(1, 7, Kind::Nak), at, &mut notes));
        let entries = journal.entries(mac(1));
        assert_eq!((entries.len(), entries[0].at_ms, entries[63].at_ms), (ENTRIES_MAX, 36, 99));
        assert_eq!(entries[0].text.len(), TEXT_BYTES_MAX);
        assert!(matches!(notes[99], Note::Entry { number: 99, .. }));

        let again = Journal::default();
        assert_eq!(again.load(entries.into_iter().zip(36..).map(|(entry, number)| (mac(1), number, entry))), []);
        notes.clear();
        again.add(&event(1, 7, Kind::Nak), 100, &mut notes);
        assert!(matches!(notes[0], Note::Entry { number: 100, .. }), "{notes:?}");
        assert_eq!(again.entries(mac(1)).len(), ENTRIES_MAX);
    }

    #[test]
    fn renewals_take_one_place() {
        let (journal, mut notes) = (Journal::default(), Vec::new());
        journal.add(&event(1, 7, Kind::Nak), 0, &mut notes);
        (1..500).for_each(|at| journal.add(&event(1, 7, Kind::Renewed), at, &mut notes));
        let entries = journal.entries(mac(1));
        assert_eq!((entries.len(), entries[0].kind.clone(), entries[1].at_ms), (2, Kind::Nak, 499));
    }

    #[test]
    fn of_too_many_machines_the_one_heard_of_least_recently_goes() {
        let (journal, mut notes) = (Journal::default(), Vec::new());
        let machines = MACHINES_MAX as u32;
        (0..machines).for_each(|n| journal.add(&event(n, n + 1, Kind::Nak), 0, &mut notes));
        journal.add(&event(0, 1, Kind::Nak), 1, &mut notes);
        notes.clear();
        journal.add(&event(machines, machines + 1, Kind::Nak), 2, &mut notes);
        assert_eq!(notes[0], Note::Forgotten(mac(1)));
        assert!(journal.entries(mac(1)).is_empty() && journal.entries(mac(0)).len() == 2);
        assert_eq!(journal.find(IpAddr::V4(2.into())), None);
        assert_eq!(journal.find(IpAddr::V4(3.into())), Some(mac(2)));
    }

    #[test]
    fn an_address_is_its_last_holders() {
        let (journal, mut notes) = (Journal::default(), Vec::new());
        journal.add(&event(1, 7, Kind::Nak), 0, &mut notes);
        journal.add(&event(2, 7, Kind::Nak), 0, &mut notes);
        journal.add(&event(1, 8, Kind::Nak), 0, &mut notes);
        assert_eq!(journal.find(IpAddr::V4(7.into())), Some(mac(2)));
        assert_eq!(journal.find(IpAddr::V4(8.into())), Some(mac(1)));
        assert_eq!(journal.machines(), [mac(1), mac(2)], "the one that was heard of last first");
        let stranger = Event { mac: None, ..event(3, 9, Kind::Nak) };
        journal.add(&stranger, 0, &mut notes);
        assert_eq!(journal.find(IpAddr::V4(9.into())), None);
    }
}
