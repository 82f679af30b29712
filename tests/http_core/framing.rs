//! Where one request ends and the next begins (RFC 9112), and what is not HTTP/1.

use std::net::Shutdown;

use super::server::{Server, pattern};

#[test]
fn h32_bodies_of_unclear_length_are_400_and_end_the_connection() {
    let server = Server::start();
    server.put("f", b"x");
    for lines in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n\r\nbody",
        "Content-Length: +4\r\n\r\nbody",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        " folded: line\r\n\r\n",
        "Space : x\r\n\r\n",
    ] {
        let mut client = server.connect();
        client.send(format!(
            "GET /f HTTP/1.1\r\nHost: h\r\n{lines}GET /f HTTP/1.1\r\nHost: \
                             h\r\n\r\n"
        ));
        let answer = client.answer(true);
        assert_eq!((answer.status(), answer.value("Connection")), (400, Some("close")), "{lines}");
        client.expect_end();
    }
}

#[test]
fn h32_codings_that_nobody_here_knows_are_501_and_hosts_that_are_none_400() {
    let server = Server::start();
    server.put("f", b"x");
    let (get, chunks) = ("GET /f HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:", "0\r\n\r\n");
    for (bytes, status) in [
        (format!("{get} chunked, chunked\r\n\r\n{chunks}"), 501),
        (format!("{get} gzip, chunked\r\n\r\n{chunks}"), 501),
        (format!("{get} chunked\r\n\r\n0\r\nX: a\rb\r\n\r\n"), 400),
        (format!("{get} chunked\r\n\r\n1\r\r\nx\r\n{chunks}"), 400),
        (format!("{get} chunked\r\n\r\n1;a=\rb\r\nx\r\n{chunks}"), 400),
        ("GET /f HTTP/1.1\r\nHost: a b/c\r\n\r\n".into(), 400),
        ("GET /f HTTP/1.1\r\nHost: a,b\r\n\r\n".into(), 400),
        ("GET /f HTTP/1.0\r\nHost: u@h\r\n\r\n".into(), 400),
    ] {
        let mut client = server.connect();
        client.send(&bytes);
        let answer = client.answer(true);
        assert_eq!(
            (answer.status(), answer.value("Connection")),
            (status, Some("close")),
            "{bytes:?}"
        );
        assert!(answer.value("Date").is_some());
        client.expect_end();
    }
    let mut later = server.connect();
    for request in [
        "GET /f HTTP/1.2\r\nHost: [::1]:80\r\n\r\n",
        "GET /f \
        HTTP/1.9\r\nHost:\r\n\r\n",
    ] {
        later.send(request);
        let answer = later.answer(true);
        assert!(
            answer.head.starts_with("HTTP/1.1 200 OK\r\n") && answer.text() == "x",
            "{answer:?}"
        );
    }
}

#[test]
fn h9_a_request_after_a_body_is_found_in_whatever_pieces_it_comes() {
    let server = Server::start();
    server.put("f", b"x");
    let request = "\r\nPOST /f HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \
                   chunked\r\n\r\n5;a=b\r\nGET /\r\n0\r\nT: x\r\n\r\n\
                   GET /f HTTP/1.1\r\nHost: h\r\n\r\n";
    for size in [1, 2, 7, 50, request.len()] {
        let mut client = server.connect();
        for piece in request.as_bytes().chunks(size) {
            client.send(piece);
        }
        assert_eq!(
            [client.answer(true).status(), client.answer(true).status()],
            [405, 200],
            "{size}"
        );
    }
}

#[test]
fn h3_other_versions_are_505_and_what_is_no_http_is_400() {
    let server = Server::start();
    for (bytes, status) in [
        (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], 505),
        (b"GET / HTTP/3.0\r\nHost: h\r\n\r\n", 505),
        (b"GET /\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ] {
        let mut client = server.connect();
        client.send(bytes);
        assert_eq!(client.answer(true).status(), status, "{}", bytes.escape_ascii());
        client.expect_end();
    }
}

#[test]
fn h9_a_client_that_asks_much_and_reads_nothing_is_slowed_down_and_served_in_order() {
    let server = Server::start();
    let image = pattern(100_000);
    server.put("image", &image);
    let mut client = server.connect();
    let mut sender = client.stream.try_clone().unwrap();
    let requests = 2000;
    let sending = std::thread::spawn(move || {
        let line = format!("GET /image HTTP/1.1\r\nHost: h\r\nCookie: {}\r\n\r\n", "c".repeat(400));
        for _ in 0..requests {
            std::io::Write::write_all(&mut sender, line.as_bytes()).unwrap();
        }
        sender.shutdown(Shutdown::Write).unwrap();
    });
    for n in 0..requests {
        assert!(client.answer(true).body == image, "{n}");
    }
    client.expect_end();
    sending.join().unwrap();
}
