//! Judges the health of a server by its status, for monitors, the admin socket and people.

use std::collections::BTreeSet;

use super::types::{
    FindingEntry, FindingSeverity, HealthLevel, HealthReport, LinkState, ServerStatus, StoreStatus,
    StoreTrust, SubnetMode, SubnetStatus, ThreadStatus,
};
use super::values::format_count;

/// A thread that is busy with one task for this long hangs. In seconds.
const HANGS_S: u64 = 10;
/// Reasons in the line for a monitor.
const REASONS_SHOWN_MAX: usize = 5;

/// A reason, and how bad it is.
type Reason = (HealthLevel, String);

/// Judges a status; the field `health` of the status is ignored.
pub fn judge(status: &ServerStatus) -> HealthReport {
    let mut reasons: Vec<Reason> = Vec::new();
    let store = status.dhcp.as_ref().and_then(|dhcp| dhcp.store.as_ref());
    reasons.extend(store.and_then(judge_store));
    reasons.extend(served_subnets(status).filter_map(judge_subnet));
    reasons.extend(judge_interfaces(status));
    reasons.extend(status.threads.iter().filter_map(judge_thread));
    reasons.extend(judge_findings(&status.findings));
    reasons.extend(status.after_restart.iter().map(|table| {
        let text = format!("changes in {table} take effect after a restart");
        (HealthLevel::Warning, text)
    }));
    reasons.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
    let level = reasons.first().map_or(HealthLevel::Ok, |(level, _)| *level);
    HealthReport { level, because: reasons.into_iter().map(|(_, text)| text).collect() }
}

fn served_subnets(status: &ServerStatus) -> impl Iterator<Item = &SubnetStatus> {
    status.subnets.iter().filter(|subnet| subnet.mode == SubnetMode::Server)
}

fn judge_store(store: &StoreStatus) -> Option<Reason> {
    let waits_s = store.oldest_ms.unwrap_or(0) / 1000;
    let why = store.why.as_deref().unwrap_or_default();
    let text = match store.state {
        StoreTrust::Unread => format!("the server answers no DHCP: {why}"),
        StoreTrust::Broken => format!("no new leases: {why}"),
        StoreTrust::Sound if waits_s >= HANGS_S => {
            let waiting = format_count(store.queued, "commit");
            format!("no commit has finished for {waits_s} s; {waiting} in the queue")
        }
        StoreTrust::Sound => return None,
    };
    Some((HealthLevel::Critical, text))
}

fn judge_subnet(subnet: &SubnetStatus) -> Option<Reason> {
    let name = &subnet.subnet;
    if let Some(why) = &subnet.silent_because {
        let level = if subnet.looking { HealthLevel::Warning } else { HealthLevel::Critical };
        return Some((level, format!("subnet {name} is silent: {why}")));
    }
    let pool = subnet.pool.as_ref()?;
    let (level, how) = match (pool.full_since_s, pool.nearly_full) {
        (Some(_), _) => (HealthLevel::Critical, "full"),
        (None, true) => (HealthLevel::Warning, "nearly full"),
        (None, false) => return None,
    };
    Some((level, format!("the pools of subnet {name} are {how}: {}", pool.said)))
}

/// Interfaces of served subnets that reach no machine.
fn judge_interfaces(status: &ServerStatus) -> Vec<Reason> {
    let on_interfaces = served_subnets(status).filter(|subnet| !subnet.relay);
    let names: BTreeSet<&String> =
        on_interfaces.filter_map(|subnet| subnet.interface.as_ref()).collect();
    names.into_iter().filter_map(|name| judge_interface(name, status)).collect()
}

fn judge_interface(name: &str, status: &ServerStatus) -> Option<Reason> {
    let found = status.interfaces.iter().find(|interface| interface.name == name);
    let text = match found.map(|interface| interface.link) {
        Some(LinkState::Up) => return None,
        Some(LinkState::Down) => format!("interface {name} is down"),
        Some(LinkState::NoCarrier) => format!("interface {name} has no carrier"),
        None => format!("interface {name} does not exist"),
    };
    Some((HealthLevel::Critical, text))
}

fn judge_thread(thread: &ThreadStatus) -> Option<Reason> {
    let (name, panics) = (&thread.name, thread.panics);
    let busy_s = thread.busy_ms.unwrap_or(0) / 1000;
    if busy_s >= HANGS_S {
        let text = format!("the thread {name} has been busy with one task for {busy_s} s");
        return Some((HealthLevel::Critical, text));
    }
    let text = format!("the thread {name} was restarted {panics} times after a panic");
    (panics > 0).then_some((HealthLevel::Warning, text))
}

/// Errors of the configuration. Warnings do not count: most are the operator's choice, and
/// operators ignore a monitor that is never green.
fn judge_findings(findings: &[FindingEntry]) -> Option<Reason> {
    let mut errors = findings.iter().filter(|finding| finding.severity == FindingSeverity::Error);
    let first = errors.next()?;
    let count = format_count(1 + errors.count() as u64, "error");
    let text = format!("{count} in the configuration, the first: {}", first.text);
    Some((HealthLevel::Warning, text))
}

/// The line for a monitor.
pub fn summarize(status: &ServerStatus) -> String {
    let HealthReport { level, because } = &status.health;
    let mut text = format!("{level}: ");
    if because.is_empty() {
        text.push_str(&match &status.dhcp {
            Some(dhcp) => format!(
                "DHCP on {}, {} run",
                format_count(served_subnets(status).count() as u64, "subnet"),
                format_count(dhcp.bound, "lease")
            ),
            None => "files are served, without DHCP".to_owned(),
        });
    }
    // Monitoring systems show this line as it is, so it has a bounded number of reasons.
    let shown = &because[..because.len().min(REASONS_SHOWN_MAX)];
    text.push_str(&shown.join("; "));
    if because.len() > shown.len() {
        text.push_str(&format!("; and {} more", because.len() - shown.len()));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::api::types::InterfaceStatus;
    use crate::api::types::sample::sample;

    fn judged(mut status: ServerStatus) -> (HealthLevel, String) {
        status.health = judge(&status);
        (status.health.level, summarize(&status))
    }

    /// A server that is well: one served subnet, 13 leases.
    fn well() -> ServerStatus {
        let mut status: ServerStatus = sample();
        status.after_restart.clear();
        status.findings.clear();
        status.interfaces.clear();
        status.threads.clear();
        let dhcp = status.dhcp.as_mut().unwrap();
        dhcp.bound = 13;
        let store = dhcp.store.as_mut().unwrap();
        (store.state, store.why, store.oldest_ms, store.queued) =
            (StoreTrust::Sound, None, None, 0);
        let subnet = &mut status.subnets[0];
        subnet.subnet = "10.0.7.0/24".to_owned();
        (subnet.mode, subnet.relay, subnet.interface) = (SubnetMode::Server, true, None);
        (subnet.silent_because, subnet.looking) = (None, false);
        let pool = subnet.pool.as_mut().unwrap();
        (pool.nearly_full, pool.full_since_s) = (false, None);
        status
    }

    fn faulty(change: impl FnOnce(&mut ServerStatus)) -> ServerStatus {
        let mut status = well();
        change(&mut status);
        status
    }

    fn with_subnet(change: impl FnOnce(&mut SubnetStatus)) -> ServerStatus {
        faulty(|status| change(&mut status.subnets[0]))
    }

    fn with_pool(said: &str, full_since_s: Option<u64>) -> ServerStatus {
        with_subnet(|subnet| {
            let pool = subnet.pool.as_mut().unwrap();
            (pool.said, pool.nearly_full, pool.full_since_s) =
                (said.to_owned(), true, full_since_s);
        })
    }

    fn with_interface(link: Option<LinkState>) -> ServerStatus {
        faulty(|status| {
            let subnet = &mut status.subnets[0];
            (subnet.interface, subnet.relay) = (Some("eth1".to_owned()), false);
            status.interfaces.extend(link.map(|link| InterfaceStatus {
                name: "eth1".to_owned(),
                link,
                ..sample()
            }));
        })
    }

    fn with_store(change: impl FnOnce(&mut StoreStatus)) -> ServerStatus {
        faulty(|status| change(status.dhcp.as_mut().unwrap().store.as_mut().unwrap()))
    }

    fn thread(name: &str, busy_ms: Option<u64>, panics: u64) -> ThreadStatus {
        ThreadStatus { name: name.to_owned(), busy_ms, panics }
    }

    fn finding(severity: FindingSeverity, text: &str) -> FindingEntry {
        FindingEntry { severity, text: text.to_owned(), ..sample() }
    }

    #[test]
    fn a_sound_server_is_ok() {
        assert_eq!(
            judged(well()),
            (HealthLevel::Ok, "OK: DHCP on 1 subnet, 13 leases run\n".into())
        );
        let files = faulty(|status| {
            status.dhcp = None;
            status.findings = vec![finding(FindingSeverity::Warning, "hm")];
        });
        let line = "OK: files are served, without DHCP\n";
        assert_eq!(judged(files), (HealthLevel::Ok, line.into()));
    }

    #[test]
    fn each_fault_has_its_level_and_is_named() {
        let silent = |why: &str, looking| {
            let why = why.to_owned();
            with_subnet(|subnet| (subnet.silent_because, subnet.looking) = (Some(why), looking))
        };
        let broken = |state, why: &str| {
            let why = why.to_owned();
            with_store(|store| (store.state, store.why) = (state, Some(why)))
        };
        let two_errors = ["no kernel", "b"].map(|text| finding(FindingSeverity::Error, text));
        let (critical, warning) = (HealthLevel::Critical, HealthLevel::Warning);
        for (status, level, words) in [
            (silent("the DHCP server 10.0.7.9 answers there", false), critical, "10.0.7.9"),
            (silent("looking", true), warning, "is silent: looking"),
            (
                with_pool("4 of 4 addresses given", Some(0)),
                critical,
                "are full: 4 of 4 addresses given",
            ),
            (with_pool("8 of 10 addresses given", None), warning, "are nearly full: 8 of 10"),
            (with_interface(None), critical, "interface eth1 does not exist"),
            (with_interface(Some(LinkState::Down)), critical, "interface eth1 is down"),
            (with_interface(Some(LinkState::NoCarrier)), critical, "interface eth1 has no carrier"),
            (
                faulty(|status| status.after_restart = vec!["[log]".to_owned()]),
                warning,
                "changes in [log] take effect after a restart",
            ),
            (
                broken(StoreTrust::Unread, "no disk"),
                critical,
                "the server answers no DHCP: no disk",
            ),
            (broken(StoreTrust::Broken, "disk full"), critical, "no new leases: disk full"),
            (
                with_store(|store| (store.oldest_ms, store.queued) = (Some(12_000), 1)),
                critical,
                "no commit has finished for 12 s; 1 commit in the queue",
            ),
            (
                faulty(|status| status.threads = vec![thread("rb-tftp-0", Some(10_500), 0)]),
                critical,
                "rb-tftp-0 has been",
            ),
            (
                faulty(|status| status.threads = vec![thread("rb-admin", None, 1)]),
                warning,
                "rb-admin was restarted",
            ),
            (
                faulty(|status| status.findings = two_errors.to_vec()),
                warning,
                "2 errors in the configuration, the first: no kernel",
            ),
        ] {
            let (found, line) = judged(status);
            assert!(
                found == level && line.contains(words) && line.starts_with(level.as_str()),
                "{line}"
            );
        }
        assert_eq!(judged(with_interface(Some(LinkState::Up))).0, HealthLevel::Ok);
    }

    #[test]
    fn the_worst_comes_first_and_what_is_too_much_is_counted() {
        let mut status = with_store(|store| {
            (store.state, store.why) = (StoreTrust::Broken, Some("full".to_owned()));
        });
        status.threads = (0..9).map(|n| thread(&format!("t{n}"), None, 1)).collect();
        let (level, line) = judged(status);
        assert!(
            level == HealthLevel::Critical && line.starts_with("CRITICAL: no new leases: full; "),
            "{line}"
        );
        assert!(line.ends_with("; and 5 more\n"), "{line}");
    }
}
