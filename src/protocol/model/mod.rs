//! Types that every room shares: machines, networks, bindings, the lease clock, places in a queue,
//! and seeded random numbers. Pure; imports no other room.

pub mod binding;
pub mod lease_clock;
pub mod machine;
pub mod network;
pub mod places;
pub mod random;
pub mod spelling;
pub mod who;
