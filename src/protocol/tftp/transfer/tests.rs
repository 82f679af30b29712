//! One transfer against clients that lose, repeat, delay and forge packets.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use super::super::limits::{BURST_BLOCK_PAUSE, MILLISECOND, RESTARTS_TO_HALVE};
use super::*;

fn terms(block_size: u16, window: u16) -> NegotiatedTerms {
    NegotiatedTerms { block_size, window, timeout_s: None, acknowledged: true }
}

/// A transfer whose options are settled, before its first block.
fn begun(block_size: u16, window: u16, len: u64) -> Transfer {
    let mut transfer = Transfer::new(&terms(block_size, window), len, 7);
    assert_eq!(transfer.poll_transmit(0), Some(NextTransmit::Oack));
    assert_eq!(transfer.handle_ack(0, 0), AckEffect::Moved);
    transfer
}

/// The next run, as (first number on the wire, count).
fn run(transfer: &mut Transfer, now: Tick) -> Option<(u16, u32)> {
    match transfer.poll_transmit(now)? {
        NextTransmit::Blocks(blocks) => Some((blocks.first, blocks.blocks)),
        NextTransmit::Oack => panic!("an OACK"),
    }
}

/// Acknowledges whole windows until `block` is the last one acknowledged.
fn skip_to(transfer: &mut Transfer, block: u64) {
    while transfer.acked < block {
        transfer.poll_transmit(0).unwrap();
        assert_eq!(
            transfer.handle_ack(0, wire_block_number(transfer.sent.min(block))),
            AckEffect::Moved
        );
    }
}

/// A transfer whose client has acknowledged the first window.
fn proven(block_size: u16, window: u16, len: u64) -> Transfer {
    let mut transfer = begun(block_size, window, len);
    skip_to(&mut transfer, window.into());
    transfer
}

/// Fires the timer and returns the time that passed.
fn fire(transfer: &mut Transfer, now: &mut Tick) -> (TimeoutEffect, Tick) {
    let before = std::mem::replace(now, transfer.deadline());
    (transfer.handle_timeout(*now), *now - before)
}

#[test]
fn t16_no_data_leaves_before_ack_0() {
    let mut transfer = Transfer::new(&terms(512, 4), 5000, 1);
    assert_eq!(transfer.poll_transmit(0), Some(NextTransmit::Oack));
    assert_eq!(transfer.poll_transmit(0), None);
    assert_eq!(transfer.handle_ack(0, 1), AckEffect::Nothing);
    assert_eq!(transfer.poll_transmit(0), None);
    assert_eq!(transfer.handle_ack(0, 0), AckEffect::Moved);
    assert_eq!(run(&mut transfer, 0), Some((1, 4)));
}

#[test]
fn t21_the_clients_timeout_is_the_base_interval() {
    let asked = NegotiatedTerms { timeout_s: Some(5), ..terms(512, 1) };
    let mut transfer = Transfer::new(&asked, 5000, 1);
    transfer.poll_transmit(0);
    assert!(
        (4500 * MILLISECOND..=5500 * MILLISECOND).contains(&transfer.deadline()),
        "{}",
        transfer.deadline()
    );
    let long = NegotiatedTerms { timeout_s: Some(100), ..asked };
    let mut transfer = Transfer::new(&long, 5000, 1);
    transfer.poll_transmit(0);
    transfer.handle_ack(0, 0);
    transfer.poll_transmit(0);
    let most = RTO_ASKED_MAX / SECOND;
    assert!(
        (most * 9 / 10..=most * 11 / 10).contains(&(transfer.deadline() / SECOND)),
        "{}",
        transfer.deadline()
    );
}

#[test]
fn t42_a_client_that_asks_for_a_long_timeout_binds_its_transfer_no_longer_than_others() {
    for timeout_s in [None, Some(1), Some(30), Some(255)] {
        let mut transfer = Transfer::new(&NegotiatedTerms { timeout_s, ..terms(512, 1) }, 5000, 1);
        transfer.poll_transmit(0);
        // Progress counts anew; nothing else does.
        let mut now = 5 * SECOND;
        transfer.handle_ack(now, 0);
        let began = now;
        transfer.poll_transmit(now);
        let mut sent = 1;
        while fire(&mut transfer, &mut now).0 == TimeoutEffect::Again {
            sent += u32::from(transfer.poll_transmit(now).is_some());
            assert_eq!(transfer.handle_ack(now, 0), AckEffect::Nothing);
        }
        assert!((3..=u32::from(TRIES_MAX)).contains(&sent), "{timeout_s:?}: {sent}");
        assert!(
            (30 * SECOND..=STILL_MAX).contains(&(now - began)),
            "{timeout_s:?}: {}",
            now - began
        );
    }
}

#[test]
fn t64_an_ack_0_that_may_be_forged_brings_a_few_windows_and_single_blocks() {
    let mut transfer = begun(1468, 32, 1 << 26);
    let (mut now, mut blocks) = (0, 0);
    loop {
        while let Some((first, count)) = run(&mut transfer, now) {
            assert!(first == 1 || blocks == 0, "nothing behind a block that is sent alone");
            blocks += count;
        }
        for _ in 0..20 {
            now += ECHO_GRACE;
            transfer.handle_ack(now, 0);
            transfer.handle_timeout(now);
            while let Some((_, count)) = run(&mut transfer, now) {
                blocks += count;
            }
        }
        if !matches!(fire(&mut transfer, &mut now).0, TimeoutEffect::Again | TimeoutEffect::Early) {
            break;
        }
    }
    assert!(blocks <= u32::from(UNPROVEN_WINDOWS_MAX) * 32 + 3 * u32::from(TRIES_MAX), "{blocks}");

    // A client that is there goes on with whole windows.
    let mut transfer = begun(1468, 32, 1 << 26);
    run(&mut transfer, 0);
    let mut now = 0;
    for blocks in [32, 16, 1] {
        assert_eq!(fire(&mut transfer, &mut now).0, TimeoutEffect::Again);
        assert_eq!(run(&mut transfer, now), Some((1, blocks)));
        while transfer.burst.pausing {
            fire(&mut transfer, &mut now);
            run(&mut transfer, now);
        }
    }
    assert_eq!(run(&mut transfer, now), None);
    assert_eq!(transfer.handle_ack(now, 1), AckEffect::Moved);
    transfer.handle_timeout(now + ECHO_GRACE);
    assert_eq!(run(&mut transfer, now + ECHO_GRACE), Some((2, 16)), "halved by the timer");
}

#[test]
fn t64_a_distrusted_address_gets_a_block_for_its_ack_0_until_it_acknowledges_one() {
    let mut transfer = begun(1468, 32, 1 << 26);
    transfer.distrust();
    assert_eq!(run(&mut transfer, 0), Some((1, 1)));
    assert_eq!(run(&mut transfer, 0), None);
    assert_eq!(transfer.handle_ack(0, 1), AckEffect::Moved);
    assert_eq!(run(&mut transfer, 0), Some((2, 32)));
}

#[test]
fn t24_after_65535_comes_0() {
    let mut transfer = begun(512, 1, 70_000 * 512);
    skip_to(&mut transfer, 65534);
    for number in [65535, 0, 1] {
        assert_eq!(run(&mut transfer, 0), Some((number, 1)));
        assert_eq!(transfer.handle_ack(0, number), AckEffect::Moved);
    }
}

#[test]
fn t25_positions_pass_65535_blocks_and_4_gib() {
    for (block_size, len) in
        [(512, 40 << 20), (1468, 1468 * 65537 + 1), (1468, (5 << 30) + 3), (65464, 1 << 40)]
    {
        let mut transfer = begun(block_size, 32, len);
        let mut expected = 0;
        loop {
            let Some(NextTransmit::Blocks(blocks)) = transfer.poll_transmit(0) else {
                panic!("nothing to send")
            };
            assert_eq!(blocks.bytes.start, expected);
            expected = blocks.bytes.end;
            if transfer.handle_ack(0, wire_block_number(transfer.sent)) == AckEffect::Done {
                assert!(blocks.last);
                break;
            }
        }
        assert_eq!(expected, len);
        let blocks = transfer.blocks;
        let expected = TransferTally {
            bytes_sent: len,
            acked_blocks: blocks,
            least_burst: 32,
            confirmed: true,
            ..TransferTally::default()
        };
        assert_eq!(transfer.tally(), expected);
    }
}

#[test]
fn t26_an_exact_multiple_ends_with_an_empty_block() {
    for (len, blocks, octets) in
        [(0, 1, 0), (1, 1, 1), (511, 1, 511), (512, 2, 0), (1024, 3, 0), (1025, 3, 1)]
    {
        let mut transfer = begun(512, 8, len);
        let Some(NextTransmit::Blocks(sent)) = transfer.poll_transmit(0) else { panic!() };
        assert_eq!((sent.blocks, sent.bytes, sent.last), (blocks, 0..len, true));
        assert_eq!(len - u64::from(blocks - 1) * 512, octets);
        assert_eq!(transfer.handle_ack(0, blocks as u16), AckEffect::Done);
    }
}

#[test]
fn t27_a_duplicate_ack_in_lockstep_sends_nothing() {
    let mut transfer = begun(512, 1, 10_000);
    let mut sent = 0;
    loop {
        assert_eq!(run(&mut transfer, 0), Some((sent + 1, 1)));
        for _ in 0..3 {
            assert_eq!(transfer.handle_ack(0, sent), AckEffect::Nothing);
            assert_eq!(transfer.poll_transmit(0), None);
        }
        sent += 1;
        if transfer.handle_ack(0, sent) == AckEffect::Done {
            break;
        }
    }
    assert_eq!(u64::from(sent), 10_000 / 512 + 1);
    assert_eq!(transfer.tally().retransmits, 0);
}

#[test]
fn t28_acks_ahead_or_far_behind_are_ignored() {
    let mut transfer = begun(512, 4, 1 << 20);
    skip_to(&mut transfer, 100);
    assert_eq!(run(&mut transfer, 0), Some((101, 4)));
    for block in [105, 106, 32000, 99, 50, 0, 40000, 65535] {
        assert_eq!(transfer.handle_ack(0, block), AckEffect::Nothing, "{block}");
        assert_eq!(transfer.poll_transmit(0), None);
    }
    assert_eq!(transfer.handle_ack(0, 104), AckEffect::Moved);
}

#[test]
fn t29_the_last_ack_ends_it_and_its_absence_is_no_failure() {
    let mut transfer = begun(512, 1, 600);
    run(&mut transfer, 0);
    transfer.handle_ack(0, 1);
    run(&mut transfer, 0);
    let mut now = 0;
    let end = loop {
        match fire(&mut transfer, &mut now).0 {
            TimeoutEffect::Again => run(&mut transfer, now),
            end => break end,
        };
    };
    assert_eq!(end, TimeoutEffect::LastAckMissing);
    let mut transfer = begun(512, 1, 600);
    run(&mut transfer, 0);
    transfer.handle_ack(0, 1);
    run(&mut transfer, 0);
    assert_eq!(transfer.handle_ack(0, 2), AckEffect::Done);
    assert_eq!(transfer.deadline(), NEVER);
}

#[test]
fn t33_no_more_than_a_window_is_in_flight() {
    let mut transfer = begun(1000, 16, 40_000);
    assert_eq!(run(&mut transfer, 0), Some((1, 16)));
    assert_eq!(transfer.poll_transmit(0), None);
    assert_eq!(transfer.handle_ack(0, 16), AckEffect::Moved);
    assert_eq!(run(&mut transfer, 0), Some((17, 16)));
    assert_eq!(transfer.handle_ack(0, 32), AckEffect::Moved);
    assert_eq!(run(&mut transfer, 0), Some((33, 9)), "the last window is shorter");
}

#[test]
fn t34_an_ack_inside_the_window_begins_a_full_one_after_it() {
    let mut transfer = begun(512, 8, 1 << 20);
    assert_eq!(run(&mut transfer, 0), Some((1, 8)));
    assert_eq!(transfer.handle_ack(0, 3), AckEffect::Moved);
    assert_eq!(run(&mut transfer, 0), Some((4, 8)));
    assert_eq!(transfer.tally().retransmits, 5);
    // The whole of the first window did arrive, and its ACK comes late: everything up to the
    // highest counts.
    assert_eq!(transfer.handle_ack(0, 11), AckEffect::Moved);
    assert_eq!(run(&mut transfer, 0), Some((12, 8)));
}

#[test]
fn t35_a_gap_is_answered_once_however_often_it_is_told() {
    let mut transfer = begun(512, 4, 1 << 20);
    run(&mut transfer, 0);
    transfer.handle_ack(0, 4);
    assert_eq!(run(&mut transfer, 0), Some((5, 4)));
    // Block 5 is lost; EDK2 answers 6, 7 and 8 with ACK 4 each.
    assert_eq!(transfer.handle_ack(0, 4), AckEffect::Moved);
    assert_eq!(run(&mut transfer, 0), Some((5, 4)));
    assert_eq!(transfer.handle_ack(0, 4), AckEffect::Nothing);
    assert_eq!(transfer.handle_ack(0, 4), AckEffect::Nothing);
    assert_eq!(transfer.poll_transmit(0), None);
    // After the timer the same ACK counts again, if nothing better comes within a moment.
    let now = transfer.deadline();
    assert_eq!(transfer.handle_timeout(now), TimeoutEffect::Again);
    assert_eq!(run(&mut transfer, now), Some((5, 4)));
    assert_eq!(transfer.handle_ack(now, 4), AckEffect::Nothing);
    assert_eq!(transfer.deadline(), now + ECHO_GRACE);
    assert_eq!(transfer.handle_timeout(now + ECHO_GRACE), TimeoutEffect::Again);
    // A gap inside the window: the first ACK begins a new one, its copies do not.
    assert_eq!(run(&mut transfer, now), Some((5, 4)));
    assert_eq!(transfer.handle_ack(now, 8), AckEffect::Moved);
    assert_eq!(run(&mut transfer, now), Some((9, 4)));
    assert_eq!(transfer.handle_ack(now, 10), AckEffect::Moved);
    assert_eq!(run(&mut transfer, now), Some((11, 4)));
    assert_eq!(transfer.handle_ack(now, 10), AckEffect::Nothing);
}

#[test]
fn t35_what_may_be_an_echo_is_answered_after_a_moment() {
    let mut transfer = proven(512, 4, 1 << 20);
    run(&mut transfer, 0);
    assert_eq!(transfer.handle_timeout(transfer.deadline()), TimeoutEffect::Again);
    assert_eq!(run(&mut transfer, SECOND), Some((5, 4)));
    // Inside a window sent twice: 7 may be lost, or the client had 5 and 6 already. Go on
    // behind, then look again.
    assert_eq!(transfer.handle_ack(SECOND, 6), AckEffect::Moved);
    assert_eq!(transfer.deadline(), SECOND + ECHO_GRACE, "also where nothing is left to send");
    assert_eq!(run(&mut transfer, SECOND), Some((9, 2)));
    assert_eq!(transfer.deadline(), SECOND + ECHO_GRACE);
    assert_eq!(transfer.handle_timeout(SECOND + ECHO_GRACE), TimeoutEffect::Again);
    assert_eq!(run(&mut transfer, 2 * SECOND), Some((7, 4)));
    assert!(
        transfer.deadline() > 2 * SECOND + ECHO_GRACE,
        "the next look takes the whole interval"
    );
}

#[test]
fn t35_ack_0_once_more_is_a_lost_first_block_or_the_echo_of_a_second_oack() {
    let mut transfer = begun(512, 4, 1 << 20);
    assert_eq!(run(&mut transfer, 0), Some((1, 4)));
    assert_eq!(transfer.handle_ack(0, 0), AckEffect::Moved, "the OACK was sent once");
    assert_eq!(run(&mut transfer, 0), Some((1, 4)));

    let mut transfer = Transfer::new(&terms(512, 4), 1 << 20, 7);
    for _ in 0..2 {
        assert_eq!(transfer.poll_transmit(0), Some(NextTransmit::Oack));
        transfer.handle_repeated_request();
    }
    assert_eq!(transfer.handle_ack(0, 0), AckEffect::Moved);
    assert_eq!(run(&mut transfer, 0), Some((1, 4)));
    assert_eq!((transfer.handle_ack(0, 0), transfer.poll_transmit(0)), (AckEffect::Nothing, None));
    assert_eq!(transfer.deadline(), ECHO_GRACE);
    assert_eq!(transfer.handle_timeout(ECHO_GRACE), TimeoutEffect::Again);
    assert_eq!(run(&mut transfer, ECHO_GRACE), Some((1, 4)), "nothing better has come");
}

#[test]
fn t49_a_repeated_request_brings_an_unanswered_first_answer_again_where_it_can_leave() {
    for acknowledged in [true, false] {
        let mut transfer =
            Transfer::new(&NegotiatedTerms { acknowledged, ..terms(512, 1) }, 1 << 20, 7);
        assert!(!transfer.handle_repeated_request(), "it is about to leave");
        let first = transfer.poll_transmit(0);
        assert_eq!(transfer.poll_transmit(0), None);
        assert!(transfer.handle_repeated_request());
        assert_eq!(transfer.poll_transmit(0), first);
        transfer.hand_back_blocks(0, 0);
        assert!(!transfer.handle_repeated_request(), "the content is out of reach");
        transfer.resume();
        transfer.handle_ack(0, u16::from(!acknowledged));
        assert!(!transfer.handle_repeated_request(), "it is answered");
    }
}

#[test]
fn t35_echoes_of_repeated_blocks_do_not_double_the_traffic() {
    let mut transfer = proven(512, 4, 1 << 20);
    run(&mut transfer, 0);
    // The ACK of the window is late: the timer sends the window again.
    let now = transfer.deadline();
    assert_eq!(transfer.handle_timeout(now), TimeoutEffect::Again);
    assert_eq!(run(&mut transfer, now), Some((5, 4)));
    assert_eq!(transfer.handle_ack(now, 8), AckEffect::Moved);
    assert_eq!(run(&mut transfer, now), Some((9, 4)));
    // EDK2 answers the four repeats with four more ACK 8. Nothing is lost, so nothing is sent.
    for _ in 0..4 {
        assert_eq!(transfer.handle_ack(now, 8), AckEffect::Nothing);
    }
    assert_eq!(transfer.poll_transmit(now), None);
    assert_eq!(transfer.handle_ack(now, 12), AckEffect::Moved);
}

#[test]
fn t36_a_timeout_sends_from_the_last_ack_on() {
    let mut transfer = begun(512, 4, 1 << 20);
    run(&mut transfer, 0);
    transfer.handle_ack(0, 2);
    run(&mut transfer, 0);
    assert_eq!(transfer.handle_timeout(transfer.deadline() - 1), TimeoutEffect::Early);
    let now = transfer.deadline();
    assert_eq!(transfer.handle_timeout(now), TimeoutEffect::Again);
    assert_eq!(run(&mut transfer, now), Some((3, 4)));
}

#[test]
fn t26_a_content_of_another_length_ends_with_its_own_short_block() {
    for (len, blocks) in [(1000, 2), (1024, 3), (0, 1)] {
        let mut transfer = begun(512, 8, 1 << 20);
        transfer.set_len(len);
        assert_eq!(
            (run(&mut transfer, 0), transfer.is_sent_whole()),
            (Some((1, blocks)), true),
            "{len}"
        );
        assert_eq!(transfer.handle_ack(0, blocks as u16), AckEffect::Done);
    }
}

#[test]
fn t37_a_restarted_window_is_counted_from_the_ack() {
    let mut transfer = begun(512, 4, 1 << 20);
    run(&mut transfer, 0);
    transfer.handle_ack(0, 3);
    assert_eq!(run(&mut transfer, 0), Some((4, 4)), "4..=7, not 4 alone to fill the old window");
    assert_eq!(transfer.handle_ack(0, 7), AckEffect::Moved);
    assert_eq!(run(&mut transfer, 0), Some((8, 4)));
}

#[test]
fn t38_a_window_over_the_rollover_survives_a_loss_at_each_place() {
    for lost in [65534u64, 65535, 65536, 65537] {
        let mut transfer = begun(512, 10, 66_000 * 512);
        skip_to(&mut transfer, 65530);
        assert_eq!(run(&mut transfer, 0), Some((65531, 10)));
        assert_eq!(transfer.handle_ack(0, wire_block_number(lost - 1)), AckEffect::Moved);
        assert_eq!(run(&mut transfer, 0), Some((wire_block_number(lost), 10)));
        assert_eq!(transfer.handle_ack(0, wire_block_number(lost + 9)), AckEffect::Moved);
        assert_eq!(transfer.acked, lost + 9);
    }
}

#[test]
fn t39_without_a_gap_ack_the_timer_recovers() {
    let mut transfer = begun(512, 16, 1 << 26);
    skip_to(&mut transfer, 32768);
    assert_eq!(run(&mut transfer, 0), Some((32769, 16)));
    let now = transfer.deadline();
    assert!(now <= SECOND + SECOND / 10, "the client's own timer is 5 s");
    assert_eq!(transfer.handle_timeout(now), TimeoutEffect::Again);
    assert_eq!(run(&mut transfer, now), Some((32769, 16)));
}

/// The numbers and lengths of the bursts up to the next silence, and when each left.
fn bursts(transfer: &mut Transfer, now: &mut Tick) -> Vec<(u16, u32, Tick)> {
    let mut seen = Vec::new();
    loop {
        match run(transfer, *now) {
            Some((first, blocks)) => seen.push((first, blocks, *now)),
            None if transfer.burst.pausing => {
                *now = transfer.deadline();
                assert_eq!(transfer.handle_timeout(*now), TimeoutEffect::Again);
            }
            None => return seen,
        }
    }
}

#[test]
fn t40_two_restarts_by_the_timer_halve_the_burst_and_the_agreed_window_still_leaves_whole() {
    let mut transfer = proven(512, 8, 1 << 20);
    let mut now = 0;
    assert_eq!(run(&mut transfer, now), Some((9, 8)));
    assert_eq!(fire(&mut transfer, &mut now).0, TimeoutEffect::Again);
    assert_eq!(run(&mut transfer, now), Some((9, 8)), "one may be chance");
    for halved in [4, 2, 1, 1] {
        assert_eq!(fire(&mut transfer, &mut now).0, TimeoutEffect::Again);
        let seen = bursts(&mut transfer, &mut now);
        assert!(seen.iter().all(|(_, blocks, _)| *blocks == halved), "{seen:?}");
        assert_eq!(seen.len() as u32 * halved, 8, "the client counts 8 before it acknowledges");
        for pair in seen.windows(2) {
            assert_eq!(pair[1].2 - pair[0].2, u64::from(halved) * BURST_BLOCK_PAUSE);
        }
        // Progress, so that it is not given up: the count of restarts goes on all the same.
        assert_eq!(transfer.handle_ack(now, wire_block_number(transfer.sent)), AckEffect::Moved);
        now = now.max(transfer.burst.not_before);
        bursts(&mut transfer, &mut now);
        assert_eq!(fire(&mut transfer, &mut now).0, TimeoutEffect::Again);
        bursts(&mut transfer, &mut now);
    }
    assert_eq!(transfer.tally().halvings, 3);
}

#[test]
fn t40_a_burst_grows_by_one_for_32_clean_windows_up_to_what_was_agreed() {
    for packets_per_ms in [0, 1000] {
        let mut transfer = proven(512, 4, 1 << 24).with_packets_per_ms(packets_per_ms);
        let mut now = 0;
        for _ in 0..RESTARTS_TO_HALVE {
            bursts(&mut transfer, &mut now);
            assert_eq!(fire(&mut transfer, &mut now).0, TimeoutEffect::Again);
        }
        let mut window = |transfer: &mut Transfer, gap: bool| {
            let first = bursts(transfer, &mut now)[0];
            assert_eq!(
                transfer.handle_ack(now, wire_block_number(transfer.sent - u64::from(gap))),
                AckEffect::Moved
            );
            first.1
        };
        // The first one repeats what was sent before, so it is not clean.
        assert_eq!(window(&mut transfer, false), 2);
        (0..31).for_each(|_| assert_eq!(window(&mut transfer, false), 2));
        assert_eq!(window(&mut transfer, true), 2, "a gap: counted anew");
        (0..32).for_each(|_| assert_eq!(window(&mut transfer, false), 2));
        (0..32).for_each(|_| assert_eq!(window(&mut transfer, false), 3));
        assert_eq!(window(&mut transfer, false), 4);
        assert_eq!(transfer.burst.paced, packets_per_ms > 0, "as if nothing had been");
    }
}

#[test]
fn t40_a_clean_client_and_a_lockstep_one_never_see_a_smaller_window() {
    let mut transfer = begun(1468, 32, 64 << 20).with_packets_per_ms(0);
    loop {
        let (_, blocks) = run(&mut transfer, 0).unwrap();
        let whole = transfer.sent == transfer.blocks || blocks == 32;
        assert!(whole && !transfer.burst.paced, "{blocks}");
        if transfer.handle_ack(0, wire_block_number(transfer.sent)) == AckEffect::Done {
            break;
        }
    }
    let mut lockstep = begun(1468, 1, 1 << 20);
    let mut now = 0;
    for _ in 0..5 {
        assert_eq!(run(&mut lockstep, now), Some((1, 1)));
        assert_eq!(fire(&mut lockstep, &mut now).0, TimeoutEffect::Again);
    }
    assert!(!lockstep.burst.paced && lockstep.tally().halvings == 0);
}

#[test]
fn t40_packets_per_ms_hold_within_a_window_and_from_one_to_the_next() {
    let mut transfer = begun(512, 10, 1 << 20).with_packets_per_ms(4);
    let mut now = 0;
    let seen = bursts(&mut transfer, &mut now);
    assert_eq!(seen, [(1, 4, 0), (5, 4, MILLISECOND), (9, 2, 2 * MILLISECOND)]);
    let mut begun = begun(512, 10, 1 << 20).with_packets_per_ms(4);
    assert_eq!(
        (run(&mut begun, 0), begun.deadline()),
        (Some((1, 4)), MILLISECOND),
        "the timer goes on with it"
    );
    assert_eq!(transfer.handle_ack(now, 10), AckEffect::Moved);
    assert_eq!(run(&mut transfer, now), None);
    assert_eq!(transfer.deadline(), now + MILLISECOND / 2, "two packets take half a millisecond");
    let next = bursts(&mut transfer, &mut now)[0];
    assert_eq!(next, (11, 4, 2 * MILLISECOND + MILLISECOND / 2));
    let mut lockstep = self::begun(512, 1, 1 << 20).with_packets_per_ms(1);
    assert_eq!(run(&mut lockstep, 0), Some((1, 1)));
    lockstep.handle_ack(0, 1);
    assert_eq!((run(&mut lockstep, 0), lockstep.deadline()), (None, MILLISECOND));
}

#[test]
fn t40_what_the_engine_could_not_send_in_a_pause_leaves_after_resume() {
    let mut transfer = begun(512, 8, 1 << 20).with_packets_per_ms(4);
    assert_eq!(run(&mut transfer, 0), Some((1, 4)));
    transfer.hand_back_blocks(0, 1);
    assert_eq!(transfer.poll_transmit(MILLISECOND), None);
    transfer.resume();
    assert_eq!((run(&mut transfer, 0), transfer.deadline()), (None, MILLISECOND));
    assert_eq!(transfer.handle_timeout(MILLISECOND), TimeoutEffect::Again);
    assert_eq!(run(&mut transfer, MILLISECOND), Some((2, 4)));
}

#[test]
fn t41_intervals_double_to_8_s_with_jitter_and_progress_resets_them() {
    let mut transfer = begun(512, 1, 1 << 20);
    let mut now = 0;
    let mut spread = std::collections::BTreeSet::new();
    for round in 0..2 {
        run(&mut transfer, now);
        for seconds in [1, 2, 4, 8, 8] {
            let (timeout, waited) = fire(&mut transfer, &mut now);
            assert_eq!(timeout, TimeoutEffect::Again);
            let expected = seconds * SECOND;
            assert!(
                (expected * 9 / 10..=expected * 11 / 10).contains(&waited),
                "{waited} for {seconds} s"
            );
            spread.insert(waited * 1000 / expected);
            run(&mut transfer, now);
        }
        assert_eq!(transfer.handle_ack(now, round + 1), AckEffect::Moved);
    }
    assert!(spread.len() > 5, "jitter spreads: {spread:?}");
    // 500 machines that ask at once do not ask again at once.
    let first = |seed| {
        let mut transfer = Transfer::new(&terms(512, 1), 1 << 20, seed);
        transfer.poll_transmit(0);
        transfer.deadline() / MILLISECOND
    };
    let firsts: std::collections::BTreeSet<_> = (0..500).map(first).collect();
    let (least, most) = (firsts.first().unwrap(), firsts.last().unwrap());
    assert!((900..905).contains(least) && (1095..=1100).contains(most), "{least} to {most} ms");
    assert!(firsts.len() > 150, "{} of 200", firsts.len());
}

#[test]
fn t42_seven_tries_without_progress_are_enough() {
    let mut transfer = begun(512, 1, 1 << 20);
    let (mut now, mut transmissions) = (0, 0);
    loop {
        transmissions += u32::from(transfer.poll_transmit(now).is_some());
        match fire(&mut transfer, &mut now).0 {
            TimeoutEffect::Again => (),
            end => break assert_eq!(end, TimeoutEffect::GaveUp),
        }
    }
    assert_eq!(transmissions, 7);
    assert!((30 * SECOND..45 * SECOND).contains(&now), "{now}");
}

#[test]
fn t64_five_transmissions_at_most_before_the_first_ack() {
    for acknowledged in [true, false] {
        let unanswered = NegotiatedTerms { acknowledged, window: 1, ..terms(512, 1) };
        let mut transfer = Transfer::new(&unanswered, 1 << 20, 3);
        // A server that has run for a while.
        let (mut now, mut transmissions, mut octets) = (1000 * SECOND, 0, 0);
        loop {
            if let Some(transmit) = transfer.poll_transmit(now) {
                transmissions += 1;
                if let NextTransmit::Blocks(blocks) = transmit {
                    assert_eq!(blocks.blocks, 1);
                    octets += 4 + blocks.bytes.end - blocks.bytes.start;
                }
            }
            // Repeated requests draw on the same five.
            transfer.handle_repeated_request();
            if fire(&mut transfer, &mut now).0 == TimeoutEffect::GaveUp {
                break;
            }
        }
        assert!(transmissions <= 5, "{transmissions}");
        assert!(octets <= 5 * 516);
        assert_eq!(transfer.tally().retransmits, transmissions - 1);
    }
}

#[test]
fn unsent_blocks_are_owed_and_leave_after_resume() {
    let mut transfer = begun(512, 8, 1 << 20);
    assert_eq!(run(&mut transfer, 0), Some((1, 8)));
    transfer.hand_back_blocks(0, 3);
    assert_eq!(transfer.poll_transmit(0), None);
    assert_eq!(transfer.handle_ack(0, 5), AckEffect::Nothing, "block 5 has never left");
    transfer.resume();
    assert_eq!(run(&mut transfer, 0), Some((4, 5)));
    assert_eq!(
        transfer.tally(),
        TransferTally {
            bytes_sent: 8 * 512,
            least_burst: 8,
            confirmed: true,
            ..TransferTally::default()
        }
    );
    transfer.hand_back_blocks(0, 0);
    assert_eq!(transfer.handle_timeout(PARKED_MAX), TimeoutEffect::Stalled);
}
