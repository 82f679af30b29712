//! `ringboot backup` and `ringboot restore`: the lease database into a file, and back.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use super::serve::{DEFAULT_CONFIG, read_file};
use crate::control::store::{self, DATABASE, NoState, StateDirectory};
use crate::guard;

/// Where the state directory is.
#[derive(Debug, clap::Args)]
struct State {
    /// Configuration file whose `state` names the directory [default: /etc/ringboot/ringboot.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The state directory itself
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    state: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct BackupArguments {
    /// A file that does not exist yet; only its owner will be able to read it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    state: State,
}

#[derive(Debug, clap::Args)]
pub(super) struct RestoreArguments {
    /// A file that `ringboot backup` has made
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    state: State,
}

/// The state directory, and the user that the configuration names.
type Place = (PathBuf, Option<String>);

/// Exit 2: the configuration; 1: there is no backup.
pub(super) fn back_up(arguments: &BackupArguments) -> ExitCode {
    finish("backup", arguments.state.place(), |(state, _)| {
        let leases = store::backup(&state.join(DATABASE), &arguments.file)?;
        Ok(format!("{leases} leases in {}", arguments.file.display()))
    })
}

/// Exit 2: the configuration; 1: nothing was restored.
pub(super) fn restore(arguments: &RestoreArguments) -> ExitCode {
    finish("restore", arguments.state.place(), |(path, user)| {
        let state = lock(&path, user.as_deref())?;
        let restored = store::restore(&state, &arguments.file)?;
        let kept =
            restored.kept.map_or(String::new(), |kept| format!("; the database of before is {}", kept.display()));
        Ok(format!("{} leases restored to {}{kept}", restored.leases, state.database().display()))
    })
}

impl State {
    fn place(&self) -> anyhow::Result<Place> {
        if let Some(state) = &self.state {
            return Ok((state.clone(), None));
        }
        let config = read_file(self.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG)), &[])
            .context("--config FILE names another file, --state DIR the directory itself")?;
        Ok((config.state, config.server.user))
    }
}

/// A directory that is made here belongs at once to whom the server will be.
fn lock(path: &Path, user: Option<&str>) -> anyhow::Result<StateDirectory> {
    let is_new = !path.exists();
    let state = match StateDirectory::lock(path) {
        Err(NoState::InUse(path)) => {
            anyhow::bail!("ringboot runs with the state directory {}: stop it first", path.display())
        }
        answer => answer?,
    };
    if is_new && let Some(account) = guard::account(user)? {
        guard::give(path, account.ids, StateDirectory::is_ours)
            .with_context(|| format!("giving {} to {}", path.display(), account.name))?;
    }
    Ok(state)
}

fn finish(command: &str, place: anyhow::Result<Place>, work: impl FnOnce(Place) -> anyhow::Result<String>) -> ExitCode {
    let (code, error) = match place {
        Err(error) => (ExitCode::from(2), error),
        Ok(place) => match work(place) {
            Ok(done) => {
                let _ = writeln!(io::stdout(), "{done}");
                return ExitCode::SUCCESS;
            }
            Err(error) => (ExitCode::FAILURE, error),
        },
    };
    let _ = writeln!(io::stderr(), "ringboot {command}: {error:#}");
    code
}
