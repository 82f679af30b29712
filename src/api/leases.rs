//! Leases of a running or a stopped server, and how addresses are freed.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::bail;
use axum::extract::State as Shared;
use http::StatusCode;

use super::error::{ApiError, ServerFault};
use super::extract::{Json, PathText, QueryOf};
use super::state::{ApiState, in_background};
use super::types::{
    ApiProblem, FreedLeases, LeaseCounts, LeaseEntry, LeaseList, LeaseQuery, LimitedClient,
    ReleaseQuery,
};
use super::values::{format_span, parse_mac};
use crate::dhcp::lease::{ClockSeconds, LeaseRowState, LeaseTable};
use crate::dhcp::listing::{AddressStatus, DeclineLimit, DeclineScope, LeaseFilter, ListedAddress};
use crate::model::machine::Mac;
use crate::model::network::Ipv4Network;
use crate::model::who::MachineSelector;
use crate::serve::dhcp::{DhcpControl, LeaseListing};
use crate::store::{DATABASE, SqliteStore, recover_odd_leases};

/// Lists leases, declined addresses, and the machines limited for them.
///
/// Leases come in the order of addresses, 20,000 in one answer. `counts` counts all that match the
/// query, and `left_out` those after this answer.
#[utoipa::path(
    get,
    path = "/v1/leases",
    tag = "leases",
    params(LeaseQuery),
    responses(
        (status = 200, description = "The leases that match.", body = LeaseList),
        (status = 400, description = "The query has the wrong form.",
            body = ApiProblem, content_type = "application/problem+json"),
        (status = 409, description = "The server answers no DHCP.",
            body = ApiProblem, content_type = "application/problem+json"),
        ServerFault,
    ),
)]
pub async fn list_leases(
    Shared(api): Shared<Arc<ApiState>>,
    QueryOf(query): QueryOf<LeaseQuery>,
) -> Result<Json<LeaseList>, ApiError> {
    in_background(move || {
        let filter = LeaseFilter::try_from(&query)?;
        ask_core(&api, |dhcp| Some(Ok(lease_list(dhcp.list(filter)?, LISTED_MAX))))
    })
    .await
}

/// Frees an address, all that a machine declined, or all that were declined.
///
/// An address that a machine has now needs `force`: the machine uses it until it renews its lease,
/// and another one may get it meanwhile.
#[utoipa::path(
    delete,
    path = "/v1/leases/{what}",
    tag = "leases",
    params(
        ("what" = String, Path, description = "An address; a hardware address, for all that this \
            machine declined, with `force` also what it has; or `declined`, for all that were \
            declined or found in use.", example = "declined"),
        ReleaseQuery,
    ),
    responses(
        (status = 200, description = "The number of freed addresses.", body = FreedLeases),
        (status = 400, description = "The path names no lease, or the query is wrong.",
            body = ApiProblem, content_type = "application/problem+json"),
        (status = 404, description = "There is nothing to free.",
            body = ApiProblem, content_type = "application/problem+json"),
        (status = 409, description = "A machine has the address, or the server answers no DHCP.",
            body = ApiProblem, content_type = "application/problem+json"),
        ServerFault,
    ),
)]
pub async fn free_leases(
    Shared(api): Shared<Arc<ApiState>>,
    PathText(what): PathText,
    QueryOf(ReleaseQuery { force }): QueryOf<ReleaseQuery>,
) -> Result<Json<FreedLeases>, ApiError> {
    in_background(move || {
        let what = what
            .parse::<FreedSubject>()
            .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, "no such lease", error))?;
        let freed = ask_core(&api, |dhcp| free_in_core(dhcp, what, force))?;
        tracing::info!("by command: {}", freed.said);
        Ok(freed)
    })
    .await
}

/// Addresses in one answer: a few megabytes. The command asks again for the next ones.
const LISTED_MAX: usize = 20_000;

/// The addresses to free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreedSubject {
    /// This address.
    Address(Ipv4Addr),
    /// All that this machine declined.
    Machine(Mac),
    /// All that were declined or found in use.
    Declined,
}

/// An address or a hardware address in any spelling.
pub fn parse_subject(text: &str) -> Result<FreedSubject, String> {
    match text.parse()? {
        MachineSelector::Mac(mac) => Ok(FreedSubject::Machine(mac)),
        MachineSelector::Address(std::net::IpAddr::V4(address)) => {
            Ok(FreedSubject::Address(address))
        }
        MachineSelector::Address(std::net::IpAddr::V6(_)) => {
            Err("only IPv4 addresses are leased".to_owned())
        }
    }
}

impl FromStr for FreedSubject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "declined" { Ok(Self::Declined) } else { parse_subject(text) }
    }
}

impl fmt::Display for FreedSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Machine(mac) => mac.fmt(f),
            Self::Declined => f.write_str("declined"),
        }
    }
}

/// The leases in the store of a stopped server, as it would have them after its start.
pub fn stored_leases(state: &Path, filter: LeaseFilter) -> anyhow::Result<LeaseListing> {
    let database = state.join(DATABASE);
    if !database.exists() {
        bail!(
            "there is no {}: a server that answers DHCP writes it into its state directory; \
             --state DIR names another",
            database.display()
        );
    }
    let (mut rows, mut declined) = (Vec::new(), Vec::new());
    let (odd, now) = SqliteStore::each_lease_in(&database, |lease| match lease.state {
        LeaseRowState::Declined => declined.push(lease),
        _ if filter.network.is_none_or(|network| network.contains(lease.address)) => {
            rows.push(lease)
        }
        _ => {}
    })?;
    declined.extend(recover_odd_leases(&odd, now));
    let listed = rows.iter().chain(&declined).map(|lease| ListedAddress::from_lease(lease, now));
    // A start drops declines that have ended.
    let counted =
        listed.filter(|listed| !listed.standing.is_kept_back() || listed.until_s > Some(now));
    let listed = counted.filter(|listed| filter.matches(listed)).collect();
    // Declines from before the stop count after the start.
    let mut leases = LeaseTable::new(&[]);
    leases.load(declined, now);
    Ok(LeaseListing { listed, limited: leases.decline_limits(now), now })
}

/// Asks the DHCP core after the events before this request are in its table.
fn ask_core<T>(
    api: &ApiState,
    ask: impl FnOnce(&DhcpControl) -> Option<Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let overview = api.overview()?;
    let dhcp = overview.dhcp_control.as_ref().ok_or_else(ApiError::no_dhcp)?;
    overview.settle();
    ask(dhcp).unwrap_or_else(|| Err(ApiError::no_answer_from_core()))
}

fn free_in_core(
    dhcp: &DhcpControl,
    what: FreedSubject,
    force: bool,
) -> Option<Result<FreedLeases, ApiError>> {
    let found = dhcp.list(freed_filter(what))?;
    Some(free_found(what, force, &found, |addresses| {
        let freed =
            dhcp.free(addresses, force).ok_or_else(|| "`ringboot status` says why".to_owned())?;
        match what {
            FreedSubject::Address(_) => {}
            FreedSubject::Machine(mac) => dhcp.pardon(Some(mac)),
            FreedSubject::Declined => dhcp.pardon(None),
        }
        Ok(freed)
    }))
}

impl TryFrom<&LeaseQuery> for LeaseFilter {
    type Error = ApiError;

    fn try_from(query: &LeaseQuery) -> Result<Self, ApiError> {
        let LeaseQuery { state, machine, subnet, after } = query;
        let mac = machine.as_deref().map(parse_mac).transpose();
        let mac = mac.map_err(report_wrong_filter)?;
        let network = subnet.as_deref().map(str::parse::<Ipv4Network>).transpose();
        let network = network.map_err(|error| report_wrong_filter(error.to_string()))?;
        let standing = state.map(AddressStatus::from);
        Ok(Self { network, standing, mac, after: *after, ..Self::default() })
    }
}

fn report_wrong_filter(detail: String) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "no such filter", detail)
}

/// The addresses that decide whether something can be freed.
pub fn freed_filter(what: FreedSubject) -> LeaseFilter {
    match what {
        FreedSubject::Address(address) => {
            LeaseFilter { address: Some(address), ..LeaseFilter::default() }
        }
        FreedSubject::Machine(mac) => LeaseFilter { mac: Some(mac), ..LeaseFilter::default() },
        FreedSubject::Declined => LeaseFilter::default(),
    }
}

/// Decides what to free, frees it by `carry_out`, and reports it; the same for a running server and
/// for a store.
pub fn free_found(
    what: FreedSubject,
    force: bool,
    found: &LeaseListing,
    carry_out: impl FnOnce(&[Ipv4Addr]) -> Result<usize, String>,
) -> Result<FreedLeases, ApiError> {
    let meant: Vec<&ListedAddress> =
        found.listed.iter().filter(|listed| is_meant(what, force, listed)).collect();
    let is_limited = found.limited.iter().any(|limited| match (what, limited.whom) {
        (FreedSubject::Machine(mac), DeclineScope::Machine(machine)) => mac == machine,
        (FreedSubject::Declined, _) => true,
        _ => false,
    });
    if let Some(live) = meant.iter().find(|listed| listed.standing.is_live() && !force) {
        let detail = format!(
            "{} {} by {} {}, and the machine goes on using it: another one would get the same \
             address. If the machine is gone, --force frees it",
            live.address,
            if live.standing == AddressStatus::Bound {
                "is leased"
            } else {
                "is held by an accepted offer"
            },
            live.mac,
            format_end(live.until_s, found.now),
        );
        return Err(ApiError::new(StatusCode::CONFLICT, "a machine has this address", detail));
    }
    if meant.is_empty() && !is_limited {
        let detail = match what {
            FreedSubject::Address(address) => {
                format!("{address} is neither leased nor offered, remembered or withheld")
            }
            FreedSubject::Machine(mac) => {
                format!("no address is withheld for a decline of {mac}, and it is not limited")
            }
            FreedSubject::Declined => {
                "no address is withheld, and no machine is limited for declines".to_owned()
            }
        };
        return Err(ApiError::new(StatusCode::NOT_FOUND, "nothing to free", detail));
    }
    let addresses: Vec<Ipv4Addr> = meant.iter().map(|listed| listed.address).collect();
    let count = carry_out(&addresses).map_err(|why| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the store could not be written", why)
    })?;
    Ok(FreedLeases { freed: count, said: describe_freed(what, &meant, count) })
}

fn is_meant(what: FreedSubject, force: bool, listed: &ListedAddress) -> bool {
    match what {
        FreedSubject::Address(_) => true,
        // With --force all that the machine has or had.
        FreedSubject::Machine(_) => force || listed.standing.is_kept_back(),
        FreedSubject::Declined => listed.standing.is_kept_back(),
    }
}

fn describe_freed(what: FreedSubject, meant: &[&ListedAddress], count: usize) -> String {
    let some = match count {
        1 => "1 address is free".to_owned(),
        _ => format!("{count} addresses are free"),
    };
    match (what, meant) {
        (FreedSubject::Address(address), [listed]) if count == 1 => {
            format!("{address} is free: it was {} ({})", listed.standing, listed.mac)
        }
        (FreedSubject::Address(address), _) => {
            format!("{address} is not freed: its machine requested it again at this moment")
        }
        (FreedSubject::Machine(mac), _) => {
            format!("{some}, and the declines of {mac} no longer count")
        }
        (FreedSubject::Declined, _) => {
            format!("{some}, and no decline counts any longer")
        }
    }
}

/// The first `most` addresses in their order; `counts` has all, `left_out` the others.
pub fn lease_list(listing: LeaseListing, most: usize) -> LeaseList {
    let LeaseListing { mut listed, limited, now } = listing;
    let mut counts = LeaseCounts::default();
    listed.iter().for_each(|one| counts.add(one.standing.into()));
    listed.sort_unstable_by_key(|one| one.address);
    let left_out = listed.len().saturating_sub(most);
    listed.truncate(most);
    LeaseList {
        leases: listed.into_iter().map(|one| lease_entry(one, now)).collect(),
        counts,
        left_out,
        limited: limited.iter().map(|one| limited_client(one, now)).collect(),
    }
}

fn lease_entry(one: ListedAddress, now: ClockSeconds) -> LeaseEntry {
    let left_s = one
        .until_s
        .map(|until_s| i64::try_from(until_s).unwrap_or(i64::MAX).saturating_sub_unsigned(now));
    LeaseEntry {
        address: one.address,
        machine: one.mac.to_string(),
        state: one.standing.into(),
        left_s,
        firmware: one.firmware.map(|firmware| firmware.to_string()),
        host_name: one.host_name,
    }
}

fn limited_client(one: &DeclineLimit, now: ClockSeconds) -> LimitedClient {
    let machine =
        if let DeclineScope::Machine(mac) = one.whom { Some(mac.to_string()) } else { None };
    let who = match one.whom {
        DeclineScope::Machine(mac) => mac.to_string(),
        DeclineScope::Segment => "a segment of this server".to_owned(),
        DeclineScope::Relay => "a relay agent".to_owned(),
        DeclineScope::Port => "a circuit of a relay agent".to_owned(),
    };
    let what = match one.whom {
        DeclineScope::Machine(_) => "declined so many addresses that it gets none from the pools",
        _ => "declined so many addresses that no further one is withheld for it",
    };
    let said = format!("{who} {what} {}", format_end(Some(one.until_s), now));
    LimitedClient { machine, left_s: one.until_s.saturating_sub(now), said }
}

/// "for 9 min", "since 3 h"
pub fn format_end(until_s: Option<ClockSeconds>, now: ClockSeconds) -> String {
    match until_s {
        None => "without end".to_owned(),
        Some(until_s) if until_s > now => format!("for {}", format_span(until_s - now)),
        Some(until_s) => format!("since {}", format_span(now - until_s)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::api::types::LeaseState;

    #[test]
    fn a_query_is_a_filter() {
        let query = LeaseQuery {
            state: Some(LeaseState::Declined),
            machine: Some("0200.0000.0001".to_owned()),
            subnet: Some("10.7.0.0/24".to_owned()),
            after: Some(Ipv4Addr::new(10, 7, 0, 9)),
        };
        let filter = LeaseFilter {
            address: None,
            network: Some("10.7.0.0/24".parse().unwrap()),
            standing: Some(AddressStatus::Declined),
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            after: Some(Ipv4Addr::new(10, 7, 0, 9)),
        };
        assert_eq!(LeaseFilter::try_from(&query), Ok(filter));
        assert_eq!(LeaseFilter::try_from(&LeaseQuery::default()), Ok(LeaseFilter::default()));
        for wrong in [
            LeaseQuery { machine: Some("10.0.0.1".to_owned()), ..LeaseQuery::default() },
            LeaseQuery { subnet: Some("10.0.0.0".to_owned()), ..LeaseQuery::default() },
        ] {
            let error = LeaseFilter::try_from(&wrong).unwrap_err();
            assert_eq!(error.status, StatusCode::BAD_REQUEST, "{error}");
        }
    }

    #[test]
    fn what_is_let_go_of_has_a_name() {
        for (text, what) in [
            ("192.168.4.30", FreedSubject::Address(Ipv4Addr::new(192, 168, 4, 30))),
            ("02:00:00:00:00:01", FreedSubject::Machine(Mac([2, 0, 0, 0, 0, 1]))),
            ("declined", FreedSubject::Declined),
        ] {
            assert_eq!((text.parse(), what.to_string()), (Ok(what), text.to_owned()));
        }
        for wrong in ["", "node1", "fe80::1", "192.168.4.0/24"] {
            assert!(wrong.parse::<FreedSubject>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_told_in_words() {
        assert_eq!(format_end(None, 5), "without end");
        assert_eq!(format_end(Some(105), 5), "for 100 s");
        assert_eq!(format_end(Some(5), 605), "since 10 min");
        assert_eq!(format_end(Some(90_000), 0), "for 25 h");
        assert_eq!(format_end(Some(0), 900_000), "since 10 days");
    }
}
