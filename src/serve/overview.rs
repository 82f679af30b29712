//! What runs now, as plain data for `status`: sockets, processors, counters. Control reads it; no core waits for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::dhcp_core::DhcpCounters;
use super::http_core::HttpCounters;
use super::neighbours::Findings;
use super::tftp_core::TftpCounters;
use crate::images::Images;
use crate::observe::events::Events;
use crate::snapshot::{Generation, Published};

/// The parts of a running server that can be looked at.
#[derive(Clone, Debug)]
pub struct Overview {
    pub started: SystemTime,
    pub published: Arc<Published>,
    pub tftp: Vec<SocketAddr>,
    pub http: Vec<SocketAddr>,
    /// DHCP sockets that are bound to no interface.
    pub dhcp: Vec<SocketAddr>,
    pub control_cpu: usize,
    /// One for each boot core.
    pub cores: Vec<CoreView>,
    pub dhcp_counters: Option<Arc<DhcpCounters>>,
    /// What is known of interfaces and of other DHCP servers; None = no DHCP.
    pub findings: Option<Arc<Findings>>,
    pub images: Arc<Images>,
    pub events: Events,
}

/// One boot core.
#[derive(Clone, Debug)]
pub struct CoreView {
    pub cpu: usize,
    pub tftp: Arc<TftpCounters>,
    pub http: Arc<HttpCounters>,
}

impl Overview {
    pub fn generation(&self) -> Arc<Generation> {
        self.published.get()
    }
}
