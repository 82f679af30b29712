//! How long the DHCP client of each firmware waits, and when it gives up.

use std::time::Duration;

use crate::net::dhcp::{Answer, Speaker};

/// The waits of one DHCP client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waits {
    /// The client as reports call it.
    pub(crate) who: &'static str,
    /// After the first message. Each further wait is twice as long, as long as that is no more than
    /// `most`.
    first: Duration,
    most: Duration,
    /// DISCOVERs after which it gives up, when the last wait is over.
    pub(crate) tries: u32,
    /// Each DISCOVER has a transaction id of its own.
    pub(super) renews_xid: bool,
    pub(super) idle: Idle,
}

/// What a client does between an OFFER and its REQUEST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Idle {
    None,
    /// It collects OFFERs until its timer rings.
    UntilPause,
    /// It waits for a ProxyDHCP server, and asks again meanwhile, unless the OFFER says that there
    /// is none.
    ForProxy,
}

impl Waits {
    /// How long iPXE waits for a ProxyDHCP server. It looks only when its timer rings: after 1 and
    /// 3 s (captures `bios-ipxe`, `multi`).
    pub(super) const PROXY: Duration = Duration::from_secs(2);

    /// REQUESTs after which a client gives up that would send more DISCOVERs (EDK2: 4; RFC 2131
    /// section 4.4.1 leaves it open).
    pub(super) const REQUESTS_MAX: u32 = 4;

    pub(crate) fn of(speaker: Speaker) -> Self {
        match speaker {
            // PXE 2.1 section 2.2.1: four timeouts, 4, 8, 16 and 32 s.
            Speaker::BiosRom => Self { who: "the PXE ROM", ..EDK2 },
            Speaker::UefiPxe(_) => EDK2,
            Speaker::UefiHttp(_) => Self { who: "UEFI HTTP Boot", ..EDK2 },
            Speaker::Ipxe(_) => IPXE,
            Speaker::Grub => GRUB,
            Speaker::UBoot => U_BOOT,
            Speaker::RaspberryPi => RASPBERRY_PI,
        }
    }

    /// After message `nth`, from 0.
    pub(crate) fn pause(&self, nth: u32) -> Duration {
        self.first.saturating_mul(1u32.checked_shl(nth).unwrap_or(u32::MAX)).min(self.most)
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// DISCOVERs at 0, 4, 12 and 28 s, PXE-E16 at 60 s (measured with OVMF); REQUEST 3.7 to 3.9 s after
/// the OFFER in every capture.
const EDK2: Waits = Waits {
    who: "OVMF",
    first: ms(4000),
    most: ms(32_000),
    tries: 4,
    renews_xid: false,
    idle: Idle::UntilPause,
};

/// D-71: 1, 2, 4 and 8 s.
const IPXE: Waits = Waits {
    who: "iPXE",
    first: ms(1000),
    most: ms(8000),
    tries: 4,
    renews_xid: false,
    idle: Idle::ForProxy,
};

/// REQUEST 0.2 s after the OFFER (capture `uefi-http`); from 0.2 s doubled while below 10 s (GRUB's
/// bootp.c).
const GRUB: Waits = Waits {
    who: "GRUB",
    first: ms(200),
    most: ms(6400),
    tries: 6,
    renews_xid: false,
    idle: Idle::UntilPause,
};

/// 0.1, 0.2 and 0.4 s with four transaction ids (capture `uboot-x86`); at most 2 s, 28 s in all
/// (U-Boot's bootp.c).
const U_BOOT: Waits = Waits {
    who: "U-Boot",
    first: ms(100),
    most: ms(2000),
    tries: 17,
    renews_xid: true,
    idle: Idle::None,
};

/// B-14: 45 s in all. The pause of 4 s is the default of its EEPROM (DHCP_REQ_TIMEOUT).
const RASPBERRY_PI: Waits = Waits {
    who: "the Raspberry Pi",
    first: ms(4000),
    most: ms(4000),
    tries: 11,
    renews_xid: false,
    idle: Idle::None,
};

impl Speaker {
    /// Why this client ignores an OFFER; None where it takes it.
    pub(super) fn objects_to(self, offer: &Answer) -> Option<&'static str> {
        let is_http = |file: &String| file.starts_with("http://") || file.starts_with("https://");
        match self {
            // D-20.
            Self::UefiPxe(_) | Self::UefiHttp(_) if offer.server.is_none() => {
                Some("no OFFER with option 54")
            }
            // Measured: an OFFER without a boot file is as none.
            Self::UefiPxe(_) if offer.boot_file.is_none() => Some("no OFFER with a boot file"),
            // D-66, D-67.
            Self::UefiHttp(_) if !offer.is_http_client => {
                Some("no OFFER with option 60 = HTTPClient")
            }
            Self::UefiHttp(_) if !offer.boot_file.as_ref().is_some_and(is_http) => {
                Some("no OFFER with a URL")
            }
            // D-59.
            Self::RaspberryPi if !offer.is_for_raspberry_pi => {
                Some("no OFFER with \"Raspberry Pi Boot\" in option 43")
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d71_each_firmware_has_its_own_waits() {
        let whole = |speaker| {
            let waits = Waits::of(speaker);
            (0..waits.tries).map(|nth| waits.pause(nth)).sum::<Duration>().as_millis()
        };
        assert_eq!(whole(Speaker::UefiPxe(7)), 60_000);
        assert_eq!(whole(Speaker::Ipxe(0)), 15_000);
        assert_eq!(whole(Speaker::UBoot), 27_100);
        assert_eq!(whole(Speaker::RaspberryPi), 44_000);
        assert_eq!(whole(Speaker::Grub), 12_600);
    }
}
