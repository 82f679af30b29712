//! The body of an answer on its way out: texts, and pieces of a file that must be resident before
//! the core sends them (H-12).

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::clock::AckWatch;
use super::journal::FileDelivery;
use crate::engine::stream::SendBody;
use crate::http::limits::{COPIED_ANSWER_BYTES_MAX, TAIL_BYTES};
use crate::http::respond::ResponsePayload;
use crate::images::{PIECE_BYTES, ServedContent};

/// Texts up to this size, in bytes, are copied behind the head.
const COPIED_BYTES_MAX: usize = 1024;

/// The part of an answer that the core has not handed to the driver yet.
#[derive(Debug)]
pub(super) struct AnswerBody {
    left: LeftToSend,
    /// The file that file parts are cut from.
    content: Option<ServedContent>,
    /// Logged when the kernel has taken the last byte; None: not logged.
    pub(super) delivery: Option<FileDelivery>,
    /// Whether the connection stays open after it.
    pub(super) keeps: bool,
    /// The client has sent `Connection: close`: this answer is the last.
    pub(super) is_last: bool,
    pub(super) wait: BodyWait,
    /// The question by which a worker makes a piece resident. It stays in the workers' queue while
    /// the core sends a trickle.
    pub(super) reading: Option<u64>,
    /// The question by which a worker copies a trickle meanwhile.
    pub(super) aside: Option<u64>,
    /// The body takes turns with other large bodies (`http::schedule`).
    pub(super) is_ordered: bool,
    /// The kernel has pages of the file by reference, and the client may not have acknowledged them
    /// yet.
    is_referenced: bool,
    /// Bytes that were copied to the kernel after the last such page.
    copied: u64,
    /// A copy by a worker, for the next send only.
    ready: Option<CopiedRange>,
}

/// A copy of a range of a file; `bytes` is None if the file has changed.
#[derive(Debug)]
pub(super) struct CopiedRange {
    pub(super) range: Range<u64>,
    pub(super) bytes: Option<Bytes>,
}

/// What a body waits for, apart from room in the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyWait {
    Nothing,
    /// A worker makes the next range resident: the number of the question.
    Worker(u64),
    /// Its turn among the large bodies (`http::schedule`).
    Turn,
    /// The client, to acknowledge what it was sent.
    Client(AckWatch),
}

#[derive(Debug)]
enum LeftToSend {
    Nothing,
    Text(Cow<'static, str>),
    File(Range<u64>),
    /// Last one first.
    Parts(Vec<BodySegment>),
}

#[derive(Debug)]
enum BodySegment {
    Text(String),
    File(Range<u64>),
}

/// The next step of a body.
#[derive(Debug)]
pub(super) enum NextPart {
    /// Send this after the content of the head's buffer. `more`: further parts follow.
    Send { part: SendBody, more: bool },
    /// Nothing can be sent before this range is resident.
    Missing(Range<u64>),
    /// Nothing can be sent before the client has acknowledged all but this many bytes; then call
    /// [`AnswerBody::note_delivered`].
    Unsure(u64),
    /// The file has changed since the answer began: the connection ends short of the promised
    /// length.
    Changed,
    /// The driver has everything.
    Nothing,
}

impl AnswerBody {
    pub(super) fn new(
        payload: ResponsePayload,
        content: Option<&ServedContent>,
        delivery: Option<FileDelivery>,
        keeps: bool,
    ) -> Self {
        let (left, content) = match payload {
            ResponsePayload::None => (LeftToSend::Nothing, None),
            ResponsePayload::Text(text) => (LeftToSend::Text(text), None),
            ResponsePayload::File(range) => (LeftToSend::File(range), content.cloned()),
            ResponsePayload::Multipart(parts, end) => {
                // In reverse: `cut_next` pops the last segment, and the closing line leaves at the
                // end.
                let mut segments = vec![BodySegment::Text(end)];
                for part in parts.into_iter().rev() {
                    segments.extend([BodySegment::File(part.range), BodySegment::Text(part.head)]);
                }
                (LeftToSend::Parts(segments), content.cloned())
            }
        };
        Self {
            left,
            content,
            delivery,
            keeps,
            is_last: false,
            wait: BodyWait::Nothing,
            reading: None,
            aside: None,
            is_ordered: false,
            is_referenced: false,
            copied: 0,
            ready: None,
        }
    }

    /// Whether a worker may copy the next bytes. It may not copy the last ones: the core copies
    /// them when the client has acknowledged every page that the kernel holds by reference.
    pub(super) fn may_be_copied(&self) -> bool {
        !self.is_referenced || self.file_bytes() > 2 * TAIL_BYTES
    }

    /// Whether a worker copies everything that is left instead of making a piece resident: a few
    /// bytes of a large file. So a client that reads single bytes all over a large file evicts no
    /// pieces of others.
    pub(super) fn is_small_part(&self) -> bool {
        let left = self.file_bytes();
        matches!(self.left, LeftToSend::File(_))
            && !self.is_referenced
            && left <= COPIED_ANSWER_BYTES_MAX
            && self.content.as_ref().is_some_and(|content| content.len() > PIECE_BYTES)
    }

    /// The next bytes of the file that a worker may copy, at most `bytes`.
    pub(super) fn next_trickle(&self, bytes: u64) -> Option<Range<u64>> {
        let range = match &self.left {
            LeftToSend::File(range) => range,
            LeftToSend::Parts(segments) => match segments.last()? {
                BodySegment::File(range) => range,
                BodySegment::Text(_) => return None,
            },
            LeftToSend::Nothing | LeftToSend::Text(_) => return None,
        };
        let spared = if self.is_referenced { 2 * TAIL_BYTES } else { 0 };
        let bytes =
            bytes.min(range.end - range.start).min(self.file_bytes().saturating_sub(spared));
        (bytes > 0).then(|| range.start..range.start + bytes)
    }

    pub(super) fn put_ready(&mut self, copied: CopiedRange) {
        self.ready = Some(copied);
    }

    /// Whether a copy waits to be sent.
    fn has_ready(&self) -> bool {
        self.ready.is_some()
    }

    /// Whether the answer sends a file or rendered content, and not only a page about an error.
    pub(super) fn has_content(&self) -> bool {
        self.content.is_some()
    }

    /// Whether the next send needs a turn: it sends bytes of a file, and no copy is ready for it.
    pub(super) fn needs_turn(&self) -> bool {
        self.is_ordered && self.file_bytes() > 0 && !self.has_ready()
    }

    /// Whether the driver has everything.
    pub(super) fn is_given(&self) -> bool {
        matches!(self.left, LeftToSend::Nothing)
    }

    /// Bytes of the file that the driver has not got yet.
    pub(super) fn file_bytes(&self) -> u64 {
        match &self.left {
            LeftToSend::Nothing | LeftToSend::Text(_) => 0,
            LeftToSend::File(range) => count_bytes(range),
            LeftToSend::Parts(segments) => segments
                .iter()
                .map(|segment| match segment {
                    BodySegment::File(range) => count_bytes(range),
                    BodySegment::Text(_) => 0,
                })
                .sum(),
        }
    }

    pub(super) fn content(&self) -> Option<&ServedContent> {
        self.content.as_ref()
    }

    /// Notes that the client has acknowledged every page that was sent by reference.
    pub(super) fn note_delivered(&mut self) {
        self.is_referenced = false;
    }

    /// Cuts off the next part: texts go into the head's buffer, and at most `chunk_bytes` of a file
    /// follow them.
    pub(super) fn cut_next(&mut self, head: &mut Vec<u8>, chunk_bytes: u64) -> NextPart {
        match &mut self.left {
            LeftToSend::Nothing => NextPart::Nothing,
            LeftToSend::Text(text) => {
                let text = std::mem::take(text);
                self.left = LeftToSend::Nothing;
                let part = if text.len() <= COPIED_BYTES_MAX {
                    head.extend_from_slice(text.as_bytes());
                    SendBody::Nothing
                } else {
                    SendBody::Bytes(match text {
                        Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
                        Cow::Owned(text) => Bytes::from(text),
                    })
                };
                NextPart::Send { part, more: false }
            }
            LeftToSend::File(range) => {
                let range = range.clone();
                match self.cut_range(range.clone(), chunk_bytes, true) {
                    CutPart::Part { part, end, is_awaited } => {
                        let is_whole = end == range.end;
                        self.left = if is_whole {
                            LeftToSend::Nothing
                        } else {
                            LeftToSend::File(end..range.end)
                        };
                        NextPart::Send { part, more: !is_whole && !is_awaited }
                    }
                    CutPart::Missing(range) => NextPart::Missing(range),
                    CutPart::Unsure(left) => NextPart::Unsure(left),
                    CutPart::Changed => NextPart::Changed,
                }
            }
            LeftToSend::Parts(segments) => {
                while let Some(BodySegment::Text(text)) = segments.last() {
                    head.extend_from_slice(text.as_bytes());
                    self.copied += text.len() as u64;
                    segments.pop();
                }
                let Some(BodySegment::File(range)) = segments.last() else {
                    self.left = LeftToSend::Nothing;
                    return NextPart::Send { part: SendBody::Nothing, more: false };
                };
                let range = range.clone();
                // Only the closing line follows the last file part.
                let is_last = segments.len() == 2;
                match self.cut_range(range.clone(), chunk_bytes, is_last) {
                    CutPart::Part { part, end, is_awaited } => {
                        if let LeftToSend::Parts(segments) = &mut self.left {
                            segments.pop();
                            segments.extend(
                                (end < range.end).then_some(BodySegment::File(end..range.end)),
                            );
                        }
                        NextPart::Send { part, more: !is_awaited }
                    }
                    CutPart::Missing(range) => NextPart::Missing(range),
                    CutPart::Unsure(left) => NextPart::Unsure(left),
                    CutPart::Changed => NextPart::Changed,
                }
            }
        }
    }

    /// Cuts off the start of a range, as much as one send may take. `is_last`: the range completes
    /// the answer.
    ///
    /// A client that receives a whole answer must receive one version of the file (H-12). sendfile
    /// hands the kernel pages, not copies: until the client has acknowledged them, a change of the
    /// file in place changes them too. So the last bytes are copies. The very last ones are copied
    /// after the client has acknowledged every page, and only if the file is still unchanged. The
    /// copies before them keep the client's TCP from delaying that acknowledgement.
    fn cut_range(&mut self, range: Range<u64>, chunk_bytes: u64, is_last: bool) -> CutPart {
        let Some(content) = &self.content else { return CutPart::Changed };
        // The process owns these bytes: no change of the file reaches them.
        if let Some(bytes) = content.inline_bytes() {
            let bound = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            let part = SendBody::Bytes(bytes.slice(bound(range.start)..bound(range.end)));
            return CutPart::Part { part, end: range.end, is_awaited: false };
        }

        // A worker's copy serves only the send that it was made for.
        let ready = self.ready.take().filter(|ready| ready.range.start == range.start);
        if let Some(CopiedRange { range, bytes }) = ready {
            self.copied += range.end - range.start;
            return match bytes {
                Some(bytes) => CutPart::Part {
                    part: SendBody::Bytes(bytes),
                    end: range.end,
                    is_awaited: false,
                },
                None => CutPart::Changed,
            };
        }

        let (chunk, is_copied) = choose_chunk(&range, chunk_bytes, is_last, self.is_referenced);
        if content.missing(&chunk).is_some() {
            return CutPart::Missing(chunk);
        }
        let end = chunk.end;

        // What was copied before these pages does not count: the client acknowledges in order.
        if !is_copied {
            (self.is_referenced, self.copied) = (true, 0);
            let part = SendBody::File { content: content.clone(), range: chunk };
            return CutPart::Part { part, end, is_awaited: false };
        }

        // When the kernel holds no more bytes than were copied after the last page, the client has
        // acknowledged every page.
        let is_awaited = is_last && self.is_referenced;
        if is_awaited && end == range.end {
            return CutPart::Unsure(self.copied);
        }
        self.copied += end - chunk.start;
        match content.copy(&chunk) {
            Some(bytes) => CutPart::Part { part: SendBody::Bytes(bytes), end, is_awaited },
            None => CutPart::Changed,
        }
    }
}

enum CutPart {
    Part {
        part: SendBody,
        /// Where it ends.
        end: u64,
        /// The next part leaves only after the client has acknowledged this one, so the kernel must
        /// send it at once.
        is_awaited: bool,
    },
    Missing(Range<u64>),
    Unsure(u64),
    Changed,
}

/// The range to hand to the kernel next, and whether as a copy. `is_referenced`: pages were handed
/// over before it.
fn choose_chunk(
    range: &Range<u64>,
    chunk_bytes: u64,
    is_last: bool,
    is_referenced: bool,
) -> (Range<u64>, bool) {
    let left = range.end - range.start;
    let copied_max = if is_referenced { 2 * TAIL_BYTES } else { COPIED_ANSWER_BYTES_MAX };
    let (len, is_copied) = match is_last {
        _ if left > copied_max => (if is_last { left - 2 * TAIL_BYTES } else { left }, false),
        true if is_referenced && left > TAIL_BYTES => (left - TAIL_BYTES, true),
        _ => (left, true),
    };
    (range.start..range.start + len.min(chunk_bytes.max(1)), is_copied)
}

fn count_bytes(range: &Range<u64>) -> u64 {
    range.end - range.start
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths of the chunks of an answer, and which of them are copies.
    fn chunks(len: u64, chunk_bytes: u64, is_last: bool) -> Vec<(u64, bool)> {
        let (mut range, mut chunks) = (7..7 + len, Vec::<(u64, bool)>::new());
        while !range.is_empty() {
            let is_referenced = chunks.iter().any(|&(_, is_copied)| !is_copied);
            let (chunk, is_copied) = choose_chunk(&range, chunk_bytes, is_last, is_referenced);
            chunks.push((chunk.end - chunk.start, is_copied));
            range.start = chunk.end;
        }
        chunks
    }

    #[test]
    fn h12_the_end_of_an_answer_is_copied_in_two_steps_and_a_small_one_in_one() {
        const MIB: u64 = 1 << 20;
        const SMALL: u64 = COPIED_ANSWER_BYTES_MAX;
        assert_eq!(chunks(2048, MIB, true), [(2048, true)]);
        assert_eq!(chunks(SMALL, MIB, true), [(SMALL, true)]);
        assert_eq!(
            chunks(SMALL + 1, MIB, true),
            [(SMALL + 1 - 2 * TAIL_BYTES, false), (TAIL_BYTES, true), (TAIL_BYTES, true)]
        );
        assert_eq!(
            chunks(2 * MIB, MIB, true),
            [(MIB, false), (MIB - 2 * TAIL_BYTES, false), (TAIL_BYTES, true), (TAIL_BYTES, true)]
        );
        assert_eq!(chunks(2 * MIB, MIB, false), [(MIB, false), (MIB, false)], "more parts follow");
    }
}
