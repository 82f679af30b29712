//! From a request to its answer: the pure room plans the answer, the shelf finds its content.

use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::asking::{AskedName, AskedRequest, HttpLetter, WorkerAnswer, WorkerQuestion};
use super::connection::{ConnectionStage, HttpConnection};
use super::journal::FileDelivery;
use super::recent::RecentNames;
use super::sending::{AnswerFile, AnswerForm, AnswerSender};
use crate::http::limits::BUSY_TIMEOUT;
use crate::http::media::find_media_type;
use crate::http::request::{BadHead, HttpMethod, HttpVersion, RequestHead};
use crate::http::respond::{self, RepresentationMeta, ResponsePayload, ResponsePlan};
use crate::http::{index, target};
use crate::images::{CleanPath, ContentMeta, JobAsker, NameRefusal, OwedAnswer, clean_path_name};
use crate::serve::shelf::{
    FileAnswer, FileOrigin, FileReply, FileRequest, FileResolver, FileSources,
};

/// Most bytes of a refused target that the log shows.
const TARGET_BYTES_SHOWN: usize = 200;

/// Whether the core has begun the answer, or the request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestAnswered {
    Now,
    /// The connection is [`ConnectionStage::Asking`].
    Later,
}

/// The parts of an answer that sends a file.
struct FoundFile {
    path: Rc<CleanPath>,
    media: &'static str,
    answer: FileAnswer,
    /// When the request was complete.
    began: Instant,
}

/// Answers the requests of one core.
#[derive(Debug)]
pub(super) struct RequestAnswerer {
    shelf: FileResolver,
    recent: RecentNames,
}

impl RequestAnswerer {
    pub(super) fn new(names: Arc<FileSources>) -> Self {
        Self { shelf: FileResolver::new(names), recent: RecentNames::default() }
    }

    /// Forgets the names of this turn: a request that arrives later must see every change that was
    /// made before it was sent.
    pub(super) fn end_turn(&mut self) {
        self.recent.forget();
    }

    /// Answers a request, or asks a worker for it. An error is an answer too.
    pub(super) fn answer_request(
        &mut self,
        sender: &mut AnswerSender,
        connection: &mut HttpConnection,
        request: &RequestHead<'_>,
    ) -> RequestAnswered {
        sender.counters.requests.add(1);
        let now = sender.time.now;
        if let Some(plan) = respond::forbid_by_head(request) {
            let what = if request.method == HttpMethod::Other {
                "only GET and HEAD are served"
            } else {
                "no Host header is right"
            };
            sender.journal.log_bad(
                connection.peer,
                || format!("{what}: {}", show_target(request)),
                now,
            );
            return send_plain(sender, connection, request, plan);
        }

        // The requests of one turn share a look-up.
        if let Some(named) = self.recent.find(request.target) {
            let answer = FileAnswer {
                content: named.content,
                origin: FileOrigin::File,
                reasons: Vec::new(),
            };
            let found = FoundFile { path: named.path, media: named.media, answer, began: now };
            return send_file(sender, connection, request, found);
        }

        let path = match target::decode_target_path(request.target) {
            Ok(path) => path,
            Err(bad) => {
                sender.journal.log_bad(
                    connection.peer,
                    || format!("{bad}: {}", show_target(request)),
                    now,
                );
                let plan = respond::answer_bad_request(request, &bad.to_string());
                return send_plain(sender, connection, request, plan);
            }
        };
        match clean_path_name(&path) {
            Ok(path) => {
                let asked = AskedRequest::new(AskedName::Path(path), now);
                self.ask_shelf(sender, connection, request, asked)
            }
            Err(refusal) => {
                sender.journal.log_refused(
                    connection.peer,
                    refusal,
                    || describe_refusal(request, refusal),
                    now,
                );
                send_plain(sender, connection, request, plan_refusal(request, refusal))
            }
        }
    }

    /// Answers a request with a worker's answer, or asks the workers again (None). False: the
    /// connection waits for the answer to another question.
    pub(super) fn continue_request(
        &mut self,
        sender: &mut AnswerSender,
        connection: &mut HttpConnection,
        question: WorkerQuestion,
        answer: Option<WorkerAnswer>,
    ) -> bool {
        match &connection.stage {
            ConnectionStage::Asking(asked) if asked.number == question.number => {}
            _ => return false,
        }

        // The request borrows from the input, so both leave the connection while the core answers.
        let stage = std::mem::replace(&mut connection.stage, ConnectionStage::Reading);
        let input = std::mem::take(&mut connection.input);
        let (asked, request) = match (stage, input.request()) {
            (ConnectionStage::Asking(asked), Some(request)) => (asked, request),
            (stage, _) => {
                connection.stage = stage;
                connection.input = input;
                return true;
            }
        };

        let answered = match answer {
            None => self.ask_shelf(sender, connection, &request, asked),
            Some(WorkerAnswer::Found(reply)) => {
                if let FileReply::Content(answer) = &reply {
                    self.shelf.remember(&answer.content);
                }
                self.take_reply(sender, connection, &request, asked, reply)
            }
            Some(WorkerAnswer::Listed(listed)) => {
                send_listing(sender, connection, &request, listed)
            }
        };
        connection.input = input;
        if answered == RequestAnswered::Now {
            connection.input.finish_request();
        }
        true
    }

    /// Asks the shelf, or has the directory listed. If every worker or mapping is in use, the core
    /// tries again for a while: clients are queued, not refused (H-14).
    fn ask_shelf(
        &mut self,
        sender: &mut AnswerSender,
        connection: &mut HttpConnection,
        request: &RequestHead<'_>,
        asked: AskedRequest,
    ) -> RequestAnswered {
        let path = match &asked.name {
            AskedName::Path(path) | AskedName::IndexFile { index: path, .. } => path,
            AskedName::Listing(directory) => {
                let directory = directory.clone();
                return list_directory(sender, connection, request, asked.began, directory);
            }
        };
        let question = sender.questions.number_next(connection.id);
        let ask = FileRequest {
            path: path.clone(),
            repaired: None,
            peer: connection.peer.ip(),
            local: sender.local_address(connection),
            over_http: true,
        };
        let letters = sender.questions.letters();
        let reply = self.shelf.ask(ask, move |reply| {
            letters.send(HttpLetter::Answered(question, WorkerAnswer::Found(reply)));
        });
        let Some(reply) = reply else {
            return wait_for_worker(sender, connection, asked, question);
        };

        // Only a look-up of this moment is shared: a worker may have looked before another request
        // of this turn was sent.
        if let (AskedName::Path(path), FileReply::Content(answer)) = (&asked.name, &reply)
            && answer.origin == FileOrigin::File
            && !target::names_directory(request.target)
        {
            self.recent.remember(request.target, path, &answer.content);
        }
        self.take_reply(sender, connection, request, asked, reply)
    }

    /// Answers a request with the shelf's reply. A directory leads to its index file or to a
    /// listing.
    fn take_reply(
        &mut self,
        sender: &mut AnswerSender,
        connection: &mut HttpConnection,
        request: &RequestHead<'_>,
        asked: AskedRequest,
        reply: FileReply,
    ) -> RequestAnswered {
        let now = sender.time.now;

        // While workers are busy the core asks again, until a 503 must leave before EDK2 gives up
        // (H-10).
        let is_busy =
            matches!(reply, FileReply::Refused(NameRefusal::Busy | NameRefusal::TooMany, _));
        if is_busy && now.duration_since(asked.began) <= BUSY_TIMEOUT {
            let question = sender.questions.number_next(connection.id);
            sender.questions.postpone(question, now);
            return wait_for_worker(sender, connection, asked, question);
        }

        let AskedRequest { name, began, .. } = asked;
        // `vmlinuz/` names no file: an installer that looks for a tree of that name must not find
        // one.
        let is_no_file = matches!((&name, &reply), (AskedName::Path(_), FileReply::Content(_)))
            && target::names_directory(request.target);
        let reply = if is_no_file {
            let shown = show_target(request);
            let why = format!("{shown}: no such file (a slash at the end names a directory)");
            FileReply::Refused(NameRefusal::NotFound, why)
        } else {
            reply
        };
        match (name, reply) {
            (
                AskedName::Path(path) | AskedName::IndexFile { index: path, .. },
                FileReply::Content(answer),
            ) => {
                let media = find_media_type(path.as_bytes());
                let found = FoundFile { path: Rc::new(path), media, answer, began };
                send_file(sender, connection, request, found)
            }
            (AskedName::Path(directory), FileReply::Directory) => {
                match find_index(sender.plan.index_file.as_deref(), &directory) {
                    Some(index) => {
                        let name = AskedName::IndexFile { directory, index };
                        let asked = AskedRequest::new(name, began);
                        self.ask_shelf(sender, connection, request, asked)
                    }
                    None => list_directory(sender, connection, request, began, directory),
                }
            }
            // A directory whose index file is missing or refused is listed as if none were
            // configured.
            (AskedName::IndexFile { directory, .. } | AskedName::Listing(directory), _) => {
                list_directory(sender, connection, request, began, directory)
            }
            (AskedName::Path(path), FileReply::Refused(refusal, why)) => {
                sender.journal.log_refused(
                    connection.peer,
                    refusal,
                    || (path.display().into_owned(), why),
                    now,
                );
                send_plain(sender, connection, request, plan_refusal(request, refusal))
            }
        }
    }
}

/// Answers 503 to a request that has waited too long for a worker.
pub(super) fn give_up_request(sender: &mut AnswerSender, connection: &mut HttpConnection) {
    connection.stage = ConnectionStage::Reading;
    let mut input = std::mem::take(&mut connection.input);
    if let Some(request) = input.request() {
        send_plain(sender, connection, &request, respond::answer_overloaded(&request));
        input.finish_request();
    }
    connection.input = input;
}

/// Answers a malformed request, or one that takes too long to arrive.
pub(super) fn refuse_input(
    sender: &mut AnswerSender,
    connection: &mut HttpConnection,
    why: BadHead,
) {
    connection.first_byte = None;
    sender.journal.log_bad(connection.peer, || why.to_string(), sender.time.now);
    let form = AnswerForm { version: HttpVersion::Http11, keeps_alive: false };
    sender.begin_answer(connection, form, respond::answer_bad_head(why), None);
}

fn wait_for_worker(
    sender: &AnswerSender,
    connection: &mut HttpConnection,
    asked: AskedRequest,
    question: WorkerQuestion,
) -> RequestAnswered {
    connection.clock.begin_window(sender.time.now);
    connection.stage = ConnectionStage::Asking(AskedRequest { number: question.number, ..asked });
    RequestAnswered::Later
}

fn send_file(
    sender: &mut AnswerSender,
    connection: &mut HttpConnection,
    request: &RequestHead<'_>,
    found: FoundFile,
) -> RequestAnswered {
    let FoundFile { path, media, answer: FileAnswer { content, origin, reasons }, began } = found;
    let ContentMeta { len, etag, mtime, last_modified } = content.meta();
    let meta = RepresentationMeta { len: *len, etag, mtime: *mtime, last_modified, media };
    let plan = respond::answer_with_file(request, meta, sender.time.today);

    // A HEAD, a 304 and a multipart body are no delivery: the log and the list of running transfers
    // leave them out.
    let delivery = match &plan.payload {
        ResponsePayload::File(range) => {
            let (bytes, completes) = (plan.payload.len(), range.end == *len);
            Some(FileDelivery { path, origin, reasons, bytes, began, completes })
        }
        _ => None,
    };

    let file = AnswerFile { content: &content, delivery };
    sender.begin_answer(connection, AnswerForm::for_request(request), plan, Some(file));
    RequestAnswered::Now
}

/// Sends an answer without a file.
fn send_plain(
    sender: &mut AnswerSender,
    connection: &mut HttpConnection,
    request: &RequestHead<'_>,
    plan: ResponsePlan<'_>,
) -> RequestAnswered {
    sender.begin_answer(connection, AnswerForm::for_request(request), plan, None);
    RequestAnswered::Now
}

/// The path of the file that answers for a directory, where one is configured.
fn find_index(index_file: Option<&str>, directory: &CleanPath) -> Option<CleanPath> {
    clean_path_name(&[directory.as_bytes(), index_file?.as_bytes()].join(&b'/')).ok()
}

/// Has a worker list a directory, if listing is switched on for it (H-28).
fn list_directory(
    sender: &mut AnswerSender,
    connection: &mut HttpConnection,
    request: &RequestHead<'_>,
    began: Instant,
    directory: CleanPath,
) -> RequestAnswered {
    if !sender.plan.is_listed(&directory) {
        return send_listing(sender, connection, request, Err(NameRefusal::NotFound));
    }
    let asked = AskedRequest::new(AskedName::Listing(directory.clone()), began);
    let question = sender.questions.number_next(connection.id);
    let (names, letters) = (Arc::clone(&sender.names), sender.questions.letters());
    let asker = JobAsker::new(connection.peer.ip(), directory.as_bytes());
    let owed = OwedAnswer::new(
        move |listed| {
            letters.send(HttpLetter::Answered(question, WorkerAnswer::Listed(listed)));
        },
        |panicked| Err(if panicked { NameRefusal::ReadFailed } else { NameRefusal::Busy }),
    );
    // If every worker is busy, dropping `owed` answers.
    let _ = sender.names.images.workers().submit_slow_job(asker, move || {
        let listed = names.images.list_directory(&directory);
        owed.deliver(
            listed
                .map(|listing| index::render_directory_page(directory.as_bytes(), listing.names())),
        );
    });
    wait_for_worker(sender, connection, asked, question)
}

fn send_listing(
    sender: &mut AnswerSender,
    connection: &mut HttpConnection,
    request: &RequestHead<'_>,
    listed: Result<String, NameRefusal>,
) -> RequestAnswered {
    let refusal = match listed {
        Ok(page) => {
            let plan = respond::answer_listing(request, page);
            return send_plain(sender, connection, request, plan);
        }
        Err(refusal) => refusal,
    };

    // The client gets a 404 as for a missing name (H-28); the log says that it asked for a
    // directory.
    sender.journal.log_refused(
        connection.peer,
        refusal,
        || match refusal {
            NameRefusal::NotFound => describe_refusal(request, "a directory that is not listed"),
            _ => describe_refusal(request, refusal),
        },
        sender.time.now,
    );
    send_plain(sender, connection, request, plan_refusal(request, refusal))
}

/// The target of a refused request, and why it is refused, for the log.
fn describe_refusal(request: &RequestHead<'_>, why: impl Display) -> (String, String) {
    let target = show_target(request);
    let why = format!("{target}: {why}");
    (target, why)
}

/// The target of a request, for the log.
fn show_target(request: &RequestHead<'_>) -> String {
    request.target[..request.target.len().min(TARGET_BYTES_SHOWN)].escape_ascii().to_string()
}

/// The answer to each refusal (H-30). GRUB treats only 404 as "not found".
fn plan_refusal(request: &RequestHead<'_>, refusal: NameRefusal) -> ResponsePlan<'static> {
    match refusal {
        NameRefusal::NotFound | NameRefusal::Hidden | NameRefusal::Private => {
            respond::answer_not_found(request)
        }
        NameRefusal::AboveRoot | NameRefusal::ControlCharacter => {
            respond::answer_bad_request(request, &refusal.to_string())
        }
        NameRefusal::OutsideRoot
        | NameRefusal::NotRegular
        | NameRefusal::Unreadable
        | NameRefusal::TooLarge => respond::answer_forbidden(request, &refusal.to_string()),
        NameRefusal::ReadFailed | NameRefusal::TemplateFailed => {
            respond::answer_failed(request, &refusal.to_string())
        }
        NameRefusal::TooMany | NameRefusal::Busy => respond::answer_overloaded(request),
    }
}
