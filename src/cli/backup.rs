//! `ringboot backup` and `ringboot restore`: copies the lease database into a file, and back.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use super::client::{self, Source};
use super::output;
use crate::control::load::{DEFAULT_CONFIG, read_config_file};
use crate::guard;
use crate::store::{self, BackupError, DATABASE, NoState, StateDirectory};

/// The options that name the state directory.
#[derive(Debug, clap::Args)]
struct StateArgument {
    /// Configuration file whose `state` names the directory [default: /etc/ringboot/ringboot.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The state directory itself
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    state: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct BackupArguments {
    /// The new file, which only its owner can read; `-` is standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    place: client::SocketPlace,
}

#[derive(Debug, clap::Args)]
pub(super) struct RestoreArguments {
    /// A file of `ringboot backup`
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    state: StateArgument,
}

/// The state directory, and the user that the configuration names.
type BackupPlace = (PathBuf, Option<String>);

pub(super) fn back_up(arguments: &BackupArguments) -> ExitCode {
    let file = &arguments.file;
    if file == Path::new("-") {
        return arguments
            .place
            .carry_out(|source| write_to_stdout(source).map(|()| ExitCode::SUCCESS));
    }
    finish("backup", arguments.place.source(), |source| {
        let leases = match source {
            Source::Server(socket) => download_backup(socket, file)?,
            Source::Store(state) => {
                state.visit(|path| Ok(store::backup_database(&path.join(DATABASE), file)?))?
            }
        };
        Ok(format!("{leases} leases in {}", file.display()))
    })
}

/// Writes the database to standard output, for a pipe to another host.
fn write_to_stdout(source: Source) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if out.is_terminal() {
        anyhow::bail!("a terminal cannot show a database: name a file, or pipe the output");
    }
    match source {
        Source::Server(socket) => drop(socket.download("/v1/backup", &mut out)?),
        Source::Store(state) => {
            let mut copy = state.visit(|path| Ok(store::copy_to_send(&path.join(DATABASE))?))?;
            io::copy(&mut copy, &mut out).context("writing to standard output")?;
        }
    }
    out.flush().context("writing to standard output")
}

/// Downloads the server's copy into a file of the caller: the service could not write into root's
/// home directory. Returns the number of leases after a sync and a read of the copy. Removes a copy
/// that is not complete.
fn download_backup(socket: client::Socket, target: &Path) -> anyhow::Result<usize> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target);
    let mut file = match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(BackupError::Exists(target.to_owned()).into());
        }
        made => made.with_context(|| target.display().to_string())?,
    };
    let received = socket
        .download("/v1/backup", &mut file)
        .and_then(|_| file.sync_all().context("syncing the copy"))
        .and_then(|()| Ok(store::sync_parent_directory(target)?))
        .and_then(|()| Ok(store::count_backup_leases(target)?));
    if received.is_err() {
        let _ = std::fs::remove_file(target);
    }
    received
}

pub(super) fn restore(arguments: &RestoreArguments) -> ExitCode {
    finish("restore", arguments.state.place(), |(path, user)| {
        let state = lock_state(&path, user.as_deref())?;
        let restored = store::restore_database(&state, &arguments.file)?;
        StateDirectory::give_all_to_owner(&path)?;
        let kept = restored
            .kept
            .map_or(String::new(), |kept| format!("; the previous database is {}", kept.display()));
        Ok(format!("{} leases restored to {}{kept}", restored.leases, state.database().display()))
    })
}

impl StateArgument {
    fn place(&self) -> anyhow::Result<BackupPlace> {
        if let Some(state) = &self.state {
            return Ok((state.clone(), None));
        }
        let config = read_config_file(self.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG)))
            .map_err(|error| {
                client::with_hint(
                    &error,
                    "--config FILE names another file, --state DIR the directory itself",
                )
            })?;
        Ok((config.state, config.server.user))
    }
}

/// Locks the state directory, and gives a new one to the user of the server at once.
fn lock_state(path: &Path, user: Option<&str>) -> anyhow::Result<StateDirectory> {
    let is_new = !path.exists();
    let state = match StateDirectory::lock(path) {
        Err(NoState::InUse(path)) => {
            anyhow::bail!(
                "ringboot runs with the state directory {}: stop it first",
                path.display()
            )
        }
        answer => answer?,
    };
    if is_new && let Some(account) = guard::choose_account(user)? {
        guard::give_directory(path, account.ids, StateDirectory::is_ours)
            .with_context(|| format!("giving {} to {}", path.display(), account.name))?;
    }
    Ok(state)
}

/// Runs a command and prints its result. Exit 2: its place is unknown; 1: its work failed.
fn finish<P>(
    command: &str,
    place: anyhow::Result<P>,
    work: impl FnOnce(P) -> anyhow::Result<String>,
) -> ExitCode {
    let (code, error) = match place {
        Err(error) => (ExitCode::from(2), error),
        Ok(place) => match work(place) {
            Ok(done) => {
                return output::say(&format!("{done}\n"), ExitCode::SUCCESS);
            }
            Err(error) => (ExitCode::FAILURE, error),
        },
    };
    complain!("{command}: {error:#}");
    code
}
