//! The body of an answer: texts, and pieces of a content that are made resident before they are handed over (H-12).

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::oneshot;

use super::Sending;
use super::connection::Connection;
use super::journal::Delivery;
use crate::engine::tcp::mapped_bytes;
use crate::http::limits::{BUSY_PAUSE, TAIL_BYTES};
use crate::http::respond::Payload;
use crate::images::{Content, Piece};

/// A body whose length is known from the start (H-4).
pub(super) struct Body {
    connection: Rc<Connection>,
    /// Last one first.
    parts: Vec<Part>,
    source: Option<Source>,
    /// Bytes that have not been handed over.
    left: u64,
    waiting: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// The piece that was last asked for ahead of need.
    ahead: Option<Piece>,
    delivery: Option<Delivery>,
    _sending: Option<Sending>,
}

enum Part {
    Text(Bytes),
    File(Range<u64>),
}

/// The content that file parts are cut from.
struct Source {
    content: Content,
    bytes: Bytes,
    is_mapped: bool,
}

/// The file is no longer what it was when the answer began: the connection ends short of the promised length.
#[derive(Debug, thiserror::Error)]
#[error("the file was changed while it was sent")]
pub(super) struct Changed;

impl Body {
    /// `delivery` is said when the last byte has left.
    pub(super) fn new(
        connection: Rc<Connection>,
        payload: Payload,
        content: Option<Content>,
        delivery: Option<Delivery>,
    ) -> Self {
        let left = payload.len();
        let mut parts = Vec::new();
        match payload {
            Payload::None => {}
            Payload::Text(text) => parts.push(Part::Text(text.into())),
            Payload::File(range) => parts.push(Part::File(range)),
            Payload::Multipart(multipart, end) => {
                parts.push(Part::Text(end.into()));
                for part in multipart.into_iter().rev() {
                    parts.extend([Part::File(part.range), Part::Text(part.head.into())]);
                }
            }
        }
        let source = content.filter(|_| left > 0).and_then(|content| {
            let is_mapped = content.inline_bytes().is_none();
            let bytes = content.inline_bytes().cloned().or_else(|| mapped_bytes(&content))?;
            Some(Source { content, bytes, is_mapped })
        });
        let sending = source.is_some().then(|| connection.running.sending());
        Self { connection, parts, source, left, waiting: None, ahead: None, delivery, _sending: sending }
    }

    /// The next bytes of a file part, resident and still of the version that the answer began with.
    fn poll_file(&mut self, cx: &mut Context<'_>, range: &Range<u64>) -> Poll<Result<Range<u64>, Changed>> {
        let Some(source) = &self.source else { return Poll::Ready(Err(Changed)) };
        if !source.is_mapped {
            return Poll::Ready(Ok(range.clone()));
        }
        let is_last = !self.parts[..self.parts.len() - 1].iter().any(|part| matches!(part, Part::File(_)));
        let chunk = next_chunk(range, self.connection.running.plan.chunk_bytes, is_last);
        while source.content.missing(&chunk).is_some() {
            let waiting = self.waiting.get_or_insert_with(|| {
                Box::pin(populate(Rc::clone(&self.connection), source.content.clone(), chunk.clone()))
            });
            ready!(waiting.as_mut().poll(cx));
            self.waiting = None;
            self.connection.restart_clock();
        }
        if let Some(next) = source.content.next_missing(&chunk)
            && chunk.end < range.end
            && self.ahead != Some(next)
        {
            self.ahead = Some(next);
            let (content, chunk) = (source.content.clone(), chunk.clone());
            // Only a help: where the workers are busy, the piece is asked for again when it is needed. Of many clients that
            // ask at once, the first has it done for all.
            let job = move || content.next_missing(&chunk).into_iter().for_each(|next| content.populate(next));
            let _ = self.connection.workers().run(job);
        }
        let wire = &self.connection.wire;
        if is_last && chunk.end == range.end {
            // The kernel has a copy of all but the tail: what it holds is one version, and the tail will be of the same.
            // While bytes are promised and not taken, a write is under way, and its completion polls this body again.
            if !wire.has_taken_all() {
                return Poll::Pending;
            }
            if !source.content.is_unchanged() {
                return Poll::Ready(Err(Changed));
            }
        }
        wire.promise(&source.content, chunk.end - chunk.start);
        Poll::Ready(Ok(chunk))
    }

    fn slice(&self, chunk: &Range<u64>) -> Bytes {
        let bound = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        self.source.as_ref().map_or_else(Bytes::new, |source| source.bytes.slice(bound(chunk.start)..bound(chunk.end)))
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let delivery = self.delivery.take().filter(|_| self.left == 0);
        self.connection.end_answer(delivery);
    }
}

/// The bytes to hand over next, with a tail held back from the last part of an answer.
fn next_chunk(range: &Range<u64>, chunk_bytes: u64, is_last: bool) -> Range<u64> {
    let left = range.end - range.start;
    let body = if is_last && left > TAIL_BYTES { left - TAIL_BYTES } else { left };
    range.start..range.start + body.min(chunk_bytes.max(1))
}

/// Has a worker make a range resident; waits as long as it takes.
async fn populate(connection: Rc<Connection>, content: Content, range: Range<u64>) {
    loop {
        let (done, is_done) = oneshot::channel();
        let (content, range) = (content.clone(), range.clone());
        let job = move || {
            while let Some(piece) = content.missing(&range) {
                content.populate(piece);
            }
            let _ = done.send(());
        };
        if connection.workers().run(job).is_ok() {
            let _ = is_done.await;
            return;
        }
        tokio::time::sleep(BUSY_PAUSE).await;
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Changed;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Changed>>> {
        let this = self.get_mut();
        let bytes = match this.parts.last() {
            None => return Poll::Ready(None),
            Some(Part::Text(text)) => {
                let text = text.clone();
                this.parts.pop();
                text
            }
            Some(Part::File(range)) => {
                let range = range.clone();
                let chunk = match ready!(this.poll_file(cx, &range)) {
                    Ok(chunk) => chunk,
                    Err(changed) => {
                        if let Some(delivery) = &this.delivery {
                            this.connection.running.say_changed(this.connection.peer, delivery);
                        }
                        return Poll::Ready(Some(Err(changed)));
                    }
                };
                this.parts.pop();
                if chunk.end < range.end {
                    this.parts.push(Part::File(chunk.end..range.end));
                }
                this.slice(&chunk)
            }
        };
        this.left -= bytes.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
