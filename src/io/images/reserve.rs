//! File descriptors in reserve, so that a lookup still works when the process has none left.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One for each thread that looks names up at the same time, on usual machines.
const KEPT: usize = 16;

/// Descriptors that only occupy a slot.
#[derive(Debug)]
pub(super) struct DescriptorReserve {
    kept: Mutex<Vec<OwnedFd>>,
    /// Some of the reserve is in use.
    is_spent: AtomicBool,
}

impl DescriptorReserve {
    pub(super) fn new() -> Self {
        let reserve = Self { kept: Mutex::default(), is_spent: AtomicBool::new(true) };
        reserve.fill();
        reserve
    }

    /// Calls `open`. If the process has no descriptor left, closes one of the reserve and calls it
    /// again.
    pub(super) fn open<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        if self.is_spent.load(Ordering::Relaxed) {
            self.fill();
        }
        match open() {
            Err(error) if error.raw_os_error() == Some(libc::EMFILE) => {
                let Some(kept) = self.lock().pop() else { return Err(error) };
                self.is_spent.store(true, Ordering::Relaxed);
                drop(kept);
                open()
            }
            opened => opened,
        }
    }

    /// Refills the reserve, as far as the process may open descriptors again.
    fn fill(&self) {
        let mut kept = self.lock();
        while kept.len() < KEPT {
            let Ok(file) = File::open("/dev/null") else { return };
            kept.push(file.into());
        }
        self.is_spent.store(false, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;

    use super::*;

    #[test]
    fn one_makes_way_for_what_finds_none_and_it_is_taken_back_later() {
        let reserve = DescriptorReserve::new();
        let tries = Cell::new(0);
        let none_left = |times| {
            tries.set(0);
            reserve.open(|| {
                tries.set(tries.get() + 1);
                let error = || io::Error::from_raw_os_error(libc::EMFILE);
                if tries.get() > times { Ok(()) } else { Err(error()) }
            })
        };
        none_left(1).unwrap();
        assert_eq!((tries.get(), reserve.lock().len()), (2, KEPT - 1));
        none_left(9).unwrap_err();
        assert_eq!((tries.get(), reserve.lock().len()), (2, KEPT - 1), "it was whole again before");
        reserve.open(|| io::Result::<()>::Err(io::ErrorKind::NotFound.into())).unwrap_err();
        assert_eq!(reserve.lock().len(), KEPT, "another error takes none");
    }
}
