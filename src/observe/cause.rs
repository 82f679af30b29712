//! Why a boot stopped: every cause that the server can see, each with its sentence and one next
//! step.

use std::net::Ipv4Addr;

use super::entry::{JournalEntry, join_text_lines};
use super::events::{EventKind, FileDenial, MachineStage, UnansweredReason};
use super::flight::ActiveTransfer;
use super::stop::{FIRST_BLOCK, LATER_BLOCK};
use ringboot_protocol::boot::names::{is_optional_file, parse_menu_name};
use ringboot_protocol::model::machine::{Arch, Firmware, FirmwareRole, Mac};

pub use super::stop::{StopCause, StopReport};

/// NAKs in one boot that count as a loop.
const NAK_LOOP_MIN: usize = 2;

/// What the server knows besides the events of the machine.
#[derive(Debug, Default)]
pub struct CauseContext<'a> {
    /// Open transfers to the machine. None: the server is stopped, so its open transfers are
    /// unknown.
    pub flights: Option<Vec<ActiveTransfer>>,
    /// The server answers DHCP.
    pub has_dhcp: bool,
    /// The operator named the machine by its IP address, not by its hardware address.
    pub by_address: bool,
    /// Each subnet, and its position in the configuration file as `path:line`.
    pub places: &'a [(String, String)],
    /// Each subnet on which another DHCP server is known now, and a clause about that server.
    pub others: &'a [(String, String)],
}

impl CauseContext<'_> {
    /// `the [[dhcp.subnet]] 192.168.4.0/24 (/etc/ringboot/ringboot.toml:12)`
    fn describe_subnet(&self, about: &str) -> String {
        let place = self.places.iter().find(|(subnet, _)| subnet == about);
        let place = place.map_or_else(String::new, |(_, place)| format!(" ({place})"));
        format!("the [[dhcp.subnet]] {about}{place}")
    }

    /// ` Now: CLAUSE.` about another DHCP server on the subnet; empty where none is known.
    fn describe_others_now(&self, about: &str) -> String {
        let now = self.others.iter().find(|(subnet, _)| subnet == about);
        now.map_or_else(String::new, |(_, now)| format!(" Now: {now}."))
    }
}

fn make_stop(
    code: StopCause,
    cause: impl Into<String>,
    next_step: impl Into<String>,
) -> Option<StopReport> {
    Some(StopReport { code, cause: cause.into(), next_step: next_step.into() })
}

/// Finds what stopped the last boot, from its end backwards. None: nothing that the server can see.
pub fn judge_boot(boot: &[JournalEntry], known: &CauseContext<'_>) -> Option<StopReport> {
    // A transfer that runs now is newer than every event.
    let began_ms = boot
        .first()
        .filter(|first| first.stage == MachineStage::Dhcp)
        .map_or(0, |first| first.at_ms);
    let flights = known.flights.iter().flatten().filter(|flight| flight.began_ms >= began_ms);
    if let Some(flight) = flights.min_by_key(|flight| flight.quiet_ms) {
        return Some(flight.to_stop_report());
    }

    if boot.is_empty() {
        return explain_unseen_machine(known);
    }
    if let Some(stop) = detect_nak_loop(boot) {
        return Some(stop);
    }

    // What came after the last complete file: the requests of the program in that file.
    let after_sent = boot
        .iter()
        .rposition(|entry| matches!(entry.kind, EventKind::Sent { .. }))
        .map_or(0, |at| at + 1);
    let tail = &boot[after_sent..];

    // The last event decides, except that a loader tries several names for one missing file.
    let last = (0..boot.len())
        .rev()
        .find(|at| is_decisive_kind(&boot[*at].kind) && !is_lease_repeated(boot, *at))
        .map(|at| &boot[at])?;
    let entry = find_first_missing(tail)
        .filter(|_| matches!(last.kind, EventKind::Missing { .. }))
        .unwrap_or(last);

    let in_dhcp =
        explain_dhcp_stop(entry, boot, known).or_else(|| explain_unanswered(entry, known));
    in_dhcp
        .or_else(|| explain_file_stop(entry))
        .or_else(|| explain_transfer_stop(entry))
        .or_else(|| explain_after_file(entry, tail))
}

/// The missing file to report. A loader tries other spellings of a name that the configuration gave
/// it: the name in the configuration goes first.
fn find_first_missing(tail: &[JournalEntry]) -> Option<&JournalEntry> {
    let named =
        tail.iter().find(|entry| matches!(entry.kind, EventKind::Missing { rule: Some(_), .. }));
    named.or_else(|| {
        tail.iter().find(|entry| {
            matches!(entry.kind, EventKind::Missing { .. }) && is_decisive_kind(&entry.kind)
        })
    })
}

/// True for an event that can be the reason why a boot stopped.
fn is_decisive_kind(kind: &EventKind) -> bool {
    match kind {
        EventKind::Missing { name, rule } => rule.is_some() || !is_optional_file(name),
        EventKind::SizeProbe
        | EventKind::Renewed
        | EventKind::Released
        | EventKind::Conflict
        | EventKind::Short
        | EventKind::Other => false,
        EventKind::PoolFills | EventKind::PoolHasRoom => false,
        _ => true,
    }
}

/// True for a lease that the same program requested once more after it had loaded files: the
/// repeated lease is no new step of the boot.
fn is_lease_repeated(boot: &[JournalEntry], at: usize) -> bool {
    let kind = &boot[at].kind;
    let before = boot[..at].iter().position(|entry| entry.kind == *kind);
    matches!(kind, EventKind::Leased { .. })
        && before.is_some_and(|before| {
            boot[before..at].iter().any(|entry| entry.stage != MachineStage::Dhcp)
        })
}

fn explain_unseen_machine(known: &CauseContext<'_>) -> Option<StopReport> {
    match (known.has_dhcp, known.by_address) {
        (true, _) => make_stop(
            StopCause::NeverSeen,
            "The server has seen no DISCOVER from this machine.",
            "Check the cable and the switch port (its VLAN, PortFast), the boot order in the \
             firmware, and that ringboot answers on that interface or the relay points here.",
        ),
        (false, false) => make_stop(
            StopCause::NoDhcpHere,
            "This server answers no DHCP, so it knows a machine by its IP address only.",
            "Use the address that its DHCP server gave it: `ringboot why ADDRESS`.",
        ),
        (false, true) => make_stop(
            StopCause::NothingAskedFor,
            "This server answers no DHCP, and no file request came from this address.",
            "Look at the DHCP server of its network: `next-server` or option 66 must name this \
             host, and the boot file must be a file under the root. Then look for a firewall that \
             blocks UDP port 69 or TCP port 80.",
        ),
    }
}

/// NAKs since the machine last had a lease or loaded a file.
fn detect_nak_loop(boot: &[JournalEntry]) -> Option<StopReport> {
    let went_on = boot.iter().rposition(|entry| {
        matches!(entry.kind, EventKind::Leased { .. }) || entry.stage != MachineStage::Dhcp
    });
    let since = went_on.map_or(0, |at| at + 1);
    let naks: Vec<&JournalEntry> =
        boot[since..].iter().filter(|entry| entry.kind == EventKind::Nak).collect();
    let last = naks.last().filter(|_| naks.len() >= NAK_LOOP_MIN)?;
    let cause = format!(
        "It keeps requesting an address that it may not have ({} NAKs): {}.",
        naks.len(),
        extract_clause(last)
    );
    let next_step = "Look for a second DHCP server whose offers it accepts, for two machines with \
                     one hardware address, or for a reservation with an address outside its \
                     subnet.";
    make_stop(StopCause::RefusedAgain, cause, next_step)
}

/// A boot that stopped in DHCP although the server answered, or by the client's own choice.
fn explain_dhcp_stop(
    entry: &JournalEntry,
    boot: &[JournalEntry],
    known: &CauseContext<'_>,
) -> Option<StopReport> {
    let address = entry
        .address
        .map_or_else(|| "an address".to_owned(), |address| address.to_canonical().to_string());
    match &entry.kind {
        EventKind::Offered { .. } => {
            let offers =
                boot.iter().filter(|entry| matches!(entry.kind, EventKind::Offered { .. })).count();
            make_stop(
                StopCause::NotRequested,
                format!("It was offered {address} ({offers} x) and never requested it."),
                "Either the offer does not reach it (VLAN, firewall, relay, PortFast), or it \
                 accepted another server's offer: capture `port 67 or port 68` on its segment.",
            )
        }
        EventKind::NoLoader { to, why } => make_stop(
            StopCause::NoLoader,
            format!("There is no loader for {}: {why}.", describe_firmware(*to)),
            "Put a loader for it under the root and name it in [boot] of the configuration: \
             `ringboot loader list` shows what is there.",
        ),
        EventKind::Nak => make_stop(
            StopCause::Refused,
            format!("Its request for {address} was refused: {}.", extract_clause(entry)),
            "It should start again with a DISCOVER by itself; if it does not, power-cycle it.",
        ),
        EventKind::NoAddressFree => make_stop(
            StopCause::PoolFull,
            format!("The pool is full: {}.", extract_clause(entry)),
            "Give the subnet a larger `pools`, shorten `default-lease-time`, or reserve an address \
             for this machine.",
        ),
        EventKind::OtherServer { server } => make_stop(
            StopCause::ChoseOther,
            format!("It chose another DHCP server, {server}."),
            format!(
                "Switch {server} off, or leave its network to it: `mode = \"off\"` on the subnet \
                 here."
            ),
        ),
        EventKind::Declined => make_stop(
            StopCause::Declined,
            format!("It declined {address}: something else on the network uses that address."),
            format!(
                "Find the other host (`arping {address}`), or take the address out of the pool."
            ),
        ),
        // After DHCP the same kind is a file that could not be read (`explain_transfer_stop`).
        EventKind::Failed if entry.stage == MachineStage::Dhcp => make_stop(
            StopCause::LeaseNotKept,
            format!("The server could not serve it: {}.", extract_clause(entry)),
            "The line STORE of `ringboot status` says what the lease database lacks: space on the \
             disk, its file, or a lock that another program holds.",
        ),
        // The lease of an installed system is no stop: such a system needs no boot file.
        EventKind::Leased { to, .. } if to.role != FirmwareRole::System => {
            Some(explain_no_request(&address, known))
        }
        _ => None,
    }
}

/// A boot that stopped after the lease. The store of a stopped server has only transfers that
/// ended, so there the report cannot exclude that a transfer was running.
fn explain_no_request(address: &str, known: &CauseContext<'_>) -> StopReport {
    let (code, cause) = match known.flights {
        Some(_) => (
            StopCause::NoFileAskedFor,
            format!("It has the lease of {address} and a boot file name, and requested no file."),
        ),
        None => (
            StopCause::NoFileDelivered,
            format!(
                "It has the lease of {address} and a boot file name, and no transfer to it had \
                 ended when the server stopped."
            ),
        ),
    };
    let next_step = match known.flights {
        Some(_) => {
            "Its requests do not arrive: look for a firewall that blocks UDP port 69 or TCP port \
             80, and check that it can reach the address in `next-server`."
        }
        None => {
            "Start the server, and ask again when the machine has tried again: a running server \
             knows its open transfers."
        }
    };
    StopReport { code, cause, next_step: next_step.to_owned() }
}

/// A boot whose last DHCP message got no answer.
fn explain_unanswered(entry: &JournalEntry, known: &CauseContext<'_>) -> Option<StopReport> {
    let EventKind::Unanswered { why, about, other } = &entry.kind else { return None };
    let subnet = known.describe_subnet(about);
    let (code, next_step) = match why {
        UnansweredReason::NoSubnet => (
            StopCause::NoSubnet,
            format!(
                "Add a [[dhcp.subnet]] with the network of {about}, its `interface` and `mode = \
                 \"server\"`, or correct the `subnet` of the one for this interface."
            ),
        ),
        UnansweredReason::NoSubnetBehind => (
            StopCause::NoSubnetBehind,
            format!("Add a [[dhcp.subnet]] with the network of {about}, `relay = true` and `mode = \
                     \"server\"`."),
        ),
        UnansweredReason::NotForRelays => (StopCause::NotForRelays, format!("Add `relay = true` to \
            {subnet}.")),
        UnansweredReason::SubnetOff => (StopCause::SubnetOff, format!("Set `mode = \"server\"` on \
            {subnet}.")),
        UnansweredReason::NotPxe => (
            StopCause::NotPxe,
            format!(
                "`clients = \"pxe\"` on {subnet} keeps it out: boot it from the network once, \
                 reserve an address for it ([[dhcp.subnet.host]]), or set `clients = \"any\"`."
            ),
        ),
        UnansweredReason::NotReserved => (
            StopCause::NotReserved,
            format!(
                "`clients = \"known\"` on {subnet} keeps it out: reserve an address for it \
                 ([[dhcp.subnet.host]]), or set `clients = \
                 \"pxe\"`."
            ),
        ),
        UnansweredReason::OtherServer => {
            let others = describe_other_server(*other, &subnet) + &known.describe_others_now(about);
            (StopCause::OtherServer, others)
        }
        UnansweredReason::Looking => (
            StopCause::Looking,
            "Wait a few seconds: it asks again by itself. If its firmware has given up, \
             power-cycle it.".to_owned(),
        ),
        UnansweredReason::NoInterface => (
            StopCause::NoInterface,
            format!("Give the interface of {subnet} an address in that subnet (`ip address` \
                     shows what it has), or set it up."),
        ),
        UnansweredReason::UnknownClient => (
            StopCause::UnknownClient,
            format!(
                "Power-cycle it, so that it begins with a DISCOVER. Where no other DHCP \
                 server gives addresses, `authoritative = true` on {subnet} refuses such requests \
                 at once."
            ),
        ),
        UnansweredReason::Bootp => (
            StopCause::Bootp,
            format!("Reserve an address for it: a [[dhcp.subnet.host]] with its hardware address \
                     in {subnet}."),
        ),
        UnansweredReason::DeclinedTooMuch | UnansweredReason::LastDecline => (
            StopCause::DeclinedTooMuch,
            "Find what answers ARP for every address there: a switch or router with proxy ARP. \
             Then `ringboot lease free` with its hardware address gives it addresses at once."
                .to_owned(),
        ),
        UnansweredReason::TooLarge => (
            StopCause::AnswerTooLarge,
            "Shorten what the answer must carry: the path of its boot file in [boot], the lists of \
             routers and servers of its subnet."
                .to_owned(),
        ),
        UnansweredReason::Odd => (
            StopCause::OddMessage,
            "The server cannot answer its message: capture `port 67 or port 68` on its \
             segment to see what it sends."
                .to_owned(),
        ),
    };

    // In these cases the configuration keeps the machine out, whatever it sends.
    let is_admission = matches!(
        why,
        UnansweredReason::NoSubnet
            | UnansweredReason::NoSubnetBehind
            | UnansweredReason::NotForRelays
            | UnansweredReason::SubnetOff
            | UnansweredReason::NotPxe
            | UnansweredReason::NotReserved
    );
    let what =
        if is_admission { "It is not admitted" } else { "Its last message was not answered" };
    make_stop(code, format!("{what}: {}.", extract_clause(entry)), next_step)
}

fn describe_other_server(other: Option<(Ipv4Addr, Mac)>, subnet: &str) -> String {
    let other = other.map_or_else(
        || "the other DHCP server".to_owned(),
        |(address, mac)| format!("the DHCP server {address} ({mac})"),
    );
    format!(
        "Switch {other} off and run `ringboot look --again`, or serve beside it: \
         `allow-other-servers = true` on {subnet}."
    )
}

/// A boot that stopped at a file that the server refused.
fn explain_file_stop(entry: &JournalEntry) -> Option<StopReport> {
    match &entry.kind {
        EventKind::Missing { name, rule: Some(rule) } => make_stop(
            StopCause::MissingNamed,
            format!("{name} is missing; {rule} asks for it."),
            format!("Put the file under the root, or correct {rule} in the configuration."),
        ),
        EventKind::Missing { name, rule: None } => make_stop(
            StopCause::Missing,
            format!(
                "{name} is missing; no line of the configuration names it, so the program that \
                 it loaded before requests it."
            ),
            "Put the file under the root, beside the loader or menu that asks for it.",
        ),
        EventKind::Denied { name, why } => {
            let (code, next_step) = explain_denial(*why);
            make_stop(code, format!("{name} was not served: {}.", extract_clause(entry)), next_step)
        }
        EventKind::TemplateFailed => make_stop(
            StopCause::TemplateFailed,
            format!("A template failed: {}.", extract_clause(entry)),
            "Correct the template; the next request renders it again.",
        ),
        EventKind::WriteRefused => make_stop(
            StopCause::WriteRefused,
            "It tried to write a file, and ringboot accepts no files.",
            "Name another TFTP server in the program that writes: ringboot only sends files.",
        ),
        EventKind::BadRequest => make_stop(
            StopCause::BadRequest,
            format!("It sent a request that cannot be served: {}.", extract_clause(entry)),
            "Look at the program that sends it: firmware and loaders send GET and HEAD by HTTP, \
             and read requests in mode octet or netascii by TFTP.",
        ),
        _ => None,
    }
}

fn explain_denial(why: FileDenial) -> (StopCause, &'static str) {
    match why {
        FileDenial::Unreadable => (
            StopCause::Unreadable,
            "`chmod o+r` the file, and `chmod o+x` the directories above it: the server's user may \
             not read it.",
        ),
        FileDenial::OutsideRoot => (
            StopCause::OutsideRoot,
            "Copy the file into the root, or name the directory to which the link leads in \
             `allow` of [links].",
        ),
        FileDenial::NotAFile => (
            StopCause::NotAFile,
            "Correct the name in the file that requests it: this is a directory or a device.",
        ),
        FileDenial::Hidden => (
            StopCause::Hidden,
            "Give it another name: the server hides what version control, editors and programs \
             with passwords leave behind, such as `.git`, `.env` and `.ks.cfg.swp`.",
        ),
        FileDenial::Private => (
            StopCause::Private,
            "Move it outside the root: the server never serves its own configuration and state.",
        ),
        FileDenial::BadName => (
            StopCause::BadName,
            "Correct the name in the file that requests it: it leads above the root, or has a \
             control character.",
        ),
        FileDenial::TooLarge => (
            StopCause::TooLarge,
            "Make it request the file in mode octet: the file is too large for netascii.",
        ),
    }
}

/// A boot that stopped in the middle of a file.
fn explain_transfer_stop(entry: &JournalEntry) -> Option<StopReport> {
    match &entry.kind {
        EventKind::Stalled { name, block: 1 } => make_stop(
            StopCause::StalledAtFirst,
            format!("{name} stalled at block 1: it acknowledged no block."),
            FIRST_BLOCK,
        ),
        EventKind::Stalled { name, block } => make_stop(
            StopCause::Stalled,
            format!("{name} stalled at block {block}: it fell silent in the middle."),
            LATER_BLOCK,
        ),
        EventKind::ClientAborted { name, code } => make_stop(
            StopCause::Aborted,
            format!("It ended the transfer of {name} by itself, with TFTP error {code}."),
            "The file is too large for its memory, or of a format that it refuses: its screen says \
             which.",
        ),
        EventKind::Changed { name } => make_stop(
            StopCause::Changed,
            format!("{name} was changed in place while the server sent it."),
            "Replace files by rename (`mv new file`), then start the machine again.",
        ),
        EventKind::Forged { name } => make_stop(
            StopCause::Forged,
            format!(
                "The server ended the transfer of {name}: ACKs came from a sender that does not \
                 know its port."
            ),
            "Start the machine again. If it happens again, another host sends datagrams with its \
             address: capture that address to find the sender.",
        ),
        EventKind::TooSlow => make_stop(
            StopCause::TooSlow,
            "The server closed its HTTP connection: it read too slowly.",
            "Look for packet loss on the way, or for a machine that hangs; it may request the file \
             again.",
        ),
        // A lease that was not kept has this kind too, but `explain_dhcp_stop` took it before.
        EventKind::Failed => make_stop(
            StopCause::NotServed,
            format!("The server could not serve it: {}.", extract_clause(entry)),
            "Look at the disk or the file server of the root (`dmesg`, `mount`): the file is \
             there, and reading it fails.",
        ),
        _ => None,
    }
}

/// A boot whose last file was sent completely: explains the step that should have followed.
fn explain_after_file(entry: &JournalEntry, tail: &[JournalEntry]) -> Option<StopReport> {
    let EventKind::Sent { name, .. } = &entry.kind else { return None };
    match entry.stage {
        // A loader tries several menu names, so one miss is no cause. Here nothing came after it.
        _ if tail.iter().any(is_missing_menu) => make_stop(
            StopCause::NoMenu,
            format!("{name} found no menu."),
            "Write a [menu] into the configuration, or put pxelinux.cfg/default or grub.cfg under \
             the root.",
        ),
        MachineStage::Loader => make_stop(
            StopCause::LoaderDoesNotRun,
            format!("{name} was sent completely, and no request followed."),
            "It does not run there: wrong architecture, Secure Boot, or a loader without the files \
             beside it; its screen says which.",
        ),
        MachineStage::Menu => make_stop(
            StopCause::AtMenu,
            "It waits at the menu, or has booted its local disk.",
            "Choose an entry at its console, or set `install-by-default = true` on its subnet.",
        ),
        _ => None,
    }
}

fn is_missing_menu(entry: &JournalEntry) -> bool {
    match &entry.kind {
        EventKind::Missing { name, .. } => parse_menu_name(name.as_bytes()).is_some(),
        _ => false,
    }
}

/// The reason in the sentence of the log: without `TFTP refused` and the like, on one line.
fn extract_clause(entry: &JournalEntry) -> String {
    let text = join_text_lines(&entry.text);
    const STARTS: [&str; 6] = [
        "TFTP refused a request: ",
        "HTTP refused a request: ",
        "TFTP refused ",
        "HTTP refused ",
        "no answer, ",
        "no offer: ",
    ];
    let text = STARTS.iter().find_map(|start| text.strip_prefix(start)).unwrap_or(&text);
    text.trim_end_matches('.').to_owned()
}

/// `PXE firmware on arm64 UEFI, architecture 11`
fn describe_firmware(firmware: Firmware) -> String {
    match firmware.arch {
        Some(Arch::Other(number)) => format!("{}, architecture {number}", firmware.role),
        Some(arch) => format!("{firmware}, architecture {}", arch.number()),
        None => firmware.to_string(),
    }
}
