//! What is checked, for whom, and what a running server says of itself.

use std::net::SocketAddr;

use crate::config::Config;
use crate::control::loaders::BorrowedFiles;
use crate::observe::port_holder::SocketProtocol;

/// What is checked.
#[derive(Clone, Copy, Debug)]
pub struct CheckSubject<'a> {
    /// With its loaders settled.
    pub config: &'a Config,
    /// What comes from packages.
    pub borrowed: &'a BorrowedFiles,
    /// DHCP will be answered.
    pub wants_dhcp: bool,
    /// Who opens the files that are served.
    pub reader: FileReader,
    /// It is the file of the packaged service, which has fewer rights than root.
    pub is_service: bool,
}

/// What only a running server knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunningServer {
    pub pid: u64,
    /// What it listens on; a DHCP socket on an interface stands as a port without an address.
    pub sockets: Vec<(SocketProtocol, SocketAddr)>,
    /// What it has found out about its subnets by listening.
    pub heard: Vec<HeardSubnet>,
    /// Bytes of boot images that it could not lock in memory.
    pub unlocked: u64,
    /// Bytes that a socket of its may hold. None: it does not tell.
    pub receive_buffer: Option<usize>,
    /// Why it acknowledges no lease.
    pub store_fault: Option<String>,
    /// What it has read and does not do until it is started again.
    pub after_restart: Vec<String>,
}

/// A subnet of a running server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeardSubnet {
    pub subnet: String,
    /// Why nothing is offered there now.
    pub silent_because: Option<String>,
    /// DHCP servers that answer there too, in words.
    pub other_servers: Vec<String>,
    pub pool: Option<HeardPool>,
}

/// The pools of a subnet of a running server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeardPool {
    /// How much is given, in words.
    pub said: String,
    pub is_full: bool,
    pub is_nearly_full: bool,
}

impl RunningServer {
    /// A port that is busy because this server has it.
    pub(super) fn holds(&self, protocol: SocketProtocol, wanted: SocketAddr) -> bool {
        self.sockets.iter().any(|(held_by, held)| {
            let overlaps = held.ip() == wanted.ip()
                || held.ip().is_unspecified()
                || wanted.ip().is_unspecified();
            *held_by == protocol && held.port() == wanted.port() && overlaps
        })
    }
}

/// Who opens the files that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileReader {
    /// The user who runs this process.
    Caller,
    /// Root, which serves what everybody may read and nothing else.
    Root,
    /// The user that serves, who is in no other group.
    User { uid: u32, gid: u32 },
    /// Nobody here: the configuration is for another host, and nothing of this one is looked at but
    /// its root, where that is here too.
    Elsewhere { has_root: bool },
}
