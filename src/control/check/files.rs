//! Checks the root and the files that a configuration names: they exist, the server may read them,
//! they are of the right kind, and the root exposes nothing else.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{CheckFinding, CheckSubject, FileReader};
use crate::boot::loaders::{ARCHITECTURES, KITS, name_loader_packages};
use crate::boot::names::{MenuName, parse_menu_name};
use crate::boot::pe::{BootProgram, PeMachine, image_fault};
use crate::config::{self, Config};
use crate::control::loaders;
use crate::images::{
    CleanPath, NameRefusal, NameResolver, NameTarget, clean_path_name, resolve_links,
    strip_path_prefix,
};
use crate::template;

/// Directories with more than boot files on every machine. Their children are fine:
/// /var/lib/tftpboot, /home/x/netboot.
const NEVER_ROOTS: [&str; 5] = ["/", "/etc", "/root", "/home", "/var"];

/// A fault of the root itself; with one nothing under the root is checked.
pub(super) fn find_wrong_root(subject: CheckSubject<'_>) -> Option<CheckFinding> {
    let CheckSubject { config, reader, .. } = subject;
    let wrong = find_unfit_root(config).or_else(|| find_closed_root(config, reader));
    wrong.map(|finding| finding.at_position(config.places.find_root(&config.root)))
}

/// A root that does not exist, is no directory, or would expose the machine.
pub(super) fn find_unfit_root(config: &Config) -> Option<CheckFinding> {
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

    // A link may lead to one of these directories, so the place behind it is compared.
    let real = resolve_links(&config.root);
    let hint = "name a directory of its own, such as /srv/netboot: every host on the network can \
                read what is in it";
    if NEVER_ROOTS.iter().any(|never| real == Path::new(never)) {
        return Some(CheckFinding::fatal(
            format!("the root {shown} would expose this machine ({})", real.display()),
            hint,
        ));
    }
    if real == resolve_links(&config.state) {
        return Some(CheckFinding::fatal(
            format!("the root {shown} is the state directory too"),
            hint,
        ));
    }
    None
}

/// A root that the service user cannot enter, so that it can serve nothing.
fn find_closed_root(config: &Config, reader: FileReader) -> Option<CheckFinding> {
    let root = &config.root;
    let within = resolve_links(root).join("a file");
    let Some(closed) = find_closed_directory(&within, reader) else {
        // The service may enter, but the user who runs `check` may not.
        let shut =
            find_closed_to_caller(&within).filter(|_| matches!(reader, FileReader::User { .. }))?;
        let what = format!(
            "the root {} was not checked: {} is closed to you",
            root.display(),
            shut.display()
        );
        return Some(CheckFinding::warning(
            what,
            "run this command as root, or ask a running server (GET /v1/check)",
        ));
    };
    let what = format!(
        "the root {} may not be read by the service: {} is closed to it",
        root.display(),
        closed.display()
    );
    Some(CheckFinding::fatal(what, format!("chmod o+x {}", closed.display())))
}

/// The served tree of a check.
#[derive(Clone, Copy)]
pub(super) struct CheckedTree<'a> {
    pub(super) subject: CheckSubject<'a>,
    /// Where names lead.
    pub(super) names: &'a NameResolver,
}

pub(super) fn check_boot_loaders(tree: CheckedTree<'_>) -> Vec<CheckFinding> {
    let subject = tree.subject;
    let named = loaders::list_boot_keys(&subject.config.snapshot.dhcp.boot).into_iter();
    // A URL may lead to another server.
    let under_root =
        named.filter_map(|(key, value)| Some((key, value.filter(|value| !value.contains("://"))?)));
    let wrong = under_root.flat_map(|(key, name)| {
        let place = subject.config.places.find_loader(key);
        let place = Some(place).filter(|place| !place.path.is_empty());
        check_boot_loader(tree, key, name)
            .into_iter()
            .map(move |finding| finding.at_position(place.clone()))
    });
    wrong.collect()
}

fn check_boot_loader(tree: CheckedTree<'_>, key: &str, name: &str) -> Vec<CheckFinding> {
    let subject = tree.subject;
    let what = format!("[boot] {key} = {name:?}");
    let path = match locate_name(tree, name) {
        NamedPlace::File(path) => path,
        NamedPlace::MadeOnRequest => return Vec::new(),
        NamedPlace::Refused(refusal) => return vec![report_refused_name(what, refusal)],
        // The packages of that host are unknown here.
        NamedPlace::Nowhere if is_on_another_host(subject, name) => {
            return vec![CheckFinding::note(format!(
                "{what} is not under the root: a package may have it on that host"
            ))];
        }
        NamedPlace::Nowhere => {
            return vec![CheckFinding::error(
                format!("{what} names no file under the root"),
                hint_missing_file(key, name),
            )];
        }
    };

    // This process may read a file that the service may not, so the rights are checked before the
    // content.
    if let Some(finding) = find_unreadable_file(&what, &path, subject.reader) {
        return vec![finding];
    }
    let wrong = match loaders::read_program_kind(&path) {
        Ok(program) => find_wrong_kind(key, name, program).map(|(kind, hint)| {
            CheckFinding::error(format!("{what} is {kind} ({})", path.display()), hint)
        }),
        Err(error) => {
            Some(CheckFinding::error(format!("{what}: reading {}: {error}", path.display()), ""))
        }
    };
    wrong.into_iter().chain(find_lonely_loader(tree, key, name)).collect()
}

fn is_on_another_host(subject: CheckSubject<'_>, name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    let mut loaders = KITS.iter().flat_map(|kit| kit.loaders);
    matches!(subject.reader, FileReader::Elsewhere { .. })
        && loaders.any(|(loader, _)| *loader == file)
}

/// A file that the menu names.
struct NamedBootFile<'a> {
    what: String,
    name: &'a str,
    place: Option<config::ConfigPlace>,
}

/// Checks kernels, initrds, and the files that a menu displays.
pub(super) fn check_menu(tree: CheckedTree<'_>) -> Vec<CheckFinding> {
    let subject = tree.subject;
    let Some(menu) = &subject.config.snapshot.menu else { return Vec::new() };
    let places = &subject.config.places;
    let mut named: Vec<NamedBootFile<'_>> = Vec::new();
    for entry in &menu.entries {
        let kernel = ("kernel", entry.kernel.as_str());
        let initrds = entry.initrds.iter().map(|initrd| ("initrd", initrd.as_str()));
        named.extend(std::iter::once(kernel).chain(initrds).map(|(key, name)| NamedBootFile {
            what: format!("{key} of the entry `{}`", entry.label),
            name,
            place: places.find_entry(&entry.label, key, name),
        }));
    }
    let pictures =
        [("background", menu.background.as_deref()), ("display", menu.display.as_deref())];
    named.extend(pictures.into_iter().filter_map(|(key, name)| {
        Some(NamedBootFile {
            what: format!("[menu] {key}"),
            name: name?,
            place: places.find_key("menu", key),
        })
    }));

    // `check` fetches no URL: it may lead to another server.
    let under_root = named.into_iter().filter(|named| !named.name.contains("://"));
    under_root
        .filter_map(|named| Some(check_menu_file(tree, &named)?.at_position(named.place)))
        .collect()
}

fn check_menu_file(
    tree: CheckedTree<'_>,
    NamedBootFile { what, name, .. }: &NamedBootFile<'_>,
) -> Option<CheckFinding> {
    let subject = tree.subject;
    match locate_name(tree, name) {
        NamedPlace::File(path) => find_unreadable_file(what, &path, subject.reader)
            .or_else(|| find_wrong_image(what, &path, what.starts_with("kernel"))),
        NamedPlace::MadeOnRequest => None,
        NamedPlace::Refused(refusal) => {
            Some(report_refused_name(format!("{what}: {name}"), refusal))
        }
        NamedPlace::Nowhere => {
            let what =
                format!("{what}: there is no {name} under {}", subject.config.root.display());
            Some(CheckFinding::error(what, "put the file there, or correct the name"))
        }
    }
}

/// A kernel or an initrd whose first bytes show that it is something else.
fn find_wrong_image(what: &str, path: &Path, is_kernel: bool) -> Option<CheckFinding> {
    let wrong = match loaders::read_file_head(path) {
        Ok(head) => image_fault(&head, is_kernel)?,
        Err(error) => {
            return Some(CheckFinding::error(
                format!("{what}: reading {}: {error}", path.display()),
                "",
            ));
        }
    };
    let hint = "an error page or an aborted download was saved in its place: download it again";
    Some(CheckFinding::error(format!("{what} is {wrong} ({})", path.display()), hint))
}

/// Where a name leads.
enum NamedPlace {
    File(PathBuf),
    /// A template or a rendered menu: it needs no file of that name.
    MadeOnRequest,
    /// The server refuses it.
    Refused(NameRefusal),
    Nowhere,
}

/// Looks a name up as the server does: in the root with the files of packages, as a template, as a
/// menu; then again without an old prefix, then without regard to case.
fn locate_name(tree: CheckedTree<'_>, name: &str) -> NamedPlace {
    let config = tree.subject.config;
    let path = match clean_path_name(name.as_bytes()) {
        // A slash at the end names a directory (K-18).
        Ok(_) if name.ends_with('/') => return NamedPlace::Nowhere,
        Ok(path) => path,
        Err(refusal) => return NamedPlace::Refused(refusal),
    };
    let prefixes = config.tftp.strip_prefixes.iter();
    let prefixes: Vec<_> =
        prefixes.filter_map(|prefix| clean_path_name(prefix.as_bytes()).ok()).collect();
    let stripped = strip_path_prefix(&path, &prefixes);
    // The server takes a prefix off only where the name as it is leads nowhere (T-57).
    for path in [Some(&path), stripped.as_ref()].into_iter().flatten() {
        match locate_path(tree, path) {
            NamedPlace::Nowhere => {}
            found => return found,
        }
    }
    match tree.names.find_ignoring_case(&path).filter(|_| config.tftp.case_insensitive) {
        Some(path) => locate_path(tree, &path),
        None => NamedPlace::Nowhere,
    }
}

/// Looks one spelling up.
fn locate_path(tree: CheckedTree<'_>, path: &CleanPath) -> NamedPlace {
    let config = tree.subject.config;
    if path.as_bytes().ends_with(template::SUFFIX.as_bytes()) {
        return NamedPlace::Nowhere;
    }
    let under_root = config.root.join(&*path.display());
    match tree.names.find_target(path) {
        Ok(NameTarget::File(_)) if under_root.exists() => return NamedPlace::File(under_root),
        Ok(NameTarget::File(real)) => return NamedPlace::File(real),
        Ok(NameTarget::Directory(_)) => return NamedPlace::Refused(NameRefusal::NotRegular),
        Err(NameRefusal::NotFound) => {}
        // The caller says which right is missing.
        Err(NameRefusal::Unreadable) => return NamedPlace::File(under_root),
        Err(refusal) => return NamedPlace::Refused(refusal),
    }
    match tree.names.find_target(&path.with_suffix(template::SUFFIX)) {
        Ok(NameTarget::File(_)) => return NamedPlace::MadeOnRequest,
        Ok(NameTarget::Directory(_)) => return NamedPlace::Refused(NameRefusal::NotRegular),
        Err(_) => {}
    }

    // A menu is rendered under two of its names, unless a file stands there for every machine.
    let menu = parse_menu_name(path.as_bytes())
        .filter(|name| config.snapshot.menu.is_some() && name.is_rendered());
    let is_general = |name: MenuName<'_>| {
        let general = name.general_name();
        general.is_some_and(|general| tree.names.find_target(&path.sibling(general)).is_ok())
    };
    match menu {
        Some(name) if !is_general(name) => NamedPlace::MadeOnRequest,
        _ => NamedPlace::Nowhere,
    }
}

/// A name that the server refuses, in the words of its log.
fn report_refused_name(what: String, refusal: NameRefusal) -> CheckFinding {
    let hint = match refusal {
        NameRefusal::OutsideRoot => {
            "copy the file into the root, or name the directory to which the link leads in \
             `allow` of [links]"
        }
        NameRefusal::NotRegular => "name a file",
        _ => "correct the name",
    };
    CheckFinding::error(format!("{what} is not served: {refusal}"), hint)
}

/// Directories of `[links] allow` that do not exist, so that links into them lead nowhere, or that
/// are links to what must not be served.
pub(super) fn check_links(config: &Config) -> Vec<CheckFinding> {
    let wrong = config.links.iter().filter_map(|place| {
        let real = resolve_links(place);
        let finding = if config::exposes_machine(&real) {
            let shown = format!("{} ({})", place.display(), real.display());
            CheckFinding::fatal(
                format!("[links] allow: links into {shown} would expose this machine"),
                "name a directory that holds boot files only",
            )
        } else if !real.is_dir() {
            CheckFinding::warning(
                format!("[links] allow: there is no directory {}", place.display()),
                "mount or install it, or take it out of the list",
            )
        } else {
            return None;
        };
        Some(finding.at_position(config.places.find_link_place(place)))
    });
    wrong.collect()
}

/// A file that the server may not read, by its own mode or that of a directory above it.
pub(super) fn find_unreadable_file(
    what: &str,
    path: &Path,
    reader: FileReader,
) -> Option<CheckFinding> {
    const READ: u32 = 0o4;
    let found = fs::metadata(path).ok()?;
    let refused = match reader {
        // The server runs as this user too. The kernel's answer is more exact than the mode: it
        // includes access control lists.
        FileReader::Caller => {
            fs::File::open(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        }
        // Root can read every file, and serves only those that everybody may read.
        FileReader::Root => found.mode() & READ == 0,
        FileReader::User { uid, gid } => !has_mode_right(READ, &found, uid, gid),
        FileReader::Elsewhere { .. } => false,
    };
    let shown = path.display();
    if refused {
        let what = format!("{what}: {shown} may not be read by the service");
        return Some(CheckFinding::error(what, format!("chmod o+r {shown}")));
    }
    let real = resolve_links(path);
    let closed = find_closed_directory(&real, reader)?.display();
    let what = format!("{what}: {shown} may not be read by the service: {closed} is closed to it");
    Some(CheckFinding::error(what, format!("chmod o+x {closed}")))
}

/// The first directory above a file that the serving user cannot enter. Root enters every one.
fn find_closed_directory(path: &Path, reader: FileReader) -> Option<&Path> {
    const PASS: u32 = 0o1;
    let (uid, gid) = match reader {
        FileReader::User { uid, gid } => (uid, gid),
        FileReader::Caller => return find_closed_to_caller(path),
        FileReader::Root | FileReader::Elsewhere { .. } => return None,
    };
    list_path_prefixes(path).find(|directory| {
        fs::metadata(directory).is_ok_and(|found| !has_mode_right(PASS, &found, uid, gid))
    })
}

/// The first directory above a file that this process cannot enter.
fn find_closed_to_caller(path: &Path) -> Option<&Path> {
    list_path_prefixes(path).find(|directory| {
        let found = fs::metadata(directory.join("."));
        found.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    })
}

fn list_path_prefixes(path: &Path) -> impl Iterator<Item = &Path> {
    let above: Vec<&Path> = path.ancestors().skip(1).collect();
    above.into_iter().rev()
}

/// Whether this user, who is in no other group, has a right by the mode of a file. Only one digit
/// of the mode counts: the owner's, the group's or that of others (path_resolution(7)).
pub(super) fn has_mode_right(right: u32, found: &fs::Metadata, uid: u32, gid: u32) -> bool {
    let digit = match (uid == found.uid(), gid == found.gid()) {
        (true, _) => 6,
        (false, true) => 3,
        (false, false) => 0,
    };
    found.mode() >> digit & right != 0
}

/// The kind of a file that does not fit its key, and what to do.
fn find_wrong_kind(key: &str, name: &str, program: BootProgram) -> Option<(String, &'static str)> {
    let wanted = match key {
        "uefi-x64" => PeMachine::X64,
        "uefi-ia32" => PeMachine::Ia32,
        "uefi-arm64" => PeMachine::Arm64,
        // This key is for every architecture, so the processor of the program does not count. A
        // name without `.efi` is an image of a disk (H-27).
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
    let is_fine = match program {
        BootProgram::Efi { machine, is_application, .. } => is_application && machine == wanted,
        _ => false,
    };
    (!is_fine)
        .then(|| (program.describe(), "name a UEFI program that was built for this architecture"))
}

/// A loader without the companion file that it needs.
fn find_lonely_loader(tree: CheckedTree<'_>, key: &str, name: &str) -> Option<CheckFinding> {
    let path = clean_path_name(name.as_bytes()).ok()?;
    let file = String::from_utf8_lossy(path.file_name()).into_owned();
    let kit = KITS.iter().find(|kit| kit.loaders.iter().any(|(loader, _)| *loader == file))?;
    let (needed, _) = kit.companions.first()?;
    let beside = path.sibling(needed).display().into_owned();
    if !matches!(locate_name(tree, &beside), NamedPlace::Nowhere) {
        return None;
    }
    let what = format!(
        "[boot] {key}: {name} loads {needed} from its own directory, which does not have it"
    );
    Some(CheckFinding::warning(
        what,
        format!(
            "put {needed} of the same version beside it; packages: {}",
            name_loader_packages(kit.arch)
        ),
    ))
}

fn hint_missing_file(key: &str, name: &str) -> String {
    if clean_path_name(name.as_bytes()).is_ok_and(|path| parse_menu_name(path.as_bytes()).is_some())
    {
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
