//! Reads JSON, queries and path parameters of requests, and writes JSON. A value of the wrong form
//! becomes a problem of RFC 9457.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// How long a client may take for the body of its request.
const BODY_MAX: Duration = Duration::from_secs(10);

/// A value in JSON: the body of a request, or of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let read = axum::Json::<T>::from_request(request, state);
        let read = tokio::time::timeout(BODY_MAX, read).await.map_err(|_| {
            let detail = format!("it did not arrive within {} s", BODY_MAX.as_secs());
            ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive", detail)
        })?;
        let axum::Json(value) = read.map_err(|refused| {
            ApiError::new(refused.status(), "the body has the wrong form", refused.body_text())
        })?;
        Ok(Self(value))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_string_pretty(&self.0) {
            Ok(text) => respond_with_json(StatusCode::OK, "application/json", text),
            Err(error) => ApiError::failed(error.to_string()).into_response(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status;
        let text = self.into_json().unwrap_or_default();
        respond_with_json(status, "application/problem+json", text)
    }
}

/// Ends with a newline, since people read it too.
fn respond_with_json(status: StatusCode, media_type: &'static str, text: String) -> Response {
    let media_type = [(CONTENT_TYPE, HeaderValue::from_static(media_type))];
    (status, media_type, Bytes::from(text + "\n")).into_response()
}

/// The query of a request.
#[derive(Clone, Copy, Debug)]
pub struct QueryOf<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryOf<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(query)) => Ok(Self(query)),
            Err(refused) => Err(ApiError::new(
                refused.status(),
                "the query has the wrong form",
                refused.body_text(),
            )),
        }
    }
}

/// The one parameter of a path, percent-decoded.
#[derive(Clone, Debug)]
pub struct PathText(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathText {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(text)) => Ok(Self(text)),
            Err(refused) => Err(ApiError::new(
                refused.status(),
                "the path has the wrong form",
                refused.body_text(),
            )),
        }
    }
}
