//! The flags of the network: what machines verify, their source addresses, and simulated losses.

use std::time::Duration;

use ringboot_fleet::{ContentProof, NetworkImpairment, WireSettings};
use ringboot_protocol::model::network::Ipv4Network as Cidr;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The network")]
pub(crate) struct NetworkFlags {
    /// What to verify of every file with known contents
    #[arg(long, value_enum, default_value_t)]
    verify: ProofFlag,
    /// Give machines source addresses of this network; all of it must belong to this host, for
    /// instance by `ip route add local CIDR dev lo` (on loopback each machine has its own anyway)
    #[arg(long, value_name = "CIDR")]
    source_addresses: Option<Cidr>,
    /// Share of the datagrams that get lost, each way: 0.01 or 1%
    #[arg(long, value_name = "P", default_value = "0", value_parser = parse_loss_share)]
    loss: f64,
    /// Share of the datagrams that arrive twice
    #[arg(long, value_name = "P", default_value = "0", value_parser = parse_loss_share)]
    dup: f64,
    /// Share of the datagrams that later ones overtake
    #[arg(long, value_name = "P", default_value = "0", value_parser = parse_loss_share)]
    reorder: f64,
    /// Milliseconds by which every datagram is delayed, each way
    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay: u32,
    /// Let the kernel join the received blocks of a window (UDP_GRO), as a good network card does
    #[arg(long)]
    gro: bool,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum ProofFlag {
    /// Every byte
    #[default]
    Full,
    /// The number of bytes
    Length,
    /// Nothing
    None,
}

impl NetworkFlags {
    pub(crate) fn wire(&self) -> WireSettings {
        let verify = match self.verify {
            ProofFlag::Full => ContentProof::Full,
            ProofFlag::Length => ContentProof::Length,
            ProofFlag::None => ContentProof::None,
        };
        let impairment = NetworkImpairment {
            loss: self.loss,
            duplicate: self.dup,
            reorder: self.reorder,
            delay: Duration::from_millis(self.delay.into()),
        };
        WireSettings { verify, gro: self.gro, impairment, sources: self.source_addresses }
    }
}

/// `0.01` or `1%`.
fn parse_loss_share(text: &str) -> Result<f64, String> {
    let (number, whole) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let share = number.parse::<f64>().map_err(|error| error.to_string())? / whole;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err("a share is between 0 and 1, or between 0% and 100%".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_fraction_or_so_many_per_cent() {
        assert_eq!(parse_loss_share("0.25"), Ok(0.25));
        assert_eq!(parse_loss_share("25%"), Ok(0.25));
        for wrong in ["", "%", "1.5", "-1", "101%", "NaN"] {
            assert!(parse_loss_share(wrong).is_err(), "{wrong}");
        }
    }
}
