//! The transfers of one core, and what both opening and sending need of them: which of them wait,
//! and the MTU of the interface that each was asked on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::events::TftpJournal;
use super::held::HeldFile;
use super::plan::TftpCounters;
use crate::engine::net;
use crate::engine::udp::SocketId;
use crate::observe::flight::TransferProgress;
use crate::serve::flights::TransferUnderWay;
use crate::tftp::Tick;
use crate::tftp::limits::MTU_DEFAULT;
use crate::tftp::table::{TransferId, TransferTable, TransferView};

/// The transfers of one core.
pub(super) struct CoreTransfers {
    pub(super) table: TransferTable<HeldFile>,
    pub(super) waiting: WaitingTransfers,
    pub(super) mtus: InterfaceMtus,
    pub(super) journal: TftpJournal,
    pub(super) counters: Arc<TftpCounters>,
    pub(super) started: Instant,
}

impl CoreTransfers {
    pub(super) fn now(&self) -> Tick {
        ticks_since(self.started)
    }

    /// Has every transfer tried again whose wait is over.
    pub(super) fn resume_waiting(&mut self, now: Tick) {
        let waiting = &mut self.waiting;
        for id in std::mem::take(&mut waiting.starved) {
            self.table.resume(id);
        }
        for socket in std::mem::take(&mut waiting.unblocked) {
            for (id, _) in waiting.blocked.extract_if(|_, blocked| *blocked == socket) {
                self.table.resume(id);
            }
        }
        for (id, _) in waiting.postponed.extract_if(.., |(_, at)| *at <= now) {
            self.table.resume(id);
        }
    }

    /// Has a transfer wait until its socket has room. Those that have ended meanwhile are forgotten
    /// before they are many.
    pub(super) fn wait_for_room(&mut self, id: TransferId, socket: SocketId) {
        let blocked = &mut self.waiting.blocked;
        if blocked.len() > 2 * self.table.transfers() {
            blocked.retain(|id, _| self.table.peer(*id).is_some());
        }
        blocked.insert(id, socket);
    }

    /// What has not ended: files that are sent, and requests that wait.
    pub(super) fn list_under_way(&self) -> Vec<TransferUnderWay> {
        let now = self.now();
        let since = |at: Tick| Duration::from_nanos(now.saturating_sub(at));
        let describe = |sight: TransferView<'_, HeldFile>| TransferUnderWay {
            peer: sight.peer.ip().to_canonical(),
            name: match sight.content {
                Some(held) => held.asked.ask.path.display().into_owned(),
                None => sight.name.escape_ascii().to_string(),
            },
            age: since(sight.started),
            still: since(sight.moved_at),
            way: sight.block.map_or(TransferProgress::Waiting, |(block, blocks)| {
                TransferProgress::Tftp { block, blocks }
            }),
        };
        self.table.iter_transfers().map(describe).collect()
    }
}

/// Nanoseconds since the core started.
pub(super) fn ticks_since(started: Instant) -> Tick {
    Tick::try_from(started.elapsed().as_nanos()).unwrap_or(Tick::MAX)
}

/// Transfers that are tried again by themselves.
#[derive(Debug, Default)]
pub(super) struct WaitingTransfers {
    /// They found no send slot: tried again after the next turn.
    pub(super) starved: Vec<TransferId>,
    /// Their socket is full: tried again when it has room. A link that takes nothing holds up its
    /// own transfers alone.
    blocked: HashMap<TransferId, SocketId>,
    /// Sockets that have room again.
    pub(super) unblocked: Vec<SocketId>,
    /// They found no worker, or too little memory, and are tried again then.
    pub(super) postponed: Vec<(TransferId, Tick)>,
}

impl WaitingTransfers {
    pub(super) fn postpone(&mut self, id: TransferId, until: Tick) {
        self.postponed.push((id, until));
    }

    /// When the first postponed transfer is tried again.
    pub(super) fn due(&self) -> Option<Tick> {
        self.postponed.iter().map(|(_, at)| *at).min()
    }
}

/// MTU by interface index, asked of the system once in a generation.
#[derive(Debug, Default)]
pub(super) struct InterfaceMtus(Vec<(u32, u16)>);

impl InterfaceMtus {
    /// Unknown interfaces count as Ethernet.
    pub(super) fn find(&mut self, interface: u32) -> u16 {
        if let Some((_, mtu)) = self.0.iter().find(|(known, _)| *known == interface) {
            return *mtu;
        }
        // What the system does not tell now, for want of a descriptor, it may tell the next
        // request.
        let Ok(all) = net::list_interfaces() else { return MTU_DEFAULT };
        let found = all.into_iter().find(|one| one.index == interface);
        let known = found.map(|one| one.mtu).filter(|mtu| *mtu > 0);
        let mtu = known.map_or(MTU_DEFAULT, |mtu| u16::try_from(mtu).unwrap_or(u16::MAX));
        self.0.push((interface, mtu));
        mtu
    }

    pub(super) fn forget_all(&mut self) {
        self.0.clear();
    }
}
