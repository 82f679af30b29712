//! HTTP answers as pure functions: targets, ranges, conditions, headers, limits.

pub mod admission;
pub mod conditional;
pub mod guard;
pub mod index;
pub mod limits;
pub mod media;
pub mod range;
pub mod respond;
pub mod schedule;
pub mod target;
