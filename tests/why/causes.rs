//! Causes that take a configuration of their own, each driven on a server that many of them share.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::symlink;

use ringboot::observe::cause::StopCause;

use super::expected::tells;
use super::{
    BOOTP, DECLINE, LIMIT, MAC, Message, OFFER, OURS, REQUEST, World, go_on, holds, until,
};

/// The world with more in its configuration, which ends in the table of its subnet.
fn world(name: &str, more: &str) -> World {
    let world = World::new(name);
    edit(&world, |text| text + more);
    world
}

fn edit(world: &World, change: impl FnOnce(String) -> String) {
    let file = world.path("ringboot.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, change(text)).unwrap();
}

/// What is said of one of many machines, as soon as it has these words.
fn said_of(world: &World, machine: u8, words: &str) -> String {
    until(words, || world.ask(&format!("02:00:00:00:01:{machine:02x}"), &[]).stdout)
}

fn machine(number: u8) -> [u8; 6] {
    [2, 0, 0, 0, 1, number]
}

fn subnet(second: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, second, 0, 0)
}

#[test]
fn messages_that_are_left_without_an_answer_are_told_with_the_line_that_keeps_their_machine_out() {
    let table = |second: u8, keys: &str| {
        format!(
            "[[dhcp.subnet]]\nsubnet = \"127.{second}.0.0/16\"\npools = \
             [\"127.{second}.1.1-127.{second}.1.20\"]\n{keys}\n"
        )
    };
    let more = [
        table(78, "interface = \"nosuch0\"\nmode = \"server\""),
        table(79, "relay = true\nmode = \"off\""),
        table(80, "relay = true\nmode = \"server\"\nclients = \"pxe\""),
        table(81, "relay = true\nmode = \"server\"\nclients = \"known\""),
        table(82, "relay = true\nmode = \"server\"\nclients = \"any\""),
    ]
    .concat();
    let world = world("why-unanswered", &more);
    edit(&world, |text| {
        text.replace("[boot]\n", &format!("[boot]\nuefi-http = \"efi/{}.efi\"\n", "b".repeat(118)))
    });
    let server = world.start();
    let of = |number: u8, second: u8| Message {
        mac: machine(number),
        subnet: subnet(second),
        ..Message::default()
    };

    server.say(&Message { is_relayed: false, ..of(1, 78) });
    tells(
        &said_of(&world, 1, "not admitted"),
        StopCause::NoSubnet,
        &["no subnet is configured for 127.0.0.1"],
    );
    server.say(&of(2, 78));
    tells(
        &said_of(&world, 2, "not admitted"),
        StopCause::NotForRelays,
        &["127.78.0.0/16 (", "ringboot.toml:"],
    );
    server.say(&of(3, 79));
    tells(
        &said_of(&world, 3, "not admitted"),
        StopCause::SubnetOff,
        &["127.79.0.0/16 (", "ringboot.toml:"],
    );
    server.say(&Message { class: None, ..of(4, 80) });
    tells(
        &said_of(&world, 4, "not admitted"),
        StopCause::NotPxe,
        &["127.80.0.0/16 (", "ringboot.toml:"],
    );
    server.say(&of(5, 81));
    tells(
        &said_of(&world, 5, "not admitted"),
        StopCause::NotReserved,
        &["127.81.0.0/16 (", "ringboot.toml:"],
    );
    server.say(&Message { kind: BOOTP, ..of(6, 82) });
    tells(&said_of(&world, 6, "not answered"), StopCause::Bootp, &["127.82.0.0/16 ("]);
    server.say(&Message { kind: REQUEST, chosen: Some(OURS), ..of(7, 82) });
    tells(&said_of(&world, 7, "not answered"), StopCause::OddMessage, &["capture"]);
    server.say(&Message { class: Some(b"HTTPClient"), arch: 16, identifier: 250, ..of(8, 82) });
    tells(&said_of(&world, 8, "not answered"), StopCause::AnswerTooLarge, &["boot file"]);
    let odd = of(9, 82);
    // A DISCOVER may overtake a DECLINE where the server has a queue: it is offered the same
    // address, and asks again.
    let mut declined = BTreeSet::new();
    while declined.len() < 4 {
        server.say(&odd);
        let (kind, address) = server.hear();
        assert_eq!(kind, OFFER);
        if declined.insert(address) {
            server.say(&Message {
                kind: DECLINE,
                requested: Some(address),
                chosen: Some(OURS),
                ..odd
            });
        }
    }
    // The server tells of a DECLINE when it is durable, which may be after it has told of a later
    // DISCOVER. So the test asks again until the machine's last event is an unanswered DISCOVER.
    let said = until("was not answered: the client declined 4 addresses", || {
        server.say(&odd);
        world.ask("02:00:00:00:01:09", &[]).stdout
    });
    tells(&said, StopCause::DeclinedTooMuch, &["4 addresses"]);
    server.stop();
}

#[test]
fn names_that_are_not_given_are_told_with_what_would_make_them_be() {
    let world = World::new("why-names");
    edit(&world, |text| text.replace("state = \"state\"", "state = \"root/state\""));
    std::fs::write(world.path("outside"), "x").unwrap();
    symlink(world.path("outside"), world.path("root/link")).unwrap();
    std::fs::File::create(world.path("root/large")).unwrap().set_len(17 << 20).unwrap();
    let server = world.start();
    let machine = server.lease(MAC, super::UEFI_X64);
    server.load(machine);
    let refused = |name: &str, mode: &str, words: &str| {
        let client = UdpSocket::bind((machine, 0)).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        client
            .send_to(
                &[b"\0\x01", name.as_bytes(), b"\0", mode.as_bytes(), b"\0"].concat(),
                server.tftp,
            )
            .unwrap();
        let mut bytes = [0; 600];
        let len = client.recv(&mut bytes).unwrap();
        assert_eq!(bytes[..2], [0, 5], "{name}: {:?}", &bytes[..len]);
        world.why_until(words)
    };
    tells(
        &refused("link", "octet", "leads outside"),
        StopCause::OutsideRoot,
        &["link was not served"],
    );
    tells(
        &refused("debian", "octet", "a directory"),
        StopCause::NotAFile,
        &["debian was not served"],
    );
    tells(&refused(".env", "octet", "ringboot hides"), StopCause::Hidden, &[".env was not served"]);
    tells(
        &refused("state/history.db", "octet", "configuration and state"),
        StopCause::Private,
        &["history.db was not served"],
    );
    tells(
        &refused("../outside", "octet", "above the root"),
        StopCause::BadName,
        &["was not served"],
    );
    tells(
        &refused("large", "netascii", "too large for"),
        StopCause::TooLarge,
        &["large was not served"],
    );
    tells(&refused("x", "mail", "a request that cannot be served"), StopCause::BadRequest, &[]);
    let client = UdpSocket::bind((machine, 0)).unwrap();
    client.send_to(b"\0\x02config\0octet\0", server.tftp).unwrap();
    tells(&world.why_until("tried to write"), StopCause::WriteRefused, &[]);
    let mut answer = String::new();
    let mut posted = std::net::TcpStream::connect(server.http).unwrap();
    posted.write_all(b"POST /x HTTP/1.0\r\n\r\n").unwrap();
    posted.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 405 "), "{answer}");
    server
        .process
        .stderr
        .wait_line("HTTP refused a request: only GET and HEAD are served: /x", LIMIT);
    server.stop();
}

#[test]
fn a_file_that_cannot_be_read_is_the_servers_fault() {
    let world = World::new("why-unread");
    // What the kernel tells of the loopback interface: the file of its speed is there and gives an
    // error.
    edit(&world, |text| text.replace("root = \"root\"", "root = \"/sys/devices/virtual/net/lo\""));
    let server = world.start();
    let machine = server.lease(MAC, super::UEFI_X64);
    assert_eq!(server.read(machine, "speed").1[..2], [0, 5]);
    tells(&world.why_until("could not serve it"), StopCause::NotServed, &["speed"]);
    server.stop();
}

#[test]
fn a_transfer_under_way_is_told_with_how_far_it_is_and_never_taken_for_none() {
    let world = World::new("why-loading");
    let image = std::fs::File::create(world.path("root/big.img")).unwrap();
    image.set_len(64 << 20).unwrap();
    let server = world.start();
    let machine = server.lease(MAC, super::UEFI_X64);
    let (client, first, tid) = server.read(machine, "shimx64.efi");
    assert_eq!(first[..4], [0, 3, 0, 1]);
    for block in [1, 2] {
        client.send_to(&[0, 4, 0, block], tid).unwrap();
        let mut bytes = [0; 600];
        client.recv(&mut bytes).unwrap();
        assert_eq!(bytes[..4], [0, 3, 0, block + 1]);
    }
    let said = world.why();
    tells(&said, StopCause::Loading, &["It is loading shimx64.efi by TFTP, block 3 of 6"]);
    assert!(!said.contains("requested no file"), "{said}");
    tells(&world.why_until("packet loss"), StopCause::LoadingStill, &["block 3 of 6, no ACK for"]);
    assert!(
        world.ask("52:54:00:12:34:10", &["--json"]).stdout.contains("\"code\": \"loading-still\"")
    );
    let mut bytes = [0; 600];
    client.set_nonblocking(true).unwrap();
    while client.recv(&mut bytes).is_ok() {}
    client.set_nonblocking(false).unwrap();
    client.send_to(&[0, 4, 0, 3], tid).unwrap();
    let len = client.recv(&mut bytes).unwrap();
    let last = go_on(&client, bytes[..len].to_vec(), tid);
    client.send_to(&[0, 4, last[2], last[3]], tid).unwrap();
    holds(&world.why_until("sent completely"), &["shimx64.efi sent by TFTP"]);
    let connection = server.get(machine, "/big.img");
    let said = world.why_until("is loading big.img by HTTP");
    tells(&said, StopCause::Loading, &["of 67108864 bytes"]);
    drop(connection);
    server.stop();
}

#[test]
fn of_a_stopped_server_nobody_claims_that_no_file_was_asked_for() {
    let world = World::new("why-stopped");
    let server = world.start();
    let machine = server.lease(MAC, super::UEFI_X64);
    let (client, _, tid) = server.read(machine, "shimx64.efi");
    client.send_to(&[0, 4, 0, 1], tid).unwrap();
    world.why_until("is loading shimx64.efi");
    world.kept_until("no transfer to it had ended");
    client.send_to(b"\0\x05\0\0bye\0", tid).unwrap();
    server.stop();
    let world = World::new("why-leased");
    let server = world.start();
    server.lease(MAC, super::UEFI_X64);
    server.stop();
    tells(&world.why(), StopCause::NoFileDelivered, &["It has the lease of 127.77.1."]);
}

#[test]
fn a_transfer_that_somebody_else_acknowledges_is_told_as_forged() {
    let world = World::new("why-forged");
    let server = world.start();
    let machine = server.lease(MAC, super::UEFI_X64);
    let (client, _, tid) = server.read(machine, "shimx64.efi");
    let others =
        (0..100).map(|_| server.read(OURS, "shimx64.efi")).find(|(_, _, other)| *other != tid);
    let (_other, _, elsewhere) = others.expect("another port of transfers");
    client.send_to(&[0, 4, 0, 1], elsewhere).unwrap();
    tells(
        &world.why_until("ended the transfer"),
        StopCause::Forged,
        &["The server ended the transfer of shimx64.efi"],
    );
    server.stop();
}

/// Files alone, without DHCP: who fetches them is known by the address.
#[test]
fn without_dhcp_a_machine_is_known_by_its_address() {
    let world = World::new("why-files");
    edit(&world, |text| text[..text.find("[dhcp]").unwrap()].to_owned());
    let server = world.start();
    let nobody = world.ask("10.0.0.9", &[]);
    assert_eq!(nobody.status.code(), Some(1));
    tells(&nobody.stdout, StopCause::NothingAskedFor, &["10.0.0.9\n", "next-server"]);
    tells(&world.ask("52:54:00:12:34:10", &[]).stdout, StopCause::NoDhcpHere, &[]);
    let address = Ipv4Addr::new(127, 0, 0, 9);
    let of_it = |words: &str| until(words, || world.ask("127.0.0.9", &[]).stdout);
    server.load(address);
    holds(&of_it("sent completely"), &["127.0.0.9", "shimx64.efi sent by TFTP"]);
    assert_eq!(server.read(address, "grubx64.efi").1[..4], [0, 5, 0, 1]);
    holds(&of_it("is missing"), &["grubx64.efi is missing"]);
    let (_client, first, _) = server.read(address, "shimx64.efi");
    assert_eq!(first[..4], [0, 3, 0, 1]);
    holds(&of_it("is loading"), &["It is loading shimx64.efi by TFTP, block 1 of 6"]);
    server.stop();
}
