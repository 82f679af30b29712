//! Drives the pure rooms with the engine.
