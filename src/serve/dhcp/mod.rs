//! DHCP on its own core: the thread that answers, the thread that looks for other servers, and what
//! they tell each other.

mod bind;
mod control;
mod events;
mod letters;
mod link_news;
mod listen;
pub mod other_servers;
mod plan;
mod store_owner;
#[cfg(test)]
mod tests;
mod thread;
mod waiting;
mod ways;

pub use bind::{DhcpSockets, bind};
pub use control::{DhcpControl, Listing, NotTaken};
pub use letters::Tried;
pub use plan::{DhcpCounters, DhcpPlan};
pub use thread::DhcpCore;
