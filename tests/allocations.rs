//! No memory is allocated for a packet: what a TFTP core allocates does not grow with the blocks
//! that it sends.
#![allow(unsafe_code, clippy::unwrap_used, clippy::print_stdout)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use ringboot::engine::datapath::Datapath;
use ringboot::engine::net::{self, SocketBinding};
use ringboot::images::{DiskWorkers, ImageStore};
use ringboot::observe::events;
use ringboot::render::TemplateRenderer;
use ringboot::serve::core::CoreParts;
use ringboot::serve::drain::DrainOrder;
use ringboot::serve::pulse::CorePulse;
use ringboot::serve::shelf::FileSources;
use ringboot::serve::tftp::{HttpBusy, TftpCore, TftpPlan, TftpSockets};
use ringboot::snapshot::{PublishedState, Snapshot};
use ringboot::tftp::options::OptionPolicy;
use ringboot::tftp::table::TftpPolicy;

const LIMIT: Duration = Duration::from_secs(20);
/// Transfers of one count.
const TRANSFERS: u64 = 50;
/// Both lengths are beyond what is read into memory whole: both files are mapped.
const FEW_BLOCKS: u64 = 130;
const MANY_BLOCKS: u64 = 500;
const BLOCK_BYTES: u64 = 512;
/// What one transfer may cost: its name, its session, its content's handle, the line of its end.
const ALLOCATIONS_PER_TRANSFER_MAX: u64 = 24;

/// Allocations of threads that have asked to be counted.
static COUNTED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

fn count() {
    // A thread that is being torn down is not counted.
    if IS_COUNTED.try_with(Cell::get).unwrap_or(false) {
        COUNTED.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is handed on to the system's allocator as it is; counting touches no memory
// that it manages.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is this function's own.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(old, layout, bytes) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn socket() -> (SocketAddr, std::os::fd::OwnedFd) {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let fd =
        net::open_udp_socket(&SocketBinding { address, interface: None, shared: false }).unwrap();
    (net::read_local_address(&fd).unwrap(), fd)
}

/// One whole transfer in windows of this many blocks.
fn fetch(server: SocketAddr, name: &str, window: u16) {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    let request = format!("\0\x01{name}\0octet\0windowsize\0{window}\0");
    client.send_to(request.as_bytes(), server).unwrap();
    let mut packet = [0; 600];
    let (len, tid) = client.recv_from(&mut packet).unwrap();
    assert_eq!(packet[..2], [0, 6], "{:?}", &packet[..len]);
    let mut block = 0u16;
    loop {
        client.send_to(&[[0, 4], block.to_be_bytes()].concat(), tid).unwrap();
        for _ in 0..window {
            let len = client.recv(&mut packet).unwrap();
            block += 1;
            assert_eq!(packet[..4], [[0, 3], block.to_be_bytes()].concat());
            if len < 516 {
                client.send_to(&[[0, 4], block.to_be_bytes()].concat(), tid).unwrap();
                return;
            }
        }
    }
}

/// Allocations of the core in so many transfers.
fn allocations_of(server: SocketAddr, name: &str, window: u16) -> u64 {
    let before = COUNTED.load(Ordering::Relaxed);
    (0..TRANSFERS).for_each(|_| fetch(server, name, window));
    COUNTED.load(Ordering::Relaxed) - before
}

#[test]
fn a_core_allocates_for_transfers_and_never_for_packets() {
    let root = tempfile::tempdir().unwrap();
    for (name, blocks) in [("few", FEW_BLOCKS), ("many", MANY_BLOCKS)] {
        let file = std::fs::File::create(root.path().join(name)).unwrap();
        file.set_len(blocks * BLOCK_BYTES).unwrap();
    }
    for datapath in Datapath::ALL {
        let names = Arc::new(FileSources {
            images: ImageStore::open(root.path(), DiskWorkers::start().unwrap()).unwrap(),
            published: PublishedState::new(Snapshot::default()),
            renderer: TemplateRenderer::default(),
            strip_prefixes: Vec::new(),
            ignore_case: false,
        });
        let sockets = TftpSockets { listening: vec![socket()], tids: vec![socket(), socket()] };
        let server = sockets.listening[0].0;
        let plan = TftpPlan {
            listen: vec![server],
            tids: 2,
            port_range: None,
            policy: TftpPolicy { tids: 2, ..TftpPolicy::default() },
            options_for: Arc::new(|_, _| OptionPolicy::default()),
            spin: Duration::from_micros(50),
            segments_max: 64,
            receive_buffers: 1024,
        };
        let (queue, printed) = events::open_event_queue();
        let reader = std::thread::spawn(move || printed.iter().count());
        let drain = DrainOrder::default();
        let parts = CoreParts {
            datapath,
            events: queue.clone(),
            drain: drain.clone(),
            pulse: CorePulse::default(),
        };
        let (core, bell) =
            TftpCore::new(parts, sockets, &plan, &names, &HttpBusy::default()).unwrap();
        let (ready, is_ready) = channel();
        let thread = std::thread::spawn(move || {
            IS_COUNTED.set(true);
            core.run(&mut || ready.send(()).unwrap())
        });
        is_ready.recv_timeout(LIMIT).unwrap();
        for window in [1, 8] {
            // What grows by and by (tables, queues) has grown.
            let _ = (allocations_of(server, "few", window), allocations_of(server, "many", window));
            let few = allocations_of(server, "few", window);
            let many = allocations_of(server, "many", window);
            println!("{datapath}, window {window}: {few} allocations, {many} for more blocks");
            let packets = TRANSFERS * (MANY_BLOCKS - FEW_BLOCKS);
            assert!(
                many <= few + TRANSFERS / 10,
                "{datapath}, window {window}: {few} allocations became {many} with {packets} more \
                 blocks"
            );
            let most = TRANSFERS * ALLOCATIONS_PER_TRANSFER_MAX;
            assert!(
                many <= most,
                "{datapath}, window {window}: {many} allocations for {TRANSFERS} transfers"
            );
            assert!(few > 0, "nothing was counted");
        }
        drain.order();
        bell.ring();
        thread.join().unwrap().unwrap();
        drop((queue, names));
        reader.join().unwrap();
    }
}
