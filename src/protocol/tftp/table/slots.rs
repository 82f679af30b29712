//! The slots of a table's sessions, and the keys that find a session again.

use std::hash::{Hash, Hasher};
use std::net::SocketAddr;

use super::super::Tick;
use super::super::id::TransferId;
use super::session::{ClientSession, SessionStage};

/// Names the session that a datagram belongs to. Without a TID it names the latest session of an
/// endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionKey {
    pub(super) peer: SocketAddr,
    pub(super) tid: Option<u16>,
}

impl Hash for SessionKey {
    /// Writes always the same number of words, as `KeyedHasherBuilder` needs.
    #[allow(clippy::cast_possible_truncation)] // each half is taken on purpose
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (address, scope) = match self.peer {
            SocketAddr::V4(peer) => (u128::from(u32::from(*peer.ip())), 0),
            SocketAddr::V6(peer) => (u128::from(*peer.ip()), peer.scope_id()),
        };
        let tid = self.tid.map_or(u32::MAX, u32::from);
        state.write_u64((address >> 64) as u64);
        state.write_u64(address as u64);
        state.write_u64((u64::from(tid) << 32) + u64::from(self.peer.port()));
        state.write_u64(u64::from(scope));
    }
}

impl SessionKey {
    pub(super) fn endpoint(peer: SocketAddr) -> Self {
        Self { peer, tid: None }
    }
}

/// When a confirmed transfer that has not ended last moved forward.
pub(super) fn find_last_progress<C>(slots: &[SessionSlot<C>], id: TransferId) -> Option<Tick> {
    let session = peek_session(slots, id).filter(|session| !session.unconfirmed)?;
    matches!(session.stage, SessionStage::Running(_)).then_some(session.moved_at)
}

/// Finds a session where the caller can borrow only the slots.
pub(super) fn peek_session<C>(
    slots: &[SessionSlot<C>],
    id: TransferId,
) -> Option<&ClientSession<C>> {
    let slot = slots.get(id.index as usize)?;
    slot.session.as_ref().filter(|_| slot.generation == id.generation)
}

#[derive(Debug)]
pub(super) struct SessionSlot<C> {
    pub(super) generation: u32,
    pub(super) session: Option<ClientSession<C>>,
}

impl<C> SessionSlot<C> {
    pub(super) fn session(&mut self, id: TransferId) -> Option<&mut ClientSession<C>> {
        self.session.as_mut().filter(|_| self.generation == id.generation)
    }
}
