//! Walks as a resource of the admin socket: what would a machine be offered, and an address that is
//! answered as that machine.
//!
//! `POST /v1/walks/MAC/FIRMWARE/NETWORK/PREFIX` asks the DHCP core without consequences and grants
//! a loopback address for a minute; `DELETE /v1/walks/ADDRESS` ends it and tells what the server
//! said meanwhile.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Value, json};

use super::admin_socket::{Answer, Routes};
use crate::boot::plan::{self, UrlOrigin};
use crate::dhcp::decide::{DhcpEventKind, SilenceReason};
use crate::dhcp::subnet::{HoldReason, Subnet};
use crate::fleet::walk;
use crate::model::machine::{Firmware, Mac, Machine};
use crate::model::network::Ipv4Network;
use crate::serve::dhcp::Tried;
use crate::serve::handle::Handle;
use crate::serve::overview::Overview;
use crate::snapshot::walks::LocalWalk;

/// How long an address stands for a machine unless the walk ends before.
const WALK_MAX: Duration = Duration::from_secs(60);
/// Addresses tried before it is said that none is free; there are eight million.
const SOURCES_TRIED_MAX: u32 = 16;

/// Adds the resources.
pub fn routes(routes: Routes, handle: &Handle) -> Routes {
    let (beginning, ending) = (handle.clone(), handle.clone());
    let stopping = || {
        Answer::problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "starting or stopping",
            "ask again in a moment",
        )
    };
    routes
        .post("/v1/walks/", move |rest| match (beginning.overview(), Wanted::parse(rest)) {
            (None, _) => stopping(),
            (_, None) => Answer::problem(
                StatusCode::BAD_REQUEST,
                "not a walk",
                "MAC/FIRMWARE or MAC/FIRMWARE/NETWORK/PREFIX",
            ),
            (Some(overview), Some(wanted)) => wanted.begin(&overview),
        })
        .delete("/v1/walks/", move |rest| {
            let Some(overview) = ending.overview() else { return stopping() };
            match rest.parse().ok().and_then(|source| overview.end_walk(source)) {
                Some(events) => {
                    let said: Vec<String> = events.into_iter().map(|event| event.text).collect();
                    Answer::ok(json!({ "said": said }))
                }
                None => Answer::problem(StatusCode::NOT_FOUND, "no such walk", rest),
            }
        })
}

/// Who is to be walked.
struct Wanted {
    mac: Mac,
    firmware: Firmware,
    network: Option<Ipv4Network>,
}

/// What the machine would be offered.
#[derive(Default)]
struct Offer {
    /// False: there is no DHCP here, and the rest is what `[boot]` says.
    asked: bool,
    address: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
    boot_file: Option<String>,
    /// The clause that says why there is no boot file.
    no_loader: Option<String>,
    reasons: Vec<String>,
    /// Why there is no offer, and the key of the subnet behind it.
    silence: Option<(String, &'static str)>,
    seen_as: Option<Firmware>,
}

impl Wanted {
    fn parse(rest: &str) -> Option<Self> {
        let mut parts = rest.splitn(3, '/');
        let mac = parts.next()?.parse().ok()?;
        let kind = parts.next()?;
        let firmware = walk::KINDS.iter().find(|(name, ..)| *name == kind)?.1;
        let network = match parts.next() {
            None | Some("") => None,
            Some(text) => Some(text.parse().ok()?),
        };
        Some(Self { mac, firmware, network })
    }

    fn begin(&self, overview: &Overview) -> Answer {
        let generation = overview.generation();
        let subnets = &generation.snapshot.dhcp.subnets;
        let reserved = |subnet: &&Subnet| subnet.reserved_for(self.mac).is_some();
        let subnet = match self.network {
            Some(network) => subnets.named(network),
            None => subnets.iter().find(reserved).or(subnets.first()),
        };
        let offer = match (&overview.dhcp_control, subnet) {
            (Some(dhcp), Some(subnet)) => {
                let relay = subnet.interface.is_none().then(|| inside(subnet));
                let packet =
                    walk::build_discover(self.firmware, self.mac, relay).unwrap_or_default();
                match dhcp.try_out(packet, subnet.network) {
                    Some(tried) => offered(&tried),
                    None => {
                        return Answer::problem(
                            StatusCode::SERVICE_UNAVAILABLE,
                            "no answer from the DHCP core",
                            "ask again",
                        );
                    }
                }
            }
            _ => self.without_dhcp(overview, subnet),
        };
        let Some(source) = source(overview) else {
            return Answer::problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many walks",
                "ask again in a minute",
            );
        };
        let machine = Machine {
            mac: self.mac,
            uuid: Some(walk::make_walk_uuid(self.mac)),
            firmware: Some(self.firmware),
        };
        let stands_for = offer.address.unwrap_or(source);
        let machine = offer.asked.then_some(machine).filter(|_| offer.silence.is_none());
        if offer.silence.is_none() {
            overview.begin_walk(LocalWalk {
                source,
                stands_for,
                machine,
                until: Instant::now() + WALK_MAX,
            });
        }
        let tftp = overview.tftp.iter().find(|address| address.is_ipv4()).or(overview.tftp.first());
        Answer::ok(offer.json(source, tftp.map_or(69, SocketAddr::port), subnet))
    }

    /// Another server gives the address: the chain begins at the loader that `[boot]` names.
    fn without_dhcp(&self, overview: &Overview, subnet: Option<&Subnet>) -> Offer {
        let generation = overview.generation();
        let snapshot = &generation.snapshot;
        let listens = overview.tftp.iter().map(SocketAddr::ip).find_map(|ip| match ip {
            IpAddr::V4(address) if !address.is_unspecified() => Some(address),
            _ => None,
        });
        let server = snapshot.dhcp.advertise.or(listens).unwrap_or(Ipv4Addr::LOCALHOST);
        let origin = UrlOrigin { server, http_port: snapshot.dhcp.http_port };
        let choice =
            plan::choose_loader(self.firmware, "no DHCP here", true, &snapshot.dhcp.boot, origin);
        let no_loader = choice.file.is_none().then(|| choice.reason.clone());
        Offer {
            address: subnet.map(inside),
            server: Some(server),
            boot_file: choice.file,
            no_loader,
            reasons: vec![choice.reason],
            ..Offer::default()
        }
    }
}

/// An address of the subnet that can stand for one of its machines or its relay agent.
fn inside(subnet: &Subnet) -> Ipv4Addr {
    let first = Ipv4Addr::from(u32::from(subnet.network.address).saturating_add(1));
    subnet.pools.first().map(|pool| pool.first).or(subnet.routers.first().copied()).unwrap_or(first)
}

fn offered(tried: &Tried) -> Offer {
    let decision = &tried.decision;
    let offer = decision.answer.as_ref().and_then(|answer| walk::read_offer_facts(&answer.bytes));
    let no_loader = match decision.event.as_ref().map(|event| &event.told) {
        Some(DhcpEventKind::NoLoader(why)) => Some(why.clone()),
        _ => None,
    };
    let silence =
        decision.silence.as_ref().map(|silence| (silence.to_string(), key_behind(silence)));
    let (address, server, boot_file) = match offer {
        Some((address, server, boot_file)) => (Some(address), Some(server), boot_file),
        None => (None, None, None),
    };
    let seen_as = tried.last_firmware;
    Offer {
        asked: true,
        address,
        server,
        boot_file,
        no_loader,
        reasons: decision.reasons.clone(),
        silence,
        seen_as,
    }
}

/// The key of a subnet that decides on this.
fn key_behind(silence: &SilenceReason) -> &'static str {
    match silence {
        SilenceReason::NoAddressFree(_) => "pools",
        SilenceReason::Held(_, HoldReason::OtherServer(_)) => "allow-other-servers",
        SilenceReason::Held(..) => "interface",
        SilenceReason::NotPxe(_) | SilenceReason::NotReserved(_) => "clients",
        SilenceReason::SubnetOff(_) => "mode",
        _ => "subnet",
    }
}

impl Offer {
    fn json(self, source: Ipv4Addr, tftp_port: u16, subnet: Option<&Subnet>) -> Value {
        let silence = self.silence.map(|(text, key)| json!({ "text": text, "key": key }));
        json!({
            "asked": self.asked,
            "source": source,
            "address": self.address.unwrap_or(source),
            "server": self.server,
            "tftp_port": tftp_port,
            "boot_file": self.boot_file,
            "no_loader": self.no_loader,
            "subnet": subnet.map(|subnet| subnet.network.to_string()),
            "reasons": self.reasons,
            "silence": silence,
            "seen_as": self.seen_as.and_then(walk::spell_firmware_kind),
        })
    }
}

/// A loopback address that nobody walks from and no subnet has. Drawn, so that another user of this
/// machine cannot wait there.
fn source(overview: &Overview) -> Option<Ipv4Addr> {
    let generation = overview.generation();
    let walks = overview.published.walks.load();
    // Seeded by the system's generator.
    let random = RandomState::new();
    (0..SOURCES_TRIED_MAX).find_map(|tried| {
        let [a, b, c, ..] = random.hash_one(tried).to_be_bytes();
        let source = Ipv4Addr::new(127, a | 0x80, b, c.clamp(1, 254));
        let taken = walks.all.iter().any(|walk| walk.source == source)
            || generation.snapshot.dhcp.subnets.of(source).is_some();
        (!taken).then_some(source)
    })
}
