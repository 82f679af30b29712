//! The table of leases, as JSON: a running server's or a stopped one's, and what is let go of.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;
use std::str::FromStr;

use anyhow::bail;
use http::StatusCode;
use serde_json::{Value, json};

use super::admin_socket::{Answer, Routes};
use super::values::span;
use crate::dhcp::lease::{ClockSeconds, LeaseState, LeaseTable};
use crate::dhcp::listing::{AddressStatus, DeclineLimit, DeclineScope, LeaseFilter, ListedAddress};
use crate::model::machine::Mac;
use crate::model::who::MachineSelector;
use crate::serve::dhcp::{DhcpControl, Listing};
use crate::serve::handle::Handle;
use crate::store::{DATABASE, SqliteStore, recover_odd_leases};

/// Addresses in one answer: a few megabytes. The command asks for the next ones after it.
const LISTED_MAX: usize = 20_000;

/// What is to be let go of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Address(Ipv4Addr),
    Machine(Mac),
    Declined,
}

pub fn what(text: &str) -> Result<What, String> {
    match text.parse()? {
        MachineSelector::Mac(mac) => Ok(What::Machine(mac)),
        MachineSelector::Address(std::net::IpAddr::V4(address)) => Ok(What::Address(address)),
        MachineSelector::Address(std::net::IpAddr::V6(_)) => {
            Err("leases are of IPv4 addresses".to_owned())
        }
    }
}

impl FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "declined" { Ok(Self::Declined) } else { what(text) }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Machine(mac) => mac.fmt(f),
            Self::Declined => f.write_str("declined"),
        }
    }
}

/// What a stopped server left, as it would have it after its start.
pub fn stored(state: &Path, filter: LeaseFilter) -> anyhow::Result<Listing> {
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
        LeaseState::Declined => declined.push(lease),
        _ if filter.network.is_none_or(|network| network.contains(lease.address)) => {
            rows.push(lease)
        }
        _ => {}
    })?;
    declined.extend(recover_odd_leases(&odd, now));
    let listed = rows.iter().chain(&declined).map(|lease| ListedAddress::of(lease, now));
    // A start forgets what is kept back no longer.
    let counts =
        |listed: &ListedAddress| !listed.standing.is_kept_back() || listed.until_s > Some(now);
    let listed = listed.filter(|listed| filter.takes(listed) && counts(listed)).collect();
    // What was declined before the stop counts after the start.
    let mut leases = LeaseTable::new(&[]);
    leases.load(declined, now);
    Ok(Listing { listed, limited: leases.limited(now), now })
}

/// The resource of a running server.
pub const PATH: &str = "/v1/leases";

/// Adds the resources.
pub fn routes(routes: Routes, handle: &Handle) -> Routes {
    let (all, some, freeing) = (handle.clone(), handle.clone(), handle.clone());
    routes
        .get(PATH, move |_| with(&all, |dhcp| list(dhcp, "")))
        .get("/v1/leases/", move |rest| with(&some, |dhcp| list(dhcp, rest)))
        .delete("/v1/leases/", move |rest| with(&freeing, |dhcp| free(dhcp, rest)))
}

fn with(handle: &Handle, answer: impl FnOnce(&DhcpControl) -> Option<Answer>) -> Answer {
    let Some(overview) = handle.overview() else {
        return Answer::problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "starting or stopping",
            "ask again in a moment",
        );
    };
    let Some(dhcp) = &overview.dhcp_control else {
        return Answer::problem(
            StatusCode::CONFLICT,
            "no DHCP is answered",
            "no subnet has `mode = \"server\"`",
        );
    };
    // What clients have met before now is in the table.
    overview.settle();
    answer(dhcp).unwrap_or_else(|| {
        Answer::problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "no answer from the DHCP core",
            "ask again in a moment",
        )
    })
}

fn list(dhcp: &DhcpControl, rest: &str) -> Option<Answer> {
    let Some(filter) = of_path(rest) else {
        let detail = "GET /v1/leases/state=STATE/machine=MAC/after=ADDRESS/subnet=NETWORK, each \
                      where it is wanted";
        return Some(Answer::problem(StatusCode::BAD_REQUEST, "no such filter", detail));
    };
    Some(Answer::ok(in_json(dhcp.list(filter)?, LISTED_MAX)))
}

fn free(dhcp: &DhcpControl, rest: &str) -> Option<Answer> {
    let (name, force) = rest.strip_suffix("/force").map_or((rest, false), |name| (name, true));
    let what = match name.parse::<What>() {
        Ok(what) => what,
        Err(error) => {
            return Some(Answer::problem(StatusCode::BAD_REQUEST, "no such lease", &error));
        }
    };
    let found = dhcp.list(wanted(what))?;
    let answer = let_go(what, force, &found, |addresses| {
        let freed =
            dhcp.free(addresses, force).ok_or_else(|| "`ringboot status` says why".to_owned())?;
        match what {
            What::Address(_) => {}
            What::Machine(mac) => dhcp.pardon(Some(mac)),
            What::Declined => dhcp.pardon(None),
        }
        Ok(freed)
    });
    if let Some(said) = answer.body["said"].as_str() {
        tracing::info!("by command: {said}");
    }
    Some(answer)
}

/// `/state=declined/machine=52:54:00:12:34:10/subnet=10.7.0.0/24`
pub fn in_path(filter: LeaseFilter) -> String {
    let standing = filter.standing.map(|standing| format!("/state={standing}")).unwrap_or_default();
    let mac = filter.mac.map(|mac| format!("/machine={mac}")).unwrap_or_default();
    let network = filter.network.map(|network| format!("/subnet={network}")).unwrap_or_default();
    let after = filter.after.map(|after| format!("/after={after}")).unwrap_or_default();
    format!("{standing}{mac}{after}{network}")
}

fn of_path(text: &str) -> Option<LeaseFilter> {
    let mut filter = LeaseFilter::default();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(network) = rest.strip_prefix("subnet=") {
            filter.network = Some(network.parse().ok()?);
            break;
        }
        let (pair, after) = rest.split_once('/').unwrap_or((rest, ""));
        match pair.split_once('=')? {
            ("state", word) => filter.standing = Some(word.parse().ok()?),
            ("machine", name) => filter.mac = Some(mac(name).ok()?),
            ("after", address) => filter.after = Some(address.parse().ok()?),
            _ => return None,
        }
        rest = after;
    }
    Some(filter)
}

/// What has to be looked at first.
pub fn wanted(what: What) -> LeaseFilter {
    match what {
        What::Address(address) => LeaseFilter { address: Some(address), ..LeaseFilter::default() },
        What::Machine(mac) => LeaseFilter { mac: Some(mac), ..LeaseFilter::default() },
        What::Declined => LeaseFilter::default(),
    }
}

/// Decides, has it carried out, and says what was done; the same for a running server and for its
/// store.
pub fn let_go(
    what: What,
    force: bool,
    found: &Listing,
    carry_out: impl FnOnce(&[Ipv4Addr]) -> Result<usize, String>,
) -> Answer {
    let is_meant = |listed: &&ListedAddress| match what {
        What::Address(_) => true,
        // With --force all that the machine has or had.
        What::Machine(_) => force || listed.standing.is_kept_back(),
        What::Declined => listed.standing.is_kept_back(),
    };
    let meant: Vec<&ListedAddress> = found.listed.iter().filter(is_meant).collect();
    let is_limited = found.limited.iter().any(|limited| match (what, limited.whom) {
        (What::Machine(mac), DeclineScope::Machine(machine)) => mac == machine,
        (What::Declined, _) => true,
        _ => false,
    });
    if let Some(live) = meant.iter().find(|listed| listed.standing.is_live() && !force) {
        let detail = format!(
            "{} {} by {} {}, and the machine goes on using it: another one would get the same \
             address. Where it is known to be gone, --force frees it",
            live.address,
            if live.standing == AddressStatus::Bound {
                "is leased"
            } else {
                "is held by an offer that was taken"
            },
            live.mac,
            time(live.until_s, found.now),
        );
        return Answer::problem(StatusCode::CONFLICT, "a machine has this address", &detail);
    }
    if meant.is_empty() && !is_limited {
        let detail = match what {
            What::Address(address) => {
                format!("{address} is neither leased nor offered, remembered or kept back")
            }
            What::Machine(mac) => {
                format!("no address is kept back for what {mac} declined, and it is not silenced")
            }
            What::Declined => {
                "no address is kept back, and nobody is limited for what was declined".to_owned()
            }
        };
        return Answer::problem(StatusCode::NOT_FOUND, "nothing to free", &detail);
    }
    let addresses: Vec<Ipv4Addr> = meant.iter().map(|listed| listed.address).collect();
    match carry_out(&addresses) {
        Ok(count) => Answer::ok(json!({ "freed": count, "said": said(what, &meant, count) })),
        Err(why) => {
            Answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "the store could not keep it", &why)
        }
    }
}

fn said(what: What, meant: &[&ListedAddress], count: usize) -> String {
    let some = match count {
        1 => "1 address is free".to_owned(),
        _ => format!("{count} addresses are free"),
    };
    match (what, meant) {
        (What::Address(address), [listed]) if count == 1 => {
            format!("{address} is free: it was {} ({})", listed.standing, listed.mac)
        }
        (What::Address(address), _) => {
            format!("{address} is kept: its machine has asked for it again at this moment")
        }
        (What::Machine(mac), _) => format!("{some}, and what {mac} declined counts no more"),
        (What::Declined, _) => format!("{some}, and what was declined counts against nobody"),
    }
}

/// The first of them in the order of addresses; `left_out` are the others, which are counted alone.
pub fn in_json(listing: Listing, most: usize) -> Value {
    let Listing { mut listed, limited, now } = listing;
    let count = |standing| listed.iter().filter(|one| one.standing == standing).count();
    let counts: serde_json::Map<String, Value> = AddressStatus::ALL
        .into_iter()
        .map(|standing| (standing.to_string(), json!(count(standing))))
        .collect();
    listed.sort_unstable_by_key(|one| one.address);
    let left_out = listed.len().saturating_sub(most);
    listed.truncate(most);
    json!({
        "leases": listed.iter().map(|one| one_in_json(one, now)).collect::<Vec<_>>(),
        "counts": counts,
        "left_out": left_out,
        "limited": limited.iter().map(|one| limited_in_json(one, now)).collect::<Vec<_>>(),
    })
}

/// `left_s`: less than 0 where it is over; null where it has no end.
fn one_in_json(one: &ListedAddress, now: ClockSeconds) -> Value {
    let left_s = one
        .until_s
        .map(|until_s| i64::try_from(until_s).unwrap_or(i64::MAX).saturating_sub_unsigned(now));
    json!({
        "address": one.address,
        "machine": one.mac.to_string(),
        "state": one.standing.to_string(),
        "left_s": left_s,
        "firmware": one.firmware.map(|firmware| firmware.to_string()),
        "host_name": one.host_name,
    })
}

fn limited_in_json(one: &DeclineLimit, now: ClockSeconds) -> Value {
    let machine =
        if let DeclineScope::Machine(mac) = one.whom { Some(mac.to_string()) } else { None };
    let who = match one.whom {
        DeclineScope::Machine(mac) => mac.to_string(),
        DeclineScope::Segment => "a segment of ours".to_owned(),
        DeclineScope::Relay => "a relay agent".to_owned(),
        DeclineScope::Port => "a circuit of a relay agent".to_owned(),
    };
    let what = match one.whom {
        DeclineScope::Machine(_) => "declined so much that it gets no address from the pools",
        _ => "declined so much that no further address is kept back for it",
    };
    let said = format!("{who} {what} {}", time(Some(one.until_s), now));
    json!({ "machine": machine, "left_s": one.until_s.saturating_sub(now), "said": said })
}

/// "for 9 min", "since 3 h"
pub fn time(until_s: Option<ClockSeconds>, now: ClockSeconds) -> String {
    match until_s {
        None => "without end".to_owned(),
        Some(until_s) if until_s > now => format!("for {}", span(until_s - now)),
        Some(until_s) => format!("since {}", span(now - until_s)),
    }
}

pub fn mac(text: &str) -> Result<Mac, String> {
    match text.parse()? {
        MachineSelector::Mac(mac) => Ok(mac),
        MachineSelector::Address(_) => {
            Err("a hardware address is six octets in hexadecimal, such as 52:54:00:12:34:10"
                .to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_filter_travels_in_a_path() {
        let filter = LeaseFilter {
            address: None,
            network: Some("10.7.0.0/24".parse().unwrap()),
            standing: Some(AddressStatus::Declined),
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            after: Some(Ipv4Addr::new(10, 7, 0, 9)),
        };
        let path = in_path(filter);
        assert_eq!(
            path,
            "/state=declined/machine=02:00:00:00:00:01/after=10.7.0.9/subnet=10.7.0.0/24"
        );
        assert_eq!(of_path(&path[1..]), Some(filter));
        assert_eq!(of_path(""), Some(LeaseFilter::default()));
        for wrong in [
            "declined",
            "state=free",
            "machine=x",
            "machine=10.0.0.1",
            "subnet=10.0.0.0",
            "address=10.0.0.1",
        ] {
            assert_eq!(of_path(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_let_go_of_has_a_name() {
        for (text, what) in [
            ("192.168.4.30", What::Address(Ipv4Addr::new(192, 168, 4, 30))),
            ("02:00:00:00:00:01", What::Machine(Mac([2, 0, 0, 0, 0, 1]))),
            ("declined", What::Declined),
        ] {
            assert_eq!((text.parse(), what.to_string()), (Ok(what), text.to_owned()));
        }
        for wrong in ["", "node1", "fe80::1", "192.168.4.0/24"] {
            assert!(wrong.parse::<What>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_told_in_words() {
        assert_eq!(time(None, 5), "without end");
        assert_eq!(time(Some(105), 5), "for 100 s");
        assert_eq!(time(Some(5), 605), "since 10 min");
        assert_eq!(time(Some(90_000), 0), "for 25 h");
        assert_eq!(time(Some(0), 900_000), "since 10 days");
    }
}
