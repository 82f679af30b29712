//! A seeded adversary: it mixes floods, forgeries, stalls and resets with troubles of the host,
//! around fifty honest machines.
//!
//! After each seed every honest machine has booted, no address has two holders, and the server is
//! as small as before. `SEED=n cargo test --test attack` repeats one seed;
//! `RINGBOOT_ATTACK_SEEDS=n` tries more than the usual ones of each datapath.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../common/mod.rs"]
mod common;

mod blows;
mod endurance;
mod faults;
mod site;

use std::time::{Duration, Instant};

use common::inside;
use common::wire::Wire;
use ringboot::model::random::SeededRandom;
use site::Site;

/// Seeds of each datapath, one after the other: what one leaves behind (leases, a clock that is
/// wrong) meets the next. So have those up to 39 found on epoll that a clock which was left wrong
/// doubled leases.
const SEEDS: u64 = 100;
/// Seeds that have found a fault; they go first.
const REMEMBERED: [u64; 0] = [];
/// How long one adversary strikes, and over how long the honest machines are switched on.
const ROUND: Duration = Duration::from_millis(1000);
/// Open descriptors of a server, at most, when the clients of a round have gone.
const DESCRIPTORS_MAX: usize = 400;
/// Megabytes of its own memory, at most.
const MEGABYTES_MAX: u64 = 400;
/// Descriptors of broken connections are closed within so long.
const SETTLED: Duration = Duration::from_secs(30);

fn seeds() -> Vec<u64> {
    if let Some(seed) =
        std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"))
    {
        return vec![seed];
    }
    let count = std::env::var("RINGBOOT_ATTACK_SEEDS")
        .map_or(SEEDS, |count| count.parse().expect("a number of seeds"));
    REMEMBERED.into_iter().chain(0..count).collect()
}

fn attack(datapath: &str) {
    let mut site = Site::new(datapath, "", |honest| honest);
    let stranger = site.net.client("52:54:00:c1:07:02");
    stranger.ip(&["addr", "add", "192.168.4.199/24", "dev", "eth0"]);
    stranger.ip(&["route", "add", "local", "192.168.4.208/28", "dev", "lo"]);
    let begun = Instant::now();
    let seeds = seeds();
    for &seed in &seeds {
        let mut random =
            SeededRandom::new(seed.wrapping_mul(2).wrapping_add(u64::from(datapath == "epoll")));
        let blows: Vec<blows::Blow> = (0..1 + random.below(4))
            .map(|_| blows::ALL[usize::try_from(random.below(blows::ALL.len() as u64)).unwrap()])
            .collect();
        let fault = faults::ALL[usize::try_from(random.below(faults::ALL.len() as u64)).unwrap()];
        let what = format!("SEED={seed} on {datapath}: {blows:?} beside {fault:?}");
        let until = Instant::now() + ROUND;
        let strikes: Vec<_> = blows
            .iter()
            .map(|&blow| {
                let wire = Wire::open(stranger.name(), "eth0");
                let random = SeededRandom::new(random.next_number());
                inside::start(stranger.name(), move || {
                    blows::Adversary { wire: &wire, random, until }.strike(blow)
                })
            })
            .collect();
        // Machines that keep their addresses show in the rounds that follow whether anybody else is
        // given them.
        site.honest.keep_leases(random.below(4) > 0);
        let honest = site.honest.start(ROUND);
        std::thread::sleep(Duration::from_millis(random.below(400)));
        fault.happen(&mut site, datapath, &mut random);
        for strike in strikes {
            strike.join().unwrap_or_else(|_| panic!("{what}: the adversary fails"));
        }
        let met = honest.join().unwrap();
        let faults = site.witness.take_faults();
        assert!(faults.is_empty(), "{what}:\n{}\n{}", faults.join("\n"), site.log());
        assert_eq!(met.failed, 0, "{what}:\n{}\n{}", met.report, site.log());
        let settling = Instant::now();
        while let (descriptors, megabytes) = site.resources()
            && (descriptors > DESCRIPTORS_MAX || megabytes > MEGABYTES_MAX || descriptors == 0)
        {
            let words =
                format!("{descriptors} descriptors, {megabytes} MB after {:?}", settling.elapsed());
            assert!(
                settling.elapsed() < SETTLED && descriptors > 0,
                "{what}: {words}\n{}",
                site.log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    println!(
        "{datapath}: {} seeds in {:?}, {} leases acknowledged, in the end {:?} (descriptors, MB)",
        seeds.len(),
        begun.elapsed(),
        site.witness.acknowledged(),
        site.resources()
    );
    site.stop();
}

#[test]
fn honest_machines_outlast_an_adversary_on_io_uring() {
    attack("io_uring");
}

#[test]
fn honest_machines_outlast_an_adversary_on_epoll() {
    attack("epoll");
}
