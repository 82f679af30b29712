//! Request heads, whole and in pieces: what is read, refused, and limited.
use super::*;
use proptest::prelude::*;

fn whole(bytes: &[u8]) -> RequestHead<'_> {
    match parse_request_head(bytes) {
        ParsedHead::Whole(request, len) => {
            assert_eq!(len, bytes.len());
            request
        }
        other => panic!("{other:?}"),
    }
}

fn head(lines: &str) -> Vec<u8> {
    format!("GET /f HTTP/1.1\r\nHost: h\r\n{lines}\r\n").into_bytes()
}

#[test]
fn h9_a_connection_is_kept_as_version_and_connection_field_say() {
    for (head, keeps) in [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nconnection: Close\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nConnection: upgrade , close\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nConnection: closed\r\n\r\n", true),
        ("GET / HTTP/1.0\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
        ("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false),
    ] {
        assert_eq!(whole(head.as_bytes()).keeps_alive, keeps, "{head}");
    }
}

#[test]
fn h32_the_length_of_a_body_is_one_number_or_chunked() {
    let framing = |lines: &str| match parse_request_head(&head(lines)) {
        ParsedHead::Whole(request, _) => Ok(request.framing),
        ParsedHead::Bad(bad) => Err(bad),
        ParsedHead::Partial => panic!("{lines}"),
    };
    assert_eq!(framing(""), Ok(BodyFraming::Length(0)));
    assert_eq!(framing("Content-Length: 5\r\n"), Ok(BodyFraming::Length(5)));
    assert_eq!(framing("Content-Length: 5\r\nContent-Length: 5\r\n"), Ok(BodyFraming::Length(5)));
    assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Ok(BodyFraming::Chunked));
    for codings in
        ["gzip, chunked", "chunked, chunked", "chunked\r\nTransfer-Encoding: chunked", ", chunked"]
    {
        assert_eq!(
            framing(&format!("Transfer-Encoding: {codings}\r\n")),
            Err(BadHead::Coding),
            "{codings}"
        );
    }
    for codings in ["", "identity", "chunked,", "chunked;q=1", "chunked x", "xchunked", "gzip"] {
        assert_eq!(
            framing(&format!("Transfer-Encoding: {codings}\r\n")),
            Err(BadHead::Encoding),
            "{codings}"
        );
    }
    for bad in ["5, 5", "-1", "+5", "0x5", "", "5 5", "99999999999999999999999"] {
        assert_eq!(framing(&format!("Content-Length: {bad}\r\n")), Err(BadHead::Length), "{bad}");
    }
    assert_eq!(framing("Content-Length: 5\r\nContent-Length: 6\r\n"), Err(BadHead::Length));
    assert_eq!(
        framing("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        Err(BadHead::Encoding)
    );
    assert_eq!(framing("Transfer-Encoding: chunked, gzip\r\n"), Err(BadHead::Encoding));
    assert_eq!(
        framing("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"),
        Err(BadHead::Encoding)
    );
    assert_eq!(framing("Content-Length: 65536\r\n"), Ok(BodyFraming::Length(65536)));
    assert_eq!(framing("Content-Length: 65537\r\n"), Err(BadHead::BodyTooLarge));
    let old = parse_request_head(b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(
        old,
        ParsedHead::Bad(BadHead::Encoding),
        "1.0 has no codings (RFC 9112 section 6.1)"
    );
}

#[test]
fn h8_hosts_are_counted_and_no_line_is_folded() {
    assert_eq!(whole(&head("")).hosts, 1);
    assert_eq!(whole(b"GET / HTTP/1.0\r\n\r\n").hosts, 0);
    assert_eq!(whole(&head("HOST: b\r\n")).hosts, 2);
    for lines in ["X: a\r\n b\r\n", "X : a\r\n", "X a\r\n", "X: a\rb\r\n", "X: a\0\r\n"] {
        assert_eq!(parse_request_head(&head(lines)), ParsedHead::Bad(BadHead::Syntax), "{lines:?}");
    }
}

#[test]
fn h8_the_value_of_host_is_a_host_perhaps_with_a_port_or_nothing() {
    let is_bad = |host: &str| whole(&head(&format!("Host: {host}\r\n"))).has_bad_host;
    for host in [
        "",
        "h",
        "192.168.4.150",
        "192.168.4.150:8080",
        "boot.example.test.",
        "a_b-c:",
        "%41bc",
        "[fd00:4::150]",
        "[fd00:4::150]:80",
        "[fe80::1%25eth0]",
        "[::ffff:192.168.4.150]",
        "[v1.x:y]",
    ] {
        assert!(!is_bad(host), "{host}");
    }
    for host in [
        "a b/c",
        "a,b",
        "a b",
        "a/",
        "user@h",
        "http://h",
        "h:80:80",
        "h:8x",
        "h:-1",
        ":x",
        "[",
        "[]",
        "[::1",
        "[::1]x",
        "[1.2.3.4]",
        "[h]",
        "::1",
        "h?",
        "h#",
        "a\\b",
        "%4",
        "%zz",
        "%4g",
        "%g4",
        "caf\u{e9}",
        "<h>",
        "\"h\"",
        "{h}",
        "a\tb",
    ] {
        assert!(is_bad(host), "{host}");
    }
}

#[test]
fn h3_a_later_minor_version_is_read_as_1_1() {
    for minor in 2..=9 {
        let bytes = format!("HEAD /f?q HTTP/1.{minor}\r\nHost: h\r\nContent-Length: 3\r\n\r\n");
        let later = whole(bytes.as_bytes());
        assert_eq!(
            (later.method, later.version, later.target),
            (HttpMethod::Head, HttpVersion::Http11, &b"/f?q"[..])
        );
        assert_eq!(
            (later.hosts, later.framing, later.keeps_alive),
            (1, BodyFraming::Length(3), true)
        );
        assert_eq!(later.get(HeaderField::Host), Some(&b"h"[..]));
        for end in 1..bytes.len() {
            assert_eq!(parse_request_head(&bytes.as_bytes()[..end]), ParsedHead::Partial, "{end}");
        }
    }
    let large = format!("GET /f HTTP/1.2\r\nCookie: {}\r\n\r\n", "c".repeat(HEADERS_BYTES_MAX));
    assert_eq!(parse_request_head(large.as_bytes()), ParsedHead::Bad(BadHead::HeaderTooLarge));
    let many = format!("GET /f HTTP/1.2\r\n{}\r\n", "X: y\r\n".repeat(HEADERS_MAX + 1));
    assert_eq!(parse_request_head(many.as_bytes()), ParsedHead::Bad(BadHead::HeaderTooLarge));
    let long = format!("GET /{} HTTP/1.2\r\n\r\n", "a".repeat(REQUEST_LINE_BYTES_MAX));
    assert_eq!(parse_request_head(long.as_bytes()), ParsedHead::Bad(BadHead::LineTooLong));
    for lines in ["X: a\r\n b\r\n", "X : a\r\n", "X: a\rb\r\n", "X: a\0\r\n"] {
        assert_eq!(
            parse_request_head(format!("GET /f HTTP/1.2\r\n{lines}\r\n").as_bytes()),
            ParsedHead::Bad(BadHead::Syntax),
            "{lines:?}"
        );
    }
}

#[test]
fn the_first_value_of_a_field_is_found_without_a_search() {
    let lines = "Host: h\r\nrange:  bytes=0-1 \t\r\nIf-None-Match:\r\nRange: \
                 bytes=2-3\nIf-None-Match: \"x\"\r\nUser-Agent: a b";
    for head in
        [format!("GET /f HTTP/1.1\r\n{lines}\r\n\r\n"), format!("GET /f HTTP/1.7\n{lines}\n\n")]
    {
        let request = whole(head.as_bytes());
        for (field, value) in [
            (HeaderField::Host, "h"),
            (HeaderField::Range, "bytes=0-1"),
            (HeaderField::UserAgent, "a b"),
            (HeaderField::IfNoneMatch, ""),
        ] {
            assert_eq!(request.get(field), Some(value.as_bytes()), "{field:?}");
            assert_eq!(request.values(field).next(), Some(value.as_bytes()), "{field:?}");
        }
        assert_eq!(request.values(HeaderField::Range).nth(1), Some(&b"bytes=2-3"[..]));
        assert_eq!(
            (
                request.single_value(HeaderField::Range),
                request.single_value(HeaderField::IfNoneMatch)
            ),
            (None, None)
        );
        assert_eq!(
            (request.single_value(HeaderField::Host), request.single_value(HeaderField::IfRange)),
            (Some(&b"h"[..]), None)
        );
        assert_eq!(
            (request.get(HeaderField::IfRange), request.values(HeaderField::IfRange).next()),
            (None, None)
        );
    }
    let long =
        format!("GET /f HTTP/1.1\r\nX: {}\r\nHost: h\r\n\r\n", "y".repeat(HEADERS_BYTES_MAX - 20));
    assert_eq!(whole(long.as_bytes()).get(HeaderField::Host), Some(&b"h"[..]));
}

#[test]
fn h3_lines_may_end_in_lf_alone_and_other_versions_are_named() {
    assert_eq!(whole(b"GET /f HTTP/1.1\nHost: h\n\n").hosts, 1);
    for (head, bad) in [
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BadHead::Version),
        ("GET / HTTP/1.25\r\n\r\n", BadHead::Version),
        ("GET / HTTP/1.2 \r\n\r\n", BadHead::Version),
        ("GET / HTTP/0.9\r\n\r\n", BadHead::Version),
        ("GET /\r\n", BadHead::Syntax),
        ("GET /my kernel HTTP/1.1\r\n\r\n", BadHead::Syntax),
        ("GET  / HTTP/1.1\r\n\r\n", BadHead::Syntax),
        ("\x16\x03\x01\x02", BadHead::Syntax),
        ("nonsense\r\n\r\n", BadHead::Syntax),
    ] {
        assert_eq!(parse_request_head(head.as_bytes()), ParsedHead::Bad(bad), "{head:?}");
    }
}

#[test]
fn h32_long_lines_and_large_headers_are_told_apart_while_they_come() {
    let line =
        |len: usize| format!("GET /{} HTTP/1.1\r\n", "a".repeat(len - "GET / HTTP/1.1".len()));
    let longest = line(REQUEST_LINE_BYTES_MAX);
    assert_eq!(parse_request_head(longest.as_bytes()), ParsedHead::Partial);
    whole(format!("{longest}Host: h\r\n\r\n").as_bytes());
    let longer = line(REQUEST_LINE_BYTES_MAX + 1);
    for end in [longer.len() - 1, longer.len()] {
        assert_eq!(
            parse_request_head(&longer.as_bytes()[..end]),
            ParsedHead::Bad(BadHead::LineTooLong)
        );
    }
    assert_eq!(
        parse_request_head(format!("{longer}Host: h\r\n\r\n").as_bytes()),
        ParsedHead::Bad(BadHead::LineTooLong)
    );
    assert_eq!(
        parse_request_head(longest.replace("\r\n", "\n").as_bytes()),
        ParsedHead::Partial,
        "a line end of one byte"
    );
    assert_eq!(
        parse_request_head(longer.replace("\r\n", "\n").as_bytes()),
        ParsedHead::Bad(BadHead::LineTooLong)
    );
    assert_eq!(parse_request_head(&[b'a'; REQUEST_LINE_BYTES_MAX]), ParsedHead::Partial);
    assert_eq!(
        parse_request_head(&[b'a'; REQUEST_LINE_BYTES_MAX + 2]),
        ParsedHead::Bad(BadHead::LineTooLong)
    );

    whole(&head(&"X: y\r\n".repeat(HEADERS_MAX - 1)));
    assert_eq!(
        parse_request_head(&head(&"X: y\r\n".repeat(HEADERS_MAX))),
        ParsedHead::Bad(BadHead::HeaderTooLarge)
    );
    let large = head(&format!("Cookie: {}\r\n", "c".repeat(HEADERS_BYTES_MAX)));
    assert_eq!(parse_request_head(&large), ParsedHead::Bad(BadHead::HeaderTooLarge));
    assert_eq!(parse_request_head(&large[..large.len() - 40]), ParsedHead::Partial);
    // Lines that have not ended must leave room for their end.
    for (octets, parsed) in [
        (HEADERS_BYTES_MAX - 2, ParsedHead::Partial),
        (HEADERS_BYTES_MAX - 1, ParsedHead::Partial),
        (HEADERS_BYTES_MAX, ParsedHead::Bad(BadHead::HeaderTooLarge)),
        (HEADERS_BYTES_MAX + 1, ParsedHead::Bad(BadHead::HeaderTooLarge)),
    ] {
        let unfinished = format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(octets - "X: ".len()));
        assert_eq!(parse_request_head(unfinished.as_bytes()), parsed, "{octets}");
    }
    // All lines after the first one, the empty one included.
    let lines = |octets: usize| {
        format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(octets - "X: \r\n\r\n".len()))
    };
    whole(lines(HEADERS_BYTES_MAX).as_bytes());
    assert_eq!(
        parse_request_head(lines(HEADERS_BYTES_MAX + 1).as_bytes()),
        ParsedHead::Bad(BadHead::HeaderTooLarge)
    );
}

#[test]
fn h32_of_a_mistake_and_a_limit_the_first_is_named_in_one_piece_or_in_many() {
    let line = format!("GET /{}", "a".repeat(2 * REQUEST_LINE_BYTES_MAX));
    let header = format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(2 * HEADERS_BYTES_MAX));
    let header_begins = "GET / HTTP/1.1\r\n".len();
    for (head, limit, most) in [
        (line, BadHead::LineTooLong, REQUEST_LINE_BYTES_MAX + LINE_END.len()),
        (header, BadHead::HeaderTooLarge, header_begins + HEADERS_BYTES_MAX),
    ] {
        for (mistake, named) in [
            (most - 5, BadHead::Syntax),
            (most - 2, BadHead::Syntax),
            (most - 1, BadHead::Syntax),
            (most, limit),
            (most + 1, limit),
        ] {
            let mut bytes = head.clone().into_bytes();
            bytes[mistake] = 0;
            for end in
                [mistake.min(most - 1) + 1, mistake + 1, mistake + 2, mistake + 100, bytes.len()]
            {
                assert_eq!(
                    parse_request_head(&bytes[..end]),
                    ParsedHead::Bad(named),
                    "{limit:?}: {mistake} of {end}"
                );
            }
        }
    }
}

#[test]
fn h19_fields_are_found_by_name_and_all_their_lines() {
    let bytes = head("If-Match: \"a\"\r\nRange:bytes=0-1  \r\nif-match: \"b\"\r\nX-Range: no\r\n");
    let request = whole(&bytes);
    assert_eq!(request.values(HeaderField::IfMatch).collect::<Vec<_>>(), [b"\"a\"", b"\"b\""]);
    assert_eq!(request.get(HeaderField::Range), Some(&b"bytes=0-1"[..]));
    assert_eq!(request.get(HeaderField::IfRange), None);
}

/// Bytes that look like heads more often than noise does.
fn heads() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"GET / HTTP/1.1\r\n".to_vec()),
        Just(b"HEAD http://h/%41 HTTP/1.0\r\n".to_vec()),
        Just(b"GET /later HTTP/1.7\r\n".to_vec()),
        Just(b"Host: h\r\n".to_vec()),
        Just(b"Content-Length: 3\r\n".to_vec()),
        Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
        Just(b"Connection: close\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"3\r\nabc\r\n0\r\n\r\n".to_vec()),
        Just(b"PRI * HTTP/2.0".to_vec()),
        Just(vec![b'a'; 3000]),
        proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

#[test]
fn h32_what_grows_byte_by_byte_is_looked_at_once_in_a_while() {
    let head = [b'a'; 10 * LOOK_BYTES];
    let looks = (1..head.len()).filter(|&len| is_worth_parsing(&head[..len + 1], len)).count();
    assert_eq!(looks, 10);
}

proptest! {
    #[test]
    fn h32_what_is_decided_of_a_beginning_holds_for_whatever_follows(
        bytes in heads(),
        cut in 0usize..40_000,
    ) {
        let bytes = &bytes[count_empty_lines(&bytes)..];
        let cut = cut.min(bytes.len());
        match parse_request_head(&bytes[..cut]) {
            ParsedHead::Partial => {}
            ParsedHead::Whole(_, len) => {
                prop_assert_eq!(parse_request_head(bytes), parse_request_head(&bytes[..len]));
            }
            decided => prop_assert_eq!(parse_request_head(bytes), decided),
        }
    }

    #[test]
    fn h32_a_head_that_is_whole_is_looked_at(bytes in heads(), cut in 0usize..40_000) {
        let bytes = &bytes[count_empty_lines(&bytes)..];
        let cut = cut.min(bytes.len());
        let is_partial = parse_request_head(&bytes[..cut]) == ParsedHead::Partial;
        if is_partial && matches!(parse_request_head(bytes), ParsedHead::Whole(..)) {
            prop_assert!(is_worth_parsing(bytes, cut));
        }
    }
}
