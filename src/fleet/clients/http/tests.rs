//! Tests of the HTTP client against small servers and recorded requests.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use super::*;
use crate::clients::url::UrlScheme;
use crate::content::ContentMap;
use crate::net::wire::{ContentProof, WireSettings};
use crate::pace::FleetPace;

#[test]
fn h1_grub_sees_content_length_in_title_case_only() {
    let lower = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
    assert_eq!(ResponseHead::parse(lower, HttpAgent::Grub).unwrap().length, None);
    assert_eq!(ResponseHead::parse(lower, HttpAgent::Ipxe).unwrap().length, Some(5));
    let title = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(ResponseHead::parse(title, HttpAgent::Grub).unwrap().length, Some(5));
}

#[test]
fn h16_h20_a_broken_transfer_is_asked_for_from_where_it_broke() {
    let url = Url::parse("http://127.0.0.1:8080/initrd").unwrap();
    let whole = HttpAgent::Grub.request(&url, None, Some("\"a\""));
    assert!(!whole.contains("Range"), "{whole}");
    let rest = HttpAgent::Grub.request(&url, Some((1000, None)), Some("\"a\""));
    assert!(rest.contains("Range: bytes=1000-\r\nIf-Match: \"a\"\r\n\r\n"), "{rest}");
    let head = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes \
          1000-1999/2000\r\nContent-Length: 1000\r\n\r\n";
    assert_eq!(ResponseHead::parse(head, HttpAgent::Grub).unwrap().range_start, Some(1000));
}

#[test]
fn an_answer_that_is_not_http_is_nonsense() {
    for wrong in [
        &b"SSH-2.0-OpenSSH\r\n\r\n"[..],
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 20x OK\r\n\r\n",
        b"\xff\xff\r\n\r\n",
    ] {
        assert_eq!(ResponseHead::parse(wrong, HttpAgent::Ipxe), None);
    }
}

/// Answers each connection with these bytes and closes it; returns the requests.
fn server(answers: Vec<Vec<u8>>) -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = spawn(move || {
        let answer_one = |answer: Vec<u8>| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut octet = [0];
                stream.read_exact(&mut octet).unwrap();
                request.extend_from_slice(&octet);
            }
            stream.write_all(&answer).unwrap();
            String::from_utf8(request).unwrap()
        };
        answers.into_iter().map(answer_one).collect()
    });
    (SocketAddr::from((Ipv4Addr::LOCALHOST, port)), requests)
}

fn fetch(server: SocketAddr, content: &ExpectedContent) -> (Result<Vec<u8>, BootFailure>, u64) {
    fetch_verified(server, content, ContentProof::Full)
}

fn fetch_verified(
    server: SocketAddr,
    content: &ExpectedContent,
    verify: ContentProof,
) -> (Result<Vec<u8>, BootFailure>, u64) {
    let mut contents = ContentMap::default();
    contents.insert("initrd", content.clone());
    let pace = FleetPace {
        haste: 1000,
        idle_waits: false,
        gives_up: false,
        patience: Duration::from_secs(5),
    };
    let wire = WireSettings { verify, ..WireSettings::default() };
    let context = FleetContext::new(server, contents, pace, Arc::default()).with_wire(wire, 1);
    let url = Url { scheme: UrlScheme::Http, server, path: "/initrd".to_owned() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fetched = runtime.block_on(
        HttpFetcher::new(&context, HttpAgent::Ipxe, Ipv4Addr::LOCALHOST).fetch(&url, false),
    );
    (fetched, context.progress.retries())
}

#[test]
fn h16_h20_a_transfer_goes_on_where_its_connection_broke() {
    let content = ExpectedContent::Generated { seed: 3, octets: 100_000 };
    let mut file = Vec::new();
    content.write_to(&mut file).unwrap();
    let head = |status: &str, more: &str| {
        format!("HTTP/1.1 {status}\r\nETag: \"a\"\r\n{more}\r\n\r\n").into_bytes()
    };
    let first = [head("200 OK", "Content-Length: 100000"), file[..60_000].to_vec()].concat();
    let range = "Content-Length: 40000\r\nContent-Range: bytes 60000-99999/100000";
    let second = [head("206 Partial Content", range), file[60_000..].to_vec()].concat();
    let (address, requests) = server(vec![first, second]);
    assert_eq!(fetch(address, &content), (Ok(vec![]), 1));
    assert!(requests.join().unwrap()[1].contains("Range: bytes=60000-\r\nIf-Match: \"a\"\r\n"));
}

#[test]
fn h10_each_program_takes_up_a_broken_transfer_as_often_as_it_does() {
    let fetched = |agent, answers: usize| {
        let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec();
        let (address, requests) = server(vec![cut; answers]);
        let pace = FleetPace {
            haste: 1000,
            idle_waits: false,
            gives_up: true,
            patience: Duration::from_secs(5),
        };
        let context = FleetContext::new(address, ContentMap::default(), pace, Arc::default());
        let url = Url { scheme: UrlScheme::Http, server: address, path: "/initrd".to_owned() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let fetched = runtime
            .block_on(HttpFetcher::new(&context, agent, Ipv4Addr::LOCALHOST).fetch(&url, false));
        assert_eq!(requests.join().unwrap().len(), answers);
        fetched.unwrap_err().to_string()
    };
    assert_eq!(
        fetched(HttpAgent::Grub, 1),
        "GRUB gives up: HTTP: the connection ended before the end of /initrd, 1 tries in 0 s"
    );
    let said = fetched(HttpAgent::Edk2, 6);
    assert_eq!(
        said,
        "UEFI HTTP Boot gives up: HTTP: the connection ended before the end of /initrd, 6 \
         tries in 10 s"
    );
}

#[test]
fn h19_uefi_http_boot_asks_for_the_size_and_then_the_file_on_one_connection() {
    let content = ExpectedContent::Generated { seed: 3, octets: 1000 };
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec();
    let mut file = head.clone();
    content.write_to(&mut file).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        [head, file].map(|answer| {
            let mut request = [0; 1000];
            let octets = stream.read(&mut request).unwrap();
            stream.write_all(&answer).unwrap();
            String::from_utf8_lossy(&request[..octets]).split(' ').next().unwrap().to_owned()
        })
    });
    let pace =
        FleetPace { haste: 1, idle_waits: false, gives_up: true, patience: Duration::from_secs(5) };
    let mut contents = ContentMap::default();
    contents.insert("nbp.efi", content);
    let context = FleetContext::new(address, contents, pace, Arc::default());
    let url = Url { scheme: UrlScheme::Http, server: address, path: "/nbp.efi".to_owned() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut http = HttpFetcher::new(&context, HttpAgent::Edk2, Ipv4Addr::LOCALHOST);
        assert_eq!(http.head(&url).await, Ok(1000));
        http.fetch(&url, false).await.unwrap();
    });
    assert_eq!(asked.join().unwrap(), ["HEAD", "GET"]);
}

#[test]
fn a_part_of_a_file_is_checked_where_it_belongs_and_the_whole_is_no_part() {
    let content = ExpectedContent::Generated { seed: 3, octets: 1000 };
    let mut file = Vec::new();
    content.write_to(&mut file).unwrap();
    let part = |from: usize| {
        let head = "HTTP/1.1 206 Partial Content\r\nContent-Length: 100\r\nContent-Range: bytes";
        [format!("{head} 450-549/1000\r\n\r\n").as_bytes(), &file[from..from + 100]].concat()
    };
    let whole = [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", &file[..]].concat();
    let name = || "/initrd".to_owned();
    for (answer, expected) in [
        (part(450), Ok(())),
        (part(449), Err(BootFailure::WrongContent(name(), 450))),
        (whole, Err(BootFailure::HttpNotInPart(name()))),
    ] {
        let (address, _requests) = server(vec![answer]);
        let pace = FleetPace {
            haste: 1,
            idle_waits: false,
            gives_up: true,
            patience: Duration::from_secs(5),
        };
        let mut contents = ContentMap::default();
        contents.insert("initrd", content.clone());
        let context = FleetContext::new(address, contents, pace, Arc::default());
        let url = Url { scheme: UrlScheme::Http, server: address, path: name() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let checker = context.make_checker("/initrd", false).with_part(450..550);
        let mut http =
            HttpFetcher::new(&context, HttpAgent::Plain { keep: true }, Ipv4Addr::LOCALHOST);
        assert_eq!(runtime.block_on(http.fetch_checked(&url, checker)).map(drop), expected);
    }
}

#[test]
fn h12_another_version_of_the_file_is_seen_and_not_mixed_in() {
    let content = ExpectedContent::Generated { seed: 3, octets: 1000 };
    let mut other = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec();
    ExpectedContent::Generated { seed: 4, octets: 1000 }.write_to(&mut other).unwrap();
    let (address, _requests) = server(vec![other]);
    assert_eq!(fetch(address, &content).0, Err(BootFailure::WrongContent("/initrd".to_owned(), 0)));
}

#[test]
fn what_is_not_verified_is_counted_all_the_same() {
    let content = ExpectedContent::Generated { seed: 3, octets: 300_000 };
    let answer = |octets| {
        let mut answer =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {octets}\r\n\r\n").into_bytes();
        ExpectedContent::Generated { seed: 4, octets }.write_to(&mut answer).unwrap();
        answer
    };
    let name = || "/initrd".to_owned();
    for (verify, octets, expected) in [
        (ContentProof::Full, 300_000, Err(BootFailure::WrongContent(name(), 0))),
        (ContentProof::Length, 300_000, Ok(vec![])),
        (ContentProof::Length, 299_999, Err(BootFailure::WrongLength(name(), 299_999, 300_000))),
        (ContentProof::None, 299_999, Ok(vec![])),
    ] {
        let (address, _requests) = server(vec![answer(octets)]);
        assert_eq!(fetch_verified(address, &content, verify).0, expected, "{verify:?} {octets}");
    }
}

#[test]
fn a_head_may_come_in_pieces_and_a_body_with_it() {
    let content = ExpectedContent::Generated { seed: 3, octets: 1000 };
    let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec();
    content.write_to(&mut answer).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        answer.chunks(7).for_each(|piece| stream.write_all(piece).unwrap());
        // Wait until the client has closed: closing earlier, with its request unread, would
        // reset the connection.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    assert_eq!(fetch(address, &content), (Ok(vec![]), 0));
    server.join().unwrap();
}

#[test]
fn h30_a_missing_file_ends_the_boot_at_once() {
    let (address, _requests) =
        server(vec![b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec()]);
    let content = ExpectedContent::Generated { seed: 3, octets: 1000 };
    assert_eq!(fetch(address, &content).0, Err(BootFailure::HttpStatus("/initrd".to_owned(), 404)));
}
