//! Datagrams without a session: who is answered at all, wrong TIDs, guesses at ports, refusals.

use std::net::{IpAddr, SocketAddr};

use super::super::Tick;
use super::super::limits::{DISTRUST, REPLIES_QUEUED_MAX};
use super::super::local::{LocalAddress, is_unicast_address};
use super::super::outcome::TransferOutcome;
use super::super::packet::{ErrorCode, TftpRefusal};
use super::super::sources::{find_rate_place, find_source_network};
use super::session::SessionStage;
use super::{ErrorReply, TransferTable};

impl<C> TransferTable<C> {
    /// The address whose limits apply to `peer`; None = no limits (T-65).
    pub(super) fn limited_address(&self, peer: SocketAddr) -> Option<IpAddr> {
        let address = peer.ip().to_canonical();
        (self.policy.per_address_limits && !address.is_loopback()).then_some(address)
    }

    /// A source that may be answered: an endpoint, and of a configured subnet (T-65).
    pub(super) fn is_served(&self, peer: SocketAddr) -> bool {
        let address = peer.ip().to_canonical();
        if peer.port() == 0 || address.is_unspecified() || !is_unicast_address(address) {
            return false;
        }
        match address {
            _ if self.policy.serve.is_empty() || address.is_loopback() => true,
            IpAddr::V4(v4) => self.policy.serve.contains(v4),
            // Subnets are configured for IPv4; of IPv6 those are served who are on a network of
            // ours.
            IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_unique_local(),
        }
    }

    pub(super) fn turn_away(
        &mut self,
        now: Tick,
        peer: SocketAddr,
        local: LocalAddress,
        refusal: TftpRefusal,
    ) {
        if self
            .limited_address(peer)
            .is_some_and(|address| self.request_rates.take_token(now, address).is_err())
        {
            self.counts.dropped += 1;
            return;
        }
        self.counts.turned_away += 1;
        let tid = self.choose_tid(peer);
        self.queue_reply(ErrorReply { peer, local, tid, refusal });
    }

    /// An endpoint sent an ACK to a port where it has no transfer. If it has one on another port,
    /// somebody who has not seen our answer guesses: the request is ended unless its client has
    /// proven itself, and its address gets no windows for a while (T-64).
    pub(super) fn notice_guess(&mut self, now: Tick, peer: SocketAddr) {
        let Some(id) = self.find_session(peer, None) else { return };
        let Some(session) =
            self.session_mut(id).filter(|session| session.is_live() && session.tid.is_some())
        else {
            return;
        };
        let is_proven =
            matches!(&session.stage, SessionStage::Running(transfer) if transfer.is_proven());
        let place = self.distrust_place(peer);
        self.distrusted[place] = now + DISTRUST;
        if !is_proven {
            self.counts.guessed += 1;
            self.end_session(now, id, TransferOutcome::Guessed, None);
        }
    }

    pub(super) fn is_distrusted(&self, now: Tick, peer: SocketAddr) -> bool {
        now < self.distrusted[self.distrust_place(peer)]
    }

    pub(super) fn distrust_place(&self, peer: SocketAddr) -> usize {
        find_rate_place(peer.ip().to_canonical(), self.seed, self.distrusted.len())
    }

    pub(super) fn answer_wrong_tid(
        &mut self,
        now: Tick,
        tid: u16,
        peer: SocketAddr,
        local: LocalAddress,
    ) {
        let address = peer.ip().to_canonical();
        if !self.is_served(peer)
            || self
                .wrong_tid_rates
                .take_token(now, find_source_network(address).unwrap_or(address))
                .is_err()
        {
            return;
        }
        self.counts.wrong_tid += 1;
        let refusal = TftpRefusal { code: ErrorCode::UnknownTid, text: "Unknown transfer ID" };
        self.queue_reply(ErrorReply { peer, local, tid: Some(tid), refusal });
    }

    pub(super) fn queue_reply(&mut self, reply: ErrorReply) {
        if self.replies.len() >= REPLIES_QUEUED_MAX {
            self.counts.dropped += 1;
            return;
        }
        self.replies.push_back(reply);
    }
}
