//! A copy of the lease database.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::error::{ApiError, ServerFault};
use super::state::{ApiState, work_in_background};
use super::types::{ApiProblem, DatabaseFile};
use crate::store::{self, BackupError};

/// The media type of a SQLite database (IANA).
const SQLITE: &str = "application/vnd.sqlite3";
/// Bytes of the file in one read and send.
const CHUNK_BYTES: usize = 64 * 1024;

/// Copies the lease database, for `ringboot restore`.
///
/// The copy is consistent, and the server serves on meanwhile.
#[utoipa::path(
    get,
    path = "/v1/backup",
    tag = "backup",
    responses(
        (status = 200, description = "The database.", body = DatabaseFile,
            content_type = "application/vnd.sqlite3"),
        (status = 404, description = "There is no lease database.",
            body = ApiProblem, content_type = "application/problem+json"),
        ServerFault,
    ),
)]
pub async fn get_backup(State(api): State<Arc<ApiState>>) -> Result<Response, ApiError> {
    let file = work_in_background(move || {
        let _copying = api.copying.lock().unwrap_or_else(PoisonError::into_inner);
        copy_database(api.database.as_deref())
    })
    .await?;
    let body = FileBody::new(file).map_err(|error| ApiError::failed(error.to_string()))?;
    Ok(([(CONTENT_TYPE, SQLITE)], Body::new(body)).into_response())
}

fn copy_database(database: Option<&Path>) -> Result<File, ApiError> {
    let Some(database) = database else {
        let detail = "a server with `--root` alone answers no DHCP, and has no leases";
        return Err(ApiError::new(StatusCode::NOT_FOUND, "no lease database", detail));
    };
    store::copy_to_send(database).map_err(|error| match error {
        BackupError::NoDatabase(_) => {
            ApiError::new(StatusCode::NOT_FOUND, "no lease database", error.to_string())
        }
        _ => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "no backup", error.to_string()),
    })
}

/// A file as the body of an answer, with one piece in memory at a time.
struct FileBody {
    file: File,
    left: u64,
}

impl FileBody {
    fn new(file: File) -> io::Result<Self> {
        let left = file.metadata()?.len();
        Ok(Self { file, left })
    }

    fn next_piece(&mut self) -> io::Result<Bytes> {
        let size = usize::try_from(self.left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let mut piece = vec![0; size];
        self.file.read_exact(&mut piece)?;
        self.left -= piece.len() as u64;
        Ok(piece.into())
    }
}

impl HttpBody for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let body = self.get_mut();
        let piece = (body.left > 0).then(|| body.next_piece());
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_is_sent_whole_with_its_length() {
        let scratch = tempfile::tempdir().unwrap();
        let name = scratch.path().join("file");
        let bytes = "0123456789".repeat(CHUNK_BYTES / 4).into_bytes();
        std::fs::write(&name, &bytes).unwrap();
        let mut body = FileBody::new(File::open(&name).unwrap()).unwrap();
        assert_eq!(body.size_hint().exact(), Some(bytes.len() as u64));
        let mut sent = Vec::new();
        let mut context = Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut context) {
            let piece = frame.unwrap().into_data().unwrap();
            assert!(piece.len() <= CHUNK_BYTES);
            sent.extend_from_slice(&piece);
        }
        assert!(sent == bytes);
    }
}
