//! Names that clients send: whatever the bytes, a cleaned name stays below the root, and cleaning
//! it again changes nothing.

use ringboot::boot::names::parse_menu_name;
use ringboot::http::target;
use ringboot::images::{
    clean_path_name as clean_name, clean_tftp_name, is_hidden_name, strip_path_prefix,
    strip_trailing_garbage,
};

pub(crate) fn clean(bytes: &[u8]) {
    for cleaned in [clean_name(bytes), clean_tftp_name(bytes)].into_iter().flatten() {
        assert_inside(cleaned.as_bytes());
        assert_eq!(
            clean_name(cleaned.as_bytes()).as_ref(),
            Ok(&cleaned),
            "cleaning twice is cleaning once"
        );
        if let Some(inner) = strip_path_prefix(&cleaned, &[clean_name(b"tftpboot").unwrap()]) {
            assert_inside(inner.as_bytes());
        }
    }
    if let Some(repaired) = strip_trailing_garbage(bytes) {
        assert!(bytes.starts_with(repaired) && repaired.is_ascii() && repaired.len() < bytes.len());
    }
    if let Ok(path) = target::decode_target_path(bytes) {
        assert!(!path.contains(&0), "a NUL gets through");
        assert!(!path.contains(&b'\\'), "a backslash is not taken as a slash");
    }
}

fn assert_inside(path: &[u8]) {
    assert!(
        !path.starts_with(b"/") && path.iter().all(|byte| *byte >= 0x20 && *byte != 0x7f),
        "{}",
        path.escape_ascii()
    );
    let is_plain =
        |component: &[u8]| !matches!(component, b"" | b"." | b"..") && !is_hidden_name(component);
    assert!(
        path.is_empty() || path.split(|&byte| byte == b'/').all(is_plain),
        "{}",
        path.escape_ascii()
    );
}

pub(crate) fn menu(bytes: &[u8]) {
    if let Some(name) = parse_menu_name(bytes) {
        let path = str::from_utf8(bytes).unwrap().trim_start_matches('/');
        assert!(path.starts_with(name.prefix), "{name:?}");
    }
}
