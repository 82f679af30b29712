//! The configuration in force.

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{ETAG, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};

use super::error::{ApiError, ServerFault};
use super::extract::Json;
use super::state::{ApiState, work_in_background};
use super::types::{ConfigurationView, ConfiguredSubnet, MenuLine};
use crate::boot::menu;
use crate::control::loaders;
use crate::dhcp::subnet::Subnet;
use crate::serve::overview::ServerOverview;

/// Shows the configuration in force.
///
/// The ETag of the answer changes with every reload and every start, and with nothing else.
#[utoipa::path(
    get,
    path = "/v1/configuration",
    tag = "configuration",
    params(("If-None-Match" = Option<String>, Header,
        description = "Entity tags of answers that the client has.")),
    responses(
        (status = 200, description = "The configuration in force.", body = ConfigurationView,
            headers(("ETag" = String, description = "Start of the process and generation."))),
        (status = 304, description = "The client has this generation.",
            headers(("ETag" = String, description = "Start of the process and generation."))),
        ServerFault,
    ),
)]
pub async fn get_configuration(
    State(api): State<Arc<ApiState>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (view, tag) = work_in_background(move || {
        let overview = api.overview()?;
        let view = configuration(&overview);
        let tag = format!("\"{}\"", entity_tag(&overview, view.generation));
        Ok((view, tag))
    })
    .await?;
    let etag = [(ETAG, tag)];
    if names_tag(&headers, &etag[0].1) {
        return Ok((StatusCode::NOT_MODIFIED, etag).into_response());
    }
    Ok((etag, Json(view)).into_response())
}

/// Whether If-None-Match names this tag: `*`, or a list of tags, compared without their `W/` (RFC
/// 9110 section 13.1.2).
fn names_tag(headers: &HeaderMap, tag: &str) -> bool {
    let written = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = written.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}

/// The configuration of the current generation.
pub fn configuration(overview: &ServerOverview) -> ConfigurationView {
    let generation = overview.generation();
    let snapshot = &generation.snapshot;
    let loaders = loaders::list_boot_keys(&snapshot.dhcp.boot).into_iter();
    let entries = snapshot.menu.iter().flat_map(|menu| &menu.entries);

    ConfigurationView {
        generation: generation.number,
        root: overview.images.root().to_string_lossy().into_owned(),
        advertise: snapshot.dhcp.advertise,
        http_port: snapshot.dhcp.http_port,
        subnets: snapshot.dhcp.subnets.iter().map(subnet_view).collect(),
        boot: loaders.map(|(key, name)| (key.to_owned(), name.map(str::to_owned))).collect(),
        menu: entries.map(menu_line).collect(),
    }
}

/// The entity tag of the configuration: the start of the process and the generation, because
/// generations count from 1 with every start.
pub fn entity_tag(overview: &ServerOverview, generation: u64) -> String {
    let started = overview.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{generation}", started.as_millis())
}

fn subnet_view(subnet: &Subnet) -> ConfiguredSubnet {
    let pools = subnet.pools.iter();
    ConfiguredSubnet {
        subnet: subnet.network.to_string(),
        interface: subnet.interface.clone(),
        relay: subnet.relay,
        shared_network: subnet.shared_network.clone(),
        mode: subnet.mode.into(),
        clients: subnet.clients.into(),
        pools: pools.map(|pool| format!("{}-{}", pool.first, pool.last)).collect(),
        reservations: subnet.reservations.len(),
        install_by_default: subnet.install_by_default,
    }
}

fn menu_line(entry: &menu::MenuEntry) -> MenuLine {
    MenuLine { label: entry.label.clone(), kernel: entry.kernel.clone() }
}
