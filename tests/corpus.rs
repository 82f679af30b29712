//! What the fuzzers have found stays found: each target runs over its corpus, and over seeded
//! damage of it, on every run of the tests.
//!
//! `SEED=n cargo test --test corpus` repeats the damage of one seed; a failing input is named.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use ringboot::model::random::SeededRandom;

#[path = "fuzz/targets/mod.rs"]
mod targets;

const CORPUS: &str = "tests/fuzz/corpus";
/// Damaged copies of each input, and inputs out of nothing but chance, for each target.
const ROUNDS: u64 = 40;
/// The most bytes of an input that is made here.
const BYTES_MAX: u64 = 4096;
/// Inputs out of nothing but chance for each part of TFTP, and their bytes: about a thousand
/// events.
const TFTP_ROUNDS: u64 = 300;
const TFTP_BYTES: u64 = 16 * 1024;

/// Every input of a target's corpus with its name, in the order of names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(CORPUS).join(target);
    let entries =
        fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut inputs: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        })
        .collect();
    inputs.sort();
    inputs
}

fn run(name: &str, target: targets::Target, input: &str, bytes: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(bytes))) {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-failing"));
        fs::write(&kept, bytes).unwrap();
        println!("{name} fails on {input}; its bytes are in {}", kept.display());
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let mut directories: Vec<String> = fs::read_dir(CORPUS)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    directories.sort();
    let names: Vec<&str> = targets::ALL.iter().map(|(name, _)| *name).collect();
    assert_eq!(directories, names, "in the order of names");
    for name in names {
        assert!(!corpus(name).is_empty(), "{CORPUS}/{name} is empty");
    }
}

#[test]
fn every_input_that_was_ever_found_is_harmless() {
    for &(name, target) in targets::ALL {
        let inputs = corpus(name);
        for (file, bytes) in &inputs {
            run(name, target, &format!("{CORPUS}/{name}/{file}"), bytes);
        }
        run(name, target, "nothing", b"");
    }
}

#[test]
fn damaged_inputs_are_harmless() {
    for seed in seeds(ROUNDS) {
        for &(name, target) in targets::ALL {
            let random = &mut SeededRandom::new(seed);
            for (file, bytes) in corpus(name) {
                run(
                    name,
                    target,
                    &format!("{file} damaged by SEED={seed}"),
                    &damaged(random, bytes),
                );
            }
            let length = random.below(BYTES_MAX);
            run(name, target, &format!("chance of SEED={seed}"), &chance(random, length));
        }
    }
}

#[test]
fn t6_no_packet_panics_the_parser() {
    try_chance("tftp_packet");
}

#[test]
fn t11_no_server_panics_a_client() {
    try_chance("tftp_client");
}

#[test]
fn t65_no_order_of_events_breaks_the_table_or_its_bounds() {
    try_chance("tftp_table");
}

/// Long inputs of nothing but chance against one target.
fn try_chance(name: &str) {
    let (_, target) = targets::ALL.iter().find(|(known, _)| *known == name).unwrap();
    for seed in seeds(TFTP_ROUNDS) {
        run(
            name,
            *target,
            &format!("chance of SEED={seed}"),
            &chance(&mut SeededRandom::new(seed), TFTP_BYTES),
        );
    }
}

/// So many, or the one that the environment names.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let only = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    only.map_or(0..count, |seed: u64| seed..seed + 1)
}

fn chance(random: &mut SeededRandom, length: u64) -> Vec<u8> {
    (0..length).map(|_| random.below(256).to_le_bytes()[0]).collect()
}

fn damaged(random: &mut SeededRandom, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..=random.below(4) {
        let at = usize::try_from(random.below(bytes.len() as u64 + 1)).unwrap();
        let byte = random.below(256).to_le_bytes()[0];
        match random.below(5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, byte),
            2 if at < bytes.len() => bytes[at] = byte,
            3 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            4 => bytes.extend_from_within(at..),
            _ => {}
        }
    }
    bytes
}
