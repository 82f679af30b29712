//! A TFTP core over real sockets: what a client cannot bring about at will.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::net::UdpSocket;
use std::sync::RwLock;
use std::sync::mpsc::channel;

use super::*;
use crate::engine::datapath::Datapath;
use crate::engine::net::{self, SocketBinding};
use crate::images::{DiskWorkers, ImageStore, PIECE_BYTES, PieceUrgency};
use crate::observe::events;
use crate::render::TemplateRenderer;
use crate::snapshot::{PublishedState, Snapshot};
use crate::tftp::options::OptionPolicy;
use crate::tftp::table::TftpPolicy;

const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for a block that should not come: blocks take well under a millisecond here.
const SILENCE: Duration = Duration::from_millis(150);
const BLOCK_BYTES: usize = 65_464;

fn socket() -> (SocketAddr, OwnedFd) {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let fd =
        net::open_udp_socket(&SocketBinding { address, interface: None, shared: false }).unwrap();
    (net::read_local_address(&fd).unwrap(), fd)
}

/// A core with one listening and one transfer socket on loopback.
fn core(
    datapath: Datapath,
    root: &std::path::Path,
    workers: DiskWorkers,
    drain: &DrainOrder,
) -> (TftpCore, SocketAddr, MailboxBell) {
    let names = Arc::new(FileSources {
        images: ImageStore::open(root, workers).unwrap(),
        published: PublishedState::new(Snapshot::default()),
        renderer: TemplateRenderer::default(),
        strip_prefixes: Vec::new(),
        ignore_case: false,
    });
    let sockets = TftpSockets { listening: vec![socket()], tids: vec![socket()] };
    let server = sockets.listening[0].0;
    let plan = TftpPlan {
        listen: vec![server],
        tids: 1,
        port_range: None,
        policy: TftpPolicy { mtu: u16::MAX, tids: 1, ..TftpPolicy::default() },
        options_for: Arc::new(|_, _| OptionPolicy::default()),
        spin: Duration::ZERO,
        segments_max: 64,
        receive_buffers: 1024,
    };
    let (events, drain) = (events::open_event_queue().0, drain.clone());
    let parts = CoreParts { datapath, events, drain, pulse: CorePulse::default() };
    let (core, bell) = TftpCore::new(parts, sockets, &plan, &names, &HttpBusy::default()).unwrap();
    (core, server, bell)
}

fn request(client: &UdpSocket, server: SocketAddr) -> SocketAddr {
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(b"\0\x01image\0octet\0blksize\x0065464\0", server).unwrap();
    let mut bytes = [0; 1500];
    let (len, tid) = client.recv_from(&mut bytes).unwrap();
    assert_eq!(&bytes[..len], b"\0\x06blksize\x0065464\0");
    tid
}

#[test]
fn a_window_leaves_in_sends_of_so_many_blocks_as_the_plan_allows() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("image"), [7; 8 * 512]).unwrap();
    let drain = DrainOrder::default();
    let (mut core, server, bell) =
        core(Datapath::IoUring, directory.path(), DiskWorkers::start().unwrap(), &drain);
    core.plan.segments_max = 4;
    let (ready, is_ready) = channel();
    let thread = std::thread::spawn(move || core.run(&mut || ready.send(()).unwrap()));
    is_ready.recv_timeout(PATIENCE).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    // What left in one send arrives as one.
    net::join_datagrams(&client).unwrap();
    client.send_to(b"\0\x01image\0octet\0windowsize\x008\0", server).unwrap();
    let mut bytes = vec![0; BLOCK_BYTES];
    let (_, tid) = client.recv_from(&mut bytes).unwrap();
    client.send_to(b"\0\x04\0\0", tid).unwrap();
    let arrived = [client.recv(&mut bytes).unwrap(), client.recv(&mut bytes).unwrap()];
    assert_eq!(arrived, [4 * (512 + 4); 2]);
    drain.order();
    bell.ring();
    client.send_to(b"\0\x05\0\0\0", tid).unwrap();
    thread.join().unwrap().unwrap();
}

#[test]
fn a_route_that_takes_no_segmented_sends_concerns_its_client_alone() {
    for datapath in Datapath::ALL {
        let directory = tempfile::tempdir().unwrap();
        let (core, server, _) =
            core(datapath, directory.path(), DiskWorkers::start().unwrap(), &DrainOrder::default());
        let mut running = RunningTftp::start(core).unwrap();
        let client = SocketAddr::from(([127, 0, 0, 2], 4000));
        let local = LocalAddress { address: server.ip(), interface: 1 };
        running.transfers.table.handle_listen(0, client, local, false, b"\0\x01image\0octet\0");
        let Some(TableAction::Open { id, .. }) = running.transfers.table.poll(0) else {
            panic!("a request is opened")
        };
        running.failed.push((id, UdpSendError::NoSegments));
        running.handle_send_failures();
        assert_eq!(*running.sender.unsegmented(), HashSet::from([client.ip()]));
    }
}

#[test]
fn a_transfer_that_finds_every_worker_busy_goes_on_when_one_is_free() {
    for datapath in Datapath::ALL {
        let directory = tempfile::tempdir().unwrap();
        std::fs::File::create(directory.path().join("image"))
            .unwrap()
            .set_len(2 * PIECE_BYTES + 100_000)
            .unwrap();
        let workers = DiskWorkers::start().unwrap();
        let drain = DrainOrder::default();
        let (core, server, bell) = core(datapath, directory.path(), workers.clone(), &drain);
        let (ready, is_ready) = channel();
        let thread = std::thread::spawn(move || core.run(&mut || ready.send(()).unwrap()));
        is_ready.recv_timeout(PATIENCE).unwrap();

        // The core knows the file from a first request, so that the second needs no worker to
        // open it. With the first block, its piece and the next one are asked for.
        let first = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tid = request(&first, server);
        let mut bytes = vec![0; BLOCK_BYTES + 4];
        first.send_to(b"\0\x04\0\0", tid).unwrap();
        first.recv_from(&mut bytes).unwrap();
        first.send_to(b"\0\x05\0\x08\0", tid).unwrap();
        let gate = Arc::new(RwLock::new(()));
        let shut = gate.write().unwrap();
        let wait_at = |gate: &Arc<RwLock<()>>| {
            let gate = Arc::clone(gate);
            workers.submit_read(PieceUrgency::Soon, move || drop(gate.read()))
        };
        while wait_at(&gate).is_ok() {}

        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tid = request(&client, server);
        let resident = u16::try_from(2 * PIECE_BYTES / BLOCK_BYTES as u64).unwrap();
        for block in 0..resident {
            client.send_to(&[[0, 4], block.to_be_bytes()].concat(), tid).unwrap();
            client.recv_from(&mut bytes).unwrap();
            assert_eq!(bytes[2..4], (block + 1).to_be_bytes());
        }
        client.send_to(&[[0, 4], resident.to_be_bytes()].concat(), tid).unwrap();
        client.set_read_timeout(Some(SILENCE)).unwrap();
        assert!(client.recv_from(&mut bytes).is_err(), "the next block is not resident");
        drop(shut);
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.recv_from(&mut bytes).unwrap();
        assert_eq!(bytes[..4], [[0, 3], (resident + 1).to_be_bytes()].concat());

        drain.order();
        bell.ring();
        client.send_to(b"\0\x05\0\0\0", tid).unwrap();
        thread.join().unwrap().unwrap();
    }
}
