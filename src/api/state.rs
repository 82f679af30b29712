//! The state that all resources share, and the threads on which they work.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::error::ApiError;
use super::extract::Json;
use crate::boot::quirks::{FirmwareQuirk, FixedQuirk};
use crate::control::load::ConfigOverrides;
use crate::control::quirks::QuirkKeeper;
use crate::observe::journal::MachineJournal;
use crate::serve::handle::ServerHandle;
use crate::serve::overview::ServerOverview;

/// The memory of machines.
#[derive(Clone, Debug)]
pub struct Known {
    /// The last events of each machine.
    pub journal: Arc<MachineJournal>,
    /// Limits of firmware. None: the server answers no DHCP, so it knows no machine.
    pub quirks: Option<Arc<QuirkKeeper>>,
}

/// The facts for the resources besides the running server.
#[derive(Debug)]
pub struct Inside {
    /// The memory of machines.
    pub known: Known,
    /// The lease database. None: a server of `--root` alone has none.
    pub database: Option<PathBuf>,
    /// The command line of `serve`, by which a check reads the configuration.
    pub overrides: ConfigOverrides,
}

/// The state that every handler gets.
#[derive(Debug)]
pub struct ApiState {
    /// The running server.
    pub handle: ServerHandle,
    /// The memory of machines.
    pub known: Known,
    /// The lease database. None: a server of `--root` alone has none.
    pub database: Option<PathBuf>,
    /// The command line of `serve`, by which a check reads the configuration.
    pub overrides: ConfigOverrides,
    /// Held during a backup: each copy is as large as the database.
    pub copying: Mutex<()>,
}

impl ApiState {
    /// The state of a server.
    pub fn new(handle: ServerHandle, inside: Inside) -> Self {
        let Inside { known, database, overrides } = inside;
        Self { handle, known, database, overrides, copying: Mutex::default() }
    }

    /// The running server. An error while it starts or stops.
    pub fn overview(&self) -> Result<Arc<ServerOverview>, ApiError> {
        self.handle.overview().ok_or_else(ApiError::starting_or_stopping)
    }

    /// The same after the journal has all events before now: a reply may have left before its event
    /// arrived there. None: the server starts or stops, and the journal is all there is.
    pub fn overview_after_events(&self) -> Option<Arc<ServerOverview>> {
        self.handle.overview().inspect(|overview| overview.settle())
    }

    /// Learnt and pinned limits.
    pub fn learnt_quirks(&self) -> Vec<FirmwareQuirk> {
        self.known.quirks.as_ref().map(|quirks| quirks.list()).unwrap_or_default()
    }

    /// Limits of the configuration.
    pub fn fixed_quirks(&self) -> Vec<FixedQuirk> {
        let overview = self.handle.overview();
        overview.map(|overview| overview.generation().snapshot.quirks.clone()).unwrap_or_default()
    }
}

/// Runs the work of a resource on a thread of its own: it may read files and wait for cores.
pub async fn work_in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(ApiError::failed("see the log")))
}

/// The same for an answer in JSON.
pub async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<Json<T>, ApiError> {
    work_in_background(work).await.map(Json)
}
