//! Simulated machines, for demo and loadtest alike: each speaks DHCP, TFTP and HTTP as its firmware does, and checks every octet.
//!
//! A fleet runs on one thread; its machines share one receive buffer, a DHCP socket for each rack, and nothing else.
//! Machines reach the server as behind relay agents (giaddr, option 82), so that no privilege is needed: the answers come
//! to the agent's own port (RFC 8357). On loopback each machine then speaks from the address it was given.

pub mod limits;

mod arrival;
mod audit;
mod content;
mod failure;
mod impair;
mod pace;
mod private;
mod progress;
mod report;
mod scenario;
mod series;
mod verdict;
mod wire;

mod context;
mod dhcp;
mod http;
mod hub;
mod machine;
mod menu;
mod relay;
mod requests;
mod tftp;
mod url;
pub mod walk;
mod watch;

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, LocalSet, spawn_local};
use tokio::time::sleep_until;

use crate::boot::machine::{Mac, Uuid};
use crate::engine::open_files::raise_open_files;
use context::Context;
use machine::{Errand, Machine};
use progress::counting_retries;
use relay::{Port, Relay, Xids};
use scenario::dealt;
use watch::Watch;

pub use arrival::{Arrival, duration};
pub use audit::Audit;
pub use content::{Content, Contents};
pub use failure::Failure;
pub use impair::Impairment;
pub use machine::Model;
pub use pace::Pace;
pub use private::{Images, NoServer, PrivateServer};
pub use progress::{Oddity, Progress, Refusal, TftpQueue};
pub use report::{Failed, Pretty, Record, Report, StageTimes};
pub use scenario::{Does, Request, Role, Scenario, Step, Wrong};
pub use series::{Bucket, Series};
pub use verdict::Pressure;
pub use wire::{Verify, Wire};

/// Where the servers under test listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Servers {
    pub dhcp: SocketAddrV4,
    pub tftp: SocketAddrV4,
    pub http: SocketAddrV4,
}

/// Everything a fleet needs to know beforehand.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many machines.
    pub machines: u32,
    /// What they do, dealt out by weight.
    pub roles: Vec<Role>,
    pub arrival: Arrival,
    /// Until so long after the start machines begin again: firmware boots once more, plain steps are repeated. None: once each.
    pub duration: Option<Duration>,
    /// None where no role speaks DHCP.
    pub lessor: Option<Lessor>,
    pub tftp: SocketAddrV4,
    /// Where plain steps ask. (Loaders ask where their URLs say.)
    pub http: SocketAddrV4,
    /// Label of the menu entry that everybody picks.
    pub pick: String,
    /// Files whose octets are known; all others are only counted.
    pub contents: Contents,
    pub pace: Pace,
    pub wire: Wire,
    /// Runs with one seed send the same hardware addresses and transaction ids, at the same moments.
    pub seed: u64,
}

/// How machines reach a DHCP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lessor {
    pub server: SocketAddrV4,
    /// Address of the relay agent, which belongs to this host. On loopback each rack has its own, counted from this one.
    /// Port 0 is any, with the answers asked for there (RFC 8357); 67 needs the privilege to bind it.
    pub relay: SocketAddrV4,
}

/// An address as a machine has it from its last ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Number of the machine in its fleet.
    pub machine: u32,
    pub mac: Mac,
    pub address: Ipv4Addr,
    /// Option 51, seconds.
    pub lease_s: u32,
}

/// A number of machines, ready to be switched on.
#[derive(Debug)]
pub struct Fleet {
    plan: Plan,
}

impl Fleet {
    pub fn new(plan: Plan) -> Self {
        Self { plan }
    }

    /// Switches the machines on as they arrive and returns when the last of them has booted or given up.
    pub fn run(&self, progress: &Arc<Progress>) -> io::Result<Report> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, self.boot_all(progress))
    }

    /// Asks the server for every address again, as machines do after a reboot, and compares (INIT-REBOOT, RFC 2131 section 3.2).
    pub fn audit(&self, report: &Report) -> io::Result<Audit> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, audit::ask_again(self, report))
    }

    async fn boot_all(&self, progress: &Arc<Progress>) -> io::Result<Report> {
        self.ensure_sockets()?;
        let site = self.site(progress)?;
        let started = Instant::now();
        let watch = Watch::begin(started, progress);
        let report = Rc::new(RefCell::new(Report::new(self.plan.machines)));
        let until = self.plan.duration.map(|duration| started + duration);
        let mut running = JoinSet::new();
        for (machine, at) in site.machines().zip(self.plan.arrival.times(self.plan.machines, self.plan.seed)) {
            if until.is_some_and(|until| started + at >= until) {
                break;
            }
            if started.elapsed() < at {
                sleep_until((started + at).into()).await;
            }
            running.spawn_local(counting_retries(machine.live(started, until, Rc::clone(&report))));
        }
        // A machine whose task ended by a panic counts as failed: it is one of `machines` and not of `booted`.
        while running.join_next().await.is_some() {}
        let mut report = report.replace(Report::new(0));
        report.finish();
        report.wall = started.elapsed();
        let (series, spent) = watch.end();
        report.series = series;
        report.pressure = Pressure::read(progress, spent, self.sources());
        report.octets = progress.octets();
        report.checked = progress.unchecked_octets() == 0;
        report.retries = progress.retries();
        let seen = Oddity::ALL.map(|oddity| (oddity, progress.oddities(oddity)));
        report.oddities = seen.into_iter().filter(|(_, times)| *times > 0).collect();
        Ok(report)
    }

    /// Says beforehand that this process may not have as many sockets as it will need.
    fn ensure_sockets(&self) -> io::Result<()> {
        let files = raise_open_files()?;
        let owned = self.plan.wire.sources.is_some() || self.plan.tftp.ip().is_loopback();
        let each = if owned { limits::FILES_PER_MACHINE } else { limits::FILES_PER_MACHINE_WITHOUT_ADDRESS };
        let fetches = self.plan.roles.iter().any(|role| role.does.fetches());
        let needed = if fetches { u64::from(self.plan.machines) * each } else { 0 } + limits::FILES_RESERVED;
        if files >= needed {
            return Ok(());
        }
        let machines = self.plan.machines;
        Err(io::Error::other(format!(
            "{machines} machines need {needed} open files, the limit is {files} (ulimit -Hn)"
        )))
    }

    /// What the machines share: sockets of relay agents among it.
    fn site(&self, progress: &Arc<Progress>) -> io::Result<Site<'_>> {
        let Plan { machines, lessor, tftp, pace, contents, wire, seed, .. } = &self.plan;
        let context = Context::new(*tftp, contents.clone(), *pace, Arc::clone(progress));
        let context = Rc::new(context.with_wire(wire.clone(), *seed));
        let mut relays = Vec::new();
        if let Some(Lessor { server, relay }) = lessor {
            let racks = if relay.ip().is_loopback() { machines.div_ceil(limits::MACHINES_PER_RELAY) } else { 1 };
            for rack in 0..racks {
                let address = Ipv4Addr::from(u32::from(*relay.ip()).wrapping_add(rack));
                let relay = Relay::open(Rc::clone(&context), SocketAddrV4::new(address, relay.port()), *server)?;
                spawn_local(Rc::clone(&relay).listen());
                relays.push(relay);
            }
        }
        Ok(Site { plan: &self.plan, context, relays })
    }

    /// Source addresses of the machines: each its own where this host has them.
    fn sources(&self) -> u32 {
        let owned = self.plan.wire.sources.is_some() || self.plan.tftp.ip().is_loopback();
        if owned { self.plan.machines } else { 1 }
    }
}

/// Where machines stand: what they share.
struct Site<'a> {
    plan: &'a Plan,
    context: Rc<Context>,
    /// A rack has a relay agent of its own where this host has the addresses for it: all of loopback is its own.
    relays: Vec<Rc<Relay>>,
}

impl Site<'_> {
    fn machines(&self) -> impl Iterator<Item = Machine> {
        let Plan { machines, roles, seed, http, pick, .. } = self.plan;
        let errands: Vec<Errand> = roles.iter().map(|role| Errand::new(&role.does, *http, pick)).collect();
        (0..*machines).zip(dealt(roles)).map(move |(number, role)| {
            let rack = (number as usize).checked_rem(self.relays.len()).and_then(|rack| self.relays.get(rack));
            Machine {
                context: Rc::clone(&self.context),
                port: port(*seed, number),
                relay: rack.map(Rc::clone),
                xids: Xids(seed.rotate_left(32) ^ u64::from(number)),
                errand: errands[role].clone(),
            }
        })
    }
}

/// Who machine `number` of a seed is. QEMU's prefix for the hardware address; seed and number make the rest.
fn port(seed: u64, number: u32) -> Port {
    let [_, a, b, c] = number.to_be_bytes();
    let mac = Mac([0x52, 0x54, seed.to_le_bytes()[0] ^ a, b, c, seed.to_le_bytes()[1]]);
    let mut uuid = [0x40; 16];
    uuid[..8].copy_from_slice(&seed.to_le_bytes());
    uuid[10..].copy_from_slice(&mac.0);
    Port { mac, uuid: Uuid(uuid), circuit: number }
}
