//! A virtual machine with real firmware (QEMU, emulated: no KVM needed) that boots from the network
//! of a test.

use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

use super::net::Net;
use super::process::Process;
use super::watched::Transcript;

/// What the machine's firmware is and how it boots from the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS with the iPXE option ROM of an Intel E1000, the network card of the classic set-up.
    BiosE1000,
    /// SeaBIOS with the iPXE option ROM of a virtio card. For times in milliseconds: QEMU's E1000
    /// holds back whatever arrives in the first second after its receiver is switched on, this card
    /// does not.
    BiosVirtio,
    /// OVMF's own PXE over IPv4 (no option ROM) with Secure Boot on.
    UefiSecurePxe,
    /// OVMF's own HTTP Boot over IPv4, Secure Boot off: no signed iPXE is packaged.
    UefiHttp,
}

/// Debian 12's UEFI firmware: code, and the template of its variables.
const OVMF: [&str; 2] = ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"];
/// The same with Microsoft's keys enrolled and Secure Boot on.
const OVMF_SECURE: [&str; 2] =
    ["/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"];
/// Enough for the installer's kernel with its unpacked first file system.
const MEMORY_MIB: &str = "1024";
/// One emulated machine keeps one core busy; more at once than this and firmware timers run out on
/// small machines.
const AT_ONCE_MAX: usize = 2;

/// A running machine; switched off when dropped.
pub struct Vm {
    qemu: Process,
    /// All that the firmware, the loaders and the kernel wrote to the first serial port.
    pub serial: Transcript,
    _turn: Turn,
}

impl Vm {
    /// Waits for its turn, then switches the machine on. `dir` takes its variable store and its
    /// serial console.
    pub fn start(net: &Net, firmware: Firmware, mac: &str, dir: &Path) -> Self {
        Self::start_with(net, firmware, mac, dir, &[])
    }

    /// A machine with a hard disk, which comes after the network in its boot order: an image, or a
    /// directory that QEMU shows to it as a disk with one FAT partition.
    pub fn start_with_disk(
        net: &Net,
        firmware: Firmware,
        mac: &str,
        dir: &Path,
        disk: &Path,
    ) -> Self {
        let fat = if disk.is_dir() { "fat:rw:" } else { "" };
        let drive = format!("if=none,id=disk,format=raw,file={fat}{}", disk.display());
        let extra = ["-drive", &drive, "-device", "ide-hd,drive=disk,bootindex=1"];
        Self::start_with(net, firmware, mac, dir, &extra)
    }

    fn start_with(net: &Net, firmware: Firmware, mac: &str, dir: &Path, extra: &[&str]) -> Self {
        super::need(&[
            ("qemu-system-x86_64", "qemu-system-x86"),
            ("/usr/lib/ipxe/qemu/pxe-e1000.rom", "ipxe-qemu"),
            (OVMF[0], "ovmf"),
        ]);
        let turn = Turn::wait();
        let mut command = net.command("qemu-system-x86_64");
        command.args([
            "-accel",
            "tcg",
            "-smp",
            "1",
            "-m",
            MEMORY_MIB,
            "-no-reboot",
            "-display",
            "none",
        ]);
        command.args(["-monitor", "none", "-uuid", "00112233-4455-6677-8899-aabbccddee00"]);
        let console = format!("stdio,id=console,logfile={}", dir.join("serial.txt").display());
        command.args(["-chardev", &console, "-serial", "chardev:console"]);
        command
            .arg("-netdev")
            .arg(format!("tap,id=lan,ifname={},script=no,downscript=no", net.tap()));
        match firmware {
            Firmware::BiosE1000 | Firmware::BiosVirtio => {
                let card = if firmware == Firmware::BiosE1000 { "e1000" } else { "virtio-net-pci" };
                command.args([
                    "-machine",
                    "pc",
                    "-device",
                    &format!("{card},netdev=lan,mac={mac},bootindex=0"),
                ]);
            }
            Firmware::UefiSecurePxe | Firmware::UefiHttp => {
                let [code, template] =
                    if firmware == Firmware::UefiSecurePxe { OVMF_SECURE } else { OVMF };
                let variables = dir.join("variables.fd");
                std::fs::copy(template, &variables).expect("a copy of OVMF's variables");
                // Secure Boot's variables may only be written in system management mode.
                command.args([
                    "-machine",
                    "q35,smm=on",
                    "-global",
                    "driver=cfi.pflash01,property=secure,value=on",
                ]);
                command.args([
                    "-drive",
                    &format!("if=pflash,unit=0,format=raw,readonly=on,file={code}"),
                ]);
                command.args([
                    "-drive",
                    &format!("if=pflash,unit=1,format=raw,file={}", variables.display()),
                ]);
                // An empty romfile takes QEMU's iPXE away, else that would boot instead of the
                // firmware.
                let card = format!("virtio-net-pci,netdev=lan,mac={mac},romfile=,bootindex=0");
                command.args(["-device", &card]);
            }
        }
        if firmware == Firmware::UefiHttp {
            for stack in ["IPv4PXESupport", "IPv6PXESupport"] {
                command.args(["-fw_cfg", &format!("name=opt/org.tianocore/{stack},string=n")]);
            }
        }
        command.args(extra);
        let qemu = Process::start(command);
        Self { serial: qemu.stdout.clone(), qemu, _turn: turn }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("QEMU said: {}", self.qemu.stderr.text());
            eprintln!(
                "the end of the serial console (all of it is in serial.txt):\n{}",
                self.serial.tail(60)
            );
        }
    }
}

/// One of the places for running machines in this test process.
struct Turn;

static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

impl Turn {
    fn wait() -> Self {
        let running = RUNNING.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = RUNNING
            .1
            .wait_while(running, |n| *n >= AT_ONCE_MAX)
            .unwrap_or_else(PoisonError::into_inner);
        *free += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        RUNNING.1.notify_one();
    }
}
