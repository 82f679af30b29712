//! DHCP on its own core: the thread that answers, the thread that looks for other servers, and the
//! letters between them.
//!
//! A message goes through `sockets`, `messages`, `thread` and back to `sockets`; the thread decides
//! from the state in `leases` and `interfaces`.

mod bind;
mod control;
mod events;
mod findings;
mod interfaces;
mod leases;
mod letters;
mod link_news;
mod messages;
mod offers;
pub mod other_servers;
mod pending_answer;
mod plan;
mod segment;
mod signs;
mod sockets;
mod store_owner;
#[cfg(test)]
mod tests;
mod thread;
mod waiting;
mod wanted;
mod ways;

pub use bind::{DhcpSockets, bind_sockets};
pub use control::{DhcpControl, LeaseListing, NotTaken};
pub use letters::DryRun;
pub use plan::{DhcpCounters, DhcpPlan};

use std::io;
use std::sync::Arc;

use self::letters::{DhcpLetter, SegmentSign};
use self::other_servers::{OtherServersParts, OtherServersThread, SegmentFindings};
use self::thread::RunningDhcp;
use super::core::{CoreError, CoreParts};
use crate::dhcp::other_servers::PriorKnowledge;
use crate::engine::clock;
use crate::engine::mailbox::{CoreMailbox, MailboxBell, MailboxSender};
use crate::engine::udp::TurnWait;

/// The DHCP core before its thread runs.
#[derive(Debug)]
pub struct DhcpCore {
    parts: CoreParts,
    plan: DhcpPlan,
    sockets: DhcpSockets,
    letters: MailboxSender<DhcpLetter>,
    mailbox: CoreMailbox<DhcpLetter>,
    /// To the thread that looks for other servers.
    signs: Option<MailboxSender<SegmentSign>>,
    counters: Arc<DhcpCounters>,
}

impl DhcpCore {
    /// Makes the core and its bell. The thread that orders the drain rings the bell afterwards.
    pub fn new(
        parts: CoreParts,
        plan: DhcpPlan,
        sockets: DhcpSockets,
    ) -> io::Result<(Self, MailboxBell)> {
        let (letters, mailbox) = CoreMailbox::new()?;
        let bell = mailbox.bell();
        let counters = Arc::default();
        let core = Self { parts, plan, sockets, letters, mailbox, signs: None, counters };
        Ok((core, bell))
    }

    /// Makes the thread that watches interfaces and looks for other servers. Its first letter tells
    /// the core which subnets must be silent, before the core answers anything.
    pub(crate) fn other_servers(&mut self) -> io::Result<(OtherServersThread, MailboxBell)> {
        let plan = &mut self.plan;
        let now = clock::now_s();
        // A subnet where the last look found no server and leases run is served at once: its
        // clients renew with this server.
        let mut before = Vec::with_capacity(plan.looks.len());
        for look in &plan.looks {
            let knowledge = match look.server {
                Some(_) => PriorKnowledge::Beside,
                None if plan.leases.is_leased(look.network, now) => PriorKnowledge::Alone,
                None => PriorKnowledge::Nothing,
            };
            before.push((look.network, knowledge));
        }
        let (other_servers, signs, bell) = OtherServersThread::new(OtherServersParts {
            published: Arc::clone(&plan.published),
            before: &before,
            wanted: std::mem::take(&mut self.sockets.interfaces),
            port: plan.port,
            findings: Arc::clone(&plan.findings),
            keep: std::mem::replace(&mut plan.keep_look, Box::new(|_| ())),
            core: self.letters.clone(),
            drain: self.parts.drain.clone(),
        })?;
        self.signs = Some(signs);
        Ok((other_servers, bell))
    }

    /// What is known of interfaces and other servers, for the control thread.
    pub fn findings(&self) -> Arc<SegmentFindings> {
        Arc::clone(&self.plan.findings)
    }

    /// The control thread's way to this core.
    pub fn control(&self) -> DhcpControl {
        DhcpControl::new(self.letters.clone())
    }

    /// The counters of this core, for status and metrics.
    pub fn counters(&self) -> Arc<DhcpCounters> {
        Arc::clone(&self.counters)
    }

    /// Serves until drained. Calls `ready` once, when the core receives datagrams.
    pub fn run(self, ready: &mut dyn FnMut()) -> Result<(), CoreError> {
        let mut running = self.start()?;
        running.turn(TurnWait::No)?;
        ready();
        running.serve()
    }

    fn start(self) -> Result<RunningDhcp, CoreError> {
        let Self { parts, plan, sockets, letters, mailbox, signs, counters } = self;
        RunningDhcp::start(parts, plan, sockets, (letters, mailbox), signs, counters)
    }
}
