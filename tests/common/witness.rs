//! Who was given which address, as the wire of the server shows it: the judge of a whole run, over
//! restarts and clients of any kind.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringboot::dhcp::frame;
use ringboot::dhcp::packet::Packet;

use super::net::SERVER;
use super::wire::Wire;

/// An address of the host's own is known to be one after so long: the kernel tells of it, and the
/// server listens.
const OWN_IS_KNOWN: Duration = Duration::from_secs(3);
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const DECLINE: u8 = 4;
const RELEASE: u8 = 7;
/// What an ACK without option 51 is worth.
const NO_LEASE: Duration = Duration::ZERO;

/// A thread that reads every DHCP message on the server's bridge.
pub struct Witness {
    book: Arc<Mutex<Book>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Book {
    holders: HashMap<Ipv4Addr, Holder>,
    /// An address in the pool that the host has itself.
    own: Option<(Ipv4Addr, Instant)>,
    /// Machines that have given their address back and asked for none since: an ACK that was on its
    /// way then is worth nothing.
    returned: HashSet<Vec<u8>>,
    faults: Vec<String>,
    acknowledged: u64,
}

struct Holder {
    machine: Vec<u8>,
    since: Instant,
    until: Instant,
}

impl Witness {
    /// On this interface of the server's namespace.
    pub fn open(namespace: &str, interface: &str) -> Self {
        let wire = Wire::open(namespace, interface);
        wire.only_dhcp();
        let (book, ends) = (Arc::<Mutex<Book>>::default(), Arc::<AtomicBool>::default());
        let (seen, end) = (Arc::clone(&book), Arc::clone(&ends));
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                if let Some(frame) = wire.hear_any(Instant::now() + Duration::from_millis(50)) {
                    seen.lock().unwrap().note(&frame, Instant::now());
                }
            }
        });
        Self { book, ends, thread: Some(thread) }
    }

    /// What was wrong since the last time.
    pub fn take_faults(&self) -> Vec<String> {
        std::mem::take(&mut self.book.lock().unwrap().faults)
    }

    /// Leases that were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.book.lock().unwrap().acknowledged
    }

    /// Leases that have not run out, by hardware address.
    pub fn holders(&self) -> Vec<(Vec<u8>, Ipv4Addr)> {
        let book = self.book.lock().unwrap();
        let now = Instant::now();
        let held = book.holders.iter().filter(|(_, holder)| now < holder.until);
        held.map(|(address, holder)| (holder.machine.clone(), *address)).collect()
    }

    /// An address that no machine holds, for the host itself.
    pub fn free(&self, mut candidates: impl Iterator<Item = Ipv4Addr>) -> Option<Ipv4Addr> {
        let book = self.book.lock().unwrap();
        let now = Instant::now();
        candidates.find(|address| book.holders.get(address).is_none_or(|holder| holder.until < now))
    }

    /// From now on the host has this address, or none any longer.
    pub fn own(&self, address: Option<Ipv4Addr>) {
        self.book.lock().unwrap().own = address.map(|address| (address, Instant::now()));
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Book {
    fn note(&mut self, frame: &[u8], now: Instant) {
        let Some((source, payload)) = frame.get(14..).and_then(frame::parse_ipv4_datagram) else {
            return;
        };
        let is_reply = payload.first() == Some(&2);
        let parsed =
            if is_reply { Packet::parse_reply(payload) } else { Packet::parse_request(payload) };
        let Ok(message) = parsed else { return };
        let machine = message.chaddr.to_vec();
        match (is_reply, message.option(53)) {
            (true, Some([ACK])) if source.ip().to_string() == SERVER => {
                self.given(machine, &message, now)
            }
            (false, Some([REQUEST])) => drop(self.returned.remove(&machine)),
            (false, Some([RELEASE])) => self.returned(&machine, message.ciaddr),
            (false, Some([DECLINE])) => {
                if let Some(octets) = message.option(50).and_then(|value| value.first_chunk::<4>())
                {
                    self.returned(&machine, Ipv4Addr::from(*octets));
                }
            }
            _ => (),
        }
    }

    fn given(&mut self, machine: Vec<u8>, message: &Packet<'_>, now: Instant) {
        let address = message.yiaddr;
        if address.is_unspecified() {
            return; // the answer to an INFORM
        }
        self.acknowledged += 1;
        if self.returned.contains(&machine) {
            return;
        }
        let seconds = message.option(51).and_then(|value| value.first_chunk::<4>());
        let lease = seconds
            .map_or(NO_LEASE, |seconds| Duration::from_secs(u32::from_be_bytes(*seconds).into()));
        if address.to_string() == SERVER {
            self.faults.push(format!("{machine:02x?} was given the server's address"));
        }
        let held = self.holders.get(&address).filter(|holder| now < holder.until);
        if let Some((own, since)) = self.own
            && own == address
            && now > since + OWN_IS_KNOWN
            && held.is_none_or(|holder| holder.machine != machine)
        {
            self.faults.push(format!(
                "{machine:02x?} was given {address}, which the host has had for {:?}",
                now - since
            ));
        }
        if let Some(holder) = held.filter(|holder| holder.machine != machine) {
            self.faults.push(format!(
                "{machine:02x?} was given {address}, which {:02x?} has had for {:?} and has for \
                 another {:?}",
                holder.machine,
                now - holder.since,
                holder.until - now
            ));
        }
        // A machine has one address: with a new one it gives up what it had.
        self.holders.retain(|other, holder| holder.machine != machine || *other == address);
        self.holders.insert(address, Holder { machine, since: now, until: now + lease });
    }

    fn returned(&mut self, machine: &[u8], address: Ipv4Addr) {
        self.returned.insert(machine.to_vec());
        if self.holders.get(&address).is_some_and(|holder| holder.machine == machine) {
            self.holders.remove(&address);
        }
    }
}
