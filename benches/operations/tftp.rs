//! A read request, its OACK, and the step that a transfer is made of: an ACK in, a block or a
//! window of blocks out.

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};

use ringboot::tftp::Tick;
use ringboot::tftp::options::{OptionPolicy, negotiate_options};
use ringboot::tftp::packet::{Packet, ReadRequest, parse_tftp_packet};
use ringboot::tftp::table::{LocalAddress, TableAction, TftpPolicy, TransferTable};

use super::Operation;
use super::boot::SERVER;

const REQUEST: &[u8] = b"\0\x01pxelinux.0\0octet\0blksize\x001468\0tsize\x000\0windowsize\x0064\0";
const WINDOW_16: &[u8] = b"\0\x01pxelinux.0\0octet\0blksize\x001468\0windowsize\x0016\0";
/// In lockstep, block by block.
const BLOCK_1468: &[u8] = b"\0\x01pxelinux.0\0octet\0blksize\x001468\0";
/// Without options, which is in lockstep too.
const BLOCK_512: &[u8] = b"\0\x01pxelinux.0\0octet\0";
/// The largest window that the server grants, blocks.
const WINDOW_MAX: u16 = 64;
/// Octets; the window never comes to the end of the file.
const ENDLESS: u64 = u64::MAX / 4;
/// Transfers of the same core beside the one that is measured.
const OTHERS: u16 = 99;
/// From one window to the next, microseconds.
const STEP: Tick = 1000;

pub(crate) fn operations() -> Vec<Operation> {
    let policy = OptionPolicy { window_max: WINDOW_MAX, ..OptionPolicy::default() };
    let asked = asked();
    let mut oack = Vec::new();
    let negotiate = move || {
        negotiate_options(
            asked.options,
            black_box(&policy),
            asked.mode,
            black_box(26_461),
            &mut oack,
        )
    };
    let step = |name, request, window| {
        let mut transfer = Running::new(policy, request, window);
        Operation::new(name, move || transfer.step())
    };
    vec![
        Operation::new("tftp: parse a read request", || {
            parse_tftp_packet(black_box(REQUEST)).is_some()
        }),
        Operation::new("tftp: negotiate options and write the OACK", negotiate),
        step("tftp: an ACK and the next block of 1468", BLOCK_1468, 1),
        step("tftp: an ACK and the next block of 512", BLOCK_512, 1),
        step("tftp: an ACK and the next window of 16", WINDOW_16, 16),
        step("tftp: an ACK and the next window of 64", REQUEST, 64),
    ]
}

fn asked() -> ReadRequest<'static> {
    let Some(Packet::Read(Ok(asked))) = parse_tftp_packet(REQUEST) else {
        panic!("the request is well formed")
    };
    asked
}

/// A transfer that has begun, in a table with others.
struct Running {
    table: TransferTable<()>,
    now: Tick,
    peer: SocketAddr,
    tid: u16,
    /// Blocks.
    window: u16,
    /// The last one of the window in flight.
    block: u16,
}

impl Running {
    fn new(options: OptionPolicy, request: &[u8], window: u16) -> Self {
        let policy = TftpPolicy { per_address_limits: false, options, ..TftpPolicy::default() };
        let mut running = Self {
            table: TransferTable::new(policy, 1),
            now: 0,
            peer: client(0),
            tid: 0,
            window,
            block: 0,
        };
        for other in 0..=OTHERS {
            running.begin(client(other), request);
        }
        running
    }

    fn begin(&mut self, peer: SocketAddr, request: &[u8]) {
        self.table.handle_listen(self.now, peer, local(), false, request);
        while let Some(action) = self.table.poll(self.now) {
            match action {
                TableAction::Open { id, .. } => {
                    let _ = self.table.finish_open(self.now, id, Ok(((), ENDLESS)));
                }
                TableAction::Datagram { tid, .. } if peer == self.peer => self.tid = tid.unwrap(),
                // Without options the first block opens the transfer (T-13).
                TableAction::Blocks { wanted, .. } if peer == self.peer => {
                    (self.tid, self.block) = (wanted.tid.unwrap(), 1);
                }
                _ => (),
            }
        }
    }

    /// Acknowledges the window in flight; the first time, the OACK.
    fn step(&mut self) {
        self.now += STEP;
        let [high, low] = self.block.to_be_bytes();
        self.table.handle_tid(self.now, self.tid, self.peer, local(), &[0, 4, high, low]);
        let mut sent = 0;
        while let Some(action) = self.table.poll(self.now) {
            if let TableAction::Blocks { wanted, .. } = action {
                sent += wanted.blocks;
            }
        }
        assert_eq!(sent, u32::from(self.window));
        self.block = self.block.wrapping_add(self.window);
    }
}

fn local() -> LocalAddress {
    LocalAddress { address: IpAddr::V4(SERVER), interface: 2 }
}

fn client(number: u16) -> SocketAddr {
    SocketAddr::from(([192, 168, 4, 26], 2070 + number))
}
