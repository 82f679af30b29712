//! hyper on tokio-uring: one thread that looks names up as ringboot does, and sends the headers
//! that ringboot sends.
//!
//! It does less than ringboot: the bytes of a body come from memory and are no mapping that a file
//! could change under, no client is timed or counted, and nothing is reported to a journal.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll};
use std::thread;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{ACCEPT_RANGES, CONTENT_TYPE, ETAG, HeaderValue, LAST_MODIFIED};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use ringboot::images::{ServedContent, clean_path_name};
use ringboot::serve::shelf::{FileReply, FileRequest, FileResolver, FileSources};
use tokio::sync::oneshot;

use super::ring_stream::RingStream;
use super::{ServedFile, pin_thread, ringboot_server};

/// What all connections share.
struct Site {
    address: SocketAddr,
    shelf: RefCell<FileResolver>,
    /// By their paths.
    bodies: Vec<(String, Bytes)>,
}

/// Starts the server on a thread of its own, which ends with this process.
pub(crate) fn start(
    files: &[ServedFile],
    names: &Arc<FileSources>,
    processor: Option<usize>,
) -> io::Result<SocketAddr> {
    let listener = ringboot_server::listen()?;
    let address = listener.local_addr()?;
    let bodies: Vec<_> =
        files.iter().map(|file| (format!("/{}", file.name), file.bytes.clone())).collect();
    let names = Arc::clone(names);
    let (ready, is_ready) = channel();
    let serve = move || -> io::Result<()> {
        pin_thread(processor)?;
        let site = Site { address, shelf: RefCell::new(FileResolver::new(names)), bodies };
        // Without COOP_TASKRUN the kernel interrupts the thread for each completion: a quarter
        // slower.
        let mut ring = tokio_uring::uring_builder();
        ring.setup_coop_taskrun();
        tokio_uring::builder().uring_builder(&ring).start(accept(listener, Rc::new(site), ready))
    };
    thread::Builder::new().name("tokio-uring".to_owned()).spawn(serve)?;
    is_ready
        .recv()
        .map_err(|_| io::Error::other("tokio-uring has not started: is io_uring allowed here?"))?;
    Ok(address)
}

async fn accept(
    listener: std::net::TcpListener,
    site: Rc<Site>,
    ready: Sender<()>,
) -> io::Result<()> {
    let listener = tokio_uring::net::TcpListener::from_std(listener);
    let contents: Rc<[Bytes]> = site.bodies.iter().map(|(_, bytes)| bytes.clone()).collect();
    ready.send(()).map_err(io::Error::other)?;
    loop {
        let (stream, peer) = listener.accept().await?;
        let (stream, site) = (RingStream::new(stream, &contents), Rc::clone(&site));
        tokio_uring::spawn(async move {
            let service = service_fn(|request: hyper::Request<_>| {
                let site = Rc::clone(&site);
                async move { Ok::<_, Infallible>(site.respond(request.uri().path(), peer).await) }
            });
            // A client that is done closes its connections: nobody is told, as in ringboot.
            let _ = http1::Builder::new().serve_connection(stream, service).await;
        });
    }
}

impl Site {
    async fn respond(&self, path: &str, peer: SocketAddr) -> Response<WholeFile> {
        self.answer(path, peer).await.unwrap_or_else(|| {
            let mut response = Response::new(WholeFile(None));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        })
    }

    async fn answer(&self, path: &str, peer: SocketAddr) -> Option<Response<WholeFile>> {
        let content = self.look(path, peer).await?;
        let (_, bytes) = self.bodies.iter().find(|(name, _)| name == path)?;
        let mut response = Response::new(WholeFile(Some(bytes.clone())));
        let (headers, meta) = (response.headers_mut(), content.meta());
        headers.insert(ETAG, HeaderValue::from_str(&meta.etag).ok()?);
        headers.insert(LAST_MODIFIED, HeaderValue::from_str(&meta.last_modified).ok()?);
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        Some(response)
    }

    /// Looks at the disk for each request: on this thread, or where the kernel's caches do not
    /// know, by a worker.
    async fn look(&self, path: &str, peer: SocketAddr) -> Option<ServedContent> {
        let path = clean_path_name(path.trim_start_matches('/').as_bytes()).ok()?;
        let ask = FileRequest {
            path,
            repaired: None,
            peer: peer.ip(),
            local: self.address.ip(),
            over_http: true,
        };
        let (sender, by_worker) = oneshot::channel();
        // A connection that is gone meanwhile waits for no reply.
        let later = move |reply| drop(sender.send(reply));
        let at_once = self.shelf.borrow_mut().ask(ask, later);
        let reply = match at_once {
            Some(reply) => reply,
            None => by_worker.await.ok()?,
        };
        let FileReply::Content(answer) = reply else { return None };
        self.shelf.borrow_mut().remember(&answer.content);
        Some(answer.content)
    }
}

/// A body of one frame.
struct WholeFile(Option<Bytes>);

impl Body for WholeFile {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
