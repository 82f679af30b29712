//! Plain steps of a scenario: DHCP, TFTP and HTTP requests of a machine without firmware, each with
//! its own time.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use super::clients::fetch::fetch_required_file;
use super::clients::http::{HttpAgent, HttpFetcher};
use super::clients::lease::MachineLease;
use super::clients::station::MachineStation;
use super::clients::tftp::TftpFetcher;
use super::clients::url::{Url, UrlScheme};
use super::failure::BootFailure;
use super::net::context::FleetContext;
use super::net::dhcp::DhcpSpeaker;
use super::report::steps::BootSteps;
use super::scenario::{ScenarioStep, StepRequest};
use ringboot_protocol::model::random::SeededRandom;

/// A machine that makes plain requests.
pub(super) struct RequestRunner<'a> {
    station: &'a mut MachineStation,
    server: SocketAddr,
    /// Chooses the places of ranges.
    random: SeededRandom,
}

impl<'a> RequestRunner<'a> {
    /// The server of all HTTP requests.
    pub(super) fn new(station: &'a mut MachineStation, server: SocketAddr) -> Self {
        let random = SeededRandom::new(station.xids.0);
        Self { station, server, random }
    }

    /// Makes all steps in turn, again from the first until the time is over. It finishes a round
    /// that has begun. With a schedule, it makes exactly the requests that were due before the end.
    pub(super) async fn run_requests(
        &mut self,
        asked: &[ScenarioStep],
        until: Option<Instant>,
        steps: &mut BootSteps,
        lease: &mut Option<MachineLease>,
    ) -> Result<(), BootFailure> {
        let context = Rc::clone(&self.station.context);
        let unleased =
            context.wire.choose_unleased_address(self.station.port.circuit, context.tftp.ip());
        // One connection for all HTTP requests, until the machine gets another address.
        let mut kept = HttpFetcher::new(&context, HttpAgent::Plain { keep: true }, unleased);
        let schedule = self.station.schedule.clone();
        let mut is_first = true;
        if schedule.is_some() {
            steps.wait();
        }
        loop {
            for step in asked {
                for _ in 0..step.repeat {
                    let is_first = std::mem::take(&mut is_first);
                    if let Some(schedule) = &schedule {
                        steps.end();
                        let Some(turn) = schedule.wait_for_turn().await else { return Ok(()) };
                        steps.begin(step.request.stage(), turn);
                    } else if !is_first {
                        steps.enter(step.request.stage());
                    }
                    if step.request == StepRequest::Dhcp {
                        // Every boot server answers the client of a PXE ROM.
                        let answer = self.station.acquire(DhcpSpeaker::BiosRom).await?;
                        let new = MachineLease::from_answer(self.station.port, &answer);
                        if lease.replace(new).is_none_or(|old| old.address != new.address) {
                            kept = HttpFetcher::new(
                                &context,
                                HttpAgent::Plain { keep: true },
                                new.address,
                            );
                        }
                    } else {
                        let address = lease.map_or(unleased, |lease| lease.address);
                        self.fetch(&context, &step.request, address, &mut kept).await?;
                    }
                }
            }
            // A schedule ends by itself.
            if until.is_none_or(|until| schedule.is_none() && Instant::now() >= until) {
                return Ok(());
            }
        }
    }

    async fn fetch<'c>(
        &mut self,
        context: &'c FleetContext,
        request: &StepRequest,
        address: std::net::Ipv4Addr,
        kept: &mut HttpFetcher<'c>,
    ) -> Result<(), BootFailure> {
        match request {
            // `run_requests` has made this request itself.
            StepRequest::Dhcp => Ok(()),
            StepRequest::Tftp { name, behaviour } => {
                let tftp = TftpFetcher::new(context, address, u64::from(self.station.port.circuit))
                    .with_patience();
                fetch_required_file(&tftp, behaviour, name).await
            }
            StepRequest::Http { path, keep, range } => {
                let url = Url { scheme: UrlScheme::Http, server: self.server, path: path.clone() };

                // A step with `connection = "close"` leaves the kept connection to the next step.
                let mut once = HttpFetcher::new(context, HttpAgent::Plain { keep: false }, address);
                let http = if *keep { kept } else { &mut once };
                match range {
                    None => http.fetch(&url, false).await.map(drop),
                    Some(octets) => http.fetch_range(&url, *octets, &mut self.random).await,
                }
            }
        }
    }
}
