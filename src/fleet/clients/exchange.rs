//! How a machine gets its address: DISCOVER to ACK with the waits of its firmware, and INIT-REBOOT
//! for an address that it had.

use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::waits::{DhcpWaits, IdleWait};
use crate::failure::BootFailure;
use crate::limits::DHCP_NAK_PAUSE;
use crate::measure::line::AskedProtocol;
use crate::net::dhcp::{ClientMessage, DhcpAnswer, DhcpMessageType, DhcpSpeaker};
use crate::net::segment::{AnswerMailbox, FleetSegment, HeldLease, MachinePort, XidSource};

impl FleetSegment {
    /// DISCOVER, OFFER, REQUEST, ACK: until the machine has an address, or its firmware gives up.
    pub(crate) async fn acquire(
        &self,
        port: MachinePort,
        speaker: DhcpSpeaker,
        xids: &mut XidSource,
    ) -> Result<DhcpAnswer, BootFailure> {
        let deadline = Instant::now() + self.context.pace.patience;
        loop {
            let mut line = DhcpExchange::open(self, port, speaker, xids);
            match line.discover_and_request().await {
                Ok(Some(answer)) => return self.accept_lease(port, speaker, answer),
                // A NAK: begin again with DISCOVER.
                Ok(None) if Instant::now() < deadline => {
                    sleep(self.context.pace.scale_wait(DHCP_NAK_PAUSE)).await
                }
                Ok(None) => return Err(BootFailure::DhcpRefused),
                Err(BootFailure::GaveUp { .. })
                    if !self.context.pace.gives_up && Instant::now() < deadline => {}
                Err(failure) => return Err(failure),
            }
            self.context.progress.add_retry();
        }
    }

    /// INIT-REBOOT: asks for the address that the machine had. Returns the address of the ACK; None
    /// for a NAK or silence.
    pub(crate) async fn confirm(
        &self,
        port: MachinePort,
        speaker: DhcpSpeaker,
        xids: &mut XidSource,
        had: Ipv4Addr,
    ) -> Option<Ipv4Addr> {
        let answer = DhcpExchange::open(self, port, speaker, xids).request(None, had).await.ok()?;
        (answer.kind == DhcpMessageType::Ack).then_some(answer.address)
    }
}

/// One exchange: its transaction ids are registered with the segment for as long as it lives.
struct DhcpExchange<'a> {
    segment: &'a FleetSegment,
    port: MachinePort,
    speaker: DhcpSpeaker,
    waits: DhcpWaits,
    xids: &'a mut XidSource,
    /// The transaction ids; the last one is in use.
    registered: Vec<u32>,
    /// Messages sent.
    sent: u16,
    mailbox: Rc<AnswerMailbox>,
}

impl<'a> DhcpExchange<'a> {
    fn open(
        segment: &'a FleetSegment,
        port: MachinePort,
        speaker: DhcpSpeaker,
        xids: &'a mut XidSource,
    ) -> Self {
        let mailbox = Rc::<AnswerMailbox>::default();
        let waits = DhcpWaits::from_speaker(speaker);
        let mut line =
            Self { segment, port, speaker, waits, xids, registered: Vec::new(), sent: 0, mailbox };
        line.renew();
        line
    }

    /// Makes a new transaction id; answers to the old ones still reach this machine.
    fn renew(&mut self) {
        let xid = self.xids.next();
        self.registered.push(xid);
        self.segment.waiting.borrow_mut().insert((self.port.mac, xid), Rc::clone(&self.mailbox));
    }

    /// None for a NAK.
    async fn discover_and_request(&mut self) -> Result<Option<DhcpAnswer>, BootFailure> {
        let times = &self.segment.context.dhcp_times;
        let begun = Instant::now();
        let offer = self.discover().await?;
        let offered = Instant::now();
        times.borrow_mut().add_offer(offered - begun);
        let (port, speaker, address, server) =
            (self.port, self.speaker, offer.address, offer.server);
        self.segment.hold_lease(HeldLease { port, speaker, address, server });
        // The REQUEST belongs to the DISCOVER that was answered, not to the last one.
        self.registered.push(offer.xid);
        let answer = self.request(server, address).await?;
        if answer.kind != DhcpMessageType::Ack {
            self.segment.forget_lease(port.mac, address);
            return Ok(None);
        }
        times.borrow_mut().add_ack(offered.elapsed());
        Ok(Some(answer))
    }

    /// Waits for an OFFER that this firmware accepts.
    async fn discover(&mut self) -> Result<DhcpAnswer, BootFailure> {
        let pace = self.segment.context.pace;
        let begun = Instant::now();

        // `ignored` is the last objection: it is the cause of the failure if no OFFER is good
        // enough.
        let (mut offer, mut ignored) = (None, None);
        for nth in 0..self.waits.tries {
            if nth > 0 && self.waits.renews_xid {
                self.renew();
            }

            // A DISCOVER after an accepted OFFER belongs to the wait for a ProxyDHCP server (D-68)
            // and is no retry.
            self.send(DhcpMessageType::Discover, None, None, nth > 0 && offer.is_none())?;
            let until = Instant::now() + pace.scale_wait(self.waits.pause(nth));
            while offer.is_none() {
                let Ok(answer) =
                    timeout_at(until, self.wait_for_answer(DhcpMessageType::Discover)).await
                else {
                    break;
                };
                let answer = answer?;
                match self.speaker.find_objection(&answer) {
                    None => offer = Some(answer),
                    objection => ignored = objection,
                }
            }
            let Some(found) = offer.take() else { continue };

            // These waits do not depend on the server, so a run leaves them out unless the plan
            // keeps them (`idle_waits`).
            let waits_on = match self.waits.idle {
                IdleWait::None => false,
                IdleWait::UntilPause => true,
                IdleWait::ForProxy => !found.no_proxy_dhcp,
            };
            if !pace.idle_waits || !waits_on {
                return Ok(found);
            }
            sleep_until(until).await;
            if self.waits.idle == IdleWait::UntilPause
                || begun.elapsed() >= pace.scale_wait(DhcpWaits::PROXY)
            {
                return Ok(found);
            }
            offer = Some(found);
        }

        offer.ok_or_else(|| {
            let reason = ignored.map_or_else(|| self.explain_silence(), str::to_owned);
            self.explain_give_up(&reason, self.waits.tries)
        })
    }

    /// The firmware cannot tell a closed port from a silent network. The failure can, by the ICMP
    /// message.
    fn explain_silence(&self) -> String {
        match self.segment.context.progress.line(AskedProtocol::Dhcp).find_absent_server() {
            Some(nobody) => format!("DHCP: {nobody}"),
            None => "no answer to DISCOVER".to_owned(),
        }
    }

    /// Sends the REQUEST and waits for ACK or NAK.
    async fn request(
        &mut self,
        server: Option<Ipv4Addr>,
        address: Ipv4Addr,
    ) -> Result<DhcpAnswer, BootFailure> {
        let tries = self.waits.tries.min(DhcpWaits::REQUESTS_MAX);
        for nth in 0..tries {
            self.send(DhcpMessageType::Request, server, Some(address), nth > 0)?;
            let until =
                Instant::now() + self.segment.context.pace.scale_wait(self.waits.pause(nth));
            if let Ok(answer) =
                timeout_at(until, self.wait_for_answer(DhcpMessageType::Request)).await
            {
                return answer;
            }
        }
        Err(self.explain_give_up("an offer, but no answer to REQUEST", tries))
    }

    fn send(
        &mut self,
        kind: DhcpMessageType,
        server: Option<Ipv4Addr>,
        address: Option<Ipv4Addr>,
        is_repeated: bool,
    ) -> Result<(), BootFailure> {
        let MachinePort { mac, uuid, circuit } = self.port;

        // `discover_and_request` puts the xid of the answered DISCOVER last, because the REQUEST
        // repeats the xid of the OFFER (RFC 2131 table 5).
        let xid = self.registered.last().copied().unwrap_or(0);
        let ask = ClientMessage {
            speaker: self.speaker,
            mac,
            uuid,
            xid,
            nth: self.sent,
            server,
            address,
            kind,
        };

        // iPXE counts the field secs up over all messages of an exchange, so the REQUEST counts on
        // from the last DISCOVER.
        self.sent = self.sent.saturating_add(1);
        if is_repeated {
            self.segment.context.progress.add_retry();
        }
        let bytes =
            self.segment.road.encode_message(&ask, circuit).ok_or(BootFailure::DhcpSilent)?;
        self.segment.send(&bytes);
        Ok(())
    }

    /// The next answer of the right type; a late second OFFER is no answer to a REQUEST.
    async fn wait_for_answer(&self, kind: DhcpMessageType) -> Result<DhcpAnswer, BootFailure> {
        let _asked = self.segment.context.progress.begin_request(AskedProtocol::Dhcp);
        loop {
            let answer = self.mailbox.next().await;
            if (kind == DhcpMessageType::Discover) == (answer.kind == DhcpMessageType::Offer) {
                let untouched = self.segment.road.is_untouched(&answer, self.port.circuit);
                return if untouched { Ok(answer) } else { Err(BootFailure::DhcpRelayInformation) };
            }
        }
    }

    fn explain_give_up(&self, what: &str, tries: u32) -> BootFailure {
        let seconds = (0..tries).map(|nth| self.waits.pause(nth)).sum::<Duration>().as_secs();
        BootFailure::GaveUp { who: self.waits.who, what: what.to_owned(), tries, seconds }
    }
}

impl Drop for DhcpExchange<'_> {
    fn drop(&mut self) {
        let mut waiting = self.segment.waiting.borrow_mut();
        for xid in &self.registered {
            waiting.remove(&(self.port.mac, *xid));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::RefCell;
    use std::net::SocketAddrV4;

    use tokio::net::UdpSocket;
    use tokio::task::{LocalSet, spawn_local};

    use super::*;
    use crate::content::ContentMap;
    use crate::net::context::FleetContext;
    use crate::net::relay;
    use crate::net::relay::RelayAgent;
    use crate::net::segment::SegmentTransport;
    use crate::pace::FleetPace;
    use ringboot_protocol::model::machine::{Mac, Uuid};

    /// A machine against a server that answers each DISCOVER with an OFFER with these options, and
    /// each REQUEST with an ACK; None: with silence. Returns the machine's result, and the xids and
    /// types that the server received. Paused time advances while both wait.
    fn acquire(
        options: Option<&'static [u8]>,
        speaker: DhcpSpeaker,
        idle_waits: bool,
    ) -> (Result<DhcpAnswer, BootFailure>, Vec<(u32, u8)>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        LocalSet::new().block_on(&runtime, async {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let server =
                SocketAddrV4::new(Ipv4Addr::LOCALHOST, socket.local_addr().unwrap().port());
            let heard = Rc::new(RefCell::new(Vec::new()));
            spawn_local(serve(socket, options, Rc::clone(&heard)));
            let pace = FleetPace {
                haste: 1,
                idle_waits,
                gives_up: true,
                patience: Duration::from_secs(500),
            };
            let context = Rc::new(FleetContext::new(
                server.into(),
                ContentMap::default(),
                pace,
                std::sync::Arc::default(),
            ));
            let agent = SocketAddrV4::new(Ipv4Addr::new(127, 77, 0, 2), 0);
            let road = SegmentTransport::Relay(
                RelayAgent::open(agent, server, relay::make_shared_inbox()).unwrap(),
            );
            let segment = FleetSegment::open(context, road, Rc::default(), 1);
            let port = MachinePort { mac: Mac([2; 6]), uuid: Uuid([1; 16]), circuit: 1 };
            let came = segment.acquire(port, speaker, &mut XidSource(1)).await;
            (came, heard.take())
        })
    }

    async fn serve(
        socket: UdpSocket,
        options: Option<&'static [u8]>,
        heard: Rc<RefCell<Vec<(u32, u8)>>>,
    ) {
        loop {
            let mut packet = [0; 1500];
            let (octets, from) = socket.recv_from(&mut packet).await.unwrap();
            let kind = packet[242];
            heard.borrow_mut().push((u32::from_be_bytes(packet[4..8].try_into().unwrap()), kind));
            if let Some(options) = options {
                // Option 82 is the last one before END.
                let marks = packet[octets - 11..octets - 1].to_vec();
                let mut answer = packet[..240].to_vec();
                answer[0] = 2;
                answer[16..20].copy_from_slice(&[127, 77, 16, 1]);
                answer.extend([53, 1, if kind == 1 { 2 } else { 5 }, 54, 4, 127, 0, 0, 1]);
                answer.extend(options);
                answer.extend(marks);
                answer.push(255);
                socket.send_to(&answer, from).await.unwrap();
            }
        }
    }

    fn kinds(heard: Vec<(u32, u8)>) -> Vec<u8> {
        heard.into_iter().map(|(_, kind)| kind).collect()
    }

    const BOOT_FILE: &[u8] = &[67, 1, b'x'];
    const NO_PROXY: &[u8] = &[175, 3, 176, 1, 1];

    #[test]
    fn d68_ipxe_waits_for_a_proxy_and_asks_again_unless_it_is_told_that_there_is_none() {
        for (options, idle_waits, messages) in [
            (BOOT_FILE, true, &[1, 1, 3][..]),
            (NO_PROXY, true, &[1, 3]),
            (BOOT_FILE, false, &[1, 3]),
        ] {
            let (came, heard) = acquire(Some(options), DhcpSpeaker::Ipxe(0), idle_waits);
            came.unwrap();
            assert_eq!(kinds(heard), messages);
        }
    }

    #[test]
    fn d71_a_firmware_that_hears_nothing_gives_up_after_its_own_time() {
        let (came, heard) = acquire(None, DhcpSpeaker::UefiPxe(7), false);
        assert_eq!(
            came.unwrap_err().to_string(),
            "OVMF gives up: no answer to DISCOVER, 4 tries in 60 s"
        );
        assert_eq!(kinds(heard), [1; 4]);
    }

    #[test]
    fn a_firmware_that_asks_where_nobody_listens_says_so_when_it_gives_up() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        LocalSet::new().block_on(&runtime, async {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let server =
                SocketAddrV4::new(Ipv4Addr::LOCALHOST, socket.local_addr().unwrap().port());
            drop(socket);
            let pace = FleetPace {
                haste: 1,
                idle_waits: false,
                gives_up: true,
                patience: Duration::from_secs(500),
            };
            let context = Rc::new(FleetContext::new(
                server.into(),
                ContentMap::default(),
                pace,
                std::sync::Arc::default(),
            ));
            let agent = SocketAddrV4::new(Ipv4Addr::new(127, 77, 0, 2), 0);
            let road = SegmentTransport::Relay(
                RelayAgent::open(agent, server, relay::make_shared_inbox()).unwrap(),
            );
            let segment = FleetSegment::open(context, road, Rc::default(), 1);
            let port = MachinePort { mac: Mac([2; 6]), uuid: Uuid([1; 16]), circuit: 1 };
            let said = segment
                .acquire(port, DhcpSpeaker::UefiPxe(7), &mut XidSource(1))
                .await
                .unwrap_err()
                .to_string();
            let nobody = format!("nothing answers at {server} (port unreachable)");
            assert_eq!(said, format!("OVMF gives up: DHCP: {nobody}, 4 tries in 60 s"));
        });
    }

    #[test]
    fn d42_d66_an_offer_that_a_firmware_cannot_use_is_as_none() {
        let ignored =
            |speaker, options| acquire(Some(options), speaker, false).0.unwrap_err().to_string();
        let said = ignored(DhcpSpeaker::UefiPxe(7), NO_PROXY);
        assert_eq!(said, "OVMF gives up: no OFFER with a boot file, 4 tries in 60 s");
        let said = ignored(DhcpSpeaker::UefiHttp(16), BOOT_FILE);
        assert_eq!(
            said,
            "UEFI HTTP Boot gives up: no OFFER with option 60 = HTTPClient, 4 tries in 60 s"
        );
    }

    #[test]
    fn d59_a_raspberry_pi_wants_its_menu() {
        let said =
            acquire(Some(BOOT_FILE), DhcpSpeaker::RaspberryPi, false).0.unwrap_err().to_string();
        assert!(
            said.starts_with("the Raspberry Pi gives up: no OFFER with \"Raspberry Pi Boot\""),
            "{said}"
        );
    }

    #[test]
    fn uboot_takes_a_new_xid_for_each_discover() {
        let (came, heard) = acquire(None, DhcpSpeaker::UBoot, false);
        came.unwrap_err();
        let xids: std::collections::HashSet<u32> = heard.into_iter().map(|(xid, _)| xid).collect();
        assert_eq!(xids.len(), 17);
    }
}
