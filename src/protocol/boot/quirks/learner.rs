//! From endings of transfers to limits: what counts as a failure of which kind, when it is
//! believed, when it is tried anew.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU64;

use super::{
    ActiveLimits, AttemptEnd, BLKSIZES, CLASS_MACHINES, FAILURES_TO_LEARN, GROUP_RETRY_AFTER_S,
    HTTP_RATES, HTTP_STALLS_APART_S, MACHINES_WATCHED_MAX, OUI_MACHINES, QUIRKS_MAX,
    QuirkAllowance, QuirkLimit, QuirkSubject, RETRY_AFTER_S, TransferAttempt,
};
use crate::model::machine::{Firmware, Mac};

/// Octets that HTTP must deliver in one answer before that says something of a rate.
const HTTP_PROOF_OCTETS: u64 = 1 << 20;
/// Windows that must come through before that says something of the window.
const WINDOWS_PROOF: u64 = 4;
/// Makers and classes for which machines without a limit are remembered; beyond it those with the
/// fewest are forgotten first.
const GROUPS_WATCHED_MAX: usize = 1024;

/// A limit of one machine, maker or class, with its story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirmwareQuirk {
    pub subject: QuirkSubject,
    pub allowance: QuirkAllowance,
    /// By an operator's hand: learning does not touch it, and it does not age.
    pub pinned: bool,
    /// When it was learnt or pinned, unix seconds.
    pub since_s: u64,
    /// When a transfer within the limit first succeeded, unix seconds.
    pub works_s: Option<u64>,
    /// Its time is over and the machine is tried without it; one failure brings it back.
    pub on_trial: bool,
    /// The class of a machine when it was learnt.
    pub class: Option<Firmware>,
    /// A clause that goes on after "because".
    pub why: String,
}

/// What has changed and must be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuirkChange {
    Put(FirmwareQuirk),
    Gone(QuirkSubject),
}

/// Everything learnt and pinned, and the failures on the way to more.
#[derive(Debug, Default)]
pub struct QuirkLearner {
    quirks: BTreeMap<QuirkSubject, FirmwareQuirk>,
    /// Those of them that are in force.
    limited: ActiveLimits,
    /// How many machines of a maker or class need which limit of one kind.
    needs: HashMap<(QuirkSubject, LimitKind), BTreeMap<u64, usize>>,
    failures: HashMap<Mac, FailureStreak>,
    /// Machines of a maker or class that do what others of it cannot, as many as it takes to know
    /// that it is not all of them.
    fine: HashMap<(QuirkSubject, LimitKind), BTreeSet<Mac>>,
    /// No limit ages before this moment.
    next_age_s: u64,
}

/// Which of the three limits a failure asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum LimitKind {
    Window,
    Blksize,
    HttpRate,
}

/// Failures of one machine in a row, by kind.
#[derive(Clone, Debug, Default)]
struct FailureStreak {
    window: u8,
    blksize: u8,
    http: u8,
    /// The last stall of HTTP that counted, unix seconds.
    http_at_s: Option<u64>,
    /// The file whose transfer was ended before its first block, and how often in a row. A probe of
    /// the size looks so too, but the file follows.
    aborted: (String, u8),
}

impl FailureStreak {
    fn of(&mut self, kind: LimitKind) -> &mut u8 {
        match kind {
            LimitKind::Window => &mut self.window,
            LimitKind::Blksize => &mut self.blksize,
            LimitKind::HttpRate => &mut self.http,
        }
    }
}

/// One failure: its kind, what the machine gets when it is believed, and the clause that says why.
struct FailureLesson {
    kind: LimitKind,
    to: QuirkAllowance,
    why: String,
    /// How many failures it stands for.
    times: u8,
}

impl QuirkLearner {
    /// With what was kept.
    pub fn load(kept: impl IntoIterator<Item = FirmwareQuirk>) -> Self {
        let mut learner = Self::default();
        kept.into_iter().for_each(|quirk| drop(learner.put(quirk)));
        learner
    }

    /// All of them, machines first.
    pub fn quirks(&self) -> impl Iterator<Item = &FirmwareQuirk> {
        self.quirks.values()
    }

    /// What cores need to know.
    pub fn limited(&self) -> ActiveLimits {
        self.limited.clone()
    }

    /// A TFTP transfer of this machine is over.
    pub fn learn(&mut self, mac: Mac, attempt: &TransferAttempt, now_s: u64) -> Vec<QuirkChange> {
        let lesson = self.lesson(mac, attempt);
        let Some(lesson) = lesson else { return self.note_success(mac, attempt, now_s) };
        self.count(mac, attempt.class, lesson, now_s)
    }

    /// An HTTP connection of this machine was cut because it took nothing any more.
    pub fn learn_http_stall(
        &mut self,
        mac: Mac,
        class: Option<Firmware>,
        now_s: u64,
    ) -> Vec<QuirkChange> {
        let quirk = self.quirks.get(&QuirkSubject::Machine(mac)).filter(|quirk| !quirk.on_trial);
        let now =
            quirk.and_then(|quirk| quirk.allowance.http_rate).map_or(u64::MAX, NonZeroU64::get);
        let Some(less) = HTTP_RATES.into_iter().find(|rate| *rate < now).and_then(NonZeroU64::new)
        else {
            return Vec::new();
        };
        let to = QuirkAllowance { http_rate: Some(less), ..QuirkAllowance::default() };
        let watched = self.watch(mac);
        if watched.http_at_s.is_some_and(|at_s| now_s.saturating_sub(at_s) < HTTP_STALLS_APART_S) {
            return Vec::new();
        }
        watched.http_at_s = Some(now_s);
        let why = "two HTTP transfers stalled".to_owned();
        self.count(
            mac,
            class,
            FailureLesson { kind: LimitKind::HttpRate, to, why, times: 1 },
            now_s,
        )
    }

    /// An HTTP answer of so many bytes went out whole to this machine.
    pub fn note_http_success(&mut self, mac: Mac, octets: u64, now_s: u64) -> Vec<QuirkChange> {
        if octets < HTTP_PROOF_OCTETS {
            return Vec::new();
        }
        self.reset(mac, LimitKind::HttpRate);
        let subject = QuirkSubject::Machine(mac);
        let only_slow = |quirk: &FirmwareQuirk| {
            quirk.on_trial && remove_kind_limit(quirk.allowance, LimitKind::HttpRate).is_empty()
        };
        if self.quirks.get(&subject).is_some_and(only_slow) {
            return self.forget(subject);
        }
        self.confirm(mac, now_s, |allowance| allowance.http_rate.is_some())
    }

    /// By an operator's hand, until it is forgotten.
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
        vec![self.put(quirk)]
    }

    /// By an operator's hand: as if it had never been. Empty: there was none.
    pub fn forget(&mut self, subject: QuirkSubject) -> Vec<QuirkChange> {
        if let QuirkSubject::Machine(mac) = subject {
            self.failures.remove(&mac);
        }
        self.take(subject).map(|_| QuirkChange::Gone(subject)).into_iter().collect()
    }

    /// What is old is tried without: a machine is on trial after [`RETRY_AFTER_S`], a maker or
    /// class begins anew after [`GROUP_RETRY_AFTER_S`].
    pub fn age(&mut self, now_s: u64) -> Vec<QuirkChange> {
        if now_s < self.next_age_s {
            return Vec::new();
        }
        let ages = |quirk: &&FirmwareQuirk| !quirk.pinned && !quirk.on_trial;
        let due = |quirk: &&FirmwareQuirk| find_quirk_end_s(quirk) <= now_s;
        let old: Vec<FirmwareQuirk> =
            self.quirks.values().filter(ages).filter(due).cloned().collect();
        let changes = old.into_iter().map(|quirk| match quirk.subject {
            QuirkSubject::Machine(_) => self.put(FirmwareQuirk { on_trial: true, ..quirk }),
            subject => {
                self.take(subject);
                QuirkChange::Gone(subject)
            }
        });
        let changes = changes.collect();
        let next = self.quirks.values().filter(ages).map(find_quirk_end_s).min();
        self.next_age_s = next.unwrap_or(now_s.saturating_add(GROUP_RETRY_AFTER_S));
        changes
    }

    // --- what an ending says ---

    /// The failure that an attempt was, if it was one.
    fn lesson(&mut self, mac: Mac, attempt: &TransferAttempt) -> Option<FailureLesson> {
        let TransferAttempt { window, blksize, name, acked_blocks, .. } = attempt;
        let to_window =
            |blocks| QuirkAllowance { window: Some(blocks), ..QuirkAllowance::default() };
        let windows = |to, times, what: &str| {
            let why = format!("two transfers with windows {what}, the last of {name}");
            Some(FailureLesson { kind: LimitKind::Window, to: to_window(to), why, times })
        };
        let blocks = |times| {
            let less = BLKSIZES.into_iter().find(|less| less < blksize)?;
            let to = QuirkAllowance { blksize: Some(less), ..QuirkAllowance::default() };
            let why = format!("two transfers with blocks of {blksize} failed, the last of {name}");
            Some(FailureLesson { kind: LimitKind::Blksize, to, why, times })
        };
        match attempt.end {
            AttemptEnd::Complete if attempt.least_burst < *window => {
                windows(attempt.least_burst.max(1), 1, "lost blocks in every burst")
            }
            // It came so far with blocks of this size.
            AttemptEnd::GaveUp if *acked_blocks > 0 && *window > 1 => windows(1, 1, "got stuck"),
            // It took the terms, and then not one block, however few came at once.
            AttemptEnd::GaveUp if *acked_blocks == 0 && attempt.confirmed => {
                blocks(1).or_else(|| if *window > 1 { windows(1, 1, "got stuck") } else { None })
            }
            AttemptEnd::Aborted | AttemptEnd::GaveUp if *acked_blocks == 0 => {
                match self.refusals(mac, attempt) {
                    0 => None,
                    times if *window > 1 => windows(1, times, "were refused by the client"),
                    times => blocks(times),
                }
            }
            AttemptEnd::Complete | AttemptEnd::Aborted | AttemptEnd::GaveUp => None,
        }
    }

    /// The client has gone without taking the terms of this attempt: how many failures is that?
    ///
    /// It may have been a look at the size: then the file follows. So the first one that asks for
    /// the size counts only when a second one comes in its place. Without a window none counts that
    /// asks for the size: GRUB looks at files again and again.
    fn refusals(&mut self, mac: Mac, attempt: &TransferAttempt) -> u8 {
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

    fn reset(&mut self, mac: Mac, kind: LimitKind) {
        if let Entry::Occupied(mut watched) = self.failures.entry(mac) {
            *watched.get_mut().of(kind) = 0;
        }
    }

    // --- when it is believed ---

    fn count(
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
        let failures = self.watch(mac).of(lesson.kind);
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
            // It needed the limit once and needs it still: all of what it had counts again.
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
        let mut changes = vec![self.put(quirk)];
        changes.extend(self.learn_of_groups(mac, class, kind, now_s));
        changes
    }

    /// Where enough machines of one maker or class need a limit, and most of those that were seen,
    /// new ones begin with it. Not with a rate, though: hardware addresses are the client's choice,
    /// and whoever stalls on purpose would slow down all the others of a maker. That is for an
    /// operator to pin.
    fn learn_of_groups(
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
            QuirkSubject::all_of(mac, class).filter_map(find_group_size).collect();
        let changes = groups.into_iter().filter_map(|(group, enough)| {
            let others = self.fine.get(&(group, kind)).map_or(0, BTreeSet::len);
            if others >= enough || self.quirks.get(&group).is_some_and(|quirk| quirk.pinned) {
                return None;
            }
            let needs = self.needs.get(&(group, kind))?;
            if needs.values().sum::<usize>() < enough.max(2 * others) {
                return None;
            }
            // Of different limits the largest: a new machine may learn that it needs less.
            let allowance = make_kind_allowance(kind, *needs.last_key_value()?.0);
            let old = self.quirks.get(&group);
            let all = allowance.or(old.map_or_else(QuirkAllowance::default, |old| old.allowance));
            if old.is_some_and(|old| old.allowance == all) {
                return None;
            }
            let why = format!("{enough} machines or more of {group} needed it");
            Some(self.put(FirmwareQuirk {
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

    fn put(&mut self, quirk: FirmwareQuirk) -> QuirkChange {
        self.take(quirk.subject);
        self.next_age_s = self.next_age_s.min(find_quirk_end_s(&quirk));
        if !quirk.on_trial {
            self.limited.0.insert(
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

    fn take(&mut self, subject: QuirkSubject) -> Option<FirmwareQuirk> {
        let quirk = self.quirks.remove(&subject)?;
        self.limited.0.remove(&subject);
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

    // --- when it goes well ---

    fn note_success(
        &mut self,
        mac: Mac,
        attempt: &TransferAttempt,
        now_s: u64,
    ) -> Vec<QuirkChange> {
        if attempt.acked_blocks > 0
            && let Some(failures) = self.failures.get_mut(&mac)
        {
            failures.aborted = Default::default();
        }
        if attempt.end != AttemptEnd::Complete || attempt.least_burst < attempt.window {
            return Vec::new();
        }
        let windows =
            attempt.window > 1 && attempt.acked_blocks >= WINDOWS_PROOF * u64::from(attempt.window);
        let large = attempt.blksize > BLKSIZES[0] && attempt.acked_blocks > 1;
        for (kind, _) in [(LimitKind::Window, windows), (LimitKind::Blksize, large)]
            .into_iter()
            .filter(|(_, fine)| *fine)
        {
            self.reset(mac, kind);
            self.note_fine(mac, attempt.class, kind);
        }
        let Some(quirk) =
            self.quirks.get(&QuirkSubject::Machine(mac)).filter(|quirk| !quirk.pinned)
        else {
            return Vec::new();
        };
        let more = |limit: Option<u16>, had: u16, proof: bool| {
            limit.is_none_or(|limit| proof && had > limit)
        };
        let QuirkAllowance { window, blksize, http_rate } = quirk.allowance;
        if quirk.on_trial {
            let over =
                more(window, attempt.window, windows) && more(blksize, attempt.blksize, large);
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

    /// A transfer within the limits of a machine has succeeded.
    fn confirm(
        &mut self,
        mac: Mac,
        now_s: u64,
        speaks_of: impl Fn(QuirkAllowance) -> bool,
    ) -> Vec<QuirkChange> {
        let Some(quirk) = self.quirks.get(&QuirkSubject::Machine(mac)).cloned() else {
            return Vec::new();
        };
        if quirk.pinned || quirk.on_trial || quirk.works_s.is_some() || !speaks_of(quirk.allowance)
        {
            return Vec::new();
        }
        vec![self.put(FirmwareQuirk { works_s: Some(now_s), ..quirk })]
    }

    fn note_fine(&mut self, mac: Mac, class: Option<Firmware>, kind: LimitKind) {
        for (group, enough) in QuirkSubject::all_of(mac, class).filter_map(find_group_size) {
            if self.fine.len() >= GROUPS_WATCHED_MAX && !self.fine.contains_key(&(group, kind)) {
                // Whoever invents makers pushes out other invented ones.
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

/// A maker or a class with its architecture, and how many of it must need a limit. A program on any
/// architecture is not learnt of.
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

/// What a machine's limit in force says of its maker and class.
fn list_group_needs(quirk: &FirmwareQuirk) -> Vec<(QuirkSubject, LimitKind, u64)> {
    let QuirkSubject::Machine(mac) = quirk.subject else { return Vec::new() };
    if quirk.pinned || quirk.on_trial {
        return Vec::new();
    }
    let QuirkAllowance { window, blksize, .. } = quirk.allowance;
    let values = [(LimitKind::Window, window), (LimitKind::Blksize, blksize)];
    let of_group = |(group, _)| {
        values.into_iter().filter_map(move |(kind, value)| Some((group, kind, value?.into())))
    };
    QuirkSubject::all_of(mac, quirk.class).filter_map(find_group_size).flat_map(of_group).collect()
}

/// The one limit of this kind, which groups have.
fn make_kind_allowance(kind: LimitKind, value: u64) -> QuirkAllowance {
    let value = u16::try_from(value).ok();
    match kind {
        LimitKind::Window => QuirkAllowance { window: value, ..QuirkAllowance::default() },
        LimitKind::Blksize => QuirkAllowance { blksize: value, ..QuirkAllowance::default() },
        LimitKind::HttpRate => QuirkAllowance::default(),
    }
}

/// All but the limit of this kind.
fn remove_kind_limit(allowance: QuirkAllowance, kind: LimitKind) -> QuirkAllowance {
    match kind {
        LimitKind::Window => QuirkAllowance { window: None, ..allowance },
        LimitKind::Blksize => QuirkAllowance { blksize: None, ..allowance },
        LimitKind::HttpRate => QuirkAllowance { http_rate: None, ..allowance },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::parse_class;
    use super::*;
    use crate::model::machine::Machine;

    const DAY: u64 = 24 * 3600;

    fn mac(last: u8) -> Mac {
        Mac([0x52, 0x54, 0, 0, 0, last])
    }

    /// A long transfer by a client that asked for windows of 4 and blocks of 1468, and got them.
    fn fine() -> TransferAttempt {
        TransferAttempt {
            class: parse_class("pxe+uefi-x64"),
            name: "shimx64.efi".into(),
            window: 4,
            blksize: 1468,
            size_asked: false,
            confirmed: true,
            acked_blocks: 600,
            least_burst: 4,
            end: AttemptEnd::Complete,
        }
    }

    /// It ended the transfer when it saw the OACK.
    fn refused() -> TransferAttempt {
        TransferAttempt { acked_blocks: 0, confirmed: false, end: AttemptEnd::Aborted, ..fine() }
    }

    fn probe() -> TransferAttempt {
        TransferAttempt { size_asked: true, ..refused() }
    }

    /// It took the OACK and no block.
    fn deaf() -> TransferAttempt {
        TransferAttempt { acked_blocks: 0, least_burst: 1, end: AttemptEnd::GaveUp, ..fine() }
    }

    /// As the server would grant it next.
    fn next(learner: &QuirkLearner, mac: Mac, attempt: &TransferAttempt) -> TransferAttempt {
        let machine = Machine { mac, uuid: None, firmware: attempt.class };
        let QuirkAllowance { window, blksize, .. } = learner.limited().allowance(&[], &machine);
        let window = window.map_or(attempt.window, |most| most.min(attempt.window));
        let blksize = blksize.map_or(attempt.blksize, |most| most.min(attempt.blksize));
        TransferAttempt {
            window,
            least_burst: attempt.least_burst.min(window),
            blksize,
            ..attempt.clone()
        }
    }

    /// What is granted after each of these attempts, as (window, blksize).
    fn granted(learner: &mut QuirkLearner, attempts: &[TransferAttempt]) -> Vec<(u16, u16)> {
        let one = |attempt: &TransferAttempt| {
            let attempt = next(learner, mac(1), attempt);
            learner.learn(mac(1), &attempt, 0);
            let then = next(learner, mac(1), &fine());
            (then.window, then.blksize)
        };
        attempts.iter().map(one).collect()
    }

    #[test]
    fn two_refusals_take_the_window_away_and_the_third_try_has_none() {
        let learnt = granted(&mut QuirkLearner::default(), &[refused(), refused(), refused()]);
        assert_eq!(learnt, [(4, 1468), (1, 1468), (1, 1468)]);
        // Firmware that always asks for the size.
        assert_eq!(
            granted(&mut QuirkLearner::default(), &[probe(), probe()]),
            [(4, 1468), (1, 1468)]
        );
        // EDK2: it looks at the size, asks for the file and refuses; and once more.
        let learnt = granted(&mut QuirkLearner::default(), &[probe(), refused(), probe()]);
        assert_eq!(learnt, [(4, 1468), (4, 1468), (1, 1468)]);
        // Refused without a word, and without a window.
        let silent = TransferAttempt { end: AttemptEnd::GaveUp, ..refused() };
        assert_eq!(
            granted(&mut QuirkLearner::default(), &[silent.clone(), silent]).pop(),
            Some((1, 1468))
        );
        assert_eq!(
            granted(&mut QuirkLearner::default(), &[refused(), refused(), refused(), refused()])
                .pop(),
            Some((1, 1024))
        );
    }

    #[test]
    fn t52_looks_at_the_size_teach_nothing() {
        let mut learner = QuirkLearner::default();
        for _ in 0..5 {
            assert_eq!(granted(&mut learner, &[probe(), fine()]), [(4, 1468); 2]);
        }
        let other = |name: &str| TransferAttempt { name: name.into(), ..probe() };
        assert_eq!(
            granted(&mut learner, &[other("a"), other("b"), other("c"), other("d")]),
            [(4, 1468); 4]
        );
        let grub = TransferAttempt { window: 1, blksize: 1024, least_burst: 1, ..probe() };
        for _ in 0..5 {
            assert_eq!(learner.learn(mac(1), &grub, 0), []);
        }
    }

    #[test]
    fn blocks_that_never_arrive_become_smaller_step_by_step() {
        let learnt = granted(
            &mut QuirkLearner::default(),
            &[deaf(), deaf(), deaf(), deaf(), deaf(), deaf()],
        );
        assert_eq!(learnt, [(4, 1468), (4, 1024), (4, 1024), (4, 512), (4, 512), (1, 512)]);
        // A lockstep client that vanishes in the middle was switched off.
        let gone = TransferAttempt { window: 1, least_burst: 1, end: AttemptEnd::GaveUp, ..fine() };
        assert_eq!(
            granted(&mut QuirkLearner::default(), &[gone.clone(), gone.clone(), gone]),
            [(4, 1468); 3]
        );
    }

    #[test]
    fn t40_what_worked_is_what_is_granted() {
        let halved = TransferAttempt { window: 32, least_burst: 8, ..fine() };
        let mut learner = QuirkLearner::default();
        assert_eq!(learner.learn(mac(1), &halved, 7), []);
        let changes = learner.learn(mac(1), &halved, 8);
        let [QuirkChange::Put(quirk)] = &changes[..] else { panic!("{changes:?}") };
        assert_eq!((quirk.allowance.window, quirk.since_s, quirk.works_s), (Some(8), 8, None));
        assert_eq!(
            quirk.why,
            "two transfers with windows lost blocks in every burst, the last of shimx64.efi"
        );
        let fits = TransferAttempt { window: 8, least_burst: 8, ..halved };
        let changes = learner.learn(mac(1), &fits, 9);
        assert!(
            matches!(&changes[..], [QuirkChange::Put(quirk)] if quirk.works_s == Some(9)),
            "{changes:?}"
        );
        assert_eq!(learner.learn(mac(1), &fits, 10), [], "once is enough");
        let stuck = TransferAttempt {
            window: 8,
            least_burst: 1,
            acked_blocks: 9,
            end: AttemptEnd::GaveUp,
            ..fine()
        };
        learner.learn(mac(1), &stuck, 11);
        assert_eq!(learner.learn(mac(1), &stuck, 12).len(), 1);
        assert_eq!(learner.limited().0[&QuirkSubject::Machine(mac(1))].allowance.window, Some(1));
    }

    #[test]
    fn failures_between_successes_are_chance() {
        let stuck =
            TransferAttempt { acked_blocks: 9, least_burst: 1, end: AttemptEnd::GaveUp, ..fine() };
        let all = [
            stuck.clone(),
            fine(),
            stuck.clone(),
            deaf(),
            fine(),
            deaf(),
            refused(),
            fine(),
            refused(),
        ];
        assert_eq!(granted(&mut QuirkLearner::default(), &all), [(4, 1468); 9]);
        // A file of one block says nothing of windows.
        let tiny = TransferAttempt { acked_blocks: 1, ..fine() };
        assert_eq!(
            granted(&mut QuirkLearner::default(), &[stuck.clone(), tiny.clone(), stuck]).pop(),
            Some((1, 1468))
        );
        assert_eq!(
            granted(&mut QuirkLearner::default(), &[deaf(), tiny, deaf()]).pop(),
            Some((4, 1024)),
            "nor of blocks"
        );
    }

    #[test]
    fn new_machines_of_a_maker_begin_where_three_ended() {
        let mut learner = QuirkLearner::default();
        let fails = |learner: &mut QuirkLearner, last: u8| {
            (0..2).flat_map(|_| learner.learn(mac(last), &refused(), 5)).collect::<Vec<_>>()
        };
        assert_eq!([fails(&mut learner, 1).len(), fails(&mut learner, 2).len()], [1, 1]);
        assert_eq!(next(&learner, mac(9), &fine()).window, 4, "two may be a coincidence");
        let changes = fails(&mut learner, 3);
        let [QuirkChange::Put(own), QuirkChange::Put(group)] = &changes[..] else {
            panic!("{changes:?}")
        };
        assert_eq!(
            (own.subject, group.subject.to_string().as_str()),
            (QuirkSubject::Machine(mac(3)), "52:54:00")
        );
        assert_eq!(group.why, "3 machines or more of 52:54:00 needed it");
        assert_eq!(next(&learner, mac(9), &fine()).window, 1);
        assert_eq!(next(&learner, Mac([2; 6]), &fine()).window, 4, "another maker");
        assert_eq!(fails(&mut learner, 4).len(), 1, "the fourth says nothing new of them");
        (5..=8).for_each(|last| drop(fails(&mut learner, last)));
        assert_eq!(
            next(&learner, Mac([2; 6]), &fine()).window,
            1,
            "eight of a class are the class"
        );
    }

    #[test]
    fn new_machines_of_a_maker_begin_with_the_blocks_where_three_ended() {
        let mut learner = QuirkLearner::default();
        for last in 1..=3 {
            assert_eq!(next(&learner, mac(9), &fine()).blksize, 1468);
            (0..2).for_each(|_| drop(learner.learn(mac(last), &deaf(), 5)));
        }
        assert_eq!(next(&learner, mac(9), &fine()).blksize, 1024);
    }

    #[test]
    fn a_machine_that_is_forgotten_speaks_for_no_other_and_the_rest_still_do() {
        let mut learner = QuirkLearner::default();
        let fails = |learner: &mut QuirkLearner, last| {
            (0..2).for_each(|_| drop(learner.learn(mac(last), &refused(), 5)));
            next(learner, mac(9), &fine()).window
        };
        assert_eq!([fails(&mut learner, 1), fails(&mut learner, 2)], [4, 4]);
        assert_eq!(learner.forget(QuirkSubject::Machine(mac(2))).len(), 1);
        assert_eq!([fails(&mut learner, 3), fails(&mut learner, 4)], [4, 1]);
    }

    #[test]
    fn machines_that_can_do_it_speak_for_the_others() {
        let mut learner = QuirkLearner::default();
        (10..13).for_each(|last| drop(learner.learn(mac(last), &fine(), 0)));
        for last in 1..=5 {
            (0..2).for_each(|_| drop(learner.learn(mac(last), &refused(), 0)));
        }
        assert_eq!(learner.quirks().count(), 5, "five bad ones of many");
        assert_eq!(next(&learner, mac(99), &fine()).window, 4);
    }

    #[test]
    fn after_a_week_it_is_tried_without_and_one_failure_brings_it_back() {
        let mut learner = QuirkLearner::default();
        let window = |learner: &QuirkLearner| next(learner, mac(1), &fine()).window;
        (0..2).for_each(|_| drop(learner.learn(mac(1), &refused(), DAY)));
        assert_eq!(learner.age(8 * DAY - 1), []);
        assert_eq!(window(&learner), 1);
        assert!(matches!(&learner.age(8 * DAY)[..], [QuirkChange::Put(quirk)] if quirk.on_trial));
        assert_eq!(window(&learner), 4);
        assert_eq!(learner.learn(mac(1), &refused(), 8 * DAY).len(), 1);
        assert_eq!((window(&learner), learner.age(15 * DAY - 1)), (1, vec![]));
        learner.age(15 * DAY);
        assert_eq!(
            learner.learn(mac(1), &fine(), 15 * DAY),
            [QuirkChange::Gone(QuirkSubject::Machine(mac(1)))],
            "it was the cable"
        );
        assert_eq!((window(&learner), learner.quirks().count()), (4, 0));
    }

    #[test]
    fn what_a_maker_needed_ages_as_well() {
        let mut learner = QuirkLearner::default();
        for last in 1..=3 {
            (0..2).for_each(|_| drop(learner.learn(mac(last), &refused(), 0)));
        }
        assert_eq!(learner.age(GROUP_RETRY_AFTER_S - 1), []);
        assert!(matches!(
            &learner.age(GROUP_RETRY_AFTER_S)[..],
            [QuirkChange::Gone(QuirkSubject::Oui(_))]
        ));
        assert_eq!(next(&learner, mac(9), &fine()).window, 4, "one that needs nothing can show it");
        // The next machine that needs it brings it back for the others.
        (0..2).for_each(|_| drop(learner.learn(mac(4), &refused(), GROUP_RETRY_AFTER_S)));
        assert_eq!(next(&learner, mac(9), &fine()).window, 1);
        assert_eq!(learner.age(RETRY_AFTER_S).len(), 4);
        assert_eq!(next(&learner, mac(9), &fine()).window, 4);
    }

    #[test]
    fn stalls_of_http_slow_down_nobody_but_the_machine_itself() {
        let mut learner = QuirkLearner::default();
        for last in 1..=6 {
            (0..6).for_each(|time| {
                drop(learner.learn_http_stall(mac(last), None, time * HTTP_STALLS_APART_S))
            });
        }
        assert_eq!(learner.quirks().count(), 6);
        let other = Machine { mac: mac(99), uuid: None, firmware: None };
        assert_eq!(learner.limited().allowance(&[], &other), QuirkAllowance::default());
    }

    #[test]
    fn a_few_machines_do_not_speak_for_those_that_were_seen_to_be_fine() {
        let mut learner = QuirkLearner::default();
        (10..12).for_each(|last| drop(learner.learn(mac(last), &fine(), 0)));
        for last in 1..=3 {
            (0..2).for_each(|_| drop(learner.learn(mac(last), &refused(), 0)));
        }
        assert_eq!(next(&learner, mac(99), &fine()).window, 4, "three of five");
        (0..2).for_each(|_| drop(learner.learn(mac(4), &refused(), 0)));
        assert_eq!(next(&learner, mac(99), &fine()).window, 1, "four of six");
        // Invented makers do not make it forget a real one that was seen to be fine.
        let mut learner = QuirkLearner::default();
        (10..13).for_each(|last| drop(learner.learn(mac(last), &fine(), 0)));
        for number in 0..5000u32 {
            let [_, a, b, c] = number.to_be_bytes();
            learner.learn(Mac([2, a, b, c, 0, 0]), &TransferAttempt { class: None, ..fine() }, 0);
            learner.learn(Mac([b, c, 2, 0, 0, 0]), &TransferAttempt { class: None, ..fine() }, 0);
        }
        for last in 1..=6 {
            (0..2).for_each(|_| drop(learner.learn(mac(last), &refused(), 0)));
        }
        assert_eq!(next(&learner, mac(99), &TransferAttempt { class: None, ..fine() }).window, 4);
    }

    #[test]
    fn what_sixteen_thousand_machines_teach_takes_no_walk_over_all_of_them() {
        let mut learner = QuirkLearner::default();
        let began = std::time::Instant::now();
        for number in 0..16_000u16 {
            let [a, b] = number.to_be_bytes();
            let mac = Mac([0x52, 0x54, 0, 0, a, b]);
            (0..2).for_each(|_| drop(learner.learn(mac, &refused(), 0)));
        }
        assert_eq!(learner.needs.values().flat_map(BTreeMap::values).sum::<usize>(), 2 * 16_000);
        assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
        learner.age(RETRY_AFTER_S);
        assert!(learner.needs.is_empty() && learner.limited().0.is_empty(), "all are on trial");
    }

    #[test]
    fn a_pin_stands_until_it_is_forgotten() {
        let mut learner = QuirkLearner::default();
        let subject = QuirkSubject::Machine(mac(1));
        learner.pin(subject, QuirkAllowance { window: Some(3), ..QuirkAllowance::default() }, 0);
        for attempt in [refused(), deaf(), fine()] {
            (0..4).for_each(|_| assert_eq!(learner.learn(mac(1), &attempt, 0), []));
        }
        assert_eq!(learner.age(100 * DAY), []);
        assert_eq!(next(&learner, mac(1), &fine()).window, 3);
        assert_eq!(learner.forget(subject), [QuirkChange::Gone(subject)]);
        assert_eq!((learner.forget(subject), next(&learner, mac(1), &fine()).window), (vec![], 4));
    }

    #[test]
    fn what_was_kept_is_in_force_again() {
        let mut learner = QuirkLearner::default();
        (0..2).for_each(|_| drop(learner.learn(mac(1), &refused(), 5)));
        let again = QuirkLearner::load(learner.quirks().cloned());
        assert_eq!(again.limited(), learner.limited());
    }

    #[test]
    fn http_that_stalls_gets_slower_step_by_step() {
        let mut learner = QuirkLearner::default();
        let rate = |learner: &QuirkLearner| {
            let limit = learner.limited().0.get(&QuirkSubject::Machine(mac(1))).copied();
            limit.and_then(|limit| limit.allowance.http_rate).map(NonZeroU64::get)
        };
        let mut now_s = 0;
        let mut seen = Vec::new();
        for _ in 0..8 {
            // All connections of a machine stall at once: one failure.
            (0..3).for_each(|_| drop(learner.learn_http_stall(mac(1), None, now_s)));
            now_s += HTTP_STALLS_APART_S;
            seen.push(rate(&learner));
        }
        let [fast, slower, slowest] = HTTP_RATES.map(Some);
        assert_eq!(seen, [None, fast, fast, slower, slower, slowest, slowest, slowest]);
        assert_eq!(
            learner.note_http_success(mac(1), 1000, now_s),
            [],
            "a small file proves nothing"
        );
        assert_eq!(learner.note_http_success(mac(1), HTTP_PROOF_OCTETS, now_s).len(), 1);
        assert!(learner.quirks().all(|quirk| quirk.works_s == Some(now_s)));
        assert_eq!(
            (learner.age(now_s + RETRY_AFTER_S).len(), rate(&learner)),
            (1, None),
            "tried without"
        );
        assert_eq!(
            learner.note_http_success(mac(1), HTTP_PROOF_OCTETS, 0),
            [QuirkChange::Gone(QuirkSubject::Machine(mac(1)))]
        );
        let mut learner = QuirkLearner::default();
        learner.learn_http_stall(mac(1), None, 0);
        learner.note_http_success(mac(1), HTTP_PROOF_OCTETS, 1);
        learner.learn_http_stall(mac(1), None, 2);
        assert_eq!(rate(&learner), None, "one stall between successes");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut learner = QuirkLearner::default();
        for number in 0..=u32::try_from(MACHINES_WATCHED_MAX).unwrap() {
            let [a, b, c, d] = number.to_be_bytes();
            learner.learn(Mac([2, a, b, c, d, 0]), &refused(), 0);
            learner.learn(Mac([2, a, b, c, d, 0]), &fine(), 0);
        }
        assert!(
            learner.failures.len() <= MACHINES_WATCHED_MAX
                && learner.fine.len() <= 2 * GROUPS_WATCHED_MAX
        );
    }
}
