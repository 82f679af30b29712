//! The HTTP core on the wire: each rule of HTTP, read from raw bytes on loopback, over each way to
//! speak to the kernel.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::duplicate_mod)]

mod parsers;

/// All tests of a core, over one datapath.
macro_rules! over {
    ($datapath:ident as $name:ident) => {
        #[path = "."]
        mod $name {
            const DATAPATH: ringboot::engine::datapath::Datapath =
                ringboot::engine::datapath::Datapath::$datapath;

            mod changes;
            mod client;
            mod conditions;
            mod framing;
            mod heads;
            pub(crate) mod hostile;
            mod limits;
            mod server;
            mod storm;
            mod targets;
        }
    };
}

over!(IoUring as io_uring);
over!(Epoll as epoll);
