//! `ringboot machines`: every machine that the server knows, where it stands, and who did not boot.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::bail;
use serde_json::{Value, json};

use super::client::{self, Place, Source};
use super::lease;
use super::machines::Who;
use super::now::Now;
use super::text::{number, span, word};
use crate::control::admin::Answer;
use crate::dhcp::listing::Filter;
use crate::model::machine::Mac;
use crate::model::network::Network;
use crate::observe::cause::Cause;
use crate::observe::journal::Journal;
use crate::observe::standing::{Standing, standing};
use crate::observe::timeline::{Entry, story};
use crate::serve::overview::Overview;
use crate::store::{HISTORY, History};

/// The resource of a running server.
pub(super) const PATH: &str = "/v1/machines";
/// Machines that are printed, one a line; `--json` has all of them.
const LINES_MAX: usize = 1000;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Machines whose boot stopped; exit code 1 where there is one
    #[arg(long)]
    failed: bool,
    /// Machines that are between two steps of their boot
    #[arg(long)]
    booting: bool,
    /// Reservations whose machine was never heard of
    #[arg(long)]
    unseen: bool,
    /// Machines with an address of this network
    #[arg(long, value_name = "CIDR")]
    subnet: Option<Network>,
    #[command(flatten)]
    place: Place,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    arguments.place.carry_out(|source| {
        let mut body = match source {
            Source::Server(socket) => client::body(socket.ask("GET", PATH)?)?,
            Source::Store(state) => state.visit(of_history)?,
        };
        arguments.sift(&mut body);
        let is_alarm = arguments.failed && number(&body["counts"][Standing::Failed.word()]) > 0;
        let code = if is_alarm { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        Ok(if arguments.json { super::say(&super::in_json(&body), code) } else { super::tell(&plain(&body), code) })
    })
}

impl Arguments {
    /// Leaves the machines that are asked for; all are counted that the subnet has.
    fn sift(&self, body: &mut Value) {
        let is_here = |machine: &Value| match (self.subnet, word(&machine["address"]).parse()) {
            (Some(network), address) => address.is_ok_and(|address| network.contains(address)),
            (None, _) => true,
        };
        let chosen =
            [(self.failed, Standing::Failed), (self.booting, Standing::Booting), (self.unseen, Standing::Unseen)];
        let is_any = chosen.iter().all(|(wanted, _)| !wanted);
        let is_chosen = |machine: &Value| {
            is_any || chosen.iter().any(|(wanted, standing)| *wanted && machine["standing"] == standing.word())
        };
        let Value::Array(mut machines) = body["machines"].take() else { return };
        machines.retain(is_here);
        body["counts"] = counts(&machines);
        machines.retain(is_chosen);
        body["machines"] = Value::Array(machines);
    }
}

fn counts(machines: &[Value]) -> Value {
    let count = |standing: Standing| machines.iter().filter(|one| one["standing"] == standing.word()).count();
    Standing::ALL.into_iter().map(|standing| (standing.word().to_owned(), json!(count(standing)))).collect()
}

// --- what is known ---

/// What a running server knows: its journal, with the names of reservations and of clients.
pub(super) fn of_server(journal: &Journal, overview: Option<&Overview>) -> Answer {
    let mut reserved = Vec::new();
    let mut names = HashMap::new();
    if let Some(overview) = overview {
        let listing = overview.dhcp_control.as_ref().and_then(|dhcp| dhcp.list(Filter::default())).unwrap_or_default();
        names.extend(listing.listed.into_iter().filter_map(|lease| Some((lease.mac, lease.host_name?))));
        for host in overview.generation().snapshot.dhcp.subnets.iter().flat_map(|subnet| &subnet.reservations) {
            names.extend(host.hostname.clone().map(|name| (host.mac, name)));
            reserved.push((host.mac, json!(host.address)));
        }
    }
    let now = Now::of(overview);
    let heard = journal.machines();
    let is_heard: HashSet<Mac> = heard.iter().copied().collect();
    let mut rows: Vec<Row> =
        heard.into_iter().filter_map(|mac| row(mac, &journal.entries(mac), &names, &now)).collect();
    let unseen = reserved.into_iter().filter(|(mac, _)| !is_heard.contains(mac));
    rows.extend(unseen.map(|(mac, address)| unseen_row(mac, &address, &names)));
    Answer::ok(in_json(rows, overview.is_none_or(|overview| overview.dhcp_control.is_some())))
}

/// What a stopped server left. Its reservations are in no database.
fn of_history(state: &Path) -> anyhow::Result<Value> {
    let path = state.join(HISTORY);
    if !path.exists() {
        bail!(
            "there is no {}: a server that answers DHCP writes it into its state directory; --state DIR names another",
            path.display()
        );
    }
    let mut machines: HashMap<Mac, Vec<Entry>> = HashMap::new();
    History::read_only(&path)?.load(|(mac, _, entry)| machines.entry(mac).or_default().push(entry))?;
    // A list without names is better than none.
    let listing = lease::stored(state, Filter::default()).unwrap_or_default();
    let names = listing.listed.into_iter().filter_map(|lease| Some((lease.mac, lease.host_name?))).collect();
    let now = Now::of_history();
    Ok(in_json(machines.iter().filter_map(|(mac, entries)| row(*mac, entries, &names, &now)).collect(), true))
}

/// A machine, and what the list is in the order of.
struct Row {
    standing: Standing,
    heard_ms: u64,
    mac: Mac,
    body: Value,
}

fn row(mac: Mac, entries: &[Entry], names: &HashMap<Mac, String>, now: &Now) -> Option<Row> {
    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
    let heard_ms = entries.last()?.at_ms;
    let story = story(entries, &now.known(Who::Mac(mac), entries), now_ms);
    let standing = standing(entries, &story);
    let last = story.lines.last();
    let body = json!({
        "machine": mac.to_string(),
        "address": story.address.map(|address| address.to_canonical().to_string()),
        "host_name": names.get(&mac),
        "firmware": story.firmware.map(|firmware| firmware.to_string()),
        "heard_ms": heard_ms,
        "quiet_ms": now_ms.saturating_sub(heard_ms),
        "standing": standing.word(),
        "stage": last.map(|line| line.stage.word()),
        "last": last.map(|line| &line.text),
        "code": story.code.map(Cause::word),
        "cause": story.cause,
    });
    Some(Row { standing, heard_ms, mac, body })
}

fn unseen_row(mac: Mac, address: &Value, names: &HashMap<Mac, String>) -> Row {
    let body = json!({
        "machine": mac.to_string(),
        "address": address,
        "host_name": names.get(&mac),
        "firmware": null,
        "heard_ms": null,
        "quiet_ms": null,
        "standing": Standing::Unseen.word(),
        "stage": null,
        "last": null,
        "code": Cause::NeverSeen.word(),
        "cause": "No DISCOVER of this machine was seen.",
    });
    Row { standing: Standing::Unseen, heard_ms: 0, mac, body }
}

/// Those that did not boot first; of the same standing the one that was heard of last first.
fn in_json(mut rows: Vec<Row>, answers_dhcp: bool) -> Value {
    rows.sort_unstable_by_key(|row| (row.standing, std::cmp::Reverse(row.heard_ms), row.mac));
    let machines: Vec<Value> = rows.into_iter().map(|row| row.body).collect();
    let counts = counts(&machines);
    json!({ "machines": machines, "counts": counts, "answers_dhcp": answers_dhcp })
}

// --- what is printed ---

fn plain(body: &Value) -> String {
    let mut text = String::new();
    let machines = body["machines"].as_array().map(Vec::as_slice).unwrap_or_default();
    for machine in machines.iter().take(LINES_MAX) {
        let (address, name) = (word(&machine["address"]), word(&machine["host_name"]));
        let age = machine["quiet_ms"].as_u64().map_or_else(|| "-".to_owned(), |ms| span(ms / 1000));
        let _ = write!(
            text,
            "{}  {address:<15}  {:<7}  {age:<7}  {name}",
            word(&machine["machine"]),
            word(&machine["standing"])
        );
        let why = what_is_said(machine);
        let _ = write!(text, "{}{why}", if name.is_empty() { "" } else { "  " });
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    if machines.len() > LINES_MAX {
        let _ = writeln!(
            text,
            "{} more: --failed, --booting or --subnet names fewer, --json all",
            machines.len() - LINES_MAX
        );
    }
    let counted: Vec<String> = Standing::ALL
        .into_iter()
        .map(|standing| (number(&body["counts"][standing.word()]), standing.word()))
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    match (counted.is_empty(), body["answers_dhcp"] == false) {
        (false, _) => text.push_str(&counted.join(", ")),
        (true, true) => {
            text.push_str("no DHCP is answered here, and machines are known by their leases: `ringboot why ADDRESS` tells of one address")
        }
        (true, false) => text.push_str("no machine was heard of"),
    }
    text.push('\n');
    text
}

/// The cause where it stopped, the last step where it goes on.
fn what_is_said(machine: &Value) -> &str {
    let standing = word(&machine["standing"]);
    if standing == Standing::Booting.word() {
        // What it did; the reasons are in its story.
        return word(&machine["last"]).split("; ").next().unwrap_or_default();
    }
    if standing == Standing::Failed.word() { word(&machine["cause"]) } else { "" }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::text::each;
    use super::*;
    use crate::model::machine::{Arch, Firmware, Role};
    use crate::observe::events::{Event, Kind, Stage, Weight};

    const PXE: Firmware = Firmware { role: Role::Pxe, arch: Some(Arch::UefiX64) };

    fn mac(n: u32) -> Mac {
        let [_, _, c, d] = n.to_be_bytes();
        Mac([2, 0, 0, 0, c, d])
    }

    fn now_ms() -> u64 {
        u64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap()
    }

    /// The machine `n` has an address in 10.0.0.0/16, and this happened to it so long ago.
    fn happened(journal: &Journal, n: u32, stage: Stage, kind: Kind, ago_ms: u64) {
        let address = Some(std::net::IpAddr::V4((0x0a00_0000 + n).into()));
        let (weight, text) = (Weight::Step, format!("step of {n}"));
        let event = Event { mac: Some(mac(n)), address, stage, weight, kind, text, attempt: None };
        journal.add(&event, now_ms() - ago_ms, &mut Vec::new());
    }

    fn arguments(more: impl FnOnce(&mut Arguments)) -> Arguments {
        let place = Place::default();
        let mut all = Arguments { failed: false, booting: false, unseen: false, subnet: None, place, json: false };
        more(&mut all);
        all
    }

    fn sifted(journal: &Journal, more: impl FnOnce(&mut Arguments)) -> Value {
        let mut body = of_server(journal, None).body;
        arguments(more).sift(&mut body);
        body
    }

    /// Of 2,000 machines 3 have failed, 2 boot.
    fn rack() -> Journal {
        let journal = Journal::default();
        for n in 0..2000 {
            happened(&journal, n, Stage::Dhcp, Kind::Leased { to: PXE, twin: false }, 900_000);
            if n % 700 != 5 {
                happened(&journal, n, Stage::Kernel, Kind::Sent { name: "linux".into(), bytes: 1 }, 800_000);
            }
        }
        for n in [8, 9] {
            happened(&journal, n, Stage::Dhcp, Kind::Offered { to: PXE }, 1000 - 100 * u64::from(n));
        }
        journal
    }

    #[test]
    fn of_two_thousand_machines_those_that_did_not_boot_come_first_and_the_rest_is_counted() {
        let journal = rack();
        let all = sifted(&journal, |_| {});
        assert_eq!(all["counts"], json!({ "failed": 3, "booting": 2, "menu": 0, "booted": 1995, "unseen": 0 }));
        let text = plain(&all);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), LINES_MAX + 2);
        assert!(
            lines[..3]
                .iter()
                .all(|line| line.contains("  failed   15 min ") && line.contains("no transfer to it had ended")),
            "{text}"
        );
        assert!(lines[3].contains("  booting  0 s ") && lines[3].ends_with("step of 9"), "{}", lines[3]);
        assert!(lines[5].ends_with("  booted   13 min"), "{:?}", lines[5]);
        assert!(lines[LINES_MAX].starts_with("1000 more: --failed"), "{}", lines[LINES_MAX]);
        assert_eq!(lines[LINES_MAX + 1], "3 failed, 2 booting, 1995 booted");
    }

    #[test]
    fn one_standing_and_one_subnet_can_be_asked_for() {
        let journal = rack();
        let macs =
            |body: &Value| each(&body["machines"]).map(|one| word(&one["machine"]).to_owned()).collect::<Vec<_>>();
        let failed = sifted(&journal, |arguments| arguments.failed = true);
        assert_eq!(macs(&failed), [1405, 705, 5].map(|n| mac(n).to_string()));
        assert_eq!(plain(&failed).lines().last(), Some("3 failed, 2 booting, 1995 booted"), "the others are counted");
        let both = sifted(&journal, |arguments| (arguments.failed, arguments.booting) = (true, true));
        assert_eq!(macs(&both).len(), 5);
        let few = sifted(&journal, |arguments| arguments.subnet = "10.0.0.0/28".parse().ok());
        assert_eq!((macs(&few).len(), number(&few["counts"]["failed"])), (16, 1));
        assert_eq!(macs(&sifted(&journal, |arguments| arguments.unseen = true)), Vec::<String>::new());
    }

    #[test]
    fn where_no_dhcp_is_answered_that_is_why_no_machine_is_known() {
        assert_eq!(plain(&in_json(Vec::new(), true)), "no machine was heard of\n");
        assert!(plain(&in_json(Vec::new(), false)).starts_with("no DHCP is answered here, and machines are known by"));
    }
}
