//! Where a machine stands: the network that it is on, and what it shares with the others.

use std::rc::Rc;

use crate::failure::BootFailure;
use crate::net::context::FleetContext;
use crate::net::dhcp::{DhcpAnswer, DhcpSpeaker};
use crate::net::segment::{FleetSegment, MachinePort, XidSource};
use crate::schedule::ExchangeSchedule;

/// What a machine has at hand, whatever it is there for.
#[derive(Debug)]
pub(crate) struct MachineStation {
    pub(crate) context: Rc<FleetContext>,
    pub(crate) port: MachinePort,
    /// None where there is no DHCP.
    pub(crate) segment: Option<Rc<FleetSegment>>,
    /// When requests are due, of machines that share a rate.
    pub(crate) schedule: Option<Rc<ExchangeSchedule>>,
    pub(crate) xids: XidSource,
}

impl MachineStation {
    /// DISCOVER to ACK.
    pub(crate) async fn acquire(
        &mut self,
        speaker: DhcpSpeaker,
    ) -> Result<DhcpAnswer, BootFailure> {
        let segment = self.segment.as_ref().ok_or(BootFailure::DhcpSilent)?;
        segment.acquire(self.port, speaker, &mut self.xids).await
    }
}
