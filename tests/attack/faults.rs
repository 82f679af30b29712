//! What happens to the server's host while it is attacked: signals, power, disk, clock, addresses,
//! links, files.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use ringboot::model::random::SeededRandom;

use super::common::net::BRIDGE;
use super::site::Site;

/// A service manager that waits for less than what clients that stand still make a server wait.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);
/// A clock is wrong by some of these: a jump of a time server, a zone, a battery that is empty.
const CLOCK_UNITS_S: [i64; 3] = [60, 3600, 366 * 86_400];

/// One trouble, which is over when [`Fault::happen`] returns.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    None,
    Stopped,
    Killed,
    Ended,
    Rebooted,
    Reloaded,
    Reconfigured,
    DiskFull,
    DatabaseGone,
    LinkDown,
    AddressLeaves,
    AddressInThePool,
    ClockAhead,
    ClockBehind,
    FilesReplaced,
}

pub(crate) const ALL: [Fault; 15] = [
    Fault::None,
    Fault::Stopped,
    Fault::Killed,
    Fault::Ended,
    Fault::Rebooted,
    Fault::Reloaded,
    Fault::Reconfigured,
    Fault::DiskFull,
    Fault::DatabaseGone,
    Fault::LinkDown,
    Fault::AddressLeaves,
    Fault::AddressInThePool,
    Fault::ClockAhead,
    Fault::ClockBehind,
    Fault::FilesReplaced,
];

impl Fault {
    /// Does it, for a part of a second, and puts right what an operator or the world would put
    /// right.
    pub(crate) fn happen(self, site: &mut Site, datapath: &str, random: &mut SeededRandom) {
        let a_while = Duration::from_millis(100 + random.below(500));
        match self {
            Self::None => (),
            Self::Stopped => {
                site.process().signal("STOP");
                std::thread::sleep(a_while);
                site.process().signal("CONT");
            }
            Self::Killed => {
                site.kill();
                site.start();
            }
            Self::Ended => {
                if random.below(4) == 0 {
                    site.stop();
                } else {
                    site.stop_or_kill(DRAIN_PATIENCE);
                }
                site.start();
            }
            Self::Rebooted => {
                site.kill();
                site.boot(&format!("boot-{}", random.next_number()));
                site.start();
            }
            Self::Reloaded => site.process().signal("HUP"),
            Self::Reconfigured => {
                site.configure(datapath, 600 + u32::try_from(random.below(600)).unwrap());
                site.process().signal("HUP");
            }
            Self::DiskFull => {
                let filler = site.disk().join("filler");
                // As much as there is room for, and an error for the rest.
                let _ = fs::write(&filler, vec![0; 128 << 20]);
                std::thread::sleep(a_while);
                fs::remove_file(&filler).unwrap();
            }
            Self::DatabaseGone => {
                for entry in fs::read_dir(site.disk()).unwrap().flatten() {
                    if entry.file_name().to_string_lossy().starts_with("ringboot.db") {
                        fs::remove_file(entry.path()).unwrap();
                    }
                }
                std::thread::sleep(a_while);
            }
            Self::LinkDown => {
                site.net.ip(&["link", "set", BRIDGE, "down"]);
                std::thread::sleep(a_while);
                site.net.ip(&["link", "set", BRIDGE, "up"]);
            }
            Self::AddressLeaves => {
                let address = format!("{}/24", super::common::net::SERVER);
                site.net.ip(&["addr", "del", &address, "dev", BRIDGE]);
                std::thread::sleep(a_while);
                site.net.ip(&["addr", "add", &address, "dev", BRIDGE]);
            }
            Self::AddressInThePool => {
                let start = 10 + random.below(91);
                let pool = (0..91).map(|n| {
                    Ipv4Addr::new(192, 168, 4, u8::try_from(10 + (start + n) % 91).unwrap())
                });
                let Some(address) = site.witness.free(pool) else { return };
                site.net.ip(&["addr", "add", &format!("{address}/32"), "dev", BRIDGE]);
                site.witness.own(Some(address));
                std::thread::sleep(a_while);
                site.witness.own(None);
                site.net.ip(&["addr", "del", &format!("{address}/32"), "dev", BRIDGE]);
            }
            Self::ClockAhead | Self::ClockBehind => {
                let unit_s = CLOCK_UNITS_S[usize::try_from(random.below(3)).unwrap()];
                let seconds = unit_s * i64::try_from(1 + random.below(24)).unwrap();
                // It stays wrong, for all who start by it, until it is set wrong in another way.
                site.turn_clock(if matches!(self, Self::ClockAhead) { seconds } else { -seconds });
                std::thread::sleep(a_while);
            }
            Self::FilesReplaced => {
                let directory = site.scratch.path().join("root/attack");
                for number in 0..64 {
                    let (new, name) =
                        (directory.join("new"), directory.join(format!("small-{number}")));
                    fs::write(&new, vec![number; usize::try_from(random.below(9000)).unwrap()])
                        .unwrap();
                    fs::rename(&new, &name).unwrap();
                }
                let image = fs::File::options().write(true).open(directory.join("image")).unwrap();
                image.set_len(random.below(1 << 20)).unwrap();
                image.set_len(64 << 20).unwrap();
            }
        }
    }
}
