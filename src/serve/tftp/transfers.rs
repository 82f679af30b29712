//! The transfers of one core with the state that opening and sending share: which transfers wait,
//! and the MTU of each interface.

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
use crate::tftp::table::{TransferId, TransferTable};

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

    /// Resumes every transfer whose wait is over.
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

    /// Has a transfer wait until its socket has room. Transfers that have ended meanwhile are
    /// dropped from the list before it grows long.
    pub(super) fn wait_for_room(&mut self, id: TransferId, socket: SocketId) {
        let blocked = &mut self.waiting.blocked;
        if blocked.len() > 2 * self.table.transfers() {
            blocked.retain(|id, _| self.table.peer(*id).is_some());
        }
        blocked.insert(id, socket);
    }

    /// The transfers that have not ended, with the requests that wait.
    pub(super) fn list_under_way(&self) -> Vec<TransferUnderWay> {
        let now = self.now();
        let since = |at: Tick| Duration::from_nanos(now.saturating_sub(at));
        let under_way = self.table.iter_transfers().map(|transfer| TransferUnderWay {
            peer: transfer.peer.ip().to_canonical(),
            name: match transfer.content {
                Some(held) => held.asked.ask.path.display().into_owned(),
                None => transfer.name.escape_ascii().to_string(),
            },
            age: since(transfer.started),
            still: since(transfer.moved_at),
            way: match transfer.block {
                Some((block, blocks)) => TransferProgress::Tftp { block, blocks },
                None => TransferProgress::Waiting,
            },
            bytes: transfer.len,
            got: transfer.got,
            in_line: transfer.is_held,
        });
        under_way.collect()
    }
}

/// Nanoseconds since the core started.
pub(super) fn ticks_since(started: Instant) -> Tick {
    Tick::try_from(started.elapsed().as_nanos()).unwrap_or(Tick::MAX)
}

/// Transfers that the core resumes without a packet from their client.
#[derive(Debug, Default)]
pub(super) struct WaitingTransfers {
    /// No send slot was free: resumed after the next turn.
    pub(super) starved: Vec<TransferId>,
    /// Their socket is full: resumed when it has room. A link that takes nothing holds up only its
    /// own transfers.
    blocked: HashMap<TransferId, SocketId>,
    /// Sockets that have room again.
    pub(super) unblocked: Vec<SocketId>,
    /// No worker was free, or memory was short: resumed at this time.
    pub(super) postponed: Vec<(TransferId, Tick)>,
}

impl WaitingTransfers {
    pub(super) fn postpone(&mut self, id: TransferId, until: Tick) {
        self.postponed.push((id, until));
    }

    /// When the core resumes the first postponed transfer.
    pub(super) fn next_due(&self) -> Option<Tick> {
        self.postponed.iter().map(|(_, at)| *at).min()
    }
}

/// MTU by interface index. The core asks the kernel once for each generation.
#[derive(Debug, Default)]
pub(super) struct InterfaceMtus(Vec<(u32, u16)>);

impl InterfaceMtus {
    /// The MTU of an interface; an unknown one counts as Ethernet.
    pub(super) fn find(&mut self, interface: u32) -> u16 {
        if let Some((_, mtu)) = self.0.iter().find(|(known, _)| *known == interface) {
            return *mtu;
        }
        // Not remembered: without a free descriptor the list fails now, and may succeed later.
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
