//! Boot loaders that are found on this machine, as JSON.

use std::path::Path;

use serde_json::{Value, json};

use crate::boot::loaders::{ARCHITECTURES, find_loader_version, name_loader_packages};
use crate::boot::pe::BootProgram;
use crate::control::loaders::{
    FoundLoader, find_packaged_loaders, find_root_loaders, read_program_kind,
};

/// A loader larger than this (bytes) is not searched for its version.
const SEARCHED_MAX: u64 = 16 * 1024 * 1024;

/// The resource that a running server has this under.
pub const PATH: &str = "/v1/loaders";

/// The loaders of a root and of this machine's packages.
pub fn listing(root: Option<&Path>) -> Value {
    let found = root
        .iter()
        .flat_map(|root| find_root_loaders(root))
        .chain(find_packaged_loaders(Path::new("/")));
    let rows: Vec<Value> = found.filter_map(|found| row(&found)).collect();
    let missing: Vec<Value> = ARCHITECTURES
        .into_iter()
        .filter(|(key, _)| rows.iter().all(|row| row["key"] != *key))
        .map(|(key, arch)| json!({ "key": key, "packages": name_loader_packages(arch) }))
        .collect();
    json!({ "root": shown(root), "loaders": rows, "missing": missing })
}

/// A name that is not UTF-8 is no JSON.
pub fn shown(root: Option<&Path>) -> Value {
    root.map_or(Value::Null, |root| json!(root.to_string_lossy()))
}

fn row(found: &FoundLoader) -> Option<Value> {
    let key = ARCHITECTURES.iter().find(|(_, arch)| *arch == found.arch).map(|(key, _)| *key)?;
    // None: this kind of file carries no signature.
    let signed = match read_program_kind(&found.path) {
        Ok(BootProgram::Efi { is_signed, .. }) => Some(is_signed),
        _ => None,
    };
    let is_small = std::fs::metadata(&found.path).is_ok_and(|file| file.len() <= SEARCHED_MAX);
    let bytes = if is_small { std::fs::read(&found.path).ok() } else { None };
    let version = bytes.as_deref().and_then(find_loader_version);
    let path = found.path.to_string_lossy();
    Some(json!({ "key": key, "name": found.name, "path": path, "version": version,
            "signed": signed }))
}
