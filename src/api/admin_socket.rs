//! The admin socket: HTTP and JSON on a Unix socket, for every command and for whoever automates.
//!
//! Answers are resources; errors are `application/problem+json` (RFC 9457). An ETag stands only on
//! an answer that is a function of the generation of the configuration: counters and histories
//! change by themselves and have none.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{Method, Request, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;

use crate::engine::privileges;
use crate::observe::threads;

/// Who may connect: the owner and the service's group.
const SOCKET_MODE: u32 = 0o660;
/// Bytes of a file that are read and sent at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// Lists what there is.
const INDEX: &str = "/v1/";
/// Clients at once; others wait until one has gone.
const CONNECTIONS_MAX: usize = 64;
/// Answers that are worked out at once, each on a thread of its own.
const ANSWERS_MAX: usize = 16;
/// How long a client may take for the head of its next request.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// How long a connection may last: a backup of a large database to a slow client.
const CONNECTION_MAX: Duration = Duration::from_secs(15 * 60);
/// After a refusal of the kernel.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What a resource answers.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    /// An entity tag with its quotes: whoever has it has this body.
    pub tag: Option<String>,
    pub body: Value,
}

impl Answer {
    pub fn ok(body: Value) -> Self {
        Self { status: StatusCode::OK, tag: None, body }
    }

    /// `tag` without quotes. It must change whenever the body does.
    pub fn tagged(self, tag: &str) -> Self {
        Self { tag: Some(format!("\"{tag}\"")), ..self }
    }

    /// A problem in the words of RFC 9457.
    pub fn problem(status: StatusCode, title: &str, detail: &str) -> Self {
        let body = json!({ "type": "about:blank", "title": title, "status": status.as_u16(),
            "detail": detail });
        Self { status, tag: None, body }
    }
}

/// A file that is an answer's body.
#[derive(Debug)]
pub struct Download {
    /// Sent from where it stands to its end, a piece at a time.
    pub file: File,
    pub media_type: &'static str,
}

/// Answers one resource; may wait, it runs beside the others. The text is what follows the
/// resource's path, percent-decoded.
type Resource = Box<dyn Fn(&str) -> Reply + Send + Sync>;

enum Reply {
    Json(Answer),
    File(Download),
}

/// Resources by method and path; a path that ends with `/` covers everything below it.
#[derive(Default)]
pub struct Routes(BTreeMap<(&'static str, &'static str), Resource>);

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Routes {
    pub fn get(
        mut self,
        path: &'static str,
        resource: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) -> Self {
        self.0.insert(("GET", path), Box::new(move |rest| Reply::Json(resource(rest))));
        self
    }

    pub fn post(
        mut self,
        path: &'static str,
        resource: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) -> Self {
        self.0.insert(("POST", path), Box::new(move |rest| Reply::Json(resource(rest))));
        self
    }

    pub fn delete(
        mut self,
        path: &'static str,
        resource: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) -> Self {
        self.0.insert(("DELETE", path), Box::new(move |rest| Reply::Json(resource(rest))));
        self
    }

    /// A resource that is a file; an `Err` is the problem in its place.
    pub fn download(
        mut self,
        path: &'static str,
        resource: impl Fn() -> Result<Download, Answer> + Send + Sync + 'static,
    ) -> Self {
        self.0.insert(
            ("GET", path),
            Box::new(move |_| resource().map_or_else(Reply::Json, Reply::File)),
        );
        self
    }

    fn answer(&self, method: &Method, path: &str) -> Reply {
        if path == INDEX && method == Method::GET {
            return Reply::Json(self.index());
        }
        let fits = |route: &str| path == route || route.ends_with('/') && path.starts_with(route);
        let mut allowed = Vec::new();
        for ((route_method, route), resource) in &self.0 {
            if fits(route) {
                if *route_method == method.as_str() {
                    let rest = path.get(route.len()..).unwrap_or_default();
                    return resource(&percent_decode_str(rest).decode_utf8_lossy());
                }
                allowed.push(*route_method);
            }
        }
        if allowed.is_empty() {
            let detail = format!("{path}: GET {INDEX} lists what there is");
            return Reply::Json(Answer::problem(
                StatusCode::NOT_FOUND,
                "no such resource",
                &detail,
            ));
        }
        let mut answer =
            Answer::problem(StatusCode::METHOD_NOT_ALLOWED, "method not allowed", path);
        answer.body["allow"] = json!(allowed);
        Reply::Json(answer)
    }

    fn index(&self) -> Answer {
        let listed: Vec<Value> =
            self.0.keys().map(|(method, path)| json!({ "method": method, "path": path })).collect();
        Answer::ok(json!({ "version": env!("CARGO_PKG_VERSION"), "resources": listed }))
    }
}

/// The socket of a running server; gone from the file system when dropped.
#[derive(Debug)]
pub struct AdminSocket {
    path: PathBuf,
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A socket that is bound, and answers nobody yet.
#[derive(Debug)]
pub struct Bound {
    listener: std::os::unix::net::UnixListener,
    socket: AdminSocket,
}

/// Binds the socket. A path that a living server answers on is left alone.
pub fn bind(path: &Path) -> io::Result<Bound> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another server answers there"));
    }
    let _ = std::fs::remove_file(path);
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    let socket = AdminSocket { path: path.to_owned() };
    std::fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
    listener.set_nonblocking(true)?;
    Ok(Bound { listener, socket })
}

impl Bound {
    /// Answers from now on, on a thread that has no privilege.
    pub fn serve(self, routes: Routes) -> io::Result<AdminSocket> {
        let routes = Arc::new(routes);
        let listener = self.listener;
        let body = move || {
            let thread = threads::watch_thread("rb-admin");
            privileges::give_up_capabilities();
            thread.keep_running(|| {
                loop {
                    let Err(error) = answer_all(&listener, &routes);
                    tracing::error!(
                        "the admin socket cannot be answered: {error}; tried again in a moment"
                    );
                    std::thread::sleep(AGAIN_AFTER);
                }
            });
        };
        std::thread::Builder::new().name("rb-admin".into()).spawn(body)?;
        Ok(self.socket)
    }
}

fn answer_all(
    listener: &std::os::unix::net::UnixListener,
    routes: &Arc<Routes>,
) -> io::Result<Infallible> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(ANSWERS_MAX)
        .thread_name("rb-answer")
        .build()?;
    let listener = listener.try_clone()?;
    runtime.block_on(async { accept_all(&UnixListener::from_std(listener)?, routes).await })
}

/// Never ends of a refused accept: descriptors that are short now are there again later.
async fn accept_all(listener: &UnixListener, routes: &Arc<Routes>) -> io::Result<Infallible> {
    // Clients beyond wait in the kernel's backlog.
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut has_failed = false;
    loop {
        let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                if !std::mem::replace(&mut has_failed, true) {
                    tracing::warn!("a client of the admin socket waits: {error}");
                }
                tokio::time::sleep(AGAIN_AFTER).await;
                continue;
            }
        };
        has_failed = false;
        let routes = Arc::clone(routes);
        let service = service_fn(move |request: Request<Incoming>| {
            let routes = Arc::clone(&routes);
            async move { Ok::<_, Infallible>(respond(routes, request).await) }
        });
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            let connection = http
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_MAX)
                .serve_connection(TokioIo::new(stream), service);
            // A client that goes away in the middle is its own affair, and one that never takes its
            // answer gives its place back.
            let _ = tokio::time::timeout(CONNECTION_MAX, connection).await;
            drop(place);
        });
    }
}

async fn respond(routes: Arc<Routes>, request: Request<Incoming>) -> Response<Content> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let answered = tokio::task::spawn_blocking(move || routes.answer(&method, &path)).await;
    let failed = || {
        Answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "this resource failed", "see the log")
    };
    match answered.unwrap_or_else(|_| Reply::Json(failed())) {
        Reply::Json(answer) => {
            let has_it = answer.tag.as_ref().is_some_and(|tag| names(&request, tag));
            if has_it { not_modified(answer) } else { in_json(answer) }
        }
        Reply::File(download) => in_a_file(download).unwrap_or_else(|_| in_json(failed())),
    }
}

/// RFC 9110 section 13.1.2: `*`, or a list of tags that are compared without their `W/`.
fn names(request: &Request<Incoming>, tag: &str) -> bool {
    let written =
        request.headers().get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    written
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}

fn not_modified(answer: Answer) -> Response<Content> {
    let response = Response::builder()
        .status(StatusCode::NOT_MODIFIED)
        .header(ETAG, answer.tag.unwrap_or_default());
    response.body(Content::default()).unwrap_or_default()
}

fn in_json(answer: Answer) -> Response<Content> {
    let kind =
        if answer.status.is_success() { "application/json" } else { "application/problem+json" };
    let mut response = Response::builder().status(answer.status).header(CONTENT_TYPE, kind);
    if let Some(tag) = answer.tag {
        response = response.header(ETAG, tag);
    }
    if let Some(allow) = answer.body.get("allow").and_then(Value::as_array) {
        let methods: Vec<&str> = allow.iter().filter_map(Value::as_str).collect();
        response = response.header(ALLOW, methods.join(", "));
    }
    response.body(Content::Text(Bytes::from(format!("{:#}\n", answer.body)))).unwrap_or_default()
}

fn in_a_file(download: Download) -> io::Result<Response<Content>> {
    let left = download.file.metadata()?.len();
    let response = Response::builder().header(CONTENT_TYPE, download.media_type);
    Ok(response.body(Content::File { file: download.file, left }).unwrap_or_default())
}

/// A body: a text, or a file of which one piece at a time is in memory.
enum Content {
    Text(Bytes),
    File { file: File, left: u64 },
}

impl Default for Content {
    fn default() -> Self {
        Self::Text(Bytes::new())
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let piece = match self.get_mut() {
            Self::Text(text) if text.is_empty() => None,
            Self::Text(text) => Some(Ok(std::mem::take(text))),
            Self::File { left: 0, .. } => None,
            Self::File { file, left } => Some(next_piece(file, left)),
        };
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Text(text) => text.len() as u64,
            Self::File { left, .. } => *left,
        })
    }
}

fn next_piece(file: &mut File, left: &mut u64) -> io::Result<Bytes> {
    let mut piece = vec![0; usize::try_from(*left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES)];
    file.read_exact(&mut piece)?;
    *left -= piece.len() as u64;
    Ok(piece.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn start(path: &Path, routes: Routes) -> io::Result<AdminSocket> {
        bind(path)?.serve(routes)
    }

    fn ask(path: &Path, request: &str) -> String {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn resources_problems_methods_and_generations() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("admin.sock");
        let routes = Routes::default()
            .get("/v1/status", |_| Answer::ok(json!({ "fine": true })))
            .get("/v1/configuration", |_| Answer::ok(json!({ "generation": 7 })).tagged("5-7"))
            .get("/v1/machines/", |mac| Answer::ok(json!({ "mac": mac })))
            .post("/v1/reload", |_| {
                Answer::problem(StatusCode::CONFLICT, "not reloaded", "line 3")
            });
        let socket = start(&path, routes).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
        let status = ask(&path, "GET /v1/status HTTP/1.0\r\n\r\n");
        assert!(
            status.starts_with("HTTP/1.0 200") && status.contains("\"fine\": true"),
            "{status}"
        );
        assert!(!status.contains("etag"), "it changes by itself");
        assert!(
            ask(&path, "GET /v1/machines/52:54 HTTP/1.0\r\n\r\n").contains("\"mac\": \"52:54\"")
        );
        assert!(
            ask(&path, "GET /v1/machines/52%3A54 HTTP/1.0\r\n\r\n").contains("\"mac\": \"52:54\"")
        );
        let index = ask(&path, "GET /v1/ HTTP/1.0\r\n\r\n");
        assert!(index.contains("\"/v1/machines/\"") && index.contains("\"POST\""), "{index}");
        let problem = ask(&path, "POST /v1/reload HTTP/1.0\r\n\r\n");
        assert!(
            problem.contains("409")
                && problem.contains("application/problem+json")
                && problem.contains("line 3")
        );
        let wrong = ask(&path, "DELETE /v1/status HTTP/1.0\r\n\r\n");
        assert!(wrong.contains("405") && wrong.contains("allow: GET"), "{wrong}");
        assert!(ask(&path, "GET /nothing HTTP/1.0\r\n\r\n").contains("404"));
        assert!(bind(&path).is_err(), "a living server keeps its socket");
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn who_has_a_generation_gets_it_once() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("admin.sock");
        let routes = Routes::default()
            .get("/v1/configuration", |_| Answer::ok(json!({ "generation": 7 })).tagged("5-7"));
        let _socket = start(&path, routes).unwrap();
        let with = |tags: &str| {
            ask(&path, &format!("GET /v1/configuration HTTP/1.0\r\nIf-None-Match: {tags}\r\n\r\n"))
        };
        for tags in ["\"5-7\"", "\"5-6\", W/\"5-7\"", "*"] {
            let answer = with(tags);
            assert!(
                answer.contains(" 304 ") && answer.contains("etag: \"5-7\""),
                "{tags}: {answer}"
            );
            assert!(!answer.contains("generation"), "{tags}: {answer}");
        }
        for tags in ["\"5-6\"", "5-7", "\"7\""] {
            let answer = with(tags);
            assert!(
                answer.contains(" 200 ")
                    && answer.contains("etag: \"5-7\"")
                    && answer.contains("generation")
            );
        }
    }

    #[test]
    fn a_file_is_sent_whole_with_its_length_and_a_problem_in_its_place() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("admin.sock");
        let name = scratch.path().join("file");
        let bytes = "0123456789".repeat(CHUNK_BYTES / 4);
        std::fs::write(&name, &bytes).unwrap();
        let routes = Routes::default()
            .download("/v1/backup", move || {
                Ok(Download { file: File::open(&name).unwrap(), media_type: "text/plain" })
            })
            .download("/v1/none", || {
                Err(Answer::problem(StatusCode::NOT_FOUND, "no database", "none"))
            });
        let _socket = start(&path, routes).unwrap();
        let answer = ask(&path, "GET /v1/backup HTTP/1.0\r\n\r\n");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}", bytes.len())) && body == bytes,
            "{head}"
        );
        assert!(ask(&path, "GET /v1/none HTTP/1.0\r\n\r\n").contains("application/problem+json"));
    }
}
