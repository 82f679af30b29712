//! Other people's clients against ringboot: curl, tftp-hpa, atftp, busybox, udhcpc, dhclient, each
//! in its namespace.

mod common;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use common::Scratch;
use common::capture::{Capture, Packet, REQUESTS, UDP};
use common::net::{Client, Net, SERVER, SERVER_V6};
use common::process::{self, Output, Process, run};
use common::root::{self, pattern};
use common::server::{self, Server};
use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode};

/// For one client run, transfers of 40 MB in 512-byte blocks on a busy machine among them.
const LIMIT: Duration = Duration::from_secs(120);
/// One byte more than 2 x 65536 blocks of 512 bytes: the block number wraps twice (T-24).
const LONG: usize = 2 * 65_536 * 512 + 1;
const RANDOM: usize = 4_194_316;

// --- TFTP ---

#[test]
fn t17_curl_is_given_blocks_that_fit_the_ethernet() {
    let lab = Lab::new("curl-blksize", UDP);
    lab.file("random.bin", RANDOM);
    lab.curl(&["--tftp-blksize", "65464", "-o", "got", &format!("tftp://{SERVER}/random.bin")])
        .ok();
    assert!(lab.got("got") == pattern(RANDOM));
    let oack = lab.wait_oack();
    assert!(oack.contains("blksize 1468") && oack.contains(&format!("tsize {RANDOM}")), "{oack}");
    lab.server.stop();
}

#[test]
fn t66_data_leaves_without_the_dont_fragment_bit() {
    let lab = Lab::new("df", UDP);
    lab.file("random.bin", RANDOM);
    lab.curl(&["--tftp-blksize", "1468", "-o", "got", &format!("tftp://{SERVER}/random.bin")]).ok();
    let is_data = |packet: &&Packet| {
        packet.payload.starts_with(&[0, 3]) && packet.source.ip().to_string() == SERVER
    };
    let seen = |packets: &Vec<Packet>| (packets.iter().filter(is_data).count() > 100).then_some(());
    assert!(lab.capture.wait_for(LIMIT, seen).is_ok(), "no DATA was seen");
    assert!(lab.capture.packets().iter().filter(is_data).all(|packet| !packet.dont_fragment));
    lab.server.stop();
}

#[test]
fn t9_a_request_to_the_broadcast_address_is_not_answered() {
    let lab = Lab::new("broadcast", UDP);
    lab.file("a.bin", 100);
    let ask = "import socket\n\
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)\n\
        s.settimeout(20)\n\
        s.sendto(b'\\0\\1a.bin\\0octet\\0', ('192.168.4.255', 69))\n\
        s.sendto(b'\\0\\1b.bin\\0octet\\0', ('192.168.4.150', 69))\n\
        print(s.recv(600)[:4])\n";
    let said = lab.run("python3", &["-c", ask]).ok();
    // The answer to the second request comes first: there was none to the first.
    assert_eq!(said.stdout.trim(), r"b'\x00\x05\x00\x01'");
    lab.server.stop();
}

#[test]
fn t17_curl_over_ipv6_is_given_blocks_that_fit_too() {
    let lab = Lab::new("curl-ipv6", UDP);
    lab.file("random.bin", RANDOM);
    let from = |scheme: &str| format!("{scheme}://[{SERVER_V6}]/random.bin");
    lab.curl(&["-6", "-g", "--tftp-blksize", "65464", "-o", "got", &from("tftp")]).ok();
    assert!(lab.got("got") == pattern(RANDOM));
    let oack = lab.wait_oack();
    assert!(oack.contains("blksize 1448"), "{oack}");
    lab.curl(&["-6", "-g", "-o", "by-http", &from("http")]).ok();
    assert!(lab.got("by-http") == pattern(RANDOM));
    lab.server.stop();
}

#[test]
fn t24_tftp_hpa_without_options_survives_the_wrap_of_the_block_number() {
    let lab = Lab::new("hpa-wrap", REQUESTS);
    lab.file("long.bin", LONG);
    lab.tftp_hpa(&["-m", "binary", SERVER, "-c", "get", "long.bin", "got"]).ok();
    assert!(lab.got("got") == pattern(LONG));
    assert_eq!(
        lab.capture.wait_requests(1, LIMIT),
        ["TFTP long.bin octet"],
        "it asks for no option (T-55)"
    );
    lab.server.stop();
}

#[test]
fn t26_files_of_whole_blocks_and_of_nothing_end_with_an_empty_block() {
    let lab = Lab::new("whole-blocks", REQUESTS);
    for (name, length) in [("whole.bin", 1_048_576), ("empty.bin", 0)] {
        lab.file(name, length);
        let url = format!("tftp://{SERVER}/{name}");
        // curl 7.88 gives up on an OACK that says "tsize 0".
        let options: &[&str] =
            if length == 0 { &["--tftp-no-options"] } else { &["--tftp-blksize", "1024"] };
        lab.curl(&[options, &["-o", "curl.got", &url]].concat()).ok();
        assert!(lab.got("curl.got") == pattern(length), "curl {name}");
        lab.tftp_hpa(&["-m", "binary", SERVER, "-c", "get", name, "hpa.got"]).ok();
        assert!(lab.got("hpa.got") == pattern(length), "tftp-hpa {name}");
    }
    lab.server.stop();
}

#[test]
fn t33_atftp_acknowledges_whole_windows() {
    let lab = Lab::new("atftp-window", UDP);
    lab.file("random.bin", RANDOM);
    let options = ["--option", "blksize 1428", "--option", "windowsize 16", "--option", "tsize 0"];
    lab.atftp(&[&options[..], &["-g", "-r", "random.bin", "-l", "got", SERVER]].concat()).ok();
    assert!(lab.got("got") == pattern(RANDOM));
    assert!(lab.wait_oack().contains("windowsize 16"));
    let blocks = RANDOM.div_ceil(1428);
    let acknowledgements =
        lab.capture.packets().iter().filter(|packet| packet.payload.starts_with(&[0, 4])).count();
    // One for the OACK and one a window, and a few more where a loaded machine dropped a datagram.
    assert!(
        acknowledgements <= blocks.div_ceil(16) + 1 + 8,
        "{acknowledgements} for {blocks} blocks"
    );
    lab.server.stop();
}

#[test]
fn t46_transfers_come_from_the_address_that_was_asked_and_not_from_port_69() {
    let lab = Lab::new("busybox", UDP);
    lab.file("random.bin", RANDOM);
    let _other =
        lab.net.command("ip").args(["addr", "add", "192.168.4.149/24", "dev", "br0"]).status();
    lab.busybox_tftp(&["-b", "1428", "-g", "-r", "random.bin", "-l", "got", SERVER]).ok();
    assert!(lab.got("got") == pattern(RANDOM));
    let sent = |packet: &&Packet| {
        packet.payload.starts_with(&[0, 3]) || packet.payload.starts_with(&[0, 6])
    };
    for packet in lab.capture.packets().iter().filter(sent) {
        assert_eq!(packet.source.ip().to_string(), SERVER);
        assert_ne!(packet.source.port(), 69);
    }
    lab.server.stop();
}

#[test]
fn t8_a_text_read_as_netascii_comes_out_as_it_was() {
    let lab = Lab::new("netascii", REQUESTS);
    let text = "one\ntwo\rthree\r\nfour\n".repeat(200);
    root::write(&lab.root().join("text.txt"), text.as_bytes());
    lab.tftp_hpa(&["-m", "ascii", SERVER, "-c", "get", "text.txt", "got"]).ok();
    assert_eq!(String::from_utf8_lossy(&lab.got("got")), text);
    assert_eq!(lab.capture.wait_requests(1, LIMIT), ["TFTP text.txt netascii"]);
    lab.server.stop();
}

#[test]
fn t3_a_write_is_refused_and_leaves_nothing() {
    let lab = Lab::new("write", REQUESTS);
    root::write(&lab.scratch.path().join("mine"), b"mine");
    let said = lab.tftp_hpa(&["-m", "binary", SERVER, "-c", "put", "mine", "yours"]);
    assert!((said.stdout + &said.stderr).contains("Access violation"));
    lab.busybox_tftp(&["-p", "-l", "mine", "-r", "yours", SERVER]).failed();
    assert!(!lab.root().join("yours").exists());
    lab.server.stop();
}

#[test]
fn t54_a_missing_file_is_said_to_be_missing_at_once() {
    let lab = Lab::new("missing", REQUESTS);
    let said = lab.curl(&["-o", "got", &format!("tftp://{SERVER}/no-such-file")]).failed();
    assert_eq!(said.status.code(), Some(CURL_TFTP_NOT_FOUND), "{said:#?}");
    let said = lab.tftp_hpa(&["-m", "binary", SERVER, "-c", "get", "no-such-file", "got"]);
    assert!((said.stdout + &said.stderr).contains("File not found"));
    lab.busybox_tftp(&["-g", "-r", "no-such-file", "-l", "got", SERVER]).failed();
    let requests = lab.capture.wait_requests(3, LIMIT);
    assert_eq!(requests.len(), 3, "one request each, no retry:\n{}", lab.capture);
    lab.server.stop();
}

#[test]
fn t58_no_name_leads_out_of_the_root() {
    let lab = Lab::new("outside", REQUESTS);
    root::write(&lab.scratch.path().join("secret"), b"secret");
    for name in ["../secret", "/../secret", "..\\secret", "a/../../secret"] {
        let said = lab.tftp_hpa(&["-m", "binary", SERVER, "-c", "get", name, "got"]);
        assert!((said.stdout + &said.stderr).contains("Access violation"), "{name}");
    }
    let said =
        lab.curl(&["--path-as-is", "-o", "got", &format!("tftp://{SERVER}/../secret")]).failed();
    assert_eq!(said.status.code(), Some(CURL_TFTP_ACCESS_VIOLATION), "{said:#?}");
    lab.server.stop();
}

/// curl's exit codes for ERROR 1 and ERROR 2.
const CURL_TFTP_NOT_FOUND: i32 = 68;
const CURL_TFTP_ACCESS_VIOLATION: i32 = 69;

// --- HTTP ---

#[test]
fn h9_curl_fetches_several_files_on_one_connection() {
    let lab = Lab::new("keep-alive", REQUESTS);
    lab.file("random.bin", RANDOM);
    lab.file("empty.bin", 0);
    let (random, empty) =
        (format!("http://{SERVER}/random.bin"), format!("http://{SERVER}/empty.bin"));
    let said =
        lab.curl(&["-v", "-o", "one", &random, "-o", "two", &empty, "-o", "three", &random]).ok();
    assert!(
        lab.got("one") == pattern(RANDOM)
            && lab.got("two").is_empty()
            && lab.got("three") == pattern(RANDOM)
    );
    assert_eq!(said.stderr.matches("Re-using existing connection").count(), 2, "{}", said.stderr);
    lab.server.stop();
}

#[test]
fn h16_curl_reads_ranges_and_resumes() {
    let lab = Lab::new("ranges", REQUESTS);
    lab.file("random.bin", RANDOM);
    let (whole, url) = (pattern(RANDOM), format!("http://{SERVER}/random.bin"));
    for (range, wanted) in [
        ("0-99", &whole[..100]),
        ("100-", &whole[100..]),
        ("-100", &whole[RANDOM - 100..]),
        ("4194315-9999999", &whole[RANDOM - 1..]),
    ] {
        let said = lab.curl(&["-w", "%{http_code}", "-r", range, "-o", "got", &url]).ok();
        assert_eq!(said.stdout, "206", "{range}");
        assert!(lab.got("got") == wanted, "{range}");
    }
    root::write(&lab.scratch.path().join("part"), &whole[..1_000_001]);
    lab.curl(&["-C", "-", "-o", "part", &url]).ok();
    assert!(lab.got("part") == whole);
    let said = lab.curl(&["-w", "%{http_code}", "-r", "4194316-", "-o", "got", &url]).ok();
    assert_eq!(said.stdout, "416", "H-17");
    lab.server.stop();
}

#[test]
fn h6_head_and_http_1_0_and_conditions_as_curl_sends_them() {
    let lab = Lab::new("conditions", REQUESTS);
    lab.file("random.bin", RANDOM);
    let url = format!("http://{SERVER}/random.bin");
    let head = lab.curl(&["-I", &url]).ok().stdout;
    assert!(
        head.contains(&format!("\r\nContent-Length: {RANDOM}\r\n")),
        "title case, one space (H-1, H-2): {head}"
    );
    let old = lab.curl(&["-0", "-v", "-o", "got", &url]).ok();
    assert!(lab.got("got") == pattern(RANDOM));
    assert!(old.stderr.contains("Closing connection"), "H-7: {}", old.stderr);
    lab.curl(&["--etag-save", "etag", "-o", "got", &url]).ok();
    let again =
        lab.curl(&["--etag-compare", "etag", "-w", "%{http_code}", "-o", "again", &url]).ok();
    assert_eq!(again.stdout, "304", "H-22");
    let since = lab.curl(&["-z", "got", "-w", "%{http_code}", "-o", "again", &url]).ok();
    assert_eq!(since.stdout, "304", "the file is not newer than curl's copy");
    lab.server.stop();
}

#[test]
fn h24_no_target_leads_out_of_the_root() {
    let lab = Lab::new("targets", REQUESTS);
    root::write(&lab.scratch.path().join("secret"), b"secret");
    for name in ["menu", ".treeinfo", ".git/config"] {
        root::write(&lab.scratch.path().join("root").join(name), b"x");
    }
    for (target, status) in [
        ("../secret", "400"),
        ("%2e%2e/secret", "400"),
        ("a%2f..%2f..%2fsecret", "400"),
        ("a/../../secret", "400"),
        ("no-such-file", "404"),
        ("", "404"),
        ("menu/", "404"),
        (".git/config", "404"),
        ("menu", "200"),
        ("x/../menu", "200"),
        ("x/%2e%2e/menu", "200"),
        (".treeinfo", "200"),
    ] {
        let url = format!("http://{SERVER}/{target}");
        let said = lab.curl(&["--path-as-is", "-w", "%{http_code}", "-o", "got", &url]).ok();
        assert_eq!(said.stdout, status, "{target}");
        assert!(lab.got("got") != b"secret", "{target}");
    }
    lab.server.stop();
}

// --- DHCP ---

const MAC: &str = "52:54:00:c1:1e:01";
const MAC_BYTES: [u8; 6] = [0x52, 0x54, 0x00, 0xc1, 0x1e, 0x01];

#[test]
fn d33_udhcpc_gets_address_mask_router_name_servers_and_domain() {
    let lab = Lab::new("udhcpc", REQUESTS);
    let client = lab.net.client(MAC);
    let bound = field_line(&lab.udhcpc(&client, &["-q"]).ok().stdout, "bound");
    for wanted in
        ["mask=24", "router=192.168.4.1 ", "dns=192.168.4.150", "domain=example.test", "lease=600"]
    {
        assert!(bound.contains(wanted), "{wanted} in {bound}");
    }
    assert!((10..=100).contains(&address_of(&bound).octets()[3]), "{bound}");
    lab.server.stop();
}

#[test]
fn d20_of_two_addresses_on_an_interface_the_server_names_the_one_inside_the_subnet() {
    let lab = Lab::new("two-addresses", REQUESTS);
    let ip = |arguments: &[&str]| {
        let mut command = lab.net.command("ip");
        command.arg("addr").args(arguments).args(["dev", "br0"]);
        run(command, LIMIT).ok();
    };
    // The kernel names the first address of an interface for every broadcast: make that the foreign
    // one.
    ip(&["del", &format!("{SERVER}/24")]);
    ip(&["add", "10.99.0.1/24"]);
    ip(&["add", &format!("{SERVER}/24")]);
    let client = lab.net.client(MAC);
    let rom = ["-q", "-V", "PXEClient:Arch:00000:UNDI:002001", "-x", "0x5d:0000"];
    let bound = field_line(&lab.udhcpc(&client, &rom).ok().stdout, "bound");
    assert!(bound.contains(&format!("siaddr={SERVER}")), "{bound}");
    lab.server.stop();
}

#[test]
fn d42_a_bios_rom_reads_its_boot_file_wherever_it_looks() {
    let lab = Lab::new("udhcpc-pxe", REQUESTS);
    let client = lab.net.client(MAC);
    let rom = [
        "-q",
        "-V",
        "PXEClient:Arch:00000:UNDI:002001",
        "-x",
        "0x5d:0000",
        "-O",
        "tftp",
        "-O",
        "bootfile",
    ];
    let bound = field_line(&lab.udhcpc(&client, &rom).ok().stdout, "bound");
    let places = [
        &format!("siaddr={SERVER}"),
        "file=pxelinux.0",
        &format!("tftp={SERVER}"),
        "bootfile=pxelinux.0",
    ];
    for wanted in places {
        assert!(bound.contains(wanted), "{wanted} in {bound}");
    }
    lab.server.stop();
}

#[test]
fn d15_an_offer_goes_to_the_hardware_that_asked_or_to_all_as_the_client_wants() {
    let lab = Lab::new("udhcpc-flag", REQUESTS);
    let client = lab.net.client(MAC);
    lab.udhcpc(&client, &["-q"]).ok();
    lab.udhcpc(&client, &["-q", "-B"]).ok();
    let offers = |packets: &Vec<Packet>| {
        let is_offer = |packet: &&Packet| {
            packet.dhcp().is_some_and(|message| kind(&message) == MessageType::Offer)
        };
        let offers: Vec<Packet> = packets.iter().filter(is_offer).cloned().collect();
        (offers.len() == 2).then_some(offers)
    };
    let offers = lab
        .capture
        .wait_for(LIMIT, offers)
        .unwrap_or_else(|missing| panic!("{missing:?}:\n{}", lab.capture));
    let offered = offers[0].dhcp().expect("filtered above").yiaddr();
    assert_eq!(
        (offers[0].destination.ip(), offers[0].ethernet_destination),
        (offered.into(), MAC_BYTES)
    );
    assert_eq!(
        (offers[1].destination.ip(), offers[1].ethernet_destination),
        (Ipv4Addr::BROADCAST.into(), [0xff; 6])
    );
    lab.server.stop();
}

#[test]
fn d25_udhcpc_renews_by_unicast_and_d28_releases() {
    let lab = Lab::new("udhcpc-renew", REQUESTS);
    let client = lab.net.client(MAC);
    let udhcpc = Process::start(lab.udhcpc_command(&client, &[]));
    let address = address_of(&udhcpc.stdout.wait_line("bound ", LIMIT));
    udhcpc.signal("USR1");
    udhcpc.stdout.wait_line(&format!("renew ip={address}"), LIMIT);
    let unicast =
        |message: &Message| kind(message) == MessageType::Request && message.ciaddr() == address;
    lab.capture.wait_dhcp("a REQUEST by unicast", LIMIT, unicast);
    udhcpc.signal("USR2");
    lab.capture.wait_dhcp("a RELEASE", LIMIT, |message| kind(message) == MessageType::Release);
    // The script has taken the address away, for the second time: the first was at the start.
    let released = |text: &String| text.match_indices("deconfig ").nth(1).map(|_| ());
    udhcpc.stdout.wait_for(LIMIT, released).expect("the script's line after the RELEASE");
    drop(udhcpc);
    // It comes back to the address that it had, without asking for it (D-19).
    let bound = field_line(&lab.udhcpc(&client, &["-q"]).ok().stdout, "bound");
    assert_eq!(address_of(&bound), address);
    lab.server.stop();
}

#[test]
fn d27_an_address_that_somebody_else_uses_is_declined_and_not_given_again() {
    let lab = Lab::new("udhcpc-decline", REQUESTS);
    let client = lab.net.client(MAC);
    let taken = address_of(&field_line(&lab.udhcpc(&client, &["-q"]).ok().stdout, "bound"));
    client.ip(&["addr", "flush", "dev", "eth0"]);
    // It answers ARP and no ping: a server that pings first would not notice it.
    let squatter = lab.net.client("52:54:00:c1:1e:99");
    squatter.ip(&["addr", "add", &format!("{taken}/24"), "dev", "eth0"]);
    squatter
        .command("sh")
        .args(["-c", "echo 1 > /proc/sys/net/ipv4/icmp_echo_ignore_all"])
        .status()
        .expect("a shell");
    let output = lab.udhcpc(&client, &["-q", "-a", "-A", "1"]).ok();
    lab.capture.wait_dhcp("a DECLINE", LIMIT, |message| kind(message) == MessageType::Decline);
    assert_ne!(address_of(&field_line(&output.stdout, "bound")), taken);
    lab.server.stop();
}

#[test]
fn d38_udhcpc_with_and_dhclient_without_client_id_are_one_machine() {
    let lab = Lab::new("identity", REQUESTS);
    let client = lab.net.client(MAC);
    let first = address_of(&field_line(&lab.udhcpc(&client, &["-q"]).ok().stdout, "bound"));
    let second = lab.dhclient(&client, "", None);
    assert_eq!(address_of(&second.stdout.wait_line("BOUND ", LIMIT)), first);
    let with_client_id =
        |(_, message): &(_, Message)| message.opts().get(OptionCode::ClientIdentifier).is_some();
    let requests: Vec<_> =
        lab.capture.dhcp().into_iter().filter(|(_, m)| kind(m) == MessageType::Request).collect();
    assert_eq!(requests.iter().map(with_client_id).collect::<Vec<_>>(), [true, false]);
    lab.server.stop();
}

#[test]
fn d24_dhclient_with_a_lease_of_another_network_is_told_so() {
    let lab = Lab::new("dhclient-nak", REQUESTS);
    let client = lab.net.client(MAC);
    let foreign = "lease {\n  interface \"eth0\";\n  fixed-address 10.1.2.3;\n  option subnet-mask \
                   255.255.255.0;\n  option dhcp-lease-time 600;\n  option dhcp-message-type 5;\n  \
                   option dhcp-server-identifier 10.1.2.1;\n  renew never;\n  rebind never;\n  \
                   expire never;\n}\n";
    let dhclient = lab.dhclient(&client, "", Some(foreign));
    lab.capture.wait_dhcp("a NAK", LIMIT, |message| kind(message) == MessageType::Nak);
    let address = address_of(&dhclient.stdout.wait_line("BOUND ", LIMIT));
    assert_eq!(address.octets()[..3], [192, 168, 4]);
    lab.server.stop();
}

#[test]
fn d25_dhclient_renews_then_comes_back_after_a_reboot_and_rebinds() {
    let lab = Lab::new("dhclient-life", REQUESTS);
    let client = lab.net.client(MAC);
    let renewing = lab.dhclient(&client, "supersede dhcp-renewal-time 2;", None);
    let address = address_of(&renewing.stdout.wait_line("BOUND ", LIMIT));
    renewing.stdout.wait_line(&format!("RENEW ip={address}"), LIMIT);
    drop(renewing);
    // The lease file is still there: INIT-REBOOT. Renewals then go to nobody, so that it has to
    // rebind by broadcast.
    let times = "supersede dhcp-renewal-time 2;\nsupersede dhcp-rebinding-time 4;\n\
         supersede dhcp-server-identifier 192.168.4.253;\n";
    let rebinding = lab.dhclient(&client, times, None);
    rebinding.stdout.wait_line(&format!("REBOOT ip={address}"), LIMIT);
    let rebinds = |packet: &Packet| {
        let request = packet
            .dhcp()
            .is_some_and(|m| kind(&m) == MessageType::Request && m.ciaddr() == address);
        (request && packet.destination.ip() == Ipv4Addr::BROADCAST).then_some(())
    };
    let rebound = lab.capture.wait_for(LIMIT, |packets| packets.iter().find_map(rebinds));
    rebound.unwrap_or_else(|missing| panic!("{missing:?}: no REQUEST by broadcast"));
    // dhclient calls this event RENEW too.
    rebinding.stdout.wait_line(&format!("RENEW ip={address}"), LIMIT);
    lab.server.stop();
}

/// A server with the classic network, a capture, and a client that has an address already (for TFTP
/// and HTTP).
struct Lab {
    server: Server,
    capture: Capture,
    client: Client,
    net: Net,
    scratch: Scratch,
}

impl Lab {
    fn new(name: &str, filter: &str) -> Self {
        Self::serve(name, filter, |net, scratch| {
            let boot =
                "clients = \"any\"\nallow-other-servers = true\n[boot]\nbios = \"pxelinux.0\"\n";
            Server::start(net, scratch, &(server::configuration(scratch) + boot))
        })
    }

    fn serve(name: &str, filter: &str, start: impl FnOnce(&Net, &Scratch) -> Server) -> Self {
        let scratch = Scratch::new(name);
        root::write(&server::root(&scratch).join("pxelinux.0"), b"\xeaa loader");
        let net = Net::new();
        let client = net.client_with_address(200);
        let capture = Capture::start(&net, filter, &scratch.path().join("wire.pcap"));
        let server = start(&net, &scratch);
        Self { server, capture, client, net, scratch }
    }

    fn root(&self) -> PathBuf {
        server::root(&self.scratch)
    }

    /// A file of known content under the root.
    fn file(&self, name: &str, length: usize) {
        root::pattern_file(&self.root().join(name), length);
    }

    /// What a client wrote.
    fn got(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.scratch.path().join(name))
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn curl(&self, arguments: &[&str]) -> Output {
        common::need(&[("curl", "curl")]);
        self.run("curl", &[&["-sS", "--max-time", "100"], arguments].concat())
    }

    fn tftp_hpa(&self, arguments: &[&str]) -> Output {
        common::need(&[("tftp", "tftp-hpa")]);
        self.run("tftp", arguments)
    }

    fn atftp(&self, arguments: &[&str]) -> Output {
        common::need(&[("atftp", "atftp")]);
        self.run("atftp", arguments)
    }

    fn busybox_tftp(&self, arguments: &[&str]) -> Output {
        common::need(&[("busybox", "busybox")]);
        self.run("busybox", &[&["tftp"], arguments].concat())
    }

    /// In the scratch directory, so that clients write their files there.
    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = self.client.command(program);
        command.args(arguments).current_dir(self.scratch.path());
        run(command, LIMIT)
    }

    /// The options of the server's first OACK.
    fn wait_oack(&self) -> String {
        let options = |packet: &Packet| packet.payload.strip_prefix(&[0, 6]).map(fields);
        let oack = self.capture.wait_for(LIMIT, |packets| packets.iter().find_map(options));
        oack.unwrap_or_else(|missing| panic!("{missing:?}: no OACK"))
    }

    fn udhcpc(&self, client: &Client, arguments: &[&str]) -> Output {
        run(self.udhcpc_command(client, arguments), LIMIT)
    }

    fn udhcpc_command(&self, client: &Client, arguments: &[&str]) -> Command {
        common::need(&[("udhcpc", "udhcpc")]);
        let mut command = client.command("udhcpc");
        command.args(["-f", "-i", "eth0", "-t", "10", "-T", "1", "-s"]);
        command.arg(process::client_script("udhcpc.sh")).args(arguments);
        command
    }

    /// dhclient in the foreground, with this configuration and, for the first time, this lease
    /// file.
    fn dhclient(&self, client: &Client, configuration: &str, leases: Option<&str>) -> Process {
        common::need(&[("dhclient", "isc-dhcp-client")]);
        let file = |name: &str| self.scratch.path().join(name);
        root::write(&file("dhclient.conf"), configuration.as_bytes());
        if let Some(leases) = leases {
            root::write(&file("leases"), leases.as_bytes());
        }
        let mut command = client.command("dhclient");
        command.args(["-4", "-d", "-sf"]).arg(process::client_script("dhclient.sh"));
        command
            .arg("-lf")
            .arg(file("leases"))
            .arg("-pf")
            .arg(file("pid"))
            .arg("-cf")
            .arg(file("dhclient.conf"));
        command.arg("eth0");
        Process::start(command)
    }
}

/// NUL-terminated fields as words.
fn fields(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').replace('\0', " ")
}

fn field_line(text: &str, event: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(event));
    line.unwrap_or_else(|| panic!("no {event:?} in:\n{text}")).to_owned()
}

fn address_of(line: &str) -> Ipv4Addr {
    let ip = line.split_whitespace().find_map(|word| word.strip_prefix("ip="));
    ip.and_then(|ip| ip.parse().ok()).unwrap_or_else(|| panic!("no address in {line:?}"))
}

fn kind(message: &Message) -> MessageType {
    match message.opts().get(OptionCode::MessageType) {
        Some(DhcpOption::MessageType(kind)) => *kind,
        _ => MessageType::Unknown(0),
    }
}
