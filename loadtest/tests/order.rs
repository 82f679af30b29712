//! Storms over a link that is slower than the server: machines get their files one after another,
//! in the order of their requests, and nobody starves. The tests make network namespaces: run
//! them as root.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::process::Command;

use serde_json::Value;

/// Boots `clients` machines with this step over a link, and returns the report.
fn boot_over(link: &str, clients: usize, file: &str, step: &str) -> Value {
    let scratch = tempfile::tempdir().unwrap();
    let (scenario, report) = (scratch.path().join("storm.toml"), scratch.path().join("report"));
    let text = format!(
        "clients = {clients}\n[files]\n\"initrd.img\" = \"{file}\"\n\
         [[machine]]\nsteps = [{{ {step} }}]\n"
    );
    fs::write(&scenario, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["--link", link, "--yes", "--scenario"])
        .arg(&scenario)
        .arg("--json")
        .arg(&report)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap()
}

/// Judges a report. With equal shares all machines end together with the last one.
fn assert_in_order(what: &str, report: &Value) {
    let machines = report["machines"].as_array().unwrap();
    let ends: Vec<u64> = machines.iter().map(|machine| machine[1].as_u64().unwrap()).collect();
    let (median, last) = (median_of(&ends), *ends.iter().max().unwrap());
    assert!(median * 4 < last * 3, "{what}: the median machine ends at {median} of {last} us");
    // The report names machines in the order of their power-on.
    let third = ends.len() / 3;
    let (first, late) = (median_of(&ends[..third]), median_of(&ends[ends.len() - third..]));
    assert!(first * 4 < late * 3, "{what}: early machines end at {first}, late ones at {late} us");
    // A machine that waits in vain asks again after a second or more.
    assert_eq!(report["summary"]["retries"], 0, "{what}: {}", report["stages"]);
    assert_eq!(report["summary"]["failed"], 0, "{what}: {}", report["failures"]);
}

fn median_of(times: &[u64]) -> u64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn over_a_full_link_windows_of_tftp_reach_one_machine_after_another() {
    let step = "tftp = \"initrd.img\", blksize = 1468, windowsize = 64";
    let report = boot_over("100mbit", 30, "2MiB", step);
    assert_in_order("TFTP", &report);
    let lost = &report["server_drops"]["link_queue"];
    assert_eq!(lost, 0, "the windows of those whose turn it is fit into the link's queue");
}

#[test]
fn over_a_full_link_http_reaches_one_machine_after_another() {
    let report = boot_over("1gbit", 60, "8MiB", "http = \"initrd.img\"");
    assert_in_order("HTTP", &report);
}
