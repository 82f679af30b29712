//! Power cut two hundred times under load, and a long day: what was promised is kept, and nothing
//! grows.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ringboot::model::machine::Mac;
use ringboot::model::random::SeededRandom;

use super::site::Site;

/// A server that lives for milliseconds offers at once, and asks nobody first.
const AT_ONCE: &str = "conflict-detection = false\nallow-other-servers = true";
/// kill -9 in one run.
const CUTS: u32 = 200;
/// Of each server before it is cut: from nothing to about the time of a boot.
const LIFE_MS_MAX: u64 = 150;
/// The fleet outlasts all cuts; what is left when they are over is a quiet server.
const FLEET: Duration = Duration::from_secs(100);
/// The long day without a flag.
const SOAK: Duration = Duration::from_secs(30);
/// What clients have left open is closed within so long.
const LET_GO: Duration = Duration::from_secs(60);
/// What a server may grow by between the first third and the end of the day, MB and descriptors.
const GROWTH_MB_MAX: u64 = 24;
const GROWTH_FILES_MAX: usize = 40;

/// What the database of a server that has ended holds. A copy is read, with its log: SQLite finds
/// its way to the real path, which is another disk.
fn rows(site: &Site) -> BTreeSet<(String, String)> {
    let copy = site.scratch.path().join("copy.db");
    for (part, copied) in [("ringboot.db", "copy.db"), ("ringboot.db-wal", "copy.db-wal")] {
        let part = site.disk().join(part);
        if part.exists() {
            std::fs::copy(part, site.scratch.path().join(copied)).unwrap();
        }
    }
    let connection = rusqlite::Connection::open(&copy).unwrap();
    let mut select = connection.prepare("SELECT mac, address FROM leases").unwrap();
    select
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

#[test]
fn two_hundred_power_cuts_lose_no_lease_and_double_none() {
    let seed = std::env::var("SEED").map_or(1, |seed| seed.parse().expect("SEED is a number"));
    let mut random = SeededRandom::new(seed);
    let mut site = Site::new("auto", AT_ONCE, |honest| honest.again(FLEET));
    let fleet = site.honest.start(Duration::from_secs(2));
    let begun = Instant::now();
    let mut cuts = 0;
    while cuts < CUTS && begun.elapsed() < FLEET {
        std::thread::sleep(Duration::from_millis(random.below(LIFE_MS_MAX)));
        if random.below(4) == 0 {
            site.process().signal("STOP");
            std::thread::sleep(Duration::from_millis(random.below(LIFE_MS_MAX)));
            site.process().signal("CONT");
        }
        site.kill();
        site.start();
        cuts += 1;
    }
    println!("SEED={seed}: {cuts} cuts in {:?}", begun.elapsed());
    let met = fleet.join().unwrap();
    let faults = site.witness.take_faults();
    assert!(faults.is_empty(), "SEED={seed}:\n{}\n{}", faults.join("\n"), site.log());
    assert_eq!(met.failed, 0, "SEED={seed}:\n{}\n{}", met.report, site.log());
    let acknowledged = site.witness.acknowledged();
    println!("{} boots, {acknowledged} leases acknowledged:\n{}", met.booted, met.report);
    assert!(acknowledged > u64::from(CUTS), "{acknowledged}");
    site.stop();
    let rows = rows(&site);
    let addresses: BTreeSet<&String> = rows.iter().map(|(_, address)| address).collect();
    assert_eq!(addresses.len(), rows.len(), "an address is held twice: {rows:?}");
    for (machine, address) in site.witness.holders() {
        let mac = Mac(*machine.first_chunk().unwrap()).to_string();
        assert!(
            rows.contains(&(mac.clone(), address.to_string())),
            "{mac} was told {address}, and the database does not know"
        );
    }
    assert!(cuts == CUTS, "only {cuts} cuts within {FLEET:?}: this machine is too slow for {CUTS}");
}

/// `RINGBOOT_SOAK_MINUTES=20 cargo test --test attack long_day` is a longer one.
#[test]
fn a_long_day_leaves_a_server_as_small_as_it_was() {
    let minutes = std::env::var("RINGBOOT_SOAK_MINUTES")
        .ok()
        .map(|minutes| minutes.parse().expect("minutes"));
    let time = minutes.map_or(SOAK, |minutes: u64| Duration::from_secs(60 * minutes));
    let mut site = Site::new("auto", AT_ONCE, |honest| honest.again(time));
    let fleet = site.honest.start(time / 10);
    let begun = Instant::now();
    let mut samples = Vec::new();
    while begun.elapsed() < time {
        std::thread::sleep(time / 60);
        samples.push(site.resources());
    }
    let met = fleet.join().unwrap();
    assert_eq!(met.failed, 0, "{}\n{}", met.report, site.log());
    let faults = site.witness.take_faults();
    assert!(faults.is_empty(), "{}\n{}", faults.join("\n"), site.log());
    let over = Instant::now();
    while site.transfers() > 0 {
        let transfers = site.transfers();
        assert!(over.elapsed() < LET_GO, "{transfers} transfers stand still\n{}", site.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    let third = &samples[samples.len() / 6..samples.len() / 3];
    let rest = &samples[samples.len() * 5 / 6..];
    let most = |of: &[(usize, u64)]| {
        (of.iter().map(|one| one.0).max().unwrap(), of.iter().map(|one| one.1).max().unwrap())
    };
    let (early, late) = (most(third), most(rest));
    println!(
        "{:?}: {} boots; descriptors and MB early {early:?}, late {late:?}\n{}",
        time, met.booted, met.report
    );
    assert!(late.0 <= early.0 + GROWTH_FILES_MAX, "descriptors {early:?} to {late:?}");
    assert!(late.1 <= early.1 + GROWTH_MB_MAX, "megabytes {early:?} to {late:?}");
    site.stop();
}
