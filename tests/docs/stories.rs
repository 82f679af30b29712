//! The hosts on which blocks of pages are run, by the name that a page gives in its comment.

use std::time::Duration;

use super::blocks::{Block, exchanges_of};
use super::common::world::World;
use super::configurations::furnish;
use super::shape::first_difference;

/// Runs the blocks of one name, in the order of their pages.
pub(crate) type Story = fn(&[Block]);

pub(crate) const STORIES: &[(&str, Story)] = &[
    ("as typed", as_typed),
    ("demo", demo),
    ("virtual machine", virtual_machine),
    ("rack", rack),
    ("backup", backup),
    ("wrong files", wrong_files),
    ("wrong configuration", wrong_configuration),
    ("broken chain", broken_chain),
    ("failed boot", failed_boot),
    ("template", template),
    ("template without a lease", template_without_lease),
    ("misspelt template", misspelt_template),
    ("load", load),
    ("load of another server", load_of_another_server),
    ("scenario", scenario),
];

/// Debug builds on cores that other tests share.
const LIMIT: Duration = Duration::from_secs(120);

pub(crate) fn named(name: &str) -> Option<Story> {
    STORIES.iter().find(|(known, _)| *known == name).map(|(_, story)| *story)
}

/// Plays the stories that a page has blocks for, each on a host of its own.
fn play(names: &[&str]) {
    for name in names {
        let blocks = super::blocks_named(name);
        named(name).expect("a story")(&blocks);
    }
}

#[test]
fn a_newcomers_blocks_are_run() {
    play(&["as typed", "demo", "scenario"]);
}

#[test]
fn an_operators_blocks_are_run() {
    play(&["rack", "backup", "wrong files", "wrong configuration", "broken chain", "failed boot"]);
}

#[test]
fn templates_are_rendered_or_refused_as_the_page_says() {
    play(&["template", "template without a lease", "misspelt template"]);
}

#[test]
fn blocks_of_the_load_generator_are_run() {
    play(&["load", "load of another server"]);
}

#[test]
fn the_virtual_machine_of_the_readme_boots() {
    if std::env::var_os("RINGBOOT_SKIP_FIRMWARE").is_some() {
        eprintln!("RINGBOOT_SKIP_FIRMWARE: the machine of the README is not booted");
        return;
    }
    play(&["virtual machine"]);
}

/// The rack of docs/configuration.md with one machine by name and one entry.
const RACK: &str = r#"root = "/srv/netboot"

[[dhcp.subnet]]
subnet = "192.168.4.0/24"
mode = "server"
interface = "eth1"
pools = ["192.168.4.10-192.168.4.100"]

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
"#;

/// A shell function for scripts: waits until the server tells that it serves, and that its subnets
/// are not silent.
const AWAIT: &str = r#"
await_serving() {
    timeout 20 sh -c 'until grep -q READY /run/ready; do sleep 0.02; done' || {
        cat /run/log >&2
        exit 99
    }
    timeout 40 sh -c 'while ringboot status 2>/dev/null | grep -q SILENT; do sleep 0.1; done' ||
        exit 98
}
"#;

/// Typed line by line: after a command in the background a user waits until it serves.
fn typed(block: &Block) -> String {
    let mut script = format!("set -e\n{AWAIT}");
    for line in block.text.lines() {
        script.push_str(line);
        script.push('\n');
        if line.trim_end().ends_with('&') {
            script.push_str("await_serving\n");
        }
    }
    script
}

fn as_typed(blocks: &[Block]) {
    for block in blocks {
        converse_all(&World::new("typed"), std::slice::from_ref(block));
    }
}

/// A host whose /etc/ringboot/ringboot.toml is served, on a segment with one other station, the
/// namespace `station`.
fn serving(configuration: &str) -> World {
    let world = World::new("serving");
    furnish(&world, configuration);
    world.prepare(
        "ip netns add station; ip link set to-eth1 netns station address 52:54:00:12:34:10
         ip -n station link set to-eth1 up",
    );
    world.prepare(&format!(
        "{AWAIT}\nringboot serve >>/run/log 2>&1 & echo $! >/run/service; await_serving"
    ));
    world
}

/// Runs the commands of a block in one shell, and compares what each prints with what the page has
/// below it.
fn converse(world: &World, block: &Block) -> Vec<String> {
    const MARK: &str = "== the next command ==";
    let exchanges = exchanges_of(&block.text);
    // Of a debug build beside other tests, 500 machines are too many.
    let commands = exchanges.iter().map(|exchange| {
        format!("{}\necho '{MARK}'\n", exchange.command.replace("--clients 500", "--clients 50"))
    });
    let said = world.run(&format!("exec 2>&1\n{}", commands.collect::<String>()), LIMIT);
    let printed: Vec<&str> = said.stdout.split(&format!("{MARK}\n")).collect();
    let mut wrong = Vec::new();
    for (exchange, printed) in exchanges.iter().zip(&printed) {
        if let Some(difference) = first_difference(&exchange.printed, &without_asides(printed)) {
            wrong.push(format!("{block}: $ {}\n{difference}\nin\n{printed}", exchange.command));
        }
    }
    if printed.len() != exchanges.len() + 1 {
        wrong.push(format!("{block}: {said:#?}"));
    }
    wrong
}

/// All blocks of a story on one host; fails the test with all that is not as the pages have it.
fn converse_all(world: &World, blocks: &[Block]) {
    let wrong: Vec<String> =
        blocks.iter().flat_map(|block| converse_or_type(world, block)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// What `check` says of the computer that the tests run on, whatever the page is about.
const OF_THE_COMPUTER: &[&str] = &["STAYS ROOT", "net.core.rmem_max"];

/// Without what is said of the computer that the tests run on, and of a run's progress.
pub(crate) fn without_asides(printed: &str) -> String {
    let mut kept = Vec::new();
    let mut aside = false;
    for line in printed.lines() {
        let of_computer = OF_THE_COMPUTER
            .iter()
            .any(|words| line.starts_with("warning: ") && line.contains(words));
        let goes_on = line.starts_with("    ") || line.starts_with("  hint: ");
        aside = line.starts_with("  ! ") || of_computer || (aside && goes_on);
        let progress = line
            .trim_start()
            .split_once(" s: ")
            .is_some_and(|(number, _)| number.parse::<u32>().is_ok());
        if !aside && !progress {
            kept.push(line);
        }
    }
    kept.join("\n")
}

fn converse_or_type(world: &World, block: &Block) -> Vec<String> {
    if block.language != "sh" {
        return converse(world, block);
    }
    let said = world.run(&typed(block), LIMIT);
    if said.status.success() { Vec::new() } else { vec![format!("{block}: {said:#?}")] }
}

fn demo(blocks: &[Block]) {
    let world = World::new("demo");
    for block in blocks {
        let command = block.text.lines().next().unwrap();
        let shown = world.start(command);
        shown.stdout.wait_line("Still serving", LIMIT);
        // Ctrl-C reaches all processes of a terminal.
        world.prepare("kill -INT $(pidof ringboot)");
        shown.stderr.wait_end(LIMIT);
        assert!(shown.stdout.text().contains("60 of 60"), "{block}: {}", shown.stdout.text());
    }
}

/// With QEMU as typed, in the background: the menu waits for a minute, the test for the menu.
fn virtual_machine(blocks: &[Block]) {
    let world = World::new("machine");
    let (commands, shown) = blocks.split_first().expect("what is typed");
    let script = typed(commands).replace(
        "-device e1000,netdev=n",
        "-device e1000,netdev=n </dev/null >/run/console 2>&1 &",
    );
    assert!(script.contains("/run/console"), "{commands}: where is the machine?");
    world.prepare(&script);
    world.prepare(
        "timeout 100 sh -c 'until grep -q \"menu:\" /tmp/ringboot.log; do sleep 0.1; done'",
    );
    converse_all(&world, shown);
}

/// A served rack, on which a machine holds a lease.
fn rack(blocks: &[Block]) {
    let world = serving(RACK);
    machine(&world, "exit 0");
    converse_all(&world, blocks);
}

/// A server that is begun again with what it had on a day in spring.
fn backup(blocks: &[Block]) {
    let world = serving(RACK);
    world.prepare("ringboot backup /var/backups/ringboot-2026-03-01.db");
    converse_all(&world, blocks);
}

/// The station asks for an address as UEFI firmware does, and runs the script.
fn machine(world: &World, script: &str) {
    world.write(
        "/run/lease",
        b"#!/bin/sh\n[ \"$1\" = bound ] && ip addr add \"$ip/$mask\" dev \"$interface\"; exit 0\n",
    );
    world.prepare(&format!(
        "chmod +x /run/lease
         ip netns exec station busybox udhcpc -i to-eth1 -s /run/lease -n -q -f -C -t 9 -T 1 -V \
         PXEClient:Arch:00007:UNDI:003016 -x 0x5d:0007 -x 0x5e:01030a -x \
         0x61:0011223344556677889900112233445566 -O 66 -O 67 2>&1
         cd /tmp && ip netns exec station sh -c '{script}'"
    ));
}

fn wrong_files(blocks: &[Block]) {
    let world = World::new("wrong-files");
    let configuration = RACK.replace("shimx64.efi", "boot.efi");
    furnish(&world, &configuration);
    world.write("/srv/netboot/boot.efi", b"a text and no program\n");
    let head = "prompt 0\ntimeout 50\n\n\n\n\n\n\ndefault linux\n\nlabel linux\n";
    let menu = format!(
        "{head}  kernel debian/linux\n  append initrd=debian/initrd.gz \
         ks=http://192.168.4.150/ks.cfg\n"
    );
    world.write("/srv/netboot/pxelinux.cfg/default", menu.as_bytes());
    converse_all(&world, blocks);
}

fn wrong_configuration(blocks: &[Block]) {
    let world = World::new("wrong-configuration");
    let configuration = "root = \"/srv/netboot\"\n\n\n\n\n\n\n[[dhcp.subnet]]\nsubnet = \
                         \"192.168.4.0/24\"\n\
                         mode = \"server\"\ninterface = \"eth1\"\n\
                         pools = [\"192.168.5.10-192.168.5.20\"]\n\n\n\n\n\n[tftp]\nblocksize-max \
                         = 1468\n";
    world.write("/tmp/clone/config/x.toml", configuration.as_bytes());
    converse_all(&world, blocks);
}

fn broken_chain(blocks: &[Block]) {
    let world = serving(RACK);
    world.prepare("rm /srv/netboot/debian/initrd.gz");
    converse_all(&world, blocks);
}

/// A machine that is told of a kernel which is not there.
fn failed_boot(blocks: &[Block]) {
    let world = serving(RACK);
    world.prepare("rm /srv/netboot/debian/linux");
    let get = |name: &str| format!("busybox tftp -g -l /run/got -r {name} 192.168.4.150");
    let script = format!(
        "{}; {}; {}; {}; exit 0",
        get("shimx64.efi"),
        get("revocations_sku.efi"),
        get("grub.cfg-01-52-54-00-12-34-10"),
        get("debian/linux")
    );
    machine(&world, &script);
    converse_all(&world, blocks);
}

/// The page's text is rendered for a machine that holds a lease.
fn template(blocks: &[Block]) {
    let world = serving(RACK);
    machine(&world, "exit 0");
    for (number, block) in blocks.iter().enumerate() {
        world.write(&format!("/srv/netboot/page{number}.cfg.j2"), block.text.as_bytes());
        let url = format!("http://192.168.4.150/page{number}.cfg");
        let said = world
            .run(&format!("ip netns exec station curl -sS --fail-with-body {url}"), LIMIT)
            .ok();
        let begin = block.text.split("{{").next().unwrap();
        assert!(said.stdout.starts_with(begin) || begin.contains("{%"), "{block}: {}", said.stdout);
        assert!(
            !said.stdout.contains("{{") && said.stdout.contains("node1"),
            "{block}: {}",
            said.stdout
        );
    }
}

/// A template is refused; the log and the page have the same lines.
fn refused(world: &World, blocks: &[Block], template: &str, fetch: &str) {
    world.write("/srv/netboot/ks.cfg.j2", template.as_bytes());
    let said = world.run(fetch, LIMIT);
    assert!(said.stdout.contains("500"), "{said:#?}");
    for block in blocks {
        for line in block.text.lines() {
            let script = format!(
                "timeout 20 sh -c 'until grep -qF \"$0\" /run/log; do sleep 0.05; done' '{}'",
                line.trim()
            );
            let logged = world.run(&script, LIMIT);
            assert!(
                logged.status.success(),
                "{block}: the log has no {line}\n{}",
                world.run("cat /run/log", LIMIT).stdout
            );
        }
    }
}

const FETCH: &str = "curl -s -o /dev/null -w '%{http_code}' http://192.168.4.150/ks.cfg";

fn template_without_lease(blocks: &[Block]) {
    let world = serving(RACK);
    world.prepare("ip -n station addr add 192.168.4.77/24 dev to-eth1");
    let text = "# for this machine\nnetwork {{ hostname }}\n";
    refused(&world, blocks, text, &format!("ip netns exec station {FETCH}"));
}

fn misspelt_template(blocks: &[Block]) {
    let world = serving(RACK);
    machine(&world, "exit 0");
    let text = format!("{}network {{{{ hostnam }}}}\n", "#\n".repeat(6));
    refused(&world, blocks, &text, &format!("ip netns exec station {FETCH}"));
}

fn load(blocks: &[Block]) {
    let world = World::new("load");
    converse_all(&world, blocks);
}

/// The server 10.0.0.2 of the page, which offers what is written to /srv/www.
fn load_of_another_server(blocks: &[Block]) {
    let world = World::new("load-of-another");
    world.prepare(&format!(
        "{AWAIT}\nip addr add 10.0.0.2/32 dev lo; mkdir /srv/www
         ringboot serve --root /srv/www >>/run/log 2>&1 & await_serving"
    ));
    world.interface("eth1", "192.168.4.9/16");
    converse_all(&world, blocks);
}

/// A scenario of one's own is played, shorter than it says.
fn scenario(blocks: &[Block]) {
    let world = World::new("scenario");
    for block in blocks {
        world.write("/tmp/clone/own.toml", block.text.as_bytes());
        let said = world
            .run(
                "loadtest --scenario own.toml --clients 8 --arrival all --duration 1s --warm-up 0s",
                LIMIT,
            )
            .ok();
        assert!(said.stdout.contains("  file  "), "{block}: {}", said.stdout);
    }
}
