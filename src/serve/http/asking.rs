//! A core's questions to workers, with their numbers, and the answers that come back.

use std::time::Instant;

use super::body::CopiedRange;
use crate::engine::mailbox::MailboxSender;
use crate::engine::stream::ConnectionId;
use crate::http::limits::BUSY_PAUSE;
use crate::images::{CleanPath, NameRefusal};
use crate::serve::flights::InquiryReport;
use crate::serve::shelf::FileReply;

/// A connection's question to the workers. The core never reuses a number: a late answer, which
/// arrives when the connection does something else, matches no question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WorkerQuestion {
    pub(super) connection: ConnectionId,
    pub(super) number: u64,
}

/// A letter from another thread to the core.
#[derive(Debug)]
pub(super) enum HttpLetter {
    /// A worker: the answer to a request.
    Answered(WorkerQuestion, WorkerAnswer),
    /// A worker: a range of a file is resident, or here is a copy of it.
    Resident(WorkerQuestion, Option<CopiedRange>),
    /// Control asks for the transfers under way.
    Asked(InquiryReport),
}

/// A worker's answer to a request that waits.
#[derive(Debug)]
pub(super) enum WorkerAnswer {
    Found(FileReply),
    /// The page of a directory.
    Listed(Result<String, NameRefusal>),
}

/// A request that the core cannot answer at once.
#[derive(Debug)]
pub(super) struct AskedRequest {
    pub(super) name: AskedName,
    /// When the request was complete.
    pub(super) began: Instant,
    /// The number of the open question; an answer with another number is ignored.
    pub(super) number: u64,
}

impl AskedRequest {
    pub(super) fn new(name: AskedName, began: Instant) -> Self {
        Self { name, began, number: 0 }
    }
}

/// What a waiting request asks for.
#[derive(Debug)]
pub(super) enum AskedName {
    /// The file or directory of this name.
    Path(CleanPath),
    /// The file that answers for a directory, if there is one.
    IndexFile { directory: CleanPath, index: CleanPath },
    /// The names in a directory.
    Listing(CleanPath),
}

/// The numbers of questions, and the questions that the core asks again.
#[derive(Debug)]
pub(super) struct WorkerQuestions {
    letters: MailboxSender<HttpLetter>,
    /// The number of the last question.
    last: u64,
    /// Questions that found every worker busy.
    postponed: Vec<WorkerQuestion>,
    again_at: Instant,
}

impl WorkerQuestions {
    pub(super) fn new(letters: MailboxSender<HttpLetter>, now: Instant) -> Self {
        Self { letters, last: 0, postponed: Vec::new(), again_at: now }
    }

    /// The way back for a worker's answer.
    pub(super) fn letters(&self) -> MailboxSender<HttpLetter> {
        self.letters.clone()
    }

    pub(super) fn number_next(&mut self, connection: ConnectionId) -> WorkerQuestion {
        self.last += 1;
        WorkerQuestion { connection, number: self.last }
    }

    /// Notes that the core asks this question again after a pause, because every worker is busy.
    pub(super) fn postpone(&mut self, question: WorkerQuestion, now: Instant) {
        if self.postponed.is_empty() {
            self.again_at = now + BUSY_PAUSE;
        }
        self.postponed.push(question);
    }

    /// When the core asks the postponed questions again.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.postponed.is_empty()).then_some(self.again_at)
    }

    /// Takes the postponed questions once their pause is over.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<WorkerQuestion> {
        if now < self.again_at { Vec::new() } else { std::mem::take(&mut self.postponed) }
    }

    /// The number of questions so far.
    #[cfg(test)]
    pub(super) fn count(&self) -> u64 {
        self.last
    }
}
