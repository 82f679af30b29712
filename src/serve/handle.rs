//! The way of control threads to the server: a reload, and what runs now.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use arc_swap::ArcSwapOption;

use super::dhcp::NotTaken;
use super::overview::ServerOverview;
use crate::observe::finding::CheckFinding;
use crate::snapshot::Snapshot;

/// A configuration that was read again and found right.
#[derive(Debug)]
pub struct RereadConfig {
    pub snapshot: Snapshot,
    /// Tables whose changes take effect after a restart only.
    pub after_restart: Vec<String>,
    /// What is wrong with it all the same.
    pub remarks: Vec<CheckFinding>,
}

/// Why the old configuration stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct ReloadRefusal {
    pub why: String,
    /// One by one, where it is the new one that is not right.
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

/// The answer to a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadOutcome {
    pub generation: u64,
    pub after_restart: Vec<String>,
    pub remarks: Vec<CheckFinding>,
}

/// The way of other control threads to the server.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    pub reloads: SyncSender<ReloadRequest>,
    pub overview: Arc<ArcSwapOption<ServerOverview>>,
}

/// Someone's wish for a reload, with the place for the answer; SIGHUP has none.
pub type ReloadRequest = Option<SyncSender<Result<ReloadOutcome, ReloadRefusal>>>;

impl ServerHandle {
    /// Checks, then publishes; on error the old configuration stays.
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
