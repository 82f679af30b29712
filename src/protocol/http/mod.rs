//! HTTP as pure functions: requests, targets, ranges, conditions, response heads, limits.

pub mod admission;
pub mod conditional;
pub mod head;
pub mod index;
pub mod input;
pub mod limits;
pub mod media;
pub mod range;
pub mod request;
pub mod respond;
pub mod schedule;
pub mod target;
