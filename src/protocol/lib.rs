//! The decisions of ringboot: functions of their input, without a socket, a file, a clock or a
//! thread.
//!
//! Each room is a protocol or a subject: [`dhcp`], [`tftp`] and [`http`] read packets and say what
//! to answer, [`boot`] says which NBP and which menu a machine gets, [`template`] renders answer
//! files, and [`model`] has the types that all of them share. The caller passes bytes and the time
//! in, and sends the bytes that come out.
//!
//! ```
//! use ringboot_protocol::tftp::packet::{Packet, parse_tftp_packet};
//!
//! let datagram = b"\0\x01pxelinux.0\0octet\0blksize\01468\0";
//! let Some(Packet::Read(Ok(request))) = parse_tftp_packet(datagram) else {
//!     panic!("this is a well-formed RRQ");
//! };
//! assert_eq!(request.name, b"pxelinux.0");
//! ```
#![forbid(unsafe_code)]

pub mod template;

pub mod dhcp;
pub mod http;
pub mod tftp;

pub mod boot;
pub mod model;
