//! Images that are not in memory, or larger than it: the real server inside a control group, asked
//! by both protocols at once.
//!
//! RINGBOOT_COLD_MB sets the size of the cold file beside which a hot one must not wait (default
//! 512; docs/measuring.md).
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::print_stdout)]

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

mod common;

use common::cgroup::Group;
use common::process::{Process, run};
use common::{Scratch, SetOnDrop, need};

const MIB: u64 = 1 << 20;
/// For one datagram or one read, on a machine whose cores and disk are busy.
const LIMIT: Duration = Duration::from_secs(60);
/// The target: cold files never stall a core.
const BLOCK_P99_MAX: Duration = Duration::from_millis(5);
/// A machine with other work delays every thread now and then, in ways that no clock shows; a core
/// that waits for a disk does so in every round.
const ROUNDS: usize = 5;

/// What files hold: a text without an end, which begins anew after a prime number of bytes, so
/// that no byte of another place or another file passes for the right one.
struct Pattern(Vec<u8>);

const PERIOD: usize = 1_000_003;

impl Pattern {
    fn of(seed: u64) -> Self {
        let mut state = seed.wrapping_mul(2).wrapping_add(1);
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        };
        let once: Vec<u8> = (0..PERIOD).map(|_| next()).collect();
        Self([&once[..], &once[..]].concat())
    }

    fn write(&self, path: &Path, len: u64) {
        let mut file = File::create(path).unwrap();
        let mut left = len;
        while left > 0 {
            let now = left.min(PERIOD as u64);
            file.write_all(&self.0[..now as usize]).unwrap();
            left -= now;
        }
    }

    fn check(&self, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(PERIOD));
            let start = (offset % PERIOD as u64) as usize;
            assert!(now == &self.0[start..start + now.len()], "wrong bytes after {offset}");
            (offset, bytes) = (offset + now.len() as u64, rest);
        }
    }
}

/// The disk has to be asked again for this file: its pages are written and dropped, of this file
/// alone.
fn make_cold(path: &Path) {
    let mut drop_pages = Command::new("dd");
    drop_pages.arg(format!("of={}", path.display())).args([
        "oflag=nocache",
        "conv=notrunc,fdatasync",
        "count=0",
    ]);
    run(drop_pages, LIMIT).ok();
}

/// Files under a root, and a server of it on one boot core.
struct World {
    scratch: Scratch,
    process: Process,
    tftp: SocketAddr,
    http: SocketAddr,
}

impl World {
    /// `files` makes the tree; `start` may put the server's command into a group.
    fn new(
        name: &str,
        tuning: &str,
        files: impl FnOnce(&Path),
        start: impl FnOnce(&Path, Command) -> Command,
    ) -> Self {
        need(&[("dd", "coreutils"), ("sh", "dash")]);
        let scratch = Scratch::new(name);
        let root = scratch.path().join("root");
        fs::create_dir(&root).unwrap();
        files(&root);
        let file = scratch.path().join("ringboot.toml");
        let text = format!(
            "root = \"root\"\nstate = \"state\"\n[server]\nadmin-socket = \"admin.sock\"\nuser = \
             \"root\"\n[tuning]\n{tuning}\n"
        );
        fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringboot"));
        command
            .args([
                "serve",
                "--workers",
                "1",
                "--tftp",
                "127.0.0.1:0",
                "--http",
                "127.0.0.1:0",
                "--config",
            ])
            .arg(&file);
        let process = Process::start(start(&root, command));
        let find =
            |text: &String| text.lines().find(|line| line.starts_with("READY")).map(str::to_owned);
        let ready = process.stdout.wait_for(LIMIT, find);
        let ready = ready.unwrap_or_else(|why| panic!("{why:?}: {}", process.stderr.text()));
        let address = |key| {
            ready.split(' ').find_map(|word| word.strip_prefix(key)).unwrap().parse().unwrap()
        };
        Self { tftp: address("tftp="), http: address("http="), scratch, process }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join("root").join(name)
    }

    fn status(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringboot"));
        command
            .args(["status", "--socket"])
            .arg(self.scratch.path().join("admin.sock"))
            .args(arguments);
        run(command, LIMIT).ok().stdout
    }

    /// A number of `image_memory`.
    fn memory(&self, key: &str) -> u64 {
        let status: serde_json::Value = serde_json::from_str(&self.status(&["--json"])).unwrap();
        status["image_memory"][key].as_u64().unwrap()
    }

    /// Bytes that the server has had read from a disk.
    fn disk_bytes(&self) -> u64 {
        let io = fs::read_to_string(format!("/proc/{}/io", self.process.pid())).unwrap();
        io.lines().find_map(|line| line.strip_prefix("read_bytes: ")).unwrap().parse().unwrap()
    }

    /// How often the threads of the boot core have waited for a page from a disk: majflt of
    /// proc_pid_stat(5). Those for the program's own pages are over when the hot file has been
    /// fetched.
    fn faults_of_cores(&self, hot: &Pattern) -> u64 {
        http_fetch(self.http, "hot", |at, bytes| hot.check(at, bytes));
        tftp_fetch(self.tftp, &HOT, |at, bytes| hot.check(at, bytes), |_| true);
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.pid())).unwrap();
        let stats =
            tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("stat")).ok());
        let of_core = stats.filter(|stat| {
            ["(rb-tftp", "(rb-http", "(iou-wrk"].iter().any(|name| stat.contains(name))
        });
        of_core
            .map(|stat| {
                stat.rsplit_once(')').unwrap().1.split(' ').nth(10).unwrap().parse::<u64>().unwrap()
            })
            .sum()
    }

    /// The run-queue clock of the thread that answers TFTP.
    fn tftp_queue(&self) -> QueueClock {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.pid())).unwrap();
        let mut paths = tasks.map(|task| task.unwrap().path());
        let tftp = paths.find(|task| {
            fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("rb-tftp"))
        });
        QueueClock(tftp.expect("a thread rb-tftp").join("schedstat"))
    }

    fn stop(mut self) -> String {
        let status = self.process.stop(LIMIT);
        let log = self.process.stderr.text();
        assert!(status.success() && !log.contains("panicked"), "{status}: {log}");
        log
    }
}

/// How long a thread has been able to run while other threads had every core: the second number of
/// its schedstat (Documentation/scheduler/sched-stats.rst). A thread that waits for a disk is not
/// in the queue.
struct QueueClock(PathBuf);

impl QueueClock {
    fn of_this_thread() -> Self {
        Self("/proc/thread-self/schedstat".into())
    }

    /// Zero on a kernel that does not count.
    fn queued(&self) -> Duration {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        let nanos = text.split_whitespace().nth(1).and_then(|nanos| nanos.parse().ok());
        Duration::from_nanos(nanos.unwrap_or(0))
    }
}

/// Sends a GET and reads the head; the length of the body with the stream that it comes from.
fn http_get(server: SocketAddr, name: &str, range: &str) -> (u64, TcpStream) {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "GET /{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{range}\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet).unwrap();
        head.push(octet[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.contains(" 200 ") || head.contains(" 206 "), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    (length.trim().parse().unwrap(), stream)
}

/// Downloads a file; `check` is given each piece with its place. The bytes that came.
fn http_fetch(server: SocketAddr, name: &str, mut check: impl FnMut(u64, &[u8])) -> u64 {
    let (len, mut stream) = http_get(server, name, "");
    let mut buffer = vec![0; MIB as usize];
    let mut at = 0;
    loop {
        let read = stream.read(&mut buffer).unwrap();
        if read == 0 {
            assert_eq!(at, len, "{name} is whole");
            return at;
        }
        check(at, &buffer[..read]);
        at += read as u64;
    }
}

/// What is asked for by TFTP: a name, bytes in a block, blocks in a window.
struct Fetch<'a> {
    name: &'a str,
    block_size: u64,
    window: u64,
}

/// Fetches a file by TFTP as [`http_fetch`] does. `waited` is given the time from each ACK to the
/// first block after it, and says whether to go on.
fn tftp_fetch(
    server: SocketAddr,
    fetch: &Fetch<'_>,
    mut check: impl FnMut(u64, &[u8]),
    mut waited: impl FnMut(Duration) -> bool,
) -> u64 {
    const RESEND: Duration = Duration::from_secs(2);
    let Fetch { name, block_size, window } = fetch;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(RESEND)).unwrap();
    let request =
        format!("\0\x01{name}\0octet\0tsize\x000\0blksize\0{block_size}\0windowsize\0{window}\0");
    socket.send_to(request.as_bytes(), server).unwrap();
    let mut datagram = vec![0; 70_000];
    let (mut block, mut at, mut len, mut tid) = (0u64, 0u64, 0u64, server);
    let (mut asked, mut heard) = (Instant::now(), Instant::now());
    loop {
        let Ok((read, from)) = socket.recv_from(&mut datagram) else {
            assert!(heard.elapsed() < LIMIT, "{name}: silence after block {block}");
            let again = if tid == server { request.as_bytes().to_vec() } else { ack(block) };
            socket.send_to(&again, tid).unwrap();
            continue;
        };
        heard = Instant::now();
        match &datagram[..read] {
            [0, 6, options @ ..] => {
                let text = String::from_utf8_lossy(options).into_owned();
                let words: Vec<&str> = text.split('\0').collect();
                len = words[words.iter().position(|word| *word == "tsize").unwrap() + 1]
                    .parse()
                    .unwrap();
                tid = from;
                socket.send_to(&ack(0), tid).unwrap();
                asked = Instant::now();
            }
            [0, 3, high, low, bytes @ ..]
                if u16::from_be_bytes([*high, *low]) == (block + 1) as u16 =>
            {
                let goes_on = block % window != 0 || waited(asked.elapsed());
                block += 1;
                check(at, bytes);
                at += bytes.len() as u64;
                let is_last = (bytes.len() as u64) < *block_size;
                if is_last || block.is_multiple_of(*window) {
                    socket.send_to(&ack(block), tid).unwrap();
                    asked = Instant::now();
                }
                if is_last {
                    assert_eq!(at, len, "{name} is whole, and as long as tsize said");
                    return at;
                }
                if !goes_on {
                    socket.send_to(b"\0\x05\0\0enough\0", tid).unwrap();
                    return at;
                }
            }
            // After a gap the server begins anew behind the last acknowledged block.
            [0, 3, ..] => {}
            other => panic!("{name}: {other:?}"),
        }
    }
}

fn ack(block: u64) -> Vec<u8> {
    [[0, 4], ((block & 0xffff) as u16).to_be_bytes()].concat()
}

/// Fetches whole files by both protocols at once, `clients` of each protocol for each file, and
/// checks every byte.
fn fetch_all(world: &World, files: &[(String, Pattern)], clients: usize) {
    std::thread::scope(|scope| {
        for (name, pattern) in files {
            for _ in 0..clients {
                scope.spawn(|| http_fetch(world.http, name, |at, bytes| pattern.check(at, bytes)));
                let fetch = Fetch { name, block_size: 8192, window: 8 };
                scope.spawn(move || {
                    tftp_fetch(world.tftp, &fetch, |at, bytes| pattern.check(at, bytes), |_| true)
                });
            }
        }
    });
}

fn cold_files(root: &Path, count: u64, len: u64) -> Vec<(String, Pattern)> {
    let files: Vec<(String, Pattern)> =
        (0..count).map(|n| (format!("image-{n}"), Pattern::of(n))).collect();
    for (name, pattern) in &files {
        pattern.write(&root.join(name), len);
        make_cold(&root.join(name));
    }
    files
}

#[test]
fn a_tree_three_times_the_memory_is_served_whole_by_both_protocols_at_once() {
    const MEMORY: u64 = 128 * MIB;
    const FILES: u64 = 6;
    let group = Group::new("tree", MEMORY);
    let mut files = Vec::new();
    let world = World::new(
        "cold-tree",
        "",
        |root| files = cold_files(root, FILES, 3 * MEMORY / FILES),
        |_, command| group.command(&command),
    );
    fetch_all(&world, &files, 1);
    assert!(world.disk_bytes() >= 3 * MEMORY, "all of it came from the disk");
    let budget = world.memory("budget");
    assert!(budget == MEMORY / 2, "a share of the group's memory, not of the machine's: {budget}");
    assert!(
        world.memory("resident") <= budget && world.memory("evictions") > 0,
        "{}",
        world.status(&[])
    );
    world.stop();
}

#[test]
fn twelve_transfers_of_three_files_get_through_two_pieces_of_memory() {
    const PIECE: u64 = 8 * MIB;
    let mut files = Vec::new();
    let tuning = format!("image-memory = {}", 2 * PIECE);
    let world = World::new(
        "cold-tiny",
        &tuning,
        |root| files = cold_files(root, 3, 4 * PIECE),
        |_, command| command,
    );
    fetch_all(&world, &files, 2);
    assert_eq!(world.memory("budget"), 2 * PIECE);
    assert!(world.memory("evictions") >= 10, "{}", world.status(&[]));
    assert!(world.status(&[]).contains("of 16 MB hold boot images"), "{}", world.status(&[]));
    world.stop();
}

#[test]
fn a_budget_that_is_too_large_is_cut_to_what_the_group_can_bear() {
    let group = Group::new("budget", 128 * MIB);
    let world = World::new(
        "cold-budget",
        "image-memory = 1073741824",
        |_| (),
        |_, command| group.command(&command),
    );
    assert_eq!(world.memory("budget"), 96 * MIB);
    let log = world.stop();
    assert!(
        log.contains("image-memory = 1073741824 is more than the server may lock safely"),
        "{log}"
    );
}

#[test]
fn a_file_that_is_cut_short_ends_its_transfer_and_nothing_else() {
    let pattern = Pattern::of(7);
    let files = |root: &Path| {
        pattern.write(&root.join("cut"), 64 * MIB);
        pattern.write(&root.join("whole"), 20 * MIB);
    };
    let world = World::new("cold-cut", "", files, |_, command| command);
    let (len, mut stream) = http_get(world.http, "cut", "");
    let mut first = vec![0; MIB as usize];
    stream.read_exact(&mut first).unwrap();
    pattern.check(0, &first);
    File::options().write(true).open(world.path("cut")).unwrap().set_len(2 * MIB).unwrap();
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest);
    assert!(
        ended.is_err() || ((first.len() + rest.len()) as u64) < len,
        "a cut file is never whole"
    );
    assert_eq!(http_fetch(world.http, "whole", |at, bytes| pattern.check(at, bytes)), 20 * MIB);
    world.stop();
}

#[test]
fn without_the_right_to_lock_it_is_said_once_and_served_all_the_same() {
    need(&[("setpriv", "util-linux")]);
    let mut files = Vec::new();
    let without_rights = |_: &Path, command: Command| {
        let mut less = Command::new("setpriv");
        less.args([
            "--bounding-set",
            "-ipc_lock,-sys_resource",
            "sh",
            "-c",
            "ulimit -l 8192 && exec \"$@\"",
            "sh",
        ]);
        less.arg(command.get_program()).args(command.get_args());
        less
    };
    let world = World::new(
        "cold-unlocked",
        "",
        |root| files = cold_files(root, 2, 40 * MIB),
        without_rights,
    );
    fetch_all(&world, &files, 2);
    assert!(world.status(&[]).contains(" MB NOT LOCKED (RLIMIT_MEMLOCK)"), "{}", world.status(&[]));
    let started = Instant::now();
    while world.memory("expired") == 0 {
        assert!(
            started.elapsed() < LIMIT,
            "pieces that nobody uses are forgotten: {}",
            world.status(&[])
        );
    }
    fetch_all(&world, &files, 1);
    let log = world.stop();
    assert_eq!(log.matches("boot images cannot be locked in memory").count(), 1, "{log}");
    assert!(log.contains("LimitMEMLOCK=infinity"), "{log}");
}

/// Sparse, so that no disk has to hold it: zeros with a mark at some places.
#[test]
fn a_file_of_more_than_4_gib_is_served_whole_and_in_part() {
    const LEN: u64 = 4 * 1024 * MIB + 40 * MIB + 123;
    const MARKS: [u64; 4] = [0, 4 * 1024 * MIB - 3, 4 * 1024 * MIB + 17 * MIB, LEN - 8];
    const MARK: &[u8; 8] = b"ringboot";
    let files = |root: &Path| {
        let mut file = File::create(root.join("huge")).unwrap();
        file.set_len(LEN).unwrap();
        for at in MARKS {
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(MARK).unwrap();
        }
    };
    let world = World::new("cold-huge", "", files, |_, command| command);
    let zeros = vec![0; MIB as usize];
    let check = |at: u64, bytes: &[u8]| {
        if !MARKS.iter().any(|mark| *mark < at + bytes.len() as u64 && at < mark + 8) {
            assert!(bytes == &zeros[..bytes.len()], "after {at}");
            return;
        }
        for (number, octet) in bytes.iter().enumerate() {
            let place = at + number as u64;
            let mark = MARKS.iter().find(|mark| (**mark..**mark + 8).contains(&place));
            assert_eq!(*octet, mark.map_or(0, |mark| MARK[(place - mark) as usize]), "at {place}");
        }
    };
    for at in MARKS {
        let (len, mut part) =
            http_get(world.http, "huge", &format!("Range: bytes={at}-{}\r\n", at + 7));
        let mut mark = [0; 8];
        part.read_exact(&mut mark).unwrap();
        assert_eq!((len, &mark), (8, MARK), "the range at {at}");
    }
    let started = Instant::now();
    assert_eq!(http_fetch(world.http, "huge", check), LEN);
    println!("4 GiB by HTTP in {:?}", started.elapsed());
    // 67,000 blocks of 64 KiB: block numbers begin anew on the way.
    let fetch = Fetch { name: "huge", block_size: 65_464, window: 2 };
    assert_eq!(tftp_fetch(world.tftp, &fetch, check, |_| true), LEN);
    println!("and by TFTP in {:?}", started.elapsed());
    world.stop();
}

const HOT: Fetch<'static> = Fetch { name: "hot", block_size: 1468, window: 1 };

/// The waits of a lockstep client that fetches a hot file again and again until it is told to
/// stop. The time in which the server or the client could run and no core was free is taken off:
/// that is the machine's other work, and no disk.
fn hot_client(world: &World, pattern: &Pattern, stop: &AtomicBool) -> Vec<Duration> {
    let clocks = [world.tftp_queue(), QueueClock::of_this_thread()];
    let queued = || clocks.iter().map(QueueClock::queued).sum::<Duration>();
    let (mut times, mut before) = (Vec::new(), queued());
    while !stop.load(Ordering::Relaxed) {
        tftp_fetch(
            world.tftp,
            &HOT,
            |at, bytes| pattern.check(at, bytes),
            |time| {
                let now = queued();
                times.push(time.saturating_sub(now - before));
                before = now;
                !stop.load(Ordering::Relaxed)
            },
        );
    }
    times.sort_unstable();
    times
}

fn p99(what: &str, times: &[Duration]) -> Duration {
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let (p50, p99) = (at(0.5), at(0.99));
    println!(
        "{what}: {} blocks, p50 {p50:?}, p99 {p99:?}, p99.9 {:?}, max {:?}",
        times.len(),
        at(0.999),
        at(1.0)
    );
    assert!(times.len() >= 300, "{what}: {} blocks are too few to judge", times.len());
    p99
}

/// The waits of a lockstep client of a hot file while a large file is fetched by HTTP and by TFTP
/// from the same boot core.
fn beside_a_large_file(world: &World, hot: &Pattern, large: &Pattern) -> Vec<Duration> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let lockstep = scope.spawn(|| hot_client(world, hot, &stop));
        let by_tftp = scope.spawn(|| {
            let fetch = Fetch { name: "cold", block_size: 8192, window: 8 };
            tftp_fetch(
                world.tftp,
                &fetch,
                |at, bytes| large.check(at, bytes),
                |_| !stop.load(Ordering::Relaxed),
            )
        });
        let ends_clients = SetOnDrop(&stop);
        let started = Instant::now();
        let len = http_fetch(world.http, "cold", |at, bytes| large.check(at, bytes));
        println!("{} MiB in {:?}", len / MIB, started.elapsed());
        drop(ends_clients);
        by_tftp.join().unwrap();
        lockstep.join().unwrap()
    })
}

/// Serves a cold file of so many MiB, and holds the waits of a hot file's client against the
/// target.
fn assert_nobody_waits(
    name: &str,
    mb: u64,
    tuning: &str,
    start: impl Fn(&Path, Command) -> Command,
) {
    let (hot, cold) = (Pattern::of(1), Pattern::of(2));
    let files = |root: &Path| {
        hot.write(&root.join("hot"), 300_000);
        cold.write(&root.join("cold"), mb * MIB);
        make_cold(&root.join("cold"));
    };
    let round = |_| {
        let world = World::new(name, tuning, files, &start);
        let faults = world.faults_of_cores(&hot);
        let times = beside_a_large_file(&world, &hot, &cold);
        assert!(world.disk_bytes() >= mb * MIB, "the file came from the disk");
        // A core may meet a page of its own program that is still on the disk, once; pages of
        // images it would meet in every round.
        let waited = world.faults_of_cores(&hot) - faults;
        println!("cores have waited for {waited} pages");
        world.stop();
        p99(name, &times) < BLOCK_P99_MAX && waited == 0
    };
    assert!(
        (0..ROUNDS).any(round),
        "p99 is {BLOCK_P99_MAX:?} or more, or a core waited, in each of {ROUNDS} rounds"
    );
}

#[test]
fn a_cold_file_does_not_make_a_hot_one_wait() {
    let mb = std::env::var("RINGBOOT_COLD_MB")
        .map_or(512, |mb| mb.parse().expect("RINGBOOT_COLD_MB is a number"));
    assert_nobody_waits("cold-p99", mb, "", |_, command| command);
}

/// The same beside a disk on which each piece takes 0.4 s, with memory for four pieces.
#[test]
fn a_slow_disk_does_not_make_a_hot_file_wait() {
    const BYTES_PER_SECOND: u64 = 20_000_000;
    let group = Group::new("slow", 512 * MIB);
    let start = |root: &Path, command: Command| {
        if !group.slow_disk(&root.join("cold"), BYTES_PER_SECOND) {
            println!(
                "THE DISK IS NOT SLOWED: this kernel or file system cannot. What is measured is \
                 the disk as it is"
            );
        }
        group.command(&command)
    };
    assert_nobody_waits("cold-slow", 128, "image-memory = 33554432", start);
}
