//! What the supervisor gives to every core, and why a core ends.

use std::io;

use super::drain::DrainOrder;
use super::pulse::CorePulse;
use crate::engine::datapath::Datapath;
use crate::engine::ring::NoRing;
use crate::engine::udp::NoDriver;
use crate::observe::events::EventSender;
use crate::store::NotQueued;

/// What the supervisor gives to every core. Each core makes its mailbox itself, because each has
/// its own type of letter.
#[derive(Clone, Debug)]
pub struct CoreParts {
    /// How the core speaks to the kernel.
    pub datapath: Datapath,
    /// The core's end of the event queue.
    pub events: EventSender,
    /// The flag that tells the core to stop.
    pub drain: DrainOrder,
    /// Signs of life for the watchdog. The default is for tests: no watchdog reads it.
    pub pulse: CorePulse,
}

/// Why a core could not start, or ended before the order to stop.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// The kernel gives this thread no io_uring.
    #[error(transparent)]
    Ring(#[from] NoRing),
    /// The UDP driver could not be set up.
    #[error(transparent)]
    Driver(#[from] NoDriver),
    /// A turn of the driver failed.
    #[error("the sockets of {core} failed: {error}")]
    Sockets {
        /// The core, with its article.
        core: &'static str,
        /// What the kernel answered.
        error: io::Error,
    },
    /// A system call at the start failed.
    #[error("{what}: {error}")]
    System {
        /// What the core was doing, as a gerund.
        what: &'static str,
        /// What the kernel answered.
        error: io::Error,
    },
    /// The store's writer has ended, so no client could get a lease: the core ends too, and
    /// systemd starts the server again.
    #[error(transparent)]
    Store(#[from] NotQueued),
    /// The core's thread panicked; the panic hook has logged the message.
    #[error("it panicked; the log has the message above")]
    Panicked,
}

impl CoreError {
    /// Turns the error of a driver's turn into that of this core, for `map_err`.
    pub fn sockets(core: &'static str) -> impl Fn(io::Error) -> Self + Copy {
        move |error| Self::Sockets { core, error }
    }
}
