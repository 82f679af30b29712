//! How long the DHCP client of each firmware waits, and when it gives up.

use std::time::Duration;

use crate::net::dhcp::{DhcpAnswer, DhcpSpeaker};

/// The waits of one DHCP client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DhcpWaits {
    /// The name of the client in reports.
    pub(crate) who: &'static str,
    /// The wait after the first message. Each further wait is twice as long, up to `most`.
    first: Duration,
    most: Duration,
    /// DISCOVERs after which the client gives up, at the end of the last wait.
    pub(crate) tries: u32,
    /// Each DISCOVER has its own transaction id.
    pub(super) renews_xid: bool,
    pub(super) idle: IdleWait,
}

/// What a client does between an OFFER and its REQUEST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdleWait {
    None,
    /// It collects OFFERs until its timer expires.
    UntilPause,
    /// It waits for a ProxyDHCP server and repeats its DISCOVER meanwhile, unless the OFFER says
    /// that there is none.
    ForProxy,
}

impl DhcpWaits {
    /// How long iPXE waits for a ProxyDHCP server. It checks only when its timer expires: after 1
    /// and 3 s (captures `bios-ipxe`, `multi`).
    pub(super) const PROXY: Duration = Duration::from_secs(2);

    /// REQUESTs after which a client gives up, even if it would send more DISCOVERs (EDK2: 4; RFC
    /// 2131 section 4.4.1 leaves it open).
    pub(super) const REQUESTS_MAX: u32 = 4;

    pub(crate) fn from_speaker(speaker: DhcpSpeaker) -> Self {
        match speaker {
            // PXE 2.1 section 2.2.1: four timeouts, 4, 8, 16 and 32 s.
            DhcpSpeaker::BiosRom => Self { who: "the PXE ROM", ..EDK2 },
            DhcpSpeaker::UefiPxe(_) => EDK2,
            DhcpSpeaker::UefiHttp(_) => Self { who: "UEFI HTTP Boot", ..EDK2 },
            DhcpSpeaker::Ipxe(_) => IPXE,
            DhcpSpeaker::Grub => GRUB,
            DhcpSpeaker::UBoot => U_BOOT,
            DhcpSpeaker::RaspberryPi => RASPBERRY_PI,
        }
    }

    /// The wait after message `nth`, from 0.
    pub(crate) fn pause(&self, nth: u32) -> Duration {
        self.first.saturating_mul(1u32.checked_shl(nth).unwrap_or(u32::MAX)).min(self.most)
    }
}

const fn make_milliseconds(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// DISCOVERs at 0, 4, 12 and 28 s, PXE-E16 at 60 s (measured with OVMF); REQUEST 3.7 to 3.9 s after
/// the OFFER in every capture.
const EDK2: DhcpWaits = DhcpWaits {
    who: "OVMF",
    first: make_milliseconds(4000),
    most: make_milliseconds(32_000),
    tries: 4,
    renews_xid: false,
    idle: IdleWait::UntilPause,
};

/// D-71: 1, 2, 4 and 8 s.
const IPXE: DhcpWaits = DhcpWaits {
    who: "iPXE",
    first: make_milliseconds(1000),
    most: make_milliseconds(8000),
    tries: 4,
    renews_xid: false,
    idle: IdleWait::ForProxy,
};

/// REQUEST 0.2 s after the OFFER (capture `uefi-http`); from 0.2 s doubled while below 10 s (GRUB's
/// bootp.c).
const GRUB: DhcpWaits = DhcpWaits {
    who: "GRUB",
    first: make_milliseconds(200),
    most: make_milliseconds(6400),
    tries: 6,
    renews_xid: false,
    idle: IdleWait::UntilPause,
};

/// 0.1, 0.2 and 0.4 s with four transaction ids (capture `uboot-x86`); at most 2 s, 28 s in all
/// (U-Boot's bootp.c).
const U_BOOT: DhcpWaits = DhcpWaits {
    who: "U-Boot",
    first: make_milliseconds(100),
    most: make_milliseconds(2000),
    tries: 17,
    renews_xid: true,
    idle: IdleWait::None,
};

/// B-14: 45 s in all. The pause of 4 s is the default of its EEPROM (DHCP_REQ_TIMEOUT).
const RASPBERRY_PI: DhcpWaits = DhcpWaits {
    who: "the Raspberry Pi",
    first: make_milliseconds(4000),
    most: make_milliseconds(4000),
    tries: 11,
    renews_xid: false,
    idle: IdleWait::None,
};

impl DhcpSpeaker {
    /// Why this client ignores an OFFER; None if it accepts the OFFER.
    pub(super) fn find_objection(self, offer: &DhcpAnswer) -> Option<&'static str> {
        match self {
            // D-20.
            Self::UefiPxe(_) | Self::UefiHttp(_) if offer.server.is_none() => {
                Some("no OFFER with option 54")
            }
            // Measured: an OFFER without a boot file counts as none.
            Self::UefiPxe(_) if offer.boot_file.is_none() => Some("no OFFER with a boot file"),
            // D-66, D-67.
            Self::UefiHttp(_) if !offer.is_http_client => {
                Some("no OFFER with option 60 = HTTPClient")
            }
            Self::UefiHttp(_) if !offer.boot_file.as_deref().is_some_and(is_http_url) => {
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

fn is_http_url(file: &str) -> bool {
    file.starts_with("http://") || file.starts_with("https://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d71_each_firmware_has_its_own_waits() {
        let whole = |speaker| {
            let waits = DhcpWaits::from_speaker(speaker);
            (0..waits.tries).map(|nth| waits.pause(nth)).sum::<Duration>().as_millis()
        };
        assert_eq!(whole(DhcpSpeaker::UefiPxe(7)), 60_000);
        assert_eq!(whole(DhcpSpeaker::Ipxe(0)), 15_000);
        assert_eq!(whole(DhcpSpeaker::UBoot), 27_100);
        assert_eq!(whole(DhcpSpeaker::RaspberryPi), 44_000);
        assert_eq!(whole(DhcpSpeaker::Grub), 12_600);
    }
}
