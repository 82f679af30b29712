//! The routes of the admin API, and its OpenAPI document.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Router, middleware};
use http::header::{ALLOW, CONTENT_TYPE, SERVER};
use http::{HeaderValue, StatusCode};
use utoipa::OpenApi;
use utoipa::openapi::{OpenApi as Document, RefOr, Schema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::{ApiError, MoreDetail, ServerFault};
use super::extract::Json;
use super::state::{ApiState, in_background};
use super::types::{ApiIndex, IndexEntry};
use super::{
    backup, checks, configuration, leases, loaders, looks, machine, machine_list, quirks, reload,
    status, walks,
};

/// Bytes of a request's body: the largest is a few hundred.
const BODY_MAX_BYTES: usize = 64 * 1024;
/// The path of the document.
const DOCUMENT: &str = "/v1/openapi.json";
/// The header `Server` of every answer: a command that cannot read an answer names this version.
pub const SERVER_NAME: &str = concat!("ringboot/", env!("CARGO_PKG_VERSION"));

#[derive(OpenApi)]
#[openapi(info(
    title = "ringboot admin API",
    description = "The admin API of a running ringboot: HTTP/1.1 with JSON on a Unix socket. \
        Errors are problems of RFC 9457. A client ignores fields that it does not know: newer \
        servers have more.",
    license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
), tags(
    (name = "index", description = "The operations and their document."),
    (name = "status", description = "The status and the health of the server."),
    (name = "configuration", description = "The configuration in force."),
    (name = "check", description = "Findings about the configuration file."),
    (name = "reload", description = "Putting a new configuration in force."),
    (name = "machines", description = "Machines and the last boot of each."),
    (name = "leases", description = "Leases and other states of addresses."),
    (name = "looks", description = "Other DHCP servers on served subnets."),
    (name = "quirks", description = "Limits of firmware."),
    (name = "walks", description = "Boot chains that a command follows in the place of a machine."),
    (name = "loaders", description = "Boot loaders on the machine of the server."),
    (name = "backup", description = "Copies of the lease database."),
))]
struct ApiDocument;

/// All operations. There is no other route, so every operation is documented.
fn operations() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::with_openapi(ApiDocument::openapi())
        .routes(routes!(list_operations))
        .routes(routes!(get_document))
        .routes(routes!(status::get_status))
        .routes(routes!(configuration::get_configuration))
        .routes(routes!(machine_list::list_machines))
        .routes(routes!(machine::get_machine))
        .routes(routes!(leases::list_leases))
        .routes(routes!(leases::free_leases))
        .routes(routes!(looks::list_looks, looks::look_again))
        .routes(routes!(quirks::list_quirks))
        .routes(routes!(quirks::pin_quirk, quirks::forget_quirk))
        .routes(routes!(walks::begin_walk))
        .routes(routes!(walks::end_walk))
        .routes(routes!(checks::check_configuration))
        .routes(routes!(loaders::list_loaders))
        .routes(routes!(backup::get_backup))
        .routes(routes!(reload::reload_configuration))
}

/// The OpenAPI document; docs/openapi.json is a copy.
pub fn document() -> Document {
    let (_, mut document) = operations().split_for_parts();
    // The description of a word's type begins with the blank of its doc comment.
    for schema in document.components.iter_mut().flat_map(|all| all.schemas.values_mut()) {
        if let RefOr::T(Schema::Object(object)) = schema
            && let Some(description) = &mut object.description
        {
            *description = description.replace("\n ", "\n").trim().to_owned();
        }
    }
    document
}

/// The router of the admin socket.
pub fn router(state: ApiState) -> Router {
    let (router, _) = operations().split_for_parts();
    let router = router
        .fallback(no_such_resource)
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .with_state(Arc::new(state));
    // A layer around the whole router, since axum writes `Allow` after the layers of the inner one.
    Router::new().fallback_service(router).layer(middleware::map_response(finish_response))
}

/// Lists every operation.
///
/// The OpenAPI document describes them.
#[utoipa::path(
    get,
    path = "/v1/",
    tag = "index",
    responses((status = 200, description = "All operations.", body = ApiIndex), ServerFault),
)]
async fn list_operations(State(_): State<Arc<ApiState>>) -> Result<Json<ApiIndex>, ApiError> {
    in_background(|| Ok(index(&document()))).await
}

/// Shows the OpenAPI document of this API.
///
/// The document is that of the server that answers, in OpenAPI 3.1.
#[utoipa::path(
    get,
    path = "/v1/openapi.json",
    tag = "index",
    responses(
        (status = 200, description = "The document.", body = Object),
        ServerFault,
    ),
)]
async fn get_document(State(_): State<Arc<ApiState>>) -> Result<Json<Document>, ApiError> {
    in_background(|| Ok(document())).await
}

fn index(document: &Document) -> ApiIndex {
    let mut resources = Vec::new();
    for (path, item) in &document.paths.paths {
        // The API uses these methods only. One that is missing here would be missing in the list.
        let operations = [
            ("GET", &item.get),
            ("PUT", &item.put),
            ("POST", &item.post),
            ("DELETE", &item.delete),
        ];
        for (method, operation) in operations {
            resources.extend(operation.as_ref().map(|operation| IndexEntry {
                method: method.to_owned(),
                path: path.clone(),
                summary: operation.summary.clone().unwrap_or_default(),
            }));
        }
    }
    ApiIndex {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        openapi: DOCUMENT.to_owned(),
        resources,
    }
}

async fn no_such_resource(request: Request) -> ApiError {
    let detail = format!("{}: GET /v1/ lists the resources", request.uri().path());
    ApiError::new(StatusCode::NOT_FOUND, "no such resource", detail)
}

/// Adds the header `Server` to every answer, and turns a 405 of axum into a problem.
async fn finish_response(response: Response) -> Response {
    let mut response = match response.status() {
        StatusCode::METHOD_NOT_ALLOWED if !response.headers().contains_key(CONTENT_TYPE) => {
            report_wrong_method(&response)
        }
        _ => response,
    };
    response.headers_mut().insert(SERVER, HeaderValue::from_static(SERVER_NAME));
    response
}

fn report_wrong_method(response: &Response) -> Response {
    let allow = response.headers().get(ALLOW).cloned();
    let methods = allow.as_ref().and_then(|allow| allow.to_str().ok()).unwrap_or_default();
    let methods: Vec<String> = methods.split(',').map(|method| method.trim().to_owned()).collect();
    let detail = format!("this resource allows {}", methods.join(", "));
    let problem = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed", detail)
        .with_more(MoreDetail::Allow(methods));
    let mut response = problem.into_response();
    response.headers_mut().extend(allow.map(|allow| (ALLOW, allow)));
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::mpsc::sync_channel;

    use axum::body::Body;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;
    use serde_json::Value;

    use super::*;
    use crate::api::state::{Inside, Known};
    use crate::control::load::ConfigOverrides;
    use crate::observe::journal::MachineJournal;
    use crate::serve::handle::ServerHandle;

    const PAGE: &str = "docs/openapi.json";

    #[test]
    fn the_document_in_the_repository_is_that_of_the_server() {
        let made = document().to_pretty_json().unwrap() + "\n";
        if std::env::var_os("RINGBOOT_BLESS").is_some() {
            std::fs::write(PAGE, made).unwrap();
            return;
        }
        let kept = std::fs::read_to_string(PAGE).unwrap();
        assert!(kept == made, "{PAGE} is out of date: RINGBOOT_BLESS=1 writes it");
    }

    #[test]
    fn every_operation_parameter_answer_and_type_is_described() {
        let document = serde_json::to_value(document()).unwrap();
        let is_said = |value: &Value, key: &str| value[key].as_str().is_some_and(|it| it.len() > 3);
        let (mut operations, mut wrong) = (0, Vec::new());
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                operations += 1;
                let name = format!("{method} {path}");
                if !is_said(operation, "summary") || !is_said(operation, "description") {
                    wrong.push(format!("{name}: no summary or no description"));
                }
                let answers = operation["responses"].as_object().unwrap();
                if !answers.keys().any(|status| status.starts_with(['4', '5'])) {
                    wrong.push(format!("{name}: no error"));
                }
                let parameters = operation["parameters"].as_array().into_iter().flatten();
                for part in parameters.chain(answers.values()) {
                    if !is_said(part, "description") {
                        wrong.push(format!("{name}: {part}"));
                    }
                }
            }
        }
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            if !is_said(schema, "description") {
                wrong.push(format!("{name} has no description"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert_eq!(operations, index(&super::document()).resources.len());
    }

    /// The answer of a server that has not started, with this lease database.
    fn ask_before_start(path: &str, database: Option<&std::path::Path>) -> (u16, Value) {
        let handle = ServerHandle { reloads: sync_channel(1).0, overview: Arc::default() };
        let inside = Inside {
            known: Known { journal: Arc::new(MachineJournal::default()), quirks: None },
            database: database.map(Into::into),
            overrides: ConfigOverrides::default(),
        };
        let service = TowerToHyperService::new(router(ApiState::new(handle, inside)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = service.call(request).await.unwrap();
            let status = response.status().as_u16();
            let bytes = axum::body::to_bytes(response.into_body(), BODY_MAX_BYTES).await.unwrap();
            (status, serde_json::from_slice(&bytes).unwrap())
        })
    }

    #[test]
    fn a_server_that_has_not_started_answers_503_as_a_problem() {
        for path in ["/v1/status", "/v1/configuration", "/v1/check", "/v1/leases", "/v1/looks"] {
            let (status, problem) = ask_before_start(path, None);
            assert_eq!((status, &problem["status"]), (503, &503.into()), "{path}");
            assert_eq!(problem["title"], "starting or stopping");
            assert_eq!(problem["type"], "about:blank");
        }
    }

    #[test]
    fn a_backup_of_a_file_that_is_no_database_answers_500_as_a_problem() {
        let scratch = tempfile::tempdir().unwrap();
        let database = scratch.path().join("leases.db");
        std::fs::write(&database, "no database ".repeat(1000)).unwrap();
        let (status, problem) = ask_before_start("/v1/backup", Some(&database));
        assert_eq!((status, &problem["status"]), (500, &500.into()), "{problem}");
        assert_eq!(problem["title"], "no backup");
    }
}
