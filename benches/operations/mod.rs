//! What the pure cores do for one packet or one request, each operation written once: timed by
//! `cores`, counted by `instructions`.
#![allow(clippy::unwrap_used)]

use std::fmt;
use std::hint::black_box;

mod boot;
mod dhcp;
mod http;
mod observe;
mod tftp;

/// The server's own allocator: its instructions are part of every operation, and they are the same
/// on every C library.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Something to be done again and again, at the same cost each time.
pub(crate) struct Operation {
    /// The room, a colon, and what is done.
    pub name: &'static str,
    pub run: Box<dyn FnMut()>,
}

impl Operation {
    /// What `run` returns is not optimised away; dropping it is part of the cost.
    fn new<T>(name: &'static str, mut run: impl FnMut() -> T + 'static) -> Self {
        let run = Box::new(move || {
            black_box(run());
        });
        Self { name, run }
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Every operation, in the order in which a boot meets them.
pub(crate) fn all() -> Vec<Operation> {
    [
        dhcp::operations(),
        tftp::operations(),
        boot::operations(),
        http::operations(),
        observe::operations(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
