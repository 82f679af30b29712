//! The client against servers that lose, repeat, refuse and change their minds.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use super::super::limits::{MILLISECOND, SECOND};
use super::super::packet::build_data_header;
use super::*;

fn sent(client: &mut FetchClient, now: Tick) -> Vec<(Option<u16>, u8, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some(transmit) = client.poll_transmit(now) {
        all.push((transmit.to, transmit.socket, transmit.bytes.to_vec()));
    }
    all
}

fn acks(client: &mut FetchClient) -> Vec<u8> {
    sent(client, 0).iter().map(|(_, _, bytes)| bytes[3]).collect()
}

fn data(block: u16, octets: usize) -> Vec<u8> {
    [&build_data_header(block)[..], &vec![block as u8; octets]].concat()
}

/// A client with its options granted and its first ACK taken.
fn receiving(behaviour: ClientBehaviour, oack: &[u8]) -> FetchClient {
    let mut client = FetchClient::new(behaviour, b"f", 1);
    sent(&mut client, 0);
    client.handle(0, 7, oack);
    assert_eq!(acks(&mut client), [0]);
    client
}

#[test]
fn t52_edk2_asks_for_the_size_first_and_again_from_another_port() {
    let mut client = FetchClient::new(ClientBehaviour::edk2(), b"bootx64.efi", 1);
    let request = b"\0\x01bootx64.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0";
    assert_eq!(sent(&mut client, 0), [(None, 0, request.to_vec())]);
    client.handle(0, 1000, b"\0\x06tsize\x0077\0blksize\x001468\0windowsize\x004\0");
    let again = b"\0\x01bootx64.efi\0octet\0blksize\x001468\0windowsize\x004\0";
    let error = b"\0\x05\0\x08User aborted the transfer\0";
    assert_eq!(sent(&mut client, 0), [(Some(1000), 0, error.to_vec()), (None, 1, again.to_vec())]);
    assert_eq!((client.socket(), client.announced()), (1, Some(77)));
    client.handle(0, 2000, b"\0\x06blksize\x001468\0windowsize\x004\0");
    assert_eq!(sent(&mut client, 0), [(Some(2000), 1, vec![0, 4, 0, 0])]);
    client.handle(0, 2000, &data(1, 77));
    assert_eq!(client.outcome(), Some(ClientOutcome::Complete { octets: 77 }));
}

#[test]
fn t11_an_answer_that_was_not_asked_for_ends_it() {
    for (oack, disagreement) in [
        (&b"\0\x06multicast\x001\0"[..], ServerViolation::OptionNotAsked),
        (b"\0\x06BLKSIZE\x00512\0", ServerViolation::OptionNotAsked),
        (b"\0\x06blksize\x001469\0", ServerViolation::OptionValue),
        (b"\0\x06blksize\x007\0", ServerViolation::OptionValue),
        (b"\0\x06timeout\x006\0", ServerViolation::OptionValue),
    ] {
        let mut client = FetchClient::new(ClientBehaviour::uboot(1), b"f", 1);
        sent(&mut client, 0);
        client.handle(0, 7, oack);
        assert_eq!(client.outcome(), Some(ClientOutcome::Disagreed(disagreement)), "{oack:?}");
        assert_eq!(&sent(&mut client, 0)[0].2[..4], [0, 5, 0, 8]);
    }
}

#[test]
fn t35_edk2_answers_every_unexpected_block_and_uboot_only_the_first() {
    let mut edk2 =
        receiving(ClientBehaviour::generic(512, 4), b"\0\x06blksize\x00512\0windowsize\x004\0");
    edk2.handle(0, 7, &data(1, 512));
    for block in 3..=4 {
        assert_eq!(edk2.handle(0, 7, &data(block, 512)), None);
    }
    assert_eq!(acks(&mut edk2), [1, 1]);
    (0..2 * DUE_MAX).for_each(|_| assert_eq!(edk2.handle(0, 7, &data(4, 512)), None));
    assert_eq!(acks(&mut edk2).len(), DUE_MAX, "and no more than wait for a turn");
    let mut uboot = receiving(ClientBehaviour::uboot(4), b"\0\x06timeout\x005\0windowsize\x004\0");
    uboot.handle(0, 7, &data(1, 512));
    for block in 3..=4 {
        uboot.handle(0, 7, &data(block, 512));
    }
    assert_eq!(acks(&mut uboot), [1]);
    let mut grub = receiving(ClientBehaviour::grub(), b"\0\x06blksize\x001024\0");
    for block in 1..=2 {
        assert!(grub.handle(0, 7, &data(block, 1024)).is_some());
    }
    assert_eq!(acks(&mut grub), [1, 2]);
    for block in [1, 4, 2] {
        assert_eq!(grub.handle(0, 7, &data(block, 1024)), None);
    }
    assert_eq!(
        acks(&mut grub),
        [1, 2],
        "GRUB answers old blocks by their own number, and none that is ahead"
    );
}

#[test]
fn t37_a_window_is_counted_from_the_ack() {
    let mut client =
        receiving(ClientBehaviour::generic(512, 4), b"\0\x06blksize\x00512\0windowsize\x004\0");
    client.handle(0, 7, &data(1, 512));
    client.handle(0, 7, &data(3, 512));
    assert_eq!(acks(&mut client), [1]);
    for block in 2..=5 {
        assert!(client.handle(0, 7, &data(block, 512)).is_some());
    }
    assert_eq!(acks(&mut client), [5]);
}

#[test]
fn t43_grub_repeats_requests_but_no_acks() {
    let mut grub = FetchClient::new(ClientBehaviour::grub(), b"f", 1);
    assert_eq!(sent(&mut grub, 0).len(), 1);
    assert!((400 * MILLISECOND..410 * MILLISECOND).contains(&grub.poll_timeout().unwrap()));
    grub.handle_timeout(SECOND);
    assert_eq!(sent(&mut grub, 0).len(), 1, "the request again");
    assert_eq!(grub.handle(0, 7, &data(1, 512)), None, "DATA without an OACK");
    grub.handle(SECOND, 7, b"\0\x06blksize\x001024\0tsize\x009\0");
    assert_eq!(acks(&mut grub), [0]);
    grub.handle_timeout(grub.poll_timeout().unwrap());
    assert_eq!(sent(&mut grub, 0).len(), 0);
}

#[test]
fn t44_patience_is_that_of_the_firmware() {
    let lasts = |behaviour: ClientBehaviour| {
        let mut client = FetchClient::new(behaviour, b"f", 1);
        let mut requests = sent(&mut client, 0).len();
        let mut now = 0;
        while let Some(next) = client.poll_timeout() {
            now = next;
            client.handle_timeout(now);
            requests += sent(&mut client, now).len();
        }
        assert_eq!(client.outcome(), Some(ClientOutcome::TimedOut));
        (requests, now / SECOND)
    };
    assert_eq!(lasts(ClientBehaviour::edk2()).0, 6);
    assert!((24..=25).contains(&lasts(ClientBehaviour::edk2()).1));
    assert_eq!(lasts(ClientBehaviour::uboot(1)).0, 10);
    assert!((50..=51).contains(&lasts(ClientBehaviour::uboot(1)).1));
    assert_eq!(lasts(ClientBehaviour::grub()).0, 40);
    assert!((15..=40).contains(&lasts(ClientBehaviour::ipxe()).1));
    assert!((30..=31).contains(&lasts(ClientBehaviour::pi3()).1));
}

#[test]
fn t43_the_timer_repeats_the_last_ack_and_uboot_acknowledges_what_it_has() {
    for (behaviour, oack, repeated) in [
        (ClientBehaviour::generic(512, 4), &b"\0\x06blksize\x00512\0windowsize\x004\0"[..], 4),
        (ClientBehaviour::uboot(4), b"\0\x06timeout\x005\0windowsize\x004\0", 6),
    ] {
        let tries = behaviour.patience.tries;
        let mut client = receiving(behaviour, oack);
        assert_eq!((client.has_answer(), client.socket()), (true, 0));
        client.handle(0, 7, oack);
        assert_eq!(acks(&mut client), [0], "the first ACK 0 was lost");
        (1..=6).for_each(|block| assert!(client.handle(0, 7, &data(block, 512)).is_some()));
        assert_eq!(acks(&mut client), [4]);
        client.handle(0, 7, oack);
        assert_eq!(acks(&mut client), b"", "an OACK that comes late");
        client.handle_timeout(client.poll_timeout().unwrap() - 1);
        assert_eq!(acks(&mut client), b"", "before its time");
        for _ in 1..tries {
            client.handle_timeout(client.poll_timeout().unwrap());
            assert_eq!(acks(&mut client), [repeated]);
        }
        // What comes at the last moment counts: its patience begins anew.
        let now = client.poll_timeout().unwrap() - 1;
        assert!(client.handle(now, 7, &data(7, 512)).is_some());
        assert!(client.poll_timeout().unwrap() > now + SECOND);
        for _ in 1..tries {
            client.handle_timeout(client.poll_timeout().unwrap());
        }
        assert_eq!(
            (client.outcome(), client.counters().retransmits),
            (None, 2 * u64::from(tries - 1))
        );
        client.handle_timeout(client.poll_timeout().unwrap());
        assert_eq!(
            (client.outcome(), client.poll_timeout()),
            (Some(ClientOutcome::TimedOut), None)
        );
    }
}

#[test]
fn machines_of_one_model_drift_apart_by_a_per_cent() {
    let first = |seed| {
        let mut client = FetchClient::new(ClientBehaviour::edk2(), b"f", seed);
        assert!(!client.has_answer());
        sent(&mut client, 0);
        client.poll_timeout().unwrap() / MILLISECOND
    };
    let firsts: std::collections::BTreeSet<_> = (0..100).map(first).collect();
    assert!(
        firsts.len() > 25 && firsts.iter().all(|first| (4000..4040).contains(first)),
        "{firsts:?}"
    );
}

#[test]
fn what_a_fetch_has_cost_is_counted_and_a_stranger_is_refused_but_never_its_error() {
    let mut client =
        receiving(ClientBehaviour::generic(512, 2), b"\0\x06blksize\x00512\0windowsize\x002\0");
    for block in [1, 2, 2, 1, 4, 5, 3] {
        client.handle(0, 7, &data(block, 512));
    }
    assert_eq!(acks(&mut client), [2; 5]);
    assert_eq!(client.handle(0, 8, &data(4, 512)), None);
    assert_eq!(sent(&mut client, 0), [(Some(8), 0, b"\0\x05\0\x05Unknown transfer ID\0".to_vec())]);
    assert_eq!(client.handle(0, 8, b"\0\x05\0\x05x\0"), None);
    assert_eq!(client.handle(0, 7, &[0, 4, 0, 1]), None, "what only clients send");
    assert_eq!(sent(&mut client, 0), []);
    client.handle_timeout(client.poll_timeout().unwrap());
    client.handle(0, 7, &data(4, 0));
    assert_eq!(acks(&mut client), [2, 4]);
    assert_eq!(
        (client.outcome(), client.poll_timeout()),
        (Some(ClientOutcome::Complete { octets: 1536 }), None)
    );
    let counted = ClientCounters {
        requests_sent: 1,
        acks_sent: 8,
        retransmits: 1,
        blocks: 4,
        duplicates: 2,
        out_of_order: 2,
        strays: 3,
    };
    assert_eq!(*client.counters(), counted);
    let mut silent = FetchClient::new(ClientBehaviour::grub(), b"f", 1);
    sent(&mut silent, 0);
    silent.handle_timeout(silent.poll_timeout().unwrap());
    sent(&mut silent, 0);
    assert_eq!(
        *silent.counters(),
        ClientCounters { requests_sent: 2, retransmits: 1, ..ClientCounters::default() }
    );
}

#[test]
fn t55_a_pi_asks_for_nothing_and_takes_plain_data() {
    let mut pi = FetchClient::new(ClientBehaviour::pi3(), b"bootcode.bin", 1);
    assert_eq!(sent(&mut pi, 0), [(None, 0, b"\0\x01bootcode.bin\0octet\0".to_vec())]);
    let first = data(1, 512);
    assert_eq!(pi.handle(0, 7, &first), Some(ReceivedPiece { offset: 0, bytes: &first[4..] }));
    assert_eq!(pi.handle(0, 8, &data(2, 512)), None, "a foreign port");
    let second = data(2, 0);
    assert_eq!(pi.handle(0, 7, &second), Some(ReceivedPiece { offset: 512, bytes: b"" }));
    assert_eq!(acks(&mut pi), [1, 2]);
    assert_eq!(pi.outcome(), Some(ClientOutcome::Complete { octets: 512 }));
}

#[test]
fn a_size_that_differs_from_the_announced_one_is_seen() {
    let mut client = receiving(ClientBehaviour::ipxe(), b"\0\x06blksize\x001432\0tsize\x001000\0");
    client.handle(0, 7, &data(1, 999));
    assert_eq!(client.outcome(), Some(ClientOutcome::Disagreed(ServerViolation::SizeDiffers)));
}
