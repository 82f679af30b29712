//! A DHCP server with one fault, and what the fleet says of each.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::thread::spawn;

use ringboot_fleet::{FleetReport, Scenario};
use ringboot_observe::events::MachineStage;

use super::{Server, assert_failed, assert_failed_machines, assert_put_up_with, play, run};

const STEP: &str = "{ dhcp = true }";
const FIRMWARE: &str = "[[machine]]\nfirmware = \"bios-pxelinux\"\n";

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    None,
    /// Also what a server does that knows nothing of booting.
    NoBootFile,
    NoRelayInformation,
    Silent,
    SilentAtRequest,
    RefusesRequests,
    /// The first two machines get one address.
    OneAddressTwice,
}

/// Gives addresses from 127.77.16.1 on, by the last octets of hardware addresses.
fn serve(fault: Fault) -> Server {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    spawn(move || {
        let mut packet = [0; 1500];
        while let Ok((octets, from)) = socket.recv_from(&mut packet) {
            if let Some(answer) = answer(fault, &packet[..octets]) {
                socket.send_to(&answer, from).unwrap();
            }
        }
    });
    Server::Dhcp(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}

fn answer(fault: Fault, asked: &[u8]) -> Option<Vec<u8>> {
    const OPTIONS: usize = 240;
    const DISCOVER: u8 = 1;
    const REQUEST: u8 = 3;
    let option = |code: u8| {
        let mut rest = &asked[OPTIONS..];
        while let [found, length, ..] = *rest {
            let (this, others) = rest.split_at_checked(2 + usize::from(length))?;
            if found == code {
                return Some(this.to_vec());
            }
            rest = others;
        }
        None
    };
    let kind = match option(53)?[2] {
        DISCOVER => 2,
        REQUEST if fault == Fault::RefusesRequests => 6,
        REQUEST if fault != Fault::SilentAtRequest => 5,
        _ => return None,
    };
    if fault == Fault::Silent {
        return None;
    }
    let mut answer = asked[..OPTIONS].to_vec();
    answer[0] = 2;
    let number = if fault == Fault::OneAddressTwice { asked[28 + 4].max(1) } else { asked[28 + 4] };
    answer[16..20].copy_from_slice(&[127, 77, 16, 1 + number]);
    answer.extend([53, 1, kind, 54, 4, 127, 0, 0, 1, 51, 4, 0, 0, 14, 16]);
    if fault != Fault::NoRelayInformation {
        answer.extend(option(82).unwrap());
    }
    answer.push(255);
    Some(answer)
}

fn boot(fault: Fault) -> FleetReport {
    play(serve(fault), &Scenario::parse("firmware.toml", FIRMWARE).unwrap())
}

#[test]
fn a_sound_server_has_no_faults() {
    assert_put_up_with(&run(serve(Fault::None), STEP), 0, &[]);
}

#[test]
fn an_answer_without_a_boot_file_is_named() {
    let said = "DHCP: no boot file in the answer";
    assert_failed(&boot(Fault::NoBootFile), MachineStage::Dhcp, said, said);
}

#[test]
fn relay_information_that_does_not_come_back_is_named() {
    let said = "DHCP: option 82 did not come back as it was sent";
    assert_failed(&run(serve(Fault::NoRelayInformation), STEP), MachineStage::Dhcp, said, said);
}

#[test]
fn silence_is_told_with_its_place() {
    let said = "the PXE ROM gives up: no answer to DISCOVER, 4 tries in 60 s";
    assert_failed(&run(serve(Fault::Silent), STEP), MachineStage::Dhcp, said, said);
    let said = "the PXE ROM gives up: an offer, but no answer to REQUEST, 4 tries in 60 s";
    assert_failed(&run(serve(Fault::SilentAtRequest), STEP), MachineStage::Dhcp, said, said);
    let said = "DHCP: offers, but every REQUEST was refused (NAK)";
    assert_failed(&run(serve(Fault::RefusesRequests), STEP), MachineStage::Dhcp, said, said);
}

#[test]
fn one_address_for_two_machines_fails_both() {
    let said = "DHCP: two machines were given one address";
    assert_failed_machines(
        &run(serve(Fault::OneAddressTwice), STEP),
        2,
        MachineStage::Dhcp,
        said,
        said,
    );
}
