//! A machine's way to an address: DISCOVER to ACK with the waits of its firmware, and the question whether an address is still its.

use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::dhcp::{Answer, Ask, Kind, Speaker};
use super::failure::Failure;
use super::models::waits::{Idle, Waits};
use super::segment::{Held, Mailbox, Port, Segment, Xids};

impl Segment {
    /// DISCOVER, OFFER, REQUEST, ACK: until the machine has an address, or its firmware gives up.
    pub(super) async fn acquire(&self, port: Port, speaker: Speaker, xids: &mut Xids) -> Result<Answer, Failure> {
        let deadline = Instant::now() + self.context.pace.patience;
        loop {
            let mut line = Line::open(self, port, speaker, xids);
            match line.discover_and_request().await {
                Ok(Some(answer)) => return self.take_possession(port, speaker, answer),
                // Refused: all begins again.
                Ok(None) if Instant::now() < deadline => {}
                Ok(None) => return Err(Failure::DhcpRefused),
                Err(Failure::GaveUp { .. }) if !self.context.pace.gives_up && Instant::now() < deadline => {}
                Err(failure) => return Err(failure),
            }
            self.context.progress.add_retry();
        }
    }

    /// INIT-REBOOT: asks for the address that the machine had. The address of the ACK; None for a NAK or silence.
    pub(super) async fn confirm(
        &self,
        port: Port,
        speaker: Speaker,
        xids: &mut Xids,
        had: Ipv4Addr,
    ) -> Option<Ipv4Addr> {
        let answer = Line::open(self, port, speaker, xids).request(None, had).await.ok()?;
        (answer.kind == Kind::Ack).then_some(answer.address)
    }
}

/// One exchange: its transaction ids are registered with the segment for as long as it lives.
struct Line<'a> {
    segment: &'a Segment,
    port: Port,
    speaker: Speaker,
    waits: Waits,
    xids: &'a mut Xids,
    /// The last one is in use.
    registered: Vec<u32>,
    /// Messages sent.
    sent: u16,
    mailbox: Rc<Mailbox>,
}

impl<'a> Line<'a> {
    fn open(segment: &'a Segment, port: Port, speaker: Speaker, xids: &'a mut Xids) -> Self {
        let mailbox = Rc::<Mailbox>::default();
        let waits = Waits::of(speaker);
        let mut line = Self { segment, port, speaker, waits, xids, registered: Vec::new(), sent: 0, mailbox };
        line.renew();
        line
    }

    /// A new transaction id; answers to the old ones still come to this machine.
    fn renew(&mut self) {
        let xid = self.xids.next();
        self.registered.push(xid);
        self.segment.waiting.borrow_mut().insert((self.port.mac, xid), Rc::clone(&self.mailbox));
    }

    /// None for a NAK.
    async fn discover_and_request(&mut self) -> Result<Option<Answer>, Failure> {
        let offer = self.discover().await?;
        let (port, speaker, address, server) = (self.port, self.speaker, offer.address, offer.server);
        self.segment.hold(Held { port, speaker, address, server });
        // The REQUEST belongs to the DISCOVER that was answered, not to the last one.
        self.registered.push(offer.xid);
        let answer = self.request(server, address).await?;
        if answer.kind != Kind::Ack {
            self.segment.forget(port.mac, address);
            return Ok(None);
        }
        Ok(Some(answer))
    }

    /// An OFFER that this firmware takes, when it takes it.
    async fn discover(&mut self) -> Result<Answer, Failure> {
        let pace = self.segment.context.pace;
        let begun = Instant::now();
        let (mut offer, mut ignored) = (None, None);
        for nth in 0..self.waits.tries {
            if nth > 0 && self.waits.renews_xid {
                self.renew();
            }
            self.send(Kind::Discover, None, None, nth > 0 && offer.is_none())?;
            let until = Instant::now() + pace.hurried(self.waits.pause(nth));
            while offer.is_none() {
                let Ok(answer) = timeout_at(until, self.answer_to(Kind::Discover)).await else { break };
                let answer = answer?;
                match self.speaker.objects_to(&answer) {
                    None => offer = Some(answer),
                    objection => ignored = objection,
                }
            }
            let Some(found) = offer.take() else { continue };
            let waits_on = match self.waits.idle {
                Idle::None => false,
                Idle::UntilPause => true,
                Idle::ForProxy => !found.no_proxy_dhcp,
            };
            if !pace.idle_waits || !waits_on {
                return Ok(found);
            }
            sleep_until(until).await;
            if self.waits.idle == Idle::UntilPause || begun.elapsed() >= pace.hurried(Waits::PROXY) {
                return Ok(found);
            }
            offer = Some(found);
        }
        offer.ok_or_else(|| self.gave_up(ignored.unwrap_or("no answer to DISCOVER"), self.waits.tries))
    }

    /// ACK or NAK.
    async fn request(&mut self, server: Option<Ipv4Addr>, address: Ipv4Addr) -> Result<Answer, Failure> {
        let tries = self.waits.tries.min(Waits::REQUESTS_MAX);
        for nth in 0..tries {
            self.send(Kind::Request, server, Some(address), nth > 0)?;
            let until = Instant::now() + self.segment.context.pace.hurried(self.waits.pause(nth));
            if let Ok(answer) = timeout_at(until, self.answer_to(Kind::Request)).await {
                return answer;
            }
        }
        Err(self.gave_up("no answer to REQUEST", tries))
    }

    fn send(
        &mut self,
        kind: Kind,
        server: Option<Ipv4Addr>,
        address: Option<Ipv4Addr>,
        is_repeated: bool,
    ) -> Result<(), Failure> {
        let Port { mac, uuid, circuit } = self.port;
        let xid = self.registered.last().copied().unwrap_or(0);
        let ask = Ask { speaker: self.speaker, mac, uuid, xid, nth: self.sent, server, address, kind };
        self.sent = self.sent.saturating_add(1);
        if is_repeated {
            self.segment.context.progress.add_retry();
        }
        let bytes = self.segment.road.letter(&ask, circuit).ok_or(Failure::DhcpSilent)?;
        self.segment.send(&bytes);
        Ok(())
    }

    /// The next answer that fits the question; a late second OFFER is no answer to a REQUEST.
    async fn answer_to(&self, kind: Kind) -> Result<Answer, Failure> {
        loop {
            let answer = self.mailbox.next().await;
            if (kind == Kind::Discover) == (answer.kind == Kind::Offer) {
                let untouched = self.segment.road.is_untouched(&answer, self.port.circuit);
                return if untouched { Ok(answer) } else { Err(Failure::DhcpRelayInformation) };
            }
        }
    }

    fn gave_up(&self, what: &str, tries: u32) -> Failure {
        let seconds = (0..tries).map(|nth| self.waits.pause(nth)).sum::<Duration>().as_secs();
        Failure::GaveUp { who: self.waits.who, what: what.to_owned(), tries, seconds }
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let mut waiting = self.segment.waiting.borrow_mut();
        for xid in &self.registered {
            waiting.remove(&(self.port.mac, *xid));
        }
    }
}
