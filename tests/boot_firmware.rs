//! Real firmware boots from ringboot: BIOS into an installer, Secure Boot through shim and GRUB,
//! HTTP Boot into iPXE.

mod common;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use common::Scratch;
use common::capture::{Capture, REQUESTS, discover_to_ack};
use common::net::{Net, SERVER};
use common::root;
use common::server::{self, Server};
use common::vm::{Firmware, Vm};
use dhcproto::v4::{Message, MessageType, OptionCode};

/// The card of every virtual machine here; each has a network of its own.
const MAC: &str = "52:54:00:12:34:10";
const MAC_BYTES: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x10];

/// What an iPXE is told to fetch where a boot goes on over HTTP.
const SCRIPT_URL: &str = "http://192.168.4.150/boot.ipxe";
/// From power-on to the firmware's first DHCP packet.
const FIRMWARE_LIMIT: Duration = Duration::from_secs(120);
/// From one stage of a boot to the next: an emulated machine beside other work needs up to half of
/// this.
const STAGE_LIMIT: Duration = Duration::from_secs(180);
/// The pass mark for the address of an iPXE ROM: it was 3.0 s without D-68's answer. The first
/// OFFER of an address waits 200 ms for a host that uses it (D-36).
const IPXE_ADDRESS_MAX: Duration = Duration::from_millis(500);
/// From its DISCOVER to its first file, both waits answered: tens of milliseconds on an idle
/// machine, 16 s without.
const IPXE_FIRST_FILE_MAX: Duration = Duration::from_secs(2);

/// No questions, no full-screen dialogues on the serial line, no wait for IPv6 routers.
const INSTALLER_ARGUMENTS: &str = "auto=true priority=critical \
                                   url=http://192.168.4.150/preseed.cfg \
     DEBIAN_FRONTEND=text netcfg/choose_interface=auto ipv6.disable=1";

const PRESEED: &str = "\
d-i debian-installer/locale string en_US
d-i keyboard-configuration/xkb-keymap select us
d-i netcfg/choose_interface select auto
d-i preseed/early_command string wget -O /dev/null http://192.168.4.150/beacon/{{ mac }}/{{ ip }}
";

/// A master boot record that says so on the first serial port and halts: the disk of a machine that
/// is installed.
#[rustfmt::skip]
const DISK_CODE: &[u8] = &[
    0x31, 0xc0,             // xor ax, ax
    0x8e, 0xd8,             // mov ds, ax
    0xbe, 0x13, 0x7c,       // mov si, 0x7c13: the text below
    0xba, 0xf8, 0x03,       // mov dx, 0x3f8
    0xac,                   // next: lodsb
    0x84, 0xc0,             // test al, al
    0x74, 0x03,             // jz stop
    0xee,                   // out dx, al
    0xeb, 0xf8,             // jmp next
    0xf4,                   // stop: hlt
];
const DISK_SAYS: &str = "the disk has booted";

#[test]
fn s16_a_bios_machine_with_an_e1000_reaches_its_unattended_installer() {
    let Some(lab) = Lab::new("bios", Boot { ipxe: "pxelinux.0", install_by_default: true }) else {
        return;
    };
    let _vm = Vm::start(&lab.net, Firmware::BiosE1000, MAC, lab.scratch.path());

    lab.capture.wait_request("TFTP pxelinux.0 ", FIRMWARE_LIMIT);
    lab.capture.wait_request("TFTP pxelinux.cfg/01-52-54-00-12-34-10", STAGE_LIMIT);
    lab.capture.wait_request(root::KERNEL, STAGE_LIMIT);
    lab.capture.wait_request(root::INITRD, STAGE_LIMIT);
    let is_installers =
        |message: &Message| vendor_class(message) == "d-i" && kind(message) == MessageType::Request;
    lab.capture.wait_dhcp("the installer's own REQUEST", STAGE_LIMIT, is_installers);
    lab.capture.wait_request("HTTP GET /preseed.cfg", STAGE_LIMIT);
    // The answer file was rendered for this machine, and the installer runs what it says.
    let address = lab.one_address();
    lab.capture.wait_request(&format!("HTTP GET /beacon/{MAC}/{address} "), STAGE_LIMIT);
    lab.finish();
}

#[test]
fn s83_a_machine_that_nobody_asked_to_install_boots_its_disk() {
    let Some(lab) = Lab::new("disk", Boot { ipxe: "pxelinux.0", install_by_default: false }) else {
        return;
    };
    let disk = lab.scratch.path().join("disk.img");
    write_disk(&disk);
    let vm = Vm::start_with_disk(&lab.net, Firmware::BiosVirtio, MAC, lab.scratch.path(), &disk);

    lab.capture.wait_request("TFTP pxelinux.cfg/01-52-54-00-12-34-10", FIRMWARE_LIMIT);
    lab.expect_disk(&vm);
}

#[test]
fn s83_the_same_from_an_ipxe_script() {
    let Some(lab) = Lab::new("ipxe-disk", Boot { ipxe: SCRIPT_URL, install_by_default: false })
    else {
        return;
    };
    let disk = lab.scratch.path().join("disk.img");
    write_disk(&disk);
    let vm = Vm::start_with_disk(&lab.net, Firmware::BiosVirtio, MAC, lab.scratch.path(), &disk);

    lab.capture.wait_request("HTTP GET /boot.ipxe", FIRMWARE_LIMIT);
    lab.expect_disk(&vm);
}

#[test]
fn s83_the_same_from_grub_with_secure_boot() {
    let Some(lab) = Lab::new("uefi-disk", Boot { ipxe: SCRIPT_URL, install_by_default: false })
    else {
        return;
    };
    let disk = lab.scratch.path().join("disk");
    root::installed_disk(&disk, DISK_SAYS);
    let vm = Vm::start_with_disk(&lab.net, Firmware::UefiSecurePxe, MAC, lab.scratch.path(), &disk);

    lab.capture.wait_request("grub.cfg", FIRMWARE_LIMIT);
    lab.expect_disk(&vm);
}

#[test]
fn s83_the_same_from_an_ipxe_script_on_uefi() {
    let Some(lab) =
        Lab::new("uefi-ipxe-disk", Boot { ipxe: SCRIPT_URL, install_by_default: false })
    else {
        return;
    };
    let disk = lab.scratch.path().join("disk");
    root::installed_disk(&disk, DISK_SAYS);
    let vm = Vm::start_with_disk(&lab.net, Firmware::UefiHttp, MAC, lab.scratch.path(), &disk);

    lab.capture.wait_request("HTTP GET /boot.ipxe", FIRMWARE_LIMIT);
    lab.expect_disk(&vm);
}

#[test]
fn d68_an_ipxe_rom_has_its_address_within_half_a_second_of_asking() {
    let Some(lab) = Lab::new("ipxe", Boot { ipxe: "boot.ipxe", install_by_default: false }) else {
        return;
    };
    let _vm = Vm::start(&lab.net, Firmware::BiosVirtio, MAC, lab.scratch.path());

    let of_us =
        |message: &Message| message.chaddr() == MAC_BYTES && kind(message) == MessageType::Ack;
    lab.capture.wait_dhcp("an ACK", FIRMWARE_LIMIT, of_us);
    let took = discover_to_ack(&lab.capture.dhcp(), MAC_BYTES).expect("a DISCOVER before that ACK");
    say(&format!("iPXE ROM on BIOS: DISCOVER to ACK in {:.1} ms", took.as_secs_f64() * 1000.0));
    assert!(
        took < IPXE_ADDRESS_MAX,
        "{took:?} from DISCOVER to ACK, at most {IPXE_ADDRESS_MAX:?}:\n{}",
        lab.capture
    );
    // Without an answer to its IPv6 router solicitation the ROM waits 13 s more before it asks for
    // a file.
    let asked_at = lab.capture.wait_request("/boot.ipxe", STAGE_LIMIT);
    let discovered_at = lab
        .capture
        .dhcp()
        .iter()
        .find(|(_, message)| message.chaddr() == MAC_BYTES)
        .expect("its ACK was seen")
        .0;
    let took = asked_at - discovered_at;
    say(&format!(
        "iPXE ROM on BIOS: DISCOVER to first file in {:.1} ms",
        took.as_secs_f64() * 1000.0
    ));
    assert!(
        took < IPXE_FIRST_FILE_MAX,
        "{took:?} from DISCOVER to the first file:\n{}",
        lab.capture
    );
    lab.finish();
}

#[test]
fn b10_a_secure_boot_machine_boots_by_pxe_through_shim_and_grub() {
    let Some(lab) = Lab::new("uefi-pxe", Boot { ipxe: "boot.ipxe", install_by_default: true })
    else {
        return;
    };
    let vm = Vm::start(&lab.net, Firmware::UefiSecurePxe, MAC, lab.scratch.path());

    lab.capture.wait_request("TFTP bootnetx64.efi ", FIRMWARE_LIMIT);
    lab.capture.wait_request("TFTP revocations", STAGE_LIMIT);
    lab.capture.wait_request("TFTP grubx64.efi octet blksize 512", STAGE_LIMIT);
    lab.capture.wait_request("grub.cfg", STAGE_LIMIT);
    lab.capture.wait_request(root::INITRD, STAGE_LIMIT);
    vm.serial.wait_line("Linux version", STAGE_LIMIT);
    vm.serial.wait_line("Secure boot enabled", STAGE_LIMIT);
    vm.serial.wait_line(&format!("url=http://{SERVER}/preseed.cfg"), STAGE_LIMIT);
    lab.one_address();
    lab.finish();
}

#[test]
fn d66_a_uefi_machine_boots_by_http_through_ipxe() {
    let Some(lab) = Lab::new("uefi-http", Boot { ipxe: SCRIPT_URL, install_by_default: true })
    else {
        return;
    };
    let vm = Vm::start(&lab.net, Firmware::UefiHttp, MAC, lab.scratch.path());

    lab.capture.wait_request("HTTP HEAD /ipxe.efi ", FIRMWARE_LIMIT);
    lab.capture.wait_request("HTTP GET /boot.ipxe", STAGE_LIMIT);
    lab.capture.wait_request(&format!("HTTP GET /{}", root::INITRD), STAGE_LIMIT);
    vm.serial.wait_line("Linux version", STAGE_LIMIT);
    vm.serial.wait_line(&format!("url=http://{SERVER}/preseed.cfg"), STAGE_LIMIT);
    lab.one_address();
    let by_tftp = lab.capture.requests().into_iter().find(|request| request.starts_with("TFTP"));
    assert_eq!(by_tftp, None, "HTTP Boot asked over TFTP");
    lab.finish();
}

/// What differs between the tests' configurations.
struct Boot {
    /// What an iPXE ROM gets: the script, or what a BIOS machine without iPXE would get.
    ipxe: &'static str,
    install_by_default: bool,
}

/// A network with the Debian installer behind ringboot, and a capture of who asks for what.
struct Lab {
    server: Server,
    capture: Capture,
    net: Net,
    scratch: Scratch,
    name: String,
    started: Instant,
}

impl Lab {
    /// None only where the person who ran the tests said `--skip-firmware`.
    fn new(name: &str, boot: Boot) -> Option<Self> {
        if std::env::var_os("RINGBOOT_SKIP_FIRMWARE").is_some() {
            say(&format!(
                "SKIPPED because of RINGBOOT_SKIP_FIRMWARE: the firmware boot {name:?} has proved \
                 NOTHING"
            ));
            return None;
        }
        let scratch = Scratch::new(name);
        let root = server::root(&scratch);
        root::debian(&root);
        root::write(&root.join("preseed.cfg.j2"), PRESEED.as_bytes());
        let net = Net::new();
        let capture = Capture::start(&net, REQUESTS, &scratch.path().join("boot.pcap"));
        let server =
            Server::start(&net, &scratch, &(server::configuration(&scratch) + &boot.tables()));
        Some(Self { server, capture, net, scratch, name: name.to_owned(), started: Instant::now() })
    }

    /// Stops the server, which must exit with 0, and says how long the boot took.
    fn finish(self) {
        say(&format!(
            "firmware boot {:?}: all seen after {:.1} s",
            self.name,
            self.started.elapsed().as_secs_f64()
        ));
        self.server.stop();
    }

    /// The machine boots its disk, without a look at the installer.
    fn expect_disk(self, vm: &Vm) {
        vm.serial.wait_line(DISK_SAYS, STAGE_LIMIT);
        let loaded =
            self.capture.requests().into_iter().find(|request| request.contains(root::KERNEL));
        assert_eq!(
            loaded, None,
            "the installer's kernel was fetched by a machine that should boot its disk"
        );
        self.finish();
    }

    /// The address of the machine; fails where its stages (firmware, loader, installer) got
    /// different ones.
    fn one_address(&self) -> std::net::Ipv4Addr {
        let messages = self.capture.dhcp();
        let acks = messages.iter().filter(|(_, message)| kind(message) == MessageType::Ack);
        let mut addresses: Vec<_> = acks.map(|(_, message)| message.yiaddr()).collect();
        addresses.dedup();
        assert_eq!(addresses.len(), 1, "one machine, one boot, {addresses:?}:\n{}", self.capture);
        addresses[0]
    }
}

impl Boot {
    fn tables(&self) -> String {
        format!(
            r#"install-by-default = {}

[boot]
bios = "pxelinux.0"
uefi-x64 = "bootnetx64.efi"
uefi-http = "ipxe.efi"
ipxe = "{}"

[menu]
title = "System test"
timeout = 1
default = "install"
console = "ttyS0,115200n8"

[[menu.entry]]
label = "install"
title = "^Install Debian without questions"
kernel = "{}"
initrd = ["{}"]
arguments = "{INSTALLER_ARGUMENTS}"
"#,
            self.install_by_default,
            self.ipxe,
            root::KERNEL,
            root::INITRD
        )
    }
}

/// One MiB with a boot record.
fn write_disk(path: &Path) {
    let mut disk = vec![0u8; 1 << 20];
    let code = [DISK_CODE, DISK_SAYS.as_bytes(), b"\r\n\0"].concat();
    disk[..code.len()].copy_from_slice(&code);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    std::fs::write(path, disk).expect("a disk image");
}

fn kind(message: &Message) -> MessageType {
    message.opts().msg_type().unwrap_or(MessageType::Unknown(0))
}

fn vendor_class(message: &Message) -> String {
    match message.opts().get(OptionCode::ClassIdentifier) {
        Some(dhcproto::v4::DhcpOption::ClassIdentifier(class)) => {
            String::from_utf8_lossy(class).into_owned()
        }
        _ => String::new(),
    }
}

/// A line that a person sees although the test harness holds the output of tests that pass.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
