//! Every operation of docs/openapi.json is done on a running server, and every answer is one that
//! the document describes, field by field.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

mod common;
#[path = "../loadtest/tests/schema/mod.rs"]
mod schema;

use common::Scratch;
use common::process::Process;
use common::relayed::{BINARY, LIMIT, Relayed};

const MAC: &str = "52:54:00:00:00:01";
/// Fields of problems that only some problems have.
const RARE_FIELDS: [&str; 2] = ["allow", "findings"];

/// An operation, and the status of an answer that it was seen to give.
type Seen = BTreeSet<(String, u16)>;

/// The document in which every field must be there, null or not: the server leaves none out.
fn strict_document() -> Value {
    let text = fs::read_to_string("docs/openapi.json").unwrap();
    let mut document: Value = serde_json::from_str(&text).unwrap();
    for (_, schema) in document["components"]["schemas"].as_object_mut().unwrap() {
        let Some(fields) = schema["properties"].as_object() else { continue };
        let needed = fields.keys().filter(|name| !RARE_FIELDS.contains(&name.as_str()));
        schema["required"] = needed.cloned().collect();
    }
    document
}

struct Api {
    socket: PathBuf,
    document: Value,
    seen: Seen,
}

struct Answer {
    status: u16,
    media_type: String,
    head: String,
    body: Vec<u8>,
}

impl Api {
    fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), document: strict_document(), seen: Seen::new() }
    }

    fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(stream, "{method} {path} HTTP/1.0\r\n{headers}\r\n").unwrap();
        // The server may answer before it has all of a body that is too large.
        let _ = stream.write_all(body);
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let media_type = head.lines().find_map(|line| line.strip_prefix("content-type: "));
        assert!(head.contains("server: ringboot/"), "{head}");
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            media_type: media_type.unwrap_or_default().to_owned(),
            body: bytes[end + 4..].to_vec(),
            head,
        }
    }

    /// Does an operation, and compares its answer with the document. `path` is the one of the
    /// document, `name` stands for its parameter.
    #[track_caller]
    fn run(&mut self, status: u16, method: &str, path: &str, name: &str, body: &str) -> Value {
        let headers = match body {
            "" => String::new(),
            _ => format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()),
        };
        self.run_with(status, (method, path, name), &headers, body.as_bytes())
    }

    #[track_caller]
    fn run_with(
        &mut self,
        status: u16,
        (method, path, name): (&str, &str, &str),
        headers: &str,
        body: &[u8],
    ) -> Value {
        let asked = match path.split_once('{') {
            Some((before, _)) => format!("{before}{name}"),
            None => format!("{path}{name}"),
        };
        let answer = self.ask(method, &asked, headers, body);
        let Answer { head, media_type, .. } = &answer;
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, status, "{method} {asked}: {head}\n{text}");
        let operation = &self.document["paths"][path][method.to_ascii_lowercase()];
        let described = &operation["responses"][status.to_string()];
        assert!(described.is_object(), "{method} {path} describes no {status}");
        let operation = operation["operationId"].as_str().unwrap().to_owned();
        self.seen.insert((operation, status));
        let Some(content) = described["content"].as_object() else {
            assert!(answer.body.is_empty(), "{method} {path} {status} has no body");
            return Value::Null;
        };
        let schema = content.get(media_type).unwrap_or_else(|| panic!("{path}: {media_type}"));
        if !media_type.ends_with("json") {
            return Value::Null;
        }
        let value: Value = serde_json::from_slice(&answer.body).unwrap();
        let wrong = schema::violations_of(&self.document, &schema["schema"], &value);
        assert!(wrong.is_empty(), "{method} {path} {status}: {wrong:#?}\n{value:#}");
        value
    }
}

/// Everything that a server with DHCP answers.
fn with_dhcp() -> Seen {
    let world = Relayed::new("openapi", "127.77.1.1-127.77.1.9");
    let file = world.scratch.path().join("ringboot.toml");
    let mut server = world.start();
    let address = world.lease(1);
    let mut api = Api::new(&world.scratch.path().join("admin.sock"));
    let get = |api: &mut Api, path: &str| api.run(200, "GET", path, "", "");

    assert_eq!(get(&mut api, "/v1/openapi.json"), {
        let text = fs::read_to_string("docs/openapi.json").unwrap();
        serde_json::from_str::<Value>(&text).unwrap()
    });
    let index = get(&mut api, "/v1/");
    for resource in index["resources"].as_array().unwrap() {
        let method = resource["method"].as_str().unwrap().to_ascii_lowercase();
        let operation = &api.document["paths"][resource["path"].as_str().unwrap()][&method];
        assert!(operation.is_object(), "{resource}");
    }
    for path in ["/v1/status", "/v1/machines", "/v1/leases", "/v1/looks", "/v1/quirks", "/v1/check"]
    {
        get(&mut api, path);
    }
    get(&mut api, "/v1/loaders");
    get(&mut api, "/v1/backup");
    configuration(&mut api);

    world.until(&["machines"], MAC);
    let machine = "/v1/machines/{machine}";
    api.run(200, "GET", machine, MAC, "");
    api.run(404, "GET", machine, "52:54:00:00:00:09", "");
    api.run(400, "GET", machine, "node1", "");

    leases(&mut api, &address.to_string());
    api.run(200, "POST", "/v1/looks", "", "");
    quirks(&mut api);
    walks(&mut api);
    bodies(&mut api);

    api.run(200, "POST", "/v1/reload", "", "");
    fs::write(&file, "root = 7\n").unwrap();
    let refused = api.run(409, "POST", "/v1/reload", "", "");
    assert_eq!(refused["findings"][0]["severity"], "fatal");
    assert_eq!(get(&mut api, "/v1/check")["findings"], refused["findings"]);
    assert!(server.stop(LIMIT).success());
    api.seen
}

fn configuration(api: &mut Api) {
    api.run(200, "GET", "/v1/configuration", "", "");
    let answer = api.ask("GET", "/v1/configuration", "", b"");
    let tag = answer.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    for tags in [tag, "*", &format!("\"other\", W/{tag}")] {
        let if_changed = format!("If-None-Match: {tags}\r\n");
        api.run_with(304, ("GET", "/v1/configuration", ""), &if_changed, b"");
    }
    for tags in ["\"other\"", tag.trim_matches('"')] {
        let if_changed = format!("If-None-Match: {tags}\r\n");
        api.run_with(200, ("GET", "/v1/configuration", ""), &if_changed, b"");
    }
}

fn leases(api: &mut Api, address: &str) {
    let all = "/v1/leases";
    let query = format!("?state=bound&machine={MAC}&subnet=127.77.0.0/16&after=127.77.0.0");
    assert_eq!(api.run(200, "GET", all, &query, "")["leases"][0]["address"], address);
    let none = api.run(200, "GET", all, &format!("?after={address}"), "");
    assert_eq!(none["leases"], serde_json::json!([]));
    for wrong in ["?state=free", "?machine=127.0.0.1", "?subnet=10.0.0.0", "?after=x", "?mac=1"] {
        api.run(400, "GET", all, wrong, "");
    }
    let one = "/v1/leases/{what}";
    api.run(409, "DELETE", one, address, "");
    api.run(400, "DELETE", one, "node1", "");
    api.run(400, "DELETE", one, &format!("{address}?force=perhaps"), "");
    api.run(404, "DELETE", one, "declined", "");
    assert_eq!(api.run(200, "DELETE", one, &format!("{address}?force=true"), "")["freed"], 1);
}

fn quirks(api: &mut Api) {
    let one = "/v1/quirks/{subject}";
    let all = r#"{ "windowsize": 1, "blksize": 1024, "http_rate": 1000 }"#;
    let pinned = api.run(200, "PUT", one, MAC, all);
    assert_eq!(pinned["limits"], serde_json::from_str::<Value>(all).unwrap());
    api.run(200, "PUT", one, "pxe%2Buefi-x64", r#"{ "windowsize": 1, "blksize": null }"#);
    api.run(400, "PUT", one, "node1", all);
    let list = api.run(200, "GET", "/v1/quirks", "", "");
    assert_eq!(list["quirks"].as_array().unwrap().len(), 3, "two pinned, one shipped: {list}");
    for wrong in [
        "{}",
        r#"{ "windowsize": 0 }"#,
        r#"{ "blksize": 7 }"#,
        r#"{ "blksize": 65465 }"#,
        r#"{ "http_rate": 0 }"#,
        r#"{ "windowsize": "1" }"#,
        r#"{ "window": 1 }"#,
    ] {
        api.run(422, "PUT", one, MAC, wrong);
    }
    api.run(200, "DELETE", one, MAC, "");
    api.run(404, "DELETE", one, MAC, "");
    api.run(400, "DELETE", one, "node1", "");
}

fn walks(api: &mut Api) {
    let wanted = format!(r#"{{ "machine": "{MAC}", "firmware": "bios" }}"#);
    let offer = api.run(200, "POST", "/v1/walks", "", &wanted);
    assert!(offer["asked"] == true && offer["silence"].is_null(), "{offer}");
    let source = offer["source"].as_str().unwrap();
    let one = "/v1/walks/{source}";
    assert!(api.run(200, "DELETE", one, source, "")["said"].is_array());
    api.run(404, "DELETE", one, source, "");
    api.run(404, "DELETE", one, "node1", "");
    for (machine, firmware, subnet) in
        [("node1", "bios", "10.0.0.0/8"), (MAC, "acorn", "10.0.0.0/8"), (MAC, "bios", "10.0.0.0")]
    {
        let wrong =
            serde_json::json!({ "machine": machine, "firmware": firmware, "subnet": subnet });
        api.run(422, "POST", "/v1/walks", "", &wrong.to_string());
    }
}

/// Bodies that no resource takes.
fn bodies(api: &mut Api) {
    let large = vec![b' '; 100_000];
    for (method, path, name) in [("PUT", "/v1/quirks/{subject}", MAC), ("POST", "/v1/walks", "")] {
        let operation = (method, path, name);
        api.run(400, method, path, name, "{ \"");
        api.run_with(415, operation, "Content-Length: 2\r\n", b"{}");
        let declared = "Content-Type: application/json\r\nContent-Length: ";
        api.run_with(413, operation, &format!("{declared}100000\r\n"), &large);
        api.run_with(408, operation, &format!("{declared}2\r\n"), b"{");
    }
}

/// What a server without a configuration answers otherwise.
fn without_dhcp() -> Seen {
    let scratch = Scratch::new("openapi-root");
    let socket = scratch.path().join("admin.sock");
    let mut command = Command::new(BINARY);
    command.args(["serve", "--no-dhcp", "--root"]).arg(scratch.path());
    let free = || common::free_port().to_string();
    command.args(["--tftp", &free(), "--http", &free(), "--socket"]).arg(&socket);
    let mut server = Process::start(command);
    let ready = server.stdout.wait_for(LIMIT, |text| text.starts_with("READY").then_some(()));
    assert!(ready.is_ok(), "{}", server.stderr.text());
    let mut api = Api::new(&socket);
    for path in ["/v1/status", "/v1/configuration", "/v1/machines", "/v1/check", "/v1/quirks"] {
        api.run(200, "GET", path, "", "");
    }
    api.run(409, "GET", "/v1/looks", "", "");
    api.run(409, "POST", "/v1/looks", "", "");
    api.run(409, "GET", "/v1/leases", "", "");
    api.run(409, "DELETE", "/v1/leases/{what}", "declined", "");
    api.run(409, "PUT", "/v1/quirks/{subject}", MAC, r#"{ "windowsize": 1 }"#);
    api.run(409, "DELETE", "/v1/quirks/{subject}", MAC, "");
    api.run(404, "GET", "/v1/backup", "", "");
    assert!(server.stop(LIMIT).success());
    api.seen
}

#[test]
fn every_operation_answers_as_its_document_says() {
    let mut seen = with_dhcp();
    seen.append(&mut without_dhcp());
    let document = strict_document();
    let mut described = Seen::new();
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            let name = operation["operationId"].as_str().unwrap();
            for status in operation["responses"].as_object().unwrap().keys() {
                described.insert((name.to_owned(), status.parse().unwrap()));
            }
        }
    }
    // Faults of the server, and the moments of its start and end.
    described.retain(|(_, status)| ![500, 503].contains(status));
    let unseen: Vec<_> = described.difference(&seen).collect();
    assert!(unseen.is_empty(), "described and never answered: {unseen:?}");
}

#[test]
fn what_is_no_operation_is_a_problem_too() {
    let world = Relayed::new("openapi-none", "127.77.1.1-127.77.1.9");
    let mut server = world.start();
    let api = Api::new(&world.scratch.path().join("admin.sock"));
    let problem = &api.document["components"]["schemas"]["ApiProblem"];
    for (status, method, path) in [
        (404, "GET", "/"),
        (404, "GET", "/v1"),
        (404, "GET", "/v1/machines/"),
        (404, "POST", "/v1/quirks/52:54:00/window=1"),
        (405, "DELETE", "/v1/status"),
        (405, "POST", "/v1/quirks/52:54:00"),
        (400, "GET", "/v1/machines/%ff"),
    ] {
        let answer = api.ask(method, path, "", b"");
        let told: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(
            (answer.status, answer.media_type.as_str()),
            (status, "application/problem+json"),
            "{method} {path}: {told}"
        );
        let wrong = schema::violations_of(&api.document, problem, &told);
        assert!(wrong.is_empty(), "{wrong:#?}");
        let allow = answer.head.lines().find_map(|line| line.strip_prefix("allow: "));
        assert_eq!(allow.is_some(), status == 405, "{}", answer.head);
        let named: Option<Vec<&str>> = told["allow"]
            .as_array()
            .map(|methods| methods.iter().filter_map(Value::as_str).collect());
        assert_eq!(named, allow.map(|allow| allow.split(',').collect()));
    }
    assert!(server.stop(LIMIT).success());
}
