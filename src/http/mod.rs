//! HTTP answers as pure functions: targets, ranges, conditions, headers, limits.
