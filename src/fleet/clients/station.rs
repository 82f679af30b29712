//! A machine's place: its network, and what it shares with the others.

use std::rc::Rc;

use crate::failure::BootFailure;
use crate::net::context::FleetContext;
use crate::net::dhcp::{DhcpAnswer, DhcpSpeaker};
use crate::net::segment::{FleetSegment, MachinePort, XidSource};
use crate::schedule::ExchangeSchedule;

/// The parts that every machine uses, whatever its task.
#[derive(Debug)]
pub(crate) struct MachineStation {
    pub(crate) context: Rc<FleetContext>,
    pub(crate) port: MachinePort,
    /// None without DHCP.
    pub(crate) segment: Option<Rc<FleetSegment>>,
    /// The moments of requests; None for machines without a rate.
    pub(crate) schedule: Option<Rc<ExchangeSchedule>>,
    pub(crate) xids: XidSource,
}

impl MachineStation {
    /// Gets an address: DISCOVER to ACK.
    pub(crate) async fn acquire(
        &mut self,
        speaker: DhcpSpeaker,
    ) -> Result<DhcpAnswer, BootFailure> {
        let segment = self.segment.as_ref().ok_or(BootFailure::DhcpSilent)?;
        segment.acquire(self.port, speaker, &mut self.xids).await
    }
}
