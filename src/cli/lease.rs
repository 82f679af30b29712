//! `ringboot lease`: who has which address, what was declined and who is silenced for it; and the
//! order to let go of them.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::ExitCode;

use serde_json::Value;

use super::client::{self, NoServer, Place, Socket, Source};
use super::output;
use crate::api::leases::{PATH, What, in_json, in_path, let_go, mac, stored, time, wanted, what};
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
    /// Every address that is leased, offered, remembered or kept back, and who is limited for what
    /// was declined
    List(List),
    /// Let go of an address that is kept back or remembered, of all that a machine declined, or of
    /// all that was declined
    Free(Free),
}

#[derive(Debug, clap::Args)]
struct List {
    /// Addresses of this network alone
    #[arg(long, value_name = "NETWORK")]
    subnet: Option<Ipv4Network>,
    /// Addresses that are bound, offered, ended, released, declined (by a machine) or in-use (a
    /// host answers for it that has no lease)
    #[arg(long, value_name = "STATE")]
    only: Option<AddressStatus>,
    /// Addresses of this machine alone, in any spelling of its hardware address
    #[arg(long, value_name = "MAC", value_parser = mac)]
    machine: Option<Mac>,
    #[command(flatten)]
    place: Place,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Free {
    /// An address; or a hardware address: all that this machine declined, which then counts no more
    #[arg(
        value_name = "ADDRESS|MAC",
        required_unless_present = "declined",
        conflicts_with = "declined",
        value_parser = what
    )]
    what: Option<What>,
    /// All addresses that were declined or found in use; nobody is limited for what was declined
    /// before
    #[arg(long)]
    declined: bool,
    /// Also an address that a machine has now. The machine goes on using it until it renews its
    /// lease, and another one may get it meanwhile
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    place: Place,
}

/// Exit 0: it was told or done; 1: there is nothing to free, a machine has the address, or server
/// and store cannot be asked; 2: usage or configuration.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let place = match &arguments.command {
        Command::List(list) => &list.place,
        Command::Free(free) => &free.place,
    };
    place.carry_out(|source| {
        let text = match &arguments.command {
            Command::List(list) => listed(source, list),
            Command::Free(free) => freed(source, free),
        }?;
        Ok(output::say(&text, ExitCode::SUCCESS))
    })
}

fn listed(source: Source, list: &List) -> anyhow::Result<String> {
    let filter = LeaseFilter {
        network: list.subnet,
        standing: list.only,
        mac: list.machine,
        ..LeaseFilter::default()
    };
    let body = match source {
        Source::Server(socket) => in_pieces(socket, filter)?,
        Source::Store(state) => {
            state.visit(|path| Ok(in_json(stored(path, filter)?, usize::MAX)))?
        }
    };
    Ok(if list.json { output::in_json(&body) } else { plain(&body) })
}

/// The whole list, one answer after the other. Everything is counted by the first.
fn in_pieces(socket: Socket, filter: LeaseFilter) -> anyhow::Result<Value> {
    let ask = |socket: Socket, after: Option<Ipv4Addr>| {
        client::body(
            socket.ask("GET", &format!("{PATH}{}", in_path(LeaseFilter { after, ..filter })))?,
        )
    };
    let path = socket.path().to_owned();
    let mut whole = ask(socket, None)?;
    while whole["left_out"].as_u64().unwrap_or(0) > 0 {
        let leases = whole["leases"].as_array().map(Vec::as_slice).unwrap_or_default();
        let last = leases.last().and_then(|lease| lease["address"].as_str()?.parse().ok());
        let mut piece = ask(Socket::reach(&path).ok_or_else(|| NoServer(path.clone()))?, last)?;
        if let (Value::Array(all), Value::Array(more)) =
            (&mut whole["leases"], piece["leases"].take())
        {
            all.extend(more);
        }
        whole["left_out"] = piece["left_out"].take();
    }
    Ok(whole)
}

fn freed(source: Source, free: &Free) -> anyhow::Result<String> {
    let what = free.what.unwrap_or(What::Declined);
    let answer = match source {
        Source::Server(socket) => socket
            .ask("DELETE", &format!("{PATH}/{what}{}", if free.force { "/force" } else { "" }))?,
        Source::Store(state) => state.change(|state| {
            let mut store = SqliteStore::open(&state.database())?;
            let found = stored(state.path(), wanted(what))?;
            Ok(let_go(what, free.force, &found, |addresses| {
                let changes: Vec<LeaseChange> = addresses
                    .iter()
                    .map(|address| LeaseChange::Free { address: *address })
                    .collect();
                store.commit(&changes).map(|()| changes.len()).map_err(|error| error.to_string())
            }))
        })?,
    };
    Ok(format!("{}\n", client::body(answer)?["said"].as_str().unwrap_or_default()))
}

// --- the resource ---

// --- what is let go of ---

// --- what is told ---

fn plain(body: &Value) -> String {
    let mut text = String::new();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for lease in body["leases"].as_array().into_iter().flatten() {
        let (address, machine, state) =
            (word(&lease["address"]), word(&lease["machine"]), word(&lease["state"]));
        // Held against 0, its end is as far away as it says.
        let time = match lease["left_s"].as_i64() {
            None => time(None, 0),
            Some(left_s @ 1..) => time(Some(left_s.unsigned_abs()), 0),
            Some(left_s) => time(Some(0), left_s.unsigned_abs()),
        };
        let _ = write!(text, "{address:<15}  {machine}  {state:<8}  {time:<12}");
        for known in [&lease["firmware"], &lease["host_name"]] {
            if let Some(known) = known.as_str() {
                let _ = write!(text, "  {known}");
            }
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    for limited in body["limited"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "{}", word(&limited["said"]));
    }
    let counted = AddressStatus::ALL.into_iter().filter_map(|standing| {
        let count = body["counts"][standing.to_string()].as_u64().filter(|count| *count > 0)?;
        Some(format!("{count} {standing}"))
    });
    let counted: Vec<String> = counted.collect();
    let _ = writeln!(
        text,
        "{}",
        if counted.is_empty() { "no address".to_owned() } else { counted.join(", ") }
    );
    text
}
