//! Option negotiation: from the client's options and the operator's policy to the OACK.

#[cfg(test)]
mod tests;

use super::limits::{
    BLOCK_SIZE_DEFAULT, BLOCK_SIZE_MAX, BLOCK_SIZE_MIN, WINDOW_DEFAULT_MAX, WINDOW_MAX,
};
use super::packet::{Options, TransferMode, write_option, write_option_ack};

/// Options that the server may grant: switches for firmware that asks for options and then fails on
/// them (T-23).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionPolicy {
    /// False: the server ignores `blksize`. All four false is plain RFC 1350: the server sends no
    /// OACK.
    pub blksize: bool,
    /// False: the server ignores `timeout`.
    pub timeout: bool,
    /// False: the server ignores `tsize`.
    pub tsize: bool,
    /// False: the server ignores `windowsize`.
    pub windowsize: bool,
    /// Largest block, bytes; the MTU may lower it further.
    pub block_size_max: u16,
    /// Largest window, blocks.
    pub window_max: u16,
}

impl Default for OptionPolicy {
    fn default() -> Self {
        Self {
            blksize: true,
            timeout: true,
            tsize: true,
            windowsize: true,
            block_size_max: BLOCK_SIZE_MAX,
            window_max: WINDOW_DEFAULT_MAX,
        }
    }
}

/// The terms that both sides keep to after the negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NegotiatedTerms {
    /// Bytes in every block but the last.
    pub block_size: u16,
    /// Blocks that may be in flight.
    pub window: u16,
    /// The client's own retransmission interval, seconds (T-21).
    pub timeout_s: Option<u8>,
    /// An OACK opens the transfer; without one, DATA 1 does (T-13).
    pub acknowledged: bool,
}

/// Answers `options` for a file of `len` bytes and writes the OACK to `oack` (meaningless if
/// [`NegotiatedTerms::acknowledged`] is false). A second call writes the same OACK, so the table
/// keeps none.
///
/// A wrong or forbidden value leaves its option out of the OACK; it never refuses the request
/// (T-15).
pub fn negotiate_options(
    options: Options<'_>,
    policy: &OptionPolicy,
    mode: TransferMode,
    len: u64,
    oack: &mut Vec<u8>,
) -> NegotiatedTerms {
    let mut terms = NegotiatedTerms {
        block_size: BLOCK_SIZE_DEFAULT,
        window: 1,
        timeout_s: None,
        acknowledged: false,
    };
    write_option_ack(oack);
    let mut seen = [false; 4];
    for (name, value) in options {
        let Some(option) = KnownOption::from_name(name) else { continue };
        // The first of several wins, even if the server refused it (T-10).
        if std::mem::replace(&mut seen[option as usize], true) {
            continue;
        }
        let granted = parse_decimal(value)
            .filter(|_| option.is_allowed(policy))
            .and_then(|asked| option.grant(asked, policy, mode, len, &mut terms));
        if let Some(granted) = granted {
            write_option(oack, name, granted);
            terms.acknowledged = true;
        }
    }
    terms
}

/// Parses decimal digits; a number too large for 64 bits saturates. None: not a number.
pub(super) fn parse_decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
    })
}

#[derive(Clone, Copy, Debug)]
enum KnownOption {
    Blksize,
    Timeout,
    Tsize,
    Windowsize,
}

impl KnownOption {
    /// None: an unknown option, which the OACK leaves out (T-14).
    fn from_name(name: &[u8]) -> Option<Self> {
        let known = [
            (&b"blksize"[..], Self::Blksize),
            (b"timeout", Self::Timeout),
            (b"tsize", Self::Tsize),
            (b"windowsize", Self::Windowsize),
        ];
        known
            .into_iter()
            .find(|(spelling, _)| name.eq_ignore_ascii_case(spelling))
            .map(|(_, option)| option)
    }

    /// T-23: the operator's switch for this option.
    fn is_allowed(self, policy: &OptionPolicy) -> bool {
        match self {
            Self::Blksize => policy.blksize,
            Self::Timeout => policy.timeout,
            Self::Tsize => policy.tsize,
            Self::Windowsize => policy.windowsize,
        }
    }

    /// Returns the value for the OACK and enters it into the terms; None: leave the option out.
    fn grant(
        self,
        asked: u64,
        policy: &OptionPolicy,
        mode: TransferMode,
        len: u64,
        terms: &mut NegotiatedTerms,
    ) -> Option<u64> {
        match self {
            // T-17: never more than the client asked; cut values over the RFC's range to the
            // server's limit.
            Self::Blksize => {
                let cap = policy.block_size_max.clamp(BLOCK_SIZE_MIN, BLOCK_SIZE_MAX);
                let size = u16::try_from(asked).unwrap_or(u16::MAX).min(cap);
                if size < BLOCK_SIZE_MIN {
                    return None;
                }
                terms.block_size = size;
                Some(u64::from(size))
            }
            // T-18: the same value or none; U-Boot aborts on any other.
            Self::Timeout => {
                terms.timeout_s = Some(u8::try_from(asked).ok().filter(|seconds| *seconds > 0)?);
                Some(asked)
            }
            // T-19: the size of the file is not the size of its netascii translation.
            Self::Tsize => (mode == TransferMode::Octet).then_some(len),
            // T-20
            Self::Windowsize => {
                let asked = u16::try_from(asked).ok().filter(|blocks| *blocks > 0)?;
                terms.window = asked.min(policy.window_max.clamp(1, WINDOW_MAX));
                Some(u64::from(terms.window))
            }
        }
    }
}
