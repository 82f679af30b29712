//! Simulated machines, for demo and loadtest alike: each speaks DHCP, TFTP and HTTP as its firmware does, and checks every octet.
//!
//! A fleet runs on one thread; its machines share one receive buffer, a DHCP socket for each rack, and nothing else.
//! Machines reach the server as behind relay agents (giaddr, option 82), so that no privilege is needed: the answers come
//! to the agent's own port (RFC 8357). On loopback each machine then speaks from the address it was given.

pub mod limits;

mod audit;
mod content;
mod failure;
mod pace;
mod private;
mod progress;
mod report;

mod context;
mod dhcp;
mod http;
mod machine;
mod menu;
mod relay;
mod tftp;
mod url;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::{LocalSet, spawn_local};

use crate::boot::machine::{Mac, Uuid};
use crate::engine::open_files::raise_open_files;
use context::Context;
use machine::Machine;
use relay::{Port, Relay, Xids};

pub use audit::Audit;
pub use content::{Content, Contents};
pub use failure::Failure;
pub use pace::Pace;
pub use private::{Images, NoServer, PrivateServer};
pub use progress::Progress;
pub use report::Report;

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
    /// Dealt out in turn.
    pub models: Vec<Model>,
    pub servers: Servers,
    /// Address of the first relay agent; each further one has the next address. They belong to this host.
    pub relay: Ipv4Addr,
    /// Files whose octets are known; all others are only counted.
    pub contents: Contents,
    /// Label of the menu entry that everybody picks.
    pub pick: String,
    pub pace: Pace,
    /// Runs with one seed send the same hardware addresses and transaction ids.
    pub seed: u64,
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
        let boots: Vec<_> = machines.into_iter().map(|machine| spawn_local(machine.boot())).collect();
        let mut report = Report::new(self.plan.machines);
        for boot in boots {
            // A machine whose task ended by a panic counts as failed: it is one of `machines` and not of `booted`.
            if let Ok(outcome) = boot.await {
                report.add(outcome);
            }
        }
        report.wall = started.elapsed();
        report.octets = progress.octets();
        report.retries = progress.retries();
        Ok(report)
    }

    /// Says beforehand that this process may not have as many sockets as it will need.
    fn ensure_sockets(&self) -> io::Result<()> {
        let files = raise_open_files()?;
        let needed = u64::from(self.plan.machines) * limits::FILES_PER_MACHINE + limits::FILES_RESERVED;
        if files >= needed {
            return Ok(());
        }
        let machines = self.plan.machines;
        Err(io::Error::other(format!(
            "{machines} machines need {needed} open files, the limit is {files} (ulimit -Hn)"
        )))
    }

    /// The machines, each plugged into its rack's relay agent.
    fn machines(&self, progress: &Arc<Progress>) -> io::Result<Vec<Machine>> {
        let Plan { servers, pace, contents, .. } = &self.plan;
        let context = Rc::new(Context::new(servers.tftp, contents.clone(), *pace, Arc::clone(progress)));
        let pick: Rc<str> = Rc::from(self.plan.pick.as_str());
        let mut machines = Vec::new();
        let mut rack = None;
        for number in 0..self.plan.machines {
            let place = number as usize % limits::MACHINES_PER_RELAY;
            if place == 0 {
                let racks = number / u32::try_from(limits::MACHINES_PER_RELAY).unwrap_or(u32::MAX);
                let address = Ipv4Addr::from(u32::from(self.plan.relay).wrapping_add(racks));
                let relay = Relay::open(Rc::clone(&context), address, 0, servers.dhcp)?;
                spawn_local(Rc::clone(&relay).listen());
                rack = Some(relay);
            }
            let Some(relay) = &rack else { continue };
            machines.push(Machine {
                context: Rc::clone(&context),
                relay: Rc::clone(relay),
                port: port(self.plan.seed, number),
                model: self.model(number),
                xids: Xids(self.plan.seed.rotate_left(32) ^ u64::from(number)),
                pick: Rc::clone(&pick),
            });
        }
        Ok(machines)
    }

    fn model(&self, number: u32) -> Model {
        let models = &self.plan.models;
        models.get(number as usize % models.len().max(1)).copied().unwrap_or(Model::BiosPxe)
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
