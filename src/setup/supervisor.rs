//! Starts every thread, says READY when every socket answers, waits for the order to stop, and
//! drains.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use super::control::Control;
use crate::engine::affinity;
use crate::engine::datapath::Datapath;
use crate::engine::mailbox::MailboxBell;
use crate::engine::net::{self, SocketBinding};
use crate::engine::open_files;
use crate::engine::privileges;
use crate::engine::ring::{self};
use crate::guard::UserAccount;
use crate::http::admission;
use crate::http::limits::DESCRIPTORS_ELSEWHERE;
use crate::observe::events::{self, EventSender};
use crate::observe::finding::CheckFinding;
use crate::observe::log::{self, JournalMemory};
use crate::observe::port_holder::SocketProtocol;
use crate::observe::threads::{self, WatchedThread};
use crate::serve::binding::{once_released, refused};
use crate::serve::core::{CoreError, CoreParts};
use crate::serve::dhcp::other_servers::SegmentFindings;
use crate::serve::dhcp::{self, DhcpControl, DhcpCore, DhcpPlan};
use crate::serve::drain::{DRAIN_MAX, DrainOrder};
use crate::serve::failure::{ServerFailure, ended, system};
use crate::serve::handle::{
    ReloadOutcome, ReloadRefusal, ReloadRequest, RereadConfig, ServerHandle,
};
use crate::serve::health::{StoreHealth, StoreReport};
use crate::serve::http::{HttpCore, HttpPlan};
use crate::serve::overview::{self, CoreView, ServerOverview};
use crate::serve::placement::{CorePlacement, place};
use crate::serve::pulse::{CorePulse, CoreWatchdog, StuckThreads};
use crate::serve::shelf::FileSources;
use crate::serve::tftp::{HttpBusy, TftpCore, TftpPlan, TftpSockets};
use crate::snapshot::PublishedState;

/// How often the image store releases the contents of removed files.
const SWEEP: Duration = Duration::from_secs(10);
/// How long a core may take to end beyond the time of its transfers.
const DRAIN_GRACE: Duration = Duration::from_secs(2);
/// How long the journal may take to keep its last events.
const JOURNAL_MAX: Duration = Duration::from_secs(3);
/// How often the supervisor checks whether the journal has ended.
const JOURNAL_LOOKED_EVERY: Duration = Duration::from_millis(5);
/// Reloads that may wait; one more is refused with an error that says so.
const RELOADS_MAX: usize = 8;

/// Everything that the supervisor starts.
#[derive(Debug)]
pub struct Plan {
    /// The files and templates that all boot cores serve.
    pub names: Arc<FileSources>,
    /// The plan of the TFTP cores.
    pub tftp: TftpPlan,
    /// The plan of the HTTP cores.
    pub http: HttpPlan,
    /// None: no DHCP, no packet leaves port 67.
    pub dhcp: Option<DhcpPlan>,
    /// Most boot cores; None: as many as the inherited mask allows.
    pub workers: Option<usize>,
    /// None: io_uring where the kernel gives a ring to the serving user, otherwise epoll.
    pub datapath: Option<Datapath>,
    /// The user that the process becomes when everything is bound; None: it keeps its user.
    pub account: Option<UserAccount>,
    /// The history of machines, for the journal's thread.
    pub memory: JournalMemory,
    /// The findings about the configuration of the start.
    pub remarks: Vec<CheckFinding>,
    /// Reads the configuration again, for SIGHUP and `reload`.
    pub control: Control,
}

/// What the supervisor's inbox receives while the server runs.
#[derive(Debug)]
enum Notice {
    Signal,
    Ready,
    Ended { thread: String, result: Result<(), CoreError> },
}

/// Runs until SIGTERM or SIGINT, then drains. If the plan requires io_uring and the kernel refuses
/// it, nothing is bound.
pub fn run(mut plan: Plan) -> Result<(), ServerFailure> {
    if plan.datapath == Some(Datapath::IoUring) {
        ring::probe_ring()?;
    }
    let placement = place(
        &affinity::list_allowed_processors().map_err(system("reading the affinity mask"))?,
        plan.workers,
    );

    let bound = bind_sockets(&plan, &placement)?;
    let (notices, inbox) = channel();
    let (reloads, reload) = sync_channel(RELOADS_MAX);
    watch_signals(notices.clone(), reloads.clone())?;
    let (events, printed) = events::open_event_queue();
    let (memory, progress) = (std::mem::take(&mut plan.memory), events.progress());
    let journal = std::thread::Builder::new()
        .name("rb-journal".into())
        .spawn(move || log::run_journal_thread(&printed, memory, &progress))
        .map_err(system("starting a thread"))?;

    let drain = DrainOrder::default();
    let Plan { names, tftp, http, dhcp, control, account, datapath, remarks, .. } = plan;
    let handle = ServerHandle { reloads, overview: Arc::default() };
    // Bound as root, and answered only after the process has dropped root.
    let admin_socket = control.bind_admin_socket(account.as_ref());
    if let Some(account) = &account {
        account
            .take_over()
            .map_err(|error| ServerFailure::User { user: account.name.clone(), error })?;
    }
    let _admin_socket = admin_socket.and_then(|socket| socket.answer(handle.clone()));

    let datapath = choose_datapath(datapath, account.as_ref())?;
    let mut watchdog = CoreWatchdog::new(sd_notify::watchdog_enabled());
    let parts = Parts { names, tftp, http, dhcp, datapath };
    let shared = Shared { events: &events, drain: &drain, notices: &notices };
    let Started { mut running, line, mut overview } =
        start(parts, bound, &placement, &shared, &mut watchdog)?;
    overview.pulses = watchdog.pulses();
    overview.remarks.store(Arc::new(remarks));
    let (bells, store, remarks) =
        (overview.bells.clone(), overview.store.clone(), Arc::clone(&overview.remarks));
    start_reloading(&overview, control, reload)?;
    start_sweeping(&overview)?;
    // Control shares the first processor with DHCP. Threads that were started before this call keep
    // the whole mask: they wait for disks.
    affinity::pin_to_processors(&[placement.control])
        .map_err(system("pinning the control thread"))?;
    handle.overview.store(Some(Arc::new(overview)));

    let mut waiting = running.len();
    while waiting > 0 {
        match inbox.recv() {
            Ok(Notice::Ready) => waiting -= 1,
            Ok(Notice::Ended { thread, result }) => return Err(ended(thread, result)),
            Ok(Notice::Signal) | Err(_) => return Ok(()),
        }
    }
    let (mut said, mut told) =
        (StuckThreads::default(), describe_status(store.as_deref(), &remarks.load()));
    say_ready(line, &told);

    let mut next_look = Instant::now();
    loop {
        match inbox.recv_timeout(next_look.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) | Ok(Notice::Ready) => {}
            Ok(Notice::Ended { thread, result }) => return Err(ended(thread, result)),
            Ok(Notice::Signal) | Err(RecvTimeoutError::Disconnected) => break,
        }
        let now = Instant::now();
        if now >= next_look {
            next_look = now + watchdog.every();
            watchdog.look(now);
            if let Some(dead) = said.say(&threads::list_threads()) {
                return Err(ended(dead, Err(CoreError::Panicked)));
            }
            if watchdog.all_go_on() {
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
            }
            let now = describe_status(store.as_deref(), &remarks.load());
            if now != told {
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Status(&now)]);
                told = now;
            }
        }
    }

    // The order comes before the log line: the cores must not wait for a slow reader of the log.
    drain.order();
    bells.iter().for_each(MailboxBell::ring);
    let until = Instant::now() + DRAIN_MAX + DRAIN_GRACE;
    tracing::info!("stopping: running transfers may take up to {} s", DRAIN_MAX.as_secs());
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    let failure = wait_for_cores(&inbox, &mut running, until);
    handle.overview.store(None);
    drop((events, notices, handle));
    if running.is_empty() {
        let until = Instant::now() + JOURNAL_MAX;
        while !journal.is_finished() && Instant::now() < until {
            std::thread::sleep(JOURNAL_LOOKED_EVERY);
        }
    }
    tracing::info!("stopped");
    failure.map_or(Ok(()), Err)
}

/// The server's status in one line, as systemd shows it.
fn describe_status(store: Option<&StoreHealth>, remarks: &[CheckFinding]) -> String {
    let report = store.map_or_else(StoreReport::default, StoreHealth::report);
    report.sentence() + &overview::summarize_errors(remarks)
}

/// Waits for the end of every core, at most until `until`. Returns the first failure.
fn wait_for_cores(
    inbox: &Receiver<Notice>,
    running: &mut Vec<String>,
    until: Instant,
) -> Option<ServerFailure> {
    let mut failure = None;
    while !running.is_empty() {
        match inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Notice::Ended { thread, result }) => {
                running.retain(|name| *name != thread);
                // One failure does not end the wait: the other cores finish their transfers.
                failure = failure.or(result.is_err().then(|| ended(thread, result)));
            }
            Ok(Notice::Ready) => {}
            Ok(Notice::Signal) => {
                tracing::warn!("told to stop again: what still runs is cut off");
                return Some(ServerFailure::CutOff(running.join(", ")));
            }
            Err(_) => return Some(ServerFailure::CutOff(running.join(", "))),
        }
    }
    failure
}

/// Chooses how the cores speak to the kernel, after the process has dropped root: each core makes
/// its ring later, and sysctl kernel.io_uring_disabled=1 allows rings only to root and to one
/// group.
fn choose_datapath(
    wanted: Option<Datapath>,
    account: Option<&UserAccount>,
) -> Result<Chosen, ServerFailure> {
    let refused = match wanted {
        Some(Datapath::Epoll) => return Ok(Chosen { datapath: Datapath::Epoll, no_ring: None }),
        _ => ring::probe_ring().err(),
    };
    match (refused, wanted, account) {
        (None, Some(datapath), _) => Ok(Chosen { datapath, no_ring: None }),
        // The kernel may still refuse the larger ring of a core, which then uses epoll.
        (None, None, _) => Ok(Chosen { datapath: Datapath::IoUringOrEpoll, no_ring: None }),
        (Some(error), None, _) => {
            tracing::warn!("serving by epoll, recvmmsg and sendmmsg, because {error}");
            Ok(Chosen { datapath: Datapath::Epoll, no_ring: Some(error.to_string()) })
        }
        (Some(error), Some(_), Some(account)) => {
            Err(ServerFailure::UserRing { user: account.name.clone(), error })
        }
        (Some(error), Some(_), None) => Err(error.into()),
    }
}

/// The datapath of all cores.
#[derive(Debug)]
struct Chosen {
    datapath: Datapath,
    /// Why it is not io_uring, where that was wanted.
    no_ring: Option<String>,
}

/// Sockets of all threads, bound before any thread runs, in the order of the boot cores.
struct BoundSockets {
    tftp: Vec<TftpSockets>,
    http: Vec<Vec<TcpListener>>,
    dhcp: Option<dhcp::DhcpSockets>,
}

/// Binds the sockets of all cores.
fn bind_sockets(plan: &Plan, placement: &CorePlacement) -> Result<BoundSockets, ServerFailure> {
    let cores = placement.boot.len();
    let mut tftp: Vec<TftpSockets> = (0..cores).map(|_| TftpSockets::default()).collect();
    for &address in &plan.tftp.listen {
        let group = once_released(SocketProtocol::Udp, address.port(), || {
            bind_group(address, cores, |address, shared| {
                net::open_udp_socket(&SocketBinding { address, interface: None, shared })
                    .and_then(|fd| Ok((net::read_local_address(&fd)?, fd)))
            })
        })
        .map_err(refused("TFTP", SocketProtocol::Udp, address))?;
        steer(group.iter().map(|(_, fd)| fd), address, cores);
        for (sockets, (address, fd)) in tftp.iter_mut().zip(group) {
            sockets.listening.push((address, fd));
        }
    }
    for sockets in &mut tftp {
        sockets.tids = bind_tids(&plan.tftp)?;
    }

    let mut http: Vec<Vec<TcpListener>> = (0..cores).map(|_| Vec::new()).collect();
    for &address in &plan.http.listen {
        let group = once_released(SocketProtocol::Tcp, address.port(), || {
            bind_group(address, cores, |address, shared| {
                open_http_listener(address, shared, plan.http.congestion)
            })
        })
        .map_err(refused("HTTP", SocketProtocol::Tcp, address))?;
        steer(group.iter().map(|(_, listener)| listener), address, cores);
        for (listeners, (_, listener)) in http.iter_mut().zip(group) {
            listeners.push(listener);
        }
    }
    let dhcp = plan.dhcp.as_ref().map(dhcp::bind_sockets).transpose()?;
    Ok(BoundSockets { tftp, http, dhcp })
}

fn open_http_listener(
    address: SocketAddr,
    shared: bool,
    congestion: Option<&str>,
) -> io::Result<(SocketAddr, TcpListener)> {
    let listener = net::open_tcp_listener(address, shared)?;
    net::accept_with_first_bytes(&listener)?;
    if let Some(name) = congestion {
        // A kernel without this algorithm keeps its default, which may be slower.
        let _ = net::set_congestion_control(&listener, name);
    }
    Ok((listener.local_addr()?, listener))
}

/// Binds one socket per core to an address; port 0 becomes one port for all of them.
fn bind_group<S>(
    address: SocketAddr,
    cores: usize,
    bind: impl Fn(SocketAddr, bool) -> io::Result<(SocketAddr, S)>,
) -> io::Result<Vec<(SocketAddr, S)>> {
    let shared = cores > 1;
    // A shared port would let a second server of the same user bind it too, and get some of the
    // clients: bind it exclusively first.
    if shared && address.port() != 0 {
        drop(bind(address, false)?);
    }
    let first = bind(address, shared)?;
    let same = first.0;
    let mut group = vec![first];
    for _ in 1..cores {
        group.push(bind(same, shared)?);
    }
    Ok(group)
}

/// Has the kernel give all requests of a machine to one core, by TFTP and HTTP alike. Without it
/// the kernel spreads them by its own hash, which is slower but correct.
fn steer<'a, S: std::os::fd::AsRawFd + 'a>(
    group: impl Iterator<Item = &'a S>,
    address: SocketAddr,
    cores: usize,
) {
    let cores = u32::try_from(cores).unwrap_or(1);
    if cores > 1
        && let Some(socket) = group.into_iter().next()
        && let Err(error) = net::steer_by_source(socket, address.is_ipv6(), cores)
    {
        tracing::warn!("clients of {address} are not steered by their address: {error}");
    }
}

fn bind_tids(plan: &TftpPlan) -> Result<Vec<(SocketAddr, OwnedFd)>, ServerFailure> {
    let mut tids = Vec::new();
    let families = [
        (IpAddr::from([0; 4]), plan.listen.iter().any(SocketAddr::is_ipv4)),
        (IpAddr::from([0; 16]), plan.listen.iter().any(SocketAddr::is_ipv6)),
    ];
    for (any, _) in families.iter().filter(|(_, wanted)| *wanted) {
        for _ in 0..plan.tids {
            let what = "a TFTP transfer socket";
            let bound = match plan.port_range {
                Some((first, last)) => {
                    bind_tid(*any, first..=last).map_err(|error| ServerFailure::Bind {
                        what,
                        address: format!("a port of {first}-{last}"),
                        reason: format!(
                            "{error}; each core needs {} free ports: widen `port-range` in [tftp], \
                             or lower `tid-sockets` in [tuning]",
                            plan.tids
                        ),
                    })
                }
                None => bind_tid(*any, 0..=0).map_err(refused(
                    what,
                    SocketProtocol::Udp,
                    SocketAddr::new(*any, 0),
                )),
            };
            tids.push(bound?);
        }
    }
    Ok(tids)
}

/// Binds the first free port; port 0 has the kernel choose one.
fn bind_tid(any: IpAddr, ports: RangeInclusive<u16>) -> io::Result<(SocketAddr, OwnedFd)> {
    let mut refusal = io::Error::from(io::ErrorKind::AddrInUse);
    for port in ports {
        match net::open_udp_socket(&SocketBinding {
            address: SocketAddr::new(any, port),
            interface: None,
            shared: false,
        }) {
            Ok(fd) => return Ok((net::read_local_address(&fd)?, fd)),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

/// What every core gets a clone of.
struct Shared<'a> {
    events: &'a EventSender,
    drain: &'a DrainOrder,
    notices: &'a Sender<Notice>,
}

impl Shared<'_> {
    fn make_core_parts(&self, datapath: Datapath, pulse: CorePulse) -> CoreParts {
        CoreParts { datapath, events: self.events.clone(), drain: self.drain.clone(), pulse }
    }
}

struct Started {
    /// The threads that report their end.
    running: Vec<String>,
    line: String,
    overview: ServerOverview,
}

/// Starts the thread that reloads, one request after the other: reading and checking take longer
/// than the supervisor may be away.
fn start_reloading(
    overview: &ServerOverview,
    control: Control,
    reloads: Receiver<ReloadRequest>,
) -> Result<(), ServerFailure> {
    let reloader = ConfigReloader {
        control,
        published: Arc::clone(&overview.published),
        dhcp: overview.dhcp_control.clone(),
        bells: overview.bells.clone(),
        remarks: Arc::clone(&overview.remarks),
        after_restart: Arc::clone(&overview.after_restart),
        findings: overview.findings.clone(),
    };
    helper("rb-reload", move |thread| {
        for answer in &reloads {
            let _busy = thread.busy();
            let reloaded = reloader.reload();
            match &reloaded {
                Ok(done) => {
                    tracing::info!("configuration reloaded: generation {}", done.generation)
                }
                Err(error) => tracing::error!("not reloaded, the old configuration stays: {error}"),
            }
            for table in reloaded.iter().flat_map(|done| &done.after_restart) {
                tracing::warn!("changes in {table} take effect after a restart");
            }
            reloaded.iter().flat_map(|done| &done.remarks).for_each(CheckFinding::log);
            if let Some(answer) = answer {
                drop(answer.send(reloaded));
            }
        }
    })
}

/// What the thread that reloads needs of the running server.
struct ConfigReloader {
    control: Control,
    published: Arc<PublishedState>,
    dhcp: Option<DhcpControl>,
    bells: Vec<MailboxBell>,
    remarks: Arc<ArcSwap<Vec<CheckFinding>>>,
    after_restart: Arc<ArcSwap<Vec<String>>>,
    findings: Option<Arc<SegmentFindings>>,
}

impl ConfigReloader {
    /// Reads the configuration again, and has the cores take it over.
    fn reload(&self) -> Result<ReloadOutcome, ReloadRefusal> {
        let RereadConfig { snapshot, after_restart, remarks } = self.control.read_again()?;
        let next = self.published.prepare(snapshot);
        let generation = next.number;
        match &self.dhcp {
            Some(dhcp) => dhcp.reconfigure(next)?,
            None => self.published.publish(next),
        }
        self.published.free_retired();
        // Sleeping cores take the new networks over now, and not with their next datagram.
        self.bells.iter().for_each(MailboxBell::ring);
        self.remarks.store(Arc::new(remarks.clone()));
        self.after_restart.store(Arc::new(after_restart.clone()));
        self.findings.iter().for_each(|findings| findings.look_now());
        Ok(ReloadOutcome { generation, after_restart, remarks })
    }
}

/// Starts the thread that releases the contents of removed files. A file server may be slow to
/// answer whether a file still exists.
fn start_sweeping(overview: &ServerOverview) -> Result<(), ServerFailure> {
    let images = Arc::downgrade(&overview.images);
    helper("rb-sweep", move |thread| {
        while let Some(images) = images.upgrade() {
            let busy = thread.busy();
            images.sweep();
            drop((busy, images));
            std::thread::sleep(SWEEP);
        }
    })
}

/// Starts a thread without privileges, which begins again after a panic.
fn helper(
    name: &'static str,
    mut work: impl FnMut(&WatchedThread) + Send + 'static,
) -> Result<(), ServerFailure> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            let thread = threads::watch_thread(name);
            privileges::give_up_capabilities();
            thread.keep_running(|| work(&thread));
        })
        .map(drop)
        .map_err(system("starting a thread"))
}

/// What the threads are made from.
struct Parts {
    names: Arc<FileSources>,
    tftp: TftpPlan,
    http: HttpPlan,
    dhcp: Option<DhcpPlan>,
    datapath: Chosen,
}

fn start(
    plan: Parts,
    bound: BoundSockets,
    placement: &CorePlacement,
    shared: &Shared<'_>,
    watchdog: &mut CoreWatchdog,
) -> Result<Started, ServerFailure> {
    let overview = ServerOverview {
        remarks: Arc::default(),
        after_restart: Arc::default(),
        receive_buffer: bound.tftp[0]
            .listening
            .first()
            .and_then(|(_, socket)| net::read_receive_buffer(socket)),
        started: SystemTime::now(),
        published: Arc::clone(&plan.names.published),
        tftp: bound.tftp[0].listening.iter().map(|(address, _)| *address).collect(),
        http: bound.http[0].iter().filter_map(|listener| listener.local_addr().ok()).collect(),
        dhcp: bound.dhcp.as_ref().map_or_else(Vec::new, dhcp::DhcpSockets::addresses),
        control_cpu: placement.control,
        datapath: plan.datapath.datapath,
        no_ring: plan.datapath.no_ring,
        cores: Vec::new(),
        dhcp_counters: None,
        store: plan.dhcp.as_ref().map(|dhcp| Arc::clone(&dhcp.health)),
        findings: None,
        images: Arc::clone(&plan.names.images),
        events: shared.events.clone(),
        dhcp_control: None,
        bells: Vec::new(),
        pulses: Vec::new(),
        inquiries: Vec::new(),
    };
    let (tftp_line, http_line) = (join_addresses(&overview.tftp), join_addresses(&overview.http));
    let mut line = format!("READY tftp={tftp_line} http={http_line}");
    let datapath = overview.datapath;
    let mut started = Started { running: Vec::new(), line: String::new(), overview };
    let tftp_plan = plan.tftp;
    let mut http_plan = plan.http;
    // The configured limits apply to the server; each core gets its share.
    limit_connections(&mut http_plan, placement.boot.len().max(1));

    for (number, (cpu, (tftp, http))) in
        placement.boot.iter().zip(bound.tftp.into_iter().zip(bound.http)).enumerate()
    {
        let http_busy = HttpBusy::default();
        let thread = Thread::new(format!("rb-tftp-{number}"), *cpu).without_capabilities();
        let parts = shared.make_core_parts(datapath, watchdog.pulse(thread.watched.observer()));
        let (core, bell) = TftpCore::new(parts, tftp, &tftp_plan, &plan.names, &http_busy)
            .map_err(system("making a core's mailbox"))?;
        started.overview.bells.push(bell);
        started.overview.inquiries.push(core.inquiry());
        let tftp_counters = core.counters();
        started.running.push(spawn(thread, shared.notices, move |ready| core.run(ready))?);
        // A core without a listener never runs, so the watchdog must not wait for it.
        let thread = (!http_plan.listen.is_empty())
            .then(|| Thread::new(format!("rb-http-{number}"), *cpu).without_capabilities());
        let pulse = thread.as_ref().map(|thread| watchdog.pulse(thread.watched.observer()));
        let parts = shared.make_core_parts(datapath, pulse.unwrap_or_default());
        let (core, bell) = HttpCore::new(parts, http, &http_plan, &plan.names, &http_busy)
            .map_err(system("making a core's mailbox"))?;
        started.overview.bells.push(bell);
        started.overview.inquiries.push(core.inquiry());
        let view = CoreView { cpu: *cpu, tftp: tftp_counters, http: core.counters() };
        started.overview.cores.push(view);
        if let Some(thread) = thread {
            started.running.push(spawn(thread, shared.notices, move |ready| core.run(ready))?);
        }
    }
    if let (Some(plan), Some(sockets)) = (plan.dhcp, bound.dhcp) {
        let names = sockets.names();
        if !names.is_empty() {
            line.push_str(&format!(" dhcp={names}"));
        }
        let thread = Thread::new("rb-dhcp".into(), placement.control);
        let parts = shared.make_core_parts(datapath, watchdog.pulse(thread.watched.observer()));
        let (mut core, bell) = DhcpCore::new(parts, plan, sockets)
            .map_err(system("making the DHCP core's mailbox"))?;
        started.overview.bells.push(bell);
        started.overview.dhcp_control = Some(core.control());
        started.overview.dhcp_counters = Some(core.counters());
        started.overview.findings = Some(core.findings());
        let (other_servers, bell) = core.other_servers().map_err(system("making a mailbox"))?;
        started.overview.bells.push(bell);
        started.running.push(spawn(thread, shared.notices, move |ready| core.run(ready))?);
        let thread = Thread::new("rb-interfaces".into(), placement.control);
        let other_servers =
            other_servers.with_pulse(watchdog.pulse_of_helper(thread.watched.observer()));
        started.running.push(spawn(thread, shared.notices, move |ready| other_servers.run(ready))?);
    }
    started.line = line;
    Ok(started)
}

fn join_addresses(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",")
}

/// A core's thread before it runs.
struct Thread {
    name: String,
    cpu: usize,
    watched: WatchedThread,
    /// Whether the thread opens sockets later.
    keeps_capabilities: bool,
}

impl Thread {
    fn new(name: String, cpu: usize) -> Self {
        Self { watched: threads::watch_thread(&name), name, cpu, keeps_capabilities: true }
    }

    fn without_capabilities(self) -> Self {
        Self { keeps_capabilities: false, ..self }
    }
}

/// Gives each core its share of the connections, at most as many as the descriptors of this process
/// allow.
fn limit_connections(plan: &mut HttpPlan, cores: usize) {
    let wanted = (plan.connections / cores).max(1);
    let Ok(files) = open_files::read_descriptor_limit() else {
        plan.connections = wanted;
        return;
    };
    let descriptors = (files / 2).max(files.saturating_sub(DESCRIPTORS_ELSEWHERE));
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX) / cores;
    (plan.connections, plan.waiting) = admission::divide_connections(descriptors, wanted);
    if plan.connections < wanted {
        tracing::warn!(
            "this process may have {files} open files: at most {} HTTP connections are served at a \
             time, not {}. Raise LimitNOFILE= of the unit, or `ulimit -n`",
            plan.connections * cores,
            wanted * cores
        );
    }
}

/// Starts a pinned thread. It reports when it answers, and when it has ended, even by a panic.
/// Returns its name.
fn spawn(
    Thread { name, cpu, watched, keeps_capabilities }: Thread,
    notices: &Sender<Notice>,
    run: impl FnOnce(&mut dyn FnMut()) -> Result<(), CoreError> + Send + 'static,
) -> Result<String, ServerFailure> {
    let notices = notices.clone();
    let thread = name.clone();
    std::thread::Builder::new()
        .name(name.clone())
        .spawn(move || {
            let _watched = watched;
            let _ = affinity::pin_to_processors(&[cpu]);
            if !keeps_capabilities {
                privileges::give_up_capabilities();
            }

            // Before READY the supervisor waits for notices alone, so a panic must become one.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                run(&mut || {
                    let _ = notices.send(Notice::Ready);
                })
            }));
            let result = result.unwrap_or(Err(CoreError::Panicked));
            let _ = notices.send(Notice::Ended { thread, result });
        })
        .map_err(system("starting a thread"))?;
    Ok(name)
}

fn watch_signals(
    notices: Sender<Notice>,
    reloads: SyncSender<ReloadRequest>,
) -> Result<(), ServerFailure> {
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2])
        .map_err(system("watching signals"))?;
    std::thread::Builder::new()
        .name("rb-signals".into())
        .spawn(move || forward_signals(signals, &notices, &reloads))
        .map(drop)
        .map_err(system("starting a thread"))
}

/// Hands each signal to the supervisor or to the thread that reloads, until the supervisor ends.
fn forward_signals(
    mut signals: Signals,
    notices: &Sender<Notice>,
    reloads: &SyncSender<ReloadRequest>,
) {
    let _watched = threads::watch_thread("rb-signals");
    for signal in signals.forever() {
        if signal == SIGHUP {
            // If the queue is full, the last reload in it reads the same configuration.
            let _ = reloads.try_send(None);
        } else if matches!(signal, SIGUSR1 | SIGUSR2) {
            // Other servers dump their state or reopen their logs on these signals: the sender
            // does not want to end this one.
            tracing::info!(
                "signal {signal} asks for nothing here: `ringboot status` tells what runs, and \
                 no log file is held open"
            );
        } else if notices.send(Notice::Signal).is_err() {
            return;
        }
    }
}

/// Notifies systemd, and prints one line on standard output for scripts. A thread prints it,
/// because the reader may be slow.
fn say_ready(line: String, status: &str) {
    let _ =
        sd_notify::notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(status)]);
    drop(std::thread::Builder::new().name("rb-ready".into()).spawn(move || {
        let mut out = io::stdout().lock();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_second_server_on_several_cores_is_refused_as_on_one() {
        let udp = |address, shared| {
            let fd = net::open_udp_socket(&SocketBinding { address, interface: None, shared })?;
            Ok((net::read_local_address(&fd)?, fd))
        };
        let tcp = |address, shared| {
            let listener = net::open_tcp_listener(address, shared)?;
            Ok((listener.local_addr()?, listener))
        };
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        for cores in 1..=3 {
            let group = bind_group(any_port, cores, udp).unwrap();
            assert!(group.len() == cores && group.iter().all(|one| one.0 == group[0].0));
            let second = bind_group(group[0].0, cores, udp).map(drop).unwrap_err();
            assert_eq!(second.raw_os_error(), Some(libc::EADDRINUSE), "TFTP on {cores} cores");
            let group = bind_group(any_port, cores, tcp).unwrap();
            let second = bind_group(group[0].0, cores, tcp).map(drop).unwrap_err();
            assert_eq!(second.raw_os_error(), Some(libc::EADDRINUSE), "HTTP on {cores} cores");
        }
    }
}
