//! Shares out the file descriptors of the process, except those of HTTP: numbers in, numbers out.

use crate::images::MAPPINGS_MAX;

/// Descriptors in reserve for everything else: look-ups, state, logs, commands, helpers.
const KEPT_BACK: usize = 96;
/// Descriptors of each core beside its transfer ports: rings, bells, listening sockets.
const OF_A_CORE: usize = 20;
/// Sockets of each IPv4 transfer port: one that receives, and one that sends for each of two
/// addresses of the server.
const OF_A_PORT: usize = 3;

/// How many transfer ports and mappings the descriptors allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// TFTP transfer ports of one core.
    pub tids: u16,
    /// Files that the server may map at a time.
    pub mappings: usize,
}

/// Grants everything if half of the limit, the half that HTTP leaves, is enough. Otherwise transfer
/// ports get at most half of that, and mapped files the rest.
pub fn share_out(limit: u64, cores: usize, tids: u16) -> Shares {
    let (cores, half) = (cores.max(1), usize::try_from(limit / 2).unwrap_or(usize::MAX));
    let ports = half / 2 / (OF_A_PORT * cores);
    let tids = tids.min(u16::try_from(ports.max(1)).unwrap_or(u16::MAX));
    let fixed = KEPT_BACK + cores * (OF_A_CORE + OF_A_PORT * usize::from(tids));
    Shares { tids, mappings: MAPPINGS_MAX.min(half.saturating_sub(fixed).max(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_given_where_the_limit_allows_it() {
        for cores in [1, 4, 64] {
            assert_eq!(
                share_out(1 << 20, cores, 16),
                Shares { tids: 16, mappings: MAPPINGS_MAX },
                "{cores}"
            );
        }
    }

    #[test]
    fn shares_never_exceed_half_of_the_limit_and_each_has_one() {
        for limit in [256, 512, 1024, 4096, 16_384] {
            for cores in [1, 2, 4, 16] {
                let shares = share_out(limit, cores, 16);
                let fixed = KEPT_BACK + cores * (OF_A_CORE + OF_A_PORT * usize::from(shares.tids));
                let fits = fixed + shares.mappings <= usize::try_from(limit / 2).unwrap_or(0);
                assert!(fits || shares.mappings == 1, "{limit} for {cores}: {shares:?}");
                assert!(shares.tids > 0 && shares.mappings > 0);
            }
        }
        assert!(share_out(1024, 1, 16).mappings > 250);
    }
}
