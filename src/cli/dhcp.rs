//! From the configuration to the DHCP core: the store, the leases it holds, and the writer behind the core's back.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, bail};

use crate::bindings::Bindings;
use crate::config::Config;
use crate::control::store::{self, SqliteStore, Store, Writer};
use crate::dhcp::lease::{Change, Leases};
use crate::dhcp::neighbours::Look;
use crate::serve::dhcp_core::{DhcpPlan, LeaseWriter, NotQueued, Reporter};
use crate::snapshot::Snapshot;

/// The lease database in the state directory.
pub(super) const DATABASE: &str = "ringboot.db";

/// Opens the store, loads its leases, and says what the DHCP core shall do.
pub(super) fn plan(config: &Config, snapshot: &Arc<Snapshot>, bindings: &Arc<Bindings>) -> anyhow::Result<DhcpPlan> {
    make_directory(&config.state)
        .with_context(|| format!("making the state directory {}: name another with `state`", config.state.display()))?;
    let lock = lock_state(&config.state)?;
    let mut store = SqliteStore::open(&config.state.join(DATABASE))?;
    let rows = store.load()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut leases = Leases::new(&snapshot.subnets);
    tracing::info!("{} leases in {}", rows.len(), config.state.join(DATABASE).display());
    leases.load(rows, now);
    leases.load_machines(store.machines()?);
    let looks = store.looks()?;
    // A connection of its own: a look is kept every few minutes, and never waits behind leases.
    let findings_store = SqliteStore::open(&config.state.join(DATABASE))?;
    let keep_look = move |look: &Look| {
        if let Err(error) = findings_store.keep_look(look) {
            tracing::warn!("what was found out about other DHCP servers could not be kept: {error}");
        }
    };
    Ok(DhcpPlan {
        interfaces: config.dhcp.interfaces.clone(),
        address: config.dhcp.listen_address,
        port: config.dhcp.listen_port,
        snapshot: Arc::clone(snapshot),
        bindings: Arc::clone(bindings),
        leases,
        start_writer: Box::new(move |reporter| start_writer(store, lock, reporter)),
        looks,
        keep_look: Box::new(keep_look),
        findings: Arc::default(),
    })
}

/// Leases name machines and people's habits: the directory is its owner's alone.
fn make_directory(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Two servers on one database would each give away what the other has given: the first holds this lock while it lives.
fn lock_state(state: &Path) -> anyhow::Result<File> {
    let path = state.join("lock");
    let lock = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => bail!(
            "another ringboot runs with the state directory {}: stop it, or name another directory with `state`",
            state.display()
        ),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}

fn start_writer(store: SqliteStore, lock: File, reporter: Reporter) -> io::Result<Box<dyn LeaseWriter>> {
    let writer = Writer::start(store, move |outcome| {
        if let Err(error) = &outcome.result {
            tracing::error!("{} leases could not be kept: {error}", outcome.tickets.len());
        }
        reporter(&outcome.tickets, outcome.result.is_ok());
    })?;
    Ok(Box::new(ToStore { writer, _lock: lock }))
}

/// The store's writer in the shape that the DHCP core asks for.
struct ToStore {
    writer: Writer,
    /// Given back when the process ends, however it ends.
    _lock: File,
}

impl LeaseWriter for ToStore {
    fn write(&mut self, ticket: u64, changes: Vec<Change>) -> Result<(), NotQueued> {
        self.writer.submit(ticket, changes).map_err(|error| match error {
            store::NotQueued::Full => NotQueued::Full,
            store::NotQueued::Gone => NotQueued::Gone,
        })
    }
}
