//! Ranges and conditions on the wire (H-15 to H-23).

use std::time::{Duration, SystemTime};

use super::server::{Server, pattern};

const LEN: usize = 5_000_000;

fn server() -> (Server, Vec<u8>) {
    let server = Server::start();
    let image = pattern(LEN);
    server.put("image", &image);
    server.put("small", &image[..1000]);
    (server, image)
}

#[test]
fn h15_accept_ranges_is_on_every_file_answer() {
    let (server, _) = server();
    let mut client = server.connect();
    for name in ["/image", "/small"] {
        assert_eq!(client.get(name, &[]).value("Accept-Ranges"), Some("bytes"));
        assert_eq!(client.get(name, &["Range: bytes=0-9"]).value("Accept-Ranges"), Some("bytes"));
        assert_eq!(client.ask("HEAD", name, &[]).value("Accept-Ranges"), Some("bytes"));
    }
}

#[test]
fn h16_each_range_is_206_with_exactly_its_bytes() {
    let (server, image) = server();
    let mut client = server.connect();
    for (range, from, to) in [
        ("0-0", 0, 1),
        ("0-2047", 0, 2048),
        ("4096-6143", 4096, 6144),
        ("1048570-3145735", 1_048_570, 3_145_736),
        ("4999999-", LEN - 1, LEN),
        ("4000000-9999999", 4_000_000, LEN),
        ("-100", LEN - 100, LEN),
        ("-99999999", 0, LEN),
    ] {
        let answer = client.get("/image", &[&format!("Range: bytes={range}")]);
        assert_eq!(answer.status(), 206, "{range}");
        assert_eq!(
            answer.value("Content-Range").unwrap(),
            format!("bytes {from}-{}/{LEN}", to - 1)
        );
        assert!(answer.body == image[from..to], "{range}");
    }
    let small = client.get("/small", &["Range: bytes=500-"]);
    assert!(small.body == image[500..1000]);
}

#[test]
fn h16_a_san_boot_reads_an_iso_in_2048_byte_blocks_on_one_connection() {
    let (server, image) = server();
    let mut client = server.connect();
    for block in (0..500).map(|n| n * 37 % 2441) {
        let (from, to) = (block * 2048, (block + 1) * 2048);
        let answer = client
            .get("/image", &[&format!("Range: bytes={from}-{}", to - 1), "Connection: keep-alive"]);
        assert_eq!(answer.status(), 206);
        assert!(answer.body == image[from..to.min(LEN)]);
    }
}

#[test]
fn h17_beyond_the_end_is_416_and_nonsense_is_ignored_and_the_connection_goes_on() {
    let (server, image) = server();
    let mut client = server.connect();
    let answer = client.get("/image", &["Range: bytes=5000000-"]);
    assert_eq!((answer.status(), answer.value("Content-Range")), (416, Some("bytes */5000000")));
    assert_eq!(client.get("/image", &["Range: bytes=-0"]).status(), 416);
    for range in ["bytes=9-1", "bytes=a-b", "lines=1-2", "bytes"] {
        let answer = client.get("/small", &[&format!("Range: {range}")]);
        assert_eq!((answer.status(), &answer.body[..]), (200, &image[..1000]), "{range}");
    }
}

#[test]
fn h18_several_ranges_come_as_one_multipart_body() {
    let (server, image) = server();
    let mut client = server.connect();
    let answer = client.get("/image", &["Range: bytes=3000000-4199999,0-9,-5"]);
    assert_eq!(answer.status(), 206);
    let boundary = answer
        .value("Content-Type")
        .unwrap()
        .strip_prefix(
            "multipart/byteranges; \
        boundary=",
        )
        .unwrap();
    let mut wanted = Vec::new();
    for (from, to) in [(3_000_000, 4_200_000), (0, 10), (LEN - 5, LEN)] {
        let head = format!(
            "--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes \
             {from}-{}/{LEN}\r\n\r\n",
            to - 1
        );
        wanted.extend_from_slice(head.as_bytes());
        wanted.extend_from_slice(&image[from..to]);
        wanted.extend_from_slice(b"\r\n");
    }
    wanted.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    assert!(answer.body == wanted);
    assert_eq!(
        client.get("/image", &["Range: bytes=0-9,5-19"]).value("Content-Range"),
        Some("bytes 0-19/5000000")
    );
    assert_eq!(client.get("/image", &["Range: bytes=0-,0-"]).status(), 200);
}

#[test]
fn h19_range_counts_on_get_only_and_after_the_conditions() {
    let (server, _) = server();
    let mut client = server.connect();
    let head = client.ask("HEAD", "/image", &["Range: bytes=0-9"]);
    assert_eq!((head.status(), head.value("Content-Length")), (200, Some("5000000")));
    assert_eq!(client.get("/image", &["Range: bytes=9999999-", "If-None-Match: *"]).status(), 304);
    assert_eq!(client.get("/image", &["Range: bytes=9999999-", "If-Match: \"x\""]).status(), 412);
}

#[test]
fn h20_a_resume_of_a_file_that_has_changed_is_412() {
    let (server, image) = server();
    let mut client = server.connect();
    let first = client.ask("HEAD", "/image", &[]);
    let (etag, date) = (first.value("Etag").unwrap(), first.value("Last-Modified").unwrap());
    let lines = [
        "Range: bytes=2000000-",
        &format!("If-Match: {etag}"),
        &format!("If-Unmodified-Since: {date}"),
    ];
    let resumed = client.get("/image", &lines);
    assert_eq!(resumed.status(), 206);
    assert!(resumed.body == image[2_000_000..]);
    std::fs::write(server.path("new"), pattern(4_000_000)).unwrap();
    std::fs::rename(server.path("new"), server.path("image")).unwrap();
    assert_eq!(client.get("/image", &lines).status(), 412);
    assert_eq!(client.get("/image", &[lines[0], lines[2]]).status(), 412);
}

#[test]
fn h21_if_range_gives_the_part_of_the_same_version_or_the_whole_of_the_new_one() {
    let (server, image) = server();
    let mut client = server.connect();
    let first = client.ask("HEAD", "/image", &[]);
    let line = format!("If-Range: {}", first.value("Etag").unwrap());
    assert_eq!(client.get("/image", &["Range: bytes=5-9", &line]).body, image[5..10]);
    // A date is weak: the file may have been replaced within its second.
    for other in
        ["\"other\"", "Sun, 09 Sep 2001 01:46:40 GMT", first.value("Last-Modified").unwrap()]
    {
        let answer = client.get("/image", &["Range: bytes=5-9", &format!("If-Range: {other}")]);
        assert_eq!((answer.status(), answer.body.len()), (200, LEN), "{other}");
    }
}

#[test]
fn h22_what_the_client_has_already_is_304_without_a_body() {
    let (server, _) = server();
    let mut client = server.connect();
    let first = client.ask("HEAD", "/image", &[]);
    let (etag, date) = (first.value("Etag").unwrap(), first.value("Last-Modified").unwrap());
    for condition in [
        format!("If-None-Match: {etag}"),
        "If-None-Match: *".into(),
        format!("If-Modified-Since: {date}"),
    ] {
        let answer = client.get("/image", &[&condition]);
        assert_eq!((answer.status(), answer.value("Etag")), (304, Some(etag)), "{condition}");
    }
    assert_eq!(client.get("/small", &[]).status(), 200, "no stray body was left on the connection");
}

#[test]
fn h23_the_tag_is_strong_changes_with_the_file_and_dates_are_never_in_the_future() {
    let (server, _) = server();
    let mut client = server.connect();
    let etag = |answer: &super::client::Answer| answer.value("Etag").unwrap().to_owned();
    let first = etag(&client.get("/small", &[]));
    assert!(first.starts_with('"') && first.ends_with('"') && first.len() > 2);
    assert_eq!(etag(&server.connect().get("/small", &[])), first);
    server.put("small", &[b'y'; 1000]);
    let file = std::fs::File::options().write(true).open(server.path("small")).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(86_400)).unwrap();
    let answer = client.get("/small", &[]);
    assert_ne!(etag(&answer), first);
    let date = |name| httpdate::parse_http_date(answer.value(name).unwrap()).unwrap();
    assert!(date("Last-Modified") <= date("Date"));
}
