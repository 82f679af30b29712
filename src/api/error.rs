//! Errors of the admin API.

use http::StatusCode;
use utoipa::IntoResponses;

use super::types::{ApiProblem, BootStory, FindingEntry, UnknownMachine};

/// An error of the admin API, and of a command that does the same without a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{title}: {detail}")]
pub struct ApiError {
    /// Status code of the answer.
    pub status: StatusCode,
    /// The kind of error; the same text for every error of that kind.
    pub title: String,
    /// The cause of this error, and what to do about it.
    pub detail: String,
    /// Further fields of the problem.
    pub more: MoreDetail,
}

/// Fields that only some problems have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MoreDetail {
    /// None.
    #[default]
    Nothing,
    /// Methods of the resource.
    Allow(Vec<String>),
    /// Findings about a configuration that was refused.
    Findings(Vec<FindingEntry>),
    /// The story of an unknown machine.
    Story(Box<BootStory>),
}

impl ApiError {
    /// An error without further fields.
    pub fn new(status: StatusCode, title: &str, detail: impl Into<String>) -> Self {
        let (title, detail) = (title.to_owned(), detail.into());
        Self { status, title, detail, more: MoreDetail::Nothing }
    }

    /// The same error with further fields.
    #[must_use]
    pub fn with_more(self, more: MoreDetail) -> Self {
        Self { more, ..self }
    }

    /// 503 while the server starts or stops.
    pub fn starting_or_stopping() -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "starting or stopping", "ask again in a moment")
    }

    /// 409 of a server without DHCP.
    pub fn no_dhcp() -> Self {
        let detail = "no subnet has `mode = \"server\"`";
        Self::new(StatusCode::CONFLICT, "this server answers no DHCP", detail)
    }

    /// 503 where the DHCP core did not answer in time.
    pub fn no_answer_from_core() -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "no answer from the DHCP core", "ask again in a moment")
    }

    /// 500 for a fault of the server.
    pub fn failed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "this resource failed", detail)
    }

    /// The fields of every problem.
    pub fn to_problem(&self) -> ApiProblem {
        ApiProblem {
            kind: "about:blank".to_owned(),
            title: self.title.clone(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            allow: None,
            findings: None,
        }
    }

    /// The body of the answer in JSON.
    pub fn into_json(self) -> serde_json::Result<String> {
        let mut problem = self.to_problem();
        match self.more {
            MoreDetail::Nothing => {}
            MoreDetail::Allow(methods) => problem.allow = Some(methods),
            MoreDetail::Findings(findings) => problem.findings = Some(findings),
            MoreDetail::Story(story) => {
                return serde_json::to_string_pretty(&UnknownMachine { problem, story: *story });
            }
        }
        serde_json::to_string_pretty(&problem)
    }
}

impl From<UnknownMachine> for ApiError {
    fn from(machine: UnknownMachine) -> Self {
        let UnknownMachine { problem, story } = machine;
        let more = MoreDetail::Story(Box::new(story));
        Self::new(StatusCode::NOT_FOUND, &problem.title, problem.detail).with_more(more)
    }
}

/// Errors of any resource, for the API's document.
#[derive(Debug, IntoResponses)]
pub enum ServerFault {
    /// A fault of the server: `detail` or the log has the reason.
    #[response(status = 500, content_type = "application/problem+json")]
    Failed(ApiProblem),
    /// The server is starting or stopping, or its DHCP core did not answer in time.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ApiProblem),
}

/// Errors of a resource that reads a body, for the API's document.
#[derive(Debug, IntoResponses)]
pub enum BodyFault {
    /// The body is not JSON, or the path is wrong.
    #[response(status = 400, content_type = "application/problem+json")]
    NotJson(ApiProblem),
    /// The body did not come in time.
    #[response(status = 408, content_type = "application/problem+json")]
    TooSlow(ApiProblem),
    /// The body is too large.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(ApiProblem),
    /// The body is not declared as `application/json`.
    #[response(status = 415, content_type = "application/problem+json")]
    NotDeclared(ApiProblem),
    /// The body has an unknown field, lacks one, or has a value of another kind or out of bounds.
    #[response(status = 422, content_type = "application/problem+json")]
    NotUnderstood(ApiProblem),
}
