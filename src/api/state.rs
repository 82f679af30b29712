//! What the resources look at, and how they work beside each other.

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

/// What is known of machines.
#[derive(Clone, Debug)]
pub struct Known {
    pub journal: Arc<MachineJournal>,
    /// None: no DHCP, no machine.
    pub quirks: Option<Arc<QuirkKeeper>>,
}

/// What the resources look at beside what runs now.
#[derive(Debug)]
pub struct Inside {
    pub known: Known,
    /// None: no configuration, no store.
    pub database: Option<PathBuf>,
    pub overrides: ConfigOverrides,
}

/// What every resource is handed.
#[derive(Debug)]
pub struct ApiState {
    pub handle: ServerHandle,
    pub known: Known,
    /// None: no configuration, no store.
    pub database: Option<PathBuf>,
    pub overrides: ConfigOverrides,
    /// One copy of the database at a time: each is as large as the database.
    pub copying: Mutex<()>,
}

impl ApiState {
    pub fn new(handle: ServerHandle, inside: Inside) -> Self {
        let Inside { known, database, overrides } = inside;
        Self { handle, known, database, overrides, copying: Mutex::default() }
    }

    /// What runs now; nobody can say while the server starts or stops.
    pub fn overview(&self) -> Result<Arc<ServerOverview>, ApiError> {
        self.handle.overview().ok_or_else(ApiError::starting_or_stopping)
    }

    /// The same with all that clients have met before now: an answer may have left while its event
    /// is on its way. None: the server starts or stops, and what is remembered is told.
    pub fn settled(&self) -> Option<Arc<ServerOverview>> {
        self.handle.overview().inspect(|overview| overview.settle())
    }

    pub fn learnt_quirks(&self) -> Vec<FirmwareQuirk> {
        self.known.quirks.as_ref().map(|quirks| quirks.list()).unwrap_or_default()
    }

    /// Those of the configuration.
    pub fn fixed_quirks(&self) -> Vec<FixedQuirk> {
        let overview = self.handle.overview();
        overview.map(|overview| overview.generation().snapshot.quirks.clone()).unwrap_or_default()
    }
}

/// Does the work of a resource on a thread of its own: it may read files and wait for cores.
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
