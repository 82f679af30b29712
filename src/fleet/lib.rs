//! Simulated machines for demo and loadtest: each uses DHCP, TFTP and HTTP as its firmware does,
//! and checks every byte.
//!
//! A fleet runs on one thread; its machines share only receive buffers, a DHCP socket for each
//! rack, and TFTP sockets. Machines reach the DHCP server as if behind relay agents (giaddr, option
//! 82), which needs no privilege if the answers come to the agent's own port (RFC 8357), or as
//! stations on the wire. On loopback and over a private link each machine then uses its leased
//! address.
//!
//! ```
//! use std::time::Duration;
//!
//! assert_eq!(ringboot_fleet::parse_duration("1.5m"), Ok(Duration::from_secs(90)));
//! assert!(ringboot_fleet::parse_duration("soon").is_err());
//! ```
#![forbid(unsafe_code)]

mod arrival;
mod audit;
mod clients;
mod content;
mod failure;
pub mod limits;
mod machine;
mod measure;
mod models;
mod net;
mod pace;
mod plan;
mod private;
mod report;
mod requests;
mod run;
mod scenario;
mod schedule;
mod site;
mod veth;
pub mod walk;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::{JoinSet, LocalSet, spawn_local};

use measure::progress::run_counting_retries;
use measure::watch::FleetWatch;
use net::context::FleetContext;
use net::release;
use ringboot_io::engine::open_files::raise_open_files;
use ringboot_io::engine::timer::TaskTimer;
use run::FleetRun;
use schedule::ExchangeSchedule;
use site::FleetSite;

pub use arrival::{ArrivalPattern, parse_duration};
pub use audit::LeaseAudit;
pub use clients::lease::MachineLease;
pub use content::{ContentMap, ExpectedContent};
pub use failure::BootFailure;
pub use measure::line::AskedProtocol;
pub use measure::pressure::RunPressure;
pub use measure::progress::{ClientOddity, FleetProgress, ServerRefusal, TftpQueue};
pub use measure::series::{CountSeries, SeriesBucket};
pub use measure::silence::LongestSilence;
pub use measure::times::DhcpAnswerTimes;
pub use models::FirmwareModel;
pub use net::impair::NetworkImpairment;
pub use net::lessor::{DhcpAccess, DhcpRoute};
pub use net::wire::{ContentProof, WireSettings};
pub use pace::FleetPace;
pub use plan::{FleetPlan, ServerAddresses};
pub use private::{ImageSizes, NoPrivateServer, PrivateServer, ServerSetting};
pub use report::{
    BootRecord, CauseTally, FailedMachine, FleetReport, PrettyMicroseconds, StageTimes,
};
pub use scenario::{MachineRole, RoleTask, Scenario, ScenarioError, ScenarioStep, StepRequest};
pub use schedule::ArrivalRate;
pub use veth::{LinkRate, NoLink, VethLink};

/// A number of machines, ready to be switched on.
#[derive(Debug)]
pub struct Fleet {
    plan: FleetPlan,
}

impl Fleet {
    /// A fleet that will run by this plan.
    pub fn new(plan: FleetPlan) -> Self {
        Self { plan }
    }

    /// Switches the machines on by their arrival, and returns when the last of them has booted or
    /// given up, or the run was interrupted. By then the fleet has released all addresses, unless
    /// the plan keeps them.
    pub fn run(&self, progress: &Arc<FleetProgress>) -> io::Result<FleetReport> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, self.boot_all(progress))
    }

    /// Asks the server for every address again, as machines do after a reboot, and compares
    /// (INIT-REBOOT, RFC 2131 section 3.2).
    pub fn audit(&self, report: &FleetReport) -> io::Result<LeaseAudit> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, async {
            let site = self.make_site(&Arc::new(FleetProgress::default()))?;
            Ok(audit::audit_leases(site.make_machines(), report).await)
        })
    }

    async fn boot_all(&self, progress: &Arc<FleetProgress>) -> io::Result<FleetReport> {
        self.ensure_sockets()?;
        let mut site = self.make_site(progress)?;
        let timer = TaskTimer::new()?;

        // The time of the run begins when the relay agents' sockets are open: opening them is in no
        // figure.
        let run = FleetRun::begin(&self.plan);
        site.schedules = self.make_schedules(&run)?;
        let watch = FleetWatch::begin(run.started, progress);
        let warming = spawn_local(run.clone().warm_up(Rc::clone(&site.context)));

        // An interrupt drops the future of `play`, which ends all machines at once.
        let interrupted = tokio::select! {
            () = self.switch_machines_on(&site, &run, &timer) => false,
            () = progress.wait_for_interrupt() => true,
        };
        warming.abort();
        let mut report = run.report.replace(FleetReport::new(0, run.started));
        report.interrupted = interrupted;

        // All segments share one ledger, so the first one knows every doubled address. It may have
        // been doubled long after the first of the two machines booted: only now are all known.
        if let Some(segment) = site.segments.first() {
            segment
                .list_doubled()
                .into_iter()
                .for_each(|machine| report.blame_machine(machine, &BootFailure::AddressDoubled));
        }
        if interrupted {
            report.leave_out_unfinished();
        }
        report.finish();
        report.close_run(run.started.elapsed(), progress);

        // Measuring ends before the addresses are released: RELEASEs are in no figure.
        let seen = watch.end();
        let never_begun = site
            .schedules
            .iter()
            .flatten()
            .map(|schedule| schedule.never_begun(Instant::now()))
            .sum();
        let waited = site.schedules.iter().flatten().map(|schedule| schedule.count_late()).sum();
        report.pressure = RunPressure {
            never_begun,
            waited,
            ..RunPressure::read(progress, &seen, self.count_sources())
        };
        report.series = seen.series;
        report.checked = progress.unchecked_bytes() == 0;
        report.dhcp_times = site.context.dhcp_times.take();
        let seen = ClientOddity::ALL.map(|oddity| (oddity, progress.count_oddities(oddity)));
        report.oddities = seen.into_iter().filter(|(_, times)| *times > 0).collect();
        if self.plan.lessor.as_ref().is_some_and(|lessor| !lessor.keeps_leases) {
            report.released = release::release_leases(
                &site.segments,
                site.segments.first().map_or(0.0, |one| one.rate()),
            )
            .await;
        }
        Ok(report)
    }

    /// Switches machines on by their arrival, until all have ended. If the future is dropped, all
    /// end at once.
    async fn switch_machines_on(&self, site: &FleetSite<'_>, run: &FleetRun, timer: &TaskTimer) {
        let mut running = JoinSet::new();
        for (machine, at) in
            site.make_machines().zip(self.plan.arrival.times(self.plan.machines, self.plan.seed))
        {
            let due = run.started + at;
            if run.until.is_some_and(|until| due >= until) {
                break;
            }
            if Instant::now() < due {
                timer.wait_until(due).await;
            }
            running.spawn_local(run_counting_retries(machine.run_boots(run.clone(), due)));
        }
        // A machine whose task panicked counts as failed: it is one of `machines` and not of
        // `booted`.
        while running.join_next().await.is_some() {}
    }

    /// The schedule of each role with a rate.
    fn make_schedules(&self, run: &FleetRun) -> io::Result<Vec<Option<Rc<ExchangeSchedule>>>> {
        let mut schedules = Vec::with_capacity(self.plan.roles.len());
        for (number, role) in (0..).zip(&self.plan.roles) {
            let Some(rate) = role.rate else {
                schedules.push(None);
                continue;
            };
            let seed = self.plan.seed.wrapping_add(number);
            let schedule = Rc::new(ExchangeSchedule::new(rate, run.started, run.until, seed)?);
            spawn_local(Rc::clone(&schedule).keep_time());
            schedules.push(Some(schedule));
        }
        Ok(schedules)
    }

    /// Returns an error before the run if this process may not have enough sockets.
    fn ensure_sockets(&self) -> io::Result<()> {
        let files = raise_open_files()?;
        let owned = self.own_addresses();
        let each = if owned {
            limits::FILES_PER_MACHINE
        } else {
            limits::FILES_PER_MACHINE_WITHOUT_ADDRESS
        };
        let fetches = self.plan.roles.iter().any(|role| role.does.fetches_files());
        let needed =
            if fetches { u64::from(self.plan.machines) * each } else { 0 } + limits::FILES_RESERVED;
        if files >= needed {
            return Ok(());
        }
        let machines = self.plan.machines;
        Err(io::Error::other(format!(
            "{machines} machines need {needed} open files, the limit is {files} (ulimit -Hn)"
        )))
    }

    /// What the machines share, with the sockets of relay agents.
    fn make_site(&self, progress: &Arc<FleetProgress>) -> io::Result<FleetSite<'_>> {
        let FleetPlan { machines, lessor, tftp, pace, contents, wire, seed, .. } = &self.plan;
        let context = FleetContext::new(*tftp, contents.clone(), *pace, Arc::clone(progress));
        let context = Rc::new(context.with_wire(wire.clone(), *seed));
        let segments = match lessor {
            Some(lessor) => lessor.open(&context, *machines, *seed)?,
            None => Vec::new(),
        };
        Ok(FleetSite { plan: &self.plan, context, segments, schedules: Vec::new() })
    }

    /// Whether machines have their own addresses on this host: never with IPv6.
    fn own_addresses(&self) -> bool {
        let FleetPlan { wire, tftp, .. } = &self.plan;
        tftp.is_ipv4() && (wire.sources.is_some() || tftp.ip().is_loopback())
    }

    /// The number of source addresses: one for each machine if this host has them.
    fn count_sources(&self) -> u32 {
        if self.own_addresses() { self.plan.machines } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
    use std::time::Duration;

    use super::*;

    /// A server that gives every client 127.77.16.1, and counts RELEASEs until it has had this many
    /// messages.
    fn careless_server(messages: usize) -> (SocketAddrV4, std::thread::JoinHandle<usize>) {
        const RELEASE: u8 = 7;
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let served = std::thread::spawn(move || {
            let mut packet = [0; 1500];
            let mut releases = 0;
            for _ in 0..messages {
                let (octets, from) = socket.recv_from(&mut packet).unwrap();
                let kind = packet[242];
                releases += usize::from(kind == RELEASE);
                if kind != RELEASE {
                    packet[0] = 2;
                    packet[16..20].copy_from_slice(&[127, 77, 16, 1]);
                    packet[242] = if kind == 1 { 2 } else { 5 };
                    socket.send_to(&packet[..octets], from).unwrap();
                }
            }
            releases
        });
        (SocketAddrV4::new(Ipv4Addr::LOCALHOST, port), served)
    }

    #[test]
    fn two_machines_with_one_address_have_both_failed_and_both_give_it_back() {
        let (server, served) = careless_server(2 * 3);
        let agent = SocketAddrV4::new(Ipv4Addr::new(127, 77, 0, 2), 0);
        let nowhere = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9);
        let steps = vec![ScenarioStep { request: StepRequest::Dhcp, repeat: 1 }];
        let plan = FleetPlan {
            machines: 2,
            roles: vec![MachineRole::stepping(1, steps)],
            arrival: ArrivalPattern::All,
            duration: None,
            within: None,
            warm_up: Duration::ZERO,
            lessor: Some(DhcpAccess::new(DhcpRoute::Relay { agent, server })),
            tftp: nowhere.into(),
            http: nowhere.into(),
            pick: String::new(),
            contents: ContentMap::default(),
            pace: FleetPace {
                haste: 1,
                idle_waits: false,
                gives_up: false,
                patience: limits::PATIENCE,
            },
            wire: WireSettings::default(),
            seed: 1,
        };
        let report = Fleet::new(plan).run(&Arc::default()).unwrap();
        assert_eq!((report.booted, report.failed(), report.released), (0, 2, 2));
        let causes: Vec<_> = report.failures.into_iter().collect();
        let [((cause, stage), failed)] = &causes[..] else { panic!("{causes:?}") };
        assert_eq!(
            (cause, *stage),
            (
                &BootFailure::AddressDoubled.to_string(),
                ringboot_observe::events::MachineStage::Dhcp
            )
        );
        assert_eq!(failed.machines, 2);
        assert_eq!(served.join().unwrap(), 2);
    }
}
