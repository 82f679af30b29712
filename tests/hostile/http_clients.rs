//! HTTP clients that stall, reset, hoard and crowd, from addresses of their own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::common::inside;
use super::common::net::{Client, Net, SERVER};
use super::{DATAPATHS, Site, alone, server};

/// A namespace that owns 192.168.4.128 to .255 but the server's address.
struct Crowd(Client);

impl Crowd {
    fn new(net: &Net) -> Self {
        let client = net.client("52:54:00:c1:08:01");
        client.ip(&["addr", "add", "192.168.4.254/24", "dev", "eth0"]);
        for network in ["192.168.4.160/27", "192.168.4.192/26"] {
            client.ip(&["route", "add", "local", network, "dev", "lo"]);
        }
        Self(client)
    }

    /// Runs this inside.
    fn run<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> R {
        inside::run(self.0.name(), work)
    }
}

/// The address of one of the crowd, 96 of them.
fn member(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 4, 160 + u8::try_from(number % 94).unwrap())
}

/// A connection from this address, whose kernel takes little of what is not read.
fn connect(from: Ipv4Addr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    let server: Ipv4Addr = SERVER.parse().unwrap();
    socket.connect(&SocketAddr::from((server, 80)).into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Asks for a file and reads so many bytes of the answer.
fn begin(from: Ipv4Addr, path: &str, read: usize) -> TcpStream {
    let mut stream = connect(from);
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
    stream.read_exact(&mut vec![0; read]).unwrap();
    stream
}

fn reset(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Processor time that the server has used, memory that it has resident, in MiB, and its open
/// descriptors.
struct Usage {
    cpu: Duration,
    resident: usize,
    descriptors: usize,
}

fn usage(site: &Site) -> Usage {
    let proc = |name: &str| format!("/proc/{}/{name}", site.server.pid());
    let stat = std::fs::read_to_string(proc("stat")).unwrap();
    let fields: Vec<u64> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    // Clock ticks of 10 ms; pages of 4 KiB.
    Usage {
        cpu: Duration::from_millis(10 * (fields[11] + fields[12])),
        resident: fields[21] as usize / 256,
        descriptors: std::fs::read_dir(proc("fd")).unwrap().count(),
    }
}

/// Waits until this is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn clients_that_stop_just_before_the_end_cost_next_to_nothing() {
    let _alone = alone();
    for datapath in DATAPATHS {
        let site = Site::new("hostile-tails", datapath, "");
        std::fs::write(server::root(&site.scratch).join("tail"), vec![7; 100_000]).unwrap();
        let crowd = Crowd::new(&site.net);
        let honest = site.honest.run(Duration::from_secs(2));
        let before = usage(&site);
        let stalled: Vec<TcpStream> = crowd
            .run(|| (0..640).map(|number| begin(member(number / 32), "/tail", 20_000)).collect());
        // The pauses between two looks have grown by then.
        std::thread::sleep(Duration::from_secs(2));
        let (began, idle) = (Instant::now(), usage(&site));
        std::thread::sleep(Duration::from_secs(2));
        let (time, now) = (began.elapsed(), usage(&site));
        let share = (now.cpu - idle.cpu).as_secs_f64() / time.as_secs_f64();
        let grown = now.resident.saturating_sub(before.resident);
        println!("{datapath}: {share:.3} of a processor, {grown} MiB more");
        assert!(share < 0.2, "{share} of a processor for clients that do nothing");
        assert!(grown < 40, "{grown} MiB for clients that do nothing");
        site.honest.run(Duration::from_secs(2)).assert_no_worse(&honest, 10);
        // Those that reset are gone at once, the others stay.
        stalled[..320].iter().for_each(reset);
        let stayed = stalled.into_iter().skip(320).collect::<Vec<_>>();
        until("connections that were reset are held", || {
            usage(&site).descriptors <= now.descriptors - 310
        });
        assert!(usage(&site).descriptors >= before.descriptors + 320);
        stayed.iter().for_each(reset);
        drop(stayed);
        until("connections that were reset are held", || {
            usage(&site).descriptors <= before.descriptors + 20
        });
        site.server.stop();
    }
}

/// Whole answers of connections that this address opens at once, each with one request and the end
/// of the connection.
fn answers(from: Ipv4Addr, count: usize) -> usize {
    let mut streams: Vec<TcpStream> = (0..count).map(|_| connect(from)).collect();
    for stream in &mut streams {
        stream
            .write_all(b"GET /honest/menu HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            .unwrap();
    }
    let is_whole = |mut stream: TcpStream| {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).is_ok()
            && answer.starts_with(b"HTTP/1.1 200")
            && answer.len() > 4096
    };
    streams.into_iter().map(is_whole).filter(|is_whole| *is_whole).count()
}

#[test]
fn one_address_does_not_use_up_the_queue_of_all() {
    let _alone = alone();
    for datapath in DATAPATHS {
        let site = Site::new("hostile-queue", datapath, "");
        std::fs::File::create(server::root(&site.scratch).join("image"))
            .unwrap()
            .set_len(64 << 20)
            .unwrap();
        let crowd = Crowd::new(&site.net);
        let slow: Vec<TcpStream> =
            crowd.run(|| (0..32).map(|_| begin(member(0), "/image", 1000)).collect());
        let waiting: Vec<Option<TcpStream>> = crowd.run(|| {
            let connection = |number: usize| {
                let mut stream = connect(member(0));
                stream.write_all(b"GET /image HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
                // Some are closed at once.
                number.is_multiple_of(2).then_some(stream)
            };
            (0..1100).map(connection).collect()
        });
        assert_eq!(crowd.run(|| answers(member(1), 40)), 40, "{datapath}: the queue is for all");
        drop(waiting);
        until("connections that have gone wait for room", || usage(&site).descriptors < 500);
        drop(slow);
        assert_eq!(
            crowd.run(|| answers(member(0), 40)),
            40,
            "{datapath}: and the address itself is served again"
        );
        site.server.stop();
    }
}

/// What a crowd does with its connections so that none ever looks idle for long.
#[derive(Clone, Copy, Debug)]
enum Crowding {
    /// A byte of an endless header now and then.
    SlowHeads,
    /// One small request after the other.
    Requests,
}

#[test]
fn slow_heads_that_take_all_connections_keep_nobody_out() {
    crowd_out(Crowding::SlowHeads);
}

#[test]
fn small_requests_on_all_connections_keep_nobody_out() {
    crowd_out(Crowding::Requests);
}

fn crowd_out(crowding: Crowding) {
    let _alone = alone();
    for datapath in DATAPATHS {
        let site = Site::new("hostile-full", datapath, "[http]\nconnections = 300");
        let crowd = Crowd::new(&site.net);
        let honest = site.honest.run(Duration::from_secs(3));
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let (full, is_full) = std::sync::mpsc::channel();
        let attack = inside::start(crowd.0.name(), move || {
            let (first, next, sources): (&[u8], &[u8], _) = match crowding {
                Crowding::SlowHeads => (b"GET / HTTP/1.1\r\nX: ", b"x", 94),
                Crowding::Requests => (b"", b"GET /none HTTP/1.1\r\nHost: h\r\n\r\n", 16),
            };
            let head = |number: usize| {
                let mut stream = connect(member(number % sources));
                stream.set_nonblocking(true).unwrap();
                let _ = stream.write_all(first);
                stream
            };
            let mut streams: Vec<TcpStream> = (0..376).map(head).collect();
            full.send(()).unwrap();
            while stopped.recv_timeout(Duration::from_millis(300))
                == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                for (number, stream) in streams.iter_mut().enumerate() {
                    let is_over = matches!(stream.read(&mut [0; 4096]), Ok(0));
                    if is_over || stream.write_all(next).is_err() {
                        *stream = head(number);
                    }
                }
            }
        });
        is_full.recv().unwrap();
        std::thread::sleep(Duration::from_millis(1100));
        let during = site.honest.run_no_worse(Duration::from_secs(3), &honest, 40);
        println!("{datapath}:\n{}\n{}", honest.report, during.report);
        site.server.log_line("connections of a core are taken", Duration::from_secs(5));
        assert_eq!(site.server.log().matches("connections of a core are taken").count(), 1);
        drop(stop);
        attack.join().unwrap();
        site.server.stop();
    }
}

/// What one machine of a storm met.
struct Loaded {
    bytes: u64,
    longest_silence: Duration,
}

/// Loads a file to its end.
fn load(from: Ipv4Addr, path: &str) -> Loaded {
    let mut stream = TcpStream::connect_timeout(
        &SocketAddr::from((SERVER.parse::<Ipv4Addr>().unwrap(), 80)),
        LIMIT,
    );
    if let Ok(stream) = &mut stream {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: h\r\nX-Machine: {from}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
    }
    let mut stream = stream.unwrap();
    let mut loaded = Loaded { bytes: 0, longest_silence: Duration::ZERO };
    let (mut piece, mut moved) = (vec![0; 256 * 1024], Instant::now());
    loop {
        let len = stream
            .read(&mut piece)
            .unwrap_or_else(|error| panic!("{error} after {} bytes", loaded.bytes));
        loaded.longest_silence = loaded.longest_silence.max(moved.elapsed());
        if len == 0 {
            return loaded;
        }
        (moved, loaded.bytes) = (Instant::now(), loaded.bytes + len as u64);
    }
}

/// No machine of a storm waits longer than this for anything.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_storm_of_more_images_than_fit_into_memory_lets_loaders_pass_and_nobody_falls_silent() {
    let wanted =
        std::env::var("RINGBOOT_STORM_MACHINES").ok().map(|number| number.parse().unwrap());
    let (machines, image, memory): (usize, u64, u64) =
        wanted.map_or((80, 24 << 20, 64 << 20), |number| (number, 40 << 20, 256 << 20));
    let _alone = alone();
    for datapath in DATAPATHS {
        let settings = format!("[http]\nper-source = 0\n[tuning]\nimage-memory = {memory}\n");
        let site = Site::new("hostile-storm", datapath, &settings);
        for number in 0..machines {
            let path = server::root(&site.scratch).join(format!("image-{number}"));
            std::fs::File::create(path).unwrap().set_len(image).unwrap();
        }
        let crowd = Crowd::new(&site.net);
        let began = Instant::now();
        let machines: Vec<_> = (0..machines)
            .map(|number| {
                inside::start(crowd.0.name(), move || {
                    load(member(number), &format!("/image-{number}"))
                })
            })
            .collect();
        let during = site.honest.run(Duration::from_secs(3));
        let loaded: Vec<Loaded> =
            machines.into_iter().map(|machine| machine.join().unwrap()).collect();
        let silence = loaded.iter().map(|loaded| loaded.longest_silence).max().unwrap();
        println!(
            "{datapath}: all in {:?}, longest silence {silence:?}\n{}",
            began.elapsed(),
            during.report
        );
        assert!(loaded.iter().all(|loaded| loaded.bytes > image), "somebody has less than all");
        assert!(silence < Duration::from_secs(4), "{silence:?} of silence");
        assert_eq!(during.failed, 0, "{}", during.report);
        for (step, time) in &during.p99 {
            assert!(
                *step == "whole boot" || *time < Duration::from_secs(1),
                "{step}: {time:?}\n{}",
                during.report
            );
        }
        site.server.stop();
    }
}

#[test]
fn where_no_descriptor_is_free_clients_are_told_and_nobody_hangs() {
    let _alone = alone();
    // An accept that stands in a ring keeps the limit of its time; tests/stream_descriptors.rs
    // shows the same there.
    let site = Site::new("hostile-emfile", "epoll", "");
    let crowd = Crowd::new(&site.net);
    let limit = |files: usize| {
        let pid = site.server.pid().to_string();
        let mut set = std::process::Command::new("prlimit");
        set.args(["--pid", &pid, &format!("--nofile={files}:")]);
        assert!(set.status().unwrap().success());
    };
    let held: Vec<TcpStream> =
        crowd.run(|| (0..20).map(|_| begin(member(2), "/honest/menu", 4000)).collect());
    // The descriptors above are all taken, and a few below are free.
    limit(usage(&site).descriptors + 4);
    let ask = || {
        let mut streams: Vec<TcpStream> = (0..40).map(|number| connect(member(number))).collect();
        for stream in &mut streams {
            let _ = stream.write_all(
                b"GET /honest/menu HTTP/1.1\r\nUser-Agent: iPXE/1.21\r\nHost: h\r\nConnection: \
                  close\r\n\r\n",
            );
        }
        let status = |mut stream: TcpStream| {
            let mut answer = Vec::new();
            // A reset is an answer as well; silence is not.
            match stream.read_to_end(&mut answer) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("a client hangs")
                }
                _ => String::from_utf8_lossy(&answer).split(' ').nth(1).map(str::to_owned),
            }
        };
        streams.into_iter().map(status).collect::<Vec<_>>()
    };
    let told = crowd.run(ask);
    assert!(told.iter().flatten().any(|status| status == "503"), "{told:?}");
    site.server.log_line("no descriptor is free", Duration::from_secs(5));
    drop(held);
    limit(4096);
    let mut whole = 0;
    until("nobody is served again", || {
        whole += crowd.run(|| answers(member(3), 1));
        whole > 0
    });
    site.server.stop();
}
