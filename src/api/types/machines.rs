//! Machines that the server knows, and the last boot of each.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ApiProblem;

words! {
    /// Where a machine stands.
    MachineStanding {
        /// It stopped, and its story has the cause.
        Failed => "failed",
        /// It is between two steps of its boot.
        Booting => "booting",
        /// It got its menu and has asked for nothing since.
        Menu => "menu",
        /// It got what it asked for.
        Booted => "booted",
        /// A reservation whose machine was never heard of.
        Unseen => "unseen",
    }
}

words! {
    /// A step of a boot.
    BootStage {
        /// An address.
        Dhcp => "dhcp",
        /// A boot loader.
        Loader => "loader",
        /// A menu or a script.
        Menu => "menu",
        /// A kernel.
        Kernel => "kernel",
        /// An initial RAM disk.
        Initrd => "initrd",
        /// An answer file of an installer.
        AnswerFile => "answer file",
        /// Any other file.
        File => "file",
    }
}

/// Machines: those that failed first, then in the order of `standing`; of the same standing, the
/// one that was heard of last comes first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MachineList {
    pub machines: Vec<MachineEntry>,
    pub counts: MachineCounts,
    /// Whether the server answers DHCP. Machines are known by their leases.
    pub answers_dhcp: bool,
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MachineEntry {
    /// Hardware address.
    pub machine: String,
    /// The address that it has or had, or that is reserved for it.
    pub address: Option<String>,
    /// Name of its reservation, or the name that it gave itself.
    pub host_name: Option<String>,
    /// What asked for its address: `pxe+uefi-x64`.
    pub firmware: Option<String>,
    /// When it was last heard of, in milliseconds since 1970. Null: never.
    pub heard_ms: Option<u64>,
    /// Milliseconds since it was last heard of. Null: never.
    pub quiet_ms: Option<u64>,
    pub standing: MachineStanding,
    /// Stage of its last event.
    pub stage: Option<BootStage>,
    /// Its last event, in the words of the log.
    pub last: Option<String>,
    /// A stable word for the cause. Null: nothing is wrong.
    pub code: Option<String>,
    /// Why it stopped. Null: nothing is wrong.
    pub cause: Option<String>,
}

/// How many machines stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MachineCounts {
    pub failed: usize,
    pub booting: usize,
    pub menu: usize,
    pub booted: usize,
    pub unseen: usize,
}

impl MachineCounts {
    /// Counts these machines.
    pub fn of(machines: &[MachineEntry]) -> Self {
        let mut counts = Self::default();
        for machine in machines {
            *counts.place(machine.standing) += 1;
        }
        counts
    }

    pub fn read(mut self, standing: MachineStanding) -> usize {
        *self.place(standing)
    }

    fn place(&mut self, standing: MachineStanding) -> &mut usize {
        match standing {
            MachineStanding::Failed => &mut self.failed,
            MachineStanding::Booting => &mut self.booting,
            MachineStanding::Menu => &mut self.menu,
            MachineStanding::Booted => &mut self.booted,
            MachineStanding::Unseen => &mut self.unseen,
        }
    }
}

/// The last boot of one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BootStory {
    /// Hardware address; the address that was asked for where the machine is not known.
    pub machine: String,
    /// The last address that it was given or asked from.
    pub address: Option<String>,
    /// The first program of this boot that asked for an address: `pxe+uefi-x64`.
    pub firmware: Option<String>,
    /// When the boot began, in milliseconds since 1970. 0: nothing is known.
    pub began_ms: u64,
    /// Milliseconds since the machine was last heard of.
    pub quiet_ms: u64,
    pub lines: Vec<StoryLine>,
    /// What the machine gets less of than it asks for, and why: sentences.
    pub limits: Vec<String>,
    /// A stable word for the cause. Null: nothing is wrong.
    pub code: Option<String>,
    /// Why the boot stopped. Null: nothing is wrong.
    pub cause: Option<String>,
    /// What to do about it.
    pub next_step: Option<String>,
}

/// One line of the timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoryLine {
    /// Milliseconds since the boot began.
    pub after_ms: u64,
    pub stage: BootStage,
    /// What happened, in the words of the log.
    pub text: String,
    /// How often it happened in a row.
    pub times: usize,
}

/// A machine that nobody has heard of: a problem that has the fields of a story too, with what to
/// look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnknownMachine {
    #[serde(flatten)]
    pub problem: ApiProblem,
    #[serde(flatten)]
    pub story: BootStory,
}
