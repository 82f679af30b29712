//! The DHCP sockets that wait for their interfaces: each is bound when its interface exists and has
//! an address.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use super::interfaces::ipv4;
use super::letters::DhcpLetter;
use super::link_news::LinkNews;
use crate::dhcp::other_servers::MonotonicMillis;
use crate::engine::mailbox::MailboxSender;
use crate::engine::net::{self, CarrierState, NetworkInterface, SocketBinding};

/// What the log says about an interface that does not exist.
const NOT_THERE: &str = "is not there";

/// A DHCP socket that is bound, or waits for its interface.
pub(super) struct WantedSocket {
    pub(super) interface: String,
    /// The index of the interface that the socket is bound to; None: it waits.
    pub(super) index: Option<u32>,
    /// The reason for waiting that was logged last.
    lack_said: Option<&'static str>,
    refusal_said: bool,
    link: LinkNews,
}

impl WantedSocket {
    pub(super) fn new(interface: String, index: Option<u32>) -> Self {
        Self { interface, index, lack_said: None, refusal_said: false, link: LinkNews::NONE }
    }

    /// Binds the socket when its interface has appeared, and closes it when the interface has gone.
    pub(super) fn follow(
        &mut self,
        found: Option<&NetworkInterface>,
        port: u16,
        core: &MailboxSender<DhcpLetter>,
    ) {
        // An interface that was removed and made again has another index, and needs another socket.
        let index = found.map(|interface| interface.index);
        if self.index.is_some() && self.index != index {
            tracing::warn!("interface {} is gone: DHCP waits for it", self.interface);
            core.send(DhcpLetter::Gone(self.interface.clone()));
            (self.index, self.lack_said) = (None, Some(NOT_THERE));
        }
        if self.index.is_some() {
            return;
        }

        let Some(addressed) = found.filter(|found| ipv4(found).next().is_some()) else {
            let lack = if found.is_some() { "has no IPv4 address" } else { NOT_THERE };
            if self.lack_said.replace(lack) != Some(lack) {
                tracing::warn!("interface {} {lack}: DHCP waits for it", self.interface);
            }
            return;
        };

        match bind_to(&self.interface, port) {
            Ok(socket) => {
                tracing::info!("interface {} is there: DHCP listens on it", self.interface);
                core.send(DhcpLetter::Bound { interface: self.interface.clone(), socket });
                (self.index, self.refusal_said) = (Some(addressed.index), false);
            }
            // The thread tries again at its next look, within a second: one line is enough.
            Err(error) if !std::mem::replace(&mut self.refusal_said, true) => {
                tracing::warn!(
                    "interface {} is there, but DHCP cannot listen on it yet: {error}",
                    self.interface
                );
            }
            Err(_) => {}
        }
    }

    /// Logs a link that goes up or down.
    pub(super) fn follow_link(&mut self, found: Option<&NetworkInterface>, now: MonotonicMillis) {
        // `follow` logs an interface that does not exist.
        let Some(link) = found.map(NetworkInterface::link) else { return };
        let Some(unsaid) = self.link.follow(link, now) else { return };

        let name = &self.interface;
        let unsaid = match unsaid {
            0 => String::new(),
            unsaid => format!(" ({unsaid} earlier changes were left out)"),
        };
        match link {
            CarrierState::Up => tracing::info!("interface {name} is up, and has a carrier{unsaid}"),
            CarrierState::Down => {
                tracing::warn!(
                    "interface {name} is down: it reaches no machine. `ip link set {name} \
                     up`{unsaid}"
                );
            }
            CarrierState::NoCarrier => {
                tracing::warn!(
                    "interface {name} has no carrier: it reaches no machine. Look at its \
                     cable and switch port{unsaid}"
                );
            }
        }
    }
}

fn bind_to(interface: &str, port: u16) -> io::Result<OwnedFd> {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    net::open_udp_socket(&SocketBinding { address, interface: Some(interface), shared: false })
}
