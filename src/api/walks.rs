//! Walks: the offer that a machine would get, and a loopback address that stands for that machine.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use http::StatusCode;

use super::error::{ApiError, BodyFault, ServerFault};
use super::extract::{Json, PathText};
use super::state::{ApiState, in_background};
use super::types::{ApiProblem, EndedWalk, SilenceReason, WalkFirmware, WalkOffer, WalkRequest};
use super::values::parse_mac;
use crate::boot::loader_choice::{self, UrlOrigin};
use crate::dhcp::decide::{DhcpEventKind, DhcpSilence};
use crate::dhcp::subnet::{HoldReason, Subnet};
use crate::fleet::walk;
use crate::model::machine::{Firmware, Mac, Machine};
use crate::model::network::Ipv4Network;
use crate::serve::dhcp::DryRun;
use crate::serve::overview::ServerOverview;
use crate::snapshot::walks::LocalWalk;

/// How long a loopback address stands for a machine, unless the walk ends before.
const WALK_MAX: Duration = Duration::from_secs(60);
/// Addresses that are tried before an error; there are eight million.
const SOURCES_TRIED_MAX: u32 = 16;

/// Begins a walk: shows the offer that a machine would get, without consequences.
///
/// After an offer the server answers a loopback address as this machine for a minute. Its requests
/// are no boot: they make no event and no counter of a machine.
#[utoipa::path(
    post,
    path = "/v1/walks",
    tag = "walks",
    request_body(content = WalkRequest, description = "The machine to walk."),
    responses(
        (status = 200, description = "The offer.", body = WalkOffer),
        BodyFault,
        ServerFault,
    ),
)]
pub async fn begin_walk(
    State(api): State<Arc<ApiState>>,
    Json(request): Json<WalkRequest>,
) -> Result<Json<WalkOffer>, ApiError> {
    in_background(move || WantedWalk::parse(&request)?.begin(&*api.overview()?)).await
}

/// Ends a walk, and shows the sentences of the server about it.
///
/// The loopback address stands for no machine afterwards.
#[utoipa::path(
    delete,
    path = "/v1/walks/{source}",
    tag = "walks",
    params(("source" = String, Path, description = "Loopback address of the walk.",
        example = "127.128.0.1")),
    responses(
        (status = 200, description = "The walk has ended.", body = EndedWalk),
        (status = 404, description = "There is no such walk, or its minute has passed.",
            body = ApiProblem, content_type = "application/problem+json"),
        ServerFault,
    ),
)]
pub async fn end_walk(
    State(api): State<Arc<ApiState>>,
    PathText(source): PathText,
) -> Result<Json<EndedWalk>, ApiError> {
    in_background(move || {
        let overview = api.overview()?;
        let events = source.parse().ok().and_then(|source| overview.end_walk(source));
        let events = events
            .ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, "no such walk", source.as_str()))?;
        Ok(EndedWalk { said: events.into_iter().map(|event| event.text).collect() })
    })
    .await
}

/// The machine to walk.
struct WantedWalk {
    mac: Mac,
    firmware: Firmware,
    network: Option<Ipv4Network>,
}

/// The offer that the machine would get.
#[derive(Default)]
struct FoundOffer {
    /// False: the server answers no DHCP, and the rest comes from `[boot]`.
    asked: bool,
    address: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
    boot_file: Option<String>,
    /// Why there is no boot file, as a clause.
    no_loader: Option<String>,
    reasons: Vec<String>,
    /// Why there is no offer, and the key of the subnet that decides it.
    silence: Option<(String, &'static str)>,
    seen_as: Option<Firmware>,
}

impl WantedWalk {
    fn parse(request: &WalkRequest) -> Result<Self, ApiError> {
        let mac = parse_mac(&request.machine).map_err(report_wrong_walk)?;
        let network = request.subnet.as_deref().map(str::parse::<Ipv4Network>).transpose();
        let network = network.map_err(|error| report_wrong_walk(error.to_string()))?;
        Ok(Self { mac, firmware: request.firmware.to_firmware(), network })
    }

    fn begin(&self, overview: &ServerOverview) -> Result<WalkOffer, ApiError> {
        let generation = overview.generation();
        let subnets = &generation.snapshot.dhcp.subnets;

        let subnet = match self.network {
            Some(network) => subnets.find_network(network),
            None => {
                let own = subnets.iter().find(|subnet| subnet.reserved_for(self.mac).is_some());
                own.or(subnets.first())
            }
        };
        let offer = match (&overview.dhcp_control, subnet) {
            (Some(dhcp), Some(subnet)) => {
                // A subnet without an interface gets requests through relay agents only.
                let relay = subnet.interface.is_none().then(|| pick_inside_address(subnet));
                let packet =
                    walk::build_discover(self.firmware, self.mac, relay).unwrap_or_default();
                let tried = dhcp.try_out(packet, subnet.network);
                read_dry_run(&tried.ok_or_else(ApiError::no_answer_from_core)?)
            }
            _ => self.offer_without_dhcp(overview, subnet),
        };

        let source = draw_source(overview).ok_or_else(|| {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            ApiError::new(status, "too many walks", "ask again in a minute")
        })?;
        // A machine without an offer fetches nothing, so no address needs to stand for it.
        if offer.silence.is_none() {
            let machine = Machine {
                mac: self.mac,
                uuid: Some(walk::make_walk_uuid(self.mac)),
                firmware: Some(self.firmware),
            };
            overview.begin_walk(LocalWalk {
                source,
                stands_for: offer.address.unwrap_or(source),
                machine: offer.asked.then_some(machine),
                until: Instant::now() + WALK_MAX,
            });
        }

        let tftp = overview.tftp.iter().find(|address| address.is_ipv4()).or(overview.tftp.first());
        Ok(offer.into_answer(source, tftp.map_or(69, SocketAddr::port), subnet))
    }

    /// The offer where another server leases the address: the chain begins at the loader of
    /// `[boot]`.
    fn offer_without_dhcp(&self, overview: &ServerOverview, subnet: Option<&Subnet>) -> FoundOffer {
        let generation = overview.generation();
        let snapshot = &generation.snapshot;
        // A socket on all addresses names no address for a URL. The walk runs on this host, so
        // loopback reaches the server.
        let listens = overview.tftp.iter().map(SocketAddr::ip).find_map(|ip| match ip {
            IpAddr::V4(address) if !address.is_unspecified() => Some(address),
            _ => None,
        });
        let server = snapshot.dhcp.advertise.or(listens).unwrap_or(Ipv4Addr::LOCALHOST);
        let origin = UrlOrigin { server, http_port: snapshot.dhcp.http_port };
        let choice = loader_choice::choose_loader(
            self.firmware,
            "no DHCP here",
            true,
            &snapshot.dhcp.boot,
            origin,
        );
        let no_loader = choice.file.is_none().then(|| choice.reason.clone());
        FoundOffer {
            address: subnet.map(pick_inside_address),
            server: Some(server),
            boot_file: choice.file,
            no_loader,
            reasons: vec![choice.reason],
            ..FoundOffer::default()
        }
    }
}

fn report_wrong_walk(detail: String) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "no such machine or subnet", detail)
}

/// An address of the subnet for one of its machines or its relay agent.
fn pick_inside_address(subnet: &Subnet) -> Ipv4Addr {
    if let Some(pool) = subnet.pools.first() {
        return pool.first;
    }
    let first = Ipv4Addr::from(u32::from(subnet.network.address).saturating_add(1));
    subnet.routers.first().copied().unwrap_or(first)
}

fn read_dry_run(tried: &DryRun) -> FoundOffer {
    let decision = &tried.decision;
    // The bytes of the OFFER are read as a client reads them, not the decision behind them.
    let offer = decision.answer.as_ref().and_then(|answer| walk::read_offer_facts(&answer.bytes));
    let no_loader = match decision.event.as_ref().map(|event| &event.kind) {
        Some(DhcpEventKind::NoLoader(why)) => Some(why.clone()),
        _ => None,
    };
    let silence =
        decision.silence.as_ref().map(|silence| (silence.to_string(), find_deciding_key(silence)));
    let (address, server, boot_file) = match offer {
        Some((address, server, boot_file)) => (Some(address), Some(server), boot_file),
        None => (None, None, None),
    };
    let seen_as = tried.last_firmware;
    FoundOffer {
        asked: true,
        address,
        server,
        boot_file,
        no_loader,
        reasons: decision.reasons.iter().map(str::to_owned).collect(),
        silence,
        seen_as,
    }
}

/// The key of a subnet that decides a silence.
fn find_deciding_key(silence: &DhcpSilence) -> &'static str {
    match silence {
        DhcpSilence::NoAddressFree(_) => "pools",
        DhcpSilence::Held(_, HoldReason::OtherServer(_)) => "allow-other-servers",
        DhcpSilence::Held(..) => "interface",
        DhcpSilence::NotPxe(_) | DhcpSilence::NotReserved(_) => "clients",
        DhcpSilence::SubnetOff(_) => "mode",
        _ => "subnet",
    }
}

impl FoundOffer {
    fn into_answer(self, source: Ipv4Addr, tftp_port: u16, subnet: Option<&Subnet>) -> WalkOffer {
        let silence = self.silence.map(|(text, key)| SilenceReason { text, key: key.to_owned() });
        WalkOffer {
            asked: self.asked,
            source,
            address: self.address.unwrap_or(source),
            server: self.server,
            tftp_port,
            boot_file: self.boot_file,
            no_loader: self.no_loader,
            subnet: subnet.map(|subnet| subnet.network.to_string()),
            reasons: self.reasons,
            silence,
            seen_as: self.seen_as.and_then(WalkFirmware::from_firmware),
        }
    }
}

/// A loopback address that no walk and no subnet uses. Random, so that another user of this machine
/// cannot wait there.
fn draw_source(overview: &ServerOverview) -> Option<Ipv4Addr> {
    let generation = overview.generation();
    let walks = overview.published.walks.load();
    // The standard library seeds this state randomly.
    let random = RandomState::new();
    (0..SOURCES_TRIED_MAX).find_map(|tried| {
        let [a, b, c, ..] = random.hash_one(tried).to_be_bytes();
        let source = Ipv4Addr::new(127, a | 0x80, b, c.clamp(1, 254));
        let taken = walks.all.iter().any(|walk| walk.source == source)
            || generation.snapshot.dhcp.subnets.find(source).is_some();
        (!taken).then_some(source)
    })
}
