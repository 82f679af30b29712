//! Drives the pure rooms with the engine.

pub mod shelf;
