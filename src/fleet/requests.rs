//! Plain steps of a scenario: DHCP, TFTP and HTTP requests of a machine without firmware, each with
//! its own time.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use super::clients::fetch::must;
use super::clients::http::{Agent, Http};
use super::clients::lease::Lease;
use super::clients::station::Station;
use super::clients::tftp::Tftp;
use super::clients::url::{Scheme, Url};
use super::failure::Failure;
use super::net::context::Context;
use super::net::dhcp::Speaker;
use super::report::steps::Steps;
use super::scenario::{Request, Step};
use ringboot_protocol::model::random::Random;

/// A machine at its requests.
pub(super) struct Requests<'a> {
    station: &'a mut Station,
    server: SocketAddr,
    /// For the places of ranges.
    random: Random,
}

impl<'a> Requests<'a> {
    /// HTTP is asked for at this server.
    pub(super) fn new(station: &'a mut Station, server: SocketAddr) -> Self {
        let random = Random::new(station.xids.0);
        Self { station, server, random }
    }

    /// All steps in turn, from the first again until the time is over. A whole round is always
    /// done, unless each request has its moment: then all that were due before the end are made,
    /// and no other.
    pub(super) async fn all(
        &mut self,
        asked: &[Step],
        until: Option<Instant>,
        steps: &mut Steps,
        lease: &mut Option<Lease>,
    ) -> Result<(), Failure> {
        let context = Rc::clone(&self.station.context);
        let unleased = context.wire.unleased(self.station.port.circuit, context.tftp.ip());
        // One connection for all that is asked of HTTP, until the machine speaks from another
        // address.
        let mut kept = Http::new(&context, Agent::Plain { keep: true }, unleased);
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
                        let Some(turn) = schedule.turn().await else { return Ok(()) };
                        steps.begin(step.request.stage(), turn);
                    } else if !is_first {
                        steps.enter(step.request.stage());
                    }
                    if step.request == Request::Dhcp {
                        // PXE's ROM is the client that every boot server answers.
                        let answer = self.station.acquire(Speaker::BiosRom).await?;
                        let new = Lease::of(self.station.port, &answer);
                        if lease.replace(new).is_none_or(|old| old.address != new.address) {
                            kept = Http::new(&context, Agent::Plain { keep: true }, new.address);
                        }
                    } else {
                        let address = lease.map_or(unleased, |lease| lease.address);
                        self.fetch(&context, &step.request, address, &mut kept).await?;
                    }
                }
            }
            // A schedule says by itself when it is over.
            if until.is_none_or(|until| schedule.is_none() && Instant::now() >= until) {
                return Ok(());
            }
        }
    }

    async fn fetch<'c>(
        &mut self,
        context: &'c Context,
        request: &Request,
        address: std::net::Ipv4Addr,
        kept: &mut Http<'c>,
    ) -> Result<(), Failure> {
        match request {
            Request::Dhcp => Ok(()),
            Request::Tftp { name, behaviour } => {
                let tftp =
                    Tftp::new(context, address, u64::from(self.station.port.circuit)).patient();
                must(&tftp, behaviour, name).await
            }
            Request::Http { path, keep, range } => {
                let url = Url { scheme: Scheme::Http, server: self.server, path: path.clone() };
                let mut once = Http::new(context, Agent::Plain { keep: false }, address);
                let http = if *keep { kept } else { &mut once };
                match range {
                    None => http.fetch(&url, false).await.map(drop),
                    Some(octets) => http.fetch_range(&url, *octets, &mut self.random).await,
                }
            }
        }
    }
}
