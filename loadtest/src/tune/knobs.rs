//! The knobs of a search: the key of each in the configuration, its values to try, and its present
//! value.

use std::collections::BTreeMap;

use anyhow::bail;
use ringboot::config::Config;
use ringboot_fleet::{RoleTask, Scenario, StepRequest};

use super::search::TuneKnob;

/// A knob as the configuration has it.
#[derive(Debug)]
pub(super) struct KnobSpec {
    pub(super) name: &'static str,
    /// Its table. The key has the knob's name.
    pub(super) table: &'static str,
    pub(super) about: &'static str,
    /// Values to try; empty if they depend on the machine.
    ladder: &'static [u64],
    /// The protocol that a scenario must use for this knob to have an effect.
    needs: KnobNeeds,
    read: fn(&Config) -> u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KnobNeeds {
    Files,
    Tftp,
    Http,
}

/// The knobs in the order of the search, the most effective first.
pub(super) const KNOBS: [KnobSpec; 8] = [
    KnobSpec {
        name: "workers",
        table: "server",
        about: "boot cores",
        ladder: &[],
        needs: KnobNeeds::Files,
        read: |config| {
            config.server.workers.map_or_else(count_boot_cores, |workers| workers as u64)
        },
    },
    KnobSpec {
        name: "windowsize-max",
        table: "tftp",
        about: "blocks in one window of TFTP",
        ladder: &[4, 8, 16, 32, 64],
        needs: KnobNeeds::Tftp,
        read: |config| config.tftp.options.windowsize_max.into(),
    },
    KnobSpec {
        name: "http-slots",
        table: "tuning",
        about: "large HTTP bodies of a core at full speed",
        ladder: &[0, 4, 16, 64],
        needs: KnobNeeds::Http,
        read: |config| config.tuning.http_slots.map_or(0, u64::from),
    },
    KnobSpec {
        name: "http-chunk",
        table: "tuning",
        about: "bytes in one sendfile call",
        ladder: &[65_536, 262_144, 1_048_576, 4_194_304],
        needs: KnobNeeds::Http,
        read: |config| config.tuning.http_chunk.into(),
    },
    KnobSpec {
        name: "gso-segments",
        table: "tuning",
        about: "blocks of a window in one send",
        ladder: &[1, 8, 16, 32, 64],
        needs: KnobNeeds::Tftp,
        read: |config| config.tuning.gso_segments.into(),
    },
    KnobSpec {
        name: "spin-us",
        table: "tuning",
        about: "microseconds that a core polls before it sleeps",
        ladder: &[0, 20, 50, 200],
        needs: KnobNeeds::Tftp,
        read: |config| config.tuning.spin_us.into(),
    },
    KnobSpec {
        name: "receive-buffers",
        table: "tuning",
        about: "datagrams that wait in a core's own buffers",
        ladder: &[256, 1024, 4096],
        needs: KnobNeeds::Tftp,
        read: |config| config.tuning.receive_buffers.into(),
    },
    KnobSpec {
        name: "tid-sockets",
        table: "tuning",
        about: "sockets of a core from which transfers send",
        ladder: &[1, 4, 16, 64],
        needs: KnobNeeds::Tftp,
        read: |config| config.tuning.tid_sockets.into(),
    },
];

/// `NAME`, or `NAME=V,V`: a knob, and the values to try instead of its ladder.
#[derive(Clone, Debug)]
pub(super) struct WantedKnob {
    name: &'static str,
    values: Vec<u64>,
}

pub(super) fn parse_wanted_knob(text: &str) -> Result<WantedKnob, String> {
    let (name, list) = text.split_once('=').map_or((text, None), |(name, list)| (name, Some(list)));
    let spec = find_knob_spec(name).ok_or_else(|| {
        format!("there is no knob {name}; there are {}", KNOBS.map(|spec| spec.name).join(", "))
    })?;
    let values = list.map_or(Ok(Vec::new()), |list| {
        list.split(',').map(|value| spec.parse_value(value)).collect()
    })?;
    Ok(WantedKnob { name: spec.name, values })
}

pub(super) fn find_knob_spec(name: &str) -> Option<&'static KnobSpec> {
    const { &KNOBS }.iter().find(|spec| spec.name == name)
}

/// The knobs to search, and the others with a reason.
pub(super) fn choose_knobs(
    wanted: &[WantedKnob],
    now: &Config,
    scenario: &Scenario,
) -> anyhow::Result<(Vec<TuneKnob>, BTreeMap<&'static str, String>)> {
    let (mut knobs, mut left_out) = (Vec::new(), BTreeMap::new());
    for spec in const { &KNOBS } {
        // Of several flags with one name the last one counts. The order of the search stays that of
        // `KNOBS`.
        let named = wanted.iter().rev().find(|wanted| wanted.name == spec.name);
        if !wanted.is_empty() && named.is_none() {
            continue;
        }
        let knob = TuneKnob {
            name: spec.name,
            now: spec.read_value(now),
            ladder: spec.choose_ladder(named),
        };

        // A knob that the command line names is searched even if it looks useless for the scenario.
        if named.is_none() && !spec.needs.is_met(scenario) {
            left_out.insert(spec.name, format!("it has no effect on scenario {}", scenario.name));
        } else if knob.ladder.iter().all(|value| *value == knob.now) {
            left_out.insert(spec.name, format!("there is no other value than {} here", knob.now));
        } else {
            knobs.push(knob);
        }
    }
    if knobs.is_empty() {
        let reasons: String =
            left_out.iter().map(|(name, why)| format!("\n  {name}: {why}")).collect();
        bail!("there is no knob to search:{reasons}");
    }
    Ok((knobs, left_out))
}

/// The default number of boot cores: all processors except the first, which has DHCP and the work
/// beside a packet's path.
fn count_boot_cores() -> u64 {
    std::thread::available_parallelism()
        .map_or(1, |count| count.get() as u64)
        .saturating_sub(1)
        .max(1)
}

/// 1, 2, 4 and so on, and `most`.
fn list_powers_up_to(most: u64) -> Vec<u64> {
    let doubled = std::iter::successors(Some(1_u64), |count| count.checked_mul(2));
    doubled.take_while(|count| *count < most).chain([most]).collect()
}

impl KnobSpec {
    /// The key as in the configuration file: `[tuning] spin-us`.
    pub(super) fn key(&self) -> String {
        format!("[{}] {}", self.table, self.name)
    }

    pub(super) fn read_value(&self, config: &Config) -> u64 {
        (self.read)(config)
    }

    /// Parses a value that the configuration accepts.
    fn parse_value(&self, text: &str) -> Result<u64, String> {
        let name = self.name;
        let value = text
            .trim()
            .parse()
            .map_err(|_| format!("{text:?} is no number for {name}: write {name}=8,16"))?;
        let file = format!("root = \"/\"\n[{}]\n{name} = {value}\n", self.table);
        let Err(problems) = Config::parse("", &file) else { return Ok(value) };
        Err(problems.0.first().map_or(String::new(), |problem| {
            format!("{}: {}", problem.what, problem.hint.as_deref().unwrap_or_default())
        }))
    }

    fn choose_ladder(&self, named: Option<&WantedKnob>) -> Vec<u64> {
        match named {
            Some(wanted) if !wanted.values.is_empty() => wanted.values.clone(),
            _ if self.ladder.is_empty() => list_powers_up_to(count_boot_cores()),
            _ => self.ladder.to_vec(),
        }
    }
}

impl KnobNeeds {
    fn is_met(self, scenario: &Scenario) -> bool {
        scenario.roles.iter().any(|role| match &role.does {
            RoleTask::Boot(_) => true,
            RoleTask::Steps(steps) => steps.iter().any(|step| match step.request {
                StepRequest::Dhcp => false,
                StepRequest::Tftp { .. } => self != Self::Http,
                StepRequest::Http { .. } => self != Self::Tftp,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_ladder_is_of_values_that_the_configuration_takes_and_rises() {
        let config = Config::for_root("/");
        for spec in &KNOBS {
            let ladder = spec.choose_ladder(None);
            assert!(
                ladder.iter().all(|value| spec.parse_value(&value.to_string()) == Ok(*value)),
                "{}",
                spec.name
            );
            assert!(
                ladder.is_sorted() && ladder.contains(&spec.read_value(&config)),
                "{}: {ladder:?}",
                spec.name
            );
        }
    }

    #[test]
    fn every_knob_reads_what_its_own_key_says() {
        for spec in &KNOBS {
            let value = spec.ladder[spec.ladder.len().min(2).saturating_sub(1)..]
                .first()
                .copied()
                .unwrap_or(3);
            let file = format!("root = \"/\"\n[{}]\n{} = {value}\n", spec.table, spec.name);
            assert_eq!(spec.read_value(&Config::parse("", &file).unwrap()), value, "{}", spec.name);
        }
    }

    #[test]
    fn a_knob_may_come_with_values_of_its_own_and_they_must_be_possible() {
        let named = parse_wanted_knob("spin-us=0,7").unwrap();
        assert_eq!((named.name, named.values), ("spin-us", vec![0, 7]));
        for (text, said) in [
            ("spinus", "no knob spinus; there are workers, windowsize-max, "),
            ("spin-us=a", "\"a\" is no number for spin-us"),
            (
                "gso-segments=8,65",
                "gso-segments = 65 is out of bounds: write a number from 1 to 64",
            ),
            ("receive-buffers=1000", "receive-buffers = 1000 is not a power of two"),
        ] {
            assert!(
                parse_wanted_knob(text).unwrap_err().contains(said),
                "{text}: {}",
                parse_wanted_knob(text).unwrap_err()
            );
        }
    }

    #[test]
    fn what_a_scenario_does_not_speak_is_left_out_unless_it_is_named() {
        let text = "[files]\n\"a\" = \"1KiB\"\n[[machine]]\nsteps = [{ tftp = \"a\" }]\n";
        let scenario = Scenario::parse("lone.toml", text).unwrap();
        let names = |named: &[&str]| {
            let named: Vec<WantedKnob> =
                named.iter().map(|text| parse_wanted_knob(text).unwrap()).collect();
            let (knobs, left_out) =
                choose_knobs(&named, &Config::for_root("/"), &scenario).unwrap();
            (knobs.iter().map(|knob| knob.name).collect::<Vec<_>>(), left_out)
        };
        let (knobs, left_out) = names(&[]);
        assert!(
            knobs.ends_with(&[
                "windowsize-max",
                "gso-segments",
                "spin-us",
                "receive-buffers",
                "tid-sockets"
            ]),
            "{knobs:?}"
        );
        assert_eq!(left_out["http-chunk"], "it has no effect on scenario lone");
        assert_eq!(names(&["http-chunk", "spin-us"]).0, ["http-chunk", "spin-us"]);
        let nothing = choose_knobs(
            &[parse_wanted_knob("spin-us=50").unwrap()],
            &Config::for_root("/"),
            &scenario,
        )
        .unwrap_err();
        assert!(nothing.to_string().contains("there is no other value than 50 here"), "{nothing}");
    }

    #[test]
    fn boot_cores_are_tried_in_doublings_up_to_all() {
        assert_eq!(
            (list_powers_up_to(1), list_powers_up_to(3), list_powers_up_to(8)),
            (vec![1], vec![1, 2, 3], vec![1, 2, 4, 8])
        );
    }
}
