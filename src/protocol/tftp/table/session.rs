//! One client's session from its request to its last late ACK: what it asked, what it holds, where
//! it stands.

use std::net::{IpAddr, SocketAddr};

use super::super::Tick;
use super::super::limits::WAITING_MAX;
use super::super::local::Local;
use super::super::options::{OptionPolicy, Terms};
use super::super::outcome::Outcome;
use super::super::packet::{Refusal, Request};
use super::super::timers::Alarm;
use super::super::transfer::{Tally, Transfer};

#[derive(Debug)]
pub(super) struct Session<C> {
    pub(super) peer: SocketAddr,
    pub(super) local: Local,
    pub(super) tid: Option<u16>,
    pub(super) request: Request,
    pub(super) options: OptionPolicy,
    /// What was agreed, once the file was found.
    pub(super) terms: Option<Terms>,
    pub(super) stage: Stage,
    pub(super) content: Option<C>,
    /// Octets of the content.
    pub(super) len: u64,
    pub(super) started: Tick,
    /// Last ACK that moved the transfer on.
    pub(super) moved_at: Tick,
    /// While waiting: when its client must have given up.
    pub(super) forget_at: Tick,
    /// How long it swallows late packets after its end; 0 = not at all.
    pub(super) quiet_for: Tick,
    /// The address whose limits it counts against.
    pub(super) counted: Option<IpAddr>,
    /// It has a TID and its client has not acknowledged anything.
    pub(super) unconfirmed: bool,
    /// It is in the ready list.
    pub(super) ready: bool,
    pub(super) alarm: Alarm,
}

/// Where a session stands; it only moves down this list.
#[derive(Debug)]
pub(super) enum Stage {
    /// Over a limit of its address (T-65).
    Waiting,
    /// The engine looks for the file.
    Opening,
    /// Boxed: most sessions of a crowded table are not running.
    Running(Box<Transfer>),
    /// An ERROR may be owed to the client, and the outcome to the engine.
    Ending { outcome: Outcome, error: Option<Refusal>, tally: Tally },
    /// Over; late packets are swallowed (T-32).
    Quiet,
}

impl<C> Session<C> {
    pub(super) fn new(
        peer: SocketAddr,
        local: Local,
        request: Request,
        options: OptionPolicy,
        now: Tick,
    ) -> Self {
        Self {
            peer,
            local,
            tid: None,
            request,
            options,
            terms: None,
            stage: Stage::Waiting,
            content: None,
            len: 0,
            started: now,
            moved_at: now,
            forget_at: now + WAITING_MAX,
            quiet_for: 0,
            counted: None,
            unconfirmed: false,
            ready: false,
            alarm: Alarm::default(),
        }
    }

    /// Not over.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.stage, Stage::Waiting | Stage::Opening | Stage::Running(_))
    }
}
