//! Words that every room shares: machines, networks, bindings, and seeded random numbers. Pure, and
//! above nothing.

pub mod binding;
pub mod lease_clock;
pub mod machine;
pub mod network;
pub mod random;
pub mod spelling;
pub mod who;
