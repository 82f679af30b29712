//! What runs now, as plain data for `status`: sockets, processors, counters. Control reads it; no
//! core waits for it.

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
use super::tftp::TftpCounters;
use crate::engine::datapath::Datapath;
use crate::engine::mailbox::MailboxBell;
use crate::images::ImageStore;
use crate::observe::events::{EventSender, MachineEvent};
use crate::observe::finding::{CheckFinding, CheckSeverity};
use crate::snapshot::walks::LocalWalk;
use crate::snapshot::{PublishedGeneration, PublishedState};

/// How long a question waits for the cores and the journal, whatever they do.
const SETTLED_MAX: Duration = Duration::from_millis(500);
/// How often it looks.
const SETTLED_LOOKED_EVERY: Duration = Duration::from_millis(1);

/// The parts of a running server that can be looked at.
#[derive(Clone, Debug)]
pub struct ServerOverview {
    /// What is wrong with the generation that is published last, as it was when its configuration
    /// was read.
    pub remarks: Arc<ArcSwap<Vec<CheckFinding>>>,
    /// What that generation says and this process does not do: it takes a restart.
    pub after_restart: Arc<ArcSwap<Vec<String>>>,
    /// Bytes that a TFTP socket may hold; None: there is none.
    pub receive_buffer: Option<usize>,
    pub started: SystemTime,
    pub published: Arc<PublishedState>,
    pub tftp: Vec<SocketAddr>,
    pub http: Vec<SocketAddr>,
    /// DHCP sockets that are bound to no interface.
    pub dhcp: Vec<SocketAddr>,
    pub control_cpu: usize,
    /// How every core speaks to the kernel.
    pub datapath: Datapath,
    /// Why it is not io_uring, where that was wanted.
    pub no_ring: Option<String>,
    /// One for each boot core.
    pub cores: Vec<CoreView>,
    pub dhcp_counters: Option<Arc<DhcpCounters>>,
    /// None = no DHCP.
    pub store: Option<Arc<StoreHealth>>,
    /// What is known of interfaces and of other DHCP servers; None = no DHCP.
    pub findings: Option<Arc<SegmentFindings>>,
    pub images: Arc<ImageStore>,
    pub events: EventSender,
    /// None: no DHCP.
    pub dhcp_control: Option<DhcpControl>,
    /// Of every core.
    pub bells: Vec<MailboxBell>,
    /// Of every core that runs.
    pub pulses: Vec<CorePulse>,
    /// Of every boot core: for what is under way.
    pub inquiries: Vec<CoreInquiry>,
}

/// What a supervisor's one line says of errors; empty where there are none.
pub fn in_short(remarks: &[CheckFinding]) -> String {
    match remarks.iter().filter(|remark| remark.severity <= CheckSeverity::Error).count() {
        0 => String::new(),
        1 => "; 1 error in the configuration: see `ringboot check`".to_owned(),
        errors => format!("; {errors} errors in the configuration: see `ringboot check`"),
    }
}

/// One boot core.
#[derive(Clone, Debug)]
pub struct CoreView {
    pub cpu: usize,
    pub tftp: Arc<TftpCounters>,
    pub http: Arc<HttpCounters>,
}

impl ServerOverview {
    /// From now on this loopback address is answered as the machine for which it stands, and what
    /// it does is no boot.
    pub fn begin_walk(&self, walk: LocalWalk) {
        self.events.divert_address(walk.source.into());
        self.published.walks.begin(walk, Instant::now());
        // Sleeping cores admit the address now and not after its first request.
        self.bells.iter().for_each(MailboxBell::ring);
    }

    /// What the server said of the walk; None where there is no such walk.
    pub fn end_walk(&self, source: Ipv4Addr) -> Option<Vec<MachineEvent>> {
        // The walker has its last file, and the core may not have told of it yet.
        self.settle();
        self.published.walks.end(source).then(|| self.events.take_diverted(source.into()))
    }

    /// Waits until what clients have met before now is remembered: an answer may have left while
    /// its event has not arrived.
    pub fn settle(&self) {
        let until = Instant::now() + SETTLED_MAX;
        let before: Vec<u64> = self.pulses.iter().map(CorePulse::turns).collect();
        self.bells.iter().for_each(MailboxBell::ring);
        // The first turn that ends may have begun before now; the second has seen what had come in
        // by now.
        let has_turned = |(pulse, before): (&CorePulse, &u64)| pulse.turns() >= before + 2;
        while !self.pulses.iter().zip(&before).all(has_turned) && Instant::now() < until {
            std::thread::sleep(SETTLED_LOOKED_EVERY);
            self.bells.iter().for_each(MailboxBell::ring);
        }
        self.events.wait_until_remembered(until.saturating_duration_since(Instant::now()));
    }

    /// Transfers that have not ended; of a walk none.
    pub fn under_way(&self) -> Vec<TransferUnderWay> {
        let walks = self.published.walks.load();
        let mut under_way = flights::ask(&self.inquiries);
        under_way.retain(|one| walks.all.iter().all(|walk| one.peer != walk.source));
        under_way
    }

    pub fn generation(&self) -> Arc<PublishedGeneration> {
        self.published.get()
    }
}
