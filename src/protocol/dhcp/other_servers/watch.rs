//! When to look for other DHCP servers, and whether a subnet may be served.

use std::net::Ipv4Addr;

use super::message::{MonotonicMillis, RivalLook, ServerMessage};
use crate::dhcp::limits::{
    LOOK_AGAIN_MS, LOOK_APART_MS, LOOK_ASK_AGAIN_MS, LOOK_BESIDE_MS, LOOK_BUSY_MS, LOOK_EVERY_MS,
    LOOK_FIRST_MS, LOOK_KNOWN_MS, LOOK_LISTENS_MS, LOOK_RETRY_MS, LOOK_SPREAD,
};
use crate::dhcp::subnet::{HoldReason, OtherServer};

/// Whether a subnet may be served, as far as other servers go.
#[derive(Clone, Debug)]
pub struct ServerWatch {
    state: WatchState,
    /// Serve beside other servers (`allow-other-servers`), but look for them all the same.
    beside: bool,
    before: PriorKnowledge,
    xid: Option<u32>,
    looked_ms: MonotonicMillis,
    listens_until_ms: Option<MonotonicMillis>,
    pub(super) next_ms: MonotonicMillis,
    /// To the look after the next.
    pause_ms: MonotonicMillis,
    /// Who has answered once where this server serves, and is asked again.
    doubt: Option<OtherServer>,
    /// When another server last answered a look.
    answered_ms: Option<MonotonicMillis>,
}

/// What the run before this one knew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriorKnowledge {
    Nothing,
    /// The last look found nobody, and clients have leases: offer soon, look behind it.
    Alone,
    /// Its last look found a server, which may be slow to answer.
    Beside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WatchState {
    /// No interface with an address in the subnet.
    Nowhere,
    /// Nothing is known yet.
    Looking,
    Alone,
    Beside(OtherServer),
}

/// What is concluded; `is_news`: it is not what was known before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookVerdict {
    Nobody {
        is_news: bool,
    },
    Server {
        server: OtherServer,
        is_news: bool,
    },
    /// One has answered where this server serves. It goes on until the same question is answered
    /// once more.
    Doubt(OtherServer),
}

/// What to do about another ringboot that looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RivalResponse {
    Silence,
    /// Tell it that this one is here.
    Answer,
    /// It has the lower address: this one stands by.
    Yield(LookVerdict),
}

impl ServerWatch {
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

    /// When the last look began; None: there was none.
    pub fn looked_ms(&self) -> Option<MonotonicMillis> {
        self.xid.map(|_| self.looked_ms)
    }

    /// When the next look begins; None: one is under way, or nobody looks.
    pub fn next_look_ms(&self) -> Option<MonotonicMillis> {
        (self.state != WatchState::Nowhere && self.listens_until_ms.is_none())
            .then_some(self.next_ms)
    }

    /// Why no address is offered; None where the subnet is served.
    pub fn held(&self) -> Option<HoldReason> {
        match self.state {
            WatchState::Nowhere => Some(HoldReason::NoInterface),
            _ if self.beside => None,
            WatchState::Looking => Some(HoldReason::Looking),
            WatchState::Alone => None,
            WatchState::Beside(server) => Some(HoldReason::OtherServer(server)),
        }
    }

    /// The configuration says otherwise now.
    pub fn serve_beside(&mut self, beside: bool) {
        self.beside = beside;
    }

    /// The interface is there, with an address in the subnet. What was known before counts for its
    /// first appearance only: a new interface may be on another segment.
    pub fn appeared(&mut self, now: MonotonicMillis) {
        self.state = WatchState::Looking;
        self.start_over(now);
    }

    pub fn vanished(&mut self) {
        if self.state != WatchState::Nowhere {
            self.before = PriorKnowledge::Nothing;
        }
        self.state = WatchState::Nowhere;
        self.start_over(0);
    }

    /// The wire was lost and is there again: another server may have taken over meanwhile.
    pub fn wire_came(&mut self, now: MonotonicMillis) {
        if self.state == WatchState::Alone {
            (self.state, self.before) = (WatchState::Looking, PriorKnowledge::Alone);
        }
        self.start_over(now);
    }

    /// An operator says that what was found is not so: look anew, as at the first start.
    pub fn forget(&mut self, now: MonotonicMillis) {
        if self.state != WatchState::Nowhere {
            (self.state, self.before) = (WatchState::Looking, PriorKnowledge::Nothing);
            self.start_over(now);
        }
    }

    /// An operator may have changed something: who is silent beside another server looks as at the
    /// first start, who serves looks while it goes on.
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

    /// True where a DISCOVER is to be sent; then call `looked`.
    pub fn is_due(&self, now: MonotonicMillis) -> bool {
        self.state != WatchState::Nowhere && self.listens_until_ms.is_none() && now >= self.next_ms
    }

    /// The DISCOVER with this number has left.
    pub fn looked(&mut self, xid: u32, now: MonotonicMillis) {
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

    /// The DISCOVER could not leave: the interface is down, say.
    pub fn unsent(&mut self, now: MonotonicMillis) {
        self.next_ms = now.saturating_add(LOOK_RETRY_MS);
    }

    /// Another server gave something: in answer to our DISCOVER, however late, or to somebody else,
    /// which is a reason to look.
    pub fn heard(
        &mut self,
        word: &ServerMessage,
        own: Ipv4Addr,
        now: MonotonicMillis,
    ) -> Option<LookVerdict> {
        if !self.asked_for(word) {
            self.suspects(now);
            return None;
        }
        self.answered_ms = Some(now);
        let is_known = matches!(self.state, WatchState::Nowhere | WatchState::Beside(_));
        if is_known && self.listens_until_ms.is_none() {
            return None;
        }
        if self.state == WatchState::Alone {
            // The other one hears our looks, and answers, and so finds out by itself.
            if word.is_ringboot && own < word.server.address {
                return None;
            }
            if self.doubt.is_none() {
                (self.doubt, self.xid, self.listens_until_ms) = (Some(word.server), None, None);
                self.next_ms = now.saturating_add(LOOK_ASK_AGAIN_MS);
                return Some(LookVerdict::Doubt(word.server));
            }
        }
        Some(self.stand_by(word.server, word.xid, now))
    }

    /// The other one serves; look again before long.
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

    /// Another ringboot looks for servers. One that serves answers it; of two that look, the lower
    /// address goes on.
    pub fn met(&mut self, rival: &RivalLook, own: Ipv4Addr, now: MonotonicMillis) -> RivalResponse {
        let its = rival.mark;
        match self.state {
            WatchState::Nowhere => RivalResponse::Silence,
            WatchState::Alone => {
                // Two serve: they were apart, or their first looks were lost. The higher address
                // finds out, and yields.
                if its.serves && its.address < own && self.doubt.is_none() {
                    (self.listens_until_ms, self.next_ms) = (None, self.next_ms.min(now));
                }
                RivalResponse::Answer
            }
            WatchState::Beside(_) if self.listens_until_ms.is_none() => RivalResponse::Silence,
            WatchState::Looking | WatchState::Beside(_) if own <= its.address => {
                RivalResponse::Answer
            }
            WatchState::Looking | WatchState::Beside(_) => RivalResponse::Yield(self.stand_by(
                OtherServer { mac: rival.mac, address: its.address },
                rival.xid,
                now,
            )),
        }
    }

    /// Whether this is an answer to the last look.
    pub fn asked_for(&self, word: &ServerMessage) -> bool {
        self.xid == Some(word.xid)
    }

    /// A client asks here, and has for so long. If it began before the look did, another server may
    /// be busy with it, and deaf to us until it has pinged.
    pub fn client_asks(&mut self, for_ms: MonotonicMillis, now: MonotonicMillis) {
        let is_first = self.state == WatchState::Looking && self.before != PriorKnowledge::Alone;
        let began_before = now.saturating_sub(self.looked_ms) < for_ms;
        if let (true, Some(until), true) = (is_first, &mut self.listens_until_ms, began_before) {
            *until = (*until).max(self.looked_ms.saturating_add(LOOK_BUSY_MS));
        }
    }

    /// A packet shows that another server may be there: look soon, where none is known.
    pub fn suspects(&mut self, now: MonotonicMillis) {
        if self.state == WatchState::Alone {
            self.next_ms = self.next_ms.min(now.max(self.looked_ms.saturating_add(LOOK_APART_MS)));
        }
    }

    /// The time for answers is over, and there was none.
    pub fn tick(&mut self, now: MonotonicMillis) -> Option<LookVerdict> {
        self.listens_until_ms.take_if(|until| now >= *until)?;
        let is_news = self.state != WatchState::Alone || self.doubt.is_some();
        (self.state, self.doubt) = (WatchState::Alone, None);
        Some(LookVerdict::Nobody { is_news })
    }

    /// When there is something to do next.
    pub fn wakes_at(&self) -> Option<MonotonicMillis> {
        (self.state != WatchState::Nowhere).then(|| self.listens_until_ms.unwrap_or(self.next_ms))
    }
}
