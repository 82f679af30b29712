//! `ringboot machines`: lists every machine that the server knows with its state.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::client::{Order, SocketPlace, Source};
use super::output;
use crate::api::machine_list::of_history;
use crate::api::types::{MachineCounts, MachineEntry, MachineList, MachineStanding};
use crate::api::values::format_span;
use crate::model::network::Ipv4Network;

/// Machines that the text lists; `--json` has all of them.
const LINES_MAX: usize = 1000;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Machines whose boot stopped; exit code 1 if there is one
    #[arg(long)]
    failed: bool,
    /// Machines between two steps of their boot
    #[arg(long)]
    booting: bool,
    /// Reservations whose machine the server has never seen
    #[arg(long)]
    unseen: bool,
    /// Machines with an address of this network
    #[arg(long, value_name = "CIDR")]
    subnet: Option<Ipv4Network>,
    #[command(flatten)]
    place: SocketPlace,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    arguments.place.carry_out(|source| {
        let mut list = match source {
            Source::Server(socket) => socket.ask(&Order::get("/v1/machines"))?,
            Source::Store(state) => state.visit(of_history)?,
        };
        arguments.filter_machines(&mut list);
        let is_alarm = arguments.failed && list.counts.failed > 0;
        let code = if is_alarm { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        Ok(if arguments.json {
            output::say(&output::in_json(&list), code)
        } else {
            output::say_folded(&format_list(&list), code)
        })
    })
}

impl Arguments {
    /// Keeps the chosen machines; the counts are those of the whole subnet.
    fn filter_machines(&self, list: &mut MachineList) {
        if let Some(network) = self.subnet {
            list.machines.retain(|machine| {
                let address = machine.address.as_ref().map(|text| text.parse());
                matches!(address, Some(Ok(address)) if network.contains(address))
            });
        }
        list.counts = MachineCounts::from_machines(&list.machines);

        let chosen = [
            (self.failed, MachineStanding::Failed),
            (self.booting, MachineStanding::Booting),
            (self.unseen, MachineStanding::Unseen),
        ];
        let is_any = chosen.iter().all(|(wanted, _)| !wanted);
        list.machines.retain(|machine| is_any || chosen.contains(&(true, machine.standing)));
    }
}

fn format_list(list: &MachineList) -> String {
    let mut text = String::new();
    for machine in list.machines.iter().take(LINES_MAX) {
        write_machine(&mut text, machine);
    }
    if list.machines.len() > LINES_MAX {
        let _ = writeln!(
            text,
            "{} more: --failed, --booting and --subnet list fewer, --json lists all",
            list.machines.len() - LINES_MAX
        );
    }

    let standings = MachineStanding::ALL.iter().copied();
    let counted: Vec<String> = standings
        .filter(|standing| list.counts.read(*standing) > 0)
        .map(|standing| format!("{} {standing}", list.counts.read(standing)))
        .collect();

    // Without DHCP the server knows machines by their IP addresses only, so its list is always
    // empty.
    match (counted.is_empty(), list.answers_dhcp) {
        (false, _) => text.push_str(&counted.join(", ")),
        (true, false) => text.push_str(
            "this server answers no DHCP, so it has no list of machines: `ringboot why ADDRESS` \
             shows one address",
        ),
        (true, true) => text.push_str("no machine is known"),
    }
    text.push('\n');
    text
}

fn write_machine(text: &mut String, machine: &MachineEntry) {
    let address = machine.address.as_deref().unwrap_or_default();
    let name = machine.host_name.as_deref().unwrap_or_default();
    let age = machine.quiet_ms.map_or_else(|| "-".to_owned(), |ms| format_span(ms / 1000));
    let (mac, standing) = (&machine.machine, machine.standing);
    let _ = write!(text, "{mac}  {address:<15}  {standing:<7}  {age:<7}  {name}");
    let gap = if name.is_empty() { "" } else { "  " };
    let _ = write!(text, "{gap}{}", choose_remark(machine));
    text.truncate(text.trim_end().len());
    text.push('\n');
}

/// The remark of a line: the cause of a failed boot, the last step of a running one.
fn choose_remark(machine: &MachineEntry) -> &str {
    match machine.standing {
        MachineStanding::Booting => {
            // The step alone; `why` has its reasons.
            let last = machine.last.as_deref().unwrap_or_default();
            last.split("; ").next().unwrap_or_default()
        }
        MachineStanding::Failed => machine.cause.as_deref().unwrap_or_default(),
        MachineStanding::Menu | MachineStanding::Booted | MachineStanding::Unseen => "",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::SystemTime;

    use crate::api::machine_list::{machine_list, of_server};
    use crate::api::types::sample::{assert_shown, sample};
    use crate::model::machine::{Arch, Firmware, FirmwareRole, Mac};
    use crate::observe::events::{EventKind, EventWeight, MachineEvent, MachineStage};
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
    fn happened(
        journal: &MachineJournal,
        n: u32,
        stage: MachineStage,
        kind: EventKind,
        ago_ms: u64,
    ) {
        let address = Some(std::net::IpAddr::V4((0x0a00_0000 + n).into()));
        let (weight, text) = (EventWeight::Step, format!("step of {n}"));
        let event =
            MachineEvent { mac: Some(mac(n)), address, stage, weight, kind, text, attempt: None };
        journal.record_event(event, now_ms() - ago_ms);
    }

    fn arguments(more: impl FnOnce(&mut Arguments)) -> Arguments {
        let place = SocketPlace::default();
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

    fn sifted(journal: &MachineJournal, more: impl FnOnce(&mut Arguments)) -> MachineList {
        let mut list = of_server(journal, None);
        arguments(more).filter_machines(&mut list);
        list
    }

    /// Of 2,000 machines 3 have failed, 2 boot.
    fn rack() -> MachineJournal {
        let journal = MachineJournal::default();
        for n in 0..2000 {
            happened(
                &journal,
                n,
                MachineStage::Dhcp,
                EventKind::Leased { to: PXE, twin: false },
                900_000,
            );
            if n % 700 != 5 {
                happened(
                    &journal,
                    n,
                    MachineStage::Kernel,
                    EventKind::Sent { name: "linux".into(), bytes: 1 },
                    800_000,
                );
            }
        }
        for n in [8, 9] {
            happened(
                &journal,
                n,
                MachineStage::Dhcp,
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
            all.counts,
            MachineCounts { failed: 3, booting: 2, menu: 0, booted: 1995, unseen: 0 }
        );
        let text = format_list(&all);
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
        let macs = |list: &MachineList| {
            list.machines.iter().map(|one| one.machine.clone()).collect::<Vec<_>>()
        };
        let failed = sifted(&journal, |arguments| arguments.failed = true);
        assert_eq!(macs(&failed), [1405, 705, 5].map(|n| mac(n).to_string()));
        assert_eq!(
            format_list(&failed).lines().last(),
            Some("3 failed, 2 booting, 1995 booted"),
            "the others are counted"
        );
        let both =
            sifted(&journal, |arguments| (arguments.failed, arguments.booting) = (true, true));
        assert_eq!(macs(&both).len(), 5);
        let few = sifted(&journal, |arguments| arguments.subnet = "10.0.0.0/28".parse().ok());
        assert_eq!((macs(&few).len(), few.counts.failed), (16, 1));
        assert_eq!(
            macs(&sifted(&journal, |arguments| arguments.unseen = true)),
            Vec::<String>::new()
        );
    }

    #[test]
    fn every_field_is_printed_or_left_to_json_for_a_reason() {
        let with = |standing| {
            let mut list: MachineList = sample();
            list.machines[0].standing = standing;
            list
        };
        let values = [with(MachineStanding::Failed), with(MachineStanding::Booting)];
        assert_shown(
            &values,
            format_list,
            &[
                ("answers_dhcp", "it is said where no machine is known"),
                ("machines.code", "the cause is said in a sentence"),
                ("machines.firmware", "`ringboot why` has it"),
                ("machines.stage", "the last step is said in a sentence"),
            ],
        );
    }

    #[test]
    fn where_no_dhcp_is_answered_that_is_why_no_machine_is_known() {
        assert_eq!(format_list(&machine_list(Vec::new(), true)), "no machine is known\n");
        assert!(
            format_list(&machine_list(Vec::new(), false))
                .starts_with("this server answers no DHCP, so it has no list of")
        );
    }
}
