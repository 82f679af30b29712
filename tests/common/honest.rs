//! Fifty honest machines beside whatever a test does to the server: they lease, load by TFTP and
//! HTTP, and time each step.
//!
//! They come one after the other, evenly over the run, so that they measure the server and never
//! load it.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ringboot::fleet::{
    ArrivalPattern, ContentMap, ContentProof, DhcpAccess, DhcpRoute, ExpectedContent, Fleet,
    FleetPace, FleetPlan, FleetProgress, FleetReport, MachineRole, ScenarioStep, StepRequest,
    WireSettings,
};
use ringboot::tftp::client::ClientBehaviour;

use super::inside;
use super::net::{Client, Net, SERVER};
use super::process::run;

/// How many there are.
pub const MACHINES: u32 = 50;
/// A loader by TFTP, and small and middling files by HTTP: names under the root, and bytes.
const FILES: [(&str, u64); 3] =
    [("honest/loader", 64 * 1024), ("honest/menu", 4 * 1024), ("honest/kernel", 1024 * 1024)];
/// One step without any progress for so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Rounds in which a server is judged.
const ROUNDS_MAX: usize = 3;
/// Of a pause in which nothing is measured: what is faster than this counts as this, so that a
/// ratio means something.
const FLOOR: Duration = Duration::from_millis(5);

/// The machines' side of the network: a namespace that owns 192.168.4.0 to .127, pool included.
pub struct Honest {
    client: Client,
    is_leasing: bool,
    pace: FleetPace,
    /// Machines boot again and again for so long.
    again: Option<Duration>,
    /// No address is given back at the end of a run.
    keeps_leases: bool,
}

/// What the machines met in one run.
#[derive(Debug)]
pub struct Met {
    /// Boots that came to their end, and those that did not.
    pub booted: u32,
    pub failed: u32,
    /// 99th percentile of each step, by the name that reports print.
    pub p99: Vec<(&'static str, Duration)>,
    /// The run as the load generator prints it, for failed tests.
    pub report: FleetReport,
}

impl Honest {
    /// Machines on the server's bridge that lease an address for each boot.
    pub fn new(net: &Net) -> Self {
        let client = net.client("52:54:00:c1:07:01");
        client.ip(&["addr", "add", "192.168.4.126/24", "dev", "eth0"]);
        client.ip(&["route", "add", "local", "192.168.4.0/25", "dev", "lo"]);
        super::need(&[("nft", "nftables")]);
        let mut honest = client.command("nft");
        // An address is in use while its machine has it; the namespace answers for all of them,
        // also to the question whether it is.
        honest.args(["add table arp honest; add chain arp honest input { type filter hook input \
                      priority 0 ; }; add rule arp honest input arp saddr ip 0.0.0.0 drop"]);
        run(honest, PATIENCE).ok();
        Self {
            client,
            is_leasing: true,
            again: None,
            keeps_leases: false,
            pace: FleetPace { haste: 1, idle_waits: false, gives_up: true, patience: PATIENCE },
        }
    }

    /// The same, for a server without DHCP.
    pub fn without_dhcp(net: &Net) -> Self {
        Self { is_leasing: false, ..Self::new(net) }
    }

    /// The same machines, which begin again what failed, for so long: they outlast a server that is
    /// killed and started again.
    pub fn stubborn(self, patience: Duration) -> Self {
        Self { pace: FleetPace { haste: 8, idle_waits: false, gives_up: false, patience }, ..self }
    }

    /// The same machines, which boot again and again for so long and give no address back.
    pub fn again(self, time: Duration) -> Self {
        Self { again: Some(time), keeps_leases: true, ..self }
    }

    /// From now on the machines keep their addresses over runs, or give them back.
    pub fn keep_leases(&mut self, keeps_leases: bool) {
        self.keeps_leases = keeps_leases;
    }

    /// Writes what the machines load into the server's root.
    pub fn lay_out(root: &std::path::Path) {
        contents().write_below(root).expect("files below the root");
    }

    /// Switches the machines on, evenly over this time, and returns when the last has booted or
    /// given up.
    pub fn run(&self, time: Duration) -> Met {
        self.start(time).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// The same beside something that lasts, until no step's p99 is more than so many times what it
    /// was. What a server does wrong it does in every round; other programs of this computer
    /// disturb one now and then.
    pub fn run_no_worse(&self, time: Duration, before: &Met, times: u32) -> Met {
        for _ in 1..ROUNDS_MAX {
            let met = self.run(time);
            match met.worse(before, times) {
                None => return met,
                Some(worse) => eprintln!("once more, because {worse}:\n{}", met.report),
            }
        }
        let met = self.run(time);
        met.assert_no_worse(before, times);
        met
    }

    /// The same, without waiting for them.
    pub fn start(&self, time: Duration) -> JoinHandle<Met> {
        let plan = self.plan(time);
        inside::start(self.client.name(), move || {
            let report = Fleet::new(plan).run(&Arc::<FleetProgress>::default()).expect("a fleet");
            let p99 = report
                .steps()
                .map(|(name, times)| (name, Duration::from_micros(times.value_at_quantile(0.99))));
            Met { booted: report.booted, failed: report.failed(), p99: p99.collect(), report }
        })
    }

    fn plan(&self, time: Duration) -> FleetPlan {
        let server = |port| SocketAddrV4::new(SERVER.parse().unwrap(), port);
        let step = |request, repeat| ScenarioStep { request, repeat };
        let http = |(path, _): (&str, u64)| StepRequest::Http {
            path: format!("/{path}"),
            keep: false,
            range: None,
        };
        let [loader, menu, kernel] = FILES;
        let tftp = StepRequest::Tftp { name: loader.0.into(), behaviour: ClientBehaviour::edk2() };
        let mut steps = vec![step(tftp, 2), step(http(menu), 4), step(http(kernel), 1)];
        if self.is_leasing {
            steps.insert(0, step(StepRequest::Dhcp, 1));
        }
        FleetPlan {
            machines: MACHINES,
            roles: vec![MachineRole::stepping(1, steps)],
            arrival: ArrivalPattern::Ramp(time),
            duration: self.again,
            within: None,
            warm_up: Duration::ZERO,
            lessor: self.is_leasing.then(|| DhcpAccess {
                way: DhcpRoute::Link { interface: "eth0".into() },
                keeps_leases: self.keeps_leases,
            }),
            tftp: server(69).into(),
            http: server(80).into(),
            pick: String::new(),
            contents: contents(),
            pace: self.pace,
            wire: WireSettings {
                verify: ContentProof::Full,
                sources: Some("192.168.4.0/25".parse().unwrap()),
                ..WireSettings::default()
            },
            seed: 1,
        }
    }
}

impl Met {
    /// Fails the test unless every machine booted as before, and no step's p99 is more than so many
    /// times what it was.
    pub fn assert_no_worse(&self, before: &Self, times: u32) {
        if let Some(worse) = self.worse(before, times) {
            panic!("{worse}; before:\n{}\nnow:\n{}", before.report, self.report);
        }
    }

    /// What is worse than so many times what it was.
    fn worse(&self, before: &Self, times: u32) -> Option<String> {
        assert_eq!(
            (before.failed, self.failed),
            (0, 0),
            "before:\n{}\nnow:\n{}",
            before.report,
            self.report
        );
        assert!(
            self.booted > 0 && before.booted > 0,
            "before:\n{}\nnow:\n{}",
            before.report,
            self.report
        );
        self.p99.iter().zip(&before.p99).find_map(|((name, now), (same, then))| {
            assert_eq!(name, same);
            let most = (*then).max(FLOOR) * times;
            (*now > most).then(|| format!("{name}: p99 {now:?}, before {then:?}, at most {most:?}"))
        })
    }
}

fn contents() -> ContentMap {
    let mut contents = ContentMap::default();
    for (name, octets) in FILES {
        contents.insert(name, ExpectedContent::Generated { seed: octets, octets });
    }
    contents
}
