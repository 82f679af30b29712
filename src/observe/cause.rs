//! What a boot hangs on: every cause that can be seen from the server, each with its sentence and
//! the one next step for it.

use std::net::Ipv4Addr;

use super::entry::{JournalEntry, join_text_lines};
use super::events::{EventKind, FileDenial, MachineStage, UnansweredReason};
use super::flight::ActiveTransfer;
use super::stop::{FIRST_BLOCK, LATER_BLOCK};
use ringboot_protocol::boot::names::{is_optional_file, parse_menu_name};
use ringboot_protocol::model::machine::{Arch, Firmware, FirmwareRole, Mac};

pub use super::stop::{StopCause, StopReport};

/// Refusals in one boot that make a loop.
const NAK_LOOP_MIN: usize = 2;

/// What is known beside what happened.
#[derive(Debug, Default)]
pub struct CauseContext<'a> {
    /// Transfers to the machine that are under way; None: the server is stopped, and nobody can
    /// say.
    pub flights: Option<Vec<ActiveTransfer>>,
    /// DHCP is answered here.
    pub has_dhcp: bool,
    /// The machine was asked for by its address.
    pub by_address: bool,
    /// Each subnet, and where it is written, `path:line`.
    pub places: &'a [(String, String)],
    /// What is known now of other DHCP servers, as a clause, by subnet.
    pub others: &'a [(String, String)],
}

impl CauseContext<'_> {
    /// `the [[dhcp.subnet]] 192.168.4.0/24 (/etc/ringboot/ringboot.toml:12)`
    fn subnet(&self, about: &str) -> String {
        let place = self.places.iter().find(|(subnet, _)| subnet == about);
        let place = place.map_or_else(String::new, |(_, place)| format!(" ({place})"));
        format!("the [[dhcp.subnet]] {about}{place}")
    }

    fn others_now(&self, about: &str) -> String {
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

/// What the last boot hangs on: looked for from its end. None: nothing.
pub fn judge_boot(boot: &[JournalEntry], known: &CauseContext<'_>) -> Option<StopReport> {
    let began_ms = boot
        .first()
        .filter(|first| first.stage == MachineStage::Dhcp)
        .map_or(0, |first| first.at_ms);
    let flights = known.flights.iter().flatten().filter(|flight| flight.began_ms >= began_ms);
    if let Some(flight) = flights.min_by_key(|flight| flight.quiet_ms) {
        return Some(flight.stop());
    }
    if boot.is_empty() {
        return explain_unseen_machine(known);
    }
    if let Some(stop) = detect_nak_loop(boot) {
        return Some(stop);
    }
    let after_sent = boot
        .iter()
        .rposition(|entry| matches!(entry.kind, EventKind::Sent { .. }))
        .map_or(0, |at| at + 1);
    let tail = &boot[after_sent..];
    let last = (0..boot.len())
        .rev()
        .find(|at| is_decisive_kind(&boot[*at].kind) && !is_lease_repeated(boot, *at))
        .map(|at| &boot[at])?;
    let entry = find_first_missing(tail)
        .filter(|_| matches!(last.kind, EventKind::Missing { .. }))
        .unwrap_or(last);
    explain_dhcp_stop(entry, boot, known)
        .or_else(|| explain_unanswered(entry, known))
        .or_else(|| explain_file_stop(entry))
        .or_else(|| explain_transfer_stop(entry))
        .or_else(|| explain_after_file(entry, tail))
}

/// The loader tries other spellings of a file that it was told of: the name in the configuration is
/// the one to speak of.
fn find_first_missing(tail: &[JournalEntry]) -> Option<&JournalEntry> {
    let named =
        |entry: &&JournalEntry| matches!(&entry.kind, EventKind::Missing { rule: Some(_), .. });
    let any = |entry: &&JournalEntry| {
        matches!(entry.kind, EventKind::Missing { .. }) && is_decisive_kind(&entry.kind)
    };
    tail.iter().find(named).or_else(|| tail.iter().find(any))
}

/// True for what a boot can hang on.
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

/// A program that has loaded files with its lease may ask for the lease once more: that says
/// nothing of where it stands.
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
            "No DISCOVER of this machine was seen.",
            "Check the cable and the switch port (its VLAN, PortFast), the boot order in the \
             firmware, and that ringboot answers on that interface or the relay points here.",
        ),
        (false, false) => make_stop(
            StopCause::NoDhcpHere,
            "No DHCP is answered here, so a machine is known by its address alone.",
            "Ask by the address that its DHCP server gave it: `ringboot why ADDRESS`.",
        ),
        (false, true) => make_stop(
            StopCause::NothingAskedFor,
            "No DHCP is answered here, and no file was asked for from this address.",
            "Look at the DHCP server of its network: `next-server` or option 66 must name this \
             host, and the boot file one under the root. Then look for a firewall before UDP port \
             69 and TCP port 80.",
        ),
    }
}

fn detect_nak_loop(boot: &[JournalEntry]) -> Option<StopReport> {
    let got_one = |entry: &JournalEntry| {
        matches!(entry.kind, EventKind::Leased { .. }) || entry.stage != MachineStage::Dhcp
    };
    let since = boot.iter().rposition(got_one).map_or(0, |at| at + 1);
    let naks: Vec<&JournalEntry> =
        boot[since..].iter().filter(|entry| entry.kind == EventKind::Nak).collect();
    let last = naks.last().filter(|_| naks.len() >= NAK_LOOP_MIN)?;
    let cause = format!(
        "It asks for an address that it may not have, again and again ({} NAKs): {}.",
        naks.len(),
        extract_clause(last)
    );
    let next_step = "Look for a second DHCP server whose offers it takes, for two machines with \
                     one hardware address, or for a reservation that names an address outside of \
                     its subnet.";
    make_stop(StopCause::RefusedAgain, cause, next_step)
}

/// Stopped before any file, with an answer or by its own choice.
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
                "Either the offer does not reach it (VLAN, firewall, relay, PortFast), or it took \
                 another server's: capture `port 67 or port 68` on its segment.",
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
            "It should start again with a DISCOVER by itself; if it does not, switch it off and \
             on.",
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
                "Find the other holder (`arping {address}`), or take the address out of the pool."
            ),
        ),
        EventKind::Failed if entry.stage == MachineStage::Dhcp => make_stop(
            StopCause::LeaseNotKept,
            format!("The server could not serve it: {}.", extract_clause(entry)),
            "`ringboot status` says what the store of leases lacks (the line STORE): room on the \
             disk, its file, a lock that somebody \
             holds.",
        ),
        EventKind::Leased { to, .. } if to.role != FirmwareRole::System => {
            Some(explain_no_request(&address, known))
        }
        _ => None,
    }
}

/// It has its address, and then nothing. A transfer is told of when it ends, so that of a stopped
/// server nobody knows whether one ran.
fn explain_no_request(address: &str, known: &CauseContext<'_>) -> StopReport {
    let (code, cause) = match known.flights {
        Some(_) => (
            StopCause::NoFileAskedFor,
            format!("It holds {address}, was told its loader, and has asked for no file."),
        ),
        None => (
            StopCause::NoFileDelivered,
            format!(
                "It holds {address}, was told its loader, and no transfer to it had ended when the \
                 server stopped."
            ),
        ),
    };
    let next_step = match known.flights {
        Some(_) => {
            "Its requests do not arrive: look for a firewall before UDP port 69 and TCP port 80, \
             and whether `next-server` is an address that it can reach."
        }
        None => {
            "Start the server, and ask again when the machine has tried: a running server knows \
             what is under way."
        }
    };
    StopReport { code, cause, next_step: next_step.to_owned() }
}

/// Left without an answer.
fn explain_unanswered(entry: &JournalEntry, known: &CauseContext<'_>) -> Option<StopReport> {
    let EventKind::Unanswered { why, about, other } = &entry.kind else { return None };
    let subnet = known.subnet(about);
    let (code, next_step) = match why {
        UnansweredReason::NoSubnet => (
            StopCause::NoSubnet,
            format!(
                "Add a [[dhcp.subnet]] with the network of {about}, its `interface` and `mode = \
                 \"server\"`, or correct the `subnet` that is meant for this interface."
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
                 reserve an address for it ([[dhcp.subnet.host]]), or say `clients = \"any\"`."
            ),
        ),
        UnansweredReason::NotReserved => (
            StopCause::NotReserved,
            format!(
                "`clients = \"known\"` on {subnet} keeps it out: reserve an address for it \
                 ([[dhcp.subnet.host]]), or say `clients = \
                 \"pxe\"`."
            ),
        ),
        UnansweredReason::OtherServer => {
            let others = describe_other_server(*other, &subnet) + &known.others_now(about);
            (StopCause::OtherServer, others)
        }
        UnansweredReason::Looking => (
            StopCause::Looking,
            "Wait a few seconds: it asks again by itself. If its firmware has given up, switch it \
             on once more.".to_owned(),
        ),
        UnansweredReason::NoInterface => (
            StopCause::NoInterface,
            format!("Give the interface of {subnet} an address in it (`ip address` shows what it \
                     has), or switch it on."),
        ),
        UnansweredReason::UnknownClient => (
            StopCause::UnknownClient,
            format!(
                "Switch it off and on, so that it begins with a DISCOVER. Where no other DHCP \
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
            "Its message is not one that can be answered: capture `port 67 or port 68` on its \
             segment to see what it sends."
                .to_owned(),
        ),
    };
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
        "Switch {other} off and say `ringboot look --again`, or serve beside it: \
         `allow-other-servers = true` on {subnet}."
    )
}

/// Stopped at a file that it did not get.
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
                "{name} is missing; no line of the configuration names it, so what it loaded \
                 before asks for it."
            ),
            "Put the file under the root, beside the loader or menu that asks for it.",
        ),
        EventKind::Denied { name, why } => {
            let (code, next_step) = explain_denial(*why);
            make_stop(code, format!("{name} was not given: {}.", extract_clause(entry)), next_step)
        }
        EventKind::TemplateFailed => make_stop(
            StopCause::TemplateFailed,
            format!("A template failed: {}.", extract_clause(entry)),
            "Correct the template; the next request renders it anew.",
        ),
        EventKind::WriteRefused => make_stop(
            StopCause::WriteRefused,
            "It wanted to write a file, and ringboot takes none.",
            "Name another TFTP server in what writes: ringboot only sends files.",
        ),
        EventKind::BadRequest => make_stop(
            StopCause::BadRequest,
            format!("What it sent is no request for a file: {}.", extract_clause(entry)),
            "Look at what sends it: firmware and loaders send GET and HEAD, and read requests in \
             mode octet or netascii.",
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
            "Copy the file into the root: a link that leads out of it is not followed.",
        ),
        FileDenial::NotAFile => (
            StopCause::NotAFile,
            "Name a file in what asks for it: this is a directory or a device.",
        ),
        FileDenial::Hidden => (
            StopCause::Hidden,
            "Give it a name without a dot at its beginning: hidden files are not served.",
        ),
        FileDenial::Private => (
            StopCause::Private,
            "Move it: configuration and state of ringboot are served to nobody, so they belong \
             outside of the root.",
        ),
        FileDenial::BadName => (
            StopCause::BadName,
            "Correct the name in what asks for it: `..` and control characters lead to no file.",
        ),
        FileDenial::TooLarge => (
            StopCause::TooLarge,
            "Have it ask in mode octet: so large a file is not translated to netascii.",
        ),
    }
}

/// Stopped in the middle of a file.
fn explain_transfer_stop(entry: &JournalEntry) -> Option<StopReport> {
    match &entry.kind {
        EventKind::Stalled { name, block: 1 } => make_stop(
            StopCause::StalledAtFirst,
            format!("{name} stalled at block 1: it acknowledged nothing that was sent."),
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
            "The file is too large for its memory, or of a kind that it refuses: its screen says \
             which.",
        ),
        EventKind::Changed { name } => make_stop(
            StopCause::Changed,
            format!("{name} was changed in place while it was being sent."),
            "Replace files by rename (`mv new file`), then start the machine again.",
        ),
        EventKind::Forged { name } => make_stop(
            StopCause::Forged,
            format!(
                "The transfer of {name} was ended: somebody who does not know its port \
                 acknowledged it."
            ),
            "Start the machine again. If it happens again, somebody sends datagrams in its name: \
             look for the sender with a capture of its address.",
        ),
        EventKind::TooSlow => make_stop(
            StopCause::TooSlow,
            "Its HTTP connection was cut because it took too little in too much time.",
            "Look for packet loss on the way: a machine that hangs gives its connection back after \
             a while, and may ask again.",
        ),
        EventKind::Failed => make_stop(
            StopCause::NotServed,
            format!("The server could not serve it: {}.", extract_clause(entry)),
            "Look at the disk or the file server of the root (`dmesg`, `mount`): the file is \
             there, and reading it fails.",
        ),
        _ => None,
    }
}

/// The last file came whole: what should have come next?
fn explain_after_file(entry: &JournalEntry, tail: &[JournalEntry]) -> Option<StopReport> {
    let EventKind::Sent { name, .. } = &entry.kind else { return None };
    let is_menu = |entry: &JournalEntry| match &entry.kind {
        EventKind::Missing { name, .. } => parse_menu_name(name.as_bytes()).is_some(),
        _ => false,
    };
    match entry.stage {
        _ if tail.iter().any(is_menu) => make_stop(
            StopCause::NoMenu,
            format!("{name} found no menu."),
            "Write a [menu] into the configuration, or put pxelinux.cfg/default or grub.cfg under \
             the root.",
        ),
        MachineStage::Loader => make_stop(
            StopCause::LoaderDoesNotRun,
            format!("{name} was sent whole, and nothing was asked for after it."),
            "It does not run there: wrong architecture, Secure Boot, or a loader without the files \
             beside it; its screen says which.",
        ),
        MachineStage::Menu => make_stop(
            StopCause::AtMenu,
            "It stands at the menu, or has booted its local disk.",
            "Choose an entry at its console, or set `install-by-default = true` on its subnet.",
        ),
        _ => None,
    }
}

/// The part of the log's sentence that says why: without `TFTP refused` and the like, on one line.
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
