//! What the running server's control side is made of: reading the configuration again, and the
//! admin socket's resources.

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
    /// Loaders of packages that are lent to the root, by name.
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

    /// Reads and judges the configuration once more; an error is what is wrong with it.
    pub(super) fn read_again(&self) -> Result<RereadConfig, ReloadRefusal> {
        let refused = |error| ReloadRefusal {
            why: format!("{error:#}"),
            findings: explain_unread_config(&error),
        };
        let (mut next, _) = load::read_serve_config(&self.overrides).map_err(refused)?;
        let mut after_restart = after_restart(&self.config, &next);
        if self.config.dhcp.listen_address != next.dhcp.listen_address {
            // Until the restart that the answer names, the sockets stay as they are.
            next.snapshot.dhcp_interfaces.clone_from(&self.config.snapshot.dhcp_interfaces);
        }
        // Who we are now is who reads: the account of the start has been taken by then.
        let found = examine_config(&mut next, self.overrides.no_dhcp, None).map_err(refused)?;
        // One that is lent no longer is in nobody's way.
        if found.borrowed.files.iter().any(|(name, path)| self.borrowed.get(name) != Some(path)) {
            after_restart.push("the loaders of packages that [boot] names".to_owned());
        }
        Ok(RereadConfig { snapshot: next.snapshot, after_restart, remarks: found.remarks })
    }

    /// Binds the admin socket where one is wanted. Called before root is given away to this
    /// account.
    pub(super) fn bind_admin_socket(&self, account: Option<&UserAccount>) -> Option<BoundSocket> {
        let path = self.config.server.admin_socket.clone()?;
        let bound = make_directory(&path, account)
            .and_then(|()| admin_socket::bind(&path))
            .and_then(|bound| give(&path, account).map(|()| bound));
        // Whose state directory that would be, nobody has said.
        let database =
            (!self.overrides.is_by_root_alone()).then(|| self.config.state.join(DATABASE));
        let inside =
            Inside { known: self.known.clone(), database, overrides: self.overrides.clone() };
        let is_wanted = !self.overrides.is_by_root_alone() || self.overrides.socket.is_some();
        Some(BoundSocket { path, bound, inside, is_wanted })
    }
}

/// The admin socket before anything answers on it, or why it could not be bound.
#[derive(Debug)]
pub(super) struct BoundSocket {
    path: PathBuf,
    bound: io::Result<admin_socket::BoundAdminSocket>,
    inside: Inside,
    /// The operator expects it; without one, a server of `--root` is no worse.
    is_wanted: bool,
}

impl BoundSocket {
    /// Answers from now on, for as long as the socket lives. None: it cannot, which is said and
    /// stops nothing else.
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

/// The socket's own directory is made where its parent is there: /run/ringboot goes with every
/// boot.
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

/// Whom the process becomes must be able to remove it again, and the group of that user may use it.
fn give(path: &Path, account: Option<&UserAccount>) -> io::Result<()> {
    account.map_or(Ok(()), |account| lchown(path, Some(account.ids.uid), Some(account.ids.gid)))
}

/// The tables whose changes a reload does not carry: sockets, threads and limits are made once.
fn after_restart(old: &Config, new: &Config) -> Vec<String> {
    let addresses = |config: &Config| {
        (config.dhcp.is_wanted(), config.dhcp.listen_address, config.dhcp.listen_port)
    };
    // Without a subnet to serve there is no store and no DHCP core: the first one starts them. The
    // last one leaves them idle.
    let starts = new.dhcp.is_wanted() && !old.dhcp.is_wanted();
    let moved = new.dhcp.is_wanted() && old.dhcp.is_wanted() && addresses(old) != addresses(new);
    let changed = [
        ("root", old.root != new.root),
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
