//! What the process may do once it has bound: which user it becomes, what that user keeps, and the
//! files it is given.

mod files;

use std::io;

use crate::engine::privileges::{self, ProcessIds};
use crate::observe::finding::CheckFinding;

pub use files::give_directory;

/// Who the server becomes where the configuration names nobody; the Debian package makes this user.
pub const DEFAULT_USER: &str = "ringboot";

/// What is kept: enough to bind anew, and nothing that reads or changes another user's files.
const KEPT: [u32; 2] = [privileges::NET_BIND_SERVICE, privileges::NET_RAW];

/// A user to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserAccount {
    pub name: String,
    pub ids: ProcessIds,
}

/// Why there is nobody to become.
#[derive(Debug, thiserror::Error)]
pub enum NoAccount {
    #[error(
        "[server] user = {0:?}: there is no such user. Make it (`adduser --system --group {0}`), \
         or name another"
    )]
    Unknown(String),
    #[error("looking up the user {0:?}: {1}")]
    Lookup(String, io::Error),
}

/// Nothing that this process executes may gain what it does not have. To be called before any
/// thread is started.
pub fn forbid_new_privileges() -> io::Result<()> {
    privileges::set_no_new_privileges()
}

/// Whom to become: None where the process is not root, where `root` is asked for, or where nobody
/// is named and the default user is missing (a first try on a fresh machine); the last two are said
/// as warnings.
pub fn choose_account(written: Option<&str>) -> Result<Option<UserAccount>, NoAccount> {
    if !privileges::is_root() {
        return Ok(None);
    }
    let name = written.unwrap_or(DEFAULT_USER);
    let found = privileges::find_user_ids(name)
        .map_err(|error| NoAccount::Lookup(name.to_owned(), error))?;
    match (found, written) {
        (Some(ProcessIds { uid: 0, .. }), _) | (None, None) => {
            report_kept_root(written).log();
            Ok(None)
        }
        (Some(ids), _) => Ok(Some(UserAccount { name: name.to_owned(), ids })),
        (None, Some(_)) => Err(NoAccount::Unknown(name.to_owned())),
    }
}

/// What is said where root is kept.
pub fn report_kept_root(written: Option<&str>) -> CheckFinding {
    match written {
        Some(name) => CheckFinding::warning(
            format!("ringboot STAYS ROOT, because [server] user = {name:?} asks for it"),
            "",
        ),
        None => CheckFinding::warning(
            format!("ringboot STAYS ROOT: there is no user {DEFAULT_USER} to become"),
            format!(
                "`adduser --system --group {DEFAULT_USER}` makes it, [server] user names another"
            ),
        ),
    }
}

impl UserAccount {
    /// No thread that is started from now on can ever have more than what is kept. To be called
    /// before any is.
    pub fn bound_capabilities(&self) {
        if let Err(error) = privileges::limit_capabilities(&KEPT) {
            tracing::warn!("the capabilities that a program may gain are not bounded: {error}");
        }
    }

    /// Every thread becomes this user. The calling thread keeps what new sockets need, and passes
    /// it on to threads that it starts from now on.
    pub fn take_over(&self) -> io::Result<()> {
        privileges::become_user(self.ids, &KEPT)?;
        tracing::info!(
            "root is given away: user {} (uid {}, gid {}), no other groups, CAP_NET_BIND_SERVICE \
             and CAP_NET_RAW kept",
            self.name,
            self.ids.uid,
            self.ids.gid
        );
        Ok(())
    }
}
