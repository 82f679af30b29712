//! The body of an answer on its way out: texts, and pieces of a content that are resident before they are sent (H-12).

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::journal::Delivery;
use crate::engine::stream::Part;
use crate::http::limits::TAIL_BYTES;
use crate::http::respond::Payload;
use crate::images::Content;

/// Texts up to this size are copied behind the head. Bytes.
const COPIED_BYTES_MAX: usize = 1024;

/// What of an answer has not been given to the driver.
#[derive(Debug)]
pub(super) struct Body {
    left: Left,
    /// What file parts are cut from.
    content: Option<Content>,
    /// Said when the kernel has taken the last byte.
    pub(super) delivery: Option<Delivery>,
    /// Whether the connection goes on after it.
    pub(super) keeps: bool,
    /// A worker makes the next range resident.
    pub(super) is_waiting: bool,
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
    Send { part: Part, more: bool },
    /// Nothing can be sent before this range is resident.
    Missing(Range<u64>),
    /// The file is no longer what it was when the answer began: the connection ends short of the promised length.
    Changed,
    /// All has been given to the driver.
    Nothing,
}

impl Body {
    pub(super) fn new(payload: Payload, content: Option<&Content>, delivery: Option<Delivery>, keeps: bool) -> Self {
        let (left, content) = match payload {
            Payload::None => (Left::Nothing, None),
            Payload::Text(text) => (Left::Text(text), None),
            Payload::File(range) => (Left::File(range), content.cloned()),
            Payload::Multipart(parts, end) => {
                let mut segments = vec![Segment::Text(end)];
                for part in parts.into_iter().rev() {
                    segments.extend([Segment::File(part.range), Segment::Text(part.head)]);
                }
                (Left::Parts(segments), content.cloned())
            }
        };
        Self { left, content, delivery, keeps, is_waiting: false }
    }

    /// Whether a content is being sent.
    pub(super) fn has_content(&self) -> bool {
        self.content.is_some()
    }

    pub(super) fn content(&self) -> Option<&Content> {
        self.content.as_ref()
    }

    /// What to send next: texts go to the head's buffer, at most `chunk_bytes` of a file follow them.
    pub(super) fn next(&mut self, head: &mut Vec<u8>, chunk_bytes: u64) -> Next {
        match &mut self.left {
            Left::Nothing => Next::Nothing,
            Left::Text(text) => {
                let text = std::mem::take(text);
                self.left = Left::Nothing;
                let part = if text.len() <= COPIED_BYTES_MAX {
                    head.extend_from_slice(text.as_bytes());
                    Part::Nothing
                } else {
                    Part::Bytes(match text {
                        Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
                        Cow::Owned(text) => Bytes::from(text),
                    })
                };
                Next::Send { part, more: false }
            }
            Left::File(range) => {
                let range = range.clone();
                match self.cut(range.clone(), chunk_bytes, true) {
                    Cut::Part(part, end) => {
                        let more = end < range.end;
                        self.left = if more { Left::File(end..range.end) } else { Left::Nothing };
                        Next::Send { part, more }
                    }
                    Cut::Missing(range) => Next::Missing(range),
                    Cut::Changed => Next::Changed,
                }
            }
            Left::Parts(segments) => {
                while let Some(Segment::Text(text)) = segments.last() {
                    head.extend_from_slice(text.as_bytes());
                    segments.pop();
                }
                let Some(Segment::File(range)) = segments.last() else {
                    self.left = Left::Nothing;
                    return Next::Send { part: Part::Nothing, more: false };
                };
                let range = range.clone();
                // After the last file part comes the closing line.
                let is_last = segments.len() == 2;
                match self.cut(range.clone(), chunk_bytes, is_last) {
                    Cut::Part(part, end) => {
                        if let Left::Parts(segments) = &mut self.left {
                            segments.pop();
                            segments.extend((end < range.end).then(|| Segment::File(end..range.end)));
                        }
                        Next::Send { part, more: true }
                    }
                    Cut::Missing(range) => Next::Missing(range),
                    Cut::Changed => Next::Changed,
                }
            }
        }
    }

    /// The beginning of a range, as much as may be sent at once. `is_last`: what ends with it completes the answer.
    fn cut(&self, range: Range<u64>, chunk_bytes: u64, is_last: bool) -> Cut {
        let Some(content) = &self.content else { return Cut::Changed };
        if let Some(bytes) = content.inline_bytes() {
            let bound = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            return Cut::Part(Part::Bytes(bytes.slice(bound(range.start)..bound(range.end))), range.end);
        }
        let chunk = next_chunk(&range, chunk_bytes, is_last);
        if content.missing(&chunk).is_some() {
            return Cut::Missing(chunk);
        }
        // Everything before the tail has been taken when it is cut: a send follows the end of the one before.
        if is_last && chunk.end == range.end && !content.is_unchanged() {
            return Cut::Changed;
        }
        let end = chunk.end;
        Cut::Part(Part::File { content: content.clone(), range: chunk }, end)
    }
}

enum Cut {
    /// And where it ends.
    Part(Part, u64),
    Missing(Range<u64>),
    Changed,
}

/// The bytes to hand over next, with a tail held back from the last part of an answer.
fn next_chunk(range: &Range<u64>, chunk_bytes: u64, is_last: bool) -> Range<u64> {
    let left = range.end - range.start;
    let body = if is_last && left > TAIL_BYTES { left - TAIL_BYTES } else { left };
    range.start..range.start + body.min(chunk_bytes.max(1))
}
