//! Simulated machines, for demo and loadtest alike.
