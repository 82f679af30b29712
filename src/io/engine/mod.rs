//! The only room that uses io_uring: rings, sockets, batches, buffers that the kernel owns, and the
//! bell that wakes a sleeping core.

mod address;
pub mod affinity;
mod buffers;
pub mod clock;
pub mod confine;
mod control_message;
pub mod datapath;
pub mod disk;
pub mod limits;
pub mod link;
pub mod mailbox;
pub mod mmsg;
pub mod namespace;
pub mod net;
pub mod netlink;
pub mod open_files;
pub mod orphan;
pub mod privileges;
pub mod probe;
pub mod ring;
mod slot;
pub mod stream;
pub mod timer;
pub mod udp;
pub mod unreachable;
mod wait;
