//! The input of one connection, cut at every byte.
#![allow(clippy::unwrap_used)]
use super::super::limits::REQUEST_LINE_BYTES_MAX;
use super::*;
use proptest::prelude::*;

/// What a server would do with these pieces, followed by the end of the input: targets, interim
/// answers, the last word.
fn seen<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let mut input = RequestInput::default();
    let mut seen = Vec::new();
    let mut run = |input: &mut RequestInput, has_ended| {
        loop {
            match input.step(has_ended) {
                InputStep::More => return,
                InputStep::Body { is_awaited: true } => seen.push("continue".to_owned()),
                InputStep::Body { is_awaited: false } => {}
                InputStep::Bad(bad) => seen.push(bad.to_string()),
                InputStep::Request(request) => {
                    seen.push(format!("{:?} {}", request.method, request.target.escape_ascii()));
                    input.finish_request();
                }
            }
        }
    };
    for piece in pieces {
        input.push(piece);
        run(&mut input, false);
    }
    run(&mut input, true);
    seen
}

fn in_one(bytes: &[u8]) -> Vec<String> {
    seen([bytes])
}

#[test]
fn h9_requests_that_come_together_are_seen_one_after_the_other() {
    let two = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nHEAD /b HTTP/1.1\r\nHost: h\r\n\r\nGET /c";
    assert_eq!(in_one(two), ["Get /a", "Head /b"]);
    let mut input = RequestInput::default();
    input.push(two);
    assert!(matches!(input.step(false), InputStep::Request(request) if request.target == b"/a"));
    assert!(
        matches!(input.step(false), InputStep::Request(request) if request.target == b"/a"),
        "until it is answered"
    );
}

#[test]
fn h9_empty_lines_before_a_request_do_not_count() {
    assert_eq!(
        in_one(b"\r\n\n\r\nGET /a HTTP/1.1\r\n\r\n\r\nGET /b HTTP/1.1\r\n\r\n"),
        ["Get /a", "Get /b"]
    );
    let mut input = RequestInput::default();
    for _ in 0..100_000 {
        input.push(b"\r\n");
        assert_eq!(input.step(false), InputStep::More);
    }
    assert!(input.buffer.capacity() < 100, "and take no room");
    for version in ["1.0", "1.1", "1.5"] {
        let bytes = format!(
            "\n\r\n\r\nGET /a HTTP/{version}\r\nHost: h\r\n\r\n\r\nGET /b \
             HTTP/{version}\r\nHost: h\r\n\r\n"
        );
        for size in 1..bytes.len() {
            assert_eq!(
                seen(bytes.as_bytes().chunks(size)),
                ["Get /a", "Get /b"],
                "{version} in pieces of {size}"
            );
        }
    }
    // The longest line that is taken, behind an empty one.
    let longest =
        format!("\r\nGET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(REQUEST_LINE_BYTES_MAX - 14));
    let whole = in_one(longest.as_bytes());
    assert!(whole.len() == 1 && whole[0].starts_with("Get /a"), "{whole:?}");
    assert_eq!(seen(longest.as_bytes().chunks(1)), whole);
}

#[test]
fn h32_bodies_are_thrown_away_whatever_their_framing() {
    let after = |head: &str, body: &str| {
        in_one(format!("GET /a HTTP/1.1\r\n{head}\r\n{body}GET /b HTTP/1.1\r\n\r\n").as_bytes())
    };
    let both = ["Get /a", "Get /b"];
    assert_eq!(after("Content-Length: 5\r\n", "GET /"), both);
    for body in [
        "0\r\n\r\n",
        "3\r\nabc\r\n0\r\n\r\n",
        "3;x=\"y\"\r\nabc\r\n00A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n",
    ] {
        assert_eq!(after("Transfer-Encoding: chunked\r\n", body), both, "{body:?}");
    }
    for line in ["3;x", "3 ;x", "3; x = y ;z", "3;x=\"a;\\\"b\"", "03", "0000000000000003"] {
        assert_eq!(
            after("Transfer-Encoding: chunked\r\n", &format!("{line}\r\nabc\r\n0\r\n\r\n")),
            both,
            "{line:?}"
        );
    }
    let trailers = [
        "X\r\n",
        "X : y\r\n",
        " X: y\r\n",
        ": y\r\n",
        "X: a\rb\r\n",
        "X: \0\r\n",
        "X: y\r\n z\r\n",
        "X: y\n",
    ];
    let trailers = trailers.map(|trailer| format!("0\r\n{trailer}\r\n"));
    let lines = [
        "3\r",
        "3\x0c",
        "3 ",
        "3\t",
        " 3",
        "3;",
        "3;=y",
        "3;x=",
        "3;x=y ",
        "3;x y",
        "3;x=\"y",
        "3;x=\"\\",
        "3;x=a\rb",
        "3;x\0",
        "3;x=\"\0\"",
        "3;x=\"\\\0\"",
        "00000000000000003",
        "3,x",
        "0x3",
        "+3",
        "3g",
    ];
    let lines = lines.map(|line| format!("{line}\r\nabc\r\n0\r\n\r\n"));
    let bodies = [
        "x\r\n",
        "3\r\nabcd\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\nabc\r\n",
        "\r\n",
        "11111111111111111\r\n",
        "-1\r\n",
    ];
    for body in trailers.iter().chain(&lines).map(String::as_str).chain(bodies) {
        let bad = BadHead::Chunk.to_string();
        assert_eq!(after("Transfer-Encoding: chunked\r\n", body), [bad], "{body:?}");
    }
}

#[test]
fn h32_a_body_that_is_too_large_is_refused_before_it_has_come() {
    let refused = [BadHead::BodyTooLarge.to_string()];
    assert_eq!(in_one(b"GET /a HTTP/1.1\r\nContent-Length: 65537\r\n\r\n"), refused);
    assert_eq!(in_one(b"GET /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n"), refused);
    let mut crumbs = b"GET /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    crumbs.extend_from_slice(&b"1\r\nx\r\n".repeat(15_000));
    assert_eq!(in_one(&crumbs), refused);
    let mut endless = b"GET /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;".to_vec();
    endless.extend_from_slice(&[b'x'; 2000]);
    assert_eq!(in_one(&endless), [BadHead::Chunk.to_string()]);
}

#[test]
fn h31_a_client_that_expects_100_continue_is_told_once() {
    let head = "GET /a HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n";
    assert_eq!(in_one(format!("{head}ab").as_bytes()), ["continue", "Get /a"]);
    assert_eq!(in_one(head.as_bytes()), ["continue"]);
    assert_eq!(in_one(b"GET /a HTTP/1.1\r\nExpect: 100-continue\r\n\r\n"), ["Get /a"]);
    let old = "POST /a HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab";
    assert_eq!(in_one(old.as_bytes()), ["Other /a"]);
}

#[test]
fn k18_a_method_that_is_refused_gets_its_answer_in_place_of_100() {
    for body in ["Content-Length: 2", "Transfer-Encoding: chunked"] {
        let head = format!("PUT /a HTTP/1.1\r\nExpect: 100-continue\r\n{body}\r\n\r\n");
        assert_eq!(in_one(head.as_bytes()), ["Other /a"], "{body}");
        let mut input = RequestInput::default();
        input.push(head.as_bytes());
        let InputStep::Request(request) = input.step(false) else { panic!("{body}") };
        assert!(!request.keeps_alive, "what follows may be the body: {body}");
    }
    assert_eq!(in_one(b"PUT /a HTTP/1.1\r\nContent-Length: 2\r\n\r\nab"), ["Other /a"]);
}

#[test]
fn h32_a_head_is_judged_with_its_first_piece_and_with_its_last_and_seldom_in_between() {
    // Somebody who speaks TLS here need not wait for an answer until he has given up.
    let mut tls = RequestInput::default();
    tls.push(b"\x16\x03\x01\x02");
    assert_eq!(tls.step(false), InputStep::Bad(BadHead::Syntax));
    for line_end in ["\r\n", "\n"] {
        let head =
            format!("GET /a HTTP/1.1{line_end}Cookie: {}{line_end}{line_end}", "c".repeat(7000));
        let (mut input, mut looks, mut seen) = (RequestInput::default(), 0, InputState::default());
        for byte in head.as_bytes() {
            assert_eq!(input.step(false), InputStep::More);
            looks += usize::from(std::mem::replace(&mut seen, input.state) != input.state);
            input.push(&[*byte]);
        }
        assert!(
            matches!(input.step(false), InputStep::Request(request) if request.target == b"/a")
        );
        assert!(looks <= 5, "{looks} looks at a head of {} pieces", head.len());
    }
}

#[test]
fn h9_a_request_is_at_hand_from_its_end_to_its_answer_and_what_follows_it_after_that() {
    let mut input = RequestInput::default();
    input
        .push(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nPOST /b HTTP/1.1\r\nContent-Length: 4\r\n\r\nbo");
    assert_eq!((input.request(), input.is_in_body()), (None, false));
    assert!(matches!(input.step(false), InputStep::Request(_)));
    assert_eq!(input.request().map(|request| request.target), Some(&b"/a"[..]));
    input.finish_request();
    assert_eq!(input.unanswered(), b"POST /b HTTP/1.1\r\nContent-Length: 4\r\n\r\nbo");
    assert_eq!(input.step(false), InputStep::Body { is_awaited: false });
    assert_eq!(input.step(false), InputStep::More);
    assert!(input.is_in_body());
    assert_eq!(input.request(), None, "half of its body is still to come");
    input.push(b"dyGET /c");
    assert!(matches!(input.step(false), InputStep::Request(_)));
    let target = input.request().map(|request| request.target.to_vec());
    assert_eq!((target.as_deref(), input.is_in_body()), (Some(&b"/b"[..]), false));
    input.finish_request();
    assert_eq!((input.unanswered(), input.is_empty()), (&b"GET /c"[..], false));
}

#[test]
fn h32_nothing_counts_after_a_request_that_is_refused() {
    assert_eq!(in_one(b"nonsense\r\n\r\nGET /a HTTP/1.1\r\n\r\n"), [BadHead::Syntax.to_string()]);
    let mut input = RequestInput::default();
    input.push(&[b'a'; 10_000]);
    assert_eq!(input.step(false), InputStep::Bad(BadHead::LineTooLong));
    input.push(&[b'a'; 10_000]);
    assert_eq!(input.step(true), InputStep::More);
    assert_eq!(input.buffer.len(), 10_000);
}

#[test]
fn h9_what_waits_is_bounded_and_a_buffer_does_not_stay_large() {
    let mut input = RequestInput::default();
    let request = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
    while !input.is_full() {
        input.push(request);
    }
    assert!((WAITING_BYTES_MAX..WAITING_BYTES_MAX + request.len()).contains(&input.buffer.len()));
    while matches!(input.step(false), InputStep::Request(_)) {
        input.finish_request();
        assert!(!input.is_full(), "what is answered does not count");
    }
    assert!(input.is_empty() && input.buffer.capacity() <= BUFFER_BYTES_KEPT);
    let mut longest = RequestInput::default();
    longest.push(&vec![b'a'; HEAD_BYTES_MAX + 1]);
    assert!(!longest.is_full(), "a head that is too long is refused: nobody waits for its end");
}

#[test]
fn what_is_closed_takes_nothing_more_and_keeps_no_room() {
    let mut input = RequestInput::default();
    input.push(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
    input.close();
    assert_eq!(input.step(false), InputStep::More);
    assert_eq!(input.unanswered(), b"");
    input.push(b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(input.step(true), InputStep::More);
    assert_eq!(input.buffer.capacity(), 0);
}

/// Bytes that look like requests more often than noise does.
fn conversations() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n".to_vec()),
        1 => Just(b"HEAD /b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_vec()),
        2 => Just(
            b"POST /c HTTP/1.1\r\nContent-Length: 4\r\n\
              Expect: 100-continue\r\n\r\nbody".to_vec()
        ),
        2 => Just(b"GET /d HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nT: \
                    x\r\n\r\n".to_vec()),
        1 => Just(b"GET /e HTTP/1.1\r\nX: y\r\n".to_vec()),
        1 => Just(b"\r\n".to_vec()),
        1 => Just(b"GET /f HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: \
                    chunked\r\n\r\n".to_vec()),
        1 => Just([b"Cookie: ", [b'c'; 5000].as_slice()].concat()),
        1 => proptest::collection::vec(any::<u8>(), 0..8),
    ];
    proptest::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn h32_bytes_in_arbitrary_pieces_are_seen_as_in_one(
        bytes in conversations(),
        cuts in proptest::collection::vec(1usize..400, 1..8),
    ) {
        let mut sizes = cuts.iter().cycle();
        let mut rest = bytes.as_slice();
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            pieces.push(piece);
            rest = after;
        }
        prop_assert_eq!(seen(pieces), in_one(&bytes));
    }

    #[test]
    fn h32_any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        in_one(&bytes);
    }
}
