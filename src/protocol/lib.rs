//! What ringboot decides: functions of their input, without a socket, a file, a clock or a thread.
//!
//! Each room is a protocol or a subject: [`dhcp`], [`tftp`] and [`http`] read packets and say what
//! to answer, [`boot`] says which NBP and which menu a machine gets, [`template`] renders answer
//! files, and [`model`] has the words that all of them share. The caller brings bytes and the time,
//! and sends what it is given.
#![forbid(unsafe_code)]

pub mod template;

pub mod dhcp;
pub mod http;
pub mod tftp;

pub mod boot;
pub mod model;
