//! The state of one connection: its input, its stage and its clock; and the table of all
//! connections of a core.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::time::Instant;

use super::asking::AskedRequest;
use super::body::{AnswerBody, BodyWait};
use super::clock::{AckWatch, ConnectionClock, WaitState};
use super::plan::HttpTimeouts;
use crate::engine::stream::{ConnectionId, TcpSendError};
use crate::http::input::RequestInput;
use crate::http::limits::{CROWD_SHARE, STILL_MIN, STILL_SENDING_MIN};

/// What a connection is doing.
#[derive(Debug)]
pub(super) enum ConnectionStage {
    /// The core accepted it in this turn.
    Arrived,
    /// It waits for a place (H-34).
    Waiting,
    /// It got neither a place nor room to wait. Its request shows whether its client comes again if
    /// told so (H-14).
    Refused,
    /// The core reads the next request, or waits for one.
    Reading,
    /// A request waits for a worker.
    Asking(AskedRequest),
    /// `100 Continue` is on its way: the client may send the body.
    Inviting,
    /// An answer is on its way.
    Sending(AnswerBody),
    /// The last answer has left. The core reads and discards input for a while: otherwise a client
    /// that is still sending would see a reset instead of the answer.
    Leaving {
        until: Instant,
        /// Watches a client that still receives what the kernel holds for it.
        awaited: Option<AckWatch>,
    },
}

/// What a connection occupies among the places of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlaceHeld {
    Nothing,
    /// One of the places for connections that are served.
    Place,
    /// One of the few for connections that are told to come again.
    Refusal,
}

/// What the driver does with a connection's input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum InputFlow {
    #[default]
    Open,
    /// Too much input waits in the core: the rest stays in the kernel.
    Paused,
    /// The last answer is on its way with the end of the connection.
    Stopped,
}

/// A connection from its first byte to its last.
#[derive(Debug)]
pub(super) struct HttpConnection {
    pub(super) id: ConnectionId,
    pub(super) peer: SocketAddr,
    /// The server's address that the client connected to; None: the core has not needed it yet.
    pub(super) local: Option<IpAddr>,
    pub(super) stage: ConnectionStage,
    pub(super) input: RequestInput,
    /// When the first byte of the current request arrived; for a request with a body, when the body
    /// was due.
    pub(super) first_byte: Option<Instant>,
    /// The client has ended its side.
    pub(super) has_ended: bool,
    pub(super) failed: Option<TcpSendError>,
    /// The core resets it at its end, and the kernel discards what it still holds for the client.
    pub(super) is_cut: bool,
    /// The driver has a send of this connection.
    pub(super) is_sending: bool,
    /// The kernel has taken bytes of a send in this turn.
    pub(super) has_moved: bool,
    pub(super) place: PlaceHeld,
    pub(super) flow: InputFlow,
    /// Most bytes a second, enforced by the kernel; None: no limit.
    pub(super) rate: Option<NonZeroU64>,
    /// It is on the list of connections that this turn looks at.
    pub(super) is_touched: bool,
    pub(super) clock: ConnectionClock,
}

impl HttpConnection {
    pub(super) fn new(
        id: ConnectionId,
        peer: SocketAddr,
        timeouts: HttpTimeouts,
        now: Instant,
    ) -> Self {
        Self {
            id,
            peer,
            local: None,
            stage: ConnectionStage::Arrived,
            input: RequestInput::default(),
            first_byte: None,
            has_ended: false,
            failed: None,
            is_cut: false,
            is_sending: false,
            has_moved: false,
            place: PlaceHeld::Nothing,
            flow: InputFlow::Open,
            rate: None,
            is_touched: false,
            clock: ConnectionClock::new(timeouts, now),
        }
    }

    /// Starts the clock.
    pub(super) fn start_clock(&mut self, now: Instant) {
        self.clock.begin_window(now);
        self.clock.move_on(now);
    }

    /// When its client last made progress.
    pub(super) fn moved_at(&self) -> Instant {
        match &self.stage {
            ConnectionStage::Sending(AnswerBody { wait: BodyWait::Client(awaited), .. }) => {
                awaited.moved
            }
            _ => self.clock.moved,
        }
    }

    /// Marks the connection for a look in this turn. False: it was marked before.
    pub(super) fn touch(&mut self) -> bool {
        !std::mem::replace(&mut self.is_touched, true)
    }

    /// Gives the connection a place: the core reads its requests.
    pub(super) fn give_place(&mut self) {
        self.place = PlaceHeld::Place;
        self.stage = ConnectionStage::Reading;
    }

    /// Notes that the kernel has taken bytes of a send, with the number that are left.
    pub(super) fn note_sent(&mut self, bytes: u64, left: u64) {
        self.clock.written += bytes;
        self.has_moved = true;
        self.is_sending = left > 0;
    }

    /// Keeps input, unless no further request is answered.
    pub(super) fn take_input(&mut self, bytes: &[u8]) {
        if !matches!(self.stage, ConnectionStage::Leaving { .. }) {
            self.input.push(bytes);
        }
    }

    /// What the connection waits for, for its clock; None: it has just arrived.
    fn wait_state(&self) -> Option<WaitState> {
        Some(match &self.stage {
            ConnectionStage::Arrived => return None,
            ConnectionStage::Waiting => WaitState::Waiting,
            ConnectionStage::Refused => {
                WaitState::Leaving(self.clock.window + self.clock.timeouts.linger)
            }
            ConnectionStage::Leaving { until, .. } => WaitState::Leaving(*until),
            ConnectionStage::Reading => self.first_byte.map_or(WaitState::Idle, WaitState::Head),
            ConnectionStage::Inviting | ConnectionStage::Sending(_) if self.is_sending => {
                WaitState::Sending
            }
            ConnectionStage::Sending(AnswerBody { wait: BodyWait::Client(awaited), .. }) => {
                WaitState::Delivering(awaited.next)
            }
            ConnectionStage::Asking(_) => WaitState::Asking,
            ConnectionStage::Inviting | ConnectionStage::Sending(_) => WaitState::Preparing,
        })
    }

    /// Whether the core may close the connection for a client that has none: it has made no
    /// progress for a while, or its source has many connections (`share`). Returns whether it
    /// receives an answer, and since when it has made no progress.
    pub(super) fn stands_still(&self, now: Instant, share: usize) -> Option<(bool, Instant)> {
        let (is_answered, since, least) = match (&self.stage, self.wait_state()?) {
            (ConnectionStage::Reading, WaitState::Head(first_byte)) => {
                (false, first_byte, STILL_MIN)
            }
            (ConnectionStage::Reading | ConnectionStage::Leaving { .. }, _) => {
                (false, self.clock.moved, STILL_MIN)
            }
            (_, WaitState::Sending) => (true, self.clock.moved, STILL_SENDING_MIN),
            (ConnectionStage::Sending(AnswerBody { wait: BodyWait::Client(awaited), .. }), _) => {
                (true, awaited.moved, STILL_SENDING_MIN)
            }
            _ => return None,
        };
        let is_one_of_many = !is_answered && share >= CROWD_SHARE;
        (self.place == PlaceHeld::Place && (is_one_of_many || now >= since + least))
            .then_some((is_answered, since))
    }

    /// When the core must look at the connection.
    pub(super) fn due(&self) -> Option<Instant> {
        self.wait_state().map(|state| self.clock.due(state))
    }

    /// Whether the client's time is over. `held`: bytes that the kernel holds for it.
    pub(super) fn is_overdue(&mut self, now: Instant, held: impl FnOnce() -> u64) -> bool {
        match (self.wait_state(), &mut self.stage) {
            (
                Some(WaitState::Delivering(_)),
                ConnectionStage::Sending(AnswerBody { wait: BodyWait::Client(awaited), .. }),
            ) => awaited.is_overdue(now, &self.clock.timeouts),
            (Some(state), _) => self.clock.is_overdue(now, state, held),
            (None, _) => false,
        }
    }
}

/// The open connections of a core, by the driver's numbers.
#[derive(Debug, Default)]
pub(super) struct ConnectionTable {
    slots: Vec<Option<Box<HttpConnection>>>,
    len: usize,
}

impl ConnectionTable {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut HttpConnection> {
        self.slots.get_mut(id.index())?.as_deref_mut().filter(|connection| connection.id == id)
    }

    /// Takes a connection out of the table; [`Self::insert`] puts it back.
    pub(super) fn take(&mut self, id: ConnectionId) -> Option<Box<HttpConnection>> {
        let taken = self.slots.get_mut(id.index())?.take_if(|connection| connection.id == id);
        self.len -= usize::from(taken.is_some());
        taken
    }

    pub(super) fn insert(&mut self, connection: Box<HttpConnection>) {
        let index = connection.id.index();
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || None);
        }
        self.slots[index] = Some(connection);
        self.len += 1;
    }

    /// Takes the connection out of this slot.
    pub(super) fn take_from(&mut self, slot: usize) -> Option<Box<HttpConnection>> {
        let taken = self.slots.get_mut(slot)?.take();
        self.len -= usize::from(taken.is_some());
        taken
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &HttpConnection> {
        self.slots.iter().flatten().map(Box::as_ref)
    }

    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        self.slots.iter().flatten().map(|connection| connection.id).collect()
    }
}
