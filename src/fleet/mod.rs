//! Simulated machines, for demo and loadtest alike: each speaks DHCP, TFTP and HTTP as its firmware does, and checks every octet.
//!
//! A fleet runs on one thread; its machines share one receive buffer, a DHCP socket for each rack, and nothing else.
//! Machines reach the server as behind relay agents (giaddr, option 82), so that no privilege is needed: the answers come
//! to the agent's own port (RFC 8357). On loopback each machine then speaks from the address it was given.

pub mod limits;

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
mod machine;
mod menu;
mod relay;
mod tftp;
mod url;
pub mod walk;
mod watch;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::{LocalSet, spawn_local};

use crate::boot::machine::{Mac, Uuid};
use crate::engine::open_files::raise_open_files;
use crate::tftp::client::Behaviour;
use context::Context;
use machine::{Errand, Machine};
use progress::counting_retries;
use relay::{Port, Relay, Xids};
use watch::Watch;

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
        dhcp: SocketAddrV4,
        /// Address of the relay agent, which belongs to this host. On loopback each rack has its own, counted from this one.
        /// Port 0 is any, with the answers asked for there (RFC 8357); 67 needs the privilege to bind it.
        relay: SocketAddrV4,
        /// Dealt out in turn.
        models: Vec<Model>,
        /// Label of the menu entry that everybody picks.
        pick: String,
    },
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

    /// Switches all machines on and returns when the last of them has booted or given up.
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
        let machines = self.machines(progress)?;
        let watch = Watch::begin(started, progress);
        let boots: Vec<_> = machines.into_iter().map(|machine| spawn_local(counting_retries(machine.boot()))).collect();
        let mut report = Report::new(self.plan.machines);
        for boot in boots {
            // A machine whose task ended by a panic counts as failed: it is one of `machines` and not of `booted`.
            if let Ok(outcome) = boot.await {
                report.add(started, outcome);
            }
        }
        report.wall = started.elapsed();
        let (series, spent) = watch.end();
        report.series = series;
        report.pressure = Pressure::read(progress, spent, self.sources());
        report.octets = progress.octets();
        report.checked = progress.unchecked_octets() == 0;
        report.retries = progress.retries();
        Ok(report)
    }

    /// Says beforehand that this process may not have as many sockets as it will need.
    fn ensure_sockets(&self) -> io::Result<()> {
        let files = raise_open_files()?;
        let owned = self.plan.wire.sources.is_some() || self.plan.tftp.ip().is_loopback();
        let each = if owned { limits::FILES_PER_MACHINE } else { limits::FILES_PER_MACHINE_WITHOUT_ADDRESS };
        let needed = u64::from(self.plan.machines) * each + limits::FILES_RESERVED;
        if files >= needed {
            return Ok(());
        }
        let machines = self.plan.machines;
        Err(io::Error::other(format!(
            "{machines} machines need {needed} open files, the limit is {files} (ulimit -Hn)"
        )))
    }

    /// The machines, and on the way to them the relay agents of their racks.
    fn machines(&self, progress: &Arc<Progress>) -> io::Result<Vec<Machine>> {
        let Plan { machines, task, tftp, pace, contents, wire, seed } = &self.plan;
        let context = Context::new(*tftp, contents.clone(), *pace, Arc::clone(progress));
        let context = Rc::new(context.with_wire(wire.clone(), *seed));
        let machine = |number, errand| Machine { context: Rc::clone(&context), port: port(*seed, number), errand };
        let (dhcp, relay, models, pick) = match task {
            Task::Boot { dhcp, relay, models, pick } => (*dhcp, *relay, models, Rc::<str>::from(pick.as_str())),
            Task::Fetch(files) => {
                let files: Rc<[Fetch]> = Rc::from(files.as_slice());
                return Ok((0..*machines).map(|number| machine(number, Errand::Fetch(Rc::clone(&files)))).collect());
            }
        };
        let mut relays = Vec::new();
        for rack in 0..self.racks(*relay.ip()) {
            let address = Ipv4Addr::from(u32::from(*relay.ip()).wrapping_add(rack));
            let relay = Relay::open(Rc::clone(&context), SocketAddrV4::new(address, relay.port()), dhcp)?;
            spawn_local(Rc::clone(&relay).listen());
            relays.push(relay);
        }
        let numbers = 0..*machines;
        let plugs = numbers.zip(relays.iter().cycle()).zip(models.iter().cycle());
        Ok(plugs
            .map(|((number, relay), model)| {
                let xids = Xids(seed.rotate_left(32) ^ u64::from(number));
                let (relay, pick) = (Rc::clone(relay), Rc::clone(&pick));
                machine(number, Errand::Boot { relay, model: *model, xids, pick })
            })
            .collect())
    }

    /// Source addresses of the machines: each its own where this host has them.
    fn sources(&self) -> u32 {
        let owned = self.plan.wire.sources.is_some() || self.plan.tftp.ip().is_loopback();
        if owned { self.plan.machines } else { 1 }
    }

    /// A rack has a relay agent of its own where this host has the addresses for it: all of loopback is its own.
    fn racks(&self, relay: Ipv4Addr) -> u32 {
        if relay.is_loopback() { self.plan.machines.div_ceil(limits::MACHINES_PER_RELAY) } else { 1 }
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
