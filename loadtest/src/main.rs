//! The load generator's command line: a thin face on the library's fleet.
fn main() {}
