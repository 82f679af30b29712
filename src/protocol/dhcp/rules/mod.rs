//! The rules of the wire as tests of whole decisions: a message in, the answer's bytes and the
//! table out.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod admission;
mod http;
mod identity;
mod leases;
mod messages;
mod options;
mod packet;
mod pxe;
mod relay;
mod routes;

use std::net::Ipv4Addr;

use crate::dhcp::subnet::{Reservation, Subnet};
use crate::dhcp::testing::{Message, Server, policy};

fn server() -> Server {
    Server::new(policy())
}

fn server_with(change: impl FnOnce(&mut Subnet)) -> Server {
    let mut policy = policy();
    change(&mut policy.subnets[0]);
    Server::new(policy)
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 4, last)
}

fn reserve(machine: u8, last: u8) -> impl FnOnce(&mut Subnet) {
    move |subnet| {
        let hostname = Some(format!("node-{machine}"));
        let one = Reservation { mac: Message::from(machine).mac, address: address(last), hostname };
        subnet.reservations = [subnet.reservations.to_vec(), vec![one]].concat().into();
    }
}

const MAC_ID: [u8; 7] = [1, 0x52, 0x54, 0, 0x12, 0x34, 1];
