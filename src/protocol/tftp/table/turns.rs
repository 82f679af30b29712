//! Which session sends next, one action at a time.

use super::super::id::TransferId;
use super::super::options::negotiate_options;
use super::super::outcome::TransferOutcome;
use super::super::packet::{TftpRefusal, write_error};
use super::super::transfer::{DataBlockRun, NextTransmit, TransferTally};
use super::super::{NEVER, Tick};
use super::TransferTable;
use super::action::{TableAction, WantedBlocks};
use super::session::{ClientSession, SessionStage};
use super::slots::peek_session;

/// The action of a session in its turn.
enum SessionStep {
    Open,
    Oack,
    Blocks(DataBlockRun),
    Error(TftpRefusal),
    End(TransferOutcome, TransferTally),
}

impl<C> TransferTable<C> {
    /// The next action for the engine; call it until None.
    pub fn poll(&mut self, now: Tick) -> Option<TableAction<'_, C>> {
        if let Some(reply) = self.replies.pop_front() {
            write_error(&mut self.datagram, reply.refusal);
            return Some(TableAction::Datagram {
                peer: reply.peer,
                local: reply.local,
                tid: reply.tid,
                bytes: &self.datagram,
                turned_away: Some(reply.refusal),
            });
        }

        let (id, step) = self.next_step(now)?;
        if let SessionStep::End(outcome, tally) = step {
            return self.report_end(now, id, outcome, tally);
        }

        let session = peek_session(&self.slots, id)?;
        let ClientSession { peer, local, tid, .. } = *session;
        match step {
            SessionStep::Open => {
                Some(TableAction::Open { id, peer, local, request: &session.request })
            }
            SessionStep::Oack => {
                let request = &session.request;
                // The OACK is not stored: the same negotiation writes it again.
                negotiate_options(
                    request.options(),
                    &session.options,
                    request.mode(),
                    session.len,
                    &mut self.datagram,
                );
                Some(TableAction::Datagram {
                    peer,
                    local,
                    tid,
                    bytes: &self.datagram,
                    turned_away: None,
                })
            }
            SessionStep::Error(refusal) => {
                write_error(&mut self.datagram, refusal);
                Some(TableAction::Datagram {
                    peer,
                    local,
                    tid,
                    bytes: &self.datagram,
                    turned_away: None,
                })
            }
            SessionStep::Blocks(DataBlockRun {
                first,
                blocks,
                block_size,
                bytes,
                last: is_last,
            }) => {
                let content = session.content.as_ref()?;
                let wanted = WantedBlocks {
                    id,
                    peer,
                    local,
                    tid,
                    first,
                    block_size,
                    bytes,
                    blocks,
                    is_last,
                };
                Some(TableAction::Blocks { wanted, content })
            }
            SessionStep::End(..) => None,
        }
    }

    /// The next session with an action, and the action.
    fn next_step(&mut self, now: Tick) -> Option<(TransferId, SessionStep)> {
        while let Some(id) = self.ready.pop_front().or_else(|| self.release_next(now)) {
            let Some(session) =
                self.slots.get_mut(id.index as usize).and_then(|slot| slot.session(id))
            else {
                continue;
            };
            session.ready = false;
            match &mut session.stage {
                // Once: nothing else makes the session ready before the engine's answer.
                SessionStage::Opening => return Some((id, SessionStep::Open)),
                SessionStage::Running(transfer) => {
                    if let Some(place) = &mut session.place
                        && self.order.holds(now, id, place)
                    {
                        self.timers.set(id, &mut session.alarm, NEVER);
                        continue;
                    }
                    let Some(transmit) = transfer.poll_transmit(now) else {
                        // The transfer may pause between bursts (T-40).
                        self.timers.set(id, &mut session.alarm, transfer.deadline());
                        continue;
                    };
                    if let (Some(place), NextTransmit::Blocks(run)) = (&session.place, &transmit) {
                        self.order.count_sent(place, run.bytes.end - run.bytes.start);
                    }
                    let deadline = transfer.deadline();
                    let almost_over = transfer.is_confirmed() && transfer.is_sent_whole();
                    let counted = session.counted.filter(|_| almost_over);
                    self.timers.set(id, &mut session.alarm, deadline);
                    // A client that never sends its last ACK may still begin its next file.
                    if let Some(address) = counted {
                        session.counted = None;
                        self.sources.uncount_transfer(address, id);
                        self.begin_waiting(now, address);
                    }
                    return Some((
                        id,
                        match transmit {
                            NextTransmit::Oack => SessionStep::Oack,
                            NextTransmit::Blocks(blocks) => SessionStep::Blocks(blocks),
                        },
                    ));
                }
                SessionStage::Ending { error, outcome, tally } => {
                    let step =
                        error.take().map_or(SessionStep::End(*outcome, *tally), SessionStep::Error);
                    if matches!(step, SessionStep::Error(_)) {
                        session.ready = true;
                        self.ready.push_front(id);
                    }
                    return Some((id, step));
                }
                SessionStage::Waiting | SessionStage::Quiet => (),
            }
        }
        None
    }
}
