//! From a parsed request to an answer: the pure room plans it, the shelf finds what it is made of.

use std::borrow::Cow;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use http::uri::Uri;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use tokio::sync::oneshot;

use super::body::Body;
use super::connection::Connection;
use super::journal::Delivery;
use crate::http::limits::{BUSY_PAUSE, BUSY_TIMEOUT, REQUEST_BODY_BYTES_MAX};
use crate::http::respond::{self, Head, Meta, Payload, Plan};
use crate::http::{index, target};
use crate::images::{CleanPath, Content, Refusal, clean};
use crate::serve::shelf::{Answer, Ask, Reply};
use crate::serve::stage::stage_of;

/// Bytes of a refused target that the log shows.
const TARGET_BYTES_SHOWN: usize = 200;

/// Answers one request. What goes wrong is an answer too.
pub(super) async fn answer(
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    connection.begin_answer();
    let (parts, input) = request.into_parts();
    let target = target_of(&parts.uri);
    let head =
        Head { method: &parts.method, version: parts.version, headers: &parts.headers, target_len: target.len() };
    let answered = match throw_away(&connection, &head, input).await.or_else(|| respond::forbid(&head)) {
        Some(plan) => Answered::of(plan),
        None => look_up(&connection, &head, target.as_bytes()).await,
    };
    let Answered { plan, content, delivery } = answered;
    if plan.status.is_client_error() || plan.status.is_server_error() {
        connection.running.counters.refused_requests.add(1);
    }
    let mut response = Response::new(Body::new(connection, plan.payload, content, delivery));
    *response.status_mut() = plan.status;
    *response.headers_mut() = plan.headers;
    Ok(response)
}

/// A plan, and what its file parts are cut from.
struct Answered {
    plan: Plan,
    content: Option<Content>,
    /// Said when the last byte has left.
    delivery: Option<Delivery>,
}

impl Answered {
    fn of(plan: Plan) -> Self {
        Self { plan, content: None, delivery: None }
    }
}

/// The target as it was sent, but for a fragment, which hyper has dropped.
fn target_of(uri: &Uri) -> Cow<'_, str> {
    match (uri.authority(), uri.path_and_query()) {
        (None, Some(path)) => Cow::Borrowed(path.as_str()),
        _ => Cow::Owned(uri.to_string()),
    }
}

/// Reads the body of a request, which nothing here has a use for (H-32). An answer, if it is too large or does not come.
async fn throw_away(connection: &Connection, head: &Head<'_>, mut input: Incoming) -> Option<Plan> {
    if input.is_end_stream() {
        return None;
    }
    connection.guard.borrow_mut().stop();
    let mut left = REQUEST_BODY_BYTES_MAX;
    if input.size_hint().lower() > left {
        return Some(respond::body_too_large(head));
    }
    let reading = async {
        while let Some(Ok(frame)) = input.frame().await {
            let len = frame.data_ref().map_or(0, |data| data.len() as u64);
            match left.checked_sub(len) {
                Some(rest) => left = rest,
                None => return Some(respond::body_too_large(head)),
            }
        }
        None
    };
    let patience = connection.running.plan.timeouts.head;
    tokio::time::timeout(patience, reading).await.unwrap_or_else(|_| Some(respond::body_too_slow(head)))
}

async fn look_up(connection: &Rc<Connection>, head: &Head<'_>, target: &[u8]) -> Answered {
    let began = Instant::now();
    let shown = || target[..target.len().min(TARGET_BYTES_SHOWN)].escape_ascii();
    let refuse = |name: String, refusal: Refusal, why: &str| {
        connection.running.say_refused(connection.peer, name, refusal, why);
        Answered::of(refused(head, refusal))
    };
    let path = match target::path(target) {
        Ok(path) => path,
        Err(bad) => {
            let (name, why) = (shown().to_string(), format!("{bad}: {}", shown()));
            connection.running.say_refused(connection.peer, name, Refusal::NotFound, &why);
            return Answered::of(respond::bad_request(head, &bad.to_string()));
        }
    };
    let mut path = match clean(&path) {
        Ok(path) => path,
        Err(refusal) => return refuse(shown().to_string(), refusal, &format!("{refusal}: {}", shown())),
    };
    let mut reply = ask(connection, &path).await;
    if let (Reply::Directory, Some(index)) = (&reply, index_file(connection, &path)) {
        let indexed = ask(connection, &index).await;
        if matches!(indexed, Reply::Content(_)) {
            (path, reply) = (index, indexed);
        }
    }
    match reply {
        Reply::Content(answer) => file(connection, head, path, answer, began),
        Reply::Directory => match list(connection, path).await {
            Ok(page) => Answered::of(respond::listing(head, page)),
            Err(refusal) => {
                refuse(shown().to_string(), refusal, &format!("{}: a directory that is not listed", shown()))
            }
        },
        Reply::Refused(refusal, why) => refuse(path.display().into_owned(), refusal, &why),
    }
}

/// Asks the shelf. What finds every worker or mapping in use is tried again for a while: clients are queued, not refused (H-14).
async fn ask(connection: &Connection, path: &CleanPath) -> Reply {
    let asked = Instant::now();
    loop {
        let (later, reply) = oneshot::channel();
        let ask = Ask {
            path: path.clone(),
            repaired: None,
            peer: connection.peer.ip(),
            local: connection.local.ip().to_canonical(),
            over_http: true,
        };
        let shelf = &connection.running.shelf;
        let at_once = shelf.borrow_mut().ask(ask, move |reply| drop(later.send(reply)));
        let reply = match at_once {
            Some(reply) => reply,
            None => {
                let lost = |_| Reply::Refused(Refusal::ReadFailed, "the worker that had the question is gone".into());
                let reply = reply.await.unwrap_or_else(lost);
                if let Reply::Content(answer) = &reply {
                    shelf.borrow_mut().remember(&answer.content);
                }
                reply
            }
        };
        if !matches!(reply, Reply::Refused(Refusal::Busy | Refusal::TooMany, _)) || asked.elapsed() > BUSY_TIMEOUT {
            return reply;
        }
        tokio::time::sleep(BUSY_PAUSE).await;
    }
}

fn file(connection: &Connection, head: &Head<'_>, path: CleanPath, answer: Answer, began: Instant) -> Answered {
    let meta = answer.content.meta();
    let meta = Meta { len: meta.len, etag: &meta.etag, mtime: meta.mtime };
    let plan = respond::file(head, path.as_bytes(), meta, SystemTime::now());
    // The answer that carries a file's last byte completes it: pieces of an ISO that is booted in place do not.
    let delivery = match &plan.payload {
        Payload::File(range) if range.end == meta.len => {
            let published = connection.running.published();
            let stage = stage_of(&published.load().snapshot, &path.display(), answer.origin);
            Some(Delivery { path, stage, reasons: answer.reasons, bytes: plan.payload.len(), began })
        }
        _ => None,
    };
    Answered { plan, content: Some(answer.content), delivery }
}

/// The file that answers for a directory, where one is configured.
fn index_file(connection: &Connection, directory: &CleanPath) -> Option<CleanPath> {
    let name = connection.running.plan.index_file.as_ref()?;
    clean(&[directory.as_bytes(), name.as_bytes()].join(&b'/')).ok()
}

/// The page of a directory's names, where listing is switched on for it (H-28).
async fn list(connection: &Connection, directory: CleanPath) -> Result<String, Refusal> {
    if !connection.running.plan.is_listed(&directory) {
        return Err(Refusal::NotFound);
    }
    let names = std::sync::Arc::clone(connection.running.shelf.borrow().names());
    let (done, page) = oneshot::channel();
    let job = move || {
        let listed = names.images.list(&directory);
        let _ = done.send(listed.map(|names| index::listing(directory.as_bytes(), &names)));
    };
    connection.workers().run(job).map_err(|_| Refusal::Busy)?;
    page.await.map_err(|_| Refusal::ReadFailed)?
}

/// The status of each refusal (H-30). GRUB takes only 404 for "not found".
fn refused(head: &Head<'_>, refusal: Refusal) -> Plan {
    match refusal {
        Refusal::NotFound | Refusal::Hidden | Refusal::Private => respond::not_found(head),
        Refusal::DotDot | Refusal::ControlCharacter => respond::bad_request(head, &refusal.to_string()),
        Refusal::OutsideRoot | Refusal::NotRegular | Refusal::Unreadable | Refusal::TooLarge => {
            respond::forbidden(head, &refusal.to_string())
        }
        Refusal::ReadFailed | Refusal::TemplateFailed => respond::failed(head, &refusal.to_string()),
        Refusal::TooMany | Refusal::Busy => respond::overloaded(head),
    }
}
