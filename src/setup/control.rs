//! The control side of the running server: reading the configuration again, and the admin socket.

use std::collections::HashMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, lchown};
use std::path::{Path, PathBuf};

use crate::api::admin_socket::{self, AdminSocket};
use crate::api::router::router;
use crate::api::state::{ApiState, Inside, Known};
use crate::config::Config;
use crate::control::examine::{examine_config, explain_unread_config};
use crate::control::load::{self, ConfigOverrides};
use crate::guard::UserAccount;
use crate::images::CleanPath;
use crate::serve::handle::{ReloadRefusal, RereadConfig, ServerHandle};
use crate::store::DATABASE;

/// The control side of a server that runs with this configuration.
#[derive(Debug)]
pub struct Control {
    config: Config,
    /// Boot loaders of Debian packages that are served as if they were in the root, by name.
    borrowed: HashMap<CleanPath, PathBuf>,
    overrides: ConfigOverrides,
    known: Known,
}

impl Control {
    pub(super) fn new(
        config: Config,
        borrowed: HashMap<CleanPath, PathBuf>,
        overrides: ConfigOverrides,
        known: Known,
    ) -> Self {
        Self { config, borrowed, overrides, known }
    }

    /// Reads and checks the configuration again.
    pub(super) fn read_again(&self) -> Result<RereadConfig, ReloadRefusal> {
        let mut next = load::read_serve_config(&self.overrides).map_err(refuse_reload)?;
        let mut after_restart = after_restart(&self.config, &next);
        if self.config.dhcp.listen_address != next.dhcp.listen_address {
            // The sockets stay as they are until the restart that the answer asks for.
            next.snapshot.dhcp_interfaces.clone_from(&self.config.snapshot.dhcp_interfaces);
        }

        // The process has dropped root already, so it checks with its own permissions.
        let found =
            examine_config(&mut next, self.overrides.no_dhcp, None).map_err(refuse_reload)?;
        // A loader that is no longer borrowed needs no restart.
        if found.borrowed.files.iter().any(|(name, path)| self.borrowed.get(name) != Some(path)) {
            after_restart.push("the loaders of packages that [boot] names".to_owned());
        }
        Ok(RereadConfig { snapshot: next.snapshot, after_restart, remarks: found.remarks })
    }

    /// Binds the admin socket where one is wanted, before the process drops root for this account.
    pub(super) fn bind_admin_socket(&self, account: Option<&UserAccount>) -> Option<BoundSocket> {
        let path = self.config.server.admin_socket.clone()?;
        let bound = make_directory(&path, account)
            .and_then(|()| admin_socket::bind(&path))
            .and_then(|bound| give(&path, account).map(|()| bound));
        // With `--root` alone no configuration names a state directory.
        let database =
            (!self.overrides.is_by_root_alone()).then(|| self.config.state.join(DATABASE));
        let inside =
            Inside { known: self.known.clone(), database, overrides: self.overrides.clone() };
        let is_wanted = !self.overrides.is_by_root_alone() || self.overrides.socket.is_some();
        Some(BoundSocket { path, bound, inside, is_wanted })
    }
}

fn refuse_reload(error: anyhow::Error) -> ReloadRefusal {
    ReloadRefusal { why: format!("{error:#}"), findings: explain_unread_config(&error) }
}

/// The admin socket before the server answers on it, or why it could not be bound.
#[derive(Debug)]
pub(super) struct BoundSocket {
    path: PathBuf,
    bound: io::Result<admin_socket::BoundAdminSocket>,
    inside: Inside,
    /// The operator expects the socket; a server with `--root` alone runs as well without one.
    is_wanted: bool,
}

impl BoundSocket {
    /// Answers from now on, until the returned value is dropped. None: it cannot answer, which is
    /// logged and stops nothing else.
    pub(super) fn answer(self, handle: ServerHandle) -> Option<AdminSocket> {
        let Self { path, bound, inside, is_wanted } = self;
        let error = match bound.and_then(|bound| bound.serve(router(ApiState::new(handle, inside))))
        {
            Ok(socket) => return Some(socket),
            Err(error) => error,
        };
        let text = format!(
            "no admin socket at {}: {error}; commands cannot reach this server",
            path.display()
        );
        if is_wanted {
            tracing::warn!("{text}");
        } else {
            tracing::info!(
                "{text}. --socket PATH makes it elsewhere, for `ringboot status --socket PATH`"
            );
        }
        None
    }
}

/// Makes the socket's directory if the parent exists: /run is empty after every boot.
fn make_directory(socket: &Path, account: Option<&UserAccount>) -> io::Result<()> {
    const DIRECTORY_MODE: u32 = 0o755;
    let Some(directory) = socket.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    match DirBuilder::new().mode(DIRECTORY_MODE).create(directory) {
        Ok(()) => give(directory, account),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Gives the socket to the unprivileged user: it removes the socket on exit, and its group may
/// connect.
fn give(path: &Path, account: Option<&UserAccount>) -> io::Result<()> {
    account.map_or(Ok(()), |account| lchown(path, Some(account.ids.uid), Some(account.ids.gid)))
}

/// The changed tables that a reload cannot apply, because sockets, threads and limits are made
/// once.
fn after_restart(old: &Config, new: &Config) -> Vec<String> {
    // Without a subnet to serve there is no store and no DHCP core: the first subnet needs a
    // restart that starts them. Removing the last subnet leaves them idle.
    let starts = new.dhcp.is_wanted() && !old.dhcp.is_wanted();
    let moved = new.dhcp.is_wanted()
        && old.dhcp.is_wanted()
        && (old.dhcp.listen_address, old.dhcp.listen_port)
            != (new.dhcp.listen_address, new.dhcp.listen_port);
    let changed = [
        ("root", old.root != new.root),
        ("[links]", old.links != new.links),
        ("state", old.state != new.state),
        ("[server]", old.server != new.server),
        ("[tftp]", old.tftp != new.tftp),
        ("[http]", old.http != new.http),
        ("[dhcp], of which nothing was served,", starts),
        ("`listen-address` and `listen-port` of [dhcp]", moved),
        ("[log]", old.log != new.log),
        ("[tuning]", old.tuning != new.tuning),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name.to_owned()).collect()
}
