//! One client's session from its request to its last late ACK: its request, its content, its stage.

use std::net::{IpAddr, SocketAddr};

use super::super::Tick;
use super::super::limits::WAITING_MAX;
use super::super::local::LocalAddress;
use super::super::options::{NegotiatedTerms, OptionPolicy};
use super::super::outcome::TransferOutcome;
use super::super::packet::{StoredReadRequest, TftpRefusal};
use super::super::timers::TimerAlarm;
use super::super::transfer::{Transfer, TransferTally};
use super::order::SendPlace;

#[derive(Debug)]
pub(super) struct ClientSession<C> {
    pub(super) peer: SocketAddr,
    pub(super) local: LocalAddress,
    pub(super) tid: Option<u16>,
    pub(super) request: StoredReadRequest,
    pub(super) options: OptionPolicy,
    /// The agreed terms, once the engine has found the file.
    pub(super) terms: Option<NegotiatedTerms>,
    pub(super) stage: SessionStage,
    pub(super) content: Option<C>,
    /// Bytes of the content.
    pub(super) len: u64,
    pub(super) started: Tick,
    /// When an ACK last moved the transfer forward.
    pub(super) moved_at: Tick,
    /// While the request waits: when its client must have given up.
    pub(super) forget_at: Tick,
    /// How long the session swallows late packets after its end; 0: not at all.
    pub(super) quiet_for: Tick,
    /// The address against whose limits the session counts.
    pub(super) counted: Option<IpAddr>,
    /// The session has a TID, and its client has not sent an ACK.
    pub(super) unconfirmed: bool,
    /// The session is in the ready list.
    pub(super) ready: bool,
    pub(super) alarm: TimerAlarm,
    /// The place of a large transfer in the order of its link.
    pub(super) place: Option<SendPlace>,
}

/// The stage of a session; it only moves down this list.
#[derive(Debug)]
pub(super) enum SessionStage {
    /// Waits, since its address is over a limit (T-65).
    Waiting,
    /// The engine looks for the file.
    Opening,
    /// Boxed: most sessions of a crowded table are not running.
    Running(Box<Transfer>),
    /// The table owes the engine the outcome, and perhaps the client an ERROR.
    Ending { outcome: TransferOutcome, error: Option<TftpRefusal>, tally: TransferTally },
    /// Ended; the table swallows late packets (T-32).
    Quiet,
}

impl<C> ClientSession<C> {
    pub(super) fn new(
        peer: SocketAddr,
        local: LocalAddress,
        request: StoredReadRequest,
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
            stage: SessionStage::Waiting,
            content: None,
            len: 0,
            started: now,
            moved_at: now,
            forget_at: now + WAITING_MAX,
            quiet_for: 0,
            counted: None,
            unconfirmed: false,
            ready: false,
            alarm: TimerAlarm::default(),
            place: None,
        }
    }

    /// Whether the transfer waits for its turn on a full link.
    #[inline]
    pub(super) fn is_held(&self) -> bool {
        self.place.as_ref().is_some_and(SendPlace::is_held)
    }

    /// Whether the session has not ended.
    pub(super) fn is_live(&self) -> bool {
        matches!(
            self.stage,
            SessionStage::Waiting | SessionStage::Opening | SessionStage::Running(_)
        )
    }
}
