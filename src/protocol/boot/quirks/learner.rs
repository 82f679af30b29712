//! From ends of transfers to limits: what counts as a failure, when failures become a limit, and
//! when a limit is tried without.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU64;

use super::{
    ActiveLimits, AttemptEnd, BLKSIZES, CLASS_MACHINES, FAILURES_TO_LEARN, GROUP_RETRY_AFTER_S,
    HTTP_RATES, HTTP_STALLS_APART_S, MACHINES_WATCHED_MAX, OUI_MACHINES, QUIRKS_MAX,
    QuirkAllowance, QuirkLimit, QuirkSubject, RETRY_AFTER_S, TransferAttempt,
};
use crate::model::machine::{Firmware, Mac};

/// Bytes that one HTTP response must deliver to prove a rate.
const HTTP_PROOF_BYTES: u64 = 1 << 20;
/// Windows that must arrive whole to prove the window.
const WINDOWS_PROOF: u64 = 4;
/// Makers and classes for which machines without a limit are remembered. One more forgets the group
/// with the fewest machines.
const GROUPS_WATCHED_MAX: usize = 1024;

/// A limit of one machine, maker or class, with its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirmwareQuirk {
    /// The machines that it applies to.
    pub subject: QuirkSubject,
    /// The most that they are granted.
    pub allowance: QuirkAllowance,
    /// True for a limit that an operator set: learning does not change it, and it does not age.
    pub pinned: bool,
    /// When it was learnt or pinned, unix seconds.
    pub since_s: u64,
    /// When a transfer within the limit first succeeded, unix seconds.
    pub works_s: Option<u64>,
    /// True while the machine is tried without the limit, whose time is over; one failure brings it
    /// back.
    pub on_trial: bool,
    /// The class of the machine when the limit was learnt; None for makers and classes.
    pub class: Option<Firmware>,
    /// The reason, as a clause after "because".
    pub why: String,
}

/// A change that the store must keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuirkChange {
    /// The limit of a subject is new, or differs.
    Put(FirmwareQuirk),
    /// The subject has no limit any more.
    Gone(QuirkSubject),
}

/// All learnt and pinned limits, and the failures that may lead to further ones.
#[derive(Debug, Default)]
pub struct QuirkLearner {
    quirks: BTreeMap<QuirkSubject, FirmwareQuirk>,
    /// The limits that are in force.
    active: ActiveLimits,
    /// How many machines of a maker or class need each value of a limit.
    needs: HashMap<(QuirkSubject, LimitKind), BTreeMap<u64, usize>>,
    failures: HashMap<Mac, FailureStreak>,
    /// Machines of a maker or class that need no limit, up to the number that outweighs the others.
    fine: HashMap<(QuirkSubject, LimitKind), BTreeSet<Mac>>,
    /// No limit ages before this time, unix seconds.
    next_age_s: u64,
}

/// The limit that a failure calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum LimitKind {
    Window,
    Blksize,
    HttpRate,
}

/// Consecutive failures of one machine, by kind.
#[derive(Clone, Debug, Default)]
struct FailureStreak {
    window: u8,
    blksize: u8,
    http: u8,
    /// The last stall of HTTP that counted, unix seconds.
    http_at_s: Option<u64>,
    /// The file whose transfer ended before its first block, and how often in a row. A request for
    /// the size alone looks the same, but the file follows it.
    aborted: (String, u8),
}

impl FailureStreak {
    fn count_mut(&mut self, kind: LimitKind) -> &mut u8 {
        match kind {
            LimitKind::Window => &mut self.window,
            LimitKind::Blksize => &mut self.blksize,
            LimitKind::HttpRate => &mut self.http,
        }
    }
}

/// One failure: its kind, the limit that it calls for, and the reason.
struct FailureLesson {
    kind: LimitKind,
    to: QuirkAllowance,
    why: String,
    /// How many failures it counts as.
    times: u8,
}

impl FailureLesson {
    /// A window that is too large: `times` failures, after which the machine gets `to` blocks.
    fn of_window(attempt: &TransferAttempt, to: u16, times: u8, what: &str) -> Self {
        let why = format!("two transfers with windows {what}, the last of {}", attempt.name);
        let to = QuirkAllowance { window: Some(to), ..QuirkAllowance::default() };
        Self { kind: LimitKind::Window, to, why, times }
    }

    /// Blocks that are too large: `times` failures, after which the machine gets the next smaller
    /// size. None where there is none.
    fn of_blksize(attempt: &TransferAttempt, times: u8) -> Option<Self> {
        let TransferAttempt { blksize, name, .. } = attempt;
        let less = BLKSIZES.into_iter().find(|less| less < blksize)?;
        let to = QuirkAllowance { blksize: Some(less), ..QuirkAllowance::default() };
        let why = format!("two transfers with blocks of {blksize} failed, the last of {name}");
        Some(Self { kind: LimitKind::Blksize, to, why, times })
    }
}

impl QuirkLearner {
    /// A learner with the limits of the store.
    pub fn load(kept: impl IntoIterator<Item = FirmwareQuirk>) -> Self {
        let mut learner = Self::default();
        kept.into_iter().for_each(|quirk| drop(learner.insert(quirk)));
        learner
    }

    /// All limits, those of machines first.
    pub fn quirks(&self) -> impl Iterator<Item = &FirmwareQuirk> {
        self.quirks.values()
    }

    /// The limits in force, for the cores.
    pub fn active_limits(&self) -> ActiveLimits {
        self.active.clone()
    }

    /// Learns from the end of a TFTP transfer of this machine.
    pub fn learn(&mut self, mac: Mac, attempt: &TransferAttempt, now_s: u64) -> Vec<QuirkChange> {
        let Some(lesson) = self.find_lesson(mac, attempt) else {
            return self.note_success(mac, attempt, now_s);
        };
        self.count_failure(mac, attempt.class, lesson, now_s)
    }

    /// Learns from an HTTP connection that was closed because the machine read nothing any more.
    pub fn learn_http_stall(
        &mut self,
        mac: Mac,
        class: Option<Firmware>,
        now_s: u64,
    ) -> Vec<QuirkChange> {
        // A machine on trial runs without its rate, so the first rate of the list is the next
        // smaller one.
        let quirk = self.quirks.get(&QuirkSubject::Machine(mac)).filter(|quirk| !quirk.on_trial);
        let now =
            quirk.and_then(|quirk| quirk.allowance.http_rate).map_or(u64::MAX, NonZeroU64::get);
        let Some(less) = HTTP_RATES.into_iter().find(|rate| *rate < now).and_then(NonZeroU64::new)
        else {
            return Vec::new();
        };
        let to = QuirkAllowance { http_rate: Some(less), ..QuirkAllowance::default() };

        // A machine that is switched off stalls on every connection: together that is one failure.
        let watched = self.watch(mac);
        if watched.http_at_s.is_some_and(|at_s| now_s.saturating_sub(at_s) < HTTP_STALLS_APART_S) {
            return Vec::new();
        }
        watched.http_at_s = Some(now_s);
        let why = "two HTTP transfers stalled".to_owned();
        self.count_failure(
            mac,
            class,
            FailureLesson { kind: LimitKind::HttpRate, to, why, times: 1 },
            now_s,
        )
    }

    /// Learns from an HTTP response of this many bytes that reached the machine whole.
    pub fn note_http_success(&mut self, mac: Mac, octets: u64, now_s: u64) -> Vec<QuirkChange> {
        if octets < HTTP_PROOF_BYTES {
            return Vec::new();
        }
        self.reset_failures(mac, LimitKind::HttpRate);
        let subject = QuirkSubject::Machine(mac);
        if let Some(quirk) = self.quirks.get(&subject)
            && quirk.on_trial
            && remove_kind_limit(quirk.allowance, LimitKind::HttpRate).is_empty()
        {
            return self.forget(subject);
        }
        self.confirm(mac, now_s, |allowance| allowance.http_rate.is_some())
    }

    /// Sets a limit for an operator, until `forget`.
    pub fn pin(
        &mut self,
        subject: QuirkSubject,
        allowance: QuirkAllowance,
        now_s: u64,
    ) -> Vec<QuirkChange> {
        let why = "an operator pinned it".to_owned();
        let quirk = FirmwareQuirk {
            subject,
            allowance,
            pinned: true,
            since_s: now_s,
            works_s: None,
            on_trial: false,
            class: None,
            why,
        };
        vec![self.insert(quirk)]
    }

    /// Removes a limit for an operator, with its failures. Empty where there is none.
    pub fn forget(&mut self, subject: QuirkSubject) -> Vec<QuirkChange> {
        if let QuirkSubject::Machine(mac) = subject {
            self.failures.remove(&mac);
        }
        self.remove(subject).map(|_| QuirkChange::Gone(subject)).into_iter().collect()
    }

    /// Ends old limits: after [`RETRY_AFTER_S`] a machine is tried without its limit, and after
    /// [`GROUP_RETRY_AFTER_S`] the limit of a maker or class is gone.
    pub fn age(&mut self, now_s: u64) -> Vec<QuirkChange> {
        if now_s < self.next_age_s {
            return Vec::new();
        }
        let aging = self.quirks.values().filter(|quirk| may_age(quirk));
        let old: Vec<FirmwareQuirk> =
            aging.filter(|quirk| find_quirk_end_s(quirk) <= now_s).cloned().collect();
        let changes = old.into_iter().map(|quirk| match quirk.subject {
            QuirkSubject::Machine(_) => self.insert(FirmwareQuirk { on_trial: true, ..quirk }),
            subject => {
                self.remove(subject);
                QuirkChange::Gone(subject)
            }
        });
        let changes = changes.collect();
        let aging = self.quirks.values().filter(|quirk| may_age(quirk));
        let next = aging.map(find_quirk_end_s).min();
        self.next_age_s = next.unwrap_or(now_s.saturating_add(GROUP_RETRY_AFTER_S));
        changes
    }

    // --- failures ---

    /// The failure that this attempt shows, if it shows one.
    fn find_lesson(&mut self, mac: Mac, attempt: &TransferAttempt) -> Option<FailureLesson> {
        let TransferAttempt { window, acked_blocks, .. } = attempt;
        match attempt.end {
            AttemptEnd::Complete if attempt.least_burst < *window => {
                Some(FailureLesson::of_window(
                    attempt,
                    attempt.least_burst.max(1),
                    1,
                    "lost blocks in every burst",
                ))
            }
            // Blocks of this size arrived, so the window is at fault.
            AttemptEnd::GaveUp if *acked_blocks > 0 && *window > 1 => {
                Some(FailureLesson::of_window(attempt, 1, 1, "got stuck"))
            }
            // The client took the options and then not one block, however short the burst.
            AttemptEnd::GaveUp if *acked_blocks == 0 && attempt.confirmed => {
                let blocks = FailureLesson::of_blksize(attempt, 1);
                if blocks.is_none() && *window > 1 {
                    return Some(FailureLesson::of_window(attempt, 1, 1, "got stuck"));
                }
                blocks
            }
            AttemptEnd::Aborted | AttemptEnd::GaveUp if *acked_blocks == 0 => {
                match self.count_refusals(mac, attempt) {
                    0 => None,
                    times if *window > 1 => Some(FailureLesson::of_window(
                        attempt,
                        1,
                        times,
                        "were refused by the client",
                    )),
                    times => FailureLesson::of_blksize(attempt, times),
                }
            }
            AttemptEnd::Complete | AttemptEnd::Aborted | AttemptEnd::GaveUp => None,
        }
    }

    /// How many failures it counts as that the client went away without taking the options.
    ///
    /// The client may have wanted only the size: then a request for the file follows. So the first
    /// request with `tsize` counts only when a second one follows it in place of the file. Without
    /// a window no request with `tsize` counts: GRUB asks for sizes again and again.
    fn count_refusals(&mut self, mac: Mac, attempt: &TransferAttempt) -> u8 {
        let (name, times) = &mut self.watch(mac).aborted;
        if *name != attempt.name {
            (*name, *times) = (attempt.name.clone(), 0);
        }
        *times = times.saturating_add(1);
        match (attempt.size_asked, *times) {
            (true, _) if attempt.window == 1 => 0,
            (true, 1) => 0,
            (true, 2) => 2,
            _ => 1,
        }
    }

    fn watch(&mut self, mac: Mac) -> &mut FailureStreak {
        if self.failures.len() >= MACHINES_WATCHED_MAX && !self.failures.contains_key(&mac) {
            self.failures.clear();
        }
        self.failures.entry(mac).or_default()
    }

    fn reset_failures(&mut self, mac: Mac, kind: LimitKind) {
        if let Entry::Occupied(mut watched) = self.failures.entry(mac) {
            *watched.get_mut().count_mut(kind) = 0;
        }
    }

    // --- limits ---

    /// Counts a failure, and sets the limit where there are enough.
    fn count_failure(
        &mut self,
        mac: Mac,
        class: Option<Firmware>,
        lesson: FailureLesson,
        now_s: u64,
    ) -> Vec<QuirkChange> {
        let before = self.quirks.get(&QuirkSubject::Machine(mac)).cloned();
        if before.as_ref().is_some_and(|quirk| quirk.pinned) {
            return Vec::new();
        }
        let on_trial = before.as_ref().is_some_and(|quirk| quirk.on_trial);

        let failures = self.watch(mac).count_mut(lesson.kind);
        *failures += lesson.times;
        if *failures < FAILURES_TO_LEARN && !on_trial {
            return Vec::new();
        }
        *failures = 0;
        if before.is_none() && self.quirks.len() >= QUIRKS_MAX {
            return Vec::new();
        }

        let FailureLesson { kind, to, why, .. } = lesson;
        let quirk = match before {
            // The machine still needs the limit: everything that it had is in force again.
            Some(old) if on_trial => FirmwareQuirk {
                allowance: old.allowance.or(to),
                on_trial: false,
                since_s: now_s,
                works_s: None,
                class,
                ..old
            },
            Some(old) => {
                let allowance = to.or(old.allowance);
                let others = remove_kind_limit(old.allowance, kind);
                let why = if others.is_empty() { why } else { format!("{}; {why}", old.why) };
                FirmwareQuirk {
                    allowance,
                    since_s: now_s,
                    works_s: None,
                    class: class.or(old.class),
                    why,
                    ..old
                }
            }
            None => FirmwareQuirk {
                subject: QuirkSubject::Machine(mac),
                allowance: to,
                pinned: false,
                since_s: now_s,
                works_s: None,
                on_trial: false,
                class,
                why,
            },
        };
        let mut changes = vec![self.insert(quirk)];
        changes.extend(self.learn_group_limits(mac, class, kind, now_s));
        changes
    }

    /// Sets the limit of a maker or class where enough of its machines, and most of those seen,
    /// need it. Never a rate: a client chooses its hardware address, and one that stalls on purpose
    /// would slow down every machine of a maker. Only an operator sets such a rate.
    fn learn_group_limits(
        &mut self,
        mac: Mac,
        class: Option<Firmware>,
        kind: LimitKind,
        now_s: u64,
    ) -> Vec<QuirkChange> {
        if kind == LimitKind::HttpRate {
            return Vec::new();
        }
        let groups: Vec<(QuirkSubject, usize)> =
            QuirkSubject::iter_including(mac, class).filter_map(find_group_size).collect();
        let changes = groups.into_iter().filter_map(|(group, enough)| {
            let others = self.fine.get(&(group, kind)).map_or(0, BTreeSet::len);
            if others >= enough || self.quirks.get(&group).is_some_and(|quirk| quirk.pinned) {
                return None;
            }
            let needs = self.needs.get(&(group, kind))?;
            if needs.values().sum::<usize>() < enough.max(2 * others) {
                return None;
            }
            // The largest of the values: a new machine may learn that it needs a smaller one.
            let allowance = make_kind_allowance(kind, *needs.last_key_value()?.0);
            let old = self.quirks.get(&group);
            let all = allowance.or(old.map_or_else(QuirkAllowance::default, |old| old.allowance));
            if old.is_some_and(|old| old.allowance == all) {
                return None;
            }
            let why = format!("{enough} machines or more of {group} needed it");
            Some(self.insert(FirmwareQuirk {
                subject: group,
                allowance: all,
                pinned: false,
                since_s: now_s,
                works_s: None,
                on_trial: false,
                class: None,
                why,
            }))
        });
        changes.collect()
    }

    fn insert(&mut self, quirk: FirmwareQuirk) -> QuirkChange {
        self.remove(quirk.subject);
        self.next_age_s = self.next_age_s.min(find_quirk_end_s(&quirk));
        if !quirk.on_trial {
            self.active.0.insert(
                quirk.subject,
                QuirkLimit { allowance: quirk.allowance, pinned: quirk.pinned },
            );
        }
        for (group, kind, value) in list_group_needs(&quirk) {
            *self.needs.entry((group, kind)).or_default().entry(value).or_default() += 1;
        }
        self.quirks.insert(quirk.subject, quirk.clone());
        QuirkChange::Put(quirk)
    }

    fn remove(&mut self, subject: QuirkSubject) -> Option<FirmwareQuirk> {
        let quirk = self.quirks.remove(&subject)?;
        self.active.0.remove(&subject);
        for (group, kind, value) in list_group_needs(&quirk) {
            let Entry::Occupied(mut needs) = self.needs.entry((group, kind)) else { continue };
            if let Some(count) = needs.get_mut().get_mut(&value) {
                *count -= 1;
                if *count == 0 {
                    needs.get_mut().remove(&value);
                }
            }
            if needs.get().is_empty() {
                needs.remove();
            }
        }
        Some(quirk)
    }

    // --- successes ---

    /// Ends the count of failures that a success disproves, and a trial that succeeds.
    fn note_success(
        &mut self,
        mac: Mac,
        attempt: &TransferAttempt,
        now_s: u64,
    ) -> Vec<QuirkChange> {
        // A client that acknowledges a block has accepted the options, so its count of refusals
        // begins anew.
        if attempt.acked_blocks > 0
            && let Some(failures) = self.failures.get_mut(&mac)
        {
            failures.aborted = Default::default();
        }
        if attempt.end != AttemptEnd::Complete || attempt.least_burst < attempt.window {
            return Vec::new();
        }

        // A transfer proves only what it used: several whole windows prove the window, and a block
        // before the last one proves the block size.
        let windows =
            attempt.window > 1 && attempt.acked_blocks >= WINDOWS_PROOF * u64::from(attempt.window);
        let large = attempt.blksize > BLKSIZES[0] && attempt.acked_blocks > 1;
        for (kind, _) in [(LimitKind::Window, windows), (LimitKind::Blksize, large)]
            .into_iter()
            .filter(|(_, fine)| *fine)
        {
            self.reset_failures(mac, kind);
            self.note_fine(mac, attempt.class, kind);
        }

        let Some(quirk) =
            self.quirks.get(&QuirkSubject::Machine(mac)).filter(|quirk| !quirk.pinned)
        else {
            return Vec::new();
        };

        // A trial succeeds only beyond every limit of the quirk. TFTP proves nothing about the rate
        // of HTTP.
        let QuirkAllowance { window, blksize, http_rate } = quirk.allowance;
        if quirk.on_trial {
            let over = exceeds_limit(window, attempt.window, windows)
                && exceeds_limit(blksize, attempt.blksize, large);
            return if over && http_rate.is_none() {
                self.forget(QuirkSubject::Machine(mac))
            } else {
                Vec::new()
            };
        }
        self.confirm(mac, now_s, |allowance| {
            allowance.window.is_some() || allowance.blksize.is_some()
        })
    }

    /// Records that a transfer within the limits of a machine succeeded.
    fn confirm(
        &mut self,
        mac: Mac,
        now_s: u64,
        concerns: impl Fn(QuirkAllowance) -> bool,
    ) -> Vec<QuirkChange> {
        let Some(quirk) = self.quirks.get(&QuirkSubject::Machine(mac)).cloned() else {
            return Vec::new();
        };
        if quirk.pinned || quirk.on_trial || quirk.works_s.is_some() || !concerns(quirk.allowance) {
            return Vec::new();
        }
        vec![self.insert(FirmwareQuirk { works_s: Some(now_s), ..quirk })]
    }

    fn note_fine(&mut self, mac: Mac, class: Option<Firmware>, kind: LimitKind) {
        for (group, enough) in QuirkSubject::iter_including(mac, class).filter_map(find_group_size)
        {
            if self.fine.len() >= GROUPS_WATCHED_MAX && !self.fine.contains_key(&(group, kind)) {
                // A client that invents makers only displaces other invented ones.
                let fewest =
                    self.fine.iter().min_by_key(|(_, fine)| fine.len()).map(|(key, _)| *key);
                fewest.map(|key| self.fine.remove(&key));
            }
            let fine = self.fine.entry((group, kind)).or_default();
            if fine.len() < enough {
                fine.insert(mac);
            }
        }
    }
}

/// A maker, or a class with an architecture, and how many of its machines must need a limit. None
/// for a class on any architecture, for which nothing is learnt.
fn find_group_size(subject: QuirkSubject) -> Option<(QuirkSubject, usize)> {
    match subject {
        QuirkSubject::Oui(_) => Some((subject, OUI_MACHINES)),
        QuirkSubject::Class(Firmware { arch: Some(_), .. }) => Some((subject, CLASS_MACHINES)),
        QuirkSubject::Machine(_) | QuirkSubject::Class(_) => None,
    }
}

/// When a limit that ages ends, unix seconds.
fn find_quirk_end_s(quirk: &FirmwareQuirk) -> u64 {
    let is_of_machine = matches!(quirk.subject, QuirkSubject::Machine(_));
    quirk.since_s.saturating_add(if is_of_machine { RETRY_AFTER_S } else { GROUP_RETRY_AFTER_S })
}

/// Whether the limit ends by itself: an operator's does not, and a trial has ended it already.
fn may_age(quirk: &FirmwareQuirk) -> bool {
    !quirk.pinned && !quirk.on_trial
}

/// The values that count for the maker and the class of a machine, while its limit is in force.
fn list_group_needs(quirk: &FirmwareQuirk) -> Vec<(QuirkSubject, LimitKind, u64)> {
    let QuirkSubject::Machine(mac) = quirk.subject else { return Vec::new() };
    if quirk.pinned || quirk.on_trial {
        return Vec::new();
    }
    let QuirkAllowance { window, blksize, .. } = quirk.allowance;
    let values = [(LimitKind::Window, window), (LimitKind::Blksize, blksize)];
    QuirkSubject::iter_including(mac, quirk.class)
        .filter_map(find_group_size)
        .flat_map(|(group, _)| {
            values.into_iter().filter_map(move |(kind, value)| Some((group, kind, value?.into())))
        })
        .collect()
}

/// Whether a transfer is proof beyond a limit; true without a limit.
fn exceeds_limit(limit: Option<u16>, had: u16, is_proof: bool) -> bool {
    limit.is_none_or(|limit| is_proof && had > limit)
}

/// An allowance with the limit of this kind alone.
fn make_kind_allowance(kind: LimitKind, value: u64) -> QuirkAllowance {
    let value = u16::try_from(value).ok();
    match kind {
        LimitKind::Window => QuirkAllowance { window: value, ..QuirkAllowance::default() },
        LimitKind::Blksize => QuirkAllowance { blksize: value, ..QuirkAllowance::default() },
        LimitKind::HttpRate => QuirkAllowance::default(),
    }
}

/// The allowance without the limit of this kind.
fn remove_kind_limit(allowance: QuirkAllowance, kind: LimitKind) -> QuirkAllowance {
    match kind {
        LimitKind::Window => QuirkAllowance { window: None, ..allowance },
        LimitKind::Blksize => QuirkAllowance { blksize: None, ..allowance },
        LimitKind::HttpRate => QuirkAllowance { http_rate: None, ..allowance },
    }
}

#[cfg(test)]
mod tests;
