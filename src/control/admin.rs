//! The admin socket: HTTP and JSON on a Unix socket, for every command and for whoever automates.
//!
//! Answers are resources; errors are `application/problem+json` (RFC 9457); the ETag is the generation that an answer is from.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, ETAG};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixListener;

/// Who may connect: the owner and the service's group.
const SOCKET_MODE: u32 = 0o660;

/// What a resource answers.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    /// The generation of the configuration that this is from.
    pub generation: Option<u64>,
    pub body: Value,
}

impl Answer {
    pub fn ok(generation: u64, body: Value) -> Self {
        Self { status: StatusCode::OK, generation: Some(generation), body }
    }

    /// A problem in the words of RFC 9457.
    pub fn problem(status: StatusCode, title: &str, detail: &str) -> Self {
        let body = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
        Self { status, generation: None, body }
    }
}

/// Answers one resource; may wait, it runs beside the others. The text is what follows the resource's path.
pub type Resource = Box<dyn Fn(&str) -> Answer + Send + Sync>;

/// Resources by method and path; a path that ends with `/` covers everything below it.
#[derive(Default)]
pub struct Routes(BTreeMap<(&'static str, &'static str), Resource>);

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Routes {
    pub fn get(mut self, path: &'static str, resource: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        self.0.insert(("GET", path), Box::new(resource));
        self
    }

    pub fn post(mut self, path: &'static str, resource: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        self.0.insert(("POST", path), Box::new(resource));
        self
    }

    pub fn delete(mut self, path: &'static str, resource: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        self.0.insert(("DELETE", path), Box::new(resource));
        self
    }

    fn answer(&self, method: &Method, path: &str) -> Answer {
        let fits = |route: &str| path == route || route.ends_with('/') && path.starts_with(route);
        let mut allowed = Vec::new();
        for ((route_method, route), resource) in &self.0 {
            if fits(route) {
                if *route_method == method.as_str() {
                    return resource(&path[route.len().min(path.len())..]);
                }
                allowed.push(*route_method);
            }
        }
        if allowed.is_empty() {
            return Answer::problem(StatusCode::NOT_FOUND, "no such resource", path);
        }
        let mut answer = Answer::problem(StatusCode::METHOD_NOT_ALLOWED, "method not allowed", path);
        answer.body["allow"] = json!(allowed);
        answer
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

/// Binds the socket and answers on a thread of its own. A path that a living server answers on is left alone.
pub fn start(path: &Path, routes: Routes) -> io::Result<AdminSocket> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another server answers there"));
    }
    let _ = std::fs::remove_file(path);
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    let socket = AdminSocket { path: path.to_owned() };
    std::fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let routes = Arc::new(routes);
    std::thread::Builder::new().name("rb-admin".into()).spawn(move || runtime.block_on(serve(listener, routes)))?;
    Ok(socket)
}

async fn serve(listener: std::os::unix::net::UnixListener, routes: Arc<Routes>) {
    let Ok(listener) = UnixListener::from_std(listener) else { return };
    while let Ok((stream, _)) = listener.accept().await {
        let routes = Arc::clone(&routes);
        let service = service_fn(move |request: Request<Incoming>| {
            let routes = Arc::clone(&routes);
            async move { Ok::<_, std::convert::Infallible>(respond(routes, request).await) }
        });
        tokio::spawn(async move {
            // A client that goes away in the middle is its own affair.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(routes: Arc<Routes>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let answered = tokio::task::spawn_blocking(move || routes.answer(&method, &path)).await;
    let answer = answered
        .unwrap_or_else(|_| Answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "this resource failed", "see the log"));
    let kind = if answer.status.is_success() { "application/json" } else { "application/problem+json" };
    let mut response = Response::builder().status(answer.status).header(CONTENT_TYPE, kind);
    if let Some(generation) = answer.generation {
        response = response.header(ETAG, format!("\"{generation}\""));
    }
    if let Some(allow) = answer.body.get("allow").and_then(Value::as_array) {
        let methods: Vec<&str> = allow.iter().filter_map(Value::as_str).collect();
        response = response.header(ALLOW, methods.join(", "));
    }
    response.body(Full::from(format!("{:#}\n", answer.body))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

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
            .get("/v1/status", |_| Answer::ok(7, json!({ "fine": true })))
            .get("/v1/machines/", |mac| Answer::ok(7, json!({ "mac": mac })))
            .post("/v1/reload", |_| Answer::problem(StatusCode::CONFLICT, "not reloaded", "line 3"));
        let socket = start(&path, routes).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
        let status = ask(&path, "GET /v1/status HTTP/1.0\r\n\r\n");
        assert!(
            status.starts_with("HTTP/1.0 200") && status.contains("etag: \"7\"") && status.contains("\"fine\": true")
        );
        assert!(ask(&path, "GET /v1/machines/52:54 HTTP/1.0\r\n\r\n").contains("\"mac\": \"52:54\""));
        let problem = ask(&path, "POST /v1/reload HTTP/1.0\r\n\r\n");
        assert!(problem.contains("409") && problem.contains("application/problem+json") && problem.contains("line 3"));
        let wrong = ask(&path, "DELETE /v1/status HTTP/1.0\r\n\r\n");
        assert!(wrong.contains("405") && wrong.contains("allow: GET"), "{wrong}");
        assert!(ask(&path, "GET /nothing HTTP/1.0\r\n\r\n").contains("404"));
        assert!(start(&path, Routes::default()).is_err(), "a living server keeps its socket");
        drop(socket);
        assert!(!path.exists());
    }
}
