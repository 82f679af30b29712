//! Where a machine stands: the network that it is on, and what it shares with the others.

use std::rc::Rc;

use crate::fleet::failure::Failure;
use crate::fleet::net::context::Context;
use crate::fleet::net::dhcp::{Answer, Speaker};
use crate::fleet::net::segment::{Port, Segment, Xids};
use crate::fleet::schedule::Schedule;

/// What a machine has at hand, whatever it is there for.
#[derive(Debug)]
pub(in crate::fleet) struct Station {
    pub(in crate::fleet) context: Rc<Context>,
    pub(in crate::fleet) port: Port,
    /// None where there is no DHCP.
    pub(in crate::fleet) segment: Option<Rc<Segment>>,
    /// When requests are due, of machines that share a rate.
    pub(in crate::fleet) schedule: Option<Rc<Schedule>>,
    pub(in crate::fleet) xids: Xids,
}

impl Station {
    /// DISCOVER to ACK.
    pub(in crate::fleet) async fn acquire(&mut self, speaker: Speaker) -> Result<Answer, Failure> {
        let segment = self.segment.as_ref().ok_or(Failure::DhcpSilent)?;
        segment.acquire(self.port, speaker, &mut self.xids).await
    }
}
