//! What a boot hangs on: every cause that can be seen from the server, each with its sentence and
//! the one next step for it.

use std::net::Ipv4Addr;

use super::entry::{Entry, one_line};
use super::events::{Denial, Kind, Stage, Why};
use super::flight::Flight;
use super::stop::{FIRST_BLOCK, LATER_BLOCK};
use ringboot_protocol::boot::names::{is_optional, menu_name};
use ringboot_protocol::model::machine::{Arch, Firmware, Mac, Role};

pub use super::stop::{Cause, Stop};

/// Refusals in one boot that make a loop.
const NAK_LOOP_MIN: usize = 2;

/// What is known beside what happened.
#[derive(Debug, Default)]
pub struct Known<'a> {
    /// Transfers to the machine that are under way; None: the server is stopped, and nobody can
    /// say.
    pub flights: Option<Vec<Flight>>,
    /// DHCP is answered here.
    pub has_dhcp: bool,
    /// The machine was asked for by its address.
    pub by_address: bool,
    /// Each subnet, and where it is written, `path:line`.
    pub places: &'a [(String, String)],
    /// What is known now of other DHCP servers, as a clause, by subnet.
    pub others: &'a [(String, String)],
}

impl Known<'_> {
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

fn stop(code: Cause, cause: impl Into<String>, next_step: impl Into<String>) -> Option<Stop> {
    Some(Stop { code, cause: cause.into(), next_step: next_step.into() })
}

/// What the last boot hangs on: looked for from its end. None: nothing.
pub fn judge(boot: &[Entry], known: &Known<'_>) -> Option<Stop> {
    let began_ms =
        boot.first().filter(|first| first.stage == Stage::Dhcp).map_or(0, |first| first.at_ms);
    let flights = known.flights.iter().flatten().filter(|flight| flight.began_ms >= began_ms);
    if let Some(flight) = flights.min_by_key(|flight| flight.quiet_ms) {
        return Some(flight.stop());
    }
    if boot.is_empty() {
        return never_heard_of(known);
    }
    if let Some(stop) = nak_loop(boot) {
        return Some(stop);
    }
    let after_sent = boot
        .iter()
        .rposition(|entry| matches!(entry.kind, Kind::Sent { .. }))
        .map_or(0, |at| at + 1);
    let tail = &boot[after_sent..];
    let last = (0..boot.len())
        .rev()
        .find(|at| decides(&boot[*at].kind) && !leased_again(boot, *at))
        .map(|at| &boot[at])?;
    let entry =
        first_missing(tail).filter(|_| matches!(last.kind, Kind::Missing { .. })).unwrap_or(last);
    in_dhcp(entry, boot, known)
        .or_else(|| unanswered(entry, known))
        .or_else(|| at_a_file(entry))
        .or_else(|| in_a_transfer(entry))
        .or_else(|| after_a_file(entry, tail))
}

/// The loader tries other spellings of a file that it was told of: the name in the configuration is
/// the one to speak of.
fn first_missing(tail: &[Entry]) -> Option<&Entry> {
    let named = |entry: &&Entry| matches!(&entry.kind, Kind::Missing { rule: Some(_), .. });
    let any = |entry: &&Entry| matches!(entry.kind, Kind::Missing { .. }) && decides(&entry.kind);
    tail.iter().find(named).or_else(|| tail.iter().find(any))
}

/// True for what a boot can hang on.
fn decides(kind: &Kind) -> bool {
    match kind {
        Kind::Missing { name, rule } => rule.is_some() || !is_optional(name),
        Kind::SizeProbe
        | Kind::Renewed
        | Kind::Released
        | Kind::Conflict
        | Kind::Short
        | Kind::Other => false,
        Kind::PoolFills | Kind::PoolHasRoom => false,
        _ => true,
    }
}

/// A program that has loaded files with its lease may ask for the lease once more: that says
/// nothing of where it stands.
fn leased_again(boot: &[Entry], at: usize) -> bool {
    let kind = &boot[at].kind;
    let before = boot[..at].iter().position(|entry| entry.kind == *kind);
    matches!(kind, Kind::Leased { .. })
        && before
            .is_some_and(|before| boot[before..at].iter().any(|entry| entry.stage != Stage::Dhcp))
}

fn never_heard_of(known: &Known<'_>) -> Option<Stop> {
    match (known.has_dhcp, known.by_address) {
        (true, _) => stop(
            Cause::NeverSeen,
            "No DISCOVER of this machine was seen.",
            "Check the cable and the switch port (its VLAN, PortFast), the boot order in the \
             firmware, and that ringboot answers on that interface or the relay points here.",
        ),
        (false, false) => stop(
            Cause::NoDhcpHere,
            "No DHCP is answered here, so a machine is known by its address alone.",
            "Ask by the address that its DHCP server gave it: `ringboot why ADDRESS`.",
        ),
        (false, true) => stop(
            Cause::NothingAskedFor,
            "No DHCP is answered here, and no file was asked for from this address.",
            "Look at the DHCP server of its network: `next-server` or option 66 must name this \
             host, and the boot file one under the root. Then look for a firewall before UDP port \
             69 and TCP port 80.",
        ),
    }
}

fn nak_loop(boot: &[Entry]) -> Option<Stop> {
    let got_one =
        |entry: &Entry| matches!(entry.kind, Kind::Leased { .. }) || entry.stage != Stage::Dhcp;
    let since = boot.iter().rposition(got_one).map_or(0, |at| at + 1);
    let naks: Vec<&Entry> = boot[since..].iter().filter(|entry| entry.kind == Kind::Nak).collect();
    let last = naks.last().filter(|_| naks.len() >= NAK_LOOP_MIN)?;
    let cause = format!(
        "It asks for an address that it may not have, again and again ({} NAKs): {}.",
        naks.len(),
        clause(last)
    );
    let next_step = "Look for a second DHCP server whose offers it takes, for two machines with \
                     one hardware address, or for a reservation that names an address outside of \
                     its subnet.";
    stop(Cause::RefusedAgain, cause, next_step)
}

/// Stopped before any file, with an answer or by its own choice.
fn in_dhcp(entry: &Entry, boot: &[Entry], known: &Known<'_>) -> Option<Stop> {
    let address = entry
        .address
        .map_or_else(|| "an address".to_owned(), |address| address.to_canonical().to_string());
    match &entry.kind {
        Kind::Offered { .. } => {
            let offers =
                boot.iter().filter(|entry| matches!(entry.kind, Kind::Offered { .. })).count();
            stop(
                Cause::NotRequested,
                format!("It was offered {address} ({offers} x) and never requested it."),
                "Either the offer does not reach it (VLAN, firewall, relay, PortFast), or it took \
                 another server's: capture `port 67 or port 68` on its segment.",
            )
        }
        Kind::NoLoader { to, why } => stop(
            Cause::NoLoader,
            format!("There is no loader for {}: {why}.", wanted(*to)),
            "Put a loader for it under the root and name it in [boot] of the configuration: \
             `ringboot loader list` shows what is there.",
        ),
        Kind::Nak => stop(
            Cause::Refused,
            format!("Its request for {address} was refused: {}.", clause(entry)),
            "It should start again with a DISCOVER by itself; if it does not, switch it off and \
             on.",
        ),
        Kind::NoAddressFree => stop(
            Cause::PoolFull,
            format!("The pool is full: {}.", clause(entry)),
            "Give the subnet a larger `pools`, shorten `default-lease-time`, or reserve an address \
             for this machine.",
        ),
        Kind::OtherServer { server } => stop(
            Cause::ChoseOther,
            format!("It chose another DHCP server, {server}."),
            format!(
                "Switch {server} off, or leave its network to it: `mode = \"off\"` on the subnet \
                 here."
            ),
        ),
        Kind::Declined => stop(
            Cause::Declined,
            format!("It declined {address}: something else on the network uses that address."),
            format!(
                "Find the other holder (`arping {address}`), or take the address out of the pool."
            ),
        ),
        Kind::Failed if entry.stage == Stage::Dhcp => stop(
            Cause::LeaseNotKept,
            format!("The server could not serve it: {}.", clause(entry)),
            "`ringboot status` says what the store of leases lacks (the line STORE): room on the \
             disk, its file, a lock that somebody \
             holds.",
        ),
        Kind::Leased { to, .. } if to.role != Role::System => Some(no_file(&address, known)),
        _ => None,
    }
}

/// It has its address, and then nothing. A transfer is told of when it ends, so that of a stopped
/// server nobody knows whether one ran.
fn no_file(address: &str, known: &Known<'_>) -> Stop {
    let (code, cause) = match known.flights {
        Some(_) => (
            Cause::NoFileAskedFor,
            format!("It holds {address}, was told its loader, and has asked for no file."),
        ),
        None => (
            Cause::NoFileDelivered,
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
    Stop { code, cause, next_step: next_step.to_owned() }
}

/// Left without an answer.
fn unanswered(entry: &Entry, known: &Known<'_>) -> Option<Stop> {
    let Kind::Unanswered { why, about, other } = &entry.kind else { return None };
    let subnet = known.subnet(about);
    let (code, next_step) = match why {
        Why::NoSubnet => (
            Cause::NoSubnet,
            format!(
                "Add a [[dhcp.subnet]] with the network of {about}, its `interface` and `mode = \
                 \"server\"`, or correct the `subnet` that is meant for this interface."
            ),
        ),
        Why::NoSubnetBehind => (
            Cause::NoSubnetBehind,
            format!("Add a [[dhcp.subnet]] with the network of {about}, `relay = true` and `mode = \
                     \"server\"`."),
        ),
        Why::NotForRelays => (Cause::NotForRelays, format!("Add `relay = true` to {subnet}.")),
        Why::SubnetOff => (Cause::SubnetOff, format!("Set `mode = \"server\"` on {subnet}.")),
        Why::NotPxe => (
            Cause::NotPxe,
            format!(
                "`clients = \"pxe\"` on {subnet} keeps it out: boot it from the network once, \
                 reserve an address for it ([[dhcp.subnet.host]]), or say `clients = \"any\"`."
            ),
        ),
        Why::NotReserved => (
            Cause::NotReserved,
            format!(
                "`clients = \"known\"` on {subnet} keeps it out: reserve an address for it \
                 ([[dhcp.subnet.host]]), or say `clients = \
                 \"pxe\"`."
            ),
        ),
        Why::OtherServer => {
            (Cause::OtherServer, beside(*other, &subnet) + &known.others_now(about))
        }
        Why::Looking => (
            Cause::Looking,
            "Wait a few seconds: it asks again by itself. If its firmware has given up, switch it \
             on once more.".to_owned(),
        ),
        Why::NoInterface => (
            Cause::NoInterface,
            format!("Give the interface of {subnet} an address in it (`ip address` shows what it \
                     has), or switch it on."),
        ),
        Why::UnknownClient => (
            Cause::UnknownClient,
            format!(
                "Switch it off and on, so that it begins with a DISCOVER. Where no other DHCP \
                 server gives addresses, `authoritative = true` on {subnet} refuses such requests \
                 at once."
            ),
        ),
        Why::Bootp => (
            Cause::Bootp,
            format!("Reserve an address for it: a [[dhcp.subnet.host]] with its hardware address \
                     in {subnet}."),
        ),
        Why::DeclinedTooMuch | Why::LastDecline => (
            Cause::DeclinedTooMuch,
            "Find what answers ARP for every address there: a switch or router with proxy ARP. \
             Then `ringboot lease free` with its hardware address gives it addresses at once."
                .to_owned(),
        ),
        Why::TooLarge => (
            Cause::AnswerTooLarge,
            "Shorten what the answer must carry: the path of its boot file in [boot], the lists of \
             routers and servers of its subnet."
                .to_owned(),
        ),
        Why::Odd => (
            Cause::OddMessage,
            "Its message is not one that can be answered: capture `port 67 or port 68` on its \
             segment to see what it sends."
                .to_owned(),
        ),
    };
    let is_admission = matches!(
        why,
        Why::NoSubnet
            | Why::NoSubnetBehind
            | Why::NotForRelays
            | Why::SubnetOff
            | Why::NotPxe
            | Why::NotReserved
    );
    let what =
        if is_admission { "It is not admitted" } else { "Its last message was not answered" };
    stop(code, format!("{what}: {}.", clause(entry)), next_step)
}

fn beside(other: Option<(Ipv4Addr, Mac)>, subnet: &str) -> String {
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
fn at_a_file(entry: &Entry) -> Option<Stop> {
    match &entry.kind {
        Kind::Missing { name, rule: Some(rule) } => stop(
            Cause::MissingNamed,
            format!("{name} is missing; {rule} asks for it."),
            format!("Put the file under the root, or correct {rule} in the configuration."),
        ),
        Kind::Missing { name, rule: None } => stop(
            Cause::Missing,
            format!(
                "{name} is missing; no line of the configuration names it, so what it loaded \
                 before asks for it."
            ),
            "Put the file under the root, beside the loader or menu that asks for it.",
        ),
        Kind::Denied { name, why } => {
            let (code, next_step) = denied(*why);
            stop(code, format!("{name} was not given: {}.", clause(entry)), next_step)
        }
        Kind::TemplateFailed => stop(
            Cause::TemplateFailed,
            format!("A template failed: {}.", clause(entry)),
            "Correct the template; the next request renders it anew.",
        ),
        Kind::WriteRefused => stop(
            Cause::WriteRefused,
            "It wanted to write a file, and ringboot takes none.",
            "Name another TFTP server in what writes: ringboot only sends files.",
        ),
        Kind::BadRequest => stop(
            Cause::BadRequest,
            format!("What it sent is no request for a file: {}.", clause(entry)),
            "Look at what sends it: firmware and loaders send GET and HEAD, and read requests in \
             mode octet or netascii.",
        ),
        _ => None,
    }
}

fn denied(why: Denial) -> (Cause, &'static str) {
    match why {
        Denial::Unreadable => (
            Cause::Unreadable,
            "`chmod o+r` the file, and `chmod o+x` the directories above it: the server's user may \
             not read it.",
        ),
        Denial::OutsideRoot => (
            Cause::OutsideRoot,
            "Copy the file into the root: a link that leads out of it is not followed.",
        ),
        Denial::NotAFile => {
            (Cause::NotAFile, "Name a file in what asks for it: this is a directory or a device.")
        }
        Denial::Hidden => (
            Cause::Hidden,
            "Give it a name without a dot at its beginning: hidden files are not served.",
        ),
        Denial::Private => (
            Cause::Private,
            "Move it: configuration and state of ringboot are served to nobody, so they belong \
             outside of the root.",
        ),
        Denial::BadName => (
            Cause::BadName,
            "Correct the name in what asks for it: `..` and control characters lead to no file.",
        ),
        Denial::TooLarge => (
            Cause::TooLarge,
            "Have it ask in mode octet: so large a file is not translated to netascii.",
        ),
    }
}

/// Stopped in the middle of a file.
fn in_a_transfer(entry: &Entry) -> Option<Stop> {
    match &entry.kind {
        Kind::Stalled { name, block: 1 } => stop(
            Cause::StalledAtFirst,
            format!("{name} stalled at block 1: it acknowledged nothing that was sent."),
            FIRST_BLOCK,
        ),
        Kind::Stalled { name, block } => stop(
            Cause::Stalled,
            format!("{name} stalled at block {block}: it fell silent in the middle."),
            LATER_BLOCK,
        ),
        Kind::ClientAborted { name, code } => stop(
            Cause::Aborted,
            format!("It ended the transfer of {name} by itself, with TFTP error {code}."),
            "The file is too large for its memory, or of a kind that it refuses: its screen says \
             which.",
        ),
        Kind::Changed { name } => stop(
            Cause::Changed,
            format!("{name} was changed in place while it was being sent."),
            "Replace files by rename (`mv new file`), then start the machine again.",
        ),
        Kind::Forged { name } => stop(
            Cause::Forged,
            format!(
                "The transfer of {name} was ended: somebody who does not know its port \
                 acknowledged it."
            ),
            "Start the machine again. If it happens again, somebody sends datagrams in its name: \
             look for the sender with a capture of its address.",
        ),
        Kind::TooSlow => stop(
            Cause::TooSlow,
            "Its HTTP connection was cut because it took too little in too much time.",
            "Look for packet loss on the way: a machine that hangs gives its connection back after \
             a while, and may ask again.",
        ),
        Kind::Failed => stop(
            Cause::NotServed,
            format!("The server could not serve it: {}.", clause(entry)),
            "Look at the disk or the file server of the root (`dmesg`, `mount`): the file is \
             there, and reading it fails.",
        ),
        _ => None,
    }
}

/// The last file came whole: what should have come next?
fn after_a_file(entry: &Entry, tail: &[Entry]) -> Option<Stop> {
    let Kind::Sent { name, .. } = &entry.kind else { return None };
    let is_menu = |entry: &Entry| match &entry.kind {
        Kind::Missing { name, .. } => menu_name(name.as_bytes()).is_some(),
        _ => false,
    };
    match entry.stage {
        _ if tail.iter().any(is_menu) => stop(
            Cause::NoMenu,
            format!("{name} found no menu."),
            "Write a [menu] into the configuration, or put pxelinux.cfg/default or grub.cfg under \
             the root.",
        ),
        Stage::Loader => stop(
            Cause::LoaderDoesNotRun,
            format!("{name} was sent whole, and nothing was asked for after it."),
            "It does not run there: wrong architecture, Secure Boot, or a loader without the files \
             beside it; its screen says which.",
        ),
        Stage::Menu => stop(
            Cause::AtMenu,
            "It stands at the menu, or has booted its local disk.",
            "Choose an entry at its console, or set `install-by-default = true` on its subnet.",
        ),
        _ => None,
    }
}

/// The part of the log's sentence that says why: without `TFTP refused` and the like, on one line.
fn clause(entry: &Entry) -> String {
    let text = one_line(&entry.text);
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
fn wanted(firmware: Firmware) -> String {
    match firmware.arch {
        Some(Arch::Other(number)) => format!("{}, architecture {number}", firmware.role),
        Some(arch) => format!("{firmware}, architecture {}", arch.number()),
        None => firmware.to_string(),
    }
}
