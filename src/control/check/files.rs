//! The files that a configuration names: there, readable, of the right kind, and none that should
//! not be served.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{CheckFinding, Reader, Subject};
use crate::boot::loaders::{ARCHITECTURES, KITS, name_loader_packages};
use crate::boot::names::parse_menu_name;
use crate::boot::pe::{BootProgram, PeMachine, image_fault};
use crate::config::{self, Config};
use crate::control::loaders;
use crate::images::{CleanPath, canonical, clean, without_prefix};

/// Directories that hold more than boot files on every box. Their children are fine:
/// /var/lib/tftpboot, /home/x/netboot.
const NEVER_ROOTS: [&str; 5] = ["/", "/etc", "/root", "/home", "/var"];

/// What is wrong with the root itself: with any of it nothing under it is looked at.
pub(super) fn wrong_root(subject: Subject<'_>) -> Option<CheckFinding> {
    let Subject { config, reader, .. } = subject;
    let wrong = unfit_root(config).or_else(|| closed_root(config, reader));
    wrong.map(|finding| finding.at(config.places.root(&config.root)))
}

pub(super) fn unfit_root(config: &Config) -> Option<CheckFinding> {
    let shown = config.root.display();
    match fs::metadata(&config.root) {
        Err(error) => {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => {
                    format!("`mkdir -p {shown}` makes it; `root` or --root names another")
                }
                _ => "name a directory with `root` or --root".to_owned(),
            };
            return Some(CheckFinding::fatal(format!("opening the root {shown}: {error}"), hint));
        }
        Ok(found) if !found.is_dir() => {
            return Some(CheckFinding::fatal(
                format!("the root {shown} is not a directory"),
                "name the directory above it",
            ));
        }
        Ok(_) => {}
    }
    let real = canonical(&config.root);
    let hint = "name a directory of its own, such as /srv/netboot: all that is in it can be read \
                by everybody on the network";
    if NEVER_ROOTS.iter().any(|never| real == Path::new(never)) {
        return Some(CheckFinding::fatal(
            format!("the root {shown} would expose this machine ({})", real.display()),
            hint,
        ));
    }
    if real == canonical(&config.state) {
        return Some(CheckFinding::fatal(
            format!("the root {shown} is the state directory too"),
            hint,
        ));
    }
    None
}

/// The root, where the user that serves it cannot even pass: nothing under it is in his reach.
fn closed_root(config: &Config, reader: Reader) -> Option<CheckFinding> {
    let root = &config.root;
    let within = canonical(root).join("a file");
    let Some(closed) = closed(&within, reader) else {
        // The service passes, and whoever asks does not.
        let shut = closed_to_caller(&within).filter(|_| matches!(reader, Reader::User { .. }))?;
        let what = format!(
            "the root {} was not looked at: {} is closed to you",
            root.display(),
            shut.display()
        );
        return Some(CheckFinding::warning(
            what,
            "ask as root, or a running server (GET /v1/check)",
        ));
    };
    let what = format!(
        "the root {} may not be read by the service: {} is closed to it",
        root.display(),
        closed.display()
    );
    Some(CheckFinding::fatal(what, format!("chmod o+x {}", closed.display())))
}

pub(super) fn loaders(subject: Subject<'_>) -> Vec<CheckFinding> {
    let named = loaders::keys(&subject.config.snapshot.dhcp.boot).into_iter();
    let of_ours =
        named.filter_map(|(key, value)| Some((key, value.filter(|value| !value.contains("://"))?)));
    let wrong = of_ours.flat_map(|(key, name)| {
        let place = subject.config.places.boot(key);
        let place = Some(place).filter(|place| !place.path.is_empty());
        loader(subject, key, name).into_iter().map(move |finding| finding.at(place.clone()))
    });
    wrong.collect()
}

fn loader(subject: Subject<'_>, key: &str, name: &str) -> Vec<CheckFinding> {
    let what = format!("[boot] {key} = {name:?}");
    let path = match locate(subject, name) {
        Place::File(path) => path,
        Place::MadeOnRequest => return Vec::new(),
        Place::Nowhere if is_of_another_host(subject, name) => {
            return vec![CheckFinding::note(format!(
                "{what} is not under the root: a package may have it on that host"
            ))];
        }
        Place::Nowhere => {
            return vec![CheckFinding::error(
                format!("{what} names no file under the root"),
                missing_hint(key, name),
            )];
        }
    };
    if let Some(finding) = unreadable(&what, &path, subject.reader) {
        return vec![finding];
    }
    let wrong = match loaders::program(&path) {
        Ok(program) => wrong_kind(key, name, program).map(|(kind, hint)| {
            CheckFinding::error(format!("{what} is {kind} ({})", path.display()), hint)
        }),
        Err(error) => {
            Some(CheckFinding::error(format!("{what}: reading {}: {error}", path.display()), ""))
        }
    };
    wrong.into_iter().chain(lonely(subject, key, name)).collect()
}

fn is_of_another_host(subject: Subject<'_>, name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    let mut loaders = KITS.iter().flat_map(|kit| kit.loaders);
    matches!(subject.reader, Reader::Elsewhere { .. }) && loaders.any(|(loader, _)| *loader == file)
}

/// A file that the menu names.
struct Named<'a> {
    what: String,
    name: &'a str,
    place: Option<config::Place>,
}

/// Kernels, initial disks, and what a menu shows.
pub(super) fn menu(subject: Subject<'_>) -> Vec<CheckFinding> {
    let Some(menu) = &subject.config.snapshot.menu else { return Vec::new() };
    let places = &subject.config.places;
    let mut named: Vec<Named<'_>> = Vec::new();
    for entry in &menu.entries {
        let kernel = ("kernel", entry.kernel.as_str());
        let initrds = entry.initrds.iter().map(|initrd| ("initrd", initrd.as_str()));
        named.extend(std::iter::once(kernel).chain(initrds).map(|(key, name)| Named {
            what: format!("{key} of the entry `{}`", entry.label),
            name,
            place: places.entry(&entry.label, key, name),
        }));
    }
    let pictures =
        [("background", menu.background.as_deref()), ("display", menu.display.as_deref())];
    named.extend(pictures.into_iter().filter_map(|(key, name)| {
        Some(Named { what: format!("[menu] {key}"), name: name?, place: places.key("menu", key) })
    }));
    let of_ours = named.into_iter().filter(|named| !named.name.contains("://"));
    of_ours.filter_map(|named| Some(menu_file(subject, &named)?.at(named.place))).collect()
}

fn menu_file(subject: Subject<'_>, Named { what, name, .. }: &Named<'_>) -> Option<CheckFinding> {
    match locate(subject, name) {
        Place::File(path) => unreadable(what, &path, subject.reader)
            .or_else(|| wrong_image(what, &path, what.starts_with("kernel"))),
        Place::MadeOnRequest => None,
        Place::Nowhere => {
            let what =
                format!("{what}: there is no {name} under {}", subject.config.root.display());
            Some(CheckFinding::error(what, "put the file there, or correct the name"))
        }
    }
}

/// A kernel or an initial disk that is something else by its first bytes.
fn wrong_image(what: &str, path: &Path, is_kernel: bool) -> Option<CheckFinding> {
    let wrong = match loaders::head(path) {
        Ok(head) => image_fault(&head, is_kernel)?,
        Err(error) => {
            return Some(CheckFinding::error(
                format!("{what}: reading {}: {error}", path.display()),
                "",
            ));
        }
    };
    let hint = "an error page or an aborted download was saved in its place: fetch it again";
    Some(CheckFinding::error(format!("{what} is {wrong} ({})", path.display()), hint))
}

/// Where a name leads.
enum Place {
    File(PathBuf),
    /// A template or a menu: there is no such file, and none is needed.
    MadeOnRequest,
    Nowhere,
}

/// As the shelf looks: the root, what packages lend, templates, menus; then again without an old
/// prefix.
fn locate(subject: Subject<'_>, name: &str) -> Place {
    let Ok(path) = clean(name.as_bytes()) else { return Place::Nowhere };
    let prefixes = subject
        .config
        .tftp
        .strip_prefixes
        .iter()
        .filter_map(|prefix| clean(prefix.as_bytes()).ok());
    let stripped = without_prefix(&path, &prefixes.collect::<Vec<_>>());
    for path in [Some(path), stripped].into_iter().flatten() {
        let under_root = |path: &CleanPath| subject.config.root.join(&*path.display());
        if under_root(&path).is_file() {
            return Place::File(under_root(&path));
        }
        if let Some(borrowed) = subject.borrowed.files.get(&path) {
            return Place::File(borrowed.clone());
        }
        let is_menu =
            subject.config.snapshot.menu.is_some() && parse_menu_name(path.as_bytes()).is_some();
        if is_menu || under_root(&path.with_suffix(".j2")).is_file() {
            return Place::MadeOnRequest;
        }
    }
    Place::Nowhere
}

pub(super) fn unreadable(what: &str, path: &Path, reader: Reader) -> Option<CheckFinding> {
    const READ: u32 = 0o4;
    let found = fs::metadata(path).ok()?;
    let refused = match reader {
        Reader::Caller => {
            fs::File::open(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        }
        Reader::Root => found.mode() & READ == 0,
        Reader::User { uid, gid } => !may(READ, &found, uid, gid),
        Reader::Elsewhere { .. } => false,
    };
    let shown = path.display();
    if refused {
        let what = format!("{what}: {shown} may not be read by the service");
        return Some(CheckFinding::error(what, format!("chmod o+r {shown}")));
    }
    let real = canonical(path);
    let closed = closed(&real, reader)?.display();
    let what = format!("{what}: {shown} may not be read by the service: {closed} is closed to it");
    Some(CheckFinding::error(what, format!("chmod o+x {closed}")))
}

/// The first directory above a file that whoever serves cannot pass. Root passes all.
fn closed(path: &Path, reader: Reader) -> Option<&Path> {
    const PASS: u32 = 0o1;
    let (uid, gid) = match reader {
        Reader::User { uid, gid } => (uid, gid),
        Reader::Caller => return closed_to_caller(path),
        Reader::Root | Reader::Elsewhere { .. } => return None,
    };
    from_the_top(path)
        .find(|directory| fs::metadata(directory).is_ok_and(|found| !may(PASS, &found, uid, gid)))
}

/// The first directory above a file that this process cannot pass.
fn closed_to_caller(path: &Path) -> Option<&Path> {
    let refuses = |error: io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    from_the_top(path).find(|directory| fs::metadata(directory.join(".")).is_err_and(refuses))
}

fn from_the_top(path: &Path) -> impl Iterator<Item = &Path> {
    let above: Vec<&Path> = path.ancestors().skip(1).collect();
    above.into_iter().rev()
}

/// Whether this user, who is in no other group, has one of the three rights of a mode: of the
/// owner's, of the group's, or of everybody else's digit, and of no other (path_resolution(7)).
pub(super) fn may(right: u32, found: &fs::Metadata, uid: u32, gid: u32) -> bool {
    let digit = match (uid == found.uid(), gid == found.gid()) {
        (true, _) => 6,
        (false, true) => 3,
        (false, false) => 0,
    };
    found.mode() >> digit & right != 0
}

/// What a file is that cannot be what its key asks for, and what to do.
fn wrong_kind(key: &str, name: &str, program: BootProgram) -> Option<(String, &'static str)> {
    let wanted = match key {
        "uefi-x64" => PeMachine::X64,
        "uefi-ia32" => PeMachine::Ia32,
        "uefi-arm64" => PeMachine::Arm64,
        "uefi-http" if name.ends_with(".efi") => {
            let is_fine = matches!(program, BootProgram::Efi { is_application: true, .. });
            return (!is_fine)
                .then(|| (program.describe(), "UEFI HTTP Boot starts UEFI programs (.efi)"));
        }
        "bios" => {
            let is_fine = program == BootProgram::Raw;
            return (!is_fine).then(|| {
                (
                    program.describe(),
                    "BIOS machines start raw boot programs, such as pxelinux.0 or undionly.kpxe",
                )
            });
        }
        _ => return None,
    };
    let is_fine = matches!(program, BootProgram::Efi { machine, is_application: true, .. } if machine == wanted);
    (!is_fine)
        .then(|| (program.describe(), "name a UEFI program that was built for this architecture"))
}

/// A loader without the file that it cannot do without.
fn lonely(subject: Subject<'_>, key: &str, name: &str) -> Option<CheckFinding> {
    let path = clean(name.as_bytes()).ok()?;
    let file = String::from_utf8_lossy(path.file_name()).into_owned();
    let kit = KITS.iter().find(|kit| kit.loaders.iter().any(|(loader, _)| *loader == file))?;
    let (needed, _) = kit.companions.first()?;
    let beside = path.sibling(needed).display().into_owned();
    if !matches!(locate(subject, &beside), Place::Nowhere) {
        return None;
    }
    let what =
        format!("[boot] {key}: {name} loads {needed} from its own directory, and there is none");
    Some(CheckFinding::warning(
        what,
        format!(
            "put {needed} of the same version beside it; packages: {}",
            name_loader_packages(kit.arch)
        ),
    ))
}

fn missing_hint(key: &str, name: &str) -> String {
    if clean(name.as_bytes()).is_ok_and(|path| parse_menu_name(path.as_bytes()).is_some()) {
        return "this name is rendered from the menu: write a [menu], which may be empty, or put a \
                file there"
            .to_owned();
    }
    match ARCHITECTURES.iter().find(|(known, _)| *known == key) {
        Some((_, arch)) => format!(
            "put it there, or install a package that has it: {}. `ringboot loader list` shows what \
             is found here",
            name_loader_packages(*arch)
        ),
        None => {
            "put it there, or correct the name; `ringboot loader list` shows what is found here"
                .to_owned()
        }
    }
}
