//! hyper on tokio-uring: one thread that serves files from memory, with the headers that ringboot sends.
//!
//! It does less than ringboot: no name is looked up on the disk, no client is timed or counted, nothing is logged.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll};
use std::thread;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{ACCEPT_RANGES, CONTENT_TYPE, ETAG, HeaderValue, LAST_MODIFIED};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};

use super::ring_stream::RingStream;
use super::{ServedFile, pin_thread, ringboot_server};

/// Starts the server on a thread of its own, which ends with this process.
pub(crate) fn start(files: &[ServedFile], processor: Option<usize>) -> io::Result<SocketAddr> {
    let listener = ringboot_server::listen()?;
    let address = listener.local_addr()?;
    let files: Vec<(String, Bytes)> =
        files.iter().map(|file| (format!("/{}", file.name), file.bytes.clone())).collect();
    let (ready, is_ready) = channel();
    let serve = move || -> io::Result<()> {
        pin_thread(processor)?;
        // Without COOP_TASKRUN the kernel interrupts the thread for each completion: a quarter slower.
        let mut ring = tokio_uring::uring_builder();
        ring.setup_coop_taskrun();
        tokio_uring::builder().uring_builder(&ring).start(accept(listener, files, ready))
    };
    thread::Builder::new().name("tokio-uring".to_owned()).spawn(serve)?;
    is_ready.recv().map_err(|_| io::Error::other("tokio-uring has not started: is io_uring allowed here?"))?;
    Ok(address)
}

async fn accept(listener: std::net::TcpListener, files: Vec<(String, Bytes)>, ready: Sender<()>) -> io::Result<()> {
    let listener = tokio_uring::net::TcpListener::from_std(listener);
    let contents: Rc<[Bytes]> = files.iter().map(|(_, bytes)| bytes.clone()).collect();
    let files: Rc<[(String, Bytes)]> = files.into();
    ready.send(()).map_err(io::Error::other)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (stream, files) = (RingStream::new(stream, &contents), Rc::clone(&files));
        tokio_uring::spawn(async move {
            let service = service_fn(move |request: hyper::Request<_>| {
                let response = respond(request.uri().path(), &files);
                async move { Ok::<_, Infallible>(response) }
            });
            // A client that is done closes its connections: nobody is told, as in ringboot.
            let _ = http1::Builder::new().serve_connection(stream, service).await;
        });
    }
}

fn respond(path: &str, files: &[(String, Bytes)]) -> Response<WholeFile> {
    let Some((_, bytes)) = files.iter().find(|(name, _)| name == path) else {
        let mut response = Response::new(WholeFile(None));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    let mut response = Response::new(WholeFile(Some(bytes.clone())));
    let headers = response.headers_mut();
    headers.insert(ETAG, HeaderValue::from_static("\"4000-17979cfe362a0000\""));
    headers.insert(LAST_MODIFIED, HeaderValue::from_static("Tue, 14 Nov 2023 22:13:20 GMT"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

/// A body of one frame.
struct WholeFile(Option<Bytes>);

impl Body for WholeFile {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
