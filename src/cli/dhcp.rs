//! From the configuration to the DHCP core: the store, the leases it holds, and the writer behind the core's back.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::config::Config;
use crate::control::quirks::Quirks;
use crate::dhcp::lease::{Change, Lease, Leases, State, Time};
use crate::dhcp::neighbours::Look;
use crate::engine::clock;
use crate::guard::{self, Account};
use crate::model::machine::Mac;
use crate::observe::log::Memory;
use crate::serve::dhcp_core::{CoreMemory, DhcpPlan, LeaseWriter, NotQueued, Reporter};
use crate::serve::health::{StoreHealth, Trust};
use crate::snapshot::Published;
use crate::store::{self, Kept, OddRow, Outcome, Owner, Remembered, Rows, StateDirectory, StoreError, Writer};

/// For so long nobody gets an address whose row is not understood: somebody may hold it.
const ODD_KEPT_S: u64 = 24 * 3600;
/// Rows that are named when they are not understood; the others are counted.
const ODD_NAMED_MAX: usize = 10;
/// How often a store that stays broken is told of.
const BROKEN_TOLD_EVERY: Duration = Duration::from_secs(60);

/// Opens the store, loads its leases, and says what the DHCP core shall do, where the journal remembers machines, and what is
/// known of their firmware. A store that cannot be read keeps DHCP silent until it can, and nothing else.
///
/// Where root is about to be given away, the state directory goes to whom the process becomes.
pub(super) fn plan(
    config: &Config,
    published: &Arc<Published>,
    account: Option<&Account>,
) -> anyhow::Result<(DhcpPlan, Memory, Arc<Quirks>)> {
    let (mut kept, opened) = Kept::open(&config.state)?;
    let database = kept.database();
    let health = Arc::new(StoreHealth::default());
    let mut leases = Leases::new(&config.snapshot.dhcp.subnets);
    let mut looks = Vec::new();
    let read = opened.and_then(|rows| {
        clock::go_by(rows.ahead_s);
        let now = clock::now_s();
        leases.begin_load();
        let mut count = 0;
        let odd = kept.each_lease(|lease| {
            leases.load_row(lease, now);
            count += 1;
        })?;
        tracing::info!("leases in {}: {count}", database.display());
        kept_back(&odd, now).into_iter().for_each(|lease| leases.load_row(lease, now));
        leases.finish_load();
        leases.load_machines(rows.machines);
        looks = rows.looks;
        Ok(())
    });
    match read {
        Ok(()) => {}
        Err(error) => {
            // Half of it may be there.
            leases = Leases::new(&config.snapshot.dhcp.subnets);
            let (what, way_out) = error.told(&database);
            health.set(Trust::Unread, &what);
            tracing::error!("NO DHCP IS ANSWERED, files are: {what}. It is tried again every second; {way_out}");
        }
    }
    // A connection of its own: a look is kept every few minutes, and never waits behind leases.
    let mut findings = kept.following();
    let keep_look = move |look: &Look| {
        if let Err(error) = findings.store().and_then(|(store, _)| store.keep_look(look)) {
            tracing::warn!("what was found out about other DHCP servers could not be kept: {error}");
        }
    };
    let quirks = Arc::new(Quirks::open(kept.following(), Arc::clone(published)));
    // Its files are there before the directory is given away.
    let mut memory = super::why::memory(&config.state);
    let learning = Arc::clone(&quirks);
    memory.learn = Some(Box::new(move |event| learning.heard(event)));
    if let Some(account) = account.filter(|_| config.state.is_dir()) {
        give(&config.state, account)?;
    }
    let told = Arc::clone(&health);
    let plan = DhcpPlan {
        address: config.dhcp.listen_address,
        port: config.dhcp.listen_port,
        published: Arc::clone(published),
        leases,
        start_writer: Box::new(move |reporter, memory| start_writer(kept, told, reporter, memory)),
        store: health,
        looks,
        keep_look: Box::new(keep_look),
        findings: Arc::default(),
    };
    Ok((plan, memory, quirks))
}

/// Rows that are not understood are said, and keep their addresses.
pub(super) fn kept_back(odd: &[OddRow], now: Time) -> Vec<Lease> {
    for OddRow { address, why } in odd.iter().take(ODD_NAMED_MAX) {
        let whose =
            address.map_or("a lease without an address".to_owned(), |address| format!("the lease of {address}"));
        tracing::error!("{whose} is set aside: {why}. Correct or delete the row");
    }
    if odd.len() > ODD_NAMED_MAX {
        tracing::error!("{} more leases are set aside", odd.len() - ODD_NAMED_MAX);
    }
    let kept_back = |address| Lease {
        address,
        mac: Mac([0; 6]),
        client_id: None,
        uuid: None,
        firmware: None,
        host_name: None,
        state: State::Declined,
        start_s: now,
        end_s: now + ODD_KEPT_S,
    };
    odd.iter().filter_map(|row| row.address).map(kept_back).collect()
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

fn start_writer(
    kept: Kept,
    health: Arc<StoreHealth>,
    reporter: Reporter,
    memory: CoreMemory,
) -> io::Result<Box<dyn LeaseWriter>> {
    let owner = ToCore { reporter, memory, health: Arc::clone(&health), database: kept.database(), told: None };
    Ok(Box::new(ToStore { writer: Writer::start(kept, owner)?, health }))
}

/// The DHCP core as the store's thread sees it.
struct ToCore {
    reporter: Reporter,
    memory: CoreMemory,
    health: Arc<StoreHealth>,
    database: PathBuf,
    /// When it was last said that the store is broken.
    told: Option<Instant>,
}

impl ToCore {
    fn broken(&mut self, error: &StoreError) {
        let was = self.health.trust();
        // What an earlier run has promised is still not known.
        let trust = if was == Trust::Unread { was } else { Trust::Broken };
        let (what, way_out) = error.told(&self.database);
        let is_news = self.health.set(trust, &what);
        if is_news || self.told.is_none_or(|told| told.elapsed() >= BROKEN_TOLD_EVERY) {
            self.told = Some(Instant::now());
            match trust {
                Trust::Unread => tracing::error!("NO DHCP IS ANSWERED, files are: {what}; {way_out}"),
                _ => tracing::error!(
                    "THE LEASE STORE IS BROKEN: {what}. No lease is given and none is offered until it is mended; files are \
                     served. It is tried again every second, and nothing of what memory knows is lost"
                ),
            }
        }
    }
}

impl Owner for ToCore {
    fn report(&mut self, outcome: Outcome) {
        self.health.note_finished(outcome.tickets.len());
        match &outcome.result {
            Ok(()) => {}
            Err(error) => {
                self.health.note_failed();
                self.broken(error);
            }
        }
        (self.reporter)(&outcome.tickets, outcome.result.is_ok());
    }

    fn looked(&mut self, found: Result<Option<Rows>, StoreError>) {
        match found {
            Ok(Some(rows)) => {
                tracing::warn!(
                    "the lease store can be read: {} leases, DHCP is answered from now on",
                    rows.leases.len()
                );
                // The core knows no lease yet.
                clock::go_by(rows.ahead_s);
                let mut leases = rows.leases;
                leases.extend(kept_back(&rows.odd, clock::now_s()));
                self.memory.load(leases, rows.machines);
            }
            // The core has not taken them in yet, or nothing was wrong.
            Ok(None) if self.health.trust() != Trust::Broken => {}
            Ok(None) => {
                self.health.set(Trust::Sound, "");
                self.told = None;
                tracing::warn!("the lease store is sound again: leases are given");
            }
            Err(error) => self.broken(&error),
        }
    }

    fn recall(&mut self) -> Option<Remembered> {
        self.memory.recall().map(|(leases, machines)| Remembered { leases, machines })
    }
}

/// The store's writer in the shape that the DHCP core asks for.
struct ToStore {
    writer: Writer,
    health: Arc<StoreHealth>,
}

impl LeaseWriter for ToStore {
    fn write(&mut self, ticket: u64, changes: Vec<Change>) -> Result<(), NotQueued> {
        // Before: the report may be there at once.
        self.health.note_queued();
        self.writer.submit(ticket, changes).map_err(|error| {
            self.health.note_finished(1);
            match error {
                store::NotQueued::Full => NotQueued::Full,
                store::NotQueued::Gone => NotQueued::Gone,
            }
        })
    }
}
