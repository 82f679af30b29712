//! Criterion benches of the pure cores: what one packet costs before the kernel is asked for
//! anything, in time.
#![allow(missing_debug_implementations)]

use criterion::{Criterion, criterion_group, criterion_main};

mod operations;

fn time_all(c: &mut Criterion) {
    for mut operation in operations::all() {
        c.bench_function(operation.name, |b| b.iter(&mut operation.run));
    }
}

criterion_group!(cores, time_all);
criterion_main!(cores);
