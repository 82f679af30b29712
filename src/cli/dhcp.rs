//! From the configuration to the DHCP core: the store, the leases it holds, and the writer behind the core's back.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;

use crate::config::Config;
use crate::control::quirks::Quirks;
use crate::control::store::{self, SqliteStore, StateDirectory, Store, Writer};
use crate::dhcp::lease::{Change, Leases};
use crate::dhcp::neighbours::Look;
use crate::guard::{self, Account};
use crate::observe::log::Memory;
use crate::serve::dhcp_core::{DhcpPlan, LeaseWriter, NotQueued, Reporter};
use crate::snapshot::Published;

/// Opens the store, loads its leases, and says what the DHCP core shall do, where the log thread remembers machines, and what
/// is known of their firmware.
///
/// Where root is about to be given away, the state directory goes to whom the process becomes.
pub(super) fn plan(
    config: &Config,
    published: &Arc<Published>,
    account: Option<&Account>,
) -> anyhow::Result<(DhcpPlan, Memory, Arc<Quirks>)> {
    let state = StateDirectory::lock(&config.state)?;
    let database = state.database();
    let mut store = SqliteStore::open(&database)?;
    let rows = store.load()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut leases = Leases::new(&config.snapshot.subnets);
    tracing::info!("leases in {}: {}", database.display(), rows.len());
    leases.load(rows, now);
    leases.load_machines(store.machines()?);
    let looks = store.looks()?;
    // A connection of its own: a look is kept every few minutes, and never waits behind leases.
    let findings_store = SqliteStore::open(&database)?;
    let keep_look = move |look: &Look| {
        if let Err(error) = findings_store.keep_look(look) {
            tracing::warn!("what was found out about other DHCP servers could not be kept: {error}");
        }
    };
    let quirks = Arc::new(Quirks::open(SqliteStore::open(&database)?, Arc::clone(published))?);
    // Its files are there before the directory is given away.
    let mut memory = super::why::memory(&config.state);
    let learning = Arc::clone(&quirks);
    memory.learn = Some(Box::new(move |event| learning.heard(event)));
    if let Some(account) = account {
        give(state.path(), account)?;
    }
    let plan = DhcpPlan {
        address: config.dhcp.listen_address,
        port: config.dhcp.listen_port,
        published: Arc::clone(published),
        leases,
        start_writer: Box::new(move |reporter| start_writer(store, state, reporter)),
        looks,
        keep_look: Box::new(keep_look),
        findings: Arc::default(),
    };
    Ok((plan, memory, quirks))
}

/// Done after the first read, when SQLite's files beside the database are there too.
fn give(directory: &Path, account: &Account) -> anyhow::Result<()> {
    let given = guard::give(directory, account.ids, StateDirectory::is_ours)
        .with_context(|| format!("giving {} to {}", directory.display(), account.name))?;
    if !given {
        tracing::warn!(
            "{} holds other files than ringboot's and keeps its owner: give ringboot a directory of its own with `state`",
            directory.display()
        );
    }
    Ok(())
}

fn start_writer(store: SqliteStore, state: StateDirectory, reporter: Reporter) -> io::Result<Box<dyn LeaseWriter>> {
    let writer = Writer::start(store, move |outcome| {
        if let Err(error) = &outcome.result {
            tracing::error!("{} leases could not be kept: {error}", outcome.tickets.len());
        }
        reporter(&outcome.tickets, outcome.result.is_ok());
    })?;
    Ok(Box::new(ToStore { writer, _state: state }))
}

/// The store's writer in the shape that the DHCP core asks for.
struct ToStore {
    writer: Writer,
    /// Locked for as long as the process lives.
    _state: StateDirectory,
}

impl LeaseWriter for ToStore {
    fn write(&mut self, ticket: u64, changes: Vec<Change>) -> Result<(), NotQueued> {
        self.writer.submit(ticket, changes).map_err(|error| match error {
            store::NotQueued::Full => NotQueued::Full,
            store::NotQueued::Gone => NotQueued::Gone,
        })
    }
}
