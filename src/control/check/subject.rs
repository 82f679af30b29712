//! The subject of a check: the configuration, the user who serves, and the state of a running
//! server.

use std::net::SocketAddr;

use crate::config::Config;
use crate::control::loaders::BorrowedFiles;
use crate::observe::port_holder::SocketProtocol;

/// What is checked.
#[derive(Clone, Copy, Debug)]
pub struct CheckSubject<'a> {
    /// The configuration, after `settle_loaders`.
    pub config: &'a Config,
    /// Loaders that the server serves from packages.
    pub borrowed: &'a BorrowedFiles,
    /// The server will answer DHCP.
    pub wants_dhcp: bool,
    /// The user who opens the served files.
    pub reader: FileReader,
    /// The configuration is that of the packaged service, which has fewer rights than root.
    pub is_service: bool,
}

/// The facts that only a running server knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunningServer {
    /// Its process id.
    pub pid: u64,
    /// Its sockets. A DHCP socket on an interface has the unspecified address.
    pub sockets: Vec<(SocketProtocol, SocketAddr)>,
    /// The state of its subnets.
    pub heard: Vec<HeardSubnet>,
    /// Bytes of boot images that it could not lock in memory.
    pub unlocked: u64,
    /// The receive buffer of its sockets in bytes. None: it does not report it.
    pub receive_buffer: Option<usize>,
    /// Why it acknowledges no lease. None: it does.
    pub store_fault: Option<String>,
    /// Tables of the configuration whose changes wait for a restart.
    pub after_restart: Vec<String>,
}

/// A subnet of a running server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeardSubnet {
    /// The network, as `192.168.4.0/24`.
    pub subnet: String,
    /// Why the server offers nothing there now. None: it offers.
    pub silent_because: Option<String>,
    /// Other DHCP servers that answer there, one clause each.
    pub other_servers: Vec<String>,
    /// The use of its pools. None: it has no pool.
    pub pool: Option<HeardPool>,
}

/// The pools of a subnet of a running server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeardPool {
    /// The use as a clause: `9 of 10 addresses`.
    pub said: String,
    /// No address is free.
    pub is_full: bool,
    /// Few addresses are free.
    pub is_nearly_full: bool,
}

impl RunningServer {
    /// True where this server has the wanted address and port.
    pub(super) fn holds(&self, protocol: SocketProtocol, wanted: SocketAddr) -> bool {
        self.sockets.iter().any(|(held_by, held)| {
            let overlaps = held.ip() == wanted.ip()
                || held.ip().is_unspecified()
                || wanted.ip().is_unspecified();
            *held_by == protocol && held.port() == wanted.port() && overlaps
        })
    }
}

/// The user who opens the served files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileReader {
    /// The user who runs this process.
    Caller,
    /// Root, which serves only files that every user may read.
    Root,
    /// The service user, who is in no other group.
    User {
        /// The user id.
        uid: u32,
        /// The id of the primary group.
        gid: u32,
    },
    /// A user on another host (`--no-host`): of this host the check reads at most the root.
    Elsewhere {
        /// The root exists here too.
        has_root: bool,
    },
}
