//! From a request to an answer: the pure room plans it, the shelf finds what it is made of.

use std::rc::Rc;
use std::time::Instant;

use super::connection::{Connection, Stage};
use super::journal::Delivery;
use super::{Letter, Question, Running};
use crate::http::limits::BUSY_TIMEOUT;
use crate::http::media::find_media_type;
use crate::http::request::{HttpMethod, RequestHead};
use crate::http::respond::{self, RepresentationMeta, ResponsePayload, ResponsePlan};
use crate::http::{index, target};
use crate::images::{CleanPath, ContentMeta, JobAsker, NameRefusal, OwedAnswer, clean_path_name};
use crate::serve::shelf::{Answer, Ask, Origin, Reply};

/// Bytes of a refused target that the log shows.
const TARGET_BYTES_SHOWN: usize = 200;

/// A request that cannot be answered at once.
#[derive(Debug)]
pub(super) struct Asking {
    subject: Subject,
    /// When the request was complete.
    began: Instant,
    /// Of the question to which an answer is awaited; every other answer is another request's.
    number: u64,
}

impl Asking {
    fn new(subject: Subject, began: Instant) -> Self {
        Self { subject, began, number: 0 }
    }
}

#[derive(Debug)]
enum Subject {
    /// What there is under this name.
    Name(CleanPath),
    /// Whether a directory has the file that answers for it.
    Index { directory: CleanPath, index: CleanPath },
    /// What a directory holds.
    List(CleanPath),
}

/// Whether a request has been answered, or waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    Yes,
    /// The connection is [`Stage::Asking`].
    Later,
}

impl Running {
    /// Answers a request, or has a worker asked. What goes wrong is an answer too.
    pub(super) fn answer(
        &mut self,
        connection: &mut Connection,
        request: &RequestHead<'_>,
    ) -> Answered {
        self.counters.requests.add(1);
        if let Some(plan) = respond::forbid_by_head(request) {
            let what = if request.method == HttpMethod::Other {
                "only GET and HEAD are served"
            } else {
                "no Host header is right"
            };
            self.say_bad(connection.peer, || format!("{what}: {}", shown(request)));
            return self.refuse(connection, request, plan);
        }
        if let Some(named) = self.recent.find(request.target) {
            let answer =
                Answer { content: named.content, origin: Origin::File, reasons: Vec::new() };
            return self.file(connection, request, named.path, named.media, answer, self.now);
        }
        let path = match target::decode_target_path(request.target) {
            Ok(path) => path,
            Err(bad) => {
                self.say_bad(connection.peer, || format!("{bad}: {}", shown(request)));
                return self.refuse(
                    connection,
                    request,
                    respond::answer_bad_request(request, &bad.to_string()),
                );
            }
        };
        match clean_path_name(&path) {
            Ok(path) => self.ask(connection, request, Asking::new(Subject::Name(path), self.now)),
            Err(refusal) => {
                let told = || (shown(request), format!("{}: {refusal}", shown(request)));
                self.say_refused(connection.peer, refusal, told);
                self.refuse(connection, request, refused(request, refusal))
            }
        }
    }

    /// A worker has answered, or it is time to ask once more.
    pub(super) fn go_on_asking(&mut self, question: Question, letter: Option<Letter>) {
        let id = question.of;
        let Some(mut connection) = self.connections.take(id) else { return };
        if !matches!(&connection.stage, Stage::Asking(asking) if asking.number == question.number) {
            self.connections.put(connection);
            return;
        }
        let stage = std::mem::replace(&mut connection.stage, Stage::Reading);
        let input = std::mem::take(&mut connection.input);
        match (stage, input.request()) {
            (Stage::Asking(asking), Some(request)) => {
                let answered = match letter {
                    None => self.ask(&mut connection, &request, asking),
                    Some(Letter::Named(_, reply)) => {
                        if let Reply::Content(answer) = &reply {
                            self.shelf.remember(&answer.content);
                        }
                        self.replied(&mut connection, &request, asking, reply)
                    }
                    Some(Letter::Listed(_, listed)) => {
                        self.listed(&mut connection, &request, listed)
                    }
                    Some(Letter::Resident(..) | Letter::Asked(_)) => Answered::Later,
                };
                connection.input = input;
                if answered == Answered::Yes {
                    connection.input.answered();
                }
            }
            (stage, _) => {
                connection.stage = stage;
                connection.input = input;
            }
        }
        self.connections.put(connection);
        self.touch(id);
    }

    /// No worker has answered for too long. Says that the connection goes on: with a refusal.
    pub(super) fn give_up_asking(&mut self, connection: &mut Connection) -> bool {
        connection.stage = Stage::Reading;
        let mut input = std::mem::take(&mut connection.input);
        if let Some(request) = input.request() {
            self.refuse(connection, &request, respond::answer_overloaded(&request));
            input.answered();
        }
        connection.input = input;
        true
    }

    /// Asks the shelf, or the directory. What finds every worker or mapping in use is tried again
    /// for a while: clients are queued, not refused (H-14).
    fn ask(
        &mut self,
        connection: &mut Connection,
        request: &RequestHead<'_>,
        asking: Asking,
    ) -> Answered {
        let path = match &asking.subject {
            Subject::Name(path) | Subject::Index { index: path, .. } => path,
            Subject::List(directory) => {
                let directory = directory.clone();
                return self.list(connection, request, asking.began, directory);
            }
        };
        let question = self.question(connection.id);
        let ask = Ask {
            path: path.clone(),
            repaired: None,
            peer: connection.peer.ip(),
            local: self.local(connection),
            over_http: true,
        };
        let letters = self.letters.clone();
        match self.shelf.ask(ask, move |reply| letters.send(Letter::Named(question, reply))) {
            Some(reply) => {
                // What was looked up right now; a worker may have looked before another request of
                // this turn was sent.
                if let (Subject::Name(path), Reply::Content(answer)) = (&asking.subject, &reply)
                    && answer.origin == Origin::File
                {
                    self.recent.remember(request.target, path, &answer.content);
                }
                self.replied(connection, request, asking, reply)
            }
            None => self.wait(connection, asking, question),
        }
    }

    fn wait(
        &mut self,
        connection: &mut Connection,
        asking: Asking,
        question: Question,
    ) -> Answered {
        connection.clock.begin_window(self.now);
        connection.stage = Stage::Asking(Asking { number: question.number, ..asking });
        Answered::Later
    }

    fn replied(
        &mut self,
        connection: &mut Connection,
        request: &RequestHead<'_>,
        asking: Asking,
        reply: Reply,
    ) -> Answered {
        let is_busy = matches!(reply, Reply::Refused(NameRefusal::Busy | NameRefusal::TooMany, _));
        if is_busy && self.now.duration_since(asking.began) <= BUSY_TIMEOUT {
            let question = self.question(connection.id);
            self.postpone(question);
            return self.wait(connection, asking, question);
        }
        let Asking { subject, began, .. } = asking;
        match (subject, reply) {
            (Subject::Name(path) | Subject::Index { index: path, .. }, Reply::Content(answer)) => {
                let media = find_media_type(path.as_bytes());
                self.file(connection, request, Rc::new(path), media, answer, began)
            }
            (Subject::Name(directory), Reply::Directory) => match self.index_file(&directory) {
                Some(index) => self.ask(
                    connection,
                    request,
                    Asking::new(Subject::Index { directory, index }, began),
                ),
                None => self.list(connection, request, began, directory),
            },
            (Subject::Index { directory, .. } | Subject::List(directory), _) => {
                self.list(connection, request, began, directory)
            }
            (Subject::Name(path), Reply::Refused(refusal, why)) => {
                self.say_refused(connection.peer, refusal, || (path.display().into_owned(), why));
                self.refuse(connection, request, refused(request, refusal))
            }
        }
    }

    fn file(
        &mut self,
        connection: &mut Connection,
        request: &RequestHead<'_>,
        path: Rc<CleanPath>,
        media: &'static str,
        answer: Answer,
        began: Instant,
    ) -> Answered {
        let Answer { content, origin, reasons } = answer;
        let ContentMeta { len, etag, mtime, last_modified } = content.meta();
        let plan = respond::answer_with_file(
            request,
            RepresentationMeta { len: *len, etag, mtime: *mtime, last_modified, media },
            self.today,
        );
        let delivery = match &plan.payload {
            ResponsePayload::File(range) => {
                let completes = range.end == *len;
                Some(Delivery {
                    path,
                    origin,
                    reasons,
                    bytes: plan.payload.len(),
                    began,
                    completes,
                })
            }
            _ => None,
        };
        self.begin(connection, request, plan, Some(&content), delivery);
        Answered::Yes
    }

    /// An answer that has nothing to do with a file.
    fn refuse(
        &mut self,
        connection: &mut Connection,
        request: &RequestHead<'_>,
        plan: ResponsePlan<'_>,
    ) -> Answered {
        self.begin(connection, request, plan, None, None);
        Answered::Yes
    }

    /// The file that answers for a directory, where one is configured.
    fn index_file(&self, directory: &CleanPath) -> Option<CleanPath> {
        let name = self.plan.index_file.as_ref()?;
        clean_path_name(&[directory.as_bytes(), name.as_bytes()].join(&b'/')).ok()
    }

    /// Has a worker make the page of a directory's names, where listing is switched on for it
    /// (H-28).
    fn list(
        &mut self,
        connection: &mut Connection,
        request: &RequestHead<'_>,
        began: Instant,
        directory: CleanPath,
    ) -> Answered {
        if !self.plan.is_listed(&directory) {
            return self.listed(connection, request, Err(NameRefusal::NotFound));
        }
        let asking = Asking::new(Subject::List(directory.clone()), began);
        let question = self.question(connection.id);
        let (names, letters) = (self.shelf.names().clone(), self.letters.clone());
        let asker = JobAsker::new(connection.peer.ip(), directory.as_bytes());
        let owed = OwedAnswer::new(
            move |listed| letters.send(Letter::Listed(question, listed)),
            |panicked| Err(if panicked { NameRefusal::ReadFailed } else { NameRefusal::Busy }),
        );
        let job = move || {
            let listed = names.images.list(&directory);
            owed.pay(listed.map(|listing| {
                index::render_directory_page(directory.as_bytes(), listing.names())
            }));
        };
        // Refused: what is owed has been paid by the drop.
        let _ = self.shelf.names().images.workers().make(asker, job);
        self.wait(connection, asking, question)
    }

    fn listed(
        &mut self,
        connection: &mut Connection,
        request: &RequestHead<'_>,
        listed: Result<String, NameRefusal>,
    ) -> Answered {
        let refusal = match listed {
            Ok(page) => {
                return self.refuse(connection, request, respond::answer_listing(request, page));
            }
            Err(refusal) => refusal,
        };
        let told =
            || (shown(request), format!("{}: a directory that is not listed", shown(request)));
        self.say_refused(connection.peer, refusal, told);
        self.refuse(connection, request, refused(request, refusal))
    }
}

/// What was asked for, for the log.
fn shown(request: &RequestHead<'_>) -> String {
    request.target[..request.target.len().min(TARGET_BYTES_SHOWN)].escape_ascii().to_string()
}

/// The status of each refusal (H-30). GRUB takes only 404 for "not found".
fn refused(request: &RequestHead<'_>, refusal: NameRefusal) -> ResponsePlan<'static> {
    match refusal {
        NameRefusal::NotFound | NameRefusal::Hidden | NameRefusal::Private => {
            respond::answer_not_found(request)
        }
        NameRefusal::DotDot | NameRefusal::ControlCharacter => {
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
