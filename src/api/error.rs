//! Why a resource could not answer.

use http::StatusCode;
use utoipa::IntoResponses;

use super::types::{ApiProblem, BootStory, FindingEntry, UnknownMachine};

/// An error of the admin API, and of a command that does the same without a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{title}: {detail}")]
pub struct ApiError {
    pub status: StatusCode,
    /// What is wrong, the same words for every error of this kind.
    pub title: String,
    /// What is wrong this time, and what to do about it.
    pub detail: String,
    pub more: MoreDetail,
}

/// What some problems have beside the fields of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MoreDetail {
    #[default]
    Nothing,
    /// Methods that the resource has.
    Allow(Vec<String>),
    Findings(Vec<FindingEntry>),
    Story(Box<BootStory>),
}

impl ApiError {
    pub fn new(status: StatusCode, title: &str, detail: impl Into<String>) -> Self {
        let (title, detail) = (title.to_owned(), detail.into());
        Self { status, title, detail, more: MoreDetail::Nothing }
    }

    #[must_use]
    pub fn with(self, more: MoreDetail) -> Self {
        Self { more, ..self }
    }

    pub fn starting_or_stopping() -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "starting or stopping", "ask again in a moment")
    }

    pub fn no_dhcp() -> Self {
        let detail = "no subnet has `mode = \"server\"`";
        Self::new(StatusCode::CONFLICT, "no DHCP is answered", detail)
    }

    pub fn no_answer_from_core() -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "no answer from the DHCP core", "ask again in a moment")
    }

    /// A fault of ours.
    pub fn failed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "this resource failed", detail)
    }

    /// What every problem has.
    pub fn problem(&self) -> ApiProblem {
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
        let mut problem = self.problem();
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
        Self::new(StatusCode::NOT_FOUND, &problem.title, problem.detail).with(more)
    }
}

/// What any resource may answer, for the API's document.
#[derive(Debug, IntoResponses)]
pub enum ServerFault {
    /// A fault: `detail` or the log has the reason.
    #[response(status = 500, content_type = "application/problem+json")]
    Failed(ApiProblem),
    /// The server is starting or stopping, or the DHCP core has not answered in time.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ApiProblem),
}

/// What a resource that takes a body may answer beside, for the API's document.
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
    /// The body has a field too many, one too few, or one of another kind or beyond its bounds.
    #[response(status = 422, content_type = "application/problem+json")]
    NotUnderstood(ApiProblem),
}
