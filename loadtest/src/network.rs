//! The flags that say how machines meet the network: what they verify, from which addresses, over
//! how bad a way.

use std::time::Duration;

use ringboot_fleet::{Impairment, Verify, Wire};
use ringboot_protocol::model::network::Network as Cidr;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The network")]
pub(crate) struct Network {
    /// What to prove of every file whose octets are known
    #[arg(long, value_enum, default_value_t)]
    verify: Proof,
    /// Machines speak from addresses of this network, all of which belong to this host, for
    /// instance by `ip route add local CIDR dev lo` (on loopback they have their own anyway)
    #[arg(long, value_name = "CIDR")]
    source_addresses: Option<Cidr>,
    /// Share of the datagrams that get lost, each way: 0.01 or 1%
    #[arg(long, value_name = "P", default_value = "0", value_parser = share)]
    loss: f64,
    /// Share that comes twice
    #[arg(long, value_name = "P", default_value = "0", value_parser = share)]
    dup: f64,
    /// Share that is overtaken by what follows
    #[arg(long, value_name = "P", default_value = "0", value_parser = share)]
    reorder: f64,
    /// Milliseconds by which every datagram is late, each way
    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay: u32,
    /// Let the kernel join blocks of a window on their way in (UDP_GRO), as a good network card
    /// does
    #[arg(long)]
    gro: bool,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Proof {
    /// Every octet
    #[default]
    Full,
    /// That all octets have come
    Length,
    /// Nothing
    None,
}

impl Network {
    pub(crate) fn wire(&self) -> Wire {
        let verify = match self.verify {
            Proof::Full => Verify::Full,
            Proof::Length => Verify::Length,
            Proof::None => Verify::None,
        };
        let impairment = Impairment {
            loss: self.loss,
            duplicate: self.dup,
            reorder: self.reorder,
            delay: Duration::from_millis(self.delay.into()),
        };
        Wire { verify, gro: self.gro, impairment, sources: self.source_addresses }
    }
}

/// `0.01` or `1%`.
fn share(text: &str) -> Result<f64, String> {
    let (number, whole) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let share = number.parse::<f64>().map_err(|error| error.to_string())? / whole;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err("a share is from 0 to 1, or 0% to 100%".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_fraction_or_so_many_per_cent() {
        assert_eq!(share("0.25"), Ok(0.25));
        assert_eq!(share("25%"), Ok(0.25));
        for wrong in ["", "%", "1.5", "-1", "101%", "NaN"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }
}
