//! Every cause that `ringboot why` can name: its sentence, as docs/troubleshooting.md has it, and
//! the step that goes with it.

use ringboot::observe::cause::Cause;

const MANUAL: &str = include_str!("../../docs/troubleshooting.md");
/// The tests, in which every cause is named that a machine of theirs is stopped by.
const TESTS: [&str; 3] =
    [include_str!("../why.rs"), include_str!("causes.rs"), include_str!("lab.rs")];

/// A part of the sentence and of the step. A new cause does not compile before it has both.
pub fn words(cause: Cause) -> (&'static str, &'static str) {
    match cause {
        Cause::NeverSeen => ("No DISCOVER of this machine was seen", "PortFast"),
        Cause::NoDhcpHere => (
            "No DHCP is answered here, so a machine is known by its address alone",
            "`ringboot why ADDRESS`",
        ),
        Cause::NothingAskedFor => {
            ("No DHCP is answered here, and no file was asked for from this address", "option 66")
        }
        Cause::NotRequested => ("and never requested it", "port 67 or port 68"),
        Cause::NoLoader => ("There is no loader for", "name it in [boot]"),
        Cause::Refused => ("was refused", "DISCOVER by itself"),
        Cause::RefusedAgain => {
            ("It asks for an address that it may not have, again and again", "a second DHCP server")
        }
        Cause::PoolFull => ("The pool is full", "larger `pools`"),
        Cause::ChoseOther => ("It chose another DHCP server", "`mode = \"off\"`"),
        Cause::NoSubnet => (
            "It is not admitted: no subnet is configured for",
            "its `interface` and `mode = \"server\"`",
        ),
        Cause::NoSubnetBehind => {
            ("this came from beyond a router", "`relay = true` and `mode = \"server\"`")
        }
        Cause::NotForRelays => {
            ("is served on its own link alone", "Add `relay = true` to the [[dhcp.subnet]]")
        }
        Cause::SubnetOff => ("is switched off", "Set `mode = \"server\"` on the [[dhcp.subnet]]"),
        Cause::NotPxe => (
            "the client says nothing of network boot",
            "`clients = \"pxe\"` on the [[dhcp.subnet]]",
        ),
        Cause::NotReserved => {
            ("the client has no reservation", "`clients = \"known\"` on the [[dhcp.subnet]]")
        }
        Cause::OtherServer => ("is silent: the DHCP server", "`ringboot look --again`"),
        Cause::Looking => ("is silent: looking for other DHCP servers", "Wait a few seconds"),
        Cause::NoInterface => ("is silent: its interface is not there", "`ip address`"),
        Cause::UnknownClient => ("nothing is known of this client", "`authoritative = true`"),
        Cause::Bootp => ("BOOTP without a reservation", "[[dhcp.subnet.host]]"),
        Cause::DeclinedTooMuch => ("within an hour", "`ringboot lease free`"),
        Cause::AnswerTooLarge => ("the options that cannot be left out do not fit", "Shorten"),
        Cause::OddMessage => ("the request names no address", "is not one that can be answered"),
        Cause::Declined => ("something else on the network uses that address", "arping"),
        Cause::LeaseNotKept => ("the store could not keep the lease", "`ringboot status`"),
        Cause::NoFileAskedFor => ("was told its loader, and has asked for no file", "UDP port 69"),
        Cause::NoFileDelivered => {
            ("no transfer to it had ended when the server stopped", "Start the server")
        }
        Cause::Loading => ("It is loading", "nothing is wrong so far"),
        Cause::LoadingStill => ("no ACK for", "packet loss"),
        Cause::WaitsForItsTurn => ("waits for its turn", "`[tftp] per-source`"),
        Cause::MissingNamed => ("asks for it", "Put the file under the root, or correct"),
        Cause::Missing => {
            ("is missing; no line of the configuration names it", "beside the loader or menu")
        }
        Cause::Unreadable => ("was not given", "`chmod o+r` the file"),
        Cause::OutsideRoot => ("the name leads outside the root", "Copy the file into the root"),
        Cause::NotAFile => ("a directory", "Name a file"),
        Cause::Hidden => ("the name holds a hidden component", "a name without a dot"),
        Cause::Private => ("ringboot's own configuration and state are never served", "Move it"),
        Cause::BadName => ("the name holds a `..` component", "Correct the name"),
        Cause::TooLarge => ("the file is too large for this kind of request", "mode octet"),
        Cause::TemplateFailed => ("A template failed", "Correct the template"),
        Cause::WriteRefused => ("It wanted to write a file", "only sends files"),
        Cause::BadRequest => ("What it sent is no request for a file", "Look at what sends it"),
        Cause::StalledAtFirst => ("stalled at block 1: it acknowledged nothing", "port-range"),
        Cause::Stalled => ("it fell silent in the middle", "packet loss"),
        Cause::Aborted => ("by itself, with TFTP error", "its screen says which"),
        Cause::Changed => ("was changed in place while it was being sent", "mv new file"),
        Cause::Forged => {
            ("somebody who does not know its port acknowledged it", "Start the machine again")
        }
        Cause::TooSlow => ("Its HTTP connection was cut", "packet loss"),
        Cause::NotServed => ("The server could not serve it", "the file server of the root"),
        Cause::NoMenu => ("found no menu", "Write a [menu]"),
        Cause::LoaderDoesNotRun => {
            ("was sent whole, and nothing was asked for after it", "Secure Boot")
        }
        Cause::AtMenu => {
            ("It stands at the menu, or has booted its local disk", "install-by-default = true")
        }
    }
}

/// The cause is told with its step, and an operator who searches the manual for what he reads finds
/// it.
#[track_caller]
pub fn tells(said: &str, cause: Cause, more: &[&str]) {
    let (sentence, step) = words(cause);
    assert!(MANUAL.contains(sentence), "docs/troubleshooting.md knows nothing of {sentence:?}");
    for words in [sentence, step].iter().chain(more) {
        assert!(said.contains(words), "no {words:?} ({cause:?}) in:\n{said}");
    }
    assert!(!said.contains("docs/"), "a path that only a clone has:\n{said}");
}

#[test]
fn every_cause_that_can_be_told_has_stopped_a_machine_of_a_test() {
    let is_driven = |cause: &Cause| {
        let named = format!("Cause::{cause:?},");
        TESTS.iter().any(|text| text.contains(&named))
    };
    let never: Vec<&Cause> = Cause::ALL.iter().filter(|cause| !is_driven(cause)).collect();
    assert!(never.is_empty(), "no test leads to {never:?}");
}
