//! Transfers of a fleet against a small server, on shared sockets and on single ones.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::sync::Arc;
use std::thread::{JoinHandle as Thread, spawn};

use tokio::task::LocalSet;
use tokio::time::timeout;

use super::*;
use crate::content::{ContentMap, ExpectedContent};
use crate::limits::TFTP_GENERATIONS;
use crate::net::context::FleetContext;
use crate::net::impair::NetworkImpairment;
use crate::pace::FleetPace;
use ringboot_protocol::tftp::client::ClientBehaviour;

const CONTENT: ExpectedContent = ExpectedContent::Generated { seed: 5, octets: 30_000 };
const WINDOW: u16 = 16;

/// A server with one file, no memory and one port; it sends a whole window for each ACK, and ends
/// after a second without a packet. Returns the senders.
fn server(window: u16) -> (SocketAddr, Thread<Vec<SocketAddr>>) {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let address = socket.local_addr().unwrap();
    let mut file = Vec::new();
    CONTENT.write_to(&mut file).unwrap();
    let thread = spawn(move || {
        let (mut asked, mut packet, mut outbox) = (Vec::new(), [0; 600], DatagramOutbox::default());
        while let Ok((_, peer)) = socket.recv_from(&mut packet) {
            let first = match (packet[1], window) {
                (1, 1) => 1,
                (1, _) => {
                    asked.push(peer);
                    let oack = format!("\0\x06blksize\x00512\0windowsize\x00{window}\0");
                    socket.send_to(oack.as_bytes(), peer).unwrap();
                    continue;
                }
                (4, _) => usize::from(u16::from_be_bytes([packet[2], packet[3]])) + 1,
                _ => continue,
            };
            if packet[1] == 1 {
                asked.push(peer);
            }
            let blocks = (file.len() / 512 + 2 - first).min(window.into());
            if blocks > 0 {
                outbox.push(peer, None, (blocks > 1).then_some(516), |bytes| {
                    for block in first..first + blocks {
                        bytes.extend_from_slice(&[0, 3, (block >> 8) as u8, block as u8]);
                        bytes.extend_from_slice(
                            file[(block - 1) * 512..]
                                .get(..512)
                                .unwrap_or(&file[(block - 1) * 512..]),
                        );
                    }
                });
                outbox.flush(&socket).unwrap();
            }
        }
        asked
    });
    (address, thread)
}

fn with_context<T>(
    server: SocketAddr,
    wire: WireSettings,
    work: impl AsyncFnOnce(Rc<FleetContext>) -> T,
) -> T {
    let mut contents = ContentMap::default();
    contents.insert("file", CONTENT);
    let pace = FleetPace {
        haste: 1,
        idle_waits: false,
        gives_up: false,
        patience: Duration::from_secs(30),
    };
    let context =
        Rc::new(FleetContext::new(server, contents, pace, Arc::default()).with_wire(wire, 1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, work(context))
}

async fn play(
    context: &FleetContext,
    behaviour: ClientBehaviour,
    address: Ipv4Addr,
) -> Result<ClientOutcome, BootFailure> {
    play_burst(context, behaviour, address, 1000).await
}

async fn play_burst(
    context: &FleetContext,
    behaviour: ClientBehaviour,
    address: Ipv4Addr,
    burst: usize,
) -> Result<ClientOutcome, BootFailure> {
    let transfer = HubTransfer {
        probes: u8::from(behaviour.probe.is_some()),
        client: FetchClient::new(behaviour, b"file", 1),
        address,
        burst,
        silence: Duration::from_secs(20),
        checker: context.make_checker("file", false),
        request: context.progress.tftp_request(),
    };
    let mut ended = context.hub.play_transfer(transfer).await?;
    match ended.outcome? {
        whole @ ClientOutcome::Complete { .. } => ended.checker.finish().map(|_| whole),
        outcome => Ok(outcome),
    }
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 79, 0, number)
}

const WHOLE: Result<ClientOutcome, BootFailure> = Ok(ClientOutcome::Complete { octets: 30_000 });

fn sockets(context: &FleetContext) -> usize {
    context.hub.state.borrow().sockets.open.len()
}

#[test]
fn a_transfer_goes_on_while_other_machines_keep_the_thread_busy() {
    let (server, _asked) = server(1);
    with_context(server, WireSettings::default(), async |context| {
        let fetch = {
            let context = Rc::clone(&context);
            spawn_local(async move { play(&context, ClientBehaviour::pi3(), address(1)).await })
        };
        // Until the request is sent; then no other task runs.
        let is_asked = || {
            let state = context.hub.state.borrow();
            !state.sockets.list_used().is_empty() && state.sockets.to_flush.is_empty()
        };
        while !is_asked() {
            yield_now().await;
        }
        let begun = Instant::now();
        while context.progress.octets() < CONTENT.octets()
            && begun.elapsed() < Duration::from_secs(20)
        {
            context.hub.read_shared_if_due();
        }
        assert_eq!(context.progress.octets(), CONTENT.octets());
        assert_eq!(fetch.await.unwrap(), WHOLE);
    });
}

#[test]
fn hundreds_of_machines_share_a_few_sockets_and_each_gets_its_file() {
    let (server, asked) = server(1);
    with_context(server, WireSettings::default(), async |context| {
        let fetches: Vec<_> = (1..=200)
            .map(|number| {
                let context = Rc::clone(&context);
                spawn_local(
                    async move { play(&context, ClientBehaviour::pi3(), address(number)).await },
                )
            })
            .collect();
        for fetch in fetches {
            assert_eq!(fetch.await.unwrap(), WHOLE);
        }
        assert_eq!(sockets(&context), 1);
    });
    let asked = asked.join().unwrap();
    let mut machines: Vec<_> = asked.iter().map(SocketAddr::ip).collect();
    machines.sort_unstable();
    machines.dedup();
    assert_eq!(machines.len(), 200, "each from its own address");
}

#[test]
fn successive_requests_of_a_machine_come_from_other_ports() {
    let (server, asked) = server(1);
    with_context(server, WireSettings::default(), async |context| {
        for _ in 0..TFTP_GENERATIONS {
            assert_eq!(play(&context, ClientBehaviour::pi3(), address(1)).await, WHOLE);
        }
    });
    let mut ports: Vec<_> = asked.join().unwrap().iter().map(SocketAddr::port).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), TFTP_GENERATIONS);
}

#[test]
fn what_may_be_on_its_way_to_a_socket_fits_its_buffer() {
    let (server, _asked) = server(1);
    with_context(server, WireSettings::default(), async |context| {
        let most = 1 << 40;
        let fetches = [1, 2].map(|number| {
            Box::pin(play_burst(&context, ClientBehaviour::pi3(), address(number), most))
        });
        let [one, two] = fetches;
        assert_eq!(tokio::join!(one, two), (WHOLE, WHOLE));
        assert_eq!(sockets(&context), 2);
        assert!(context.hub.state.borrow().sockets.open.values().all(|socket| socket.load == 0));
        assert_eq!(play_burst(&context, ClientBehaviour::pi3(), address(3), most).await, WHOLE);
        assert_eq!(sockets(&context), 2, "an empty one takes anybody");
    });
}

#[test]
fn machines_of_one_address_have_a_socket_each_for_as_long_as_they_need_it() {
    let (server, asked) = server(1);
    with_context(server, WireSettings::default(), async |context| {
        let anybody = Ipv4Addr::UNSPECIFIED;
        let fetches = [
            play(&context, ClientBehaviour::pi3(), anybody),
            play(&context, ClientBehaviour::pi3(), anybody),
        ];
        let [one, two] = fetches.map(Box::pin);
        let (one, two) = tokio::join!(one, async { (sockets(&context), two.await) });
        assert_eq!((one, two), (WHOLE, (1, WHOLE)));
        assert_eq!((sockets(&context), context.hub.state.borrow().seats.len()), (0, 0));
    });
    let asked = asked.join().unwrap();
    assert_ne!(asked[0].port(), asked[1].port());
}

#[test]
fn a_transfer_that_nobody_waits_for_any_more_is_forgotten() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = silent.local_addr().unwrap();
    with_context(server, WireSettings::default(), async |context| {
        let fetch = play(&context, ClientBehaviour::pi3(), address(1));
        assert!(timeout(Duration::from_millis(20), fetch).await.is_err());
        let state = context.hub.state.borrow();
        assert!(state.seats.is_empty() && state.guests.iter().all(Option::is_none));
    });
}

#[test]
fn t43_silence_is_met_with_repeats_and_then_with_the_end() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = silent.local_addr().unwrap();
    let mut behaviour = ClientBehaviour::pi3();
    behaviour.patience.first = 10_000_000;
    behaviour.patience.most = 10_000_000;
    behaviour.patience.tries = 3;
    with_context(server, WireSettings::default(), async |context| {
        assert_eq!(play(&context, behaviour, address(1)).await, Ok(ClientOutcome::TimedOut));
    });
    silent.set_nonblocking(true).unwrap();
    assert_eq!(std::iter::from_fn(|| silent.recv(&mut [0; 600]).ok()).count(), 3);
}

#[test]
fn t37_windows_are_taken_joined_or_single() {
    for gro in [false, true] {
        let (server, _asked) = server(WINDOW);
        with_context(server, WireSettings { gro, ..WireSettings::default() }, async |context| {
            assert_eq!(
                play(&context, ClientBehaviour::generic(512, WINDOW), address(1)).await,
                WHOLE
            );
        });
    }
}

#[test]
fn a_bad_network_costs_time_but_no_octet() {
    let impairment = NetworkImpairment {
        loss: 0.02,
        duplicate: 0.05,
        reorder: 0.05,
        delay: Duration::from_millis(1),
    };
    let mut behaviour = ClientBehaviour::generic(512, WINDOW);
    behaviour.patience.first = 20_000_000;
    behaviour.patience.most = 20_000_000;
    behaviour.patience.tries = 100;
    let (server, _asked) = server(WINDOW);
    with_context(server, WireSettings { impairment, ..WireSettings::default() }, async |context| {
        for number in 1..=5 {
            assert_eq!(play(&context, behaviour.clone(), address(number)).await, WHOLE);
        }
    });
}
