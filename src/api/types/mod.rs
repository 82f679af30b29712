//! The JSON of the admin API, one file per resource: the server fills these types, and the commands
//! print them.
//!
//! An older command ignores a field that a newer server adds. A field without `Option` is always
//! there: a command that misses one reports an error with the version of the server.

/// Defines an enum whose values are words, the same in JSON and in text. The API's document has
/// each word with its meaning.
macro_rules! words {
    (
        $(#[doc = $about:literal])*
        $name:ident { $($(#[doc = $meaning:literal])* $variant:ident => $word:tt,)* }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[derive(serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        #[schema(description = concat!(
            $($about, "\n",)* $("\n- `", $word, "`:", $($meaning,)*)*
        ))]
        pub enum $name { $($(#[doc = $meaning])* #[serde(rename = $word)] $variant,)* }

        impl $name {
            /// Every value, in the order of the document.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word of this value.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
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
    SocketAddress, SocketList, StoreStatus, StoreTrust, StormStatus, SubnetStatus, TftpStatus,
    ThreadStatus, UserIds, WaitingQuestions,
};
pub use walks::{EndedWalk, SilenceReason, WalkFirmware, WalkOffer, WalkRequest};
