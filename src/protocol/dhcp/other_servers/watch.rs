//! When to look for other DHCP servers, and whether a subnet may be served.

use std::net::Ipv4Addr;

use super::message::{MonotonicMillis, RivalLook, ServerMessage};
use crate::dhcp::limits::{
    LOOK_AGAIN_MS, LOOK_APART_MS, LOOK_ASK_AGAIN_MS, LOOK_BESIDE_MS, LOOK_BUSY_MS, LOOK_EVERY_MS,
    LOOK_FIRST_MS, LOOK_KNOWN_MS, LOOK_LISTENS_MS, LOOK_RETRY_MS, LOOK_SPREAD,
};
use crate::dhcp::subnet::{HoldReason, OtherServer};

/// The watch on one subnet: when to look for other servers, and whether one holds this server back.
#[derive(Clone, Debug)]
pub struct ServerWatch {
    state: WatchState,
    /// True: serve beside other servers (`allow-other-servers`), and only report them.
    beside: bool,
    before: PriorKnowledge,
    /// Transaction ID of the last look.
    xid: Option<u32>,
    looked_ms: MonotonicMillis,
    listens_until_ms: Option<MonotonicMillis>,
    pub(super) next_ms: MonotonicMillis,
    /// The pause between the next look and the one after it.
    pause_ms: MonotonicMillis,
    /// A server that answered once where this server serves; a second look decides.
    doubt: Option<OtherServer>,
    /// When another server last answered a look.
    answered_ms: Option<MonotonicMillis>,
}

/// What the server knew of a subnet before its restart, or before its link went down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriorKnowledge {
    /// No look of this subnet is on record.
    Nothing,
    /// The last look found no server, and clients have leases: offer soon, and look meanwhile.
    Alone,
    /// The last look found a server, which may answer slowly.
    Beside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WatchState {
    /// No interface with an address in the subnet.
    Nowhere,
    /// The first look is not over.
    Looking,
    /// No other server answers: this server serves.
    Alone,
    /// Another server answers: this server stands by.
    Beside(OtherServer),
}

/// The conclusion of a look. `is_news`: it differs from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookVerdict {
    /// No other server answered.
    Nobody {
        /// True where a server was known, or suspected, before.
        is_news: bool,
    },
    /// A server answered.
    Server {
        /// That server.
        server: OtherServer,
        /// True where this server was not known before.
        is_news: bool,
    },
    /// A server answered where this server serves. This server goes on until a second look is
    /// answered as well.
    Doubt(OtherServer),
}

/// What to do about the look of another ringboot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RivalResponse {
    /// Nothing.
    Silence,
    /// Answer it: this server is here.
    Answer,
    /// Stand by: the other ringboot has the lower address.
    Yield(LookVerdict),
}

impl ServerWatch {
    /// A watch on a subnet whose interface is not there yet.
    pub fn new(beside: bool, before: PriorKnowledge) -> Self {
        Self {
            state: WatchState::Nowhere,
            beside,
            before,
            xid: None,
            looked_ms: 0,
            listens_until_ms: None,
            next_ms: 0,
            pause_ms: LOOK_AGAIN_MS,
            doubt: None,
            answered_ms: None,
        }
    }

    /// When another server last answered a look.
    pub fn answered_ms(&self) -> Option<MonotonicMillis> {
        self.answered_ms
    }

    /// When the last look began; None before the first.
    pub fn looked_ms(&self) -> Option<MonotonicMillis> {
        self.xid.map(|_| self.looked_ms)
    }

    /// When the next look begins; None while one is under way, and without an interface.
    pub fn next_look_ms(&self) -> Option<MonotonicMillis> {
        (self.state != WatchState::Nowhere && self.listens_until_ms.is_none())
            .then_some(self.next_ms)
    }

    /// Why the server offers no address; None where it serves the subnet.
    pub fn hold_reason(&self) -> Option<HoldReason> {
        match self.state {
            WatchState::Nowhere => Some(HoldReason::NoInterface),
            _ if self.beside => None,
            WatchState::Looking => Some(HoldReason::Looking),
            WatchState::Alone => None,
            WatchState::Beside(server) => Some(HoldReason::OtherServer(server)),
        }
    }

    /// Follows a change of `allow-other-servers`.
    pub fn set_beside(&mut self, beside: bool) {
        self.beside = beside;
    }

    /// The interface has an address in the subnet now. Prior knowledge counts only for the first
    /// time: a new interface may be on another segment.
    pub fn on_interface_up(&mut self, now: MonotonicMillis) {
        self.state = WatchState::Looking;
        self.start_over(now);
    }

    /// The interface, or its address in the subnet, is gone.
    pub fn on_interface_down(&mut self) {
        if self.state != WatchState::Nowhere {
            self.before = PriorKnowledge::Nothing;
        }
        self.state = WatchState::Nowhere;
        self.start_over(0);
    }

    /// The link is up again: another server may have taken over meanwhile.
    pub fn on_link_restored(&mut self, now: MonotonicMillis) {
        if self.state == WatchState::Alone {
            (self.state, self.before) = (WatchState::Looking, PriorKnowledge::Alone);
        }
        self.start_over(now);
    }

    /// Forgets the findings, at an operator's request, and looks as at the first start.
    pub fn forget(&mut self, now: MonotonicMillis) {
        if self.state != WatchState::Nowhere {
            (self.state, self.before) = (WatchState::Looking, PriorKnowledge::Nothing);
            self.start_over(now);
        }
    }

    /// Looks after a reload. A standby looks as at the first start; a server that serves goes on
    /// meanwhile.
    pub fn look_again(&mut self, now: MonotonicMillis) {
        match self.state {
            WatchState::Beside(_) => self.forget(now),
            WatchState::Alone if self.listens_until_ms.is_none() => self.next_ms = now,
            WatchState::Alone | WatchState::Looking | WatchState::Nowhere => {}
        }
    }

    fn start_over(&mut self, now: MonotonicMillis) {
        (self.xid, self.listens_until_ms, self.doubt) = (None, None, None);
        (self.next_ms, self.pause_ms) = (now, LOOK_AGAIN_MS);
    }

    /// True when it is time to send a DISCOVER; then call `on_look_sent`.
    pub fn is_due(&self, now: MonotonicMillis) -> bool {
        self.state != WatchState::Nowhere && self.listens_until_ms.is_none() && now >= self.next_ms
    }

    /// The DISCOVER with this transaction ID was sent.
    pub fn on_look_sent(&mut self, xid: u32, now: MonotonicMillis) {
        let listens = match (self.state, self.before) {
            (WatchState::Looking, PriorKnowledge::Nothing) => LOOK_FIRST_MS,
            (WatchState::Looking, PriorKnowledge::Alone) => LOOK_KNOWN_MS,
            _ => LOOK_LISTENS_MS,
        };
        (self.xid, self.looked_ms, self.listens_until_ms) =
            (Some(xid), now, Some(now.saturating_add(listens)));
        let spread = u64::from(xid) % (self.pause_ms / LOOK_SPREAD).max(1);
        self.next_ms = now.saturating_add(self.pause_ms).saturating_add(spread);
        let longest = if matches!(self.state, WatchState::Beside(_)) {
            LOOK_BESIDE_MS
        } else {
            LOOK_EVERY_MS
        };
        self.pause_ms = self.pause_ms.saturating_mul(2).min(longest);
    }

    /// The DISCOVER could not be sent, for example because the interface is down.
    pub fn on_send_failed(&mut self, now: MonotonicMillis) {
        self.next_ms = now.saturating_add(LOOK_RETRY_MS);
    }

    /// Another server sent an OFFER or an ACK: to our look, however late, or to another client,
    /// which is a reason to look.
    pub fn on_server_message(
        &mut self,
        message: &ServerMessage,
        own: Ipv4Addr,
        now: MonotonicMillis,
    ) -> Option<LookVerdict> {
        if !self.is_answer(message) {
            self.look_soon(now);
            return None;
        }
        self.answered_ms = Some(now);
        let is_known = matches!(self.state, WatchState::Nowhere | WatchState::Beside(_));
        if is_known && self.listens_until_ms.is_none() {
            return None;
        }
        // One packet alone does not silence a server that serves.
        if self.state == WatchState::Alone {
            // The other ringboot hears our looks, and yields by itself.
            if message.is_ringboot && own < message.server.address {
                return None;
            }
            if self.doubt.is_none() {
                (self.doubt, self.xid, self.listens_until_ms) = (Some(message.server), None, None);
                self.next_ms = now.saturating_add(LOOK_ASK_AGAIN_MS);
                return Some(LookVerdict::Doubt(message.server));
            }
        }
        Some(self.stand_by(message.server, message.xid, now))
    }

    /// Leaves the subnet to the other server, and looks again soon.
    fn stand_by(&mut self, server: OtherServer, xid: u32, now: MonotonicMillis) -> LookVerdict {
        (self.listens_until_ms, self.doubt) = (None, None);
        if !matches!(self.state, WatchState::Beside(_)) {
            self.pause_ms = LOOK_AGAIN_MS;
            self.next_ms = now
                .saturating_add(LOOK_AGAIN_MS)
                .saturating_add(u64::from(xid) % (LOOK_AGAIN_MS / LOOK_SPREAD));
        }
        let is_news = self.state != WatchState::Beside(server);
        self.answered_ms = Some(now);
        self.state = WatchState::Beside(server);
        LookVerdict::Server { server, is_news }
    }

    /// Another ringboot looks for servers. A ringboot that serves answers it; of two that look, the
    /// one with the lower address goes on.
    pub fn on_rival_look(
        &mut self,
        rival: &RivalLook,
        own: Ipv4Addr,
        now: MonotonicMillis,
    ) -> RivalResponse {
        let other = rival.mark;
        match self.state {
            WatchState::Nowhere => RivalResponse::Silence,
            WatchState::Alone => {
                // Both serve: their segments were apart, or their first looks were lost. The one
                // with the higher address looks at once, and yields.
                if other.serves && other.address < own && self.doubt.is_none() {
                    (self.listens_until_ms, self.next_ms) = (None, self.next_ms.min(now));
                }
                RivalResponse::Answer
            }
            WatchState::Beside(_) if self.listens_until_ms.is_none() => RivalResponse::Silence,
            WatchState::Looking | WatchState::Beside(_) if own <= other.address => {
                RivalResponse::Answer
            }
            WatchState::Looking | WatchState::Beside(_) => RivalResponse::Yield(self.stand_by(
                OtherServer { mac: rival.mac, address: other.address },
                rival.xid,
                now,
            )),
        }
    }

    /// True for an answer to the last look.
    pub fn is_answer(&self, message: &ServerMessage) -> bool {
        self.xid == Some(message.xid)
    }

    /// A client has sent DISCOVER for `for_ms`. If it began before the look, another server may be
    /// busy with it, and read no look until its ping is over.
    pub fn on_client_discover(&mut self, for_ms: MonotonicMillis, now: MonotonicMillis) {
        let is_first = self.state == WatchState::Looking && self.before != PriorKnowledge::Alone;
        let began_before = now.saturating_sub(self.looked_ms) < for_ms;
        if let (true, Some(until), true) = (is_first, &mut self.listens_until_ms, began_before) {
            *until = (*until).max(self.looked_ms.saturating_add(LOOK_BUSY_MS));
        }
    }

    /// A packet shows that another server may be here: look soon, where none is known.
    pub fn look_soon(&mut self, now: MonotonicMillis) {
        if self.state == WatchState::Alone {
            self.next_ms = self.next_ms.min(now.max(self.looked_ms.saturating_add(LOOK_APART_MS)));
        }
    }

    /// Ends a look whose time is over without an answer.
    pub fn poll_deadline(&mut self, now: MonotonicMillis) -> Option<LookVerdict> {
        self.listens_until_ms.take_if(|until| now >= *until)?;
        let is_news = self.state != WatchState::Alone || self.doubt.is_some();
        (self.state, self.doubt) = (WatchState::Alone, None);
        Some(LookVerdict::Nobody { is_news })
    }

    /// When the next look begins, or the current one ends; None without an interface.
    pub fn next_wakeup(&self) -> Option<MonotonicMillis> {
        (self.state != WatchState::Nowhere).then(|| self.listens_until_ms.unwrap_or(self.next_ms))
    }
}
