//! Every cause that `ringboot why` can name: its sentence, as docs/troubleshooting.md has it, and
//! the step that goes with it.

use ringboot::observe::cause::StopCause;

const MANUAL: &str = include_str!("../../docs/troubleshooting.md");
/// The tests, in which every cause is named that a machine of theirs is stopped by.
const TESTS: [&str; 3] =
    [include_str!("../why.rs"), include_str!("causes.rs"), include_str!("lab.rs")];

/// A part of the sentence and of the step. A new cause does not compile before it has both.
pub(crate) fn words(cause: StopCause) -> (&'static str, &'static str) {
    match cause {
        StopCause::NeverSeen => ("The server has seen no DISCOVER from this machine", "PortFast"),
        StopCause::NoDhcpHere => (
            "This server answers no DHCP, so it knows a machine by its IP address only",
            "`ringboot why ADDRESS`",
        ),
        StopCause::NothingAskedFor => {
            ("This server answers no DHCP, and no file request came from this address", "option 66")
        }
        StopCause::NotRequested => ("and never requested it", "port 67 or port 68"),
        StopCause::NoLoader => ("There is no loader for", "name it in [boot]"),
        StopCause::Refused => ("was refused", "DISCOVER by itself"),
        StopCause::RefusedAgain => {
            ("It keeps requesting an address that it may not have", "a second DHCP server")
        }
        StopCause::PoolFull => ("The pool is full", "larger `pools`"),
        StopCause::ChoseOther => ("It chose another DHCP server", "`mode = \"off\"`"),
        StopCause::NoSubnet => (
            "It is not admitted: no subnet is configured for",
            "its `interface` and `mode = \"server\"`",
        ),
        StopCause::NoSubnetBehind => {
            ("this message came from beyond a router", "`relay = true` and `mode = \"server\"`")
        }
        StopCause::NotForRelays => {
            ("serves only its own link", "Add `relay = true` to the [[dhcp.subnet]]")
        }
        StopCause::SubnetOff => {
            ("is switched off", "Set `mode = \"server\"` on the [[dhcp.subnet]]")
        }
        StopCause::NotPxe => (
            "the client says nothing of network boot",
            "`clients = \"pxe\"` on the [[dhcp.subnet]]",
        ),
        StopCause::NotReserved => {
            ("the client has no reservation", "`clients = \"known\"` on the [[dhcp.subnet]]")
        }
        StopCause::OtherServer => ("is silent: the DHCP server", "`ringboot look --again`"),
        StopCause::Looking => ("is silent: looking for other DHCP servers", "Wait a few seconds"),
        StopCause::NoInterface => ("is silent: its interface is not there", "`ip address`"),
        StopCause::UnknownClient => {
            ("this server has no record of the client", "`authoritative = true`")
        }
        StopCause::Bootp => ("BOOTP without a reservation", "[[dhcp.subnet.host]]"),
        StopCause::DeclinedTooMuch => ("within an hour", "`ringboot lease free`"),
        StopCause::AnswerTooLarge => ("the options that cannot be left out do not fit", "Shorten"),
        StopCause::OddMessage => {
            ("the request names no address", "The server cannot answer its message")
        }
        StopCause::Declined => ("something else on the network uses that address", "arping"),
        StopCause::LeaseNotKept => ("the store could not keep the lease", "`ringboot status`"),
        StopCause::NoFileAskedFor => ("and a boot file name, and requested no file", "UDP port 69"),
        StopCause::NoFileDelivered => {
            ("no transfer to it had ended when the server stopped", "Start the server")
        }
        StopCause::Loading => ("It is loading", "nothing is wrong so far"),
        StopCause::LoadingStill => ("no ACK for", "packet loss"),
        StopCause::WaitsForItsTurn => ("waits for its turn", "`[tftp] per-source`"),
        StopCause::MissingNamed => ("asks for it", "Put the file under the root, or correct"),
        StopCause::Missing => {
            ("is missing; no line of the configuration names it", "beside the loader or menu")
        }
        StopCause::Unreadable => ("was not served", "`chmod o+r` the file"),
        StopCause::OutsideRoot => {
            ("the name leads outside the root", "Copy the file into the root")
        }
        StopCause::NotAFile => ("a directory", "Correct the name"),
        StopCause::Hidden => (
            "ringboot hides files of version control, editors and passwords",
            "Give it another name",
        ),
        StopCause::Private => ("ringboot never serves its own configuration and state", "Move it"),
        StopCause::BadName => ("the name leads above the root with `..`", "Correct the name"),
        StopCause::TooLarge => ("the file is too large for this kind of request", "mode octet"),
        StopCause::TemplateFailed => ("A template failed", "Correct the template"),
        StopCause::WriteRefused => ("It tried to write a file", "only sends files"),
        StopCause::BadRequest => {
            ("It sent a request that cannot be served", "Look at the program that sends it")
        }
        StopCause::StalledAtFirst => ("stalled at block 1: it acknowledged no block", "port-range"),
        StopCause::Stalled => ("it fell silent in the middle", "packet loss"),
        StopCause::Aborted => ("by itself, with TFTP error", "its screen says which"),
        StopCause::Changed => ("was changed in place while the server sent it", "mv new file"),
        StopCause::Forged => {
            ("ACKs came from a sender that does not know its port", "Start the machine again")
        }
        StopCause::TooSlow => ("The server closed its HTTP connection", "packet loss"),
        StopCause::NotServed => ("The server could not serve it", "the file server of the root"),
        StopCause::NoMenu => ("found no menu", "Write a [menu]"),
        StopCause::LoaderDoesNotRun => {
            ("was sent completely, and no request followed", "Secure Boot")
        }
        StopCause::AtMenu => {
            ("It waits at the menu, or has booted its local disk", "install-by-default = true")
        }
    }
}

/// The cause is told with its step, and an operator who searches the manual for what he reads finds
/// it.
#[track_caller]
pub(crate) fn tells(said: &str, cause: StopCause, more: &[&str]) {
    let (sentence, step) = words(cause);
    assert!(MANUAL.contains(sentence), "docs/troubleshooting.md knows nothing of {sentence:?}");
    for words in [sentence, step].iter().chain(more) {
        assert!(said.contains(words), "no {words:?} ({cause:?}) in:\n{said}");
    }
    assert!(!said.contains("docs/"), "a path that only a clone has:\n{said}");
}

#[test]
fn every_cause_that_can_be_told_has_stopped_a_machine_of_a_test() {
    let is_driven = |cause: &StopCause| {
        let named = format!("Cause::{cause:?},");
        TESTS.iter().any(|text| text.contains(&named))
    };
    let never: Vec<&StopCause> = StopCause::ALL.iter().filter(|cause| !is_driven(cause)).collect();
    assert!(never.is_empty(), "no test leads to {never:?}");
}
