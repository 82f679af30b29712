//! Checks the state directory and the lease database: whether the server can store the next lease,
//! and what an earlier run left.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::files::has_mode_right;
use super::rival::report_other_server;
use super::{CheckFinding, CheckSubject, FilePosition, FileReader};
use crate::config::Config;
use crate::dhcp::lease::LeaseTable;
use crate::dhcp::other_servers::LookResult;
use crate::dhcp::subnet::AnsweringMode;
use crate::engine::disk::{self, DiskSpace};
use crate::model::network::Ipv4Network;
use crate::store::{DATABASE, OddRow, SqliteStore, StateDirectory, StoreError};

/// The least free space, in bytes: a commit writes a few pages and a write-ahead log.
const NEEDED_BYTES: u64 = 256 * 1024;
/// A disk with less free space than this, in bytes, and less than a tenth of its size will be full
/// soon.
const LOW_BYTES: u64 = 64 * 1024 * 1024;
/// Odd rows with a finding of their own; the others are only counted.
const ODD_NAMED_MAX: usize = 10;
/// The right to write in one digit of a mode.
const WRITE: u32 = 0o2;
/// The rights of the group and of others.
const OTHERS: u32 = 0o077;
/// The permission bits of a mode.
const MODE: u32 = 0o777;

/// Whether the serving user can write leases into the state directory, and whether its disk has
/// space.
pub(super) fn check_state_directory(subject: CheckSubject<'_>) -> Vec<CheckFinding> {
    let state = &subject.config.state;
    let place = subject.config.places.find_key("", "state").map(FilePosition::from);
    let found = match fs::metadata(state) {
        Ok(found) if !found.is_dir() => {
            let what = format!("the state {} is not a directory", state.display());
            vec![CheckFinding::error(what, "name another with `state`")]
        }
        _ if !subject.wants_dhcp => Vec::new(),
        Ok(found) => check_existing_state(state, &found, subject.reader),
        Err(_) => check_unmade_state(state, subject.reader).into_iter().collect(),
    };
    found.into_iter().map(|finding| finding.at_position(place.clone())).collect()
}

fn check_existing_state(
    state: &Path,
    found: &fs::Metadata,
    reader: FileReader,
) -> Vec<CheckFinding> {
    let shown = state.display();
    let mode = found.permissions().mode() & MODE;
    // Only the owner may read the directory: leases show when people work.
    let open = (mode & OTHERS != 0).then(|| {
        let what = format!("the state directory {shown} is open to others (mode {mode:04o})");
        CheckFinding::warning(what, format!("chmod 0700 {shown}"))
    });
    let closed = (!is_state_writable(state, found, reader)).then(|| {
        let what = format!(
            "no lease can be kept: the state directory {shown} may not be written to by the service"
        );
        let owner = if let FileReader::User { uid, gid } = reader {
            format!("{uid}:{gid}")
        } else {
            "USER".to_owned()
        };
        CheckFinding::error(what, format!("chown -R {owner} {shown}"))
    });
    let room = disk::read_disk_space(state).ok().and_then(|room| check_disk_space(state, room));
    open.into_iter().chain(closed).chain(room).collect()
}

/// A server that starts as root gives a directory with only its own files to the serving user.
fn is_state_writable(state: &Path, found: &fs::Metadata, reader: FileReader) -> bool {
    match reader {
        FileReader::Root | FileReader::Elsewhere { .. } => true,
        FileReader::Caller => {
            let database = state.join(DATABASE);
            disk::may_change_path(state) && (!database.exists() || disk::may_change_path(&database))
        }
        FileReader::User { uid, gid } => {
            let will_be_given = fs::read_dir(state).is_ok_and(|entries| {
                let mut names = entries.flatten().map(|entry| entry.file_name());
                names.all(|name| name.to_str().is_some_and(StateDirectory::is_ours))
            });
            found.uid() == uid || will_be_given || has_mode_right(WRITE, found, uid, gid)
        }
    }
}

/// A state directory that does not exist yet: checks the nearest directory above it.
fn check_unmade_state(state: &Path, reader: FileReader) -> Option<CheckFinding> {
    let above =
        state.ancestors().skip(1).find(|above| above.as_os_str().is_empty() || above.exists())?;
    // A relative path ends in an empty one, which is the working directory.
    let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
    let parent = above.display();
    if !above.is_dir() {
        return Some(report_unmade_state(state, &format!("{parent} is not a directory")));
    }

    // Root makes the directory anywhere, and gives it to the user that the server becomes.
    if reader == FileReader::Caller && !disk::may_change_path(above) {
        return Some(report_unmade_state(state, &format!("{parent} may not be written to")));
    }
    let room = disk::read_disk_space(above).ok()?;
    if room.is_read_only {
        Some(report_unmade_state(state, &format!("{parent} is read-only")))
    } else {
        check_disk_space(above, room)
    }
}

fn report_unmade_state(state: &Path, why: &str) -> CheckFinding {
    CheckFinding::error(
        format!("the state directory {} cannot be made: {why}", state.display()),
        "name another with `state`",
    )
}

/// A disk without space for leases, or soon without.
pub(super) fn check_disk_space(state: &Path, room: DiskSpace) -> Option<CheckFinding> {
    let shown = state.display();
    let hint = "free space there, or name a directory on another disk with `state`";
    if room.is_read_only {
        return Some(CheckFinding::error(
            format!("no lease can be kept: {shown} is read-only"),
            "mount it for writing",
        ));
    }

    // A file system without a fixed number of inodes, such as btrfs, reports a total of 0.
    if room.files_total > 0 && room.files_free == 0 {
        let what = format!(
            "no lease can be kept: no file can be made in {shown} (0 of {} inodes free)",
            room.files_total
        );
        return Some(CheckFinding::error(what, hint));
    }
    let left = format!("{} of {} bytes are free on the disk of {shown}", room.free, room.total);
    if room.free < NEEDED_BYTES {
        return Some(CheckFinding::error(format!("no lease can be kept: {left}"), hint));
    }
    let is_low = room.free < LOW_BYTES && room.free < room.total / 10;
    is_low.then(|| CheckFinding::warning(format!("soon no lease can be kept: {left}"), hint))
}

/// Reads the lease database, which it opens read-only.
pub(super) fn check_lease_database(
    subject: CheckSubject<'_>,
    is_served: bool,
) -> Vec<CheckFinding> {
    let database = subject.config.state.join(DATABASE);
    if !subject.wants_dhcp || !matches!(database.try_exists(), Ok(true)) {
        return find_unseen_state(subject).into_iter().collect();
    }
    let read = PreviousState::read(subject.config, &database);
    // SQLite creates files beside a database also for reading, and the service must be able to open
    // them.
    let given = StateDirectory::give_all_to_owner(&subject.config.state);
    let mut findings = match read {
        Ok(left) => left.findings(subject.config, is_served),
        Err(error) if error.is_closed() => vec![report_unlooked_state(subject)],
        Err(error) => vec![report_unread_database(&error, &database)],
    };
    findings.extend(given.err().map(|error| {
        CheckFinding::note(format!("giving {} to its owner: {error}", database.display()))
    }));
    findings
}

/// A database in a directory that the caller may not enter.
fn find_unseen_state(subject: CheckSubject<'_>) -> Option<CheckFinding> {
    let is_closed = subject.wants_dhcp && subject.config.state.join(DATABASE).try_exists().is_err();
    is_closed.then(|| report_unlooked_state(subject))
}

fn report_unlooked_state(subject: CheckSubject<'_>) -> CheckFinding {
    CheckFinding::note(format!(
        "the lease database in {} was not checked: it is closed to you. Root may read it, and a \
         running server can be asked (GET /v1/check)",
        subject.config.state.display()
    ))
}

/// A database that `serve` cannot read: it serves files then, and answers no DHCP.
pub(super) fn report_unread_database(error: &StoreError, database: &Path) -> CheckFinding {
    let (what, way_out) = error.told(database);
    CheckFinding::error(format!("no DHCP can be answered: {what}"), way_out)
}

/// The database of an earlier run.
struct PreviousState {
    leases: LeaseTable,
    odd: Vec<OddRow>,
    looks: Vec<LookResult>,
}

impl PreviousState {
    fn read(config: &Config, database: &Path) -> Result<Self, StoreError> {
        let looks = SqliteStore::sound_looks_in(database)?;
        let mut rows = Vec::new();
        let (odd, now) = SqliteStore::each_lease_in(database, |lease| rows.push(lease))?;
        let mut leases = LeaseTable::new(&config.snapshot.dhcp.subnets);
        leases.load(rows, now);
        Ok(Self { leases, odd, looks })
    }

    /// With a running server only the odd rows count: the server knows the rest better.
    fn findings(&self, config: &Config, is_served: bool) -> Vec<CheckFinding> {
        let mut findings = report_odd_rows(&self.odd);
        if !is_served {
            // A running server has looked again since, and it counts its own pools with their
            // offers.
            findings.extend(self.looks.iter().filter_map(|look| report_other_server(config, look)));
            let served = config
                .snapshot
                .dhcp
                .subnets
                .iter()
                .filter(|subnet| subnet.mode == AnsweringMode::Server);
            findings.extend(served.filter_map(|subnet| {
                let used = self.leases.pool_use(subnet.network);
                check_pool_use(
                    config,
                    subnet.network,
                    &used.to_string(),
                    used.is_full(),
                    used.is_nearly_full(),
                )
            }));
        }
        findings
    }
}

/// Pools that are full or nearly full. `said` describes their use.
pub(super) fn check_pool_use(
    config: &Config,
    network: Ipv4Network,
    said: &str,
    is_full: bool,
    is_nearly_full: bool,
) -> Option<CheckFinding> {
    let hint = "widen the pool, shorten `default-lease-time`, or see with `ringboot lease list` \
                who has the addresses";
    let how = match (is_full, is_nearly_full) {
        (true, _) => "FULL: a further machine gets no address",
        (false, true) => "nearly full",
        (false, false) => return None,
    };
    let what = format!("the pools of subnet {network} are {how} ({said})");
    Some(CheckFinding::warning(what, hint).at_position(config.places.find_subnet(network, "pools")))
}

fn report_odd_rows(rows: &[OddRow]) -> Vec<CheckFinding> {
    let hint = "correct or delete the row with `sqlite3`; the server leases its address to nobody \
                for a day after each start";
    let named = rows.iter().take(ODD_NAMED_MAX).map(|OddRow { address, why }| {
        let whose = address.map_or("a lease without an address".to_owned(), |address| {
            format!("the lease of {address}")
        });
        CheckFinding::warning(format!("{whose} cannot be read: {why}"), hint)
    });
    let more = rows.len().saturating_sub(ODD_NAMED_MAX);
    let counted = (more > 0)
        .then(|| CheckFinding::warning(format!("{more} more leases cannot be read"), hint));
    named.chain(counted).collect()
}
