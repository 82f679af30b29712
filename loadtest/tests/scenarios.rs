//! Scenarios as they are played: files made for another server, requests counted one by one, every
//! octet checked.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::spawn;

use serde_json::Value;

const SCENARIO: &str = r#"
about = "pieces of one file, and another whole"
clients = 4
arrival = "ramp:100ms"
[files]
"dir/large.bin" = "300KiB"
"small.bin" = "5"
[[machine]]
steps = [
  { http = "dir/large.bin", connection = "keep", range = "10KiB", repeat = 20 },
  { http = "small.bin", connection = "close" },
]
"#;

#[test]
fn files_are_made_for_another_server_and_checked_to_the_last_octet() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (scenario, root, report) = (path("pieces.toml"), path("root"), path("report.json"));
    fs::write(&scenario, SCENARIO).unwrap();
    let output = loadtest(&["files", "--scenario", &scenario, &root]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::metadata(Path::new(&root).join("dir/large.bin")).unwrap().len(), 300 << 10);

    let server = serve(PathBuf::from(&root)).to_string();
    let load = || {
        let other =
            ["--server", "127.0.0.1", "--http", &server, "--no-dhcp", "--made-files", "--quiet"];
        let output =
            loadtest(&[&other[..], &["--scenario", &scenario, "--json", &report]].concat());
        (
            output.status.code(),
            serde_json::from_str::<Value>(&fs::read_to_string(&report).unwrap()).unwrap(),
        )
    };
    let (code, read) = load();
    let summary = &read["summary"];
    assert_eq!((code, &summary["machines"], &summary["booted"]), (Some(0), &4.into(), &4.into()));
    assert_eq!(
        (&summary["checked"], &summary["bytes"]),
        (&true.into(), &(4 * (20 * 10_240 + 5)).into())
    );
    assert_eq!(read["stages"]["file"]["count"], 4 * 21);
    assert_eq!(read["run"]["scenario"], "pieces");
    let last_power_on = read["machines"].as_array().unwrap().last().unwrap()[0].as_u64();
    assert!(last_power_on >= Some(75_000), "{last_power_on:?}");

    fs::write(Path::new(&root).join("small.bin"), "wrong").unwrap();
    let (code, read) = load();
    assert_eq!(
        (code, &read["failures"][0]["cause"]),
        (Some(1), &"wrong contents of /small.bin".into())
    );
    assert_eq!(read["failures"][0]["machines"], 4);
}

#[test]
fn what_cannot_be_played_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("wrong.toml");
    fs::write(&file, "[[machine]]\nfirmwares = \"ipxe\"\n").unwrap();
    let file = file.to_str().unwrap();
    for (arguments, said) in [
        (&["--scenario", file][..], "wrong.toml:2: unknown key firmwares"),
        (&["--scenario", "boot-strom"], "no scenario boot-strom"),
        (
            &["--scenario", "zoo", "--server", "127.0.0.1", "--no-dhcp"],
            "machines of scenario zoo ask for an address",
        ),
        (&["--arrival", "soon"], "is no arrival: all, ramp:30s, poisson:50/s or racks:20x40s"),
        (&["--duration", "10"], "is no time"),
        (&["files", "--scenario", "dhcp", "."], "scenario dhcp has no [files]"),
    ] {
        let output = loadtest(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text.contains(said), "{text}");
    }
    let listed = String::from_utf8(loadtest(&["scenarios"]).stdout).unwrap();
    assert!(
        listed.lines().all(|line| line.len() > 20) && listed.starts_with("boot-storm "),
        "{listed}"
    );
}

/// An HTTP server for the files below `root` that knows ranges; it ends with the test.
fn serve(root: PathBuf) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    spawn(move || {
        for stream in listener.incoming() {
            let root = root.clone();
            spawn(move || while answer(stream.as_ref().unwrap(), &root).is_some() {});
        }
    });
    address
}

fn answer(mut stream: &TcpStream, root: &Path) -> Option<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet).ok()?;
        request.extend(octet);
    }
    let request = String::from_utf8(request).unwrap();
    let file =
        fs::read(root.join(request.split(' ').nth(1).unwrap().trim_start_matches('/'))).unwrap();
    let range =
        request.lines().find_map(|line| line.strip_prefix("Range: bytes=")?.split_once('-'));
    let (head, body) = match range {
        None => ("HTTP/1.1 200 OK\r\n".to_owned(), &file[..]),
        Some((from, to)) => {
            let part = &file[from.parse().unwrap()..=to.parse().unwrap()];
            (
                format!(
                    "HTTP/1.1 206 Partial\r\nContent-Range: bytes {from}-{to}/{}\r\n",
                    file.len()
                ),
                part,
            )
        }
    };
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes()).ok()?;
    stream.write_all(body).ok()
}

fn loadtest(arguments: &[&str]) -> Output {
    Command::new(Path::new(env!("CARGO_BIN_EXE_loadtest"))).args(arguments).output().unwrap()
}
