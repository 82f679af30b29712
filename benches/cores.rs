//! Criterion benches of the pure cores: what one packet costs before the kernel is asked for anything.
#![allow(missing_debug_implementations, clippy::unwrap_used)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use criterion::{Criterion, criterion_group, criterion_main};
use ringboot::boot::names::Loader;
use ringboot::boot::script::{self, Ask};
use ringboot::config::Config;
use ringboot::dhcp::decide::{Arrival, decide};
use ringboot::dhcp::lease::Leases;
use ringboot::tftp::packet;
use ringboot::tftp::table::{Action, Local, Policy, Table};

const CLASSIC: &str = include_str!("../config/examples/classic.toml");
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 4, 150);
const RRQ: &[u8] = b"\0\x01pxelinux.0\0octet\0blksize\x001468\0tsize\x000\0windowsize\x0032\0";

fn request_parse(c: &mut Criterion) {
    c.bench_function("tftp: parse a read request", |b| b.iter(|| packet::parse(black_box(RRQ)).is_some()));
}

/// An ACK in, a window of 32 blocks out: the step that a transfer is made of.
fn window(c: &mut Criterion) {
    let peer = "192.168.4.26:2070".parse().unwrap();
    let local = Local { address: IpAddr::V4(SERVER), interface: 2 };
    let policy = Policy { per_address_limits: false, ..Policy::default() };
    let mut table: Table<()> = Table::new(policy, 1);
    let mut now = 0;
    table.handle_listen(now, peer, local, false, RRQ);
    let mut tid = 0;
    while let Some(action) = table.poll(now) {
        match action {
            Action::Open { id, .. } => drop(table.opened(now, id, Ok(((), u64::MAX / 4)))),
            Action::Datagram { tid: from, .. } => tid = from.unwrap(),
            _ => {}
        }
    }
    let mut block = 0u16;
    c.bench_function("tftp: an ACK and the next window of 32", |b| {
        b.iter(|| {
            now += 1000;
            let [high, low] = block.to_be_bytes();
            table.handle_tid(now, tid, peer, local, &[0, 4, high, low]);
            let mut sent = 0;
            while let Some(action) = table.poll(now) {
                if let Action::Blocks { blocks, .. } = action {
                    sent += blocks;
                }
            }
            block = block.wrapping_add(32);
            assert_eq!(sent, 32);
        });
    });
}

fn discover(c: &mut Criterion) {
    let snapshot = Config::parse("classic.toml", CLASSIC).unwrap().snapshot;
    let leases = Leases::new(&snapshot.subnets);
    let mut bytes = vec![0u8; 236];
    bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
    bytes[28..34].copy_from_slice(&[0x52, 0x54, 0, 0x12, 0x34, 0x10]);
    bytes.extend_from_slice(&[99, 130, 83, 99, 53, 1, 1, 93, 2, 0, 0, 60, 9]);
    bytes.extend_from_slice(b"PXEClient");
    bytes.extend_from_slice(&[55, 7, 1, 3, 6, 12, 15, 66, 67, 255]);
    let arrival = Arrival {
        bytes: &bytes,
        source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
        destination: Some(Ipv4Addr::BROADCAST),
        interface: snapshot.subnets[0].interface.as_deref(),
        interface_address: SERVER,
        ours: &[SERVER],
        held: &[],
    };
    assert!(decide(&arrival, &leases, &snapshot, 1, 1).answer.is_some());
    c.bench_function("dhcp: DISCOVER to decision", |b| {
        b.iter(|| decide(black_box(&arrival), &leases, &snapshot, 1, 1).answer.is_some());
    });
}

fn menu(c: &mut Criterion) {
    let snapshot = Config::parse("classic.toml", CLASSIC).unwrap().snapshot;
    let menu = snapshot.menu.as_ref().unwrap();
    for (name, loader) in [("PXELINUX", Loader::Pxelinux), ("GRUB", Loader::Grub), ("iPXE", Loader::Ipxe)] {
        let ask = Ask {
            loader,
            prefix: "",
            over_http: false,
            machine: None,
            server: IpAddr::V4(SERVER),
            http_port: 80,
            install_by_default: false,
            boot: &snapshot.boot,
        };
        c.bench_function(&format!("boot: render a menu for {name}"), |b| {
            b.iter(|| script::render(black_box(menu), &ask).text.len());
        });
    }
}

criterion_group!(cores, request_parse, window, discover, menu);
criterion_main!(cores);
