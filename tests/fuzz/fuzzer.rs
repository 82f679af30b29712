//! One program for all fuzz targets: the environment variable FUZZ_TARGET names the one that it
//! runs.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

mod targets;

fn chosen() -> targets::Target {
    static CHOSEN: OnceLock<targets::Target> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let found = targets::ALL.iter().find(|(known, _)| *known == name);
        let names: Vec<&str> = targets::ALL.iter().map(|(name, _)| *name).collect();
        found.unwrap_or_else(|| panic!("FUZZ_TARGET={name:?} is none of {}", names.join(", "))).1
    })
}

fuzz_target!(|bytes: &[u8]| chosen()(bytes));
