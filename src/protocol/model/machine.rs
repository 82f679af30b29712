//! The identity of a machine: its hardware address, its SMBIOS UUID, and its firmware.

use std::fmt;
use std::str::FromStr;

/// An Ethernet hardware address, by which ringboot identifies a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// `52-54-00-12-34-10`: the spelling of pxelinux and GRUB file names (B-1, B-7).
    pub fn to_dashed(self) -> String {
        view_ascii(&self.format_with(b'-')).to_owned()
    }

    fn format_with(self, separator: u8) -> [u8; 17] {
        let mut text = [separator; 17];
        for (place, octet) in text.chunks_mut(3).zip(self.0) {
            place[..2].copy_from_slice(&format_hex_byte(octet));
        }
        text
    }
}

/// Two hexadecimal digits. Not a format string, which takes ten times as long: every log line has a
/// hardware address.
fn format_hex_byte(octet: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[usize::from(octet >> 4)], DIGITS[usize::from(octet & 15)]]
}

fn view_ascii(text: &[u8]) -> &str {
    std::str::from_utf8(text).unwrap_or_default()
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(view_ascii(&self.format_with(b':')))
    }
}

/// The text is not six hexadecimal bytes with `:` or `-` between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hardware address is six bytes in hexadecimal, such as 52:54:00:12:34:10")]
pub struct NotAMac;

impl FromStr for Mac {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let mut octets = [0u8; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().ok_or(NotAMac)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(NotAMac);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| NotAMac)?;
        }
        if parts.next().is_some() {
            return Err(NotAMac);
        }
        Ok(Self(octets))
    }
}

/// A machine UUID in the byte order of SMBIOS and option 97: the first three fields are
/// little-endian (D-39).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uuid(pub [u8; 16]);

impl fmt::Display for Uuid {
    /// The text form that firmware shows on its screen: the little-endian fields reversed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
        const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
        let mut text = [b'-'; 36];
        for (octet, place) in ORDER.into_iter().zip(PLACES) {
            text[place..place + 2].copy_from_slice(&format_hex_byte(self.0[octet]));
        }
        f.write_str(view_ascii(&text))
    }
}

/// The processor and firmware family behind option 93 (IANA "Processor Architecture Types").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arch {
    /// 0 (and 20 over HTTP).
    Bios,
    /// 6 (and 15 over HTTP).
    UefiIa32,
    /// 7 and 9 (D-72; 16 and 17 over HTTP).
    UefiX64,
    /// 11 (and 19 over HTTP).
    UefiArm64,
    /// Any other number: plain DHCP and an event (D-73).
    Other(u16),
}

impl Arch {
    /// The architecture behind a value of option 93, PXE and HTTP numbers alike.
    pub fn from_number(number: u16) -> Self {
        match number {
            0 | 20 => Self::Bios,
            6 | 15 => Self::UefiIa32,
            7 | 9 | 16 | 17 => Self::UefiX64,
            11 | 19 => Self::UefiArm64,
            other => Self::Other(other),
        }
    }

    /// The PXE number of this architecture in option 93; the first where there are several.
    pub fn number(self) -> u16 {
        match self {
            Self::Bios => 0,
            Self::UefiIa32 => 6,
            Self::UefiX64 => 7,
            Self::UefiArm64 => 11,
            Self::Other(number) => number,
        }
    }

    /// True for a UEFI architecture that `[boot]` has a key for.
    pub fn is_uefi(self) -> bool {
        matches!(self, Self::UefiIa32 | Self::UefiX64 | Self::UefiArm64)
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bios => f.write_str("x86 BIOS"),
            Self::UefiIa32 => f.write_str("ia32 UEFI"),
            Self::UefiX64 => f.write_str("x64 UEFI"),
            Self::UefiArm64 => f.write_str("arm64 UEFI"),
            Self::Other(number) => write!(f, "architecture {number}"),
        }
    }
}

/// The kind of program that sends a message. One boot of a machine runs several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FirmwareRole {
    /// A PXE ROM or the firmware's own PXE stack.
    Pxe,
    /// UEFI HTTP Boot (option 60 starts `HTTPClient`).
    HttpBoot,
    /// iPXE, by option 77 or 175 (D-69).
    Ipxe,
    /// A Raspberry Pi's boot ROM or EEPROM (by OUI and option 60).
    RaspberryPi,
    /// U-Boot (option 60 starts `U-Boot`).
    UBoot,
    /// A program without boot options: an installer, an installed system, GRUB's `net_dhcp`.
    System,
}

impl fmt::Display for FirmwareRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pxe => "PXE firmware",
            Self::HttpBoot => "HTTP Boot firmware",
            Self::Ipxe => "iPXE",
            Self::RaspberryPi => "Raspberry Pi firmware",
            Self::UBoot => "U-Boot",
            Self::System => "a system",
        })
    }
}

/// The firmware class: a program on an architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Firmware {
    /// The program.
    pub role: FirmwareRole,
    /// The architecture; None where the client did not send it.
    pub arch: Option<Arch>,
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.arch {
            Some(arch) => write!(f, "{} on {arch}", self.role),
            None => write!(f, "{}", self.role),
        }
    }
}

/// The machine behind a TFTP or HTTP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its hardware address.
    pub mac: Mac,
    /// Its SMBIOS UUID; None before it sent option 97.
    pub uuid: Option<Uuid>,
    /// Its class in the last DHCP exchange of a boot stage.
    pub firmware: Option<Firmware>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn d72_seven_and_nine_are_both_x64() {
        for number in [7, 9, 16, 17] {
            assert_eq!(Arch::from_number(number), Arch::UefiX64);
        }
        assert_eq!([0, 20].map(Arch::from_number), [Arch::Bios; 2]);
        assert_eq!([6, 15].map(Arch::from_number), [Arch::UefiIa32; 2]);
        assert_eq!([11, 19].map(Arch::from_number), [Arch::UefiArm64; 2]);
        assert_eq!(Arch::from_number(22), Arch::Other(22), "arm64 U-Boot is not UEFI");
    }

    #[test]
    fn a_hardware_address_is_six_octets_of_two_digits() {
        for text in ["52:54:00:aB:34:10", "52-54-00-ab-34-10"] {
            let mac: Mac = text.parse().unwrap();
            assert_eq!(
                (mac.to_string(), mac.to_dashed()),
                ("52:54:00:ab:34:10".into(), "52-54-00-ab-34-10".into())
            );
        }
        for text in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:10:11",
            "52:54:0:12:34:10",
            "52:54:000:12:34:10",
            "52:54:+1:12:34:10",
            "52:54:0g:12:34:10",
            "525400123410",
            "52:54:00:12:34:",
        ] {
            assert_eq!(text.parse::<Mac>(), Err(NotAMac), "{text}");
        }
    }

    #[test]
    fn d39_uuid_reads_as_the_firmware_shows_it() {
        let smbios = [
            0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee,
            0xff,
        ];
        assert_eq!(Uuid(smbios).to_string(), "00112233-4455-6677-8899-aabbccddeeff");
    }
}
