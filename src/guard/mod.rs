//! The privileges of the process after it has bound its sockets: the user that it becomes, the
//! capabilities that it keeps, and the files that it gives to that user.

mod files;

use std::io;

use crate::engine::privileges::{self, ProcessIds};
use crate::observe::finding::CheckFinding;

pub use files::give_directory;

/// The user that the server becomes by default; the Debian package creates it.
pub const DEFAULT_USER: &str = "ringboot";

/// The capabilities that the process keeps: enough to bind sockets again, and none that reads or
/// changes another user's files.
const KEPT: [u32; 2] = [privileges::NET_BIND_SERVICE, privileges::NET_RAW];

/// The unprivileged user that the process becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserAccount {
    /// The login name.
    pub name: String,
    /// Its user and group.
    pub ids: ProcessIds,
}

/// Why the process cannot become the configured user.
#[derive(Debug, thiserror::Error)]
pub enum NoAccount {
    /// The system has no user of the configured name.
    #[error(
        "[server] user = {0:?}: there is no such user. Make it (`adduser --system --group {0}`), \
         or name another"
    )]
    Unknown(String),
    /// The look-up of the user failed.
    #[error("looking up the user {0:?}: {1}")]
    Lookup(String, io::Error),
}

/// Forbids every program that this process executes to gain privileges. Call it before the first
/// thread starts.
pub fn forbid_new_privileges() -> io::Result<()> {
    privileges::set_no_new_privileges()
}

/// The user to become. None: the process is not root, or the configuration asks for root, or it
/// names no user and the default one is missing (a first try on a fresh machine). The last two are
/// logged as warnings.
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

/// The warning for a process that stays root.
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
    /// Limits all threads that start from now on to the capabilities that are kept. Call it before
    /// the first one starts.
    pub fn bound_capabilities(&self) {
        if let Err(error) = privileges::limit_capabilities(&KEPT) {
            tracing::warn!("cannot limit the capabilities that a program may gain: {error}");
        }
    }

    /// Makes every thread this user. The calling thread keeps the capabilities that new sockets
    /// need, and passes them on to threads that it starts from now on.
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
