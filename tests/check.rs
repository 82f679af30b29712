//! `check`, `loader list`, and a server that starts only on what `check` finds right: loaders of packages, private files, modes.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

mod common;

use common::Scratch;
use common::process::{Output, Process, run};

const LIMIT: Duration = Duration::from_secs(20);
const BINARY: &str = env!("CARGO_BIN_EXE_ringboot");
const PORTS: [&str; 4] = ["--tftp", "127.0.0.1:0", "--http", "127.0.0.1:0"];
/// The menu of the classic set-up, which wipes the disk of whoever waits a minute.
const CLASSIC: &str = include_str!("classic/pxelinux.cfg-default");

fn ringboot(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments);
    command
}

/// A configuration beside its root.
fn configured(scratch: &Scratch, more: &str) -> PathBuf {
    fs::create_dir_all(scratch.path().join("root")).unwrap();
    let file = scratch.path().join("ringboot.toml");
    let ports = "[tftp]\nlisten = []\n[http]\nlisten = [\"127.0.0.1:0\"]\n";
    fs::write(&file, format!("root = \"root\"\nstate = \"state\"\n{ports}{more}")).unwrap();
    file
}

fn check(file: &Path, more: &[&str]) -> Output {
    let mut command = ringboot(&["check", "--config"]);
    command.arg(file).args(more);
    run(command, LIMIT)
}

/// A running server: its process, its TFTP and its HTTP address.
fn serve(mut command: Command) -> (Process, SocketAddr, SocketAddr) {
    command.args(PORTS);
    let process = Process::start(command);
    let find = |text: &String| text.lines().find(|line| line.starts_with("READY")).map(str::to_owned);
    let ready = process.stdout.wait_for(LIMIT, find).unwrap_or_else(|why| panic!("{why:?}: {}", process.stderr.text()));
    let address =
        |key: &str| ready.split_whitespace().find_map(|word| word.strip_prefix(key)?.parse().ok()).expect("an address");
    (process, address("tftp="), address("http="))
}

fn get(http: SocketAddr, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(http).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// The first answer to a read request.
fn read_request(tftp: SocketAddr, name: &str) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.send_to(&[b"\0\x01", name.as_bytes(), b"\0octet\0"].concat(), tftp).unwrap();
    let mut bytes = [0; 600];
    let (len, _) = socket.recv_from(&mut bytes).unwrap();
    bytes[..len].to_vec()
}

#[test]
fn check_exits_with_0_1_and_2_and_says_why() {
    let scratch = Scratch::new("check");
    let file = configured(&scratch, "");
    let output = check(&file, &[]).ok();
    assert!(output.stdout.contains("0 errors, "), "{}", output.stdout);
    let file = configured(&scratch, "[boot]\nbios = \"nothing.0\"\n");
    let output = check(&file, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.starts_with("error: [boot] bios = \"nothing.0\" names no file under the root\n  hint: "));
    assert!(output.stdout.contains("\n1 error, "), "{}", output.stdout);
    let json = check(&file, &["--json"]);
    assert_eq!(json.status.code(), Some(1));
    assert!(json.stdout.contains("\"severity\":\"error\"") && json.stdout.contains("\"errors\":1"), "{}", json.stdout);
    let file = configured(&scratch, "[menu]\ntimeout = \"soon\"\n");
    let output = check(&file, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stderr.contains("ringboot.toml:8:11:") && output.stdout.is_empty(), "{}", output.stderr);
}

#[test]
fn a_busy_port_is_named_by_check() {
    let scratch = Scratch::new("check-busy");
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    let file = configured(&scratch, "");
    let text = fs::read_to_string(&file).unwrap().replace("127.0.0.1:0", &address.to_string());
    fs::write(&file, text).unwrap();
    let output = check(&file, &[]).failed();
    let pid = format!("(pid {}) holds this port", std::process::id());
    assert!(output.stdout.contains(&format!("HTTP cannot listen on {address}")), "{}", output.stdout);
    assert!(output.stdout.contains(&pid), "{}", output.stdout);
}

#[test]
fn serve_binds_nothing_where_check_finds_an_error() {
    let scratch = Scratch::new("serve-refuses");
    for (root, words) in [("/", "would expose this machine"), ("/etc", "would expose this machine")] {
        let mut command = ringboot(&["serve", "--root", root]);
        command.args(PORTS);
        let output = run(command, LIMIT);
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stderr.contains(words) && !output.stdout.contains("READY"), "{}", output.stderr);
    }
    fs::create_dir_all(scratch.path().join("root")).unwrap();
    fs::write(scratch.path().join("root/boot.efi"), "<html>not found</html>").unwrap();
    let file = configured(&scratch, "[boot]\nuefi-x64 = \"boot.efi\"\n");
    let mut command = ringboot(&["serve", "--config"]);
    command.arg(&file).args(PORTS);
    let output = run(command, LIMIT).failed();
    assert!(output.stderr.contains("error: [boot] uefi-x64 = \"boot.efi\" is a text file"), "{}", output.stderr);
}

#[test]
fn b10_loaders_of_packages_are_served_under_the_names_that_clients_ask_for() {
    common::need(&[
        ("/usr/lib/PXELINUX/pxelinux.0", "pxelinux"),
        ("/usr/lib/syslinux/modules/bios/ldlinux.c32", "syslinux-common"),
        ("/usr/lib/shim/shimx64.efi.signed", "shim-signed"),
        ("/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed", "grub-efi-amd64-signed"),
    ]);
    let scratch = Scratch::new("serve-loaders");
    let file = configured(&scratch, "[boot]\nbios = \"boot/pxelinux.0\"\nuefi-x64 = \"shimx64.efi\"\n");
    let mut command = ringboot(&["serve", "--config"]);
    command.arg(&file);
    let (mut server, tftp, http) = serve(command);
    for (name, path) in [
        ("boot/pxelinux.0", "/usr/lib/PXELINUX/pxelinux.0"),
        ("boot/ldlinux.c32", "/usr/lib/syslinux/modules/bios/ldlinux.c32"),
        ("shimx64.efi", "/usr/lib/shim/shimx64.efi.signed"),
        ("grubx64.efi", "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"),
    ] {
        let real = fs::read(path).unwrap();
        assert!(get(http, &format!("/{name}")).ends_with(&real), "{name} by HTTP");
        let data = read_request(tftp, name);
        assert_eq!((&data[..4], &data[4..]), (&[0, 3, 0, 1][..], &real[..512]), "{name} by TFTP");
    }
    for name in ["pxelinux.0", "boot/hdt.c32", "boot/lpxelinux.0", "usr/lib/shim/shimx64.efi.signed"] {
        assert_eq!(read_request(tftp, name)[..4], [0, 5, 0, 1], "{name} is not on the list");
    }
    assert!(server.stop(LIMIT).success());
    let log = server.stderr.text();
    assert!(log.contains("boot/pxelinux.0 is served from /usr/lib/PXELINUX/pxelinux.0"), "{log}");
}

#[test]
fn the_configuration_the_state_and_what_only_its_owner_may_read_stay_private() {
    let scratch = Scratch::new("serve-private");
    let root = scratch.path();
    fs::write(root.join("ringboot.toml"), "root = \".\"\nstate = \"state\"\n").unwrap();
    fs::create_dir(root.join("state")).unwrap();
    fs::write(root.join("state/ringboot.db"), "leases").unwrap();
    std::os::unix::fs::symlink("state", root.join("alias")).unwrap();
    fs::write(root.join("plain"), "plain").unwrap();
    fs::write(root.join("owner"), "owner").unwrap();
    fs::set_permissions(root.join("owner"), fs::Permissions::from_mode(0o600)).unwrap();
    let mut command = ringboot(&["serve", "--config"]);
    command.arg(root.join("ringboot.toml"));
    let (mut server, tftp, http) = serve(command);
    assert_eq!(read_request(tftp, "plain"), b"\0\x03\0\x01plain");
    for name in ["ringboot.toml", "state/ringboot.db", "alias/ringboot.db"] {
        assert_eq!(read_request(tftp, name)[..4], [0, 5, 0, 2], "{name}");
        assert!(get(http, &format!("/{name}")).starts_with(b"HTTP/1.0 404 "), "{name}");
    }
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if is_root {
        assert_eq!(read_request(tftp, "owner")[..4], [0, 5, 0, 2]);
        assert!(get(http, "/owner").starts_with(b"HTTP/1.0 403 "));
    }
    assert!(server.stop(LIMIT).success());
    let log = server.stderr.text();
    assert!(!is_root || log.contains("owner: not everybody may read the file: `chmod o+r`"), "{log}");
}

#[test]
fn state_and_database_are_the_owners_alone_whatever_the_umask() {
    let scratch = Scratch::new("serve-umask");
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = configured(
        &scratch,
        &format!(
            "[dhcp]\nlisten-address = \"127.0.0.1\"\nlisten-port = {port}\n[[dhcp.subnet]]\nsubnet = \"127.77.0.0/16\"\n\
             relay = true\nmode = \"server\"\npools = [\"127.77.1.1-127.77.1.9\"]\n"
        ),
    );
    let mut command = Command::new("sh");
    command.args(["-c", "umask 000; exec \"$@\"", "sh", BINARY, "serve", "--config"]).arg(&file);
    let (mut server, ..) = serve(command);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let state = scratch.path().join("state");
    assert_eq!(mode(&state), 0o700);
    let names: Vec<PathBuf> = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(names.iter().any(|name| name.ends_with("ringboot.db-wal")), "{names:?}");
    for name in &names {
        assert_eq!(mode(name), 0o600, "{}", name.display());
    }
    assert!(server.stop(LIMIT).success());
}

#[test]
fn the_start_log_and_check_name_a_menu_by_hand_that_wipes_disks() {
    let scratch = Scratch::new("check-classic");
    let file = configured(&scratch, "");
    let menu = scratch.path().join("root/pxelinux.cfg/default");
    fs::create_dir_all(menu.parent().unwrap()).unwrap();
    fs::write(&menu, CLASSIC).unwrap();
    let words = "pxelinux.cfg/default:11: the default entry `linux` of this menu INSTALLS BY ITSELF";
    let output = check(&file, &[]).ok();
    assert!(output.stdout.contains("warning: ") && output.stdout.contains(words), "{}", output.stdout);
    let mut command = ringboot(&["serve", "--config"]);
    command.arg(&file);
    let (mut server, _, http) = serve(command);
    assert!(get(http, "/pxelinux.cfg/default").ends_with(CLASSIC.as_bytes()), "served as it is");
    assert!(server.stop(LIMIT).success());
    let log = server.stderr.text();
    assert!(log.contains("WARN") && log.contains(words), "{log}");
}

#[test]
fn loader_list_knows_versions_signatures_and_packages() {
    common::need(&[
        ("/usr/lib/PXELINUX/pxelinux.0", "pxelinux"),
        ("/usr/lib/shim/shimx64.efi.signed", "shim-signed"),
        ("/usr/lib/ipxe/ipxe.efi", "ipxe"),
    ]);
    let table = run(ringboot(&["loader", "list"]), LIMIT).ok().stdout;
    let line =
        |path: &str| table.lines().find(|line| line.ends_with(path)).unwrap_or_else(|| panic!("{path}: {table}"));
    assert!(line("/usr/lib/PXELINUX/pxelinux.0").contains("PXELINUX 6."));
    let shim: Vec<&str> = line("/usr/lib/shim/shimx64.efi.signed").split_whitespace().collect();
    assert!(
        shim.contains(&"uefi-x64") && shim.contains(&"signed") && shim[2..4].join(" ").contains("shim 1"),
        "{shim:?}"
    );
    assert!(line("/usr/lib/ipxe/ipxe.efi").contains("iPXE 1.") && line("/usr/lib/ipxe/ipxe.efi").contains("unsigned"));
    assert!(table.contains("uefi-ia32   none found; packages: "), "{table}");
    let json = run(ringboot(&["loader", "list", "--json"]), LIMIT).ok().stdout;
    assert!(json.contains("\"name\":\"pxelinux.0\"") && json.contains("\"signed\":true"), "{json}");
    assert!(json.contains("{\"key\":\"uefi-ia32\",\"packages\":"), "{json}");
}
