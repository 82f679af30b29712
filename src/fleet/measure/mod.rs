//! What a run measures: counters of all machines, answers and silences of each protocol, throughput
//! over time.

pub(super) mod line;
pub(super) mod pressure;
pub(super) mod progress;
pub(super) mod series;
pub(super) mod silence;
pub(super) mod times;
pub(super) mod watch;
