//! What every head looks like, and how connections go on (H-1 to H-11, H-30, H-31).

use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::client::Client;
use super::server::{Server, pattern};
use ringboot::images::clean_path_name;
use ringboot::serve::http::HttpPlan;

#[test]
fn h1_header_names_go_out_in_title_case_in_answers_good_and_bad() {
    let server = Server::start();
    server.put("vmlinuz", &pattern(200_000));
    let mut client = server.connect();
    let answer = client.get("/vmlinuz", &["Range: bytes=1-2"]);
    for name in [
        "Content-Length",
        "Content-Type",
        "Content-Range",
        "Accept-Ranges",
        "Last-Modified",
        "Date",
    ] {
        assert!(answer.value(name).is_some(), "{name} in {}", answer.head);
    }
    for line in answer.head.lines().skip(1) {
        let name = line.split(':').next().unwrap();
        assert!(
            name.split('-').all(|word| word.starts_with(|c: char| c.is_ascii_uppercase())),
            "{line}"
        );
    }
    client.send("nonsense\r\n\r\n");
    let refused = client.answer(true);
    assert_eq!((refused.status(), refused.text()), (400, "the request is malformed\n"));
    assert_eq!(
        (refused.value("Content-Length"), refused.value("Connection")),
        (Some("25"), Some("close"))
    );
}

#[test]
fn h2_one_space_follows_each_colon_and_lines_end_in_cr_lf() {
    let server = Server::start();
    server.put("f", b"x");
    let answer = server.connect().get("/f", &[]);
    assert!(
        answer.head.ends_with("\r\n") && !answer.head.replace("\r\n", "").contains(['\r', '\n'])
    );
    for line in answer.head.lines().skip(1) {
        let (_, value) = line.split_once(": ").unwrap();
        assert!(!value.starts_with(' '), "{line:?}");
    }
}

#[test]
fn h3_the_status_line_of_a_file_is_http_1_1_200_or_206() {
    let server = Server::start();
    server.put("f", b"0123456789");
    let mut client = server.connect();
    assert!(client.get("/f", &[]).head.starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(client.get("/f", &["Range: bytes=0-1"]).head.starts_with(
        "HTTP/1.1 206 Partial \
        Content\r\n"
    ));
}

#[test]
fn h4_every_answer_has_its_length_and_none_is_chunked() {
    let server =
        Server::with(HttpPlan {
            index: vec![clean_path_name(b"dir").unwrap()],
            ..HttpPlan::default()
        });
    let large = pattern(3_000_000);
    server.put("small", b"small");
    server.put("large", &large);
    server.put("empty", b"");
    server.put("dir/name", b"x");
    let mut client = server.connect();
    for (target, status, body) in [
        ("/small", 200, Some(&b"small"[..])),
        ("/large", 200, Some(&large[..])),
        ("/empty", 200, Some(&b""[..])),
        ("/dir", 200, None),
        ("/none", 404, None),
        ("/a%2fb", 400, None),
    ] {
        // A refused target ends the connection, so it stands last.
        let answer = client.get(target, &["TE: chunked"]);
        assert_eq!(answer.status(), status, "{target}");
        assert_eq!(answer.value("Transfer-Encoding"), None, "{target}");
        assert_eq!(
            answer.value("Content-Length"),
            Some(answer.body.len().to_string().as_str()),
            "{target}"
        );
        assert!(body.is_none_or(|body| body == answer.body), "{target}");
    }
    client.expect_end();
}

#[test]
fn h5_no_content_encoding_whatever_the_client_accepts() {
    let server = Server::start();
    server.put("ks.cfg", &[b'a'; 5000]);
    let answer = server.connect().get("/ks.cfg", &["Accept-Encoding: gzip, deflate, br, zstd"]);
    assert_eq!((answer.value("Content-Encoding"), answer.body.len()), (None, 5000));
}

#[test]
fn h6_head_then_get_on_one_connection_have_the_same_headers() {
    let server = Server::start();
    let kernel = pattern(100_000);
    server.put("shimx64.efi", &kernel);
    let mut client = server.connect();
    let head = client.ask("HEAD", "/shimx64.efi", &["User-Agent: UefiHttpBoot/1.0"]);
    assert_eq!(head.value("Content-Length"), Some("100000"));
    let get = client.get("/shimx64.efi", &["User-Agent: UefiHttpBoot/1.0"]);
    assert_eq!(get.body, kernel);
    let without_date = |head: &str| {
        head.lines().filter(|line| !line.starts_with("Date")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(without_date(&head.head), without_date(&get.head));
    let missing = client.ask("HEAD", "/none", &[]);
    assert_eq!((missing.status(), missing.value("Content-Length")), (404, Some("10")));
}

#[test]
fn h7_http_1_0_needs_no_host_and_closes_unless_asked_to_keep_alive() {
    let server = Server::start();
    server.put("u-boot.img", &pattern(70_000));
    let mut client = server.connect();
    client.send("GET /u-boot.img HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let kept = client.answer(true);
    assert_eq!((kept.status(), kept.value("Connection")), (200, Some("keep-alive")));
    client.send("GET /u-boot.img HTTP/1.0\r\n\r\n");
    let last = client.answer(true);
    assert!(last.head.starts_with("HTTP/1."));
    assert_eq!(last.body, pattern(70_000));
    client.expect_end();
}

#[test]
fn h8_http_1_1_needs_exactly_one_host_of_any_value() {
    let server = Server::start();
    server.put("f", b"x");
    for request in ["GET /f HTTP/1.1\r\n\r\n", "GET /f HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"] {
        let mut client = server.connect();
        client.send(request);
        assert_eq!(client.answer(true).status(), 400, "{request}");
    }
    for host in ["192.168.4.150", "other:8080", ""] {
        let mut client = server.connect();
        client.send(format!("GET /f HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(client.answer(true).status(), 200, "{host}");
    }
}

#[test]
fn h9_connections_are_kept_pipelined_requests_answered_in_order_and_close_honoured() {
    let server = Server::start();
    for n in 0..40 {
        // Read into memory and mapped in turn, so that the two ways to send alternate on one
        // connection.
        server.put(&format!("f{n}"), &pattern(if n % 2 == 0 { 100 + n } else { 100_000 + n }));
    }
    let mut client = server.connect();
    for round in 0..2 {
        let requests: String =
            (0..40).map(|n| format!("GET /f{n} HTTP/1.1\r\nHost: h\r\n\r\n")).collect();
        client.send(requests);
        for n in 0..40 {
            let answer = client.answer(true);
            assert_eq!(
                answer.body,
                pattern(if n % 2 == 0 { 100 + n } else { 100_000 + n }),
                "round {round}, f{n}"
            );
        }
    }
    let last = client.get("/f1", &["Connection: close"]);
    assert_eq!(last.value("Connection"), Some("close"));
    client.expect_end();
}

#[test]
fn h9_a_client_that_closes_its_side_after_asking_gets_the_whole_answer() {
    let server = Server::start();
    let image = pattern(20_000_000);
    server.put("image", &image);
    let mut client = server.connect();
    client.send("GET /image HTTP/1.1\r\nHost: h\r\n\r\n");
    client.half_close();
    assert!(client.answer(true).body == image);
    client.expect_end();
}

#[test]
fn h10_the_first_byte_comes_at_once_for_files_that_no_one_has_asked_for_before() {
    let server = Server::start();
    for n in 0..20 {
        server.put(&format!("cold{n}"), &pattern(10_000_000 / 20));
    }
    let mut client = server.connect();
    let mut times: Vec<Duration> = (0..20)
        .map(|n| {
            let asked = Instant::now();
            client.send(format!("GET /cold{n} HTTP/1.1\r\nHost: h\r\n\r\n"));
            client.stream.peek(&mut [0]).unwrap();
            let time = asked.elapsed();
            client.answer(true);
            time
        })
        .collect();
    times.sort_unstable();
    // The median, since another test may have the processor.
    assert!(times[10] < Duration::from_millis(50), "{times:?}");
    assert!(times[19] < Duration::from_secs(5), "{times:?}");
}

#[test]
fn h10_the_last_byte_of_a_large_answer_is_not_held_back() {
    let server = Server::start();
    server.put("image", &pattern(3_000_000));
    let mut client = server.connect();
    let mut times: Vec<Duration> = (0..20)
        .map(|n| {
            let asked = Instant::now();
            let range = format!("Range: bytes={}-{}", n * 1000, n * 1000 + 1_048_575);
            assert_eq!(client.get("/image", &[&range]).body.len(), 1_048_576);
            asked.elapsed()
        })
        .collect();
    times.sort_unstable();
    // Far less than a kernel waits with a packet that it was told to fill (200 ms).
    assert!(times[10] < Duration::from_millis(60), "{times:?}");
}

#[test]
fn h11_sizes_and_offsets_beyond_4_gib_are_right() {
    use std::os::unix::fs::FileExt;
    let server = Server::start();
    let iso = std::fs::File::create(server.path("large.iso")).unwrap();
    iso.set_len(6 << 30).unwrap();
    iso.write_all_at(b"here", 5 << 30).unwrap();
    let mut client = server.connect();
    assert_eq!(client.ask("HEAD", "/large.iso", &[]).value("Content-Length"), Some("6442450944"));
    let answer = client.get("/large.iso", &["Range: bytes=5368709118-5368709125"]);
    assert_eq!(answer.value("Content-Range"), Some("bytes 5368709118-5368709125/6442450944"));
    assert_eq!(answer.body, b"\0\0here\0\0");
}

#[test]
fn h30_refusals_are_short_texts_with_a_length_and_404_is_not_found() {
    let server = Server::start();
    let mut client = server.connect();
    let answer = client.get("/grub/grub.cfg-01-52-54-00-12-34-56", &[]);
    assert_eq!((answer.status(), answer.value("Content-Type")), (404, Some("text/plain")));
    assert_eq!(answer.text(), "not found\n");
    assert!(!answer.text().contains(server.path("").to_str().unwrap()));
    assert_eq!(client.get("/again", &[]).status(), 404, "the connection goes on");
}

#[test]
fn h31_date_is_in_every_answer_and_nothing_is_upgraded() {
    let server = Server::start();
    server.put("f", b"x");
    let mut client = server.connect();
    let upgrade = [
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: \
        AAMAAABkAAQCAAAAAAIAAAAA",
    ];
    for (target, lines) in [("/f", &upgrade[..]), ("/none", &[]), ("/f", &["If-None-Match: *"])] {
        let answer = client.get(target, lines);
        assert!(answer.status() != 101 && answer.value("Upgrade").is_none(), "{}", answer.head);
        let date = httpdate::parse_http_date(answer.value("Date").unwrap()).unwrap();
        assert!(date.elapsed().unwrap() < Duration::from_secs(60));
    }
}

#[test]
fn h31_a_client_that_expects_100_continue_is_answered() {
    let server = Server::start();
    server.put("f", b"x");
    let mut client = server.connect();
    client.send("GET /f HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert_eq!(client.head().unwrap().status(), 100);
    client.send("body");
    assert_eq!(client.answer(true).status(), 200);
    assert_eq!(client.get("/f", &["Expect: 100-continue"]).status(), 200);
}

#[test]
fn an_address_of_ipv6_is_served_alike() {
    let server = Server::start();
    let image = pattern(5_000_000);
    server.put("image", &image);
    let mut client = Client::new(TcpStream::connect(server.v6).unwrap());
    assert!(client.get("/image", &[]).body == image);
}
