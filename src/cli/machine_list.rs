//! `ringboot machines`: every machine that the server knows, where it stands, and who did not boot.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use super::client::{self, Place, Source};
use super::output;
use crate::api::machine_list::{PATH, counts, of_history};
use crate::api::values::{number, span, word};
use crate::model::network::Ipv4Network;
use crate::observe::standing::MachineStanding;

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
    subnet: Option<Ipv4Network>,
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
        let is_alarm =
            arguments.failed && number(&body["counts"][MachineStanding::Failed.word()]) > 0;
        let code = if is_alarm { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        Ok(if arguments.json {
            output::say(&output::in_json(&body), code)
        } else {
            output::tell(&plain(&body), code)
        })
    })
}

impl Arguments {
    /// Leaves the machines that are asked for; all are counted that the subnet has.
    fn sift(&self, body: &mut Value) {
        let is_here = |machine: &Value| match (self.subnet, word(&machine["address"]).parse()) {
            (Some(network), address) => address.is_ok_and(|address| network.contains(address)),
            (None, _) => true,
        };
        let chosen = [
            (self.failed, MachineStanding::Failed),
            (self.booting, MachineStanding::Booting),
            (self.unseen, MachineStanding::Unseen),
        ];
        let is_any = chosen.iter().all(|(wanted, _)| !wanted);
        let is_chosen = |machine: &Value| {
            is_any
                || chosen
                    .iter()
                    .any(|(wanted, standing)| *wanted && machine["standing"] == standing.word())
        };
        let Value::Array(mut machines) = body["machines"].take() else { return };
        machines.retain(is_here);
        body["counts"] = counts(&machines);
        machines.retain(is_chosen);
        body["machines"] = Value::Array(machines);
    }
}

// --- what is known ---

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
    let counted: Vec<String> = MachineStanding::ALL
        .into_iter()
        .map(|standing| (number(&body["counts"][standing.word()]), standing.word()))
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    match (counted.is_empty(), body["answers_dhcp"] == false) {
        (false, _) => text.push_str(&counted.join(", ")),
        (true, true) => text.push_str(
            "no DHCP is answered here, and machines are known by their leases: `ringboot why \
             ADDRESS` tells of one address",
        ),
        (true, false) => text.push_str("no machine was heard of"),
    }
    text.push('\n');
    text
}

/// The cause where it stopped, the last step where it goes on.
fn what_is_said(machine: &Value) -> &str {
    let standing = word(&machine["standing"]);
    if standing == MachineStanding::Booting.word() {
        // What it did; the reasons are in its story.
        return word(&machine["last"]).split("; ").next().unwrap_or_default();
    }
    if standing == MachineStanding::Failed.word() { word(&machine["cause"]) } else { "" }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::SystemTime;

    use serde_json::json;

    use crate::api::machine_list::{in_json, of_server};
    use crate::api::values::each;
    use crate::model::machine::{Arch, Firmware, FirmwareRole, Mac};
    use crate::observe::events::{BootStage, EventKind, EventWeight, MachineEvent};
    use crate::observe::journal::MachineJournal;

    const PXE: Firmware = Firmware { role: FirmwareRole::Pxe, arch: Some(Arch::UefiX64) };

    fn mac(n: u32) -> Mac {
        let [_, _, c, d] = n.to_be_bytes();
        Mac([2, 0, 0, 0, c, d])
    }

    fn now_ms() -> u64 {
        u64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis())
            .unwrap()
    }

    /// The machine `n` has an address in 10.0.0.0/16, and this happened to it so long ago.
    fn happened(journal: &MachineJournal, n: u32, stage: BootStage, kind: EventKind, ago_ms: u64) {
        let address = Some(std::net::IpAddr::V4((0x0a00_0000 + n).into()));
        let (weight, text) = (EventWeight::Step, format!("step of {n}"));
        let event =
            MachineEvent { mac: Some(mac(n)), address, stage, weight, kind, text, attempt: None };
        journal.add(&event, now_ms() - ago_ms, &mut Vec::new());
    }

    fn arguments(more: impl FnOnce(&mut Arguments)) -> Arguments {
        let place = Place::default();
        let mut all = Arguments {
            failed: false,
            booting: false,
            unseen: false,
            subnet: None,
            place,
            json: false,
        };
        more(&mut all);
        all
    }

    fn sifted(journal: &MachineJournal, more: impl FnOnce(&mut Arguments)) -> Value {
        let mut body = of_server(journal, None).body;
        arguments(more).sift(&mut body);
        body
    }

    /// Of 2,000 machines 3 have failed, 2 boot.
    fn rack() -> MachineJournal {
        let journal = MachineJournal::default();
        for n in 0..2000 {
            happened(
                &journal,
                n,
                BootStage::Dhcp,
                EventKind::Leased { to: PXE, twin: false },
                900_000,
            );
            if n % 700 != 5 {
                happened(
                    &journal,
                    n,
                    BootStage::Kernel,
                    EventKind::Sent { name: "linux".into(), bytes: 1 },
                    800_000,
                );
            }
        }
        for n in [8, 9] {
            happened(
                &journal,
                n,
                BootStage::Dhcp,
                EventKind::Offered { to: PXE },
                1000 - 100 * u64::from(n),
            );
        }
        journal
    }

    #[test]
    fn of_two_thousand_machines_those_that_did_not_boot_come_first_and_the_rest_is_counted() {
        let journal = rack();
        let all = sifted(&journal, |_| {});
        assert_eq!(
            all["counts"],
            json!({ "failed": 3, "booting": 2, "menu": 0, "booted": 1995, "unseen": 0 })
        );
        let text = plain(&all);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), LINES_MAX + 2);
        assert!(
            lines[..3].iter().all(|line| line.contains("  failed   15 min ")
                && line.contains("no transfer to it had ended")),
            "{text}"
        );
        assert!(
            lines[3].contains("  booting  0 s ") && lines[3].ends_with("step of 9"),
            "{}",
            lines[3]
        );
        assert!(lines[5].ends_with("  booted   13 min"), "{:?}", lines[5]);
        assert!(lines[LINES_MAX].starts_with("1000 more: --failed"), "{}", lines[LINES_MAX]);
        assert_eq!(lines[LINES_MAX + 1], "3 failed, 2 booting, 1995 booted");
    }

    #[test]
    fn one_standing_and_one_subnet_can_be_asked_for() {
        let journal = rack();
        let macs = |body: &Value| {
            each(&body["machines"]).map(|one| word(&one["machine"]).to_owned()).collect::<Vec<_>>()
        };
        let failed = sifted(&journal, |arguments| arguments.failed = true);
        assert_eq!(macs(&failed), [1405, 705, 5].map(|n| mac(n).to_string()));
        assert_eq!(
            plain(&failed).lines().last(),
            Some("3 failed, 2 booting, 1995 booted"),
            "the others are counted"
        );
        let both =
            sifted(&journal, |arguments| (arguments.failed, arguments.booting) = (true, true));
        assert_eq!(macs(&both).len(), 5);
        let few = sifted(&journal, |arguments| arguments.subnet = "10.0.0.0/28".parse().ok());
        assert_eq!((macs(&few).len(), number(&few["counts"]["failed"])), (16, 1));
        assert_eq!(
            macs(&sifted(&journal, |arguments| arguments.unseen = true)),
            Vec::<String>::new()
        );
    }

    #[test]
    fn where_no_dhcp_is_answered_that_is_why_no_machine_is_known() {
        assert_eq!(plain(&in_json(Vec::new(), true)), "no machine was heard of\n");
        assert!(
            plain(&in_json(Vec::new(), false))
                .starts_with("no DHCP is answered here, and machines are known by")
        );
    }
}
