//! Is all well? One judgement of what `status` tells, for monitors, for the admin socket and for
//! people.

use serde_json::{Value, json};

use super::values::{each, number, plural, word};

/// A thread that is at one thing for longer stands still. Seconds.
const STANDS_STILL_S: u64 = 10;
/// Reasons in the one line of a monitor.
const REASONS_SHOWN_MAX: usize = 5;

/// How bad it is; the numbers are the exit codes of monitoring plugins (Nagios, Icinga, Checkmk,
/// Zabbix).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

impl Level {
    const ALL: [Self; 4] = [Self::Ok, Self::Warning, Self::Critical, Self::Unknown];

    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// Of what [`judge`] has written.
    pub fn of(health: &Value) -> Self {
        let named = |level: &Self| health["level"] == level.word();
        Self::ALL.into_iter().find(named).unwrap_or(Self::Unknown)
    }
}

/// `level` and `because` (sentences, the worst first) of a server's status.
pub fn judge(status: &Value) -> Value {
    let mut reasons: Vec<(Level, String)> = Vec::new();
    reasons.extend(of_store(&status["dhcp"]["store"]));
    reasons.extend(
        each(&status["subnets"]).filter(|subnet| subnet["mode"] == "server").filter_map(of_subnet),
    );
    reasons.extend(of_interfaces(status));
    reasons.extend(each(&status["threads"]).filter_map(of_thread));
    reasons.extend(of_findings(&status["findings"]));
    let pending = each(&status["after_restart"]).filter_map(Value::as_str);
    reasons.extend(
        pending.map(|table| {
            (Level::Warning, format!("changes in {table} take effect after a restart"))
        }),
    );
    reasons.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
    let level = reasons.first().map_or(Level::Ok, |(level, _)| *level);
    json!({ "level": level.word(), "because": reasons.iter().map(|(_,
        text)| text).collect::<Vec<_>>() })
}

fn of_store(store: &Value) -> Option<(Level, String)> {
    let waits_s = number(&store["oldest_ms"]) / 1000;
    let text = match (word(&store["state"]), word(&store["why"])) {
        ("unread", why) => format!("no DHCP is answered: {why}"),
        ("broken", why) => format!("no new leases: {why}"),
        _ if waits_s >= STANDS_STILL_S => {
            format!(
                "{} wait, and none was finished for {waits_s} s",
                plural(number(&store["queued"]), "commit")
            )
        }
        _ => return None,
    };
    Some((Level::Critical, text))
}

fn of_subnet(subnet: &Value) -> Option<(Level, String)> {
    let (name, pool) = (word(&subnet["subnet"]), &subnet["pool"]);
    if let Some(why) = subnet["silent_because"].as_str() {
        let level = if subnet["looking"] == true { Level::Warning } else { Level::Critical };
        return Some((level, format!("subnet {name} is silent: {why}")));
    }
    let (level, how) = match (pool["full_since_s"].is_u64(), pool["nearly_full"] == true) {
        (true, _) => (Level::Critical, "full"),
        (false, true) => (Level::Warning, "nearly full"),
        (false, false) => return None,
    };
    Some((level, format!("the pools of subnet {name} are {how}: {}", word(&pool["said"]))))
}

/// Interfaces of served subnets by which no machine is reached.
fn of_interfaces(status: &Value) -> Vec<(Level, String)> {
    let served = each(&status["subnets"])
        .filter(|subnet| subnet["mode"] == "server" && subnet["relay"] != true);
    let named: std::collections::BTreeSet<&str> =
        served.filter_map(|subnet| subnet["interface"].as_str()).collect();
    let state = |name: &&str| match each(&status["interfaces"]).find(|one| one["name"] == **name) {
        Some(found) => word(&found["link"]).to_owned(),
        None => "not there".to_owned(),
    };
    let unreached =
        named.iter().filter(|name| state(name) != "up").map(|name| match state(name).as_str() {
            "no carrier" => format!("interface {name} has no carrier"),
            other => format!("interface {name} is {other}"),
        });
    unreached.map(|text| (Level::Critical, text)).collect()
}

fn of_thread(thread: &Value) -> Option<(Level, String)> {
    let (name, busy_s) = (word(&thread["name"]), number(&thread["busy_ms"]) / 1000);
    if busy_s >= STANDS_STILL_S {
        return Some((
            Level::Critical,
            format!("the thread {name} has been at one thing for {busy_s} s"),
        ));
    }
    let panics = number(&thread["panics"]);
    (panics > 0).then(|| {
        (
            Level::Warning,
            format!("the thread {name} was begun again {panics} times after a fault of its own"),
        )
    })
}

/// Warnings are the operator's choice more often than not, and a monitor that is never green is not
/// looked at.
fn of_findings(findings: &Value) -> Option<(Level, String)> {
    let mut errors = each(findings).filter(|finding| finding["severity"] == "error");
    let first = errors.next()?;
    let count = plural(1 + errors.count() as u64, "error");
    Some((
        Level::Warning,
        format!("{count} in the configuration, the first: {}", word(&first["text"])),
    ))
}

/// The one line of a monitor.
pub fn summary(status: &Value) -> String {
    let health = &status["health"];
    let reasons: Vec<&str> = each(&health["because"]).filter_map(Value::as_str).collect();
    let mut text = format!("{}: ", Level::of(health).word());
    if reasons.is_empty() {
        let served = each(&status["subnets"]).filter(|subnet| subnet["mode"] == "server").count();
        text.push_str(&match status["dhcp"].is_object() {
            true => format!(
                "DHCP on {}, {} run",
                plural(served as u64, "subnet"),
                plural(number(&status["dhcp"]["bound"]), "lease")
            ),
            false => "files are served, no DHCP is answered".to_owned(),
        });
    }
    text.push_str(&reasons.iter().take(REASONS_SHOWN_MAX).copied().collect::<Vec<_>>().join("; "));
    if reasons.len() > REASONS_SHOWN_MAX {
        text.push_str(&format!("; and {} more", reasons.len() - REASONS_SHOWN_MAX));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: Value) -> (Level, String) {
        let health = judge(&status);
        let mut status = status;
        status["health"] = health;
        (Level::of(&status["health"]), summary(&status))
    }

    fn with_subnet(more: Value) -> Value {
        let mut subnet = json!({ "subnet": "10.0.7.0/24", "mode": "server",
            "silent_because": null, "looking": false });
        subnet
            .as_object_mut()
            .into_iter()
            .for_each(|fields| fields.extend(more.as_object().cloned().unwrap_or_default()));
        json!({ "subnets": [subnet], "dhcp": { "bound": 13, "store": { "state": "sound" } } })
    }

    #[test]
    fn a_sound_server_is_ok() {
        let (level, line) =
            judged(with_subnet(json!({ "pool": { "full_since_s": null, "nearly_full": false } })));
        assert_eq!((level, line.as_str()), (Level::Ok, "OK: DHCP on 1 subnet, 13 leases run\n"));
        let (level, line) =
            judged(json!({ "dhcp": null, "findings": [{ "severity": "warning", "text": "hm" }] }));
        assert_eq!(
            (level, line.as_str()),
            (Level::Ok, "OK: files are served, no DHCP is answered\n")
        );
    }

    #[test]
    fn each_fault_has_its_level_and_is_named() {
        let store = |store: Value| json!({ "dhcp": { "store": store } });
        for (status, level, words) in [
            (
                with_subnet(json!({ "silent_because": "the DHCP server 10.0.7.9 answers there" })),
                Level::Critical,
                "10.0.7.9",
            ),
            (
                with_subnet(json!({ "silent_because": "looking", "looking": true })),
                Level::Warning,
                "is silent: looking",
            ),
            (
                with_subnet(
                    json!({ "pool": { "said": "4 of 4 addresses given", "nearly_full": true,
                        "full_since_s": 0 } }),
                ),
                Level::Critical,
                "are full: 4 of 4 addresses given",
            ),
            (
                with_subnet(
                    json!({ "pool": { "said": "8 of 10 addresses given", "nearly_full": true,
                        "full_since_s": null } }),
                ),
                Level::Warning,
                "are nearly full: 8 of 10",
            ),
            (
                with_subnet(json!({ "interface": "eth1" })),
                Level::Critical,
                "interface eth1 is not there",
            ),
            (
                json!({
                    "subnets": [{ "mode": "server", "interface": "eth1" }],
                    "interfaces": [{ "name": "eth1", "link": "no carrier" }],
                }),
                Level::Critical,
                "interface eth1 has no carrier",
            ),
            (
                json!({ "after_restart": ["[log]"] }),
                Level::Warning,
                "changes in [log] take effect after a restart",
            ),
            (
                store(json!({ "state": "unread", "why": "no disk" })),
                Level::Critical,
                "no DHCP is answered: no disk",
            ),
            (
                store(json!({ "state": "broken", "why": "disk full" })),
                Level::Critical,
                "no new leases: disk full",
            ),
            (
                store(json!({ "state": "sound", "oldest_ms": 12_000, "queued": 1 })),
                Level::Critical,
                "1 commit wait",
            ),
            (
                json!({ "threads": [{ "name": "rb-tftp-0", "busy_ms": 10_500 }] }),
                Level::Critical,
                "rb-tftp-0 has been",
            ),
            (
                json!({ "threads": [{ "name": "rb-admin", "panics": 1 }] }),
                Level::Warning,
                "rb-admin was begun again",
            ),
            (
                json!({ "findings": [{ "severity": "error", "text": "no kernel" },
                    { "severity": "error", "text": "b" }] }),
                Level::Warning,
                "2 errors in the configuration, the first: no kernel",
            ),
        ] {
            let (found, line) = judged(status);
            assert!(
                found == level && line.contains(words) && line.starts_with(level.word()),
                "{line}"
            );
        }
    }

    #[test]
    fn the_worst_comes_first_and_what_is_too_much_is_counted() {
        let threads: Vec<Value> =
            (0..9).map(|n| json!({ "name": format!("t{n}"), "panics": 1 })).collect();
        let (level, line) =
            judged(json!({ "threads": threads, "dhcp": { "store": { "state": "broken",
                "why": "full" } } }));
        assert!(
            level == Level::Critical && line.starts_with("CRITICAL: no new leases: full; "),
            "{line}"
        );
        assert!(line.ends_with("; and 5 more\n"), "{line}");
    }
}
