//! The admin socket: HTTP on a Unix socket, for commands and automation.

use std::convert::Infallible;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;

use crate::engine::privileges;
use crate::observe::threads;

/// Owner and group of the socket may connect.
const SOCKET_MODE: u32 = 0o660;
/// Connections at once; other clients wait.
const CONNECTIONS_MAX: usize = 64;
/// Requests that are handled at once, each on a thread of its own.
const ANSWERS_MAX: usize = 16;
/// How long a client may take for the head of its next request.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// How long a connection may last: a backup of a large database to a slow client.
const CONNECTION_MAX: Duration = Duration::from_secs(15 * 60);
/// The pause after an error of the kernel.
const RETRIED_AFTER: Duration = Duration::from_millis(100);

/// The socket of a running server; the drop removes it from the file system.
#[derive(Debug)]
pub struct AdminSocket {
    path: PathBuf,
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A bound socket that does not answer yet.
#[derive(Debug)]
pub struct BoundAdminSocket {
    listener: std::os::unix::net::UnixListener,
    socket: AdminSocket,
}

/// Binds the socket. An error where another server answers on the path.
pub fn bind(path: &Path) -> io::Result<BoundAdminSocket> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another server answers there"));
    }
    let _ = std::fs::remove_file(path);
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    let socket = AdminSocket { path: path.to_owned() };
    std::fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
    listener.set_nonblocking(true)?;
    Ok(BoundAdminSocket { listener, socket })
}

impl BoundAdminSocket {
    /// Starts the thread that answers; it has no privileges.
    pub fn serve(self, router: Router) -> io::Result<AdminSocket> {
        let listener = self.listener;
        let builder = std::thread::Builder::new().name("rb-admin".into());
        builder.spawn(move || {
            let thread = threads::watch_thread("rb-admin");
            privileges::give_up_capabilities();
            thread.keep_running(|| {
                loop {
                    let Err(error) = answer_all(&listener, &router);
                    tracing::error!("the admin socket cannot be answered: {error}; retrying");
                    std::thread::sleep(RETRIED_AFTER);
                }
            });
        })?;
        Ok(self.socket)
    }
}

fn answer_all(
    listener: &std::os::unix::net::UnixListener,
    router: &Router,
) -> io::Result<Infallible> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(ANSWERS_MAX)
        .thread_name("rb-answer")
        .build()?;
    let listener = listener.try_clone()?;
    runtime.block_on(async { accept_all(&UnixListener::from_std(listener)?, router).await })
}

/// Accepts connections for ever. A failed accept is retried: descriptors may be free again later.
async fn accept_all(listener: &UnixListener, router: &Router) -> io::Result<Infallible> {
    // Further clients wait in the backlog of the kernel.
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut has_failed = false;
    loop {
        let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                if !std::mem::replace(&mut has_failed, true) {
                    tracing::warn!("the admin socket cannot accept a client: {error}");
                }
                tokio::time::sleep(RETRIED_AFTER).await;
                continue;
            }
        };
        has_failed = false;
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            let connection = http
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_MAX)
                .serve_connection(TokioIo::new(stream), service);
            // An error of a client that leaves early is ignored. A client that never reads its
            // answer loses its place after the timeout.
            let _ = tokio::time::timeout(CONNECTION_MAX, connection).await;
            drop(place);
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_socket_is_for_its_group_and_goes_with_its_server() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("admin.sock");
        let router = Router::new().fallback(async || "fine");
        let socket = bind(&path).unwrap().serve(router).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.0 200") && answer.ends_with("fine"), "{answer}");
        assert!(bind(&path).is_err(), "a living server keeps its socket");
        drop(socket);
        assert!(!path.exists());
    }
}
