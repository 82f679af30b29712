//! Datagrams without a session: which sources get a reply, wrong TIDs, guesses at ports, refusals.

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
    /// The address whose limits apply to `peer`; None: no limits (T-65).
    pub(super) fn limited_address(&self, peer: SocketAddr) -> Option<IpAddr> {
        let address = peer.ip().to_canonical();
        (self.policy.per_address_limits && !address.is_loopback()).then_some(address)
    }

    /// Whether the server answers this source: a unicast endpoint in a configured subnet (T-65).
    pub(super) fn is_served(&self, peer: SocketAddr) -> bool {
        let address = peer.ip().to_canonical();
        if peer.port() == 0 || address.is_unspecified() || !is_unicast_address(address) {
            return false;
        }
        match address {
            _ if self.policy.serve.is_empty() || address.is_loopback() => true,
            IpAddr::V4(v4) => self.policy.serve.contains(v4),
            // The configuration has IPv4 subnets only; IPv6 clients get a reply if they are on a
            // local network.
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

    /// Handles an ACK to a port on which the endpoint has no transfer. If the endpoint has one on
    /// another port, the sender has not seen the server's reply and guesses: the table ends the
    /// request unless its client has acknowledged a block, and grants the address no windows for a
    /// while (T-64).
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
