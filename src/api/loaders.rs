//! Boot loaders of this machine.

use std::path::Path;
use std::sync::Arc;

use axum::extract::State;

use super::error::{ApiError, ServerFault};
use super::extract::Json;
use super::state::{ApiState, in_background};
use super::types::{LoaderEntry, LoaderList, MissingLoader};
use crate::boot::loaders::{ARCHITECTURES, find_loader_version, name_loader_packages};
use crate::boot::pe::BootProgram;
use crate::control::loaders::{
    FoundLoader, find_packaged_loaders, find_root_loaders, read_program_kind,
};

/// A loader larger than this, in bytes, is not searched for its version.
const SEARCHED_MAX: u64 = 16 * 1024 * 1024;

/// Lists boot loaders of the served root and of this machine's packages.
///
/// For a kind of firmware without a loader, `missing` has the packages with one.
#[utoipa::path(
    get,
    path = "/v1/loaders",
    tag = "loaders",
    responses((status = 200, description = "The loaders.", body = LoaderList), ServerFault),
)]
pub async fn list_loaders(State(api): State<Arc<ApiState>>) -> Result<Json<LoaderList>, ApiError> {
    in_background(move || Ok(loader_list(Some(api.overview()?.images.root())))).await
}

/// The loaders of a root and of this machine's packages.
pub fn loader_list(root: Option<&Path>) -> LoaderList {
    let found = root
        .iter()
        .flat_map(|root| find_root_loaders(root))
        .chain(find_packaged_loaders(Path::new("/")));
    let loaders: Vec<LoaderEntry> = found.filter_map(|found| loader_entry(&found)).collect();
    let missing = ARCHITECTURES
        .into_iter()
        .filter(|(key, _)| loaders.iter().all(|loader| loader.key != *key))
        .map(|(key, arch)| MissingLoader {
            key: key.to_owned(),
            packages: name_loader_packages(arch).to_owned(),
        })
        .collect();
    LoaderList { root: root.map(shown_path), loaders, missing }
}

/// The path as text: JSON cannot have a name that is not UTF-8.
pub fn shown_path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn loader_entry(found: &FoundLoader) -> Option<LoaderEntry> {
    let (key, _) = ARCHITECTURES.iter().find(|(_, arch)| *arch == found.arch)?;
    // None: this kind of file carries no signature.
    let signed = match read_program_kind(&found.path) {
        Ok(BootProgram::Efi { is_signed, .. }) => Some(is_signed),
        _ => None,
    };
    let is_small = std::fs::metadata(&found.path).is_ok_and(|file| file.len() <= SEARCHED_MAX);
    let bytes = if is_small { std::fs::read(&found.path).ok() } else { None };
    Some(LoaderEntry {
        key: (*key).to_owned(),
        name: found.name.clone(),
        path: shown_path(&found.path),
        version: bytes.as_deref().and_then(find_loader_version),
        signed,
    })
}
