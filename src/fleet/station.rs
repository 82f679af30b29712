//! Where a machine stands: the network that it is on, and what it shares with the others.

use std::rc::Rc;

use super::context::Context;
use super::dhcp::{Answer, Speaker};
use super::failure::Failure;
use super::schedule::Schedule;
use super::segment::{Port, Segment, Xids};

/// What a machine has at hand, whatever it is there for.
#[derive(Debug)]
pub(super) struct Station {
    pub(super) context: Rc<Context>,
    pub(super) port: Port,
    /// None where there is no DHCP.
    pub(super) segment: Option<Rc<Segment>>,
    /// When requests are due, of machines that share a rate.
    pub(super) schedule: Option<Rc<Schedule>>,
    pub(super) xids: Xids,
}

impl Station {
    /// DISCOVER to ACK.
    pub(super) async fn acquire(&mut self, speaker: Speaker) -> Result<Answer, Failure> {
        let segment = self.segment.as_ref().ok_or(Failure::DhcpSilent)?;
        segment.acquire(self.port, speaker, &mut self.xids).await
    }
}
