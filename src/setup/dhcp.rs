//! From the configuration to the plan of the DHCP core: the store, its leases, and what other
//! threads keep in the state directory.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;

use crate::config::Config;
use crate::control::quirks::QuirkKeeper;
use crate::dhcp::lease::LeaseTable;
use crate::engine::clock;
use crate::guard::{self, UserAccount};
use crate::observe::log::JournalMemory;
use crate::serve::dhcp::DhcpPlan;
use crate::serve::health::{LeaseTrust, StoreHealth};
use crate::snapshot::PublishedState;
use crate::store::{KeptDatabase, StateDirectory, recover_odd_leases};

/// Opens the store and loads its leases. Returns the plan of the DHCP core, the memory of the
/// journal, and the keeper of firmware quirks. A store that cannot be read keeps DHCP silent until
/// it can be read, and stops nothing else.
///
/// If the process is about to drop root, the state directory is given to the unprivileged user.
pub(super) fn plan(
    config: &Config,
    published: &Arc<PublishedState>,
    account: Option<&UserAccount>,
) -> anyhow::Result<(DhcpPlan, JournalMemory, Arc<QuirkKeeper>)> {
    let (mut kept, opened) = KeptDatabase::open(&config.state)?;
    let database = kept.database();
    let health = Arc::new(StoreHealth::default());
    let mut leases = LeaseTable::new(&config.snapshot.dhcp.subnets);
    let mut looks = Vec::new();
    let read = opened.and_then(|rows| {
        clock::set_clock_ahead(rows.ahead_s);
        let now = clock::now_s();
        leases.begin_load();
        let mut count = 0;
        let odd = kept.each_lease(|lease| {
            leases.load_row(lease, now);
            count += 1;
        })?;
        tracing::info!("leases in {}: {count}", database.display());
        recover_odd_leases(&odd, now).into_iter().for_each(|lease| leases.load_row(lease, now));
        leases.finish_load();
        leases.load_machines(rows.machines);
        looks = rows.looks;
        Ok(())
    });
    if let Err(error) = read {
        // The table may hold half of the leases: begin with an empty one.
        leases = LeaseTable::new(&config.snapshot.dhcp.subnets);
        let (what, way_out) = error.told(&database);
        health.set(LeaseTrust::Unread, &what);
        tracing::error!(
            "NO DHCP IS ANSWERED, files are: {what}. It is tried again every second; {way_out}"
        );
    }

    // A connection of its own: looks are kept every few minutes, and must not wait for leases.
    let mut findings = kept.following();
    let quirks = Arc::new(QuirkKeeper::open(kept.following(), Arc::clone(published)));
    // Opened before the directory is given away, so that its files are given away too.
    let mut memory = super::history::memory(&config.state);
    let learning = Arc::clone(&quirks);
    memory.learn = Some(Box::new(move |event| learning.learn_event(event)));

    if let Some(account) = account.filter(|_| config.state.is_dir()) {
        give(&config.state, account)?;
    }
    let plan = DhcpPlan {
        address: config.dhcp.listen_address,
        port: config.dhcp.listen_port,
        published: Arc::clone(published),
        leases,
        store: Box::new(kept),
        database,
        health,
        looks,
        keep_look: Box::new(move |look| {
            if let Err(error) = findings.store().and_then(|(store, _)| store.keep_look(look)) {
                tracing::warn!(
                    "the store could not keep the findings about other DHCP servers: {error}"
                );
            }
        }),
        findings: Arc::default(),
    };
    Ok((plan, memory, quirks))
}

/// Gives the state directory to the unprivileged user. Called after the first read, when SQLite's
/// files beside the database exist.
fn give(directory: &Path, account: &UserAccount) -> anyhow::Result<()> {
    let given = guard::give_directory(directory, account.ids, StateDirectory::is_ours)
        .with_context(|| format!("giving {} to {}", directory.display(), account.name))?;
    if !given {
        tracing::warn!(
            "{} holds other files than ringboot's and keeps its owner: give ringboot a directory \
             of its own with `state`",
            directory.display()
        );
    }
    Ok(())
}
