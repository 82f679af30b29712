//! The memory of images under budgets that are too small.
#![allow(clippy::unwrap_used)]
use std::fs::{self, File};
use std::sync::mpsc::RecvTimeoutError;

use super::*;
use crate::images::{DiskWorkers, ImageStore, PieceUrgency, ServedContent, clean_path_name};

const PATIENCE: Duration = Duration::from_secs(30);

struct Tree {
    directory: tempfile::TempDir,
    images: Arc<ImageStore>,
}

impl Tree {
    /// Sparse files `0`, `1`, ... of so many pieces each, in this memory.
    fn new(memory: Arc<ImageMemory>, files: &[u64]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, pieces) in files.iter().enumerate() {
            let file = File::create(directory.path().join(name.to_string())).unwrap();
            file.set_len(pieces * PIECE_BYTES).unwrap();
        }
        let fence = crate::images::RootFence::default();
        let images =
            ImageStore::open_fenced(directory.path(), fence, memory, DiskWorkers::start().unwrap())
                .unwrap();
        Self { directory, images }
    }

    fn content(&self, name: &str) -> ServedContent {
        match self.images.find_waiting(&clean_path_name(name.as_bytes()).unwrap()) {
            crate::images::CatalogAnswer::Content(content) => content,
            other => unreachable!("{other:?}"),
        }
    }
}

fn piece(number: u64) -> Range<u64> {
    number * PIECE_BYTES..number * PIECE_BYTES + 1
}

/// As a core and a worker do it together.
fn get(content: &ServedContent, range: &Range<u64>) {
    while let Some(missing) = content.missing(range) {
        content.populate(missing);
    }
}

/// Whether the kernel holds this piece for us: the flag `lo` of proc_pid_smaps(5).
fn is_locked(content: &ServedContent, number: u64) -> bool {
    let at = content.address().0 as u64 + number * PIECE_BYTES;
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut is_here = false;
    for line in smaps.lines() {
        let bounds = line.split(' ').next().unwrap().split_once('-');
        let hex = |text| u64::from_str_radix(text, 16).ok();
        if let Some((start, end)) = bounds.and_then(|(start, end)| hex(start).zip(hex(end))) {
            is_here = (start..end).contains(&at);
        } else if is_here && let Some(flags) = line.strip_prefix("VmFlags:") {
            return flags.split(' ').any(|flag| flag == "lo");
        }
    }
    unreachable!("the mapping is in smaps")
}

fn assert_may_lock(bytes: u64) {
    let may = crate::images::raise_locked_memory(bytes).unwrap() >= bytes
        || crate::images::may_lock_memory(bytes, true);
    assert!(
        may,
        "this test locks memory: run it as root or with `ulimit -l unlimited`, as tests/run.sh \
         does"
    );
}

#[test]
fn the_least_recently_used_piece_is_unlocked_when_the_budget_is_spent() {
    assert_may_lock(3 * PIECE_BYTES);
    let tree = Tree::new(ImageMemory::new(3 * PIECE_BYTES), &[4, 2]);
    let (first, second) = (tree.content("0"), tree.content("1"));
    for number in 0..3 {
        get(&first, &piece(number));
    }
    assert!((0..3).all(|number| is_locked(&first, number)) && !is_locked(&first, 3));
    let made = Instant::now();
    while made.elapsed() <= PIECE_HELD {
        std::thread::yield_now(); // until each of them may go
    }
    get(&first, &piece(0)); // used again: piece 1 is now the oldest
    get(&second, &piece(0));
    assert_eq!(first.missing(&piece(0)), None);
    assert!(first.missing(&piece(1)).is_some() && !is_locked(&first, 1));
    assert!(is_locked(&first, 0) && is_locked(&first, 2) && is_locked(&second, 0));
    get(&second, &piece(1));
    assert!(
        first.missing(&piece(2)).is_some() && !is_locked(&first, 2),
        "piece 0 was used after it"
    );
    get(&first, &piece(1));
    assert!(is_locked(&first, 1), "what went is asked for again and comes back");
    let usage = tree.images.memory().usage();
    assert_eq!((usage.resident, usage.unlocked, usage.evictions), (3 * PIECE_BYTES, 0, 3));
}

#[test]
fn what_is_read_once_pushes_out_nothing_that_is_asked_for_again_and_again() {
    let tree = Tree::new(ImageMemory::new(4 * PIECE_BYTES), &[2, 60]);
    let (image, huge) = (tree.content("0"), tree.content("1"));
    for number in 0..2 {
        get(&image, &piece(number));
    }
    get(&huge, &piece(0));
    assert_eq!(image.missing(&(0..image.len())), None, "asked for again");
    for number in 1..10 {
        let made = Instant::now();
        get(&huge, &piece(number));
        assert_eq!(image.missing(&(0..image.len())), None, "after piece {number}");
        while made.elapsed() <= PIECE_HELD {
            std::thread::yield_now();
        }
    }
    // Nobody asks for it any more: it makes room in the end.
    for number in 10..40 {
        get(&huge, &piece(number));
    }
    assert!(image.missing(&piece(0)).is_some() && image.missing(&piece(1)).is_some());
}

#[test]
fn a_mapping_that_goes_gives_its_memory_back() {
    let tree = Tree::new(ImageMemory::new(8 * PIECE_BYTES), &[2]);
    let content = tree.content("0");
    get(&content, &(0..content.len()));
    assert_eq!(tree.images.memory().usage().resident, 2 * PIECE_BYTES);
    fs::remove_file(tree.directory.path().join("0")).unwrap();
    drop(content);
    tree.images.sweep();
    assert_eq!(tree.images.memory().usage().resident, 0);
}

#[test]
fn a_file_cut_short_costs_no_signal_and_nobody_waits_for_what_is_gone() {
    let tree = Tree::new(ImageMemory::new(2 * PIECE_BYTES), &[4]);
    let content = tree.content("0");
    get(&content, &piece(0));
    File::options()
        .write(true)
        .open(tree.directory.path().join("0"))
        .unwrap()
        .set_len(10_000)
        .unwrap();
    for number in (0..4).rev() {
        get(&content, &piece(number));
    }
    assert!(!content.is_unchanged(), "and the transfer ends with an error");
}

/// Ranges of a window's size, some of which touch two pieces, against a budget of two pieces:
/// each transfer could push out what another has waited for.
#[test]
fn eight_transfers_get_through_a_budget_of_two_pieces() {
    const RANGE: u64 = 1_500_000;
    let tree = Tree::new(ImageMemory::new(2 * PIECE_BYTES), &[4, 4, 4]);
    let (done, is_done) = channel();
    for transfer in 0..8 {
        let (content, workers) =
            (tree.content(&(transfer % 3).to_string()), tree.images.workers().clone());
        let done = done.clone();
        std::thread::spawn(move || {
            let mut start = 0;
            while start < content.len() {
                let range = start..(start + RANGE).min(content.len());
                while let Some(piece) = content.missing(&range) {
                    let (asked, (letter, answered)) = (content.clone(), channel());
                    let job = move || {
                        asked.populate(piece);
                        letter.send(()).unwrap();
                    };
                    workers.submit_read(PieceUrgency::InTurn, job).unwrap();
                    answered.recv().unwrap();
                }
                start = range.end;
            }
            done.send(transfer).unwrap();
        });
    }
    drop(done);
    for finished in 0..8 {
        let answer: Result<usize, RecvTimeoutError> = is_done.recv_timeout(PATIENCE);
        assert!(answer.is_ok(), "only {finished} transfers of 8 have finished");
    }
    let usage = tree.images.memory().usage();
    assert!(usage.resident <= 2 * PIECE_BYTES && usage.evictions >= 10, "{usage:?}");
}

#[test]
fn a_range_larger_than_the_budget_is_made_when_nothing_else_is_held() {
    let tree = Tree::new(ImageMemory::new(PIECE_BYTES), &[4]);
    let content = tree.content("0");
    get(&content, &piece(3));
    let wide = PIECE_BYTES / 2..5 * PIECE_BYTES / 2;
    content.populate(content.missing(&wide).unwrap());
    assert_eq!(content.missing(&wide), None);
    assert!(content.missing(&piece(3)).is_some());
}

#[test]
fn a_piece_that_cannot_be_locked_is_forgotten_unless_it_is_used() {
    let memory = ImageMemory::of(4 * PIECE_BYTES, false);
    memory.has_keeper.store(true, Ordering::Relaxed); // this test is the keeper
    let tree = Tree::new(Arc::clone(&memory), &[2]);
    let content = tree.content("0");
    get(&content, &(0..content.len()));
    assert!(!is_locked(&content, 0));
    assert_eq!(memory.usage().unlocked, 2 * PIECE_BYTES);
    let later = |checks| Instant::now() + checks * UNLOCKED_CHECKED;
    memory.check_unlocked(Instant::now());
    assert_eq!(memory.usage().unlocked, 2 * PIECE_BYTES, "just made");
    assert_eq!(content.missing(&piece(1)), None); // used
    memory.check_unlocked(later(2));
    assert!(content.missing(&piece(0)).is_some());
    assert_eq!(memory.usage().unlocked, PIECE_BYTES);
    memory.check_unlocked(later(3));
    assert!(content.missing(&piece(1)).is_some(), "not used since");
    assert_eq!((memory.usage().resident, memory.usage().expired), (0, 2));
}
