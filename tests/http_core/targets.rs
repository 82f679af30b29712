//! Names on the wire: odd targets, types, methods, directories (H-13, H-24 to H-29).

use std::os::unix::fs::symlink;

use super::server::Server;
use ringboot::images::clean_path_name;
use ringboot::serve::http::HttpPlan;

#[test]
fn h13_a_directory_is_404_and_never_a_redirect() {
    let server = Server::start();
    server.put("dir/f", b"x");
    let mut client = server.connect();
    for target in ["/dir", "/dir/", "/"] {
        let answer = client.get(target, &[]);
        assert_eq!((answer.status(), answer.value("Location")), (404, None), "{target}");
    }
}

#[test]
fn h24_every_spelling_of_a_path_leads_to_the_file() {
    let server = Server::start();
    server.put("a/b c", b"found");
    let mut client = server.connect();
    for target in [
        "/a/b%20c",
        "//a//b%20c",
        "/./a/./b%20c",
        "/%61/b%20c?mac=52:54:00:12:34:56",
        "http://192.168.4.150/a/b%20c",
        "HTTP://other:8080//a/b%20c?q",
    ] {
        assert_eq!(client.get(target, &[]).text(), "found", "{target}");
    }
}

#[test]
fn h24_tricks_are_400_and_what_lies_outside_is_never_served() {
    let server = Server::start();
    server.put("a/f", b"x");
    server.put(".git/config", b"x");
    symlink("/etc/passwd", server.path("out")).unwrap();
    for (target, status) in [
        ("/../etc/passwd", 400),
        ("/a/../../etc/passwd", 400),
        ("/%2e%2e/etc/passwd", 400),
        ("/a/%2E./%2e%2e/f", 400),
        ("/a/../a/f", 200),
        ("/x/%2E./a/f", 200),
        ("/a%00", 400),
        ("/a%2ff", 400),
        ("/a%5cf", 400),
        ("/a%0af", 400),
        ("/%zz", 400),
        ("/a%252ff", 404),
        ("/.git/config", 404),
        ("/out", 403),
        ("*", 400),
        ("http,192.168.4.150/grub/grub.cfg", 400),
        ("a/f", 400),
        ("host:80", 400),
    ] {
        assert_eq!(server.connect().get(target, &[]).status(), status, "{target}");
    }
    assert_eq!(server.connect().get("/a/f", &[]).status(), 200, "the core lives on");
}

#[test]
fn h25_a_path_that_grub_did_not_encode_is_answered() {
    let server = Server::start();
    server.put("größe", b"x");
    assert_eq!(server.connect().get("/my kernel", &[]).status(), 400);
    assert_eq!(server.connect().get("/größe", &[]).status(), 200);
    assert_eq!(server.connect().get("/gr%C3%B6%C3%9Fe", &[]).status(), 200);
}

#[test]
fn h26_types_are_those_that_firmware_compares() {
    let server = Server::start();
    let mut client = server.connect();
    for (name, wanted) in [
        ("BOOTX64.EFI", "application/efi"),
        ("a.iso", "application/vnd.efi-iso"),
        ("a.img", "application/vnd.efi-img"),
        ("vmlinuz", "application/octet-stream"),
        ("initrd.gz", "application/octet-stream"),
        ("boot.ipxe", "text/plain"),
        ("ks.cfg", "text/plain"),
    ] {
        server.put(name, b"x");
        let answer = client.get(&format!("/{name}"), &[]);
        assert_eq!(answer.value("Content-Type"), Some(wanted), "{name}");
    }
}

#[test]
fn h27_a_boot_url_with_a_query_still_has_its_type() {
    let server = Server::start();
    server.put("shimx64.efi", b"x");
    let answer = server.connect().ask("HEAD", "/shimx64.efi?arch=7", &[]);
    assert_eq!(answer.value("Content-Type"), Some("application/efi"));
}

#[test]
fn h28_directories_are_listed_only_where_it_is_switched_on_and_names_are_escaped() {
    let plan = HttpPlan { index: vec![clean_path_name(b"pub").unwrap()], ..HttpPlan::default() };
    let server = Server::with(plan);
    server.put("pub/sub/<b>&.img", b"x");
    server.put("pub/.env", b"x");
    server.put("pub/.treeinfo", b"x");
    server.put("private/f", b"x");
    let mut client = server.connect();
    let page = client.get("/pub", &[]);
    assert_eq!((page.status(), page.value("Content-Type")), (200, Some("text/html")));
    assert!(
        page.text().contains("href=\"/pub/sub/\"") && !page.text().contains(".env"),
        "{}",
        page.text()
    );
    assert!(page.text().contains("href=\"/pub/.treeinfo\""), "K-1: {}", page.text());
    let page = client.get("/pub/sub/", &[]);
    assert!(
        page.text().contains("<a href=\"/pub/sub/%3Cb%3E%26.img\">&lt;b&gt;&amp;.img</a>"),
        "{}",
        page.text()
    );
    assert_eq!(client.get("/pub/sub/%3Cb%3E%26.img", &[]).text(), "x");
    for target in ["/private", "/", "/publ"] {
        assert_eq!(client.get(target, &[]).status(), 404, "{target}");
    }
    assert_eq!(client.ask("HEAD", "/pub", &[]).value("Transfer-Encoding"), None);
}

#[test]
fn h28_an_index_file_answers_for_its_directory() {
    let plan = HttpPlan { index_file: Some("index.html".into()), ..HttpPlan::default() };
    let server = Server::with(plan);
    server.put("site/index.html", b"<p>hello");
    server.put("other/f", b"x");
    let mut client = server.connect();
    let page = client.get("/site/", &[]);
    assert_eq!(
        (page.status(), page.value("Content-Type"), page.text()),
        (200, Some("text/html"), "<p>hello")
    );
    assert_eq!(client.get("/other/", &[]).status(), 404);
}

#[test]
fn h29_other_methods_are_405_and_the_connection_goes_on() {
    let server = Server::start();
    server.put("f", b"x");
    let mut client = server.connect();
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PROPFIND"] {
        let answer = client.ask(method, "/f", &["Content-Length: 0"]);
        assert_eq!((answer.status(), answer.value("Allow")), (405, Some("GET, HEAD")), "{method}");
    }
    client.send("POST /f HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.answer(true).status(), 405);
    assert_eq!(client.get("/f", &[]).status(), 200);
    assert_eq!(server.connect().ask("CONNECT", "host:80", &[]).status(), 405);
}
