//! What the supervisor gives to every core, and why a core ends.

use std::io;

use super::drain::DrainOrder;
use super::pulse::CorePulse;
use crate::engine::datapath::Datapath;
use crate::engine::ring::NoRing;
use crate::engine::udp::NoDriver;
use crate::observe::events::EventSender;
use crate::store::NotQueued;

/// What the supervisor gives to every core. A core makes its mailbox itself: its letters are its
/// own.
#[derive(Clone, Debug)]
pub struct CoreParts {
    pub datapath: Datapath,
    pub events: EventSender,
    pub drain: DrainOrder,
    /// The default is for tests: nobody watches.
    pub pulse: CorePulse,
}

/// Why a core could not start, or ended before the order to stop.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    #[error(transparent)]
    Ring(#[from] NoRing),
    #[error(transparent)]
    Driver(#[from] NoDriver),
    #[error("the sockets of {core} failed: {error}")]
    Sockets { core: &'static str, error: io::Error },
    #[error("{what}: {error}")]
    System { what: &'static str, error: io::Error },
    /// Nobody would get a lease from now on: the core ends, and systemd starts it again.
    #[error(transparent)]
    Store(#[from] NotQueued),
    #[error("it panicked; the message stands above")]
    Panicked,
}

impl CoreError {
    /// Makes the error of a driver's turn.
    pub fn sockets(core: &'static str) -> impl Fn(io::Error) -> Self + Copy {
        move |error| Self::Sockets { core, error }
    }
}
