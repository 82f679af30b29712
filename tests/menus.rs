//! GRUB's own parser accepts the menus that we write for it.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::process::{Command, Stdio};

use ringboot::boot::loader_choice::BootConfig;
use ringboot::boot::menu::{BootMenu, MenuEntry};
use ringboot::boot::names::MenuLoader;
use ringboot::boot::script::{MenuRequest, render_menu};
use ringboot::model::machine::{Mac, Machine};

#[test]
fn b8_grub_script_check_accepts_every_menu() {
    let machine = Machine { mac: Mac([2, 0, 0, 0, 0, 1]), uuid: None, firmware: None };
    let boot = BootConfig::default();
    for machine in [None, Some(&machine)] {
        let ask = MenuRequest {
            loader: MenuLoader::Grub,
            prefix: "grub/",
            over_http: false,
            machine,
            server: "192.168.4.150".parse().unwrap(),
            http_port: 80,
            install_by_default: false,
            boot: &boot,
        };
        let text = render_menu(&menu(), &ask).text;
        assert_eq!(text.matches("\nmenuentry ").count(), 4, "nothing was left out");
        let complaint = grub_script_check(&text);
        assert_eq!(complaint, "", "{text}");
    }
}

#[test]
fn b8_grub_script_check_would_notice() {
    assert_ne!(grub_script_check("menuentry 'open {\n"), "");
}

/// Titles and arguments with all that GRUB's shell knows and the configuration allows.
fn menu() -> BootMenu {
    let entry = |label: &str, title: &str, arguments: &str| MenuEntry {
        label: label.to_owned(),
        title: title.to_owned(),
        kernel: "images/vm~linuz+1@x=y".to_owned(),
        initrds: vec!["images/initrd.img".to_owned()],
        arguments: arguments.to_owned(),
    };
    BootMenu {
        title: "It's $HOME; `here` & \"there\" | {x} <y>".to_owned(),
        entries: vec![
            entry(
                "a",
                "^It's }; menuentry 'x' {",
                "ds=nocloud;s=http://h/ a=$b c=`d` (e) {f} | g>h",
            ),
            entry("b", "''", "dyndbg=\"file a.c +p; x\" ---"),
            entry("c", "plain", ""),
        ],
        console: Some("ttyS0,115200n8".to_owned()),
        ..BootMenu::default()
    }
}

/// What GRUB's own parser complains of.
fn grub_script_check(script: &str) -> String {
    common::need(&[("grub-script-check", "grub-common")]);
    let mut command = Command::new("grub-script-check");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap()
}
