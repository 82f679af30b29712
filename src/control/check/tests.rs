//! Each check, provoked.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::interfaces::{find_misplaced_subnets, find_own_addresses, find_unreachable_interfaces};
use super::rival::report_other_server;
use super::state::check_disk_space;
use super::surroundings::{PortState, probe_port, report_shut_port, report_small_buffer};
use super::*;
use crate::boot::pe;
use crate::control::loaders::{BorrowedFiles, settle_loaders};
use crate::control::static_menus::{LargestFile, survey_root};
use crate::dhcp::lease::{Lease, LeaseChange};
use crate::dhcp::other_servers::LookResult;
use crate::dhcp::subnet::OtherServer;
use crate::engine::disk::DiskSpace;
use crate::engine::net::NetworkInterface;
use crate::images::{NameResolver, RootFence};
use crate::model::machine::Mac;
use crate::observe::finding::CheckSeverity;
use crate::observe::port_holder::SocketProtocol;
use crate::store::{LeaseStore, SqliteStore, StateDirectory};

/// A configuration over a root of its own, with what is found in it.
struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(bench.root()).unwrap();
        bench
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn put(&self, name: &str, content: &[u8]) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    fn config(&self, more: &str) -> Config {
        let text = format!("root = \"root\"\nstate = \"state\"\n{more}");
        Config::parse(&self.directory.path().join("x.toml").to_string_lossy(), &text).unwrap()
    }

    /// Findings as they are printed, without the root's own place.
    fn check_as(&self, more: &str, reader: FileReader) -> Vec<String> {
        let mut config = self.config(more);
        let borrowed = settle_loaders(
            &mut config.snapshot.dhcp.boot,
            &self.root(),
            true,
            self.directory.path(),
        );
        let subject = CheckSubject {
            config: &config,
            borrowed: &borrowed,
            wants_dhcp: true,
            reader,
            is_service: false,
        };
        let place = self.directory.path().to_string_lossy().into_owned();
        check_configuration(subject)
            .iter()
            .map(|finding| finding.to_string().replace(&place, ""))
            .collect()
    }

    fn check(&self, more: &str) -> Vec<String> {
        self.check_as(more, FileReader::Caller)
    }
}

fn only(findings: Vec<String>) -> String {
    assert_eq!(findings.len(), 1, "{findings:#?}");
    findings.concat()
}

#[test]
fn a_root_that_would_expose_the_machine_is_refused() {
    for (root, refused) in [
        ("/", true),
        ("/etc", true),
        ("/etc/../etc/", true),
        ("/root", true),
        ("/home", true),
        ("/var", true),
        ("/var/tmp", false),
    ] {
        let found = files::find_unfit_root(&Config::for_root(root));
        let says = found
            .as_ref()
            .is_some_and(|finding| finding.what.contains("would expose this machine"));
        assert_eq!(says, refused, "{root}: {found:?}");
    }
    let bench = Bench::new();
    std::os::unix::fs::symlink("/etc", bench.directory.path().join("link")).unwrap();
    assert!(
        files::find_unfit_root(&Config::for_root(bench.directory.path().join("link"))).is_some(),
        "through a link too"
    );
    assert!(
        files::find_unfit_root(&Config::for_root("/nonexistent"))
            .unwrap()
            .what
            .contains("opening the root /nonexistent")
    );
    bench.put("file", b"x");
    assert!(
        files::find_unfit_root(&Config::for_root(bench.root().join("file")))
            .unwrap()
            .what
            .contains("is not a directory")
    );
    let mut same = Config::for_root(bench.root());
    same.state = bench.root();
    assert!(files::find_unfit_root(&same).unwrap().what.contains("is the state directory too"));
}

#[test]
fn a_state_directory_that_is_open_to_others_is_named() {
    let bench = Bench::new();
    let state = bench.directory.path().join("state");
    assert_eq!(bench.check(""), [""; 0], "it will be made");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(
        only(bench.check("")),
        "warning: /x.toml:2:9: the state directory /state is open to others (mode 0755)\n  hint: \
         chmod 0700 /state"
    );
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(bench.check(""), [""; 0]);
}

#[test]
fn loaders_are_there_and_of_their_kind() {
    let bench = Bench::new();
    let missing = only(bench.check("[boot]\nbios = \"none.0\"\n"));
    assert!(
        missing.starts_with(
            "error: /x.toml:4:8: [boot] bios = \"none.0\" names no file under the root\n  hint: "
        ),
        "{missing}"
    );
    assert!(missing.contains("pxelinux syslinux-common"), "{missing}");
    bench.put("x64.efi", &pe::build_x64_program());
    bench.put("text.efi", b"<html>404</html>");
    bench.put("raw.0", &[0xea, 5, 0, 0xc0, 7, 0x90]);
    bench.put("empty", b"");
    bench.put("linux.elf", b"\x7fELF\x02\x01\x01\0");
    for (key, name, complaint) in [
        ("uefi-x64", "x64.efi", ""),
        ("uefi-http", "x64.efi", ""),
        ("bios", "raw.0", ""),
        ("ipxe", "http://192.0.2.1/x.ipxe", ""),
        ("uefi-ia32", "x64.efi", "is a UEFI program for x64"),
        ("uefi-arm64", "x64.efi", "is a UEFI program for x64"),
        ("bios", "x64.efi", "is a UEFI program for x64"),
        ("uefi-x64", "text.efi", "is a text file"),
        ("uefi-http", "text.efi", "is a text file"),
        ("bios", "text.efi", "is a text file"),
        ("bios", "empty", "is an empty file"),
        ("bios", "linux.elf", "is an ELF file"),
        ("uefi-x64", "linux.elf", "is an ELF file"),
        ("uefi-x64", "raw.0", "is no UEFI program"),
    ] {
        let found = bench.check(&format!("[boot]\n{key} = {name:?}\n"));
        // A loader in the root is a default for its own key; those are all right here.
        match complaint {
            "" => assert_eq!(found, [""; 0], "{key} {name}"),
            _ => assert!(only(found).contains(complaint), "{key} {name}"),
        }
    }
}

#[test]
fn a_script_that_is_rendered_needs_no_file() {
    let bench = Bench::new();
    assert_eq!(bench.check("[boot]\nipxe = \"boot.ipxe\"\n[menu]\n"), [""; 0]);
    assert!(only(bench.check("[boot]\nipxe = \"boot.ipxe\"\n")).contains("names no file"));
    bench.put("boot.ipxe.j2", b"#!ipxe\n");
    // Here no helper compiles it: this test is another program.
    assert!(
        bench
            .check("[boot]\nipxe = \"boot.ipxe\"\n")
            .iter()
            .all(|said| !said.contains("names no file"))
    );
}

#[test]
fn b10_a_loader_without_what_it_loads_next_is_named() {
    let bench = Bench::new();
    bench.put("efi/shimx64.efi", &pe::build_x64_program());
    let said = only(bench.check("[boot]\nuefi-x64 = \"efi/shimx64.efi\"\n"));
    assert!(
        said.contains("loads grubx64.efi from its own directory, which does not have it"),
        "{said}"
    );
    bench.put("efi/grubx64.efi", &pe::build_x64_program());
    assert_eq!(bench.check("[boot]\nuefi-x64 = \"efi/shimx64.efi\"\n"), [""; 0]);
}

#[test]
fn kernels_and_pictures_of_the_menu_are_there() {
    let bench = Bench::new();
    let menu = "[menu]\nbackground = \"splash.png\"\n[[menu.entry]]\nlabel = \"x\"\nkernel = \
                \"/k\"\ninitrd = [\"i\", \"http://h/i\"]\n";
    let found = bench.check(menu);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(
        found[0].starts_with(
            "error: /x.toml:7:10: kernel of the entry `x`: there is no /k under /root"
        ),
        "{found:#?}"
    );
    for name in ["k", "i", "splash.png"] {
        bench.put(name, b"\0");
    }
    assert_eq!(bench.check(menu), [""; 0]);
    let old = menu.replace("/k", "/tftpboot/k");
    assert_eq!(bench.check(&old), [""; 0], "an old prefix is taken off as when a client asks");
}

#[test]
fn s73_a_file_that_not_everybody_may_read_is_named_with_the_command() {
    let bench = Bench::new();
    bench.put("k", b"\0");
    fs::set_permissions(bench.root().join("k"), fs::Permissions::from_mode(0o640)).unwrap();
    let menu = "[menu]\n[[menu.entry]]\nlabel = \"x\"\nkernel = \"k\"\n";
    let said = only(bench.check_as(menu, FileReader::Root));
    assert!(
        said.starts_with("error: /x.toml:6:10: kernel of the entry `x`")
            && said.ends_with("hint: chmod o+r /root/k"),
        "{said}"
    );
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(bench.root()).unwrap());
    let stranger = FileReader::User { uid: owner.wrapping_add(7), gid: u32::MAX };
    for directory in [bench.directory.path(), &bench.root()] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    }
    assert!(
        only(bench.check_as(menu, stranger))
            .ends_with("may not be read by the service\n  hint: chmod o+r /root/k")
    );
    assert_eq!(bench.check_as(menu, FileReader::User { uid: owner, gid: u32::MAX }), [""; 0]);
    bench.put("d/k", b"\0");
    let deep = menu.replace("\"k\"", "\"d/k\"");
    assert_eq!(bench.check_as(&deep, stranger), [""; 0]);
    for closed in ["root/d", "root"] {
        fs::set_permissions(bench.directory.path().join(closed), fs::Permissions::from_mode(0o750))
            .unwrap();
        let said = only(bench.check_as(&deep, stranger));
        assert!(
            said.ends_with(&format!("/{closed} is closed to it\n  hint: chmod o+x /{closed}")),
            "{said}"
        );
        assert_eq!(bench.check_as(&deep, FileReader::Root), [""; 0]);
    }
}

#[test]
fn s28_a_reservation_inside_a_pool_is_named() {
    let bench = Bench::new();
    let subnet = "[[dhcp.subnet]]\nsubnet = \"10.0.0.0/24\"\ninterface = \"eth9\"\nmode = \
                  \"server\"\n\
                  pools = [\"10.0.0.10-10.0.0.20\"]\n[[dhcp.subnet.host]]\nmac = \
                  \"52:54:00:00:00:01\"\naddress = ";
    assert!(
        only(bench.check(&format!("{subnet}\"10.0.0.20\"\n")))
            .contains("lies inside the pool 10.0.0.10-10.0.0.20")
    );
    assert_eq!(bench.check(&format!("{subnet}\"10.0.0.21\"\n")), [""; 0]);
}

#[test]
fn another_dhcp_server_that_was_seen_is_named_with_what_follows() {
    let bench = Bench::new();
    let subnet =
        "[[dhcp.subnet]]\nsubnet = \"10.0.0.0/24\"\ninterface = \"eth9\"\nmode = \"server\"\n";
    let server = OtherServer { mac: Mac([2, 0, 0, 0, 0, 9]), address: [10, 0, 0, 2].into() };
    let network = "10.0.0.0/24".parse().unwrap();
    let seen = LookResult { network, looked_s: 0, server: Some(server) };
    let said = |more: &str, look: &LookResult| {
        report_other_server(&bench.config(&format!("{subnet}{more}")), look)
    };
    let silent = said("", &seen).unwrap();
    assert!(
        silent.severity == CheckSeverity::Warning && silent.hint.contains("allow-other-servers"),
        "{silent}"
    );
    assert!(
        silent
            .what
            .starts_with("the DHCP server 10.0.0.2 (02:00:00:00:00:09) answered on 10.0.0.0/24"),
        "{silent}"
    );
    assert_eq!(said("allow-other-servers = true\n", &seen).unwrap().severity, CheckSeverity::Note);
    assert_eq!(said("", &LookResult { server: None, ..seen }), None);
    assert_eq!(
        said("", &LookResult { network: "10.1.0.0/24".parse().unwrap(), ..seen }),
        None,
        "not a subnet of ours any more"
    );
}

#[test]
fn a_menu_by_hand_that_installs_is_named_by_file_and_line() {
    let bench = Bench::new();
    bench
        .put("pxelinux.cfg/default", include_bytes!("../../../tests/classic/pxelinux.cfg-default"));
    let said = only(bench.check(""));
    let start = "warning: /root/pxelinux.cfg/default:11: the default entry `linux` of this menu \
                 INSTALLS BY ITSELF (ks=";
    assert!(said.starts_with(start), "{said}");
}

#[test]
fn a_busy_port_is_named_with_its_holder() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("[::1]:0").unwrap();
    for (protocol, address) in [
        (SocketProtocol::Tcp, tcp.local_addr().unwrap()),
        (SocketProtocol::Udp, udp.local_addr().unwrap()),
    ] {
        let PortState::Wrong(said) = probe_port("HTTP", protocol, address, None) else {
            panic!("{address} is busy")
        };
        assert_eq!(said.severity, CheckSeverity::Fatal);
        assert!(said.what.contains(&format!("cannot listen on {address}")), "{said}");
    }
    let free = tcp.local_addr().unwrap();
    drop(tcp);
    assert!(matches!(probe_port("HTTP", SocketProtocol::Tcp, free, None), PortState::Free));
    let nowhere = probe_port("TFTP", SocketProtocol::Udp, "192.0.2.7:6969".parse().unwrap(), None);
    assert!(matches!(nowhere, PortState::Wrong(said) if said.what.contains("no interface")));
}

#[test]
fn a_running_server_holds_its_own_ports_and_has_heard_others() {
    let (busy, foreign) =
        (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let (busy, foreign) = (
        busy.local_addr().map(|at| (busy, at)).unwrap(),
        foreign.local_addr().map(|at| (foreign, at)).unwrap(),
    );
    let bench = Bench::new();
    let config = bench.config(&format!(
        "[tftp]\nlisten = [\"{}\", \"{}\"]\n[http]\nlisten = []\n",
        busy.1, foreign.1
    ));
    let borrowed = BorrowedFiles::default();
    let subject = CheckSubject {
        config: &config,
        borrowed: &borrowed,
        wants_dhcp: false,
        reader: FileReader::Caller,
        is_service: false,
    };
    let other = || vec!["192.168.4.2 (52:54:00:00:00:02)".to_owned()];
    let heard = |subnet: &str, silent: Option<&str>, other_servers| HeardSubnet {
        subnet: subnet.to_owned(),
        silent_because: silent.map(str::to_owned),
        other_servers,
        pool: None,
    };
    let full = HeardPool {
        said: "4 of 4 addresses given".to_owned(),
        is_full: true,
        is_nearly_full: true,
    };
    let any = SocketAddr::from(([0; 4], busy.1.port()));
    let running = RunningServer {
        pid: 4711,
        sockets: vec![(SocketProtocol::Udp, any), (SocketProtocol::Tcp, foreign.1)],
        heard: vec![
            heard("10.0.0.0/8", None, vec![]),
            heard("192.168.4.0/24", Some("it answers there"), other()),
            heard("192.168.5.0/24", Some("no interface"), vec![]),
            heard("192.168.6.0/24", None, other()),
            HeardSubnet { pool: Some(full), ..heard("192.168.7.0/24", None, vec![]) },
        ],
        receive_buffer: Some(4096),
        store_fault: Some("disk full".to_owned()),
        after_restart: vec!["[http]".to_owned()],
        ..RunningServer::default()
    };
    let said: Vec<String> =
        check_surroundings(subject, Some(&running)).iter().map(CheckFinding::to_string).collect();
    let with = |words: &str| {
        said.iter().find(|one| one.contains(words)).unwrap_or_else(|| panic!("{words}: {said:#?}"))
    };
    assert!(
        said.iter().all(|one| !one.contains(&busy.1.to_string())),
        "its own ports are as they should be: {said:#?}"
    );
    assert!(
        with("192.168.7.0/24").starts_with("warning: the pools of subnet 192.168.7.0/24 are FULL")
    );
    assert!(
        with("receive buffers of 4096 bytes").starts_with("warning: the running server (pid 4711)")
    );
    assert!(with("gives no new leases: disk full").starts_with("error: "));
    assert!(with("changes in [http] take effect after a restart").starts_with("warning: "));
    assert!(
        with(&foreign.1.to_string()).starts_with("fatal: ")
            && with(&foreign.1.to_string()).contains("x.toml:4:"),
        "the same port of another transport is not this one"
    );
    let silent = with("192.168.4.0/24");
    assert!(
        silent.starts_with("warning: ")
            && silent.contains("it answers there")
            && silent.contains("allow-other-servers")
    );
    assert!(!with("192.168.5.0/24").contains("hint"));
    assert!(
        with("192.168.6.0/24").starts_with("note: ")
            && with("192.168.6.0/24").contains("192.168.4.2 (52:54")
    );
    assert!(said.iter().all(|one| !one.contains("10.0.0.0/8")));
}

#[test]
fn limits_of_the_kernel_and_the_firewall_are_said_with_the_command() {
    assert!(
        report_small_buffer(212_992, false).unwrap().hint.starts_with("sysctl net.core.rmem_max=")
    );
    assert_eq!(
        (report_small_buffer(usize::MAX, false), report_small_buffer(1, true)),
        (None, None),
        "root may go past it"
    );
    let said = report_shut_port(firewall::WantedPort { protocol: "udp", port: 69 });
    assert!(
        said.what.contains("udp port 69") && said.hint.contains("udp dport 69 accept"),
        "{said}"
    );
}

#[test]
fn memory_that_is_too_small_or_cannot_be_locked_is_said_with_what_follows() {
    const MIB: u64 = 1 << 20;
    let ceiling = MemoryCeiling { bytes: 1024 * MIB, source: "MemTotal".into() };
    let iso = LargestFile { path: "iso/all.iso".into(), bytes: 700 * MIB };
    assert_eq!(memory::check_memory_budget(Some(700 * MIB), Some(&iso), &ceiling), []);
    let said = memory::check_memory_budget(None, Some(&iso), &ceiling);
    assert!(
        said.len() == 1 && said[0].what.starts_with("iso/all.iso (734 MB) is larger than"),
        "{said:#?}"
    );
    let said = memory::check_memory_budget(Some(1024 * MIB), Some(&iso), &ceiling);
    assert!(
        said.len() == 1 && said[0].what.contains("it uses 805306368, three quarters of 1073741824"),
        "{said:#?}"
    );
    let locking = |unlocked| {
        let running = RunningServer { pid: 4711, unlocked, ..RunningServer::default() };
        memory::check_memory_locking(u64::MAX, FileReader::Caller, Some(&running))
    };
    assert_eq!(locking(0), None, "a running server knows better than this process");
    assert!(locking(90_000_000).unwrap().what.contains("(pid 4711) cannot lock 90 MB"));
    assert_eq!(memory::check_memory_locking(0, FileReader::Caller, None), None);
}

#[test]
fn k2_a_place_for_links_that_is_a_link_to_etc_is_refused() {
    let bench = Bench::new();
    let place = bench.directory.path().join("place");
    std::os::unix::fs::symlink("/etc", &place).unwrap();
    let allow = format!("[links]\nallow = [\"{}\"]\n", place.display());
    assert!(only(bench.check(&allow)).contains("/place (/etc) would expose this machine"));
    fs::remove_file(&place).unwrap();
    assert!(only(bench.check(&allow)).contains("there is no directory"));
    fs::create_dir(&place).unwrap();
    assert_eq!(bench.check(&allow), Vec::<String>::new());
}

/// Each as the server answers it: `tests/check.rs` asks one.
#[test]
fn k4_names_of_templates_menus_and_other_cases_are_judged_as_the_server_does() {
    let bench = Bench::new();
    bench.put("images/Upper", b"MZ\0");
    bench.put("made.j2", b"x");
    fs::create_dir(bench.root().join("dk.j2")).unwrap();
    bench.put("x/pxelinux.cfg/default", b"");
    let verdict = |name: &str, tftp: &str| {
        let more =
            format!("[tftp]\n{tftp}\n[menu]\n[[menu.entry]]\nlabel = \"e\"\nkernel = \"{name}\"\n");
        !bench.check(&more).iter().any(|finding| finding.contains("kernel of the entry `e`"))
    };
    for (name, is_served) in [
        ("images/upper", false),
        ("images/Upper", true),
        ("images/Upper/", false),
        ("made", true),
        ("made.j2", false),
        ("dk", false),
        ("pxelinux.cfg/default", true),
        ("pxelinux.cfg/01-52-54-00-12-34-56", true),
        ("pxelinux.cfg/C0A80401", false),
        ("x/pxelinux.cfg/01-52-54-00-12-34-56", false),
    ] {
        assert_eq!(verdict(name, ""), is_served, "{name}");
    }
    assert!(verdict("images/upper", "case-insensitive = true"));
    assert!(!verdict("images/other", "case-insensitive = true"));
}

#[test]
fn the_largest_file_under_the_root_is_found() {
    let bench = Bench::new();
    bench.put("small", b"x");
    bench.put("d/large", b"xxx");
    let names = NameResolver::open(&bench.root(), RootFence::default()).unwrap();
    let survey = survey_root(&bench.root(), &names, false);
    assert_eq!(survey.largest, Some(LargestFile { path: "d/large".into(), bytes: 3 }));
}

#[test]
fn kernels_and_initial_disks_that_are_something_else_are_named() {
    let bench = Bench::new();
    let menu = "[menu]\n[[menu.entry]]\nlabel = \"x\"\nkernel = \"k\"\ninitrd = \"i\"\n";
    for (kernel, initrd, said) in [
        (
            &b"<html>404</html>"[..],
            &b"\x1f\x8b\x08"[..],
            "6:10: kernel of the entry `x` is an HTML page (/root/k)",
        ),
        (b"404\n", b"wpeinit\n", "6:10: kernel of the entry `x` is a text file (/root/k)"),
        (b"MZ\0", b"<!DOCTYPE html>", "7:10: initrd of the entry `x` is an HTML page (/root/i)"),
        (b"MZ\0", b"", "7:10: initrd of the entry `x` is an empty file (/root/i)"),
    ] {
        bench.put("k", kernel);
        bench.put("i", initrd);
        let found = only(bench.check(menu));
        assert!(found.starts_with(&format!("error: /x.toml:{said}\n  hint: ")), "{found}");
    }
}

#[test]
fn a_disk_without_room_is_named_with_its_figures() {
    let room = DiskSpace {
        free: 1 << 40,
        total: 1 << 41,
        files_free: 9,
        files_total: 9,
        is_read_only: false,
    };
    let said = |room: DiskSpace| {
        check_disk_space("/s".as_ref(), room).map(|finding| finding.to_string()).unwrap_or_default()
    };
    assert_eq!(said(room), "");
    assert_eq!(
        said(DiskSpace { files_free: 0, files_total: 0, ..room }),
        "",
        "a file system that does not count them"
    );
    let none = said(DiskSpace { free: 0, ..room });
    assert!(
        none.starts_with(
            "error: no lease can be kept: 0 of 2199023255552 bytes are free on the disk of /s\n"
        ),
        "{none}"
    );
    assert!(
        said(DiskSpace { files_free: 0, ..room })
            .starts_with("error: no lease can be kept: no file can be made in /s (0 of 9")
    );
    assert!(
        said(DiskSpace { is_read_only: true, ..room })
            .starts_with("error: no lease can be kept: /s is read-only")
    );
    assert!(
        said(DiskSpace { free: 1 << 20, ..room })
            .starts_with("warning: soon no lease can be kept: 1048576 of ")
    );
    assert_eq!(
        said(DiskSpace { free: 9 << 20, total: 10 << 20, ..room }),
        "",
        "a small disk of its own, nearly empty"
    );
}

#[test]
fn a_state_directory_that_cannot_be_made_or_written_to_is_named() {
    let bench = Bench::new();
    let other = FileReader::User { uid: 12_345, gid: 12_345 };
    let mode = |path: &str, mode| {
        fs::set_permissions(bench.directory.path().join(path), fs::Permissions::from_mode(mode))
            .unwrap()
    };
    mode("", 0o755);
    mode("root", 0o755);
    fs::write(bench.directory.path().join("file"), "").unwrap();
    let below = "[boot]\n";
    let config = |state: &str| {
        let text = format!("root = \"root\"\nstate = \"{state}\"\n{below}");
        Config::parse(&bench.directory.path().join("x.toml").to_string_lossy(), &text).unwrap()
    };
    let said = |state: &str, reader| {
        let (config, borrowed) = (config(state), BorrowedFiles::default());
        let subject = CheckSubject {
            config: &config,
            borrowed: &borrowed,
            wants_dhcp: true,
            reader,
            is_service: false,
        };
        let place = bench.directory.path().to_string_lossy().into_owned();
        let found = state::check_state_directory(subject);
        found.iter().map(|finding| finding.to_string().replace(&place, "")).collect::<Vec<_>>()
    };
    assert_eq!(said("new/deep", other), [""; 0], "the start makes it as root");
    let wrong = only(said("file/deep", other));
    assert!(
        wrong.starts_with(
            "error: /x.toml:2:9: the state directory /file/deep cannot be made: /file is not a dir"
        ),
        "{wrong}"
    );
    assert!(
        only(said("file", other))
            .starts_with("error: /x.toml:2:9: the state /file is not a directory")
    );
    fs::create_dir(bench.directory.path().join("shared")).unwrap();
    mode("shared", 0o700);
    assert_eq!(said("shared", other), [""; 0], "it is given to whoever serves");
    fs::write(bench.directory.path().join("shared/somebody's"), "").unwrap();
    let wrong = only(said("shared", other));
    assert!(
        wrong.contains(
            "the state directory /shared may not be written to by the service\n  hint: \
                       chown -R 12345:12345"
        ),
        "{wrong}"
    );
}

#[test]
fn a_database_that_serve_will_not_read_is_named_with_the_way_out_and_a_full_pool_with_its_figures()
{
    let bench = Bench::new();
    let state = bench.directory.path().join("state");
    let config = bench.config(&format!("{ON_ETH1}pools = [\"192.168.4.10-192.168.4.11\"]\n"));
    let borrowed = BorrowedFiles::default();
    let said = || {
        let reader = FileReader::Caller;
        let subject = CheckSubject {
            config: &config,
            borrowed: &borrowed,
            wants_dhcp: true,
            reader,
            is_service: false,
        };
        let place = bench.directory.path().to_string_lossy().into_owned();
        let found = state::check_lease_database(subject, false);
        found.iter().map(|finding| finding.to_string().replace(&place, "")).collect::<Vec<_>>()
    };
    assert_eq!(said(), [""; 0], "none is there yet");
    let kept = StateDirectory::lock(&state).unwrap();
    let mut store = SqliteStore::open(&kept.database()).unwrap();
    assert_eq!(said(), [""; 0]);
    for last in [10, 11] {
        let (address, mac) = ([192, 168, 4, last].into(), Mac([2, 0, 0, 0, 0, last]));
        let now = crate::control::quirks::read_unix_seconds();
        let lease = Lease::new_bound(address, mac, now + 1000);
        store.commit(&[LeaseChange::Bind(Box::new(Lease { start_s: now, ..lease }))]).unwrap();
    }
    let full = "warning: /x.toml:7:10: the pools of subnet 192.168.4.0/24 are FULL: a further \
                machine gets no address (2 of 2 addresses given)\n  hint: ";
    assert!(only(said()).starts_with(full), "{:?}", said());
    drop(store);
    let newer = rusqlite::Connection::open(kept.database()).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    drop(newer);
    let wrong = only(said());
    assert!(
        wrong.contains(
            "no DHCP can be answered: /state/ringboot.db: the lease database was written by a newer"
        ),
        "{wrong}"
    );
    fs::write(kept.database(), vec![0x5a; 65_536]).unwrap();
    assert_eq!(
        only(said()),
        "error: no DHCP can be answered: the lease database /state/ringboot.db is damaged (file is \
         not a database)\n  hint: `ringboot restore FILE` puts a backup in its place; or move it \
         away, and machines keep their addresses by asking again"
    );
}

#[test]
fn for_another_host_nothing_of_this_one_is_looked_at_but_the_root() {
    let bench = Bench::new();
    fs::create_dir(bench.directory.path().join("state")).unwrap();
    fs::set_permissions(bench.directory.path().join("state"), fs::Permissions::from_mode(0o777))
        .unwrap();
    bench.put("k", b"<html>");
    fs::set_permissions(bench.root().join("k"), fs::Permissions::from_mode(0o000)).unwrap();
    let text = format!(
        "{ON_ETH1}routers = [\"192.168.4.1\"]\npools = [\"192.168.4.1-192.168.4.1\"]\n[boot]\nbios \
         = \"pxelinux.0\"\nipxe = \"none.ipxe\"\n[menu]\n[[menu.entry]]\nlabel = \"x\"\nkernel = \
         \"k\"\n"
    );
    let with_root = bench.check_as(&text, FileReader::Elsewhere { has_root: true });
    assert!(
        with_root[0].starts_with("note: for another host (--no-host): not checked are interfaces"),
        "{with_root:#?}"
    );
    let rest: Vec<&str> = with_root[1..].iter().map(|said| said.lines().next().unwrap()).collect();
    assert_eq!(
        rest,
        [
            "error: /x.toml:8:10: the pool 192.168.4.1-192.168.4.1 has no address for any machine: \
             1 of 1 are this machine's or a \
             router's",
            "note: /x.toml:10:8: [boot] bios = \"pxelinux.0\" is not under the root: a package may \
             have it on that host",
            "error: /x.toml:11:8: [boot] ipxe = \"none.ipxe\" names no file under the root",
            "error: /x.toml:15:10: kernel of the entry `x` is an HTML page (/root/k)",
        ]
    );
    let without = bench.check_as(&text, FileReader::Elsewhere { has_root: false });
    assert!(
        without.len() == 2 && without[0].ends_with(", loaders of packages, the root /root"),
        "{without:#?}"
    );
}

/// eth1 with these addresses.
fn eth1(own: &[[u8; 4]]) -> NetworkInterface {
    let prefixes = own.iter().map(|address| (std::net::Ipv4Addr::from(*address), 24)).collect();
    NetworkInterface {
        name: "eth1".into(),
        index: 2,
        mtu: 1500,
        mac: [2; 6],
        is_up: true,
        is_running: true,
        addresses: Vec::new(),
        prefixes,
    }
}

#[test]
fn d20_a_pool_or_a_reservation_with_an_address_of_this_machine_or_a_router_is_named() {
    let bench = Bench::new();
    let subnet = "[server]\ninterfaces = [\"lo\"]\n[[dhcp.subnet]]\nsubnet = \
                  \"192.168.4.0/24\"\nmode = \"server\"\nrelay = true\n\
                  pools = [\"192.168.4.10-192.168.4.100\"]\n[[dhcp.subnet.host]]\nmac = \
                  \"52:54:00:12:34:10\"\n\
                  address = \"192.168.4.150\"\n";
    let place = bench.directory.path().to_string_lossy();
    let said_of = |config: &Config, own: &[[u8; 4]]| {
        let found = find_own_addresses(config, &[eth1(own)]);
        found.iter().map(|finding| finding.to_string().replace(&*place, "")).collect::<Vec<_>>()
    };
    let config = bench.config(subnet);
    let said = |own: &[[u8; 4]]| said_of(&config, own);
    assert_eq!(said(&[[192, 168, 4, 9], [192, 168, 4, 101], [10, 0, 0, 1]]), [""; 0]);
    let pool = "warning: /x.toml:9:10: the pool 192.168.4.10-192.168.4.100 contains";
    let nobody = "hint: the server never leases it: leave it out of the pool";
    for at in [[192, 168, 4, 10], [192, 168, 4, 100]] {
        let address = std::net::Ipv4Addr::from(at);
        assert_eq!(
            only(said(&[at])),
            format!("{pool} {address}, an address of this machine (eth1)\n  {nobody}")
        );
    }
    assert_eq!(
        only(said(&[[192, 168, 4, 150]])),
        "warning: /x.toml:12:11: 192.168.4.150, reserved for 52:54:00:12:34:10, is an address of \
         this machine (eth1)\n  hint: the server never leases it: reserve another address"
    );
    let off = bench.config(&subnet.replace("\"server\"", "\"off\""));
    assert!(find_own_addresses(&off, &net::list_interfaces().unwrap()).is_empty());
    let routed = bench.config(&subnet.replace("pools", "routers = [\"192.168.4.20\"]\npools"));
    let said = only(said_of(&routed, &[]));
    assert_eq!(
        said,
        format!("{} 192.168.4.20, a router of the subnet\n  {nobody}", pool.replace(":9:", ":10:"))
    );
    let small = subnet
        .replace("pools", "routers = [\"192.168.4.11\"]\npools")
        .replace("4.100\"]", "4.11\"]");
    assert_eq!(
        only(said_of(&bench.config(&small), &[[192, 168, 4, 10]])),
        "error: /x.toml:10:10: the pool 192.168.4.10-192.168.4.11 has no address for any machine: \
         2 of 2 are this machine's or a router's\n  hint: move or widen the pool"
    );
}

const ON_ETH1: &str =
    "[[dhcp.subnet]]\nsubnet = \"192.168.4.0/24\"\nmode = \"server\"\ninterface = \"eth1\"\n";

#[test]
fn d51_a_subnet_that_is_not_on_its_interface_is_named_with_a_way_out() {
    let bench = Bench::new();
    let said = |text: &str, present: &[NetworkInterface]| {
        let found = find_misplaced_subnets(&bench.config(text), present);
        let place = bench.directory.path().to_string_lossy().into_owned();
        found.iter().map(|finding| finding.to_string().replace(&place, "")).collect::<Vec<_>>()
    };
    let elsewhere = eth1(&[[10, 0, 0, 1], [10, 1, 0, 1]]);
    let what =
        "subnet 192.168.4.0/24 is not on interface eth1, which has 10.0.0.1, 10.1.0.1\n  hint: ";
    let wrong = only(said(ON_ETH1, std::slice::from_ref(&elsewhere)));
    assert!(
        wrong.starts_with(&format!("error: /x.toml:4:10: {what}no interface has an address in it")),
        "{wrong}"
    );
    let other = NetworkInterface { name: "eth2".into(), ..eth1(&[[192, 168, 4, 1]]) };
    let wrong = only(said(ON_ETH1, &[elsewhere.clone(), other]));
    let hint = "eth2 has an address in it: write interface = \"eth2\"";
    assert!(wrong.starts_with(&format!("error: /x.toml:6:13: {what}{hint}")), "{wrong}");
    // Relayed, switched off, waited for, and right.
    for (text, present) in [
        (format!("{ON_ETH1}relay = true\n"), elsewhere.clone()),
        (ON_ETH1.replace("\"server\"", "\"off\""), elsewhere.clone()),
        (ON_ETH1.to_owned(), eth1(&[])),
        (ON_ETH1.replace("eth1", "eth9"), elsewhere),
        (ON_ETH1.to_owned(), eth1(&[[10, 0, 0, 1], [192, 168, 4, 1]])),
    ] {
        assert_eq!(said(&text, &[present]), [""; 0], "{text}");
    }
}

#[test]
fn an_interface_by_which_nobody_is_reached_is_named_with_the_reason() {
    let bench = Bench::new();
    let config = bench.config(ON_ETH1);
    let right = eth1(&[[192, 168, 4, 1]]);
    let place = bench.directory.path().to_string_lossy();
    let said = |interface: &NetworkInterface| {
        let found = find_unreachable_interfaces(&config, std::slice::from_ref(interface));
        found.iter().map(|finding| finding.to_string().replace(&*place, "")).collect::<Vec<_>>()
    };
    assert_eq!(said(&right), [""; 0]);
    assert_eq!(
        only(said(&NetworkInterface { name: "eth11".into(), ..right.clone() })),
        "warning: /x.toml:6:13: there is no interface eth1 here (there are: eth11): DHCP waits for \
         it\n  hint: did you mean \
         \"eth11\"?"
    );
    assert!(
        !only(said(&NetworkInterface { name: "wlan0".into(), ..right.clone() })).contains("hint")
    );
    for (interface, words) in [
        (eth1(&[]), "has no IPv4 address: DHCP waits for one\n  hint: `ip addr add "),
        (
            NetworkInterface { is_up: false, is_running: false, ..right.clone() },
            "is down: it reaches no machine\n  hint: `ip link",
        ),
        (
            NetworkInterface { is_running: false, ..right.clone() },
            "has no carrier: it reaches no machine\n  hint: check its cable",
        ),
    ] {
        let said = only(said(&interface));
        assert!(
            said.starts_with(&format!("warning: /x.toml:6:13: interface eth1 {words}")),
            "{said}"
        );
    }
    let relayed = "[server]\ninterfaces = [\"eth7\"]\n[[dhcp.subnet]]\nsubnet = \
                   \"10.0.0.0/8\"\nmode = \"server\"\nrelay = true\n";
    let found = find_unreachable_interfaces(&bench.config(relayed), &[right]);
    assert!(
        found[0].to_string().contains("x.toml:4:15: there is no interface eth7 here"),
        "{found:?}"
    );
}
