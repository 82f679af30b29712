//! The JSON of the admin API, one file per resource: the server fills these types, and the commands
//! print them.
//!
//! A field that a newer server adds is ignored by an older command. A field without `Option` is
//! always there: a command that misses one says so, with the version of the server.

/// An enum whose values are words, the same in JSON, in text and in the API's document.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$meaning:meta])* $variant:ident => $word:tt,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[derive(serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        pub enum $name { $($(#[$meaning])* #[serde(rename = $word)] $variant,)* }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.word())
            }
        }
    };
}

mod backup;
mod checks;
mod configuration;
mod health;
mod index;
mod leases;
mod loaders;
mod looks;
mod machines;
mod problem;
mod quirks;
mod reload;
#[cfg(test)]
pub mod sample;
mod status;
mod walks;

pub use backup::DatabaseFile;
pub use checks::{CheckReport, FindingEntry, FindingSeverity};
pub use configuration::{ConfigurationView, ConfiguredSubnet, MenuLine, ServedClients, SubnetMode};
pub use health::{HealthLevel, HealthReport};
pub use index::{ApiIndex, IndexEntry};
pub use leases::{
    FreedLeases, LeaseCounts, LeaseEntry, LeaseList, LeaseQuery, LeaseState, LimitedClient,
    ReleaseQuery,
};
pub use loaders::{LoaderEntry, LoaderList, MissingLoader};
pub use looks::{LookList, LookOrder, SubnetLook};
pub use machines::{
    BootStage, BootStory, MachineCounts, MachineEntry, MachineList, MachineStanding, StoryLine,
    UnknownMachine,
};
pub use problem::ApiProblem;
pub use quirks::{
    ForgottenQuirk, PinnedQuirk, QuirkEntry, QuirkKind, QuirkLimits, QuirkList, QuirkOrigin,
};
pub use reload::ReloadReport;
pub use status::{
    CopiesStatus, CoreStatus, DhcpStatus, DropCounts, HttpStatus, ImageMemoryStatus,
    InterfaceStatus, IpAddress, LinkState, OtherDhcpServer, PoolStatus, QuirkCounts, ServerStatus,
    SocketAddress, SocketList, StoreStatus, StoreTrust, SubnetStatus, TftpStatus, ThreadStatus,
    UserIds, WaitingQuestions,
};
pub use walks::{EndedWalk, SilenceReason, WalkFirmware, WalkOffer, WalkRequest};
