//! Simulated machines, for demo and loadtest alike: each speaks DHCP, TFTP and HTTP as its firmware does, and checks every octet.
//!
//! A fleet runs on one thread; its machines share receive buffers, a DHCP socket for each rack, TFTP sockets, and nothing else.
//! Machines reach the DHCP server as behind relay agents (giaddr, option 82), which needs no privilege where the answers come to
//! the agent's own port (RFC 8357), or as stations on the wire. On loopback each then speaks from the address it was given.

pub mod limits;

mod access;
mod audit;
mod content;
mod failure;
mod impair;
mod pace;
mod private;
mod progress;
mod report;
mod series;
mod verdict;
mod wire;

mod context;
mod dhcp;
mod http;
mod hub;
mod ledger;
mod link;
mod machine;
mod menu;
mod relay;
mod release;
mod segment;
mod tftp;
mod url;
pub mod walk;
mod watch;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::{JoinHandle, LocalSet, spawn_local};

use crate::boot::machine::{Mac, Uuid};
use crate::engine::open_files::raise_open_files;
use crate::observe::events::Stage;
use crate::tftp::client::Behaviour;
use context::Context;
use machine::{Errand, Machine, Outcome, Stopped};
use progress::counting_retries;
use segment::{Port, Segment, Xids};
use watch::Watch;

pub use access::{Access, Way};
pub use audit::Audit;
pub use content::{Content, Contents};
pub use failure::Failure;
pub use impair::Impairment;
pub use pace::Pace;
pub use private::{Images, NoServer, PrivateServer};
pub use progress::{Progress, Refusal, TftpQueue};
pub use report::{Pretty, Record, Report, StageTimes};
pub use series::{Bucket, Series};
pub use verdict::Pressure;
pub use wire::{Verify, Wire};

/// Which firmware a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// A BIOS ROM that loads PXELINUX.
    BiosPxe,
    /// OVMF's PXE stack that loads shim, which loads GRUB.
    UefiPxe,
    /// iPXE in the card's ROM, over HTTP.
    Ipxe,
}

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
    /// How many machines; they are switched on all at once.
    pub machines: u32,
    pub task: Task,
    /// Where TFTP is asked for. (Where HTTP is asked for stands in URLs.)
    pub tftp: SocketAddrV4,
    /// Files whose octets are known; all others are only counted.
    pub contents: Contents,
    pub pace: Pace,
    pub wire: Wire,
    /// Runs with one seed send the same hardware addresses and transaction ids.
    pub seed: u64,
}

/// What each machine does.
#[derive(Clone, Debug)]
pub enum Task {
    /// All that its firmware does, from DISCOVER to the last octet of the initial disk.
    Boot {
        dhcp: Access,
        /// Dealt out in turn.
        models: Vec<Model>,
        /// Label of the menu entry that everybody picks.
        pick: String,
    },
    /// Gets an address, as this firmware does, and no more.
    Lease { dhcp: Access, models: Vec<Model> },
    /// Fetches these, one after the other, and speaks no DHCP: for servers that know nothing of menus.
    Fetch(Vec<Fetch>),
}

/// One file of [`Task::Fetch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// A name, asked for as a BIOS ROM asks for its loader.
    Tftp(String),
    /// A name, asked for in this manner.
    TftpAs(String, Behaviour),
    /// A URL, asked for as iPXE does, on one connection.
    Http(String),
    /// A URL, asked for as GRUB does, on a connection of its own.
    HttpOnce(String),
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

    /// Switches all machines on and returns when the last of them has booted or given up, or the run was interrupted; then, if
    /// the plan does not keep them, all addresses have been given back.
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
        let started = Instant::now();
        let Park { machines, segments } = self.park(progress)?;
        let watch = Watch::begin(started, progress);
        let mut boots: Vec<_> =
            machines.into_iter().map(|machine| spawn_local(counting_retries(machine.boot()))).collect();
        let mut outcomes = Vec::new();
        let mut report = Report::new(self.plan.machines);
        tokio::select! {
            () = gather(&mut boots, &mut outcomes) => {}
            () = progress.interrupted() => report.interrupted = true,
        }
        boots.iter().for_each(JoinHandle::abort);
        report.wall = started.elapsed();
        let (series, spent) = watch.end();
        for outcome in outcomes {
            report.add(started, judged(outcome, &segments));
        }
        report.series = series;
        report.pressure = Pressure::read(progress, spent, self.sources());
        report.octets = progress.octets();
        report.checked = progress.unchecked_octets() == 0;
        report.retries = progress.retries();
        if self.dhcp().is_some_and(|dhcp| !dhcp.keeps_leases) {
            report.released = release::give_back(&segments).await;
        }
        Ok(report)
    }

    /// Says beforehand that this process may not have as many sockets as it will need.
    fn ensure_sockets(&self) -> io::Result<()> {
        let files = raise_open_files()?;
        let owned = self.plan.wire.sources.is_some() || self.plan.tftp.ip().is_loopback();
        let each = if matches!(self.plan.task, Task::Lease { .. }) {
            0
        } else if owned {
            limits::FILES_PER_MACHINE
        } else {
            limits::FILES_PER_MACHINE_WITHOUT_ADDRESS
        };
        let needed = u64::from(self.plan.machines) * each + limits::FILES_RESERVED;
        if files >= needed {
            return Ok(());
        }
        let machines = self.plan.machines;
        Err(io::Error::other(format!(
            "{machines} machines need {needed} open files, the limit is {files} (ulimit -Hn)"
        )))
    }

    /// The machines, and on the way to them the segments that they are on.
    fn park(&self, progress: &Arc<Progress>) -> io::Result<Park> {
        let Plan { machines, task, tftp, pace, contents, wire, seed } = &self.plan;
        let context = Context::new(*tftp, contents.clone(), *pace, Arc::clone(progress));
        let context = Rc::new(context.with_wire(wire.clone(), *seed));
        let machine = |number, errand| Machine { context: Rc::clone(&context), port: port(*seed, number), errand };
        let (dhcp, models, pick) = match task {
            Task::Boot { dhcp, models, pick } => (dhcp, models, Some(Rc::<str>::from(pick.as_str()))),
            Task::Lease { dhcp, models } => (dhcp, models, None),
            Task::Fetch(files) => {
                let files: Rc<[Fetch]> = Rc::from(files.as_slice());
                let machines = (0..*machines).map(|number| machine(number, Errand::Fetch(Rc::clone(&files)))).collect();
                return Ok(Park { machines, segments: Vec::new() });
            }
        };
        let segments = dhcp.open(&context, *machines, *seed)?;
        let plugs = (0..*machines).zip(segments.iter().cycle()).zip(models.iter().cycle());
        let plugged = plugs.map(|((number, segment), model)| {
            let xids = Xids(seed.rotate_left(32) ^ u64::from(number));
            let (segment, pick) = (Rc::clone(segment), pick.clone());
            machine(number, Errand::Boot { segment, model: *model, xids, pick })
        });
        Ok(Park { machines: plugged.collect(), segments })
    }

    fn dhcp(&self) -> Option<&Access> {
        match &self.plan.task {
            Task::Boot { dhcp, .. } | Task::Lease { dhcp, .. } => Some(dhcp),
            Task::Fetch(_) => None,
        }
    }

    /// Source addresses of the machines: each its own where this host has them.
    fn sources(&self) -> u32 {
        let owned = self.plan.wire.sources.is_some() || self.plan.tftp.ip().is_loopback();
        if owned { self.plan.machines } else { 1 }
    }
}

/// Machines before they are switched on, with the segments that they are on.
struct Park {
    machines: Vec<Machine>,
    segments: Vec<Rc<Segment>>,
}

/// Waits for all machines.
async fn gather(boots: &mut [JoinHandle<Outcome>], outcomes: &mut Vec<Outcome>) {
    for boot in boots {
        // A machine whose task ended by a panic counts as failed: it is one of `machines` and not of `booted`.
        outcomes.extend(boot.await);
    }
}

/// A machine whose address another one was given as well has failed, however far it came.
fn judged(mut outcome: Outcome, segments: &[Rc<Segment>]) -> Outcome {
    let doubled = |lease: Lease| segments.first().is_some_and(|segment| segment.is_doubled(lease.mac));
    if outcome.lease.is_some_and(doubled) {
        outcome.end = Err(Stopped { stage: Stage::Dhcp, retries: 0, failure: Failure::AddressDoubled });
    }
    outcome
}

/// Who machine `number` of a seed is. Its hardware address is a locally administered one (0x02 of the first octet), no vendor's
/// and no virtual machine's: "RB", then what seed and number make.
fn port(seed: u64, number: u32) -> Port {
    let [_, a, b, c] = number.to_be_bytes();
    let mac = Mac([b'R', b'B', seed.to_le_bytes()[0] ^ a, b, c, seed.to_le_bytes()[1]]);
    let mut uuid = [0x40; 16];
    uuid[..8].copy_from_slice(&seed.to_le_bytes());
    uuid[10..].copy_from_slice(&mac.0);
    Port { mac, uuid: Uuid(uuid), circuit: number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_of_a_seed_are_locally_administered_stations_and_all_different() {
        use std::collections::HashSet;
        for seed in [0, 1, 0xffff, u64::MAX] {
            let macs: HashSet<Mac> = (0..20_000).map(|number| port(seed, number).mac).collect();
            assert_eq!(macs.len(), 20_000);
            assert!(macs.iter().all(|mac| mac.0[0] & 0b11 == 0b10));
        }
    }
}
