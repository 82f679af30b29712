//! An afternoon of an operator: things are broken one after the other, and what is asked says what
//! is wrong, until it is mended.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::{Duration, Instant};

#[path = "../common/mod.rs"]
mod common;

mod breakages;

use breakages::{ALL, Asked, Breakage};
use common::process::Output;
use common::world::World;

/// One command of a debug build on busy cores.
const COMMAND: Duration = Duration::from_secs(90);
/// How soon all that is asked has to know it.
const KNOWN: Duration = Duration::from_secs(25);

const CONFIGURATION: &str = r#"root = "/srv/netboot"

[[dhcp.subnet]]
subnet = "192.168.4.0/24"
mode = "server"
interface = "eth1"
clients = "any"
pools = ["192.168.4.10-192.168.4.40"]
routers = ["192.168.4.1"]

[[dhcp.subnet.host]]
mac = "52:54:00:12:34:10"
hostname = "node1"
address = "192.168.4.120"

[boot]
bios = "pxelinux.0"
uefi-x64 = "shimx64.efi"

[menu]
title = "Rack 7"

[[menu.entry]]
label = "install"
title = "^Install Debian"
kernel = "debian/linux"
initrd = "debian/initrd.gz"
arguments = "auto=true url=http://192.168.4.150/preseed.cfg"

[[menu.entry]]
label = "rescue"
title = "Rescue"
kernel = "rescue/vmlinuz"
initrd = "rescue/initrd.img"
"#;

#[test]
fn what_is_broken_is_named_by_all_that_is_asked_until_it_is_mended() {
    let names: std::collections::BTreeSet<&str> =
        ALL.iter().map(|breakage| breakage.what).collect();
    assert_eq!(names.len(), ALL.len(), "two breakages have one name");
    assert!(ALL.len() >= 40, "{} breakages", ALL.len());
    let world = furnished();
    let only = std::env::var("RINGBOOT_BREAKAGE").unwrap_or_default();
    let chosen =
        ALL.iter().filter(|breakage| only.split(',').any(|part| breakage.what.contains(part)));
    let wrong: Vec<String> =
        chosen.filter_map(|breakage| live_through(&world, breakage).err()).collect();
    assert!(wrong.is_empty(), "{} of {}:\n\n{}", wrong.len(), ALL.len(), wrong.join("\n\n"));
}

/// A served rack without a fault, one machine on its segment, a disk for the state that can be
/// full.
fn furnished() -> World {
    let world = World::new("afternoon");
    world.interface("eth1", "192.168.4.150/24");
    world.write("/tmp/clone/prelude.sh", include_bytes!("prelude.sh"));
    world.write("/tmp/clone/stall.py", include_bytes!("stall.py"));
    world.write("/tmp/clone/relay.py", include_bytes!("relay.py"));
    world.write("/run/good.toml", CONFIGURATION.as_bytes());
    world.write(
        "/run/lease",
        b"#!/bin/sh\n[ \"$1\" = bound ] && ip addr replace \"$ip/$mask\" dev \"$interface\"; exit \
          0\n",
    );
    for name in ["debian/linux", "rescue/vmlinuz"] {
        world.write(&format!("/srv/netboot/{name}"), &common::root::kernel_image());
    }
    for name in ["debian/initrd.gz", "rescue/initrd.img"] {
        world.write(&format!("/srv/netboot/{name}"), &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0].repeat(512));
    }
    world.write(
        "/srv/netboot/preseed.cfg.j2",
        b"d-i netcfg/get_hostname string {{ hostname | default('unknown') }}\n",
    );
    world.prepare(
        ". ./prelude.sh
         chmod +x /run/lease; mount -t tmpfs -o size=4m,mode=0700 none /var/lib/ringboot
         ip netns add station; ip link set to-eth1 netns station address 52:54:00:12:34:10; ip -n \
         station link set to-eth1 up
         ip -n station link set lo up
         cp /run/good.toml $C; start; boot",
    );
    world
}

/// Breaks it, asks until everybody names it, mends it, and asks until nobody does.
fn live_through(world: &World, breakage: &Breakage) -> Result<(), String> {
    let began = Instant::now();
    world.prepare("echo $(($(stat -c %s /run/log) + 1)) >/run/mark");
    let broke = act(world, breakage.breaks);
    let mut wrong = Vec::new();
    if !broke.status.success() {
        wrong.push(format!("  it could not be broken: {broke:#?}"));
    }
    for (asked, words) in breakage.says {
        if let Err(said) = hears(world, *asked, words) {
            wrong.push(format!("  {asked:?} does not say {words:?} but\n{}", said.trim_end()));
        }
    }
    let mended = act(world, breakage.mends);
    if !mended.status.success() {
        wrong.push(format!("  it could not be mended: {mended:#?}"));
    }
    for (asked, words) in [(Asked::Monitor, "OK: "), (Asked::Check, "0 errors")] {
        if let Err(said) = hears(world, asked, words) {
            wrong.push(format!("  after it was mended, {asked:?} says\n{}", said.trim_end()));
        }
    }
    eprintln!("{:6.1} s  {}", began.elapsed().as_secs_f32(), breakage.what);
    if wrong.is_empty() { Ok(()) } else { Err(format!("{}:\n{}", breakage.what, wrong.join("\n"))) }
}

/// A script within a minute; what it leaves running holds none of our pipes.
fn act(world: &World, script: &str) -> Output {
    world.write("/run/script", format!(". ./prelude.sh\nset -e\n{script}\n").as_bytes());
    world.run(
        "timeout -k 5 60 bash /run/script >/run/out 2>&1 </dev/null; code=$?; cat /run/out; \
               exit $code",
        COMMAND,
    )
}

/// Asks again and again, for some seconds; what was said at last where the words never came.
fn hears(world: &World, asked: Asked, words: &str) -> Result<(), String> {
    let ends = Instant::now() + KNOWN;
    loop {
        let said = world.run(&format!(". ./prelude.sh\n{}", asked.command()), COMMAND);
        let said = format!("{}{}", said.stdout, said.stderr);
        let there = match words.strip_prefix("not: ") {
            Some(absent) => !said.contains(absent),
            None => said.contains(words),
        };
        match () {
            () if there => return Ok(()),
            () if Instant::now() > ends => return Err(said),
            // A command takes a while by itself: nothing is gained by asking at once.
            () => std::thread::park_timeout(Duration::from_millis(100)),
        }
    }
}
