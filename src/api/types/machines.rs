//! Machines that the server knows, and the last boot of each.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ApiProblem;

words! {
    /// The state of a machine.
    MachineStanding {
        /// The boot stopped, and its story has the cause.
        Failed => "failed",
        /// The machine is between two steps of its boot.
        Booting => "booting",
        /// The machine got its menu and requested nothing since.
        Menu => "menu",
        /// The machine got everything that it requested.
        Booted => "booted",
        /// A reservation whose machine the server has never seen.
        Unseen => "unseen",
    }
}

words! {
    /// A step of a boot.
    BootStage {
        /// DHCP, from DISCOVER to the lease.
        Dhcp => "dhcp",
        /// A boot loader.
        Loader => "loader",
        /// A menu or a script.
        Menu => "menu",
        /// A kernel.
        Kernel => "kernel",
        /// An initrd.
        Initrd => "initrd",
        /// An answer file of an installer.
        AnswerFile => "answer file",
        /// Any other file.
        File => "file",
    }
}

/// Machines in the order of `standing`, those that failed first; within one state the most recently
/// active first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MachineList {
    /// Every known machine.
    pub machines: Vec<MachineEntry>,
    /// The number of machines in each state.
    pub counts: MachineCounts,
    /// Whether the server answers DHCP. Without DHCP it knows no machines, only addresses.
    pub answers_dhcp: bool,
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MachineEntry {
    /// Hardware address.
    pub machine: String,
    /// The address that it has or had, or its reserved address.
    pub address: Option<String>,
    /// Host name of its reservation, or the one that it sent.
    pub host_name: Option<String>,
    /// The program that requested its address: `pxe+uefi-x64`.
    pub firmware: Option<String>,
    /// Time of its last event, in milliseconds since 1970. Null: none.
    pub heard_ms: Option<u64>,
    /// Milliseconds since its last event. Null: none.
    pub quiet_ms: Option<u64>,
    /// Its state.
    pub standing: MachineStanding,
    /// Stage of its last event.
    pub stage: Option<BootStage>,
    /// Its last event, as the sentence of the log.
    pub last: Option<String>,
    /// A stable word for the cause. Null: nothing is wrong.
    pub code: Option<String>,
    /// Why it stopped. Null: nothing is wrong.
    pub cause: Option<String>,
}

/// The number of machines in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MachineCounts {
    /// Machines whose boot stopped.
    pub failed: usize,
    /// Machines between two steps of their boot.
    pub booting: usize,
    /// Machines at their menu.
    pub menu: usize,
    /// Machines that got everything.
    pub booted: usize,
    /// Reservations whose machine the server has never seen.
    pub unseen: usize,
}

impl MachineCounts {
    /// Counts these machines.
    pub fn from_machines(machines: &[MachineEntry]) -> Self {
        let mut counts = Self::default();
        for machine in machines {
            *counts.place(machine.standing) += 1;
        }
        counts
    }

    /// The count of a state.
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
    /// Hardware address. For an unknown machine the address in the request.
    pub machine: String,
    /// The last address that it got or sent a request from.
    pub address: Option<String>,
    /// The first program of this boot that requested an address: `pxe+uefi-x64`.
    pub firmware: Option<String>,
    /// Begin of the boot, in milliseconds since 1970. 0: unknown.
    pub began_ms: u64,
    /// Milliseconds since the last event of the machine.
    pub quiet_ms: u64,
    /// The events of the boot, oldest first.
    pub lines: Vec<StoryLine>,
    /// Firmware limits of the machine with their reasons, as sentences.
    pub limits: Vec<String>,
    /// A stable word for the cause. Null: nothing is wrong.
    pub code: Option<String>,
    /// Why the boot stopped. Null: nothing is wrong.
    pub cause: Option<String>,
    /// What the operator does next. Null: nothing is wrong.
    pub next_step: Option<String>,
}

/// One line of the timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoryLine {
    /// Milliseconds since the boot began.
    pub after_ms: u64,
    /// The step of the boot.
    pub stage: BootStage,
    /// What happened, as the sentence of the log.
    pub text: String,
    /// How many equal events in a row the line stands for.
    pub times: usize,
}

/// An unknown machine: a problem that also has the fields of a story, with advice in `next_step`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnknownMachine {
    /// The fields of a problem.
    #[serde(flatten)]
    pub problem: ApiProblem,
    /// The fields of a story.
    #[serde(flatten)]
    pub story: BootStory,
}
