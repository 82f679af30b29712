//! What the configuration refuses, and what it says about it.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;

use super::*;
use crate::dhcp::subnet::{AnsweringMode, ClientAdmission};
use crate::model::machine::{Arch, Mac, Machine};
use crate::model::machine::{Firmware, FirmwareRole};

const SHIPPED: &str = include_str!("../../config/ringboot.toml");

/// A whole file around some lines: they stand from line 2 on.
fn complaints(lines: &str) -> String {
    Config::parse("x.toml", &format!("root = \"/r\"\n{lines}")).expect_err("refused").to_string()
}

fn accepted(lines: &str) -> Config {
    Config::parse("x.toml", &format!("root = \"/r\"\n{lines}"))
        .unwrap_or_else(|problems| panic!("{problems}"))
}

fn subnet(lines: &str) -> String {
    format!(
        "[[dhcp.subnet]]\nsubnet = \"192.168.4.0/24\"\nmode = \"server\"\ninterface = \
         \"eth0\"\n{lines}"
    )
}

#[test]
fn s36_the_shipped_file_serves_files_and_answers_no_dhcp() {
    let config = Config::parse("config/ringboot.toml", SHIPPED).unwrap();
    assert!(!config.dhcp.is_wanted());
    assert!(config.snapshot.dhcp.subnets.is_empty());
    assert_eq!(config.tftp, resolve::resolve_defaults().tftp, "what is written out is the default");
    assert_eq!(config.http, resolve::resolve_defaults().http);
    assert_eq!(config.tuning, resolve::resolve_defaults().tuning);
}

/// Walks the tables of `file.rs`: no key without a line of its own (live or switched off) in its
/// table of the shipped file.
#[test]
fn the_shipped_file_has_every_key_and_no_other() {
    for (table, keys, _) in file::TABLES {
        let written = keys_of(table);
        for key in *keys {
            let is_table = file::TABLES
                .iter()
                .any(|(t, ..)| t.trim_matches(['[', ']']).rsplit('.').next() == Some(key));
            assert!(
                is_table || written.iter().any(|w| w == key),
                "{table} {key} is missing in config/ringboot.toml"
            );
        }
        for key in written {
            assert!(keys.contains(&key.as_str()), "{table} {key} is no key");
        }
    }
}

fn keys_of(table: &str) -> Vec<String> {
    let mut current = "";
    let mut keys = Vec::new();
    for line in SHIPPED.lines() {
        let line = line.strip_prefix('#').unwrap_or(line);
        if line.starts_with('[') && line.ends_with(']') {
            current = line;
        } else if let Some((key, _)) = line.split_once(" = ")
            && key
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && current == table
        {
            keys.push(key.to_owned());
        }
    }
    keys
}

/// Every line of the shipped file is right when it is switched on (those that exclude each other
/// apart).
#[test]
fn the_shipped_file_is_right_with_every_line_switched_on() {
    let excluded =
        ["#listen-address", "#port-range", "#relay", "#shared-network", "#oui", "#vendor-class"];
    let on: String = SHIPPED
        .lines()
        .filter(|line| !excluded.iter().any(|key| line.starts_with(key)))
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => {
                format!("{rest}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let config =
        Config::parse("config/ringboot.toml", &on).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.snapshot.dhcp.subnets[0].pools.len(), 1);
    assert_eq!(config.snapshot.dhcp.subnets[0].reservations[0].hostname.as_deref(), Some("node1"));
    assert_eq!(config.snapshot.menu.unwrap().entries[0].initrds, ["images/rescue/initrd.img"]);
    assert_eq!(config.dhcp.interfaces, ["eth1"]);
}

#[test]
fn s29_everything_wrong_is_said_at_once_with_its_place() {
    let text = complaints(
        "[tftp]\nlisten = [\"0.0.0.0\"]\nblocksize-max = 8\n[dhcp]\n[[dhcp.subnet]]\nsubnet = \
         \"192.168.4.0/24\"\n\
         mode = \"server\"\ninterface = \"eth0\"\npools = [\"192.168.5.10-192.168.5.20\"]\n\
         max-lease-time = \"2 hours\"\n",
    );
    assert_eq!(
        text,
        "x.toml:3:11: [tftp] cannot listen on \"0.0.0.0\": it has no port\n  hint: write address \
         and port: \"0.0.0.0:69\" or \"[::]:69\"\n\
         x.toml:4:1: unknown key `blocksize-max`\n  hint: did you mean `blksize-max`?\n\
         x.toml:10:10: pool 192.168.5.10-192.168.5.20 is outside subnet 192.168.4.0/24\n  hint: \
         machines there can have 192.168.4.1 to 192.168.4.254\n\
         x.toml:11:18: max-lease-time cannot be the text \"2 hours\"\n  hint: write a number of \
         seconds, or text such as \"90s\", \"10m\", \"12h\" or \"2d\": `max-lease-time = \"1d\"`"
    );
}

#[test]
fn a_syntax_error_is_one_problem_with_a_place() {
    let text = complaints("[tftp\nlisten = 3\n");
    assert!(text.starts_with("x.toml:2:"), "{text}");
    assert!(Config::parse("x.toml", "root = \"/r").expect_err("unclosed").0[0].line == 1);
}

#[test]
fn keys_of_later_work_are_unknown_not_ignored() {
    for key in ["conflict-probe = true", "mode = \"proxy\""] {
        complaints(&format!(
            "[[dhcp.subnet]]\nsubnet = \"10.0.0.0/8\"\ninterface = \"eth0\"\n{key}\n"
        ));
    }
}

#[test]
fn kinds_of_values_are_named_in_the_operators_words() {
    let text = complaints(
        "[server]\nworkers = \"two\"\ninterfaces = \"eth0\"\n[tftp]\ncase-insensitive = 1\nqueue = \
         -1\n",
    );
    assert!(
        text.contains(
            "x.toml:3:11: workers cannot be the text \"two\"\n  hint: write a whole number"
        ),
        "{text}"
    );
    assert!(
        text.contains("x.toml:4:14: interfaces must be a list, not the text \"eth0\""),
        "{text}"
    );
    assert!(
        text.contains(
            "x.toml:6:20: case-insensitive cannot be the number 1\n  hint: write true or false"
        ),
        "{text}"
    );
    assert!(text.contains("x.toml:7:9: queue cannot be the number -1"), "{text}");
    assert!(complaints("tftp = 3\n").contains("tftp cannot be the number 3"));
}

#[test]
fn a_facility_has_a_known_name_and_a_user_a_plain_one() {
    let log = accepted("[log]\nfacility = \"local7\"\n").log;
    assert_eq!((log.facility, log.level), (Some(23), tracing::Level::INFO));
    assert_eq!(accepted("[log]\nfacility = \"daemon\"\n").log.facility, Some(3));
    assert_eq!(accepted("").log.facility, None);
    let text =
        complaints("[log]\nfacility = \"local8\"\nlevel = \"loud\"\n[server]\nuser = \"a b\"\n");
    assert!(
        text.contains(
            "x.toml:3:12: \"local8\" is not a known syslog facility\n  hint: did you mean"
        ),
        "{text}"
    );
    assert!(text.contains("x.toml:4:9: \"loud\" is not a known level"), "{text}");
    assert!(text.contains("x.toml:6:8: \"a b\" is not a user name"), "{text}");
    assert_eq!(accepted("[server]\nuser = \"tftpd\"\n").server.user.as_deref(), Some("tftpd"));
}

#[test]
fn numbers_have_bounds() {
    let text = complaints(
        "[tftp]\nblksize-max = 7\nwindowsize-max = 65536\n[server]\nworkers = \
         0\n[tuning]\ntid-sockets = 0\n\
         gso-segments = 65\nreceive-buffers = 1000\n\
         [dhcp]\nlisten-port = 65536\n[menu]\ntimeout = \"1h\"\n",
    );
    for complaint in [
        "blksize-max = 7 is out of bounds\n  hint: write a number from 8 to 65464",
        "windowsize-max = 65536 is out",
        "workers = 0 is out",
        "tid-sockets = 0 is out",
        "gso-segments = 65 is out of bounds\n  hint: write a number from 1 to 64",
        "receive-buffers = 1000 is not a power of two\n  hint: 512 and 1024 are the nearest",
        "listen-port = 65536 is out",
        "timeout = 3600 is out",
    ] {
        assert!(text.contains(complaint), "{complaint}: {text}");
    }
}

#[test]
fn s40_zero_switches_a_limit_per_address_off() {
    let config =
        accepted("[tftp]\nper-source = 0\nrequests-per-second = 0\n[http]\nper-source = 0\n");
    assert_eq!(
        (config.tftp.per_source, config.tftp.requests_per_second, config.http.per_source),
        (None, None, None)
    );
    let config = accepted("");
    assert_eq!((config.tftp.per_source, config.http.per_source), (Some(8), Some(32)));
}

#[test]
fn t40_packets_per_ms_are_off_unless_the_file_says_so() {
    assert_eq!(accepted("").tftp.packets_per_ms, None);
    assert_eq!(accepted("[tftp]\npackets-per-ms = 0\n").tftp.packets_per_ms, None);
    assert_eq!(accepted("[tftp]\npackets-per-ms = 8\n").tftp.packets_per_ms, NonZeroU16::new(8));
    assert!(complaints("[tftp]\npackets-per-ms = 1001\n").contains("from 0 to 1000"));
}

#[test]
fn a_rate_of_http_is_for_everybody_and_comes_with_a_reload() {
    assert_eq!(accepted("").snapshot.http_rate, None);
    assert_eq!(
        accepted("[http]\nrate = 1000000\n").snapshot.http_rate,
        std::num::NonZeroU64::new(1_000_000)
    );
    assert!(complaints("[http]\nrate = 0\n").contains("x.toml:3:8: rate = 0 is out of bounds"));
}

#[test]
fn t23_a_quirk_is_for_one_subject_and_says_what() {
    let text = "[[quirk]]\noui = \"52:54:00\"\nwindowsize-max = 1\n[[quirk]]\nvendor-class = \
                \"u-boot\"\nblksize-max = 1024\nhttp-rate = 625000\n";
    let quirks = accepted(text).snapshot.quirks;
    let said: Vec<String> =
        quirks.iter().map(|one| format!("{}: {}", one.subject, one.allowance)).collect();
    assert_eq!(said, ["52:54:00: windowsize 1", "u-boot: blksize 1024, HTTP at 625000 bytes/s"]);
    for (lines, complaint) in [
        ("windowsize-max = 1\n", "x.toml:2:1: a quirk is for one machine, one maker or one class"),
        (
            "mac = \"52:54:00:00:00:01\"\noui = \"52:54:00\"\nblksize-max = 512\n",
            "x.toml:2:1: a quirk is for one",
        ),
        ("oui = \"52:54:00\"\n", "x.toml:2:1: this quirk sets no limit"),
        ("mac = \"52:54:00\"\nwindowsize-max = 1\n", "x.toml:3:7: \"52:54:00\" names no machine"),
        (
            "vendor-class = \"PXEClient\"\nwindowsize-max = 1\n",
            "x.toml:3:16: \"PXEClient\" names no machine",
        ),
        (
            "oui = \"52:54:00\"\nwindowsize-max = 0\n",
            "x.toml:4:18: windowsize-max = 0 is out of bounds",
        ),
        ("oui = \"52:54:00\"\nhttp-rate = 1\n", "http-rate = 1 is out of bounds"),
        ("oui = \"52:54:00\"\nrate = 1\n", "unknown key `rate`"),
    ] {
        let said = complaints(&format!("[[quirk]]\n{lines}"));
        assert!(said.contains(complaint), "{complaint}: {said}");
    }
    assert!(
        complaints(&text.replace("vendor-class = \"u-boot\"", "oui = \"52-54-00\""))
            .contains("already has a [[quirk]]")
    );
    let out_of_bounds = complaints("[[quirk]]\noui = \"52:54:00\"\nblksize-max = 7\n");
    assert!(!out_of_bounds.contains("sets no limit"), "one fault, one complaint: {out_of_bounds}");
}

#[test]
fn t46_the_port_range_holds_the_sockets_of_a_core() {
    assert_eq!(
        accepted("[tftp]\nport-range = \"50000-50999\"\n").tftp.port_range,
        Some((50_000, 50_999))
    );
    assert!(complaints("[tftp]\nport-range = \"50000-50003\"\n").contains("4 ports are too few"));
    let two_cores = complaints("[server]\nworkers = 2\n[tftp]\nport-range = \"50000-50015\"\n");
    assert!(
        two_cores.contains("16 ports are too few: each of 2 cores opens 16 sockets"),
        "{two_cores}"
    );
    assert!(complaints("[tftp]\nport-range = \"50000\"\n").contains("not a range of ports"));
    assert!(complaints("[tftp]\nport-range = \"50010-50000\"\n").contains("not a range of ports"));
}

#[test]
fn t23_the_first_rule_that_fits_decides_what_a_client_may_negotiate() {
    let config = accepted(
        "[tftp]\nwindowsize-max = 16\n\
         [[tftp.client]]\nmac = \"52:54:00:00:00:01\"\n\
         refuse-options = [\"blksize\", \"timeout\", \"tsize\", \"windowsize\"]\n\
         [[tftp.client]]\narch = \"uefi-x64\"\nnetwork = \"192.168.4.0/25\"\nblksize-max = 1024\n",
    );
    let machine = |last, arch| Machine {
        mac: Mac([0x52, 0x54, 0, 0, 0, last]),
        uuid: None,
        firmware: Some(Firmware { role: FirmwareRole::Pxe, arch: Some(arch) }),
    };
    let near: IpAddr = "192.168.4.7".parse().unwrap();
    let far: IpAddr = "192.168.4.200".parse().unwrap();
    let options = |address, machine: Machine| config.tftp.options_for(address, Some(&machine));
    assert!(options(near, machine(1, Arch::UefiX64)).refuses_all());
    assert_eq!(options(near, machine(2, Arch::UefiX64)).blksize_max, Some(1024));
    assert_eq!(
        options(near, machine(2, Arch::UefiX64)).windowsize_max,
        16,
        "what a rule does not say stays"
    );
    assert_eq!(options(far, machine(2, Arch::UefiX64)), config.tftp.options);
    assert_eq!(options(near, machine(2, Arch::Bios)), config.tftp.options);
    assert_eq!(
        config.tftp.options_for("::ffff:192.168.4.7".parse().unwrap(), None),
        config.tftp.options
    );
    assert!(complaints("[[tftp.client]]\nblksize-max = 512\n").contains("matches no client"));
    assert!(
        complaints("[tftp]\nrefuse-options = [\"blksise\"]\n")
            .contains("did you mean \"blksize\"?")
    );
    assert!(complaints("[[tftp.client]]\narch = \"x64\"\n").contains("not a known architecture"));
}

#[test]
fn s23_a_subnet_says_its_network_its_mode_and_its_interface() {
    let text = complaints("[[dhcp.subnet]]\nmode = \"server\"\n");
    assert!(text.contains("x.toml:2:1: `subnet` is missing"), "{text}");
    assert!(
        text.contains("x.toml:2:1: this subnet has neither `interface` nor `relay = true`"),
        "{text}"
    );
    let text = complaints("[[dhcp.subnet]]\nsubnet = \"192.168.4.7/24\"\nrelay = true\n");
    assert!(text.contains(
        "x.toml:3:10: 192.168.4.7/24 has bits set outside its prefix\n  hint: the network is \
         192.168.4.0/24"
    ));
    assert!(text.contains("`mode` is missing"), "{text}");
    for wrong in ["192.168.4.0", "192.168.4.0/33", "192.168.4/24", "fd00::/8"] {
        assert!(
            complaints(&format!("[[dhcp.subnet]]\nsubnet = \"{wrong}\"\n"))
                .contains("is not a network"),
            "{wrong}"
        );
    }
    assert!(
        complaints(&subnet("[[dhcp.subnet]]\nsubnet = \"192.168.0.0/16\"\nmode = \"off\"\n"))
            .contains("subnet 192.168.0.0/16 overlaps subnet 192.168.4.0/24 of line 3")
    );
}

#[test]
fn of_two_halves_the_wrong_one_is_named() {
    for (lines, words) in [
        (
            subnet("pools = [\"192.168.4.300-192.168.4.20\"]\n"),
            "is not a pool: \"192.168.4.300\" is not an IPv4 address",
        ),
        (subnet("pools = [\"192.168.4.10 - x\"]\n"), "is not a pool: \"x\" is not an IPv4 address"),
        (
            subnet("pools = [\"192.168.4.10\"]\n"),
            "\"192.168.4.10\" is not a pool\n  hint: write the first and the last",
        ),
        (
            subnet("").replace("192.168.4.0/24", "192.168.4.0/33"),
            "is not a network: \"33\" is not a prefix length from 0 to 32",
        ),
        (
            subnet("").replace("192.168.4.0/24", "192.168.4/24"),
            "is not a network: \"192.168.4\" is not an IPv4 address",
        ),
        (
            "[tftp]\nport-range = \"0-9\"\n".to_owned(),
            "is not a range of ports: \"0\" is not a port from 1 to 65535",
        ),
        (
            "[tftp]\nport-range = \"9000-70000\"\n".to_owned(),
            "is not a range of ports: \"70000\" is not a port",
        ),
        (
            "[tftp]\nport-range = \"9000-8000\"\n".to_owned(),
            "is not a range of ports: the first port is higher than the last",
        ),
        (
            "[tftp]\nlisten = [\"0.0.0.0\"]\n".to_owned(),
            "cannot listen on \"0.0.0.0\": it has no port",
        ),
        (
            "[tftp]\nlisten = [\"0.0.0:69\"]\n".to_owned(),
            "cannot listen on \"0.0.0:69\": \"0.0.0\" is not an address",
        ),
        (
            "[http]\nlisten = [\"[::]:http\"]\n".to_owned(),
            "cannot listen on \"[::]:http\": \"http\" is not a port",
        ),
        ("[http]\nlisten = [\"fd00::1:80\"]\n".to_owned(), "an IPv6 address needs brackets"),
    ] {
        let said = complaints(&lines);
        assert!(said.contains(words), "{words}: {said}");
    }
    let wrong =
        Config::parse_bytes("x.toml", b"root = \"/r\"\n# \xc3\xa4 \xff\n").expect_err("no text");
    assert!(
        wrong.to_string().starts_with("x.toml:2:5: the byte 0xff is not UTF-8\n  hint: "),
        "{wrong}"
    );
}

#[test]
fn d51_a_relayed_subnet_needs_somewhere_to_listen() {
    let relayed = "[[dhcp.subnet]]\nsubnet = \"10.1.0.0/16\"\nmode = \"server\"\nrelay = true\n";
    assert!(complaints(relayed).contains("no interface is named"));
    let config = accepted(&format!("[server]\ninterfaces = [\"eth7\"]\n{relayed}"));
    assert_eq!(config.dhcp.interfaces, ["eth7"]);
    let config =
        accepted(&format!("[dhcp]\nlisten-address = \"127.0.0.1\"\nlisten-port = 6767\n{relayed}"));
    assert_eq!(
        (config.dhcp.listen_address, config.dhcp.listen_port),
        (Some(Ipv4Addr::LOCALHOST), 6767)
    );
    assert!(config.dhcp.interfaces.is_empty() && config.dhcp.is_wanted());
}

#[test]
fn d48_a_shared_network_is_for_subnets_behind_relays() {
    let relayed = "[server]\ninterfaces = [\"eth7\"]\n[[dhcp.subnet]]\nsubnet = \
                   \"10.1.0.0/16\"\nmode = \"server\"\nrelay = true\n\
                   shared-network = \"floor 3\"\n";
    assert_eq!(
        accepted(relayed).snapshot.dhcp.subnets[0].shared_network.as_deref(),
        Some("floor 3")
    );
    let text = complaints(&subnet("shared-network = \"x\"\n"));
    let what = "x.toml:6:18: `shared-network` is for subnets behind relay agents (relay = true)";
    assert!(
        text.starts_with(what) && text.contains("hint: the subnets of one interface share it"),
        "{text}"
    );
}

#[test]
fn d51_a_subnet_on_an_interface_outside_the_fence_is_refused() {
    let text = complaints(&format!("[server]\ninterfaces = [\"eth1\"]\n{}", subnet("")));
    assert!(
        text.contains(
            "interface \"eth0\" is not among [server] interfaces\n  hint: it lists: eth1"
        ),
        "{text}"
    );
}

#[test]
fn a_subnet_serves_machines_that_boot_and_no_others_unless_it_says_so() {
    let clients = |lines: &str| accepted(&subnet(lines)).snapshot.dhcp.subnets[0].clients;
    assert_eq!(clients(""), ClientAdmission::Pxe);
    assert_eq!(clients("clients = \"known\"\n"), ClientAdmission::Known);
    assert_eq!(clients("clients = \"any\"\n"), ClientAdmission::Any);
    let text = complaints(&subnet("clients = \"all\"\n"));
    assert!(text.starts_with("x.toml:6:11: \"all\" is not a known kind of clients"), "{text}");
    assert!(!accepted(&subnet("")).snapshot.dhcp.subnets[0].allow_other_servers);
    assert!(
        accepted(&subnet("allow-other-servers = true\n")).snapshot.dhcp.subnets[0]
            .allow_other_servers
    );
}

#[test]
fn a_subnet_that_is_off_opens_no_socket() {
    let config = accepted(
        "[dhcp]\nlisten-address = \"127.0.0.1\"\n[[dhcp.subnet]]\nsubnet = \"10.0.0.0/8\"\nmode = \
         \"off\"\n",
    );
    assert_eq!(config.snapshot.dhcp.subnets[0].mode, AnsweringMode::Off);
    assert!(!config.dhcp.is_wanted());
}

#[test]
fn s24_pools_lie_inside_and_apart() {
    for (pools, complaint) in [
        (
            "\"192.168.4.10-192.168.4.100\", \"192.168.4.100-192.168.4.120\"",
            "overlaps pool 192.168.4.10-192.168.4.100",
        ),
        ("\"192.168.4.200-192.168.5.10\"", "is outside subnet 192.168.4.0/24"),
        (
            "\"192.168.4.100-192.168.4.10\"",
            "begins after its end\n  hint: write \"192.168.4.10-192.168.4.100\"",
        ),
        ("\"192.168.4.0-192.168.4.10\"", "contains the network address"),
        ("\"192.168.4.200-192.168.4.255\"", "the broadcast address"),
        ("\"192.168.4.10\"", "is not a pool"),
    ] {
        let text = complaints(&subnet(&format!("pools = [{pools}]\n")));
        assert!(text.contains(complaint), "{complaint}: {text}");
    }
}

#[test]
fn s28_reservations_are_inside_complete_and_unique() {
    let text = complaints(&subnet(
        "[[dhcp.subnet.host]]\nmac = \"52:54:00:00:00:01\"\naddress = \"192.168.4.5\"\n\
         [[dhcp.subnet.host]]\nmac = \"52-54-00-00-00-01\"\naddress = \"192.168.4.5\"\n\
         [[dhcp.subnet.host]]\nmac = \"52:54:00:00:00\"\naddress = \"192.168.9.5\"\nhostname = \
         \"bad name\"\n\
         [[dhcp.subnet.host]]\naddress = \"192.168.4.255\"\n",
    ));
    for complaint in [
        "x.toml:10:7: 52:54:00:00:00:01 is already reserved in line 7",
        "x.toml:11:11: 192.168.4.5 is already reserved in line 8",
        "x.toml:13:7: \"52:54:00:00:00\" is not a hardware address",
        "x.toml:14:11: 192.168.9.5 is not an address for a machine in subnet 192.168.4.0/24",
        "x.toml:15:12: \"bad name\" is not a DNS name",
        "x.toml:16:1: `mac` is missing",
        "x.toml:17:11: 192.168.4.255 is not an address for a machine",
    ] {
        assert!(text.contains(complaint), "{complaint}: {text}");
    }
}

#[test]
fn s20_lease_times_keep_their_order() {
    let times = |lines: &str| {
        let subnet = accepted(&subnet(lines)).snapshot.dhcp.subnets[0].clone();
        (subnet.default_lease_time_s, subnet.firmware_lease_time_s, subnet.max_lease_time_s)
    };
    assert_eq!(times(""), (43_200, 600, 86_400));
    assert_eq!(times("default-lease-time = \"20m\"\nmax-lease-time = 7200\n"), (1200, 1200, 7200));
    assert_eq!(times("max-lease-time = \"1h\"\n"), (3600, 600, 3600));
    assert_eq!(times("max-lease-time = \"5m\"\n"), (300, 300, 300));
    assert_eq!(times("default-lease-time = \"2d\"\n"), (172_800, 172_800, 172_800));
    assert!(
        complaints(&subnet("default-lease-time = 7200\nmax-lease-time = 600\n"))
            .contains("default-lease-time 7200 s is longer than max-lease-time 600 s")
    );
    assert!(
        complaints(&subnet("default-lease-time = 30\n"))
            .contains("default-lease-time = 30 is out of bounds")
    );
}

#[test]
fn s25_routers_are_reachable_without_a_router() {
    assert!(
        complaints(&subnet("routers = [\"192.168.5.1\"]\n"))
            .contains("router 192.168.5.1 is outside")
    );
    assert!(
        complaints(&subnet("domain-name-servers = [\"dns1\"]\n"))
            .contains("\"dns1\" is not an IPv4 address")
    );
}

#[test]
fn d45_the_pxelinux_prefix_ends_with_a_slash() {
    let text = complaints(&subnet("pxelinux-prefix = \"boot\"\n"));
    assert!(
        text.contains("pxelinux-prefix \"boot\" does not end with /\n  hint: write \"boot/\""),
        "{text}"
    );
    let config = accepted(&subnet(
        "pxelinux-prefix = \"http://192.168.4.150/boot/\"\npxelinux-config = \"pxe/menu\"\n",
    ));
    assert_eq!(config.snapshot.dhcp.subnets[0].pxelinux_config.as_deref(), Some("pxe/menu"));
}

#[test]
fn h27_an_http_boot_loader_has_an_ending_that_firmware_knows() {
    assert!(
        complaints("[boot]\nuefi-http = \"ipxe\"\n").contains("needs a file name with an ending")
    );
    let config = accepted(
        "[boot]\nuefi-http = \"http://192.168.4.150/ipxe.efi\"\nipxe = \
         \"http://192.168.4.150/boot.ipxe\"\n",
    );
    assert_eq!(
        config.snapshot.dhcp.boot.uefi_http.as_deref(),
        Some("http://192.168.4.150/ipxe.efi")
    );
    assert!(
        complaints("[boot]\nbios = \"http://192.168.4.150/pxelinux.0\"\n")
            .contains("speaks TFTP only")
    );
    assert!(complaints("[boot]\nbios = \"my loader\"\n").contains("holds a blank"));
    assert!(complaints("[boot]\nbios = \"../pxelinux.0\"\n").contains("holds `..`"));
}

#[test]
fn k2_links_may_lead_to_directories_of_boot_files_only() {
    for place in ["/", "//", "/etc", "/etc/", "/etc/ssh", "/./etc", "/root/x", "/proc/self", "/usr"]
    {
        let said = complaints(&format!("[links]\nallow = [\"{place}\"]\n"));
        assert!(said.contains("would expose this machine"), "{place}: {said}");
    }
    for place in ["iso", "../iso", "/mnt/../etc"] {
        let said = complaints(&format!("[links]\nallow = [\"{place}\"]\n"));
        assert!(said.contains("no absolute path"), "{place}: {said}");
    }
    let allow = "root = \"/r\"\n[links]\nallow = [\"/usr/lib/syslinux\", \"/home/iso\"]\n";
    assert_eq!(Config::parse("x.toml", allow).unwrap().links.len(), 2);
}

#[test]
fn k18_words_of_other_servers_lead_to_the_keys_here() {
    const SUBNET: &str = "[[dhcp.subnet]]\nsubnet = \"192.168.4.0/24\"\n";
    for (lines, key) in [
        ("filename = \"pxelinux.0\"\n", "[boot]"),
        ("range = \"192.168.4.10 192.168.4.20\"\n", "`pools ="),
        ("fixed-address = \"192.168.4.10\"\n", "`address ="),
        ("fixed_address = \"192.168.4.10\"\n", "`address ="),
        ("netmask = \"255.255.255.0\"\n", "`subnet ="),
        ("gateway = \"192.168.4.1\"\n", "`routers ="),
        ("nameservers = [\"192.168.4.1\"]\n", "`domain-name-servers ="),
    ] {
        let said = complaints(&format!("{SUBNET}{lines}"));
        assert!(said.contains("unknown key") && said.contains(key), "{lines}: {said}");
    }
    assert!(complaints("[tftp]\ncps = \"100 2\"\n").contains("`requests-per-second`"));
    // A slip is no word of another server.
    for slip in ["router", "router5", "pool"] {
        let said = complaints(&format!("{SUBNET}{slip} = []\n"));
        assert!(said.contains("did you mean `"), "{slip}: {said}");
    }
}

#[test]
fn h25_menu_paths_have_no_spaces_and_no_letters_outside_ascii() {
    for path in
        ["my kernel", "内核", "a/../b", "k;reboot", "k$x", "", "http:///k", "tftp://h/k", "a\\\\b"]
    {
        let text =
            complaints(&format!("[menu]\n[[menu.entry]]\nlabel = \"x\"\nkernel = \"{path}\"\n"));
        assert!(text.starts_with("x.toml:5:10: kernel "), "{path}: {text}");
        complaints(&format!(
            "[menu]\n[[menu.entry]]\nlabel = \"x\"\nkernel = \"k\"\ninitrd = [\"{path}\"]\n"
        ));
    }
}

#[test]
fn s54_labels_are_unique_names_and_the_default_is_one_of_them() {
    let entry =
        |label: &str| format!("[[menu.entry]]\nlabel = \"{label}\"\nkernel = \"vmlinuz\"\n");
    assert!(
        complaints(&format!("{}{}", entry("linux"), entry("Linux")))
            .contains("already has the label \"Linux\"")
    );
    assert!(
        complaints(&entry("local")).contains("the entry that boots the disk already has the label")
    );
    assert!(complaints(&entry("two words")).contains("is no name"));
    let text = complaints(&format!("[menu]\ndefault = \"linus\"\n{}", entry("linux")));
    assert!(
        text.contains(
            "x.toml:3:11: no entry has the label \"linus\"\n  hint: did you mean \"linux\"?"
        ),
        "{text}"
    );
    let config = accepted(&format!("[menu]\ndefault = \"local\"\n{}", entry("linux")));
    assert_eq!(config.snapshot.menu.unwrap().default, None);
    assert!(complaints("[[menu.entry]]\ntitle = \"x\"\n").contains("`label` is missing"));
}

#[test]
fn s52_texts_that_would_break_out_of_a_menu_are_refused_by_line() {
    for (key, value) in [
        ("title", "two\\nlines"),
        ("title", "${exit}"),
        ("title", "a ; b"),
        ("title", "--name"),
        ("arguments", "a\\nLABEL evil"),
        ("arguments", "it's"),
        ("arguments", "open \\\"quote"),
        ("arguments", "x && reboot"),
        ("arguments", "naïve"),
    ] {
        let text = complaints(&format!(
            "[[menu.entry]]\nlabel = \"x\"\nkernel = \"k\"\n{key} = \"{value}\"\n"
        ));
        assert!(
            text.starts_with(&format!("x.toml:5:{}: {key} ", key.len() + 4)),
            "{value}: {text}"
        );
    }
    let five = "[[menu.entry]]\nlabel = \"x\"\nkernel = \"k\"\ninitrd = [\"a\", \"b\", \"c\", \
                \"d\", \"e\"]\n";
    assert!(complaints(five).contains("x.toml:5:31: more than 4 initrds"));
    assert!(
        complaints("[menu]\nconsole = \"ttyS0;115200\"\n")
            .contains("is no console as a kernel knows it")
    );
}

#[test]
fn t65_a_bare_root_has_no_dhcp_no_menu_and_no_limits_per_address() {
    let config = Config::for_root("/srv/x");
    assert_eq!(config.root, Path::new("/srv/x"));
    assert!(
        config.snapshot.dhcp.subnets.is_empty()
            && config.snapshot.menu.is_none()
            && !config.dhcp.is_wanted()
    );
    assert_eq!(
        (config.tftp.per_source, config.tftp.requests_per_second, config.http.per_source),
        (None, None, None)
    );
    assert_eq!(config.tftp.listen.len() + config.http.listen.len(), 4);
    assert_eq!(config.snapshot.dhcp.http_port, 80);
}

#[test]
fn a_root_must_be_named_and_is_relative_to_the_file() {
    let text =
        Config::parse("etc/x.toml", "[log]\nlevel = \"info\"\n").expect_err("no root").to_string();
    assert!(
        text.starts_with("etc/x.toml:1:1: `root` is missing\n  hint: name the directory"),
        "{text}"
    );
    let config = Config::parse("etc/x.toml", "root = \"tree\"\nstate = \"/var/x\"\n").unwrap();
    assert_eq!(
        (config.root.as_path(), config.state.as_path()),
        (Path::new("etc/tree"), Path::new("/var/x"))
    );
}

#[test]
fn s77_listed_directories_have_one_spelling() {
    let config = accepted(
        "[http]\nindex = [\"/centos/os\", \"debian/\", \"/\"]\nlisten = [\"127.0.0.1:8080\"]\n",
    );
    assert_eq!(config.http.index, ["centos/os/", "debian/", ""]);
    assert_eq!(config.snapshot.dhcp.http_port, 8080);
    assert!(complaints("[http]\nindex = [\"a/../b\"]\n").contains("holds `..`"));
    assert!(
        complaints("[http]\nlisten = [\"[::]:80\", \"[::]:80\"]\n")
            .contains("is in the list twice")
    );
}
