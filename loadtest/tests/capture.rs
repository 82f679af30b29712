//! The report's percentiles against a packet capture of the same run: what a stage took is what was
//! on the wire.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]

#[path = "../../tests/common"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used)]
mod common {
    pub mod capture;
    pub mod net;
    pub mod process;
    pub mod watched;

    pub use process::need;
}

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use common::capture::{Capture, Packet};
use common::net::Net;
use common::process::run;
use dhcproto::v4::{Message, MessageType};
use dhcproto::{Decodable, Decoder};
use serde_json::Value;

const MACHINES: usize = 20;
/// How far the report may be from the wire.
const TOLERANCE: Duration = Duration::from_millis(1);
/// A run of a second, on a machine whose cores are busy.
const LIMIT: Duration = Duration::from_secs(60);
/// A generator that waits for a processor is late, and on a busy machine all of them wait: every
/// figure has to agree once in so many runs. A stage that is measured wrongly is wrong in all of
/// them.
const TRIES: usize = 12;

const SCENARIO: &str = r#"
arrival = "ramp:1s"
[files]
loader = "100KiB"
image = "200KiB"
[[machine]]
steps = [{ dhcp = true }, { tftp = "loader", blksize = 1428, windowsize = 16 }, { http = "image" }]
"#;

#[test]
fn percentiles_agree_with_a_capture_within_a_millisecond() {
    let mut open: Option<BTreeMap<String, String>> = None;
    for _ in 0..TRIES {
        let (report, wire) = measured();
        let found = compared(&report, &wire);
        let still = |figure: &String| open.as_ref().is_none_or(|open| open.contains_key(figure));
        let left: BTreeMap<_, _> = found.into_iter().filter(|(figure, _)| still(figure)).collect();
        if left.is_empty() {
            return;
        }
        open = Some(left);
    }
    panic!("in none of {TRIES} runs: {open:#?}");
}

/// Which of the report's figures are too far from those of the wire.
fn compared(report: &Value, wire: &Stages) -> BTreeMap<String, String> {
    let mut differences = BTreeMap::new();
    for (stage, times) in wire {
        assert_eq!(
            (times.len(), &report["stages"][stage]["count"]),
            (MACHINES, &MACHINES.into()),
            "{stage}"
        );
        for (figure, share) in [("p50_us", 0.5), ("p99_us", 0.99), ("max_us", 1.0)] {
            let reported = Duration::from_micros(report["stages"][stage][figure].as_u64().unwrap());
            let on_wire = times[(share * MACHINES as f64).ceil() as usize - 1];
            println!("{stage:<7} {figure:<7} report {reported:>12.3?}, wire {on_wire:>12.3?}");
            // The report's histogram rounds to 3 digits.
            if reported.abs_diff(on_wire) > TOLERANCE + on_wire / 1000 {
                let said = format!("{reported:?} in the report, {on_wire:?} on the wire");
                differences.insert(format!("{stage} {figure}"), said);
            }
        }
    }
    differences
}

/// Between the header and the options of DHCP.
const COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];

/// What each machine took for a stage, rising.
type Stages = BTreeMap<&'static str, Vec<Duration>>;

/// One run in a namespace of its own.
fn measured() -> (Value, Stages) {
    common::need(&[("chrt", "util-linux")]);
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let [scenario, report, pcap] =
        ["s.toml", "r.json", "lo.pcap"].map(|name| scratch.path().join(name));
    fs::write(&scenario, SCENARIO).unwrap();
    let net = Net::new();
    let capture = Capture::start_on(&net, "lo", "udp or tcp", &pcap);
    let mut command = net.command("chrt");
    command.args(["--reset-on-fork", "--fifo", "10", env!("CARGO_BIN_EXE_loadtest"), "--clients"]);
    command
        .arg(MACHINES.to_string())
        .arg("--scenario")
        .arg(&scenario)
        .arg("--json")
        .arg(&report)
        .arg("--quiet");
    run(command, LIMIT).ok();
    // What is captured comes in order: all that is looked for is before this.
    let mut mark = net.command("bash");
    mark.args(["-c", "echo end >/dev/udp/127.0.0.1/9"]);
    run(mark, LIMIT).ok();
    let marked = |packets: &Vec<Packet>| {
        packets.iter().any(|packet| packet.destination.port() == 9).then_some(())
    };
    capture.wait_for(LIMIT, marked).unwrap();
    let stages = stages(&capture.packets());
    (serde_json::from_str(&fs::read_to_string(report).unwrap()).unwrap(), stages)
}

fn message(packet: &Packet) -> Option<(MessageType, Message)> {
    let is_dhcp = !packet.is_tcp && packet.payload.get(236..240) == Some(&COOKIE);
    let message = is_dhcp.then(|| Message::decode(&mut Decoder::new(&packet.payload)).unwrap())?;
    Some((message.opts().msg_type()?, message))
}

/// First DISCOVER to ACK; RRQ to last DATA; first segment of the connection to the last octet.
fn stages(packets: &[Packet]) -> Stages {
    let mut discovers = HashMap::new();
    let mut machines = HashSet::new();
    let mut spans: HashMap<(&'static str, IpAddr), (Duration, Duration)> = HashMap::new();
    for packet in packets {
        if let Some((kind, message)) = message(packet) {
            match kind {
                MessageType::Discover => {
                    discovers.entry(message.chaddr().to_vec()).or_insert(packet.at);
                }
                MessageType::Ack => {
                    let address = IpAddr::from(message.yiaddr());
                    machines.insert(address);
                    spans.insert(("dhcp", address), (discovers[message.chaddr()], packet.at));
                }
                _ => {}
            }
            continue;
        }
        let (from, to) = (packet.source.ip(), packet.destination.ip());
        match packet.payload.as_slice() {
            [0, 1, ..] if !packet.is_tcp => {
                spans.entry(("loader", from)).or_insert((packet.at, packet.at));
            }
            [0, 3, ..] if !packet.is_tcp && spans.contains_key(&("loader", to)) => {
                spans.get_mut(&("loader", to)).unwrap().1 = packet.at;
            }
            _ if packet.is_tcp && machines.contains(&from) => {
                spans.entry(("file", from)).or_insert((packet.at, packet.at));
            }
            payload if packet.is_tcp && machines.contains(&to) && !payload.is_empty() => {
                spans.get_mut(&("file", to)).unwrap().1 = packet.at;
            }
            _ => {}
        }
    }
    let mut stages = Stages::new();
    for ((stage, _), (begun, ended)) in spans {
        stages.entry(stage).or_default().push(ended - begun);
    }
    stages.values_mut().for_each(|times| times.sort());
    stages
}
