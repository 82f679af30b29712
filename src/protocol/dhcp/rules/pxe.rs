//! Tests of D-53 to D-59: what PXE firmware and the Raspberry Pi get.

use super::server;
use crate::dhcp::lease::LeaseChange;
use crate::dhcp::limits::OFFER_HOLD_RASPBERRY_PI_S;
use crate::dhcp::testing::Message;
use crate::model::machine::Mac;

#[test]
fn d53_uefi_gets_60_with_43_or_neither() {
    for arch in [7, 9] {
        let offer = server().ask(&Message::from(1).pxe(arch).discover());
        assert_eq!(offer.option(60).unwrap(), b"PXEClient");
        assert_eq!(offer.option(43).unwrap(), [6, 1, 8, 255]);
        assert_eq!(offer.option(67).unwrap(), b"shimx64.efi");
    }
    let without_loader = server().ask(&Message::from(1).pxe(11).discover());
    assert_eq!((without_loader.option(60), without_loader.option(43)), (None, None));
}

#[test]
fn d54_the_first_offer_is_a_whole_one() {
    // EDK2 ranks an offer with file and discovery control first: it needs nothing more from
    // anybody.
    let offer = server().ask(&Message::from(1).pxe(7).discover());
    assert!(
        offer.option(43).is_some()
            && offer.option(67).is_some()
            && !offer.yiaddr().is_unspecified()
    );
}

#[test]
fn d55_bios_gets_a_conventional_answer() {
    let offer = server().ask(&Message::from(1).pxe(0).discover());
    assert_eq!((offer.option(60), offer.option(43)), (None, None));
    assert_eq!(offer.reply().file, b"pxelinux.0");
}

#[test]
fn d57_no_boot_server_list_is_sent_so_siaddr_counts() {
    let offer = server().ask(&Message::from(1).pxe(7).discover());
    assert!(!offer.option(43).unwrap().starts_with(&[8]));
    assert_eq!(offer.option(43).unwrap().len(), 4, "sub-option 6 alone");
}

#[test]
fn d58_file_size_is_not_sent() {
    let offer = server().ask(&Message::from(1).pxe(7).with(55, &[13, 67]).discover());
    assert_eq!(offer.option(13), None);
}

#[test]
fn d59_raspberry_pi_gets_menu_server_and_a_long_hold() {
    let mut pi = Message::from(1).pxe(0).with(55, &[1, 3, 43, 60, 66, 67, 128]).discover();
    pi.mac = Mac([0xb8, 0x27, 0xeb, 1, 2, 3]);
    let mut server = server();
    let offer = server.ask(&pi);
    assert_eq!(offer.option(60).unwrap(), b"PXEClient");
    assert!(offer.option(43).unwrap().windows(20).any(|text| text == b"Raspberry Pi Boot   "));
    assert_eq!((offer.option(66).unwrap(), offer.option(67)), (b"192.168.4.150".to_vec(), None));
    let LeaseChange::Offer { until_s, .. } = offer.changes[0] else { panic!("an offer") };
    assert_eq!(until_s, server.now + OFFER_HOLD_RASPBERRY_PI_S);
    let binding =
        server.leases.binding(offer.yiaddr()).expect("known to boot cores without a REQUEST");
    assert_eq!(binding.machine.mac, pi.mac);
}
