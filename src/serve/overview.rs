//! The running server as plain data for `status`: sockets, processors, counters. Control reads it;
//! no core waits for it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;

use super::dhcp::other_servers::SegmentFindings;
use super::dhcp::{DhcpControl, DhcpCounters};
use super::flights::{self, CoreInquiry, TransferUnderWay};
use super::health::StoreHealth;
use super::http::HttpCounters;
use super::pulse::CorePulse;
use super::storm::{self, StormEstimate};
use super::tftp::TftpCounters;
use crate::engine::datapath::Datapath;
use crate::engine::mailbox::MailboxBell;
use crate::images::ImageStore;
use crate::observe::events::{EventSender, MachineEvent};
use crate::observe::finding::{CheckFinding, CheckSeverity};
use crate::snapshot::walks::LocalWalk;
use crate::snapshot::{PublishedGeneration, PublishedState};

/// How long [`ServerOverview::settle`] waits for the cores and the journal.
const SETTLED_MAX: Duration = Duration::from_millis(500);
/// How often it looks meanwhile.
const SETTLED_LOOKED_EVERY: Duration = Duration::from_millis(1);

/// The parts of a running server that control can read.
#[derive(Clone, Debug)]
pub struct ServerOverview {
    /// The findings of the published generation, from when its configuration was read.
    pub remarks: Arc<ArcSwap<Vec<CheckFinding>>>,
    /// Tables of that configuration that this process ignores until a restart.
    pub after_restart: Arc<ArcSwap<Vec<String>>>,
    /// Receive buffer of a TFTP socket in bytes; None: there is no socket.
    pub receive_buffer: Option<usize>,
    /// When the process started, by the wall clock.
    pub started: SystemTime,
    /// The generation that the cores answer from.
    pub published: Arc<PublishedState>,
    /// Addresses that TFTP listens on.
    pub tftp: Vec<SocketAddr>,
    /// Addresses that HTTP listens on.
    pub http: Vec<SocketAddr>,
    /// DHCP sockets that are bound to no interface.
    pub dhcp: Vec<SocketAddr>,
    /// The processor of the DHCP core and the control thread.
    pub control_cpu: usize,
    /// How every core speaks to the kernel.
    pub datapath: Datapath,
    /// Why it is not io_uring, where that was wanted.
    pub no_ring: Option<String>,
    /// One entry for each boot core.
    pub cores: Vec<CoreView>,
    /// None: no DHCP.
    pub dhcp_counters: Option<Arc<DhcpCounters>>,
    /// None: no DHCP.
    pub store: Option<Arc<StoreHealth>>,
    /// What is known of interfaces and other DHCP servers; None: no DHCP.
    pub findings: Option<Arc<SegmentFindings>>,
    /// The files under the root, with their memory and workers.
    pub images: Arc<ImageStore>,
    /// The event queue, for walks and for waiting until it is empty.
    pub events: EventSender,
    /// None: no DHCP.
    pub dhcp_control: Option<DhcpControl>,
    /// The bells of all cores.
    pub bells: Vec<MailboxBell>,
    /// The pulses of all running cores.
    pub pulses: Vec<CorePulse>,
    /// One handle for each boot core, to ask for its transfers.
    pub inquiries: Vec<CoreInquiry>,
}

/// The part of systemd's status line that counts errors; empty if there are none.
pub fn summarize_errors(remarks: &[CheckFinding]) -> String {
    match remarks.iter().filter(|remark| remark.severity <= CheckSeverity::Error).count() {
        0 => String::new(),
        1 => "; 1 error in the configuration: see `ringboot check`".to_owned(),
        errors => format!("; {errors} errors in the configuration: see `ringboot check`"),
    }
}

/// One boot core.
#[derive(Clone, Debug)]
pub struct CoreView {
    /// The processor that it is pinned to.
    pub cpu: usize,
    /// The counters of its TFTP thread.
    pub tftp: Arc<TftpCounters>,
    /// The counters of its HTTP thread.
    pub http: Arc<HttpCounters>,
}

impl ServerOverview {
    /// Begins a walk: from now on the server answers this loopback address as the machine for which
    /// it stands, and does not count its requests as a boot.
    pub fn begin_walk(&self, walk: LocalWalk) {
        self.events.divert_address(walk.source.into());
        self.published.walks.begin(walk, Instant::now());
        // Sleeping cores admit the address now and not after its first request.
        self.bells.iter().for_each(MailboxBell::ring);
    }

    /// Ends a walk, and returns its events; None: there is no such walk.
    pub fn end_walk(&self, source: Ipv4Addr) -> Option<Vec<MachineEvent>> {
        // The walker has its last file, but the core may not have pushed that event yet.
        self.settle();
        self.published.walks.end(source).then(|| self.events.take_diverted(source.into()))
    }

    /// Waits until the journal has every event of requests that were answered before this call: an
    /// answer may have left before its event arrived.
    pub fn settle(&self) {
        let until = Instant::now() + SETTLED_MAX;
        let before: Vec<u64> = self.pulses.iter().map(CorePulse::turns).collect();
        self.bells.iter().for_each(MailboxBell::ring);
        while !self.pulses.iter().zip(&before).all(has_turned) && Instant::now() < until {
            std::thread::sleep(SETTLED_LOOKED_EVERY);
            self.bells.iter().for_each(MailboxBell::ring);
        }
        self.events.wait_until_remembered(until.saturating_duration_since(Instant::now()));
    }

    /// The transfers that have not ended, except those of walks.
    pub fn under_way(&self) -> Vec<TransferUnderWay> {
        let walks = self.published.walks.load();
        let mut under_way = flights::ask_cores(&self.inquiries);
        under_way.retain(|one| walks.all.iter().all(|walk| one.peer != walk.source));
        under_way
    }

    /// The storm that the server is in; None: it is in none. During a storm this takes
    /// [`storm::MEASURED_FOR`].
    pub fn measure_storm(&self) -> Option<StormEstimate> {
        let before = self.under_way();
        if !storm::is_storm(&before) {
            return None;
        }
        let began = Instant::now();
        std::thread::sleep(storm::MEASURED_FOR);
        storm::estimate_storm(&before, &self.under_way(), began.elapsed())
    }

    /// The published generation.
    pub fn generation(&self) -> Arc<PublishedGeneration> {
        self.published.get()
    }
}

/// Whether two turns have ended since the count `before`. The first one may have begun before that
/// count; the second has handled everything that had arrived by then.
fn has_turned((pulse, before): (&CorePulse, &u64)) -> bool {
    pulse.turns() >= before + 2
}
