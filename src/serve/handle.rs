//! How control threads reach the running server: reloads, and an overview of what runs.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use arc_swap::ArcSwapOption;

use super::dhcp::NotTaken;
use super::overview::ServerOverview;
use crate::observe::finding::CheckFinding;
use crate::snapshot::Snapshot;

/// A configuration that was read again and is valid.
#[derive(Debug)]
pub struct RereadConfig {
    /// The part that the cores read, for the next generation.
    pub snapshot: Snapshot,
    /// Tables whose changes take effect only after a restart.
    pub after_restart: Vec<String>,
    /// Findings that do not keep it from being served.
    pub remarks: Vec<CheckFinding>,
}

/// Why the old configuration stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct ReloadRefusal {
    /// The reason, in one sentence.
    pub why: String,
    /// The errors of the new configuration, where it is to blame.
    pub findings: Vec<CheckFinding>,
}

impl From<String> for ReloadRefusal {
    fn from(why: String) -> Self {
        Self { why, findings: Vec::new() }
    }
}

impl From<NotTaken> for ReloadRefusal {
    fn from(why: NotTaken) -> Self {
        why.to_string().into()
    }
}

/// The answer to a successful reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadOutcome {
    /// The number of the generation that is published now.
    pub generation: u64,
    /// Tables whose changes take effect only after a restart.
    pub after_restart: Vec<String>,
    /// Findings that did not keep the configuration from being served.
    pub remarks: Vec<CheckFinding>,
}

/// The way of control threads to the running server.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    /// To the thread that reloads.
    pub reloads: SyncSender<ReloadRequest>,
    /// Set while the server runs.
    pub overview: Arc<ArcSwapOption<ServerOverview>>,
}

/// A request for a reload, with the channel for its answer; SIGHUP has none.
pub type ReloadRequest = Option<SyncSender<Result<ReloadOutcome, ReloadRefusal>>>;

impl ServerHandle {
    /// Has the configuration read, checked and published; after an error the old one stays.
    pub fn reload(&self) -> Result<ReloadOutcome, ReloadRefusal> {
        let (answer, answered) = sync_channel(1);
        self.reloads.try_send(Some(answer)).map_err(|refused| match refused {
            TrySendError::Full(_) => "other reloads wait already".to_owned(),
            TrySendError::Disconnected(_) => "the server is stopping".to_owned(),
        })?;
        answered.recv().map_err(|_| ReloadRefusal::from("the server is stopping".to_owned()))?
    }

    /// What runs now; None while the server starts or stops.
    pub fn overview(&self) -> Option<Arc<ServerOverview>> {
        self.overview.load_full()
    }
}
