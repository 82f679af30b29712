//! What no client can bring about at will: answers of workers that come when their connection is
//! about something else.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use super::asking::{WorkerAnswer, WorkerQuestion};
use super::connection::ConnectionStage;
use super::*;
use crate::engine::datapath::Datapath;
use crate::engine::net;
use crate::engine::stream::ConnectionId;
use crate::images::{DiskWorkers, ImageStore, clean_path_name};
use crate::observe::events;
use crate::render::TemplateRenderer;
use crate::serve::shelf::{FileAnswer, FileOrigin, FileReply};
use crate::snapshot::{PublishedState, Snapshot};

/// A core that is turned by hand, whose template `slow` is not rendered before the gate opens.
struct Rig {
    running: RunningHttp,
    address: SocketAddr,
    gate: Sender<()>,
    _root: tempfile::TempDir,
}

impl Rig {
    fn new(datapath: Datapath) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("slow.j2"), "template").unwrap();
        std::fs::write(root.path().join("other"), "content of another file").unwrap();
        let images = ImageStore::open(root.path(), DiskWorkers::start().unwrap()).unwrap();
        let (gate, opened) = channel();
        let opened = Mutex::new(opened);
        let render = move || {
            opened.lock().unwrap().recv().unwrap();
            "content of slow".to_owned()
        };
        let names = Arc::new(FileSources {
            images,
            published: PublishedState::new(Snapshot::default()),
            renderer: TemplateRenderer::pretended(render),
            strip_prefixes: Vec::new(),
            ignore_case: false,
        });
        let listener = net::open_tcp_listener("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let address = listener.local_addr().unwrap();
        let (events, drain) = (events::open_event_queue().0, DrainOrder::default());
        let parts = CoreParts { datapath, events, drain, pulse: CorePulse::default() };
        let plan = HttpPlan::default();
        let (core, _) =
            HttpCore::new(parts, vec![listener], &plan, &names, &Arc::default()).unwrap();
        Self { running: core.start().unwrap(), address, gate, _root: root }
    }

    /// Turns until this is so.
    fn until(&mut self, mut is_so: impl FnMut(&mut RunningHttp) -> bool) {
        let began = Instant::now();
        while !is_so(&mut self.running) {
            assert!(began.elapsed() < Duration::from_secs(10), "it never came");
            self.running.turn(TurnWait::AtMost(Duration::from_millis(10))).unwrap();
        }
    }

    /// Asks for `slow` and comes back when a worker has the question.
    fn ask(&mut self) -> (TcpStream, ConnectionId) {
        let mut client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.write_all(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        self.until(|running| running.keeper.connections.ids().len() == 1);
        let id = self.running.keeper.connections.ids()[0];
        self.until(|running| is_asking(running, id));
        (client, id)
    }
}

#[test]
fn a_worker_that_breaks_off_costs_its_request_and_no_place() {
    for datapath in [Datapath::IoUring, Datapath::Epoll] {
        let mut rig = Rig::new(datapath);
        let (mut client, _) = rig.ask();
        drop(std::mem::replace(&mut rig.gate, channel().0)); // the template panics
        rig.until(|running| {
            running.keeper.connections.ids().iter().all(|id| !is_asking(running, *id))
        });
        rig.running.turn(TurnWait::AtMost(Duration::from_millis(10))).unwrap();
        let mut answer = [0; 4096];
        let len = client.read(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer[..len]);
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    }
}

fn is_asking(running: &mut RunningHttp, id: ConnectionId) -> bool {
    matches!(running.keeper.connections.get_mut(id).unwrap().stage, ConnectionStage::Asking(_))
}

#[test]
fn an_answer_to_another_question_of_the_same_connection_is_dropped() {
    for datapath in [Datapath::IoUring, Datapath::Epoll] {
        let mut rig = Rig::new(datapath);
        let (mut client, id) = rig.ask();
        let other = rig
            .running
            .keeper
            .sender
            .names
            .images
            .find_waiting(&clean_path_name(b"other").unwrap());
        let crate::images::CatalogAnswer::Content(other) = other else { panic!("{other:?}") };
        // The letters and the second tries of questions that this connection has asked before.
        let asked = rig.running.keeper.sender.questions.count();
        let numbers = 0..asked;
        for number in numbers.chain([asked + 1]) {
            let stale = WorkerQuestion { connection: id, number };
            let answer = FileAnswer {
                content: other.clone(),
                origin: FileOrigin::File,
                reasons: Vec::new(),
            };
            let questions = &mut rig.running.keeper.sender.questions;
            let letters = questions.letters();
            for answer in [
                WorkerAnswer::Found(FileReply::Content(answer)),
                WorkerAnswer::Listed(Ok("a page".into())),
            ] {
                letters.send(HttpLetter::Answered(stale, answer));
            }
            letters.send(HttpLetter::Resident(stale, None));
            questions.postpone(stale, Instant::now());
        }
        rig.until(|running| running.keeper.sender.questions.due().is_none());
        assert!(is_asking(&mut rig.running, id));
        assert_eq!(rig.running.keeper.sender.questions.count(), asked, "asked once more");
        rig.gate.send(()).unwrap();
        rig.until(|running| !is_asking(running, id));
        rig.running.turn(TurnWait::No).unwrap();
        let mut answer = [0; 4096];
        let len = client.read(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer[..len]);
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\ncontent of slow"),
            "{answer}"
        );
    }
}

#[test]
fn a_name_that_no_worker_finds_in_time_is_answered_503() {
    let mut rig = Rig::new(Datapath::Epoll);
    rig.running.keeper.sender.plan.timeouts.stall = Duration::from_millis(100);
    let (mut client, id) = rig.ask();
    rig.until(|running| !is_asking(running, id));
    rig.running.turn(TurnWait::No).unwrap();
    let mut answer = [0; 4096];
    let len = client.read(&mut answer).unwrap();
    assert!(answer[..len].starts_with(b"HTTP/1.1 503 "), "{}", answer[..len].escape_ascii());
    rig.gate.send(()).unwrap();
}
