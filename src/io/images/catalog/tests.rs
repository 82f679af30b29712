//! The catalog against a directory that changes, is short of places, and has private files.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
use std::ffi::CString;
use std::fs::{self, File};
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime};

use super::*;
use crate::images::fence::RootFence;
use crate::images::memory::ImageMemory;
use crate::images::workers::{DiskWorkers, JobAsker};
use crate::images::{PIECE_BYTES, clean_path_name};

struct Tree {
    directory: tempfile::TempDir,
    catalog: ImageCatalog,
}

impl Tree {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        let images =
            ImageStore::open(&directory.path().join("root"), DiskWorkers::start().unwrap())
                .unwrap();
        Self { catalog: ImageCatalog::new(&images), directory }
    }

    /// Opens the root anew.
    fn fence(&mut self, fence: RootFence) {
        let (memory, workers) = (ImageMemory::new(PIECE_BYTES), DiskWorkers::start().unwrap());
        let images = ImageStore::open_fenced(&self.path(""), fence, memory, workers).unwrap();
        self.catalog = ImageCatalog::new(&images);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("root").join(name)
    }

    /// As a core does it: at once, or by a worker whose answer the core then remembers.
    fn get(&mut self, name: &str) -> Result<ServedContent, NameRefusal> {
        match self.catalog.find(&clean_path_name(name.as_bytes()).unwrap()) {
            CatalogAnswer::Content(content) => Ok(content),
            CatalogAnswer::Directory => Err(NameRefusal::NotRegular),
            CatalogAnswer::Refused(refusal) => Err(refusal),
            CatalogAnswer::Ask(question) => {
                let (sender, receiver) = channel();
                self.catalog
                    .images()
                    .answer_on_worker(
                        JobAsker::new([10, 0, 0, 1].into(), b""),
                        question,
                        move |answer| sender.send(answer).unwrap(),
                    )
                    .unwrap();
                let content = receiver.recv().unwrap()?;
                self.catalog.remember(&content);
                Ok(content)
            }
        }
    }
}

#[test]
fn the_second_request_is_answered_on_the_core() {
    let mut tree = Tree::new();
    for (name, len) in [("small", 100), ("large", 300_000)] {
        fs::write(tree.path(name), vec![7; len]).unwrap();
        assert_eq!(tree.get(name).unwrap().len(), len as u64);
        let found = tree.catalog.find(&clean_path_name(name.as_bytes()).unwrap());
        assert!(matches!(found, CatalogAnswer::Content(_)), "{found:?}");
    }
    assert!(tree.get("small").unwrap().inline_bytes().is_some());
    assert!(tree.get("large").unwrap().inline_bytes().is_none());
}

#[test]
fn small_files_need_no_place_and_mappings_in_use_leave_no_more_than_there_are() {
    let mut tree = Tree::new();
    tree.catalog.images().limit_mappings(2);
    for name in ["a", "b", "c"] {
        fs::write(tree.path(name), vec![1; 100_000]).unwrap();
    }
    for n in 0..20 {
        fs::write(tree.path(&format!("small{n}")), vec![1; 1000]).unwrap();
    }
    let held = [tree.get("a").unwrap(), tree.get("b").unwrap()];
    assert_eq!(tree.get("c").unwrap_err(), NameRefusal::TooMany);
    let small: Vec<_> = (0..20).map(|n| tree.get(&format!("small{n}")).unwrap()).collect();
    assert_eq!((held[1].len(), small.len()), (100_000, 20));
    drop(held);
    let weak = tree.get("c").unwrap().downgrade();
    assert!(weak.upgrade().is_some(), "kept for the next");
    let _held = [tree.get("a").unwrap(), tree.get("b").unwrap()];
    assert!(weak.upgrade().is_none(), "who only knows it holds no place");
}

#[test]
fn one_translation_serves_all_who_ask_for_the_same_file() {
    let mut tree = Tree::new();
    fs::write(tree.path("text"), vec![b'\n'; 100_000]).unwrap();
    let content = tree.get("text").unwrap();
    let images = Arc::clone(tree.catalog.images());
    let asked = |n: u8| {
        images.translate_once(&content, IpAddr::from([10, 0, 0, n]), |bytes| {
            Ok([bytes, bytes].concat())
        })
    };
    let [one, two] = [asked(1).unwrap(), asked(2).unwrap()];
    assert!(Arc::ptr_eq(one.body(), two.body()) && one.is_copy());
    assert_eq!((one.len(), images.copies().usage().held), (200_000, 200_000));
    drop((one, two));
    assert_eq!(images.copies().usage().held, 0);
    let _others = images.translated.lock().unwrap();
    assert_eq!(asked(1).unwrap_err(), NameRefusal::Busy, "no worker waits for another");
}

#[test]
fn t31_a_replaced_file_is_seen_by_the_next_request_and_the_old_version_lives_on() {
    let mut tree = Tree::new();
    fs::write(tree.path("image"), vec![1; 200_000]).unwrap();
    let old = tree.get("image").unwrap();
    fs::write(tree.path("new"), vec![2; 150_000]).unwrap();
    fs::rename(tree.path("new"), tree.path("image")).unwrap();
    let new = tree.get("image").unwrap();
    assert_eq!((old.len(), new.len()), (200_000, 150_000));
    assert!(old.is_unchanged() && new.is_unchanged());
    assert_ne!(old.meta().etag, new.meta().etag);
    fs::remove_file(tree.path("image")).unwrap();
    assert_eq!(tree.get("image").unwrap_err(), NameRefusal::NotFound);
    assert!(new.is_unchanged());
}

#[test]
fn a_file_overwritten_in_place_is_no_longer_what_was_mapped() {
    let mut tree = Tree::new();
    fs::write(tree.path("image"), vec![1; 200_000]).unwrap();
    let old = tree.get("image").unwrap();
    File::options()
        .write(true)
        .open(tree.path("image"))
        .unwrap()
        .write_all_at(&[9; 10], 0)
        .unwrap();
    // The timestamp of a write may be as coarse as a kernel tick: set it, as a later write
    // would have.
    let file = File::options().write(true).open(tree.path("image")).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(1)).unwrap();
    assert!(!old.is_unchanged());
    assert!(tree.get("image").unwrap().is_unchanged());
}

#[test]
fn a_touch_changes_nothing_and_a_time_that_is_put_back_hides_nothing() {
    let mut tree = Tree::new();
    fs::write(tree.path("image"), vec![1; 200_000]).unwrap();
    let file = File::options().read(true).write(true).open(tree.path("image")).unwrap();
    let before = file.metadata().unwrap().modified().unwrap();
    let touch =
        |time| file.set_times(fs::FileTimes::new().set_accessed(time).set_modified(time)).unwrap();
    let old = tree.get("image").unwrap();
    // A kernel tick: the change time is another.
    std::thread::sleep(Duration::from_millis(20));
    touch(SystemTime::now() + Duration::from_secs(9));
    assert!(old.is_unchanged(), "touched");
    fs::rename(tree.path("image"), tree.path("other")).unwrap();
    assert!(old.is_unchanged(), "renamed");
    std::thread::sleep(Duration::from_millis(20));
    file.write_all_at(b"new", 100_000).unwrap();
    touch(before);
    assert!(!old.is_unchanged(), "written");
    let new = tree.get("other").unwrap();
    assert!(new.is_unchanged() && new.meta().etag != old.meta().etag, "{:?}", new.meta());
}

#[test]
fn a_root_that_is_switched_is_followed_whether_it_is_a_link_or_a_directory() {
    let parent = tempfile::tempdir().unwrap();
    let path = |name: &str| parent.path().join(name);
    for name in ["one", "two", "three"] {
        fs::create_dir(path(name)).unwrap();
        fs::write(path(name).join("file"), name).unwrap();
    }
    fs::write(path("two").join("private"), b"x").unwrap();
    symlink("one", path("root")).unwrap();
    let private = path("two").join("private");
    let fence = RootFence::from_private_paths(&[&private]);
    let (memory, workers) = (ImageMemory::new(1 << 30), DiskWorkers::start().unwrap());
    let images = ImageStore::open_fenced(&path("root"), fence, memory, workers).unwrap();
    let mut tree = Tree { directory: parent, catalog: ImageCatalog::new(&images) };
    let path = |tree: &Tree, name: &str| tree.directory.path().join(name);
    let serves = |tree: &mut Tree, text: &str| {
        let end = Instant::now() + Duration::from_secs(10);
        while tree.get("file").unwrap().inline_bytes().unwrap() != text.as_bytes() {
            assert!(Instant::now() < end, "{text} is never served");
        }
    };
    serves(&mut tree, "one");
    symlink("two", path(&tree, "next")).unwrap();
    fs::rename(path(&tree, "next"), path(&tree, "root")).unwrap();
    serves(&mut tree, "two");
    assert_eq!(tree.get("private").unwrap_err(), NameRefusal::Private, "the fence goes along");
    fs::rename(path(&tree, "two"), path(&tree, "old")).unwrap();
    serves(&mut tree, "two"); // for a moment there is none
    fs::rename(path(&tree, "three"), path(&tree, "two")).unwrap();
    serves(&mut tree, "three");
}

#[test]
fn a_file_cut_short_before_it_is_mapped_keeps_the_length_that_was_promised() {
    let tree = Tree::new();
    fs::write(tree.path("image"), vec![1; 200_000]).unwrap();
    let images = tree.catalog.images();
    let found = images.names.resolve_path(&clean_path_name(b"image").unwrap(), false).unwrap();
    let (file, identity) = images.open_regular(found).unwrap();
    File::options().write(true).open(tree.path("image")).unwrap().set_len(100).unwrap();
    let content = ServedContent::map(file, identity, images.memory()).unwrap();
    assert_eq!((content.len(), content.address().1), (200_000, 200_000));
    assert!(!content.is_unchanged());
}

#[test]
fn t59_links_are_followed_inside_the_root_only_and_nothing_but_files_is_opened() {
    let mut tree = Tree::new();
    fs::write(tree.path("real"), b"inside").unwrap();
    fs::write(tree.directory.path().join("secret"), b"outside").unwrap();
    symlink("real", tree.path("good")).unwrap();
    symlink("../secret", tree.path("relative")).unwrap();
    symlink(tree.directory.path().join("secret"), tree.path("absolute")).unwrap();
    symlink("/proc/self/fd/0", tree.path("magic")).unwrap();
    symlink("loop", tree.path("loop")).unwrap();
    let fifo = CString::new(tree.path("fifo").into_os_string().into_encoded_bytes()).unwrap();
    // SAFETY: the path is NUL-terminated.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o644) }, 0);
    let socket = std::os::unix::net::UnixListener::bind(tree.path("socket")).unwrap();
    assert_eq!(tree.get("good").unwrap().inline_bytes().unwrap(), &b"inside"[..]);
    for outside in ["relative", "absolute", "magic", "loop"] {
        assert_eq!(tree.get(outside).unwrap_err(), NameRefusal::OutsideRoot, "{outside}");
    }
    for odd in ["fifo", "socket"] {
        assert_eq!(tree.get(odd).unwrap_err(), NameRefusal::NotRegular, "{odd}");
    }
    assert_eq!(tree.get("").unwrap_err(), NameRefusal::NotRegular);
    assert_eq!(tree.get("real/below").unwrap_err(), NameRefusal::NotFound);
    drop(socket);
}

#[test]
fn k2_links_are_followed_wherever_they_end_under_the_root() {
    let mut tree = Tree::new();
    fs::create_dir_all(tree.path("images/el9")).unwrap();
    fs::write(tree.path("images/el9/k"), b"kernel").unwrap();
    symlink(tree.path("images/el9"), tree.path("current")).unwrap();
    symlink("../root/images/el9/k", tree.path("around")).unwrap();
    symlink(tree.path("current"), tree.path("twice")).unwrap();
    symlink(tree.path("gone"), tree.path("dangling")).unwrap();
    symlink(tree.path("circle"), tree.path("circle")).unwrap();
    // Twice each: by a worker, and then by the core with what the kernel has cached.
    for _ in 0..2 {
        for name in ["current/k", "around", "twice/k"] {
            assert_eq!(tree.get(name).unwrap().inline_bytes().unwrap(), &b"kernel"[..], "{name}");
        }
    }
    assert_eq!(tree.get("dangling").unwrap_err(), NameRefusal::NotFound);
    assert_eq!(tree.get("circle").unwrap_err(), NameRefusal::OutsideRoot);
    assert!(matches!(
        tree.catalog.images().find_waiting(&clean_path_name(b"current").unwrap()),
        CatalogAnswer::Directory
    ));
    // The link is judged by where it leads now.
    fs::remove_file(tree.path("current")).unwrap();
    fs::write(tree.directory.path().join("k"), b"outside").unwrap();
    symlink(tree.directory.path(), tree.path("current")).unwrap();
    assert_eq!(tree.get("current/k").unwrap_err(), NameRefusal::OutsideRoot);
}

#[test]
fn k2_links_lead_into_the_places_that_the_operator_allows() {
    let mut tree = Tree::new();
    let outside = tree.directory.path().canonicalize().unwrap();
    for name in ["iso/.treeinfo", "iso/private/x", "isolated/x"] {
        fs::create_dir_all(outside.join(name).parent().unwrap()).unwrap();
        fs::write(outside.join(name), b"x").unwrap();
    }
    symlink(outside.join("iso"), tree.path("iso")).unwrap();
    symlink("../isolated", tree.path("isolated")).unwrap();
    let fence = RootFence {
        links: vec![outside.join("iso")],
        private: vec![outside.join("iso/private")],
        ..RootFence::default()
    };
    tree.fence(fence);
    for _ in 0..2 {
        assert_eq!(tree.get("iso/.treeinfo").unwrap().len(), 1);
        assert_eq!(tree.get("iso/private/x").unwrap_err(), NameRefusal::Private);
        assert_eq!(tree.get("isolated/x").unwrap_err(), NameRefusal::OutsideRoot);
        assert_eq!(tree.get("iso/none").unwrap_err(), NameRefusal::NotFound);
    }
}

/// A link is no way around the names that the server hides.
#[test]
fn k1_hidden_names_stay_hidden_behind_links() {
    let mut tree = Tree::new();
    let outside = tree.directory.path().canonicalize().unwrap().join("iso");
    for directory in [tree.path(".git"), outside.join(".ssh"), tree.path("el9/.disk")] {
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("info"), b"x").unwrap();
    }
    symlink(".git", tree.path("pub")).unwrap();
    symlink(".git/info", tree.path("link")).unwrap();
    symlink(tree.path(".git"), tree.path("absolute")).unwrap();
    symlink(outside.join(".ssh"), tree.path("key")).unwrap();
    symlink("el9/.disk", tree.path("disk")).unwrap();
    let fence = RootFence { links: vec![outside], ..RootFence::default() };
    tree.fence(fence);
    for _ in 0..2 {
        for name in ["pub/info", "link", "absolute/info", "key/info", "pub"] {
            assert_eq!(tree.get(name).unwrap_err(), NameRefusal::Hidden, "{name}");
        }
        assert_eq!(tree.get("disk/info").unwrap().len(), 1);
    }
}

/// An editor puts new files in the place of the configuration all the time: no look finds one.
#[test]
fn a_configuration_that_is_replaced_during_a_look_is_never_served() {
    let mut tree = Tree::new();
    fs::write(tree.path("conf.toml"), b"secret").unwrap();
    symlink("conf.toml", tree.path("link")).unwrap();
    let fence = RootFence::from_private_paths(&[&tree.path("conf.toml")]);
    tree.fence(RootFence { only_world_readable: false, ..fence });
    let paths = ["conf.toml", "link"].map(|name| clean_path_name(name.as_bytes()).unwrap());
    let (images, is_over) = (tree.catalog.images(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                fs::write(tree.path("new"), b"secret").unwrap();
                fs::rename(tree.path("new"), tree.path("conf.toml")).unwrap();
            }
        });
        for path in paths.iter().cycle().take(20_000) {
            let found = images.read_whole(path);
            if let Ok((bytes, _)) = found {
                is_over.store(true, Ordering::Relaxed);
                panic!("{} bytes of the configuration", bytes.len());
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_is_private_stays_private_when_the_root_moves_or_is_switched() {
    let mut tree = Tree::new();
    for version in ["v1", "v2"] {
        fs::create_dir_all(tree.path(version).join("state")).unwrap();
        fs::write(tree.path(version).join("state/db"), b"x").unwrap();
        fs::write(tree.path(version).join("conf.toml"), b"x").unwrap();
        fs::write(tree.path(version).join("k"), version).unwrap();
    }
    symlink("v1", tree.path("cur")).unwrap();
    let private = [tree.path("cur/conf.toml"), tree.path("cur/state")];
    let fence = RootFence::from_private_paths(&private.each_ref().map(PathBuf::as_path));
    let memory = ImageMemory::new(PIECE_BYTES);
    let workers = DiskWorkers::start().unwrap();
    let fence = RootFence { only_world_readable: false, ..fence };
    let images = ImageStore::open_fenced(&tree.path("cur"), fence, memory, workers).unwrap();
    tree.catalog = ImageCatalog::new(&images);
    let is_private = |images: &Arc<ImageStore>| {
        for name in ["conf.toml", "state/db", "state"] {
            let path = clean_path_name(name.as_bytes()).unwrap();
            assert!(
                matches!(images.find_waiting(&path), CatalogAnswer::Refused(NameRefusal::Private)),
                "{name}"
            );
        }
    };
    is_private(&images);
    fs::rename(tree.path("v1"), tree.path("old")).unwrap();
    is_private(&images);
    fs::remove_file(tree.path("cur")).unwrap();
    symlink("v2", tree.path("cur")).unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while tree.get("k").unwrap().inline_bytes().unwrap() != &b"v2"[..] {
        assert!(Instant::now() < until, "the root is looked up ten times a second");
    }
    is_private(&images);
}

/// A directory on the way is exchanged all the time for a link to the outside: no look finds a file
/// outside.
#[test]
fn k2_a_name_that_is_renamed_during_a_look_never_leads_out() {
    let tree = Tree::new();
    let outside = tree.directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("k"), b"outside").unwrap();
    fs::create_dir_all(tree.path("a")).unwrap();
    fs::write(tree.path("a/k"), b"in").unwrap();
    symlink(tree.path("a"), tree.path("absolute")).unwrap();
    symlink(&outside, tree.path("b")).unwrap();
    let (path, images) = (clean_path_name(b"absolute/k").unwrap(), tree.catalog.images());
    let is_over = AtomicBool::new(false);
    let (mut inside, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for (from, to) in [("a", "c"), ("b", "a"), ("a", "b"), ("c", "a")] {
                    fs::rename(tree.path(from), tree.path(to)).unwrap();
                }
            }
        });
        let until = Instant::now() + Duration::from_secs(30);
        while (inside < 200 || refused < 200) && Instant::now() < until {
            match images.read_whole(&path) {
                Ok((bytes, _)) => {
                    assert_eq!(bytes, b"in");
                    inside += 1;
                }
                Err(NameRefusal::OutsideRoot | NameRefusal::NotFound) => refused += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(inside >= 200 && refused >= 200, "{inside} inside, {refused} refused");
}

#[test]
fn t60_a_name_is_found_without_regard_to_case_where_only_one_fits() {
    let tree = Tree::new();
    fs::create_dir(tree.path("Boot")).unwrap();
    fs::write(tree.path("Boot/BCD"), b"x").unwrap();
    fs::write(tree.path("Boot/Twice"), b"x").unwrap();
    fs::write(tree.path("Boot/tWICE"), b"x").unwrap();
    let images = tree.catalog.images();
    let found = images.find_ignoring_case(&clean_path_name(b"boot/bcd").unwrap()).unwrap();
    assert_eq!(found.as_bytes(), b"Boot/BCD");
    assert_eq!(images.find_ignoring_case(&clean_path_name(b"boot/twice").unwrap()), None);
    assert_eq!(images.find_ignoring_case(&clean_path_name(b"boot/none").unwrap()), None);
}

#[test]
fn a_removed_file_is_let_go_when_its_last_transfer_has_ended() {
    let mut tree = Tree::new();
    fs::write(tree.path("image"), vec![1; 200_000]).unwrap();
    let content = tree.get("image").unwrap();
    fs::remove_file(tree.path("image")).unwrap();
    tree.catalog.images().sweep();
    assert_eq!(tree.catalog.images().lock_loaded().len(), 1, "a transfer holds it");
    drop(content);
    tree.catalog.images().sweep();
    assert_eq!(tree.catalog.images().lock_loaded().len(), 0);
}

fn fenced(private: &[&str], borrowed: &[(&str, PathBuf)], only_world_readable: bool) -> Tree {
    let mut tree = Tree::new();
    let root = tree.path("");
    for directory in private.iter().filter(|name| name.ends_with('/')) {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    let paths: Vec<PathBuf> = private.iter().map(|name| root.join(name)).collect();
    let mut fence =
        RootFence::from_private_paths(&paths.iter().map(PathBuf::as_path).collect::<Vec<_>>());
    fence.only_world_readable = only_world_readable;
    fence.borrowed = borrowed
        .iter()
        .map(|(name, path)| (clean_path_name(name.as_bytes()).unwrap(), path.clone()))
        .collect();
    let memory = ImageMemory::new(PIECE_BYTES);
    let images = ImageStore::open_fenced(&root, fence, memory, DiskWorkers::start().unwrap());
    tree.catalog = ImageCatalog::new(&images.unwrap());
    tree
}

#[test]
fn configuration_and_state_are_never_served_not_even_through_links() {
    let mut tree = fenced(&["ringboot.toml", "state/"], &[], false);
    for name in ["ringboot.toml", "state/ringboot.db", "ringboot.toml.old", "statement"] {
        fs::write(tree.path(name), b"x").unwrap();
    }
    symlink("ringboot.toml", tree.path("link")).unwrap();
    symlink("state", tree.path("alias")).unwrap();
    // Twice each: by a worker, and then by the core with what the kernel has cached.
    for _ in 0..2 {
        for name in
            ["ringboot.toml", "link", "state/ringboot.db", "alias/ringboot.db", "state", "alias"]
        {
            assert_eq!(tree.get(name).unwrap_err(), NameRefusal::Private, "{name}");
        }
        for name in ["ringboot.toml.old", "statement"] {
            assert_eq!(tree.get(name).unwrap().len(), 1, "{name}");
        }
    }
    fs::rename(tree.path("ringboot.toml.old"), tree.path("ringboot.toml")).unwrap();
    assert_eq!(
        tree.get("ringboot.toml").unwrap_err(),
        NameRefusal::Private,
        "an editor puts a new file in its place"
    );
    assert_eq!(
        tree.catalog.images().list_directory(&clean_path_name(b"state").unwrap()).unwrap_err(),
        NameRefusal::Private
    );
}

#[test]
fn s73_a_process_of_root_serves_only_what_everybody_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let mut tree = fenced(&[], &[], true);
    fs::write(tree.path("secret"), b"x").unwrap();
    fs::set_permissions(tree.path("secret"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(tree.get("secret").unwrap_err(), NameRefusal::Unreadable);
    assert!(NameRefusal::Unreadable.to_string().contains("chmod o+r"));
    let whole = tree.catalog.images().read_whole(&clean_path_name(b"secret").unwrap());
    assert_eq!(whole.unwrap_err(), NameRefusal::Unreadable);
    fs::set_permissions(tree.path("secret"), fs::Permissions::from_mode(0o604)).unwrap();
    assert_eq!(tree.get("secret").unwrap().len(), 1);
    // Known to the core by now: taking the right away counts at the next request all the same.
    fs::set_permissions(tree.path("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(tree.get("secret").unwrap_err(), NameRefusal::Unreadable);
}

#[test]
fn a_borrowed_file_is_served_under_its_name_until_the_root_has_one() {
    let package = tempfile::tempdir().unwrap();
    fs::write(package.path().join("pxelinux.0"), b"package").unwrap();
    fs::write(package.path().join("other"), b"x").unwrap();
    let borrowed = [("boot/pxelinux.0", package.path().join("pxelinux.0"))];
    let mut tree = fenced(&[], &borrowed, false);
    assert_eq!(tree.get("boot/pxelinux.0").unwrap().len(), 7);
    assert_eq!(
        tree.get("boot/other").unwrap_err(),
        NameRefusal::NotFound,
        "one file, never its directory"
    );
    assert_eq!(tree.get("pxelinux.0").unwrap_err(), NameRefusal::NotFound);
    fs::create_dir(tree.path("boot")).unwrap();
    symlink("gone", tree.path("boot/pxelinux.0")).unwrap();
    assert_eq!(tree.get("boot/pxelinux.0").unwrap().len(), 7, "a link that leads nowhere");
    fs::remove_file(tree.path("boot/pxelinux.0")).unwrap();
    fs::write(tree.path("boot/pxelinux.0"), b"mine").unwrap();
    assert_eq!(tree.get("boot/pxelinux.0").unwrap().len(), 4);
}

#[test]
fn pieces_are_asked_for_until_a_worker_has_made_them_resident() {
    let mut tree = Tree::new();
    let file = File::create(tree.path("big")).unwrap();
    file.set_len(2 * PIECE_BYTES + 10).unwrap();
    let content = tree.get("big").unwrap();
    content.populate(content.missing(&(0..1)).unwrap());
    assert_eq!(content.missing(&(0..PIECE_BYTES)), None);
    let second = content.missing(&(PIECE_BYTES..PIECE_BYTES + 1)).unwrap();
    assert_eq!(content.next_missing(&(0..PIECE_BYTES)), Some(second));
    assert_eq!(content.claim_next_missing(&(0..PIECE_BYTES)), Some(second));
    assert_eq!(content.claim_next_missing(&(0..PIECE_BYTES)), None, "once is enough");
    content.populate(second);
    assert_eq!(content.missing(&(0..2 * PIECE_BYTES)), None);
    let last = content.missing(&(0..content.len())).unwrap();
    content.populate(last);
    assert_eq!(content.missing(&(0..content.len())), None);
    assert_eq!(content.next_missing(&(0..content.len())), None);
}
