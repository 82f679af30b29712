//! What the operator allows TFTP clients.

use super::super::limits::{MTU_DEFAULT, TIDS_DEFAULT, TransferLimits};
use super::super::options::OptionPolicy;
use crate::model::network::NetworkSet;

/// What the operator allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TftpPolicy {
    /// MTU of the path to the clients, bytes; blocks shrink to fit without fragments (T-17).
    pub mtu: u16,
    /// Options that the server grants, unless the client's firmware has limits of its own.
    pub options: OptionPolicy,
    /// TID sockets of the engine, numbered from 0. 0: single-port mode, in which every reply leaves
    /// from the listening socket (T-47).
    pub tids: u16,
    /// Limits of one core.
    pub limits: TransferLimits,
    /// Blocks that may leave for one transfer in a millisecond; 0: a whole window at once (T-40).
    /// Firmware runs one transfer at a time.
    pub packets_per_ms: u16,
    /// Off for `--root` without a configuration. Never applied to loopback (T-65).
    pub per_address_limits: bool,
    /// Networks that the server answers; empty: all. It always answers loopback (T-65).
    pub serve: NetworkSet,
}

impl Default for TftpPolicy {
    fn default() -> Self {
        Self {
            mtu: MTU_DEFAULT,
            options: OptionPolicy::default(),
            tids: TIDS_DEFAULT,
            limits: TransferLimits::default(),
            packets_per_ms: 0,
            per_address_limits: true,
            serve: NetworkSet::default(),
        }
    }
}
