//! Whole transfers between firmware models and the server's table, over a network that loses,
//! copies and reorders.
//!
//! Every run follows from a seed; a failing one prints it, and `SEED=n cargo test --test sim` runs
//! it alone.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::print_stdout)]

mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use ringboot::model::random::SeededRandom;
use ringboot::tftp::client::{AskedOption, ClientBehaviour, ClientOutcome, OutOfOrderPolicy};
use ringboot::tftp::limits::{MILLISECOND, SECOND};
use ringboot::tftp::table::{TftpPolicy, TransferOutcome as Ending};

use self::world::{File, Ring, Weather, World, calm, completed, pick};

/// Worlds in the general run.
const SEEDS: u64 = 10_000;
/// Virtual time in which a small world must have come to rest.
const HOUR: u64 = 3600 * SECOND;

fn firmware() -> Vec<ClientBehaviour> {
    vec![
        ClientBehaviour::edk2(),
        ClientBehaviour::shim(),
        ClientBehaviour::ipxe(),
        ClientBehaviour::grub(),
        ClientBehaviour::pxelinux(),
        ClientBehaviour::uboot(1),
        ClientBehaviour::uboot(16),
        ClientBehaviour::pi3(),
        ClientBehaviour::pi4(),
        ClientBehaviour::generic(1468, 32),
    ]
}

/// Runs `world` for every seed, or for `SEED` alone.
fn for_seeds(name: &str, seeds: u64, world: fn(u64)) {
    let only = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    let range = only.map_or(0..seeds, |seed: u64| seed..seed + 1);
    for seed in range {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world(seed))) {
            println!("failed: SEED={seed} cargo test --test sim {name}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// A length that is likely to be odd in some way for blocks of these sizes.
fn odd_length(random: &mut SeededRandom) -> u64 {
    let block = pick(random, &[512, 1024, 1408, 1432, 1468]);
    let exact = block * random.below(24);
    (exact + pick(random, &[0, 1, block - 1, 7])).min(40_000)
}

fn any_world(seed: u64, weather: Weather) -> World {
    let mut random = SeededRandom::new(seed ^ 0x5eed);
    let policy = TftpPolicy { tids: pick(&mut random, &[16, 16, 2, 0]), ..TftpPolicy::default() };
    let mut world = World::new(seed, weather, policy);
    for _ in 0..=random.below(3) {
        let file = (random.below(12) > 0).then(|| File { len: odd_length(&mut random) });
        world.boot(pick(&mut random, &firmware()), file);
    }
    world
}

#[test]
fn t44_every_firmware_gets_its_file_in_bad_weather() {
    for_seeds("t44", SEEDS, |seed| {
        let mut random = SeededRandom::new(seed);
        let weather = Weather {
            loss_percent: pick(&mut random, &[0, 1, 5, 10]),
            duplicate_percent: pick(&mut random, &[0, 0, 5, 20]),
            delay: pick(&mut random, &[MILLISECOND / 10, MILLISECOND, 20 * MILLISECOND]),
            jitter: pick(&mut random, &[0, 0, MILLISECOND, 10 * MILLISECOND]),
            parked_percent: pick(&mut random, &[0, 0, 0, 10]),
            opening: pick(&mut random, &[0, MILLISECOND, 300 * MILLISECOND]),
            ..Weather::default()
        };
        let mut world = any_world(seed, weather);
        world.run(HOUR);
        for machine in &world.machines {
            let outcome = machine.client.outcome();
            assert!(completed(machine), "{}: {outcome:?} in {weather:?}", machine.behaviour);
        }
    });
}

#[test]
fn t42_in_a_storm_both_sides_end_and_no_octet_is_wrong() {
    for_seeds("t42", SEEDS / 10, |seed| {
        let weather =
            Weather { loss_percent: 45, duplicate_percent: 20, jitter: 50 * MILLISECOND, ..calm() };
        let mut world = any_world(seed, weather);
        world.run(HOUR);
        for machine in &world.machines {
            let gave_up = machine.client.outcome() == Some(ClientOutcome::TimedOut);
            // A server that has given up, or lost its session to a late copy of the request, says
            // so by ERROR.
            let told =
                matches!(machine.client.outcome(), Some(ClientOutcome::Refused { code: 0 | 5 }));
            assert!(
                completed(machine) || gave_up || told,
                "{}: {:?}",
                machine.behaviour,
                machine.client.outcome()
            );
        }
    });
}

#[test]
fn t27_without_loss_nothing_is_sent_twice() {
    for_seeds("t27", SEEDS / 10, |seed| {
        let mut world = any_world(seed, calm());
        world.run(HOUR);
        for (ending, _, retransmits) in &world.endings {
            let fine =
                matches!(ending, Ending::Complete | Ending::SizeProbe | Ending::Refused { .. });
            assert!(fine && *retransmits == 0, "{ending:?}, {retransmits} sent again");
        }
    });
}

#[test]
fn t27_copies_of_acks_do_not_copy_data_in_lockstep() {
    for_seeds("t27_copies", SEEDS / 20, |seed| {
        let weather = Weather { duplicate_percent: 100, jitter: MILLISECOND, ..calm() };
        let mut world = World::new(seed, weather, TftpPolicy::default());
        let firmware = [
            ClientBehaviour::ipxe(),
            ClientBehaviour::grub(),
            ClientBehaviour::pxelinux(),
            ClientBehaviour::pi3(),
        ];
        world.boot(pick(&mut SeededRandom::new(seed), &firmware), Some(File { len: 30_000 }));
        world.run(HOUR);
        assert!(completed(&world.machines[0]));
        let (_, bytes_sent, _) = world.endings[0];
        assert_eq!(bytes_sent, 30_000);
    });
}

/// Recovery from one lost block must not leave every later window sent twice.
#[test]
fn t35_one_loss_costs_a_window_and_not_the_transfer() {
    for_seeds("t35", SEEDS / 10, |seed| {
        let mut random = SeededRandom::new(seed);
        let weather =
            Weather { drop_blocks: [1 + random.below(180), 1 + random.below(180)], ..calm() };
        let mut world = World::new(seed, weather, TftpPolicy::default());
        world.boot(
            pick(
                &mut random,
                &[ClientBehaviour::edk2(), ClientBehaviour::shim(), ClientBehaviour::uboot(16)],
            ),
            Some(File { len: 180 * 512 }),
        );
        world.run(HOUR);
        assert!(completed(&world.machines[0]));
        let retransmits: u64 = world.endings.iter().map(|(_, _, retransmits)| *retransmits).sum();
        assert!(retransmits <= 4 * 16, "{retransmits} blocks sent again for two lost ones");
    });
}

#[test]
fn t38_rollover_survives_a_loss_at_each_place() {
    let tell =
        [OutOfOrderPolicy::AckLast, OutOfOrderPolicy::AckGapOnce, OutOfOrderPolicy::AckOldOnly];
    for (window, unexpected) in
        [(1, tell[0]), (1, tell[1]), (4, tell[0]), (8, tell[2]), (32, tell[1])]
    {
        for lost in [65534, 65535, 65536, 65537] {
            let weather = Weather { drop_blocks: [lost, lost + 1], drop_ack: Some(lost), ..calm() };
            let mut world = World::new(lost, weather, TftpPolicy::default());
            let asks =
                vec![AskedOption::Blksize(8), AskedOption::Windowsize(window), AskedOption::Tsize];
            world.boot(
                ClientBehaviour { asks, unexpected, ..ClientBehaviour::uboot(1) },
                Some(File { len: 65_560 * 8 + 3 }),
            );
            world.run(HOUR);
            assert!(
                completed(&world.machines[0]),
                "window {window}, {lost} lost: {:?}",
                world.machines[0].client.outcome()
            );
        }
    }
}

/// 512-byte blocks past 65535, and blocks of 8 past 131071, in weather.
#[test]
fn t25_long_files_arrive_whole_in_weather() {
    let windy = Weather { loss_percent: 1, duplicate_percent: 1, jitter: MILLISECOND, ..calm() };
    // U-Boot, which tells of no gap here (T-39), would never see a window in order in the wind.
    let still = Weather { jitter: 0, ..windy };
    let tiny = ClientBehaviour {
        asks: vec![AskedOption::Blksize(8), AskedOption::Windowsize(32)],
        ..ClientBehaviour::shim()
    };
    let tinier = ClientBehaviour { unexpected: OutOfOrderPolicy::AckGapOnce, ..tiny.clone() };
    let cases = [
        (ClientBehaviour::shim(), 66_000 * 512, windy),
        (tiny, 140_000 * 8 + 1, windy),
        (tinier, 70_000 * 8, still),
        (ClientBehaviour::pi3(), 65_536 * 512, windy),
    ];
    for (seed, (behaviour, len, weather)) in (0..).zip(cases) {
        let mut world = World::new(seed, weather, TftpPolicy::default());
        world.boot(behaviour, Some(File { len }));
        world.run(100 * HOUR);
        assert!(
            completed(&world.machines[0]),
            "{}: {:?}",
            world.machines[0].behaviour,
            world.machines[0].client.outcome()
        );
    }
}

/// A card that loses what comes back to back beyond its ring. Without shorter bursts every window
/// waits for a timer, the server's or the client's: the same five take 63 s to 305 s.
#[test]
fn t40_a_receiver_that_drops_back_to_back_frames_gets_its_file_in_a_fraction_of_the_time() {
    for (behaviour, frames) in [
        (ClientBehaviour::uboot(16), 4),
        (ClientBehaviour::uboot(32), 8),
        (ClientBehaviour::uboot(8), 1),
        (ClientBehaviour::generic(1468, 32), 6),
        (ClientBehaviour::edk2(), 2),
    ] {
        let ring = Some(Ring { frames, each: MILLISECOND / 5 });
        let blocks = 60 * frames;
        let mut world = World::new(frames, Weather { ring, ..calm() }, TftpPolicy::default());
        world.boot(behaviour, Some(File { len: blocks * 1468 }));
        world.run(HOUR);
        let machine = &world.machines[0];
        assert!(
            completed(machine),
            "{} with {frames}: {:?}",
            machine.behaviour,
            machine.client.outcome()
        );
        assert!(
            world.over < 15 * SECOND,
            "{} with {frames}: {} ms",
            machine.behaviour,
            world.over / MILLISECOND
        );
    }
}

/// The same card where the window fits it: no burst is ever cut.
#[test]
fn t40_a_window_that_fits_the_ring_needs_no_pause() {
    for window in [1, 4, 16] {
        let ring = Some(Ring { frames: 16, each: MILLISECOND / 50 });
        let mut world = World::new(1, Weather { ring, ..calm() }, TftpPolicy::default());
        world.boot(ClientBehaviour::generic(1468, window), Some(File { len: 1468 * 4000 }));
        world.run(HOUR);
        assert!(completed(&world.machines[0]));
        assert_eq!(world.endings[0].2, 0, "nothing is sent twice");
        let lockstep = 4000 * (MILLISECOND / 50 + 2 * calm().delay);
        assert!(world.over < lockstep + SECOND / 10, "{} ms", world.over / MILLISECOND);
    }
}

/// A lone booting machine on a good network: no wait on a timer anywhere.
#[test]
fn t45_a_calm_network_needs_no_timer() {
    for behaviour in firmware() {
        let mut world = World::new(1, calm(), TftpPolicy::default());
        world.boot(behaviour, Some(File { len: 100_000 }));
        world.run_machines(SECOND);
        assert!(completed(&world.machines[0]));
        assert!(
            world.now < SECOND / 2,
            "{}: {} ms",
            world.machines[0].behaviour,
            world.now / MILLISECOND
        );
    }
}
