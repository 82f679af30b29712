//! The configuration files of the repository mean what their comments and the documentation say.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::net::Ipv4Addr;
use std::path::Path;

use ringboot::boot::menu::{BootMenu, find_entry_argument};
use ringboot::config::Config;
use ringboot::dhcp::subnet::{AddressPool, AnsweringMode, Subnet};
use ringboot::model::machine::{Mac, Machine};
use ringboot::model::network::Ipv4Network;
use ringboot::template;

fn parse(path: &str) -> Config {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    Config::parse(path, &text).unwrap_or_else(|problems| panic!("{problems}"))
}

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 4, 150);

#[test]
fn every_example_is_right() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let names: Vec<String> = std::fs::read_dir(examples)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.contains(&"classic.toml".to_owned()));
    for name in names {
        parse(&format!("config/examples/{name}"));
    }
}

/// Fenced blocks of one language in a page of the documentation.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page))
            .unwrap();
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn every_configuration_in_the_documentation_is_right() {
    let mut seen = 0;
    for page in ["configuration.md", "menus.md", "loaders.md"] {
        for block in blocks(page, "toml") {
            Config::parse(page, &block).unwrap_or_else(|problems| panic!("{problems}\n{block}"));
            seen += 1;
        }
    }
    assert!(seen >= 6, "{seen}");
}

#[test]
fn every_template_in_the_documentation_renders() {
    let config = parse("config/examples/classic.toml");
    let machine = Machine { mac: Mac([2, 0, 0, 0, 0, 1]), uuid: None, firmware: None };
    let context = template::TemplateContext {
        client: "192.168.4.77".parse().unwrap(),
        machine: Some(&machine),
        hostname: None,
        subnet: config.snapshot.dhcp.subnets.first(),
        server: SERVER.into(),
        http_port: 80,
    };
    let blocks = blocks("templates.md", "jinja");
    assert_eq!(blocks.len(), 2);
    let rendered: Vec<String> = blocks
        .iter()
        .map(|block| {
            template::render_template_source(
                "templates.md",
                block,
                &template::TemplateFacts::from_context(&context),
            )
            .unwrap()
        })
        .collect();
    assert!(rendered[0].contains("--hostname node-02-00-00-00-00-01\n"), "{rendered:?}");
    assert_eq!(rendered[1], "network --hostname new-192-168-4-77\n");
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/templates.md"))
            .unwrap();
    for variable in template::VARIABLES {
        assert!(
            page.contains(&format!("`{variable}`")) || page.contains(&format!("`{variable}.")),
            "{variable}"
        );
    }
}

fn classic() -> Config {
    parse("config/examples/classic.toml")
}

fn classic_subnet() -> Subnet {
    classic().snapshot.dhcp.subnets[0].clone()
}

fn classic_menu() -> BootMenu {
    classic().snapshot.menu.unwrap()
}

// --- /etc/dhcp/dhcpd.conf ---

#[test]
fn s17_globals_subnets_and_hosts_are_levels_of_one_file() {
    let config = parse("config/examples/classic.toml");
    assert_eq!(config.snapshot.dhcp.subnets.len(), 1);
    assert_eq!(
        (config.dhcp.interfaces.as_slice(), config.dhcp.listen_port),
        (["eth0".to_owned()].as_slice(), 67)
    );
}

#[test]
fn s18_domain_name() {
    assert_eq!(classic_subnet().domain_name.as_deref(), Some("itwish.cn"));
}

#[test]
fn s19_domain_name_servers() {
    assert_eq!(classic_subnet().domain_name_servers, [SERVER]);
}

#[test]
fn s20_default_lease_time() {
    assert_eq!(classic_subnet().default_lease_time_s, 600);
}

#[test]
fn s21_max_lease_time() {
    assert_eq!(classic_subnet().max_lease_time_s, 7200);
}

#[test]
fn s22_the_log_has_a_level() {
    assert_eq!(classic().log.level, tracing::Level::INFO);
}

#[test]
fn s23_subnet_and_netmask() {
    let subnet = classic_subnet();
    assert_eq!(subnet.network, Ipv4Network { address: Ipv4Addr::new(192, 168, 4, 0), prefix: 24 });
    assert_eq!((subnet.mode, subnet.interface.as_deref()), (AnsweringMode::Server, Some("eth0")));
}

#[test]
fn s24_range() {
    let pool = AddressPool {
        first: Ipv4Addr::new(192, 168, 4, 10),
        last: Ipv4Addr::new(192, 168, 4, 100),
    };
    assert_eq!(classic_subnet().pools, [pool]);
}

#[test]
fn s25_routers() {
    assert_eq!(classic_subnet().routers, [Ipv4Addr::new(192, 168, 4, 1)]);
}

#[test]
fn s26_next_server() {
    assert_eq!(classic_subnet().next_server, Some(SERVER));
}

#[test]
fn s27_filename() {
    assert_eq!(classic().snapshot.dhcp.boot.bios.as_deref(), Some("pxelinux.0"));
}

// --- /etc/xinetd.d/tftp ---

#[test]
fn s37_tftp_listens_where_it_is_told() {
    assert_eq!(classic().tftp.listen, ["0.0.0.0:69".parse().unwrap()]);
}

#[test]
fn s39_server_args_root() {
    assert_eq!(classic().root, Path::new("/var/lib/tftpboot"));
}

#[test]
fn s40_per_source() {
    assert_eq!(classic().tftp.per_source, Some(11));
}

#[test]
fn s41_cps() {
    assert_eq!(classic().tftp.requests_per_second, Some(100));
}

// --- pxelinux.cfg/default ---

#[test]
fn s50_timeout_is_in_seconds() {
    assert_eq!(classic_menu().timeout_s, 60);
}

#[test]
fn s51_display() {
    assert_eq!(classic_menu().display.as_deref(), Some("boot.msg"));
}

#[test]
fn s52_menu_background() {
    assert_eq!(classic_menu().background.as_deref(), Some("splash.jpg"));
}

#[test]
fn s53_menu_title() {
    assert_eq!(classic_menu().title, "Welcome to CentOS 6.6!");
}

#[test]
fn s54_label() {
    assert_eq!(classic_menu().entries[0].label, "linux");
}

#[test]
fn s55_menu_label_with_its_hot_key() {
    assert_eq!(classic_menu().entries[0].title, "^Install or upgrade an PXE system");
}

#[test]
fn s56_the_default_is_the_disk_until_the_subnet_says_otherwise() {
    assert_eq!(classic_menu().default, None);
    assert!(!classic_subnet().install_by_default);
}

#[test]
fn s57_kernel() {
    assert_eq!(classic_menu().entries[0].kernel, "vmlinuz");
}

#[test]
fn s58_append() {
    let entry = &classic_menu().entries[0];
    assert_eq!(entry.initrds, ["initrd.img"]);
    assert_eq!(entry.arguments, "ks=http://192.168.4.150/ks.cfg");
    assert_eq!(find_entry_argument(entry), Some("ks=http://192.168.4.150/ks.cfg"));
}

/// What the classic set-up did not have: a loader for each firmware beside BIOS.
#[test]
fn s60_every_kind_of_firmware_has_its_loader() {
    let text = "root = \"/r\"\n[boot]\nbios = \"pxelinux.0\"\nuefi-x64 = \"bootx64.efi\"\n\
        uefi-ia32 = \"bootia32.efi\"\nuefi-arm64 = \"bootaa64.efi\"\nuefi-http = \
        \"ipxe.efi\"\nipxe = \"boot.ipxe\"\n";
    let boot = Config::parse("x.toml", text).unwrap().snapshot.dhcp.boot;
    let loaders =
        [boot.bios, boot.uefi_x64, boot.uefi_ia32, boot.uefi_arm64, boot.uefi_http, boot.ipxe];
    let loaders: Vec<String> = loaders.into_iter().flatten().collect();
    assert_eq!(
        loaders,
        ["pxelinux.0", "bootx64.efi", "bootia32.efi", "bootaa64.efi", "ipxe.efi", "boot.ipxe"]
    );
}

// --- httpd.conf ---

#[test]
fn s77_the_install_tree_is_listed_and_nothing_else() {
    assert_eq!(classic().http.index, ["centos/os/"]);
}
