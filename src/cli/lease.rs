//! `ringboot lease`: lists leases, declined addresses and limited machines, and frees addresses.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::client::{NoServer, Order, Socket, SocketPlace, Source};
use super::output;
use crate::api::leases::{
    FreedSubject, format_end, free_found, freed_filter, lease_list, parse_subject, stored_leases,
};
use crate::api::types::{FreedLeases, LeaseEntry, LeaseList, LeaseState};
use crate::api::values::parse_mac;
use crate::dhcp::lease::LeaseChange;
use crate::dhcp::listing::{AddressStatus, LeaseFilter};
use crate::model::machine::Mac;
use crate::model::network::Ipv4Network;
use crate::store::{LeaseStore, SqliteStore};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List every leased, offered, remembered or withheld address, and the machines limited for
    /// declines
    List(LeaseListArguments),
    /// Free a withheld or remembered address, all that one machine declined, or all that were
    /// declined
    Free(Free),
}

#[derive(Debug, clap::Args)]
struct LeaseListArguments {
    /// Only addresses of this network
    #[arg(long, value_name = "NETWORK")]
    subnet: Option<Ipv4Network>,
    /// Only addresses in this state: bound, offered, ended, released, declined (by a machine) or
    /// in-use (another host without a lease answers)
    #[arg(long, value_name = "STATE")]
    only: Option<AddressStatus>,
    /// Only addresses of this machine, in any spelling of its hardware address
    #[arg(long, value_name = "MAC", value_parser = parse_mac)]
    machine: Option<Mac>,
    #[command(flatten)]
    place: SocketPlace,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Free {
    /// An address; or a hardware address, for every address that this machine declined
    #[arg(
        value_name = "ADDRESS|MAC",
        required_unless_present = "declined",
        conflicts_with = "declined",
        value_parser = parse_subject
    )]
    what: Option<FreedSubject>,
    /// Every address that was declined or found in use; no machine stays limited for its declines
    #[arg(long)]
    declined: bool,
    /// Free also an address that a machine has now. The machine uses it until it renews its lease,
    /// and another one may get it meanwhile
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    place: SocketPlace,
}

/// Exit 0: printed or done; 1: there is nothing to free, a machine has the address, or neither
/// server nor store can be read; 2: usage or configuration.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let place = match &arguments.command {
        Command::List(list) => &list.place,
        Command::Free(free) => &free.place,
    };
    place.carry_out(|source| {
        let text = match &arguments.command {
            Command::List(list) => list_leases(source, list),
            Command::Free(free) => free_addresses(source, free),
        }?;
        Ok(output::say(&text, ExitCode::SUCCESS))
    })
}

fn list_leases(source: Source, list: &LeaseListArguments) -> anyhow::Result<String> {
    let filter = LeaseFilter {
        network: list.subnet,
        standing: list.only,
        mac: list.machine,
        ..LeaseFilter::default()
    };
    let leases = match source {
        Source::Server(socket) => fetch_all_leases(socket, filter)?,
        Source::Store(state) => {
            state.visit(|path| Ok(lease_list(stored_leases(path, filter)?, usize::MAX)))?
        }
    };
    Ok(if list.json { output::in_json(&leases) } else { format_leases(&leases) })
}

/// Fetches the whole list, one page after the other. The first page has the counts.
fn fetch_all_leases(socket: Socket, filter: LeaseFilter) -> anyhow::Result<LeaseList> {
    let path = socket.path().to_owned();
    let mut whole: LeaseList = socket.ask(&build_order(filter))?;
    while whole.left_out > 0 {
        let after = whole.leases.last().map(|lease| lease.address);
        let socket = Socket::reach(&path).ok_or_else(|| NoServer(path.clone()))?;
        let piece: LeaseList = socket.ask(&build_order(LeaseFilter { after, ..filter }))?;
        if piece.leases.is_empty() {
            // Another server answers by now, or the other leases ended meanwhile.
            break;
        }
        whole.leases.extend(piece.leases);
        whole.left_out = piece.left_out;
    }
    Ok(whole)
}

fn build_order(filter: LeaseFilter) -> Order {
    Order::get("/v1/leases")
        .query("state", filter.standing.map(LeaseState::from))
        .query("machine", filter.mac)
        .query("subnet", filter.network)
        .query("after", filter.after)
}

fn free_addresses(source: Source, free: &Free) -> anyhow::Result<String> {
    let what = free.what.unwrap_or(FreedSubject::Declined);
    let freed: FreedLeases = match source {
        Source::Server(socket) => {
            let force = free.force.then_some(true);
            socket.ask(&Order::delete("/v1/leases").below(what).query("force", force))?
        }
        // The lock keeps a server from starting with the rows that this changes.
        Source::Store(state) => state.change(|state| {
            let mut store = SqliteStore::open(&state.database())?;
            let found = stored_leases(state.path(), freed_filter(what))?;
            Ok(free_found(what, free.force, &found, |addresses| {
                let changes: Vec<LeaseChange> = addresses
                    .iter()
                    .map(|address| LeaseChange::Free { address: *address })
                    .collect();
                store.commit(&changes).map(|()| changes.len()).map_err(|error| error.to_string())
            })?)
        })?,
    };
    Ok(format!("{}\n", freed.said))
}

fn format_leases(list: &LeaseList) -> String {
    let mut text = String::new();
    for lease in &list.leases {
        write_lease(&mut text, lease);
    }
    for limited in &list.limited {
        let _ = writeln!(text, "{}", limited.said);
    }
    let states = LeaseState::ALL.iter().copied();
    let counted: Vec<String> = states
        .filter(|state| list.counts.read(*state) > 0)
        .map(|state| format!("{} {state}", list.counts.read(state)))
        .collect();
    let none = "no address".to_owned();
    let _ = writeln!(text, "{}", if counted.is_empty() { none } else { counted.join(", ") });
    text
}

fn write_lease(text: &mut String, lease: &LeaseEntry) {
    let LeaseEntry { address, machine, state, .. } = lease;
    // Seconds left become a time after 0.
    let time = match lease.left_s {
        None => format_end(None, 0),
        Some(left_s @ 1..) => format_end(Some(left_s.unsigned_abs()), 0),
        Some(left_s) => format_end(Some(0), left_s.unsigned_abs()),
    };
    let _ = write!(text, "{address:<15}  {machine}  {state:<8}  {time:<12}");
    for known in [&lease.firmware, &lease.host_name].into_iter().flatten() {
        let _ = write!(text, "  {known}");
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::sample::{assert_shown, sample};

    #[test]
    fn every_field_is_printed_or_left_to_json_for_a_reason() {
        let list: LeaseList = sample();
        assert_shown(
            &[list],
            format_leases,
            &[
                ("left_out", "the command asks until nothing is left out"),
                ("limited.left_s", "`said` has it in words"),
                ("limited.machine", "`said` has it in words"),
            ],
        );
    }
}
