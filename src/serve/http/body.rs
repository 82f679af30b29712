//! The body of an answer on its way out: texts, and pieces of a content that are resident before
//! they are sent (H-12).

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::connection::Awaited;
use super::journal::Delivery;
use crate::engine::stream::SendBody;
use crate::http::limits::TAIL_BYTES;
use crate::http::respond::ResponsePayload;
use crate::images::{PIECE_BYTES, ServedContent};

/// Texts up to this size are copied behind the head. Bytes.
const COPIED_BYTES_MAX: usize = 1024;

/// What of an answer has not been given to the driver.
#[derive(Debug)]
pub(super) struct Body {
    left: Left,
    /// What file parts are cut from.
    content: Option<ServedContent>,
    /// Said when the kernel has taken the last byte.
    pub(super) delivery: Option<Delivery>,
    /// Whether the connection goes on after it.
    pub(super) keeps: bool,
    /// The client has asked for the end of the connection with it, so nothing more is expected of
    /// it.
    pub(super) ends: bool,
    pub(super) waits: Waits,
    /// The number of the question by which a worker makes a piece resident: it stays in line while
    /// a trickle is sent.
    pub(super) reading: Option<u64>,
    /// The number of the question by which a worker copies a trickle meanwhile.
    pub(super) aside: Option<u64>,
    /// It has a place in the order of a storm.
    pub(super) is_ordered: bool,
    /// Pages of the file have been given to the kernel by reference, and the client may not have
    /// them yet.
    is_referenced: bool,
    /// Bytes that were copied to the kernel after the last of them.
    copied: u64,
    /// What a worker has read of the file, for the one send that it is good for.
    ready: Option<Copied>,
}

/// A copy of a part of a file; None: the file is no longer what it was.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) range: Range<u64>,
    pub(super) bytes: Option<Bytes>,
}

/// What a body is waiting for, other than room in the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    Nothing,
    /// A worker makes the next range resident: the number of the question.
    Worker(u64),
    /// Others of the storm are before it (`http::schedule`).
    Turn,
    /// The client is to acknowledge what it has got; it is asked again then.
    Client(Awaited),
}

#[derive(Debug)]
enum Left {
    Nothing,
    Text(Cow<'static, str>),
    File(Range<u64>),
    /// Last one first.
    Parts(Vec<Segment>),
}

#[derive(Debug)]
enum Segment {
    Text(String),
    File(Range<u64>),
}

/// What is to be done for a body.
#[derive(Debug)]
pub(super) enum Next {
    /// Send this behind what has been written to the head. `more`: it is not the last.
    Send { part: SendBody, more: bool },
    /// Nothing can be sent before this range is resident.
    Missing(Range<u64>),
    /// Nothing can be sent before the client has acknowledged all but so many bytes; then
    /// [`Body::is_delivered`].
    Unsure(u64),
    /// The file is no longer what it was when the answer began: the connection ends short of the
    /// promised length.
    Changed,
    /// All has been given to the driver.
    Nothing,
}

impl Body {
    pub(super) fn new(
        payload: ResponsePayload,
        content: Option<&ServedContent>,
        delivery: Option<Delivery>,
        keeps: bool,
    ) -> Self {
        let (left, content) = match payload {
            ResponsePayload::None => (Left::Nothing, None),
            ResponsePayload::Text(text) => (Left::Text(text), None),
            ResponsePayload::File(range) => (Left::File(range), content.cloned()),
            ResponsePayload::Multipart(parts, end) => {
                let mut segments = vec![Segment::Text(end)];
                for part in parts.into_iter().rev() {
                    segments.extend([Segment::File(part.range), Segment::Text(part.head)]);
                }
                (Left::Parts(segments), content.cloned())
            }
        };
        Self {
            left,
            content,
            delivery,
            keeps,
            ends: false,
            waits: Waits::Nothing,
            reading: None,
            aside: None,
            is_ordered: false,
            is_referenced: false,
            copied: 0,
            ready: None,
        }
    }

    /// Whether what comes next may be a copy that a worker makes: not the last bytes, which are
    /// read when the client has all that was given by reference.
    pub(super) fn may_be_copied(&self) -> bool {
        !self.is_referenced || self.file_bytes() > 2 * TAIL_BYTES
    }

    /// Whether all that is left is so little of something large that a worker rather copies it than
    /// makes a piece resident: whoever reads single bytes all over a large file pushes nobody's
    /// pieces out of the memory.
    pub(super) fn is_small_part(&self) -> bool {
        let left = self.file_bytes();
        matches!(self.left, Left::File(_))
            && !self.is_referenced
            && left <= 2 * TAIL_BYTES
            && self.content.as_ref().is_some_and(|content| content.len() > PIECE_BYTES)
    }

    /// The next bytes of the file, at most so many, where they may be copied.
    pub(super) fn next_trickle(&self, bytes: u64) -> Option<Range<u64>> {
        let range = match &self.left {
            Left::File(range) => range,
            Left::Parts(segments) => match segments.last()? {
                Segment::File(range) => range,
                Segment::Text(_) => return None,
            },
            Left::Nothing | Left::Text(_) => return None,
        };
        let spared = if self.is_referenced { 2 * TAIL_BYTES } else { 0 };
        let bytes =
            bytes.min(range.end - range.start).min(self.file_bytes().saturating_sub(spared));
        (bytes > 0).then(|| range.start..range.start + bytes)
    }

    pub(super) fn is_ready(&mut self, copied: Copied) {
        self.ready = Some(copied);
    }

    /// Whether a copy waits to be sent.
    pub(super) fn has_ready(&self) -> bool {
        self.ready.is_some()
    }

    /// Whether a content is being sent.
    pub(super) fn has_content(&self) -> bool {
        self.content.is_some()
    }

    /// Whether the driver has all of it.
    pub(super) fn is_given(&self) -> bool {
        matches!(self.left, Left::Nothing)
    }

    /// Bytes of files that have not been given to the driver.
    pub(super) fn file_bytes(&self) -> u64 {
        let len = |range: &Range<u64>| range.end - range.start;
        match &self.left {
            Left::Nothing | Left::Text(_) => 0,
            Left::File(range) => len(range),
            Left::Parts(segments) => segments
                .iter()
                .map(|segment| match segment {
                    Segment::File(range) => len(range),
                    Segment::Text(_) => 0,
                })
                .sum(),
        }
    }

    pub(super) fn content(&self) -> Option<&ServedContent> {
        self.content.as_ref()
    }

    /// The client has what was given by reference.
    pub(super) fn is_delivered(&mut self) {
        self.is_referenced = false;
    }

    /// What to send next: texts go to the head's buffer, at most `chunk_bytes` of a file follow
    /// them.
    pub(super) fn next(&mut self, head: &mut Vec<u8>, chunk_bytes: u64) -> Next {
        match &mut self.left {
            Left::Nothing => Next::Nothing,
            Left::Text(text) => {
                let text = std::mem::take(text);
                self.left = Left::Nothing;
                let part = if text.len() <= COPIED_BYTES_MAX {
                    head.extend_from_slice(text.as_bytes());
                    SendBody::Nothing
                } else {
                    SendBody::Bytes(match text {
                        Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
                        Cow::Owned(text) => Bytes::from(text),
                    })
                };
                Next::Send { part, more: false }
            }
            Left::File(range) => {
                let range = range.clone();
                match self.cut(range.clone(), chunk_bytes, true) {
                    Cut::Part { part, end, is_awaited } => {
                        let is_whole = end == range.end;
                        self.left =
                            if is_whole { Left::Nothing } else { Left::File(end..range.end) };
                        Next::Send { part, more: !is_whole && !is_awaited }
                    }
                    Cut::Missing(range) => Next::Missing(range),
                    Cut::Unsure(left) => Next::Unsure(left),
                    Cut::Changed => Next::Changed,
                }
            }
            Left::Parts(segments) => {
                while let Some(Segment::Text(text)) = segments.last() {
                    head.extend_from_slice(text.as_bytes());
                    self.copied += text.len() as u64;
                    segments.pop();
                }
                let Some(Segment::File(range)) = segments.last() else {
                    self.left = Left::Nothing;
                    return Next::Send { part: SendBody::Nothing, more: false };
                };
                let range = range.clone();
                // After the last file part comes the closing line.
                let is_last = segments.len() == 2;
                match self.cut(range.clone(), chunk_bytes, is_last) {
                    Cut::Part { part, end, is_awaited } => {
                        if let Left::Parts(segments) = &mut self.left {
                            segments.pop();
                            segments
                                .extend((end < range.end).then_some(Segment::File(end..range.end)));
                        }
                        Next::Send { part, more: !is_awaited }
                    }
                    Cut::Missing(range) => Next::Missing(range),
                    Cut::Unsure(left) => Next::Unsure(left),
                    Cut::Changed => Next::Changed,
                }
            }
        }
    }

    /// The beginning of a range, as much as may be sent at once. `is_last`: what ends with it
    /// completes the answer.
    ///
    /// Whoever has got a whole answer must have got one version of the file (H-12). sendfile gives
    /// the kernel pages, not copies: until the client has them, a change of the file in place
    /// changes them too. So the last bytes are copies, and the very last are made when the client
    /// has acknowledged every page, and the file is seen unchanged after they were read. The copies
    /// before them keep the client's TCP from holding back the acknowledgement that is waited for.
    fn cut(&mut self, range: Range<u64>, chunk_bytes: u64, is_last: bool) -> Cut {
        let Some(content) = &self.content else { return Cut::Changed };
        if let Some(bytes) = content.inline_bytes() {
            let bound = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            let part = SendBody::Bytes(bytes.slice(bound(range.start)..bound(range.end)));
            return Cut::Part { part, end: range.end, is_awaited: false };
        }
        let ready = self.ready.take().filter(|ready| ready.range.start == range.start);
        if let Some(Copied { range, bytes }) = ready {
            self.copied += range.end - range.start;
            return match bytes {
                Some(bytes) => {
                    Cut::Part { part: SendBody::Bytes(bytes), end: range.end, is_awaited: false }
                }
                None => Cut::Changed,
            };
        }
        let (chunk, is_copied) = next_chunk(&range, chunk_bytes, is_last, self.is_referenced);
        if content.missing(&chunk).is_some() {
            return Cut::Missing(chunk);
        }
        let end = chunk.end;
        if !is_copied {
            (self.is_referenced, self.copied) = (true, 0);
            let part = SendBody::File { content: content.clone(), range: chunk };
            return Cut::Part { part, end, is_awaited: false };
        }
        let is_awaited = is_last && self.is_referenced;
        if is_awaited && end == range.end {
            return Cut::Unsure(self.copied);
        }
        self.copied += end - chunk.start;
        match content.copy(&chunk) {
            Some(bytes) => Cut::Part { part: SendBody::Bytes(bytes), end, is_awaited },
            None => Cut::Changed,
        }
    }
}

enum Cut {
    Part {
        part: SendBody,
        /// Where it ends.
        end: u64,
        /// Nothing follows before the client has acknowledged it: it must not be kept back.
        is_awaited: bool,
    },
    Missing(Range<u64>),
    Unsure(u64),
    Changed,
}

/// The bytes to hand over next, and whether as a copy. `is_referenced`: pages were given to the
/// kernel before them.
fn next_chunk(
    range: &Range<u64>,
    chunk_bytes: u64,
    is_last: bool,
    is_referenced: bool,
) -> (Range<u64>, bool) {
    let left = range.end - range.start;
    let (len, is_copied) = match is_last {
        _ if left > 2 * TAIL_BYTES => (if is_last { left - 2 * TAIL_BYTES } else { left }, false),
        true if is_referenced && left > TAIL_BYTES => (left - TAIL_BYTES, true),
        _ => (left, true),
    };
    (range.start..range.start + len.min(chunk_bytes.max(1)), is_copied)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths of the chunks of an answer, and which of them are copies.
    fn chunks(len: u64, chunk_bytes: u64, is_last: bool) -> Vec<(u64, bool)> {
        let (mut range, mut chunks) = (7..7 + len, Vec::<(u64, bool)>::new());
        while !range.is_empty() {
            let is_referenced = chunks.iter().any(|&(_, is_copied)| !is_copied);
            let (chunk, is_copied) = next_chunk(&range, chunk_bytes, is_last, is_referenced);
            chunks.push((chunk.end - chunk.start, is_copied));
            range.start = chunk.end;
        }
        chunks
    }

    #[test]
    fn h12_the_end_of_an_answer_is_copied_in_two_steps_and_a_small_one_in_one() {
        const MIB: u64 = 1 << 20;
        assert_eq!(chunks(2048, MIB, true), [(2048, true)]);
        assert_eq!(chunks(2 * TAIL_BYTES, MIB, true), [(2 * TAIL_BYTES, true)]);
        assert_eq!(
            chunks(2 * MIB, MIB, true),
            [(MIB, false), (MIB - 2 * TAIL_BYTES, false), (TAIL_BYTES, true), (TAIL_BYTES, true)]
        );
        assert_eq!(chunks(2 * MIB, MIB, false), [(MIB, false), (MIB, false)], "more parts follow");
    }
}
