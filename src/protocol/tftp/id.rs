//! The name of a transfer.

/// Names a transfer for as long as it lives; the name of an ended transfer matches no later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransferId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl TransferId {
    /// One number, which the engine passes along with a send.
    pub fn token(self) -> u64 {
        (u64::from(self.generation) << 32) + u64::from(self.index)
    }

    /// The transfer with this [`Self::token`]; any other number names no transfer.
    #[allow(clippy::cast_possible_truncation)] // each half is taken on purpose
    pub fn from_token(token: u64) -> Self {
        Self { index: token as u32, generation: (token >> 32) as u32 }
    }
}
