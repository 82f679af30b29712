//! An HTTP server with one fault, and what the fleet says of each.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::spawn;

use ringboot_fleet::ClientOddity;
use ringboot_observe::events::MachineStage;

use super::{OCTETS, Server, assert_failed, assert_put_up_with, file, run, with_wrong_octet};

const STEP: &str = r#"{ http = "vmlinuz" }"#;
/// Random parts of 10,000 octets.
const PARTS: &str = r#"{ http = "vmlinuz", range = "10000B", repeat = 5 }"#;
/// Where answers break off that do.
const MIDDLE: usize = 60_000;

/// Those after `Once` are of the answer that resumes a file after its first answer broke off.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    None,
    WrongOctet(usize),
    /// Content-Length says less than the file has.
    CutShort,
    /// Content-Length says more than comes; beyond the file's end there is nothing to resume (416).
    LongerThanItIs,
    /// Each answer ends after so many octets.
    Creeps(usize),
    /// No answer goes beyond [`MIDDLE`].
    CutOff,
    Once,
    WholeForRest,
    /// Its range begins elsewhere.
    WrongRange,
    /// It ends before the file does.
    ShortRange,
    OtherVersion,
    SilentHead,
    SilentBody,
    /// 200 to a request for a part.
    WholeForPart,
    Nonsense,
    Status(u16),
}

/// Serves the one file for as long as the test runs.
pub(crate) fn serve(fault: Fault) -> SocketAddrV4 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let file =
        Arc::new(if let Fault::WrongOctet(at) = fault { with_wrong_octet(at) } else { file() });
    spawn(move || {
        for stream in listener.incoming() {
            let file = Arc::clone(&file);
            spawn(move || while converse(&file, fault, stream.as_ref().unwrap()).is_some() {});
        }
    });
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}

/// One request and its answer; None where the connection is over.
fn converse(file: &[u8], fault: Fault, mut stream: &TcpStream) -> Option<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet).ok()?;
        request.extend(octet);
    }
    let request = String::from_utf8(request).unwrap();
    let range =
        request.lines().find_map(|line| line.strip_prefix("Range: bytes=")?.split_once('-'));
    let number = |text: &str| text.parse::<usize>().ok();
    let (from, to) = range.map_or((0, None), |(from, to)| (number(from).unwrap(), number(to)));
    let end = to.map_or(file.len(), |last| last + 1);
    let resumes = from > 0 && to.is_none();
    let (status, from, end, told, sent) = match fault {
        Fault::SilentHead => return wait_for_end(stream),
        Fault::Nonsense => {
            stream.write_all(b"220 mail.example.org ESMTP\r\n\r\n").ok()?;
            return None;
        }
        Fault::Status(status) => (status, 0, 0, 0, 0),
        Fault::CutShort => (200, 0, end, end - 1000, end - 1000),
        Fault::LongerThanItIs if resumes => (416, 0, 0, 0, 0),
        Fault::LongerThanItIs => (200, 0, end, end + 1000, end),
        Fault::Creeps(octets) => {
            (if resumes { 206 } else { 200 }, from, end, end - from, octets.min(end - from))
        }
        Fault::CutOff | Fault::SilentBody => {
            (if resumes { 206 } else { 200 }, from, end, end - from, MIDDLE.saturating_sub(from))
        }
        Fault::WholeForPart => (200, 0, file.len(), file.len(), file.len()),
        Fault::WholeForRest if resumes => (200, 0, end, end, end),
        Fault::WrongRange if resumes => {
            (206, from - 1000, end, end - from + 1000, end - from + 1000)
        }
        Fault::ShortRange if resumes => {
            (206, from, end - 1000, end - 1000 - from, end - 1000 - from)
        }
        Fault::Once
        | Fault::WholeForRest
        | Fault::WrongRange
        | Fault::ShortRange
        | Fault::OtherVersion
            if !resumes && to.is_none() =>
        {
            (200, 0, end, end, MIDDLE)
        }
        _ => (if range.is_some() { 206 } else { 200 }, from, end, end - from, end - from),
    };
    let version = if fault == Fault::OtherVersion && resumes { "b" } else { "a" };
    let mut head =
        format!("HTTP/1.1 {status} Something\r\nContent-Length: {told}\r\nETag: \"{version}\"\r\n");
    if status == 206 {
        head.push_str(&format!("Content-Range: bytes {from}-{}/{}\r\n", end - 1, file.len()));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    stream.write_all(&file[from..from + sent]).ok()?;
    if fault == Fault::SilentBody {
        return wait_for_end(stream);
    }
    (sent == told).then_some(())
}

/// Says no more, and holds the connection until the client ends it.
fn wait_for_end(mut stream: &TcpStream) -> Option<()> {
    let _ = stream.read_to_end(&mut Vec::new());
    None
}

/// Every machine fails in its one step; `said` is what the report says of all of them and of the
/// first.
#[track_caller]
fn assert_fault(fault: Fault, step: &str, said: [&str; 2]) {
    assert_failed(&run(Server::Http(serve(fault)), step), MachineStage::File, said[0], said[1]);
}

#[track_caller]
fn assert_recovers(
    fault: Fault,
    step: &str,
    retries_each: u64,
    oddities_each: &[(ClientOddity, u64)],
) {
    assert_put_up_with(&run(Server::Http(serve(fault)), step), retries_each, oddities_each);
}

#[test]
fn a_sound_server_has_no_faults() {
    assert_recovers(Fault::None, STEP, 0, &[]);
    assert_recovers(Fault::None, PARTS, 0, &[]);
}

#[test]
fn a_wrong_octet_is_named_with_its_place() {
    for at in [0, 4711, 65_536, OCTETS - 1] {
        let example = format!("wrong contents of /vmlinuz at byte {at}");
        assert_fault(Fault::WrongOctet(at), STEP, ["wrong contents of /vmlinuz", &example]);
    }
}

#[test]
fn a_length_that_is_not_the_files_is_named() {
    let cause = "wrong length of /vmlinuz";
    assert_fault(Fault::CutShort, STEP, [cause, "/vmlinuz is 99000 bytes long, not 100000"]);
    let said = "HTTP: status 416 for /vmlinuz";
    let ends = run(Server::Http(serve(Fault::LongerThanItIs)), STEP);
    let causes: Vec<_> = ends.failures.keys().map(|(cause, _)| cause.as_str()).collect();
    // Whichever of the two answers comes last.
    assert!(
        causes
            .iter()
            .all(|cause| *cause == said || cause.starts_with("HTTP: the connection ended")),
        "{causes:?}"
    );
    assert_eq!(ends.booted, 0);
}

#[test]
fn a_body_that_breaks_off_is_resumed_and_counted() {
    assert_recovers(Fault::Once, STEP, 1, &[(ClientOddity::CutOff, 1)]);
    assert_recovers(Fault::Creeps(30_000), STEP, 3, &[(ClientOddity::CutOff, 3)]);
}

#[test]
fn a_body_that_always_breaks_off_at_one_place_ends_the_boot() {
    let cause = "HTTP: the connection ended before the end of /vmlinuz";
    let example = "HTTP: the connection ended after 60000 bytes of /vmlinuz";
    assert_fault(Fault::CutOff, STEP, [cause, example]);
}

#[test]
fn the_whole_for_the_rest_is_taken_and_counted() {
    assert_recovers(
        Fault::WholeForRest,
        STEP,
        1,
        &[(ClientOddity::CutOff, 1), (ClientOddity::WholeForRest, 1)],
    );
}

#[test]
fn the_whole_for_a_part_is_named() {
    let said = "HTTP: the whole of /vmlinuz instead of the requested part";
    assert_fault(Fault::WholeForPart, PARTS, [said, said]);
}

#[test]
fn a_rest_that_is_another_range_or_another_version_is_named() {
    let said = "HTTP: another range of /vmlinuz than requested";
    assert_fault(Fault::WrongRange, STEP, [said, said]);
    assert_fault(Fault::ShortRange, STEP, [said, said]);
    let said = "HTTP: the rest of /vmlinuz came from another version of it: its ETag has changed";
    assert_fault(Fault::OtherVersion, STEP, [said, said]);
}

#[test]
fn an_answer_that_is_no_http_or_no_success_is_named() {
    let said = "HTTP: an unreadable answer for /vmlinuz";
    assert_fault(Fault::Nonsense, STEP, [said, said]);
    for status in [403, 500, 503] {
        let said = format!("HTTP: status {status} for /vmlinuz");
        assert_fault(Fault::Status(status), STEP, [&said, &said]);
    }
}

#[test]
fn nobody_at_the_port_is_a_refused_connection() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let said = "HTTP: the connection for /vmlinuz was refused";
    let report = run(Server::Http(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)), STEP);
    assert_failed(&report, MachineStage::File, said, said);
}

#[test]
fn silence_instead_of_an_answer_is_named() {
    let said = "HTTP: no answer for /vmlinuz";
    assert_fault(Fault::SilentHead, STEP, [said, said]);
}

#[test]
fn silence_in_the_middle_is_told_with_its_place() {
    let cause = "HTTP: the server fell silent in the middle of /vmlinuz";
    let example = "HTTP: the server fell silent after 60000 bytes of /vmlinuz";
    assert_fault(Fault::SilentBody, STEP, [cause, example]);
}
