//! What operators see: events of machines, counters of cores, log lines. Cores only ever push here; nothing waits.

pub mod counters;
pub mod events;
pub mod finding;
pub mod journal;
mod lines;
pub mod log;
pub mod pace;
pub mod port_holder;
pub mod sink;
pub mod standing;
pub mod threads;
pub mod timeline;
