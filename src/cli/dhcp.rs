//! From the configuration to the DHCP core: the store, the leases it holds, and the writer behind the core's back.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;

use crate::bindings::Bindings;
use crate::config::Config;
use crate::control::store::{SqliteStore, Store, Writer};
use crate::dhcp::lease::{Change, Leases};
use crate::serve::dhcp_core::{DhcpPlan, LeaseWriter, Reporter};
use crate::snapshot::Snapshot;

/// The lease database in the state directory.
pub(super) const DATABASE: &str = "ringboot.db";

/// Opens the store, loads its leases, and says what the DHCP core shall do.
pub(super) fn plan(config: &Config, snapshot: &Arc<Snapshot>, bindings: &Arc<Bindings>) -> anyhow::Result<DhcpPlan> {
    make_directory(&config.state)
        .with_context(|| format!("making the state directory {}: name another with `state`", config.state.display()))?;
    let mut store = SqliteStore::open(&config.state.join(DATABASE))?;
    let rows = store.load()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut leases = Leases::new(&snapshot.subnets);
    tracing::info!("{} leases in {}", rows.len(), config.state.join(DATABASE).display());
    leases.load(rows, now);
    Ok(DhcpPlan {
        interfaces: config.dhcp.interfaces.clone(),
        address: config.dhcp.listen_address,
        port: config.dhcp.listen_port,
        snapshot: Arc::clone(snapshot),
        bindings: Arc::clone(bindings),
        leases,
        start_writer: Box::new(move |reporter| start_writer(store, reporter)),
    })
}

/// Leases name machines and people's habits: the directory is its owner's alone.
fn make_directory(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn start_writer(store: SqliteStore, reporter: Reporter) -> io::Result<Box<dyn LeaseWriter>> {
    let writer = Writer::start(store, move |outcome| {
        if let Err(error) = &outcome.result {
            tracing::error!("{} leases could not be kept: {error}", outcome.tickets.len());
        }
        reporter(&outcome.tickets, outcome.result.is_ok());
    })?;
    Ok(Box::new(ToStore(writer)))
}

/// The store's writer in the shape that the DHCP core asks for.
struct ToStore(Writer);

impl LeaseWriter for ToStore {
    fn write(&mut self, ticket: u64, changes: Vec<Change>) -> bool {
        self.0.submit(ticket, changes).is_ok()
    }
}
