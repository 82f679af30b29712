//! Option negotiation: what the client asked, what the operator allows, and the OACK that follows
//! from both.

#[cfg(test)]
mod tests;

use super::limits::{
    BLOCK_SIZE_DEFAULT, BLOCK_SIZE_MAX, BLOCK_SIZE_MIN, WINDOW_DEFAULT_MAX, WINDOW_MAX,
};
use super::packet::{Options, TransferMode, write_option, write_option_ack};

/// What may be granted: the switches for firmware that asks for options and then fails on them
/// (T-23).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionPolicy {
    /// False: `blksize` is ignored. All four false is plain RFC 1350: no OACK is ever sent.
    pub blksize: bool,
    /// False: `timeout` is ignored.
    pub timeout: bool,
    /// False: `tsize` is ignored.
    pub tsize: bool,
    /// False: `windowsize` is ignored.
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

/// What both sides now keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NegotiatedTerms {
    /// Octets in every block but the last.
    pub block_size: u16,
    /// Blocks that may be in flight.
    pub window: u16,
    /// The client's own retransmission interval, seconds (T-21).
    pub timeout_s: Option<u8>,
    /// An OACK opens the transfer; without one, DATA 1 does (T-13).
    pub acknowledged: bool,
}

/// Answers `options` for a file of `len` bytes and writes the OACK to `oack` (of no meaning if
/// [`NegotiatedTerms::acknowledged`] is false). Calling it again gives the same OACK, so none needs
/// to be kept.
///
/// A wrong or forbidden value leaves its option out, it never refuses the request (T-15).
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
        // The first of several wins, even if it was refused (T-10).
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

/// A number in decimal digits; one too large for 64 bits is the largest. None = not a number.
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
    /// None = an option we do not know, left out of the OACK (T-14).
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

    /// The value to answer, entered into the terms; None = leave the option out.
    fn grant(
        self,
        asked: u64,
        policy: &OptionPolicy,
        mode: TransferMode,
        len: u64,
        terms: &mut NegotiatedTerms,
    ) -> Option<u64> {
        match self {
            // T-17: never more than asked, and values over the RFC's range are cut to what we can
            // do.
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
            // T-19: a translated file's size isn't the size the client will see.
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
