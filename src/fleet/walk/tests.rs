//! Tests of a walk: OFFERs, faults of images, and answer files.
#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn every_kind_of_firmware_has_a_discover_that_says_what_it_is() {
    use ringboot_protocol::dhcp::classify::MessageFacts;
    use ringboot_protocol::dhcp::packet::Packet;
    for (name, firmware, _) in KINDS {
        let bytes = build_discover(firmware, Mac([0x52, 0x54, 0, 0x12, 0x34, 0x10]), None).unwrap();
        let packet = Packet::parse_request(&bytes).unwrap();
        assert_eq!(MessageFacts::from_packet(&packet).firmware, firmware, "{name}");
        assert_eq!(spell_firmware_kind(firmware), Some(name));
    }
}

#[test]
fn arguments_name_their_answer_files() {
    let found = list_answer_files(
        "auto=true url=http://10.0.0.1/p.cfg quiet ds=nocloud-net;s=http://10.0.0.1/c/ \
         ks=nfs:x:/y",
    );
    let urls: Vec<&str> = found.iter().map(|(_, url)| url.as_str()).collect();
    let expected = [
        "http://10.0.0.1/p.cfg",
        "http://10.0.0.1/c/meta-data",
        "http://10.0.0.1/c/user-data",
        "nfs:x:/y",
    ];
    assert_eq!(urls, expected);
}

#[test]
fn a_kernel_that_was_cut_short_is_known_by_its_header() {
    let mut head = vec![0; 4096];
    head[0x1f1] = 3;
    head[0x1f4..0x1f8].copy_from_slice(&1000u32.to_le_bytes());
    head[0x202..0x206].copy_from_slice(b"HdrS");
    let whole = 4 * 512 + 16_000;
    let file = |octets| WalkedFile {
        name: "k".into(),
        octets,
        received: 0,
        head: head.clone(),
        took: Duration::ZERO,
    };
    assert_eq!(find_image_fault(MachineStage::Kernel, &file(whole)), None);
    assert!(
        find_image_fault(MachineStage::Kernel, &file(whole - 1)).unwrap().contains("cut short")
    );
    assert!(find_image_fault(MachineStage::Initrd, &file(0)).unwrap().contains("empty"));
}

#[test]
fn loaders_are_known_by_their_names() {
    for (name, loader) in [
        ("bios/lpxelinux.0", LoaderKind::Pxelinux),
        ("shimx64.efi", LoaderKind::Shim),
        ("http://10.0.0.1/grubnetx64.efi", LoaderKind::Grub),
        ("boot.ipxe", LoaderKind::Script),
        ("ipxe.efi", LoaderKind::Ipxe),
        ("undionly.kpxe", LoaderKind::Ipxe),
        ("memtest.efi", LoaderKind::Unknown),
    ] {
        assert_eq!(LoaderKind::from_name(name), loader, "{name}");
    }
}
