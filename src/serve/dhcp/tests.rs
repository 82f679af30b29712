//! The DHCP thread over real sockets, with a store whose syncs end when the test says so.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::DhcpCore;
use super::bind::bind_sockets;
use super::control::NotTaken;
use super::letters::ConfigProposal;
use super::messages::{DISCOVER, ReceivedMessage, WayIn};
use super::plan::DhcpPlan;
use super::thread::RunningDhcp;
use crate::dhcp::layout::PoolLayout;
use crate::dhcp::lease::{Lease, LeaseChange, LeaseTable};
use crate::dhcp::packet::Packet;
use crate::dhcp::policy::DhcpPolicy;
use crate::dhcp::subnet::{AddressPool, AnsweringMode, ClientAdmission, Subnet};
use crate::engine::datapath::Datapath;
use crate::engine::mailbox::MailboxBell;
use crate::engine::udp::{SocketId, TurnWait};
use crate::model::machine::Mac;
use crate::model::network::Ipv4Network;
use crate::observe::events::{self, EventSender};
use crate::serve::core::{CoreError, CoreParts};
use crate::serve::drain::DrainOrder;
use crate::serve::health::StoreHealth;
use crate::serve::pulse::CorePulse;
use crate::snapshot::{PublishedState, Snapshot};
use crate::store::{LeaseStore, StoreError};

const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for an answer that should not come: answers take well under a millisecond here.
const SILENCE: Duration = Duration::from_millis(150);
const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x10];

/// A store whose commit ends when the test says so, and as it says. It hands over what it was
/// given.
struct HeldBack {
    batches: Sender<Vec<LeaseChange>>,
    verdicts: Receiver<bool>,
}

impl LeaseStore for HeldBack {
    fn load(&mut self) -> Result<Vec<Lease>, StoreError> {
        Ok(Vec::new())
    }

    fn commit(&mut self, changes: &[LeaseChange]) -> Result<(), StoreError> {
        // Both ends are gone when a test has seen enough.
        let _ = self.batches.send(changes.to_vec());
        if self.verdicts.recv().unwrap_or(false) {
            Ok(())
        } else {
            Err(StoreError::Other("disk full".into()))
        }
    }
}

/// A store that no test commits to.
fn unused_store() -> Box<HeldBack> {
    Box::new(HeldBack { batches: channel().0, verdicts: channel().1 })
}

/// A DHCP core on loopback with a held-back store, and a relay agent in front of it.
struct World {
    relay: UdpSocket,
    server: SocketAddr,
    batches: Receiver<Vec<LeaseChange>>,
    verdicts: Sender<bool>,
    health: Arc<StoreHealth>,
    published: Arc<PublishedState>,
    drain: DrainOrder,
    bell: MailboxBell,
    thread: Option<JoinHandle<Result<(), CoreError>>>,
}

fn parts(datapath: Datapath, events: &EventSender, drain: &DrainOrder) -> CoreParts {
    let (events, drain) = (events.clone(), drain.clone());
    CoreParts { datapath, events, drain, pulse: CorePulse::default() }
}

fn plan(store: Box<dyn LeaseStore>) -> DhcpPlan {
    let first = Ipv4Addr::new(127, 77, 1, 1);
    let subnet = Subnet {
        relay: true,
        mode: AnsweringMode::Server,
        clients: ClientAdmission::Any,
        pools: vec![AddressPool { first, last: Ipv4Addr::new(127, 77, 1, 20) }],
        default_lease_time_s: 600,
        firmware_lease_time_s: 600,
        max_lease_time_s: 7200,
        ..Subnet::new(Ipv4Network { address: Ipv4Addr::new(127, 77, 0, 0), prefix: 16 })
    };
    let policy =
        DhcpPolicy { subnets: vec![subnet].into(), http_port: 80, ..DhcpPolicy::default() };
    let snapshot = Snapshot { dhcp: policy, ..Snapshot::default() };
    let leases = LeaseTable::new(&snapshot.dhcp.subnets);
    let published = PublishedState::new(snapshot);
    DhcpPlan {
        address: Some(Ipv4Addr::LOCALHOST),
        port: 0,
        leases,
        published,
        store,
        database: PathBuf::from("held-back.db"),
        health: Arc::default(),
        looks: Vec::new(),
        keep_look: Box::new(|_| ()),
        findings: Arc::default(),
    }
}

impl World {
    fn new(datapath: Datapath) -> Self {
        Self::after(datapath, &[])
    }

    /// A core that finds these messages in its socket when it starts.
    fn after(datapath: Datapath, waiting: &[Vec<u8>]) -> Self {
        let ((sender, batches), (verdicts, held_back)) = (channel(), channel());
        let plan = plan(Box::new(HeldBack { batches: sender, verdicts: held_back }));
        let health = Arc::clone(&plan.health);
        let published = Arc::clone(&plan.published);
        let sockets = bind_sockets(&plan).unwrap();
        let server = sockets.sockets[0].0;
        let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
        for message in waiting {
            relay.send_to(message, server).unwrap();
        }
        let drain = DrainOrder::default();
        let (events, _) = events::open_event_queue();
        let (core, bell) = DhcpCore::new(parts(datapath, &events, &drain), plan, sockets).unwrap();
        let (ready, is_ready) = channel();
        let thread = std::thread::spawn(move || core.run(&mut || ready.send(()).unwrap()));
        is_ready.recv_timeout(PATIENCE).unwrap();
        Self {
            relay,
            server,
            batches,
            verdicts,
            health,
            published,
            drain,
            bell,
            thread: Some(thread),
        }
    }

    fn say(&self, kind: u8, address: Option<Ipv4Addr>) {
        self.relay.send_to(&message(kind, address), self.server).unwrap();
    }

    /// The next reply's message type and address.
    fn hear(&self, limit: Duration) -> Option<(u8, Ipv4Addr)> {
        self.relay.set_read_timeout(Some(limit)).unwrap();
        let mut bytes = [0; 1500];
        let (len, _) = self.relay.recv_from(&mut bytes).ok()?;
        let reply = Packet::parse_reply(&bytes[..len]).unwrap();
        Some((reply.option(53).unwrap()[0], reply.yiaddr))
    }

    /// The sync that goes on now ends so.
    fn end_sync(&self, durable: bool) {
        self.verdicts.send(durable).unwrap();
    }

    /// Waits until the core has handed so many changes to the store that are not finished.
    fn wait_queued(&self, changes: u64) {
        let began = Instant::now();
        while self.health.report().queued < changes {
            assert!(
                began.elapsed() < PATIENCE,
                "{} of {changes} are queued",
                self.health.report().queued
            );
            std::thread::yield_now();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.drain.order();
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok());
        }
    }
}

/// A relayed message with option 82 sub-option 19: the answer comes to the port it was sent from
/// (D-74).
fn message(kind: u8, address: Option<Ipv4Addr>) -> Vec<u8> {
    let mut bytes = vec![0; 236];
    bytes[..4].copy_from_slice(&[1, 1, 6, 1]);
    bytes[4..8].copy_from_slice(&[1, 2, 3, 4]);
    bytes[24..28].copy_from_slice(&[127, 0, 0, 1]);
    bytes[28..34].copy_from_slice(&MAC);
    bytes.extend_from_slice(&[99, 130, 83, 99, 53, 1, kind]);
    if let Some(address) = address {
        bytes.extend_from_slice(&[50, 4]);
        bytes.extend_from_slice(&address.octets());
        bytes.extend_from_slice(&[54, 4, 127, 0, 0, 1]);
    }
    bytes.extend_from_slice(&[82, 8, 5, 4, 127, 77, 0, 0, 19, 0, 255]);
    let at = bytes.len() - 10;
    bytes[at] = 8;
    bytes
}

#[test]
fn a_request_behind_hundreds_of_discovers_is_answered_among_the_first() {
    const DISCOVERS: usize = 500;
    for datapath in Datapath::ALL {
        let mut waiting = vec![message(1, None); DISCOVERS];
        // Of another network, so that it needs no commit: the answer is a NAK.
        waiting.push(message(3, Some(Ipv4Addr::new(10, 0, 0, 1))));
        let world = World::after(datapath, &waiting);
        let before =
            (0..DISCOVERS).take_while(|_| world.hear(PATIENCE).expect("an answer").0 != 6).count();
        assert!(before < 10, "{datapath}: {before} answers before the NAK");
    }
}

#[test]
fn no_ack_leaves_before_its_lease_is_durable_and_a_repeated_request_gets_one_ack_and_one_row() {
    for datapath in Datapath::ALL {
        let world = World::new(datapath);
        world.say(1, None);
        let (offer, address) = world.hear(PATIENCE).expect("an OFFER needs no commit");
        assert_eq!(offer, 2);
        world.say(3, Some(address));
        let changes = world.batches.recv_timeout(PATIENCE).unwrap();
        let [LeaseChange::Bind(lease)] = &changes[..] else { panic!("{changes:?}") };
        assert_eq!((lease.address, lease.mac), (address, Mac(MAC)));
        world.say(3, Some(address));
        world.say(3, Some(address));
        assert_eq!(world.hear(SILENCE), None, "nothing leaves while the sync is held back");
        assert_eq!(world.published.load().bindings.read(address), None);
        assert_eq!(world.health.report().queued, 1, "the repeated REQUEST writes nothing");
        world.end_sync(true);
        assert_eq!(world.hear(PATIENCE), Some((5, address)));
        assert_eq!(
            world.published.load().bindings.read(address).unwrap().machine.mac,
            Mac(MAC),
            "written before the ACK left"
        );
        assert_eq!(world.hear(SILENCE), None, "one ACK for three REQUESTs");
    }
}

/// A storm's commits share a sync, so their ACKs are due in one turn: more than the core has send
/// slots.
#[test]
fn every_ack_of_a_large_commit_leaves() {
    for datapath in Datapath::ALL {
        const RELAYS: usize = 10;
        // As many replies as fit a relay's default receive buffer.
        const REQUESTS: usize = 80;
        let world = World::new(datapath);
        let relays: Vec<UdpSocket> =
            (0..RELAYS).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        world.say(1, None);
        let (_, address) = world.hear(PATIENCE).unwrap();
        for (number, relay) in relays.iter().enumerate() {
            for xid in 0..REQUESTS {
                let mut request = message(3, Some(address));
                request[4..8].copy_from_slice(
                    &u32::try_from(number * REQUESTS + xid).unwrap().to_be_bytes(),
                );
                relay.send_to(&request, world.server).unwrap();
                // One after the other: a burst would overflow the server's receive buffer.
                world.wait_queued((number * REQUESTS + xid + 1) as u64);
            }
        }
        // The first sync has one lease, and the next one all the others.
        (0..2).for_each(|_| world.end_sync(true));
        for (number, relay) in relays.iter().enumerate() {
            relay.set_read_timeout(Some(PATIENCE)).unwrap();
            for xid in 0..REQUESTS {
                assert!(
                    relay.recv(&mut [0; 1500]).is_ok(),
                    "no ACK for request {xid} of relay {number}"
                );
            }
        }
    }
}

#[test]
fn without_an_address_of_ours_nothing_is_answered_and_it_is_said_once() {
    for datapath in Datapath::ALL {
        let plan = plan(unused_store());
        let sockets = bind_sockets(&plan).unwrap();
        let (events, said) = events::open_event_queue();
        let (core, _) =
            DhcpCore::new(parts(datapath, &events, &DrainOrder::default()), plan, sockets).unwrap();
        let mut running = core.start().unwrap();
        let arrived_at = |local| ReceivedMessage {
            bytes: message(1, None),
            source: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 6767),
            destination: Ipv4Addr::BROADCAST,
            local,
            way: WayIn { socket: SocketId(0), interface: 0, asked: None },
            kind: Some(DISCOVER),
        };
        running.handle(&arrived_at(Ipv4Addr::UNSPECIFIED)).unwrap();
        running.handle(&arrived_at(Ipv4Addr::UNSPECIFIED)).unwrap();
        assert_eq!(running.sockets.in_flight(), 0);
        let words: Vec<String> = said.try_iter().map(|event| event.text).collect();
        assert!(words.len() == 1 && words[0].contains("has no IPv4 address"), "{words:?}");
        running.handle(&arrived_at(Ipv4Addr::LOCALHOST)).unwrap();
        assert_eq!(running.sockets.in_flight(), 1);
    }
}

/// Nobody turns the core meanwhile: as when it has so much to do that control waits no longer.
#[test]
fn a_configuration_that_was_refused_never_comes_into_force_and_its_number_is_nobodys() {
    for datapath in Datapath::ALL {
        let plan = plan(unused_store());
        let published = Arc::clone(&plan.published);
        let sockets = bind_sockets(&plan).unwrap();
        let (events, _) = events::open_event_queue();
        let (core, _) =
            DhcpCore::new(parts(datapath, &events, &DrainOrder::default()), plan, sockets).unwrap();
        let control = core.control();
        let mut running = core.start().unwrap();
        let on_port = |port| {
            let mut snapshot = published.get().snapshot.clone();
            snapshot.dhcp.http_port = port;
            published.prepare(snapshot)
        };
        for port in [81, 82] {
            let refused =
                control.reconfigure_within(on_port(port), Duration::from_millis(1)).unwrap_err();
            assert_eq!(refused, NotTaken::Late { waited_s: 0 });
        }
        (0..3).for_each(|_| running.turn(TurnWait::No).unwrap());
        assert_eq!((published.load().number, published.load().snapshot.dhcp.http_port), (1, 80));
        assert!(!running.state.is_moving());
        let (taken, next) = (control.clone(), on_port(83));
        let asked = std::thread::spawn(move || taken.reconfigure_within(next, PATIENCE));
        while !asked.is_finished() {
            running.turn(TurnWait::No).unwrap();
        }
        assert_eq!(asked.join().unwrap(), Ok(()));
        assert_eq!((published.load().number, published.load().snapshot.dhcp.http_port), (4, 83));
    }
}

/// Leases that change while a configuration comes in pieces are in its slots as they are.
#[test]
fn boot_cores_find_every_lease_in_the_slots_of_the_next_configuration() {
    let plan = plan(unused_store());
    let published = Arc::clone(&plan.published);
    let sockets = bind_sockets(&plan).unwrap();
    let (events, _) = events::open_event_queue();
    let (core, _) =
        DhcpCore::new(parts(Datapath::Epoll, &events, &DrainOrder::default()), plan, sockets)
            .unwrap();
    let mut running = core.start().unwrap();
    let bind = |running: &mut RunningDhcp, last: u8, end_s: u64| {
        let address = Ipv4Addr::new(127, 77, 1, last);
        let lease = Lease::new_bound(address, Mac([2, 0, 0, 0, 0, last]), end_s);
        running.state.leases.apply(&LeaseChange::Bind(Box::new(lease)), 0);
        running.state.write_binding(address);
    };
    (1..10).for_each(|last| bind(&mut running, last, 1 << 40));
    let next = published.prepare(published.get().snapshot.clone());
    let (done, is_done) = sync_channel(1);
    let layout = PoolLayout::new(&next.snapshot.dhcp.subnets);
    running.state.leases.begin_takeover(layout);
    let told = |leases: &LeaseTable, address| {
        assert!(next.bindings.write(address, leases.binding(address)))
    };
    assert!(!running.state.leases.move_rows(5, told));
    let proposal = ConfigProposal {
        next: Arc::clone(&next),
        layout: PoolLayout::default(),
        fate: Arc::default(),
        done,
    };
    running.state.resume_move(proposal);
    (3..15).for_each(|last| bind(&mut running, last, u64::from(last)));
    running.follow_takeover();
    assert!(is_done.try_recv().is_ok() && !running.state.is_moving());
    for last in 1..20 {
        let address = Ipv4Addr::new(127, 77, 1, last);
        assert_eq!(
            published.load().bindings.read(address),
            running.state.leases.binding(address),
            "{address}"
        );
    }
    assert_eq!(published.load().number, next.number);
}

#[test]
fn a_failed_commit_is_never_acknowledged_and_the_client_may_ask_again() {
    for datapath in Datapath::ALL {
        let world = World::new(datapath);
        world.say(1, None);
        let (_, address) = world.hear(PATIENCE).unwrap();
        world.say(3, Some(address));
        world.batches.recv_timeout(PATIENCE).unwrap();
        world.end_sync(false);
        assert_eq!(world.hear(SILENCE), None);
        assert_eq!(world.published.load().bindings.read(address), None);
        world.say(3, Some(address));
        world.batches.recv_timeout(PATIENCE).unwrap();
        world.end_sync(true);
        assert_eq!(world.hear(PATIENCE), Some((5, address)));
    }
}
