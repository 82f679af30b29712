//! How an operator names a machine: by its hardware address or by its IP address.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::machine::Mac;

/// A machine as an operator names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MachineSelector {
    /// By its hardware address.
    Mac(Mac),
    /// By the IP address that it has.
    Address(IpAddr),
}

impl FromStr for MachineSelector {
    type Err = String;

    /// `52:54:00:12:34:10`, `52-54-...`, `5254.0012.3410`, `525400123410`, or an IP address.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        let digits: String = text.chars().filter(|c| ![':', '-', '.'].contains(c)).collect();
        let octets: Vec<_> = digits
            .as_bytes()
            .chunks(2)
            .map(|pair| String::from_utf8_lossy(pair).into_owned())
            .collect();
        let mac = octets.join(":").parse();
        mac.map(Self::Mac)
            .map_err(|error| format!("neither an IP address nor a hardware address: {error}"))
    }
}

impl fmt::Display for MachineSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => mac.fmt(f),
            Self::Address(address) => address.to_canonical().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_spelling_of_a_hardware_address_is_one_machine() {
        let mac = MachineSelector::Mac(Mac([0x52, 0x54, 0, 0xab, 0x34, 0x10]));
        for text in ["52:54:00:ab:34:10", "52-54-00-AB-34-10", "5254.00ab.3410", "525400ab3410"] {
            assert_eq!(text.parse(), Ok(mac), "{text}");
        }
        assert_eq!(mac.to_string().parse(), Ok(mac));
        assert_eq!(
            "192.168.4.26".parse(),
            Ok(MachineSelector::Address(IpAddr::from([192, 168, 4, 26])))
        );
        for text in ["", "node1", "52:54:00:ab:34", "52:54:00:ab:34:10:11", "52:54:00:ab:34:1é"] {
            assert!(text.parse::<MachineSelector>().is_err(), "{text}");
        }
    }
}
