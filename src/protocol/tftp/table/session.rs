//! One client's session from its request to its last late ACK: what it asked, what it holds, where
//! it stands.

use std::net::{IpAddr, SocketAddr};

use super::super::Tick;
use super::super::limits::WAITING_MAX;
use super::super::local::LocalAddress;
use super::super::options::{NegotiatedTerms, OptionPolicy};
use super::super::outcome::TransferOutcome;
use super::super::packet::{StoredReadRequest, TftpRefusal};
use super::super::timers::TimerAlarm;
use super::super::transfer::{Transfer, TransferTally};

#[derive(Debug)]
pub(super) struct ClientSession<C> {
    pub(super) peer: SocketAddr,
    pub(super) local: LocalAddress,
    pub(super) tid: Option<u16>,
    pub(super) request: StoredReadRequest,
    pub(super) options: OptionPolicy,
    /// What was agreed, once the file was found.
    pub(super) terms: Option<NegotiatedTerms>,
    pub(super) stage: SessionStage,
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
    pub(super) alarm: TimerAlarm,
}

/// Where a session stands; it only moves down this list.
#[derive(Debug)]
pub(super) enum SessionStage {
    /// Over a limit of its address (T-65).
    Waiting,
    /// The engine looks for the file.
    Opening,
    /// Boxed: most sessions of a crowded table are not running.
    Running(Box<Transfer>),
    /// An ERROR may be owed to the client, and the outcome to the engine.
    Ending { outcome: TransferOutcome, error: Option<TftpRefusal>, tally: TransferTally },
    /// Over; late packets are swallowed (T-32).
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
        }
    }

    /// Not over.
    pub(super) fn is_live(&self) -> bool {
        matches!(
            self.stage,
            SessionStage::Waiting | SessionStage::Opening | SessionStage::Running(_)
        )
    }
}
