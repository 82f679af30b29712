//! The rows: what machines ask for in each, and how it is asked of a null server.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Seek};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ringboot::engine::mmsg::{ArrivedDatagram, DatagramOutbox};
use ringboot::engine::net;
use ringboot::fleet::{
    self, ArrivalPattern, ContentMap, DhcpAccess, ExpectedContent, FleetPlan, MachineRole,
    ScenarioStep, StepRequest, WireSettings,
};
use ringboot::tftp::client::ClientBehaviour;

use rustix::fs::{MemfdFlags, memfd_create};

use super::datagrams::{self, IdleManner};
use super::dhcp::PreparedAnswer;
use super::http::{BareServer, ServedFile};
use super::pace;
use super::tftp::PreparedFile;

pub(crate) const SEED: u64 = 1;

/// Name of the one file that null servers have.
const FILE: &str = "file";

/// What a row counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Megabytes,
    Requests,
    Leases,
}

impl Unit {
    pub(crate) fn per_second(self) -> &'static str {
        match self {
            Self::Megabytes => "MB/s",
            Self::Requests => "requests/s",
            Self::Leases => "leases/s",
        }
    }
}

/// How the file is asked for.
enum Way {
    /// Block size (None = no options), window, joined on arrival.
    Tftp {
        block_size: Option<u16>,
        window: u16,
        gro: bool,
    },
    HttpKept,
    HttpOnce,
    Dhcp,
}

pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) machines: u32,
    /// Size of the file.
    pub(crate) octets: u64,
    pub(crate) unit: Unit,
    /// How often each machine fetches it.
    repeat: u32,
    way: Way,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

pub(crate) fn all() -> Vec<Row> {
    let tftp = |name, octets, block_size, window, gro| Row {
        name,
        machines: 500,
        octets,
        unit: Unit::Megabytes,
        repeat: 1,
        way: Way::Tftp { block_size, window, gro },
    };
    let http = |name, machines, octets, repeat, unit, way| Row {
        name,
        machines,
        octets,
        unit,
        repeat,
        way,
    };
    vec![
        tftp("TFTP lockstep 1468", MIB, Some(1468), 1, false),
        tftp("TFTP plain 512", 256 * KIB, None, 1, false),
        tftp("TFTP window 16", 4 * MIB, Some(1468), 16, false),
        tftp("TFTP window 16, joined", 8 * MIB, Some(1468), 16, true),
        tftp("TFTP window 64", 4 * MIB, Some(1468), 64, false),
        tftp("TFTP window 64, joined", 8 * MIB, Some(1468), 64, true),
        http("HTTP 4 KiB kept alive", 64, 4 * KIB, 3000, Unit::Requests, Way::HttpKept),
        http("HTTP 4 KiB, connection per request", 64, 4 * KIB, 400, Unit::Requests, Way::HttpOnce),
        http("HTTP 64 MiB x 64", 64, 64 * MIB, 2, Unit::Megabytes, Way::HttpKept),
        http("HTTP 8 MiB x 500", 500, 8 * MIB, 2, Unit::Megabytes, Way::HttpKept),
        http("DHCP DORA", 10_000, 0, 1, Unit::Leases, Way::Dhcp),
    ]
}

impl Row {
    pub(crate) fn requests(&self) -> u32 {
        self.machines * self.repeat
    }

    /// Starts the null server of this row, which lives as long as this process, and says what to do
    /// with it.
    pub(crate) fn against_nothing(&self) -> io::Result<FleetPlan> {
        let content = ExpectedContent::Generated { seed: SEED, octets: self.octets };
        let mut contents = ContentMap::default();
        contents.insert(FILE, content.clone());
        let nowhere = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9);
        let agent = SocketAddrV4::new(Ipv4Addr::new(127, 77, 0, 2), 0);
        let (mut tftp, mut http, mut lessor) = (nowhere, nowhere, None);
        match self.way {
            Way::Tftp { block_size, window, .. } => {
                let mut file = Vec::new();
                content.write_to(&mut file)?;
                let prepared = PreparedFile::new(&file, block_size, window);
                tftp = spawn_responder(move |arrival, outbox| prepared.answer(arrival, outbox))?;
            }
            Way::HttpKept | Way::HttpOnce => http = spawn_bare_server(&content)?,
            Way::Dhcp => {
                let prepared = PreparedAnswer::new(Ipv4Addr::LOCALHOST);
                let server = spawn_responder(move |arrival, outbox| {
                    prepared.answer(arrival, outbox);
                })?;
                lessor = Some(DhcpAccess {
                    way: fleet::DhcpRoute::Relay { server, agent },
                    keeps_leases: true,
                })
            }
        }
        Ok(FleetPlan {
            machines: self.machines,
            roles: self.roles(FILE),
            arrival: ArrivalPattern::All,
            duration: None,
            within: None,
            warm_up: Duration::ZERO,
            lessor,
            tftp: tftp.into(),
            http: http.into(),
            pick: String::new(),
            contents,
            pace: pace(),
            wire: self.wire(),
            seed: SEED,
        })
    }

    pub(crate) fn is_dhcp(&self) -> bool {
        matches!(self.way, Way::Dhcp)
    }

    /// What each machine asks for, where the file has this name.
    pub(crate) fn roles(&self, name: &str) -> Vec<MachineRole> {
        let http = |keep| StepRequest::Http { path: format!("/{name}"), keep, range: None };
        let request = match self.way {
            Way::Tftp { block_size, window, .. } => {
                StepRequest::Tftp { name: name.to_owned(), behaviour: manner(block_size, window) }
            }
            Way::HttpKept => http(true),
            Way::HttpOnce => http(false),
            Way::Dhcp => StepRequest::Dhcp,
        };
        vec![MachineRole::stepping(1, vec![ScenarioStep { request, repeat: self.repeat }])]
    }

    pub(crate) fn wire(&self) -> WireSettings {
        WireSettings {
            gro: matches!(self.way, Way::Tftp { gro: true, .. }),
            ..WireSettings::default()
        }
    }
}

/// Serves on a thread of this core, which it has to itself.
fn spawn_responder(
    answer: impl FnMut(&ArrivedDatagram<'_>, &mut DatagramOutbox) + Send + 'static,
) -> io::Result<SocketAddrV4> {
    let socket = datagrams::open_socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let address = net::read_local_address(&socket)?;
    thread::spawn(move || datagrams::serve_datagrams(&socket, IdleManner::Spin, answer));
    take_ipv4(address)
}

/// Serves this file, which is in memory only, on a thread of this core.
fn spawn_bare_server(content: &ExpectedContent) -> io::Result<SocketAddrV4> {
    let mut file = File::from(memfd_create(FILE, MemfdFlags::CLOEXEC)?);
    content.write_to(&mut file)?;
    file.rewind()?;
    let files = HashMap::from([(FILE.to_owned(), Arc::new(ServedFile::open(file)?))]);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = BareServer::open(address, files, None, None)?;
    let address = server.address()?;
    thread::spawn(move || server.run());
    take_ipv4(address)
}

fn take_ipv4(address: SocketAddr) -> io::Result<SocketAddrV4> {
    match address {
        SocketAddr::V4(address) => Ok(address),
        SocketAddr::V6(_) => Err(io::Error::other("not an IPv4 socket")),
    }
}

/// A client that asks for just these options.
fn manner(block_size: Option<u16>, window: u16) -> ClientBehaviour {
    let mut behaviour = ClientBehaviour::generic(block_size.unwrap_or(512), window);
    if block_size.is_none() {
        behaviour.asks.clear();
    } else if window == 1 {
        behaviour.asks.truncate(1);
    }
    behaviour
}
