//! What hostile and unlucky clients, networks and disks do to the real server, each beside fifty
//! honest machines.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::print_stdout)]

#[path = "../common/mod.rs"]
mod common;
mod dhcp_answers;
mod dhcp_site;
mod dhcp_table;
mod dhcp_wire;
mod files;
mod host;
mod http_clients;
mod tftp_clients;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::Scratch;
use common::honest::Honest;
use common::net::Net;
use common::server::{self, Server};

/// Both ways to the kernel, by the words of the configuration.
const DATAPATHS: [&str; 2] = ["io_uring", "epoll"];

/// Tests that compare times run one after the other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A server on a bridge, and the honest machines' namespace beside it.
#[allow(dead_code)]
struct Site {
    // Namespaces of clients go before the server's.
    honest: Honest,
    server: Server,
    net: Net,
    scratch: Scratch,
}

impl Site {
    /// The classic network with these lines in its subnet, then tables; one boot core.
    fn new(name: &str, datapath: &str, lines: &str) -> Self {
        Self::in_scratch(Scratch::new(name), datapath, lines)
    }

    /// The same where a test has prepared the root.
    fn in_scratch(scratch: Scratch, datapath: &str, lines: &str) -> Self {
        let net = Net::new();
        Honest::lay_out(&server::root(&scratch));
        let configuration =
            server::configuration(&scratch).replace("[server]\n", "[server]\nworkers = 1\n");
        let tuning = format!("[tuning]\ndatapath = \"{datapath}\"\n");
        let tables = if lines.contains("[tuning]\n") {
            lines.replace("[tuning]\n", &tuning)
        } else {
            format!("{lines}\n{tuning}")
        };
        let text = format!("{configuration}clients = \"any\"\n{tables}");
        let server = Server::start(&net, &scratch, &text);
        server.log_line("no other DHCP server answers", Duration::from_secs(30));
        Self { honest: Honest::new(&net), server, net, scratch }
    }
}

#[test]
fn honest_machines_boot_on_a_quiet_server() {
    let _alone = alone();
    for datapath in DATAPATHS {
        let site = Site::new("hostile-quiet", datapath, "");
        let before = site.honest.run(Duration::from_secs(3));
        let after = site.honest.run(Duration::from_secs(3));
        println!("{datapath}:\n{}\n{}", before.report, after.report);
        after.assert_no_worse(&before, 5);
        site.server.stop();
    }
}
