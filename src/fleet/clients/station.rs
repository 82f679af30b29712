//! Where a machine stands: the network that it is on, and what it shares with the others.

use std::rc::Rc;

use crate::failure::Failure;
use crate::net::context::Context;
use crate::net::dhcp::{Answer, Speaker};
use crate::net::segment::{Port, Segment, Xids};
use crate::schedule::Schedule;

/// What a machine has at hand, whatever it is there for.
#[derive(Debug)]
pub(crate) struct Station {
    pub(crate) context: Rc<Context>,
    pub(crate) port: Port,
    /// None where there is no DHCP.
    pub(crate) segment: Option<Rc<Segment>>,
    /// When requests are due, of machines that share a rate.
    pub(crate) schedule: Option<Rc<Schedule>>,
    pub(crate) xids: Xids,
}

impl Station {
    /// DISCOVER to ACK.
    pub(crate) async fn acquire(&mut self, speaker: Speaker) -> Result<Answer, Failure> {
        let segment = self.segment.as_ref().ok_or(Failure::DhcpSilent)?;
        segment.acquire(self.port, speaker, &mut self.xids).await
    }
}
