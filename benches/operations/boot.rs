//! The menu in each loader's language, and an answer file made from its template.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use ringboot::boot::names::MenuLoader;
use ringboot::boot::script::{self, MenuRequest};
use ringboot::config::Config;
use ringboot::model::machine::{Arch, Firmware, FirmwareRole, Mac, Machine, Uuid};
use ringboot::template::{self, TemplateContext};

use super::Operation;

pub(crate) const CLASSIC: &str = include_str!("../../config/examples/classic.toml");
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 4, 150);

const MACHINE: Machine = Machine {
    mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x10]),
    uuid: Some(Uuid([0x11; 16])),
    firmware: Some(Firmware { role: FirmwareRole::Pxe, arch: Some(Arch::Bios) }),
};

const KICKSTART: &str = r#"# ks.cfg for {{ mac }}
install
url --url={{ http }}/centos/os/
lang en_US.UTF-8
network --onboot yes --device {{ mac }} --bootproto dhcp --hostname {{ hostname | default("node-" ~ mac_dashed) }}
{% for server in subnet.domain_name_servers %}
# name server {{ server }} of {{ subnet.domain_name }}
{% endfor %}
bootloader --location=mbr
{% if firmware == "pxe" and arch == "bios" %}
part biosboot --fstype=biosboot --size=1
{% endif %}
%packages
@core
%end
"#;

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        menu("boot: render a menu for PXELINUX", MenuLoader::Pxelinux),
        menu("boot: render a menu for GRUB", MenuLoader::Grub),
        menu("boot: render a menu for iPXE", MenuLoader::Ipxe),
        answer_file(),
    ]
}

fn menu(name: &'static str, loader: MenuLoader) -> Operation {
    let snapshot = Config::parse("classic.toml", CLASSIC).unwrap().snapshot;
    Operation::new(name, move || {
        let ask = MenuRequest {
            loader,
            prefix: "",
            over_http: false,
            machine: None,
            server: IpAddr::V4(SERVER),
            http_port: 80,
            install_by_default: false,
            boot: &snapshot.dhcp.boot,
        };
        script::render_menu(black_box(snapshot.menu.as_ref().unwrap()), &ask)
    })
}

/// Parsed and rendered, as for every request.
fn answer_file() -> Operation {
    let snapshot = Config::parse("classic.toml", CLASSIC).unwrap().snapshot;
    Operation::new("boot: render an answer file", move || {
        let context = TemplateContext {
            client: IpAddr::from([192, 168, 4, 26]),
            machine: Some(&MACHINE),
            hostname: None,
            subnet: Some(&snapshot.dhcp.subnets[0]),
            server: IpAddr::V4(SERVER),
            http_port: 80,
        };
        template::render_template_source(
            "ks.cfg.j2",
            black_box(KICKSTART),
            &template::TemplateFacts::from_context(&context),
        )
        .unwrap()
    })
}
