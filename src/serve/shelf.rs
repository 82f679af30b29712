//! Resolves a requested name for the machine that asks: to a file, a rendered menu, a rendered
//! template, or a refusal with its reason.
//!
//! TFTP and HTTP share one shelf, so that a name has the same answer over both. The order: a file
//! of that name; the template `NAME.j2`; a rendered menu; then the same for the name's other
//! spellings (a stripped prefix, a repaired tail).

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::boot::names::{MenuKey, MenuName, parse_menu_name};
use crate::boot::script;
use crate::engine::clock;
use crate::images::{
    CatalogAnswer, CleanPath, ImageCatalog, ImageStore, JobAsker, NameRefusal, OwedAnswer,
    ServedContent, strip_path_prefix,
};
use crate::model::machine::Machine;
use crate::render::TemplateRenderer;
use crate::snapshot::PublishedState;
use crate::template::{self, TemplateError, TemplateFacts};

/// A request for a name, by TFTP or HTTP.
#[derive(Clone, Debug)]
pub struct FileRequest {
    /// The path in the root, as the client wrote it.
    pub path: CleanPath,
    /// The path after the repair of a ROM's trailing garbage (T-61), where there was any.
    pub repaired: Option<CleanPath>,
    /// The client.
    pub peer: IpAddr,
    /// The server's address that the client asked: rendered URLs contain it.
    pub local: IpAddr,
    /// The request came by HTTP, so the loader can also fetch further files by HTTP.
    pub over_http: bool,
}

impl FileRequest {
    /// The identity under which the workers queue this request.
    pub fn asker(&self) -> JobAsker {
        JobAsker::new(self.peer, self.path.as_bytes())
    }
}

/// The answer to a [`FileRequest`].
#[derive(Clone, Debug)]
pub enum FileReply {
    /// The content to send.
    Content(FileAnswer),
    /// The name is a directory: HTTP may list it; TFTP refuses it.
    Directory,
    /// The name is refused, with one sentence for the log.
    Refused(NameRefusal, String),
}

/// The content for a name, and where it comes from.
#[derive(Clone, Debug)]
pub struct FileAnswer {
    /// A mapped file, or a rendered text.
    pub content: ServedContent,
    /// Where it comes from.
    pub origin: FileOrigin,
    /// Why the client gets this content, one sentence each; empty for a plain file.
    pub reasons: Vec<String>,
}

/// Where the content for a name comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileOrigin {
    /// A file under the root.
    File,
    /// A menu that was rendered from `[menu]`.
    Menu,
    /// A template under the root, rendered for the machine.
    Template,
}

/// Everything that cores and workers share to resolve names.
pub struct FileSources {
    /// The files under the root, and the workers that read them.
    pub images: Arc<ImageStore>,
    /// The current generation, for menus and the facts of templates.
    pub published: Arc<PublishedState>,
    /// Renders templates in processes of their own.
    pub renderer: TemplateRenderer,
    /// Prefixes to strip: some clients ask for the server's absolute paths (T-57).
    pub strip_prefixes: Vec<CleanPath>,
    /// Look a missing name up without regard to case (T-60).
    pub ignore_case: bool,
}

impl fmt::Debug for FileSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSources").field("images", &self.images).finish_non_exhaustive()
    }
}

/// Resolves names for one core: without the disk on the core itself, otherwise on a worker.
#[derive(Debug)]
pub struct FileResolver {
    names: Arc<FileSources>,
    catalog: ImageCatalog,
}

impl FileResolver {
    /// A resolver for one core, with its own catalog of known files.
    pub fn new(names: Arc<FileSources>) -> Self {
        let catalog = ImageCatalog::new(&names.images);
        Self { names, catalog }
    }

    /// The sources that this resolver shares with all others.
    pub fn names(&self) -> &Arc<FileSources> {
        &self.names
    }

    /// Answers at once (Some), or later (None): then a worker thread calls `later` exactly once,
    /// even if it panics.
    pub fn ask(
        &mut self,
        ask: FileRequest,
        later: impl FnOnce(FileReply) + Send + 'static,
    ) -> Option<FileReply> {
        let mut on_core = OnCore(&mut self.catalog);
        let looked = self.names.look_everywhere(&ask, &mut on_core);
        if let LookOutcome::Reply(reply) = looked {
            return Some(reply);
        }
        let later = OwedAnswer::new(later, |panicked| match panicked {
            true => FileReply::Refused(
                NameRefusal::ReadFailed,
                "the worker that looked it up panicked".into(),
            ),
            false => FileReply::Refused(
                NameRefusal::Busy,
                "every worker is busy, or the file server does not answer".into(),
            ),
        });
        match looked {
            LookOutcome::TakesLonger => FileSources::make(Arc::clone(&self.names), ask, later),
            _ => {
                let (names, asker) = (Arc::clone(&self.names), ask.asker());
                // If the workers refuse the job, dropping `later` has answered.
                let _ = self
                    .names
                    .images
                    .workers()
                    .submit_quick_job(asker, move || names.answer_waiting(ask, later));
            }
        }
        None
    }

    /// Remembers content that a worker has found, so that the core answers the next request for it
    /// itself.
    pub fn remember(&mut self, content: &ServedContent) {
        self.catalog.remember(content);
    }
}

/// The result of a look-up.
enum LookOutcome {
    Reply(FileReply),
    /// There is nothing of this name; with the reason, if it is not simply missing.
    Nothing(Option<String>),
    /// Only a worker can find out, because the kernel has not cached the name.
    NeedsWorker,
    /// Only a worker for long jobs may do it: render a template, or search a directory.
    TakesLonger,
}

/// The ways to look at the disk: only in the kernel's caches, or waiting for the disk.
trait DiskLook {
    fn find(&mut self, images: &ImageStore, path: &CleanPath) -> Option<CatalogAnswer>;
    /// Whether this thread may do long jobs.
    fn has_time(&self) -> bool;
}

struct OnCore<'a>(&'a mut ImageCatalog);

impl DiskLook for OnCore<'_> {
    fn find(&mut self, _: &ImageStore, path: &CleanPath) -> Option<CatalogAnswer> {
        match self.0.find(path) {
            CatalogAnswer::Ask(_) => None,
            found => Some(found),
        }
    }
    fn has_time(&self) -> bool {
        false
    }
}

struct PatientLook {
    has_time: bool,
}

impl DiskLook for PatientLook {
    fn find(&mut self, images: &ImageStore, path: &CleanPath) -> Option<CatalogAnswer> {
        Some(images.find_waiting(path))
    }
    fn has_time(&self) -> bool {
        self.has_time
    }
}

impl FileSources {
    /// The machine that holds this address by a running lease, or the machine of a walk.
    pub fn machine_at(&self, peer: IpAddr) -> Option<Machine> {
        if let Some(walk) = self.published.walks.from(peer, Instant::now) {
            return walk.machine;
        }
        let IpAddr::V4(peer) = peer.to_canonical() else { return None };
        let binding = self.published.load().bindings.read(peer)?;
        (binding.lease_end_s > clock::now_s()).then_some(binding.machine)
    }

    /// How fast HTTP may send to this address, in bytes a second; None: no limit. It takes no lock,
    /// so a core may call it for every large answer.
    pub fn pace_for(&self, peer: IpAddr) -> Option<NonZeroU64> {
        let own =
            self.machine_at(peer).and_then(|machine| self.published.allowance(&machine).http_rate);
        [own, self.published.load().snapshot.http_rate].into_iter().flatten().min()
    }

    /// The address that is compared with networks: for a walk, that of the machine for which it
    /// stands.
    pub fn address_of(&self, peer: IpAddr) -> IpAddr {
        self.published
            .walks
            .from(peer, Instant::now)
            .map_or(peer, |walk| IpAddr::V4(walk.stands_for))
    }

    /// Resolves a name on a worker for look-ups.
    fn answer_waiting(
        self: Arc<Self>,
        ask: FileRequest,
        later: OwedAnswer<FileReply, impl FnOnce(FileReply) + Send + 'static>,
    ) {
        match self.look_everywhere(&ask, &mut PatientLook { has_time: false }) {
            LookOutcome::Reply(reply) => later.deliver(reply),
            LookOutcome::TakesLonger => Self::make(self, ask, later),
            LookOutcome::Nothing(_) | LookOutcome::NeedsWorker => {
                later.deliver(not_found(&ask, None))
            }
        }
    }

    /// Hands a request to a worker for long jobs.
    fn make(
        names: Arc<Self>,
        ask: FileRequest,
        later: OwedAnswer<FileReply, impl FnOnce(FileReply) + Send + 'static>,
    ) {
        let (workers, asker) = (names.images.workers().clone(), ask.asker());
        // If the workers refuse the job, dropping `later` has answered.
        let _ = workers.submit_slow_job(asker, move || {
            match names.look_everywhere(&ask, &mut PatientLook { has_time: true }) {
                LookOutcome::Reply(reply) => later.deliver(reply),
                LookOutcome::Nothing(_) | LookOutcome::NeedsWorker | LookOutcome::TakesLonger => {
                    later.deliver(not_found(&ask, None))
                }
            }
        });
    }

    /// Tries every spelling of the name; the first one that exists, or is refused, is the answer.
    fn look_everywhere(&self, ask: &FileRequest, look: &mut impl DiskLook) -> LookOutcome {
        let stripped = strip_path_prefix(&ask.path, &self.strip_prefixes);
        // The client asked for the first spelling: its reason goes before those of the others.
        let mut why = None;
        for path in
            [Some(&ask.path), stripped.as_ref(), ask.repaired.as_ref()].into_iter().flatten()
        {
            match self.look(ask, path, look) {
                LookOutcome::Nothing(reason) => why = why.or(reason),
                other => return other,
            }
        }

        // A search lists every directory of the path (T-60): only a worker for long jobs has the
        // time.
        if self.ignore_case {
            if !look.has_time() {
                return LookOutcome::TakesLonger;
            }
            if let Some(path) = self.images.find_ignoring_case(&ask.path) {
                return self.look(ask, &path, look);
            }
        }
        LookOutcome::Reply(not_found(ask, why))
    }

    /// Looks one spelling up: as a file, as a template, then as a menu.
    fn look(&self, ask: &FileRequest, path: &CleanPath, look: &mut impl DiskLook) -> LookOutcome {
        if path.as_bytes().ends_with(template::SUFFIX.as_bytes()) {
            return LookOutcome::Nothing(Some(
                "a template is served only as what it renders to".into(),
            ));
        }
        match look.find(&self.images, path) {
            None => return LookOutcome::NeedsWorker,
            Some(CatalogAnswer::Content(content)) => {
                let answer = FileAnswer { content, origin: FileOrigin::File, reasons: Vec::new() };
                return LookOutcome::Reply(FileReply::Content(answer));
            }
            Some(CatalogAnswer::Directory) => return LookOutcome::Reply(FileReply::Directory),
            // Only a missing file leads on: a template or a menu must not stand in for a file that
            // is refused.
            Some(CatalogAnswer::Refused(NameRefusal::NotFound)) | Some(CatalogAnswer::Ask(_)) => {}
            Some(CatalogAnswer::Refused(refusal)) => {
                return LookOutcome::Reply(FileReply::Refused(
                    refusal,
                    format!("{}: {refusal}", path.display()),
                ));
            }
        }

        // Whether there is a template is a question of names. Rendering it is a long job.
        match look.find(&self.images, &path.with_suffix(template::SUFFIX)) {
            Some(CatalogAnswer::Refused(_)) | Some(CatalogAnswer::Ask(_)) => {
                self.menu(ask, path, look)
            }
            Some(_) if look.has_time() => LookOutcome::Reply(self.template(ask, path)),
            Some(_) => LookOutcome::TakesLonger,
            None => LookOutcome::NeedsWorker,
        }
    }

    /// Renders a menu, if a loader searches for this name and no static menu governs the directory.
    fn menu(&self, ask: &FileRequest, path: &CleanPath, look: &mut impl DiskLook) -> LookOutcome {
        let generation = self.published.load();
        let snapshot = &generation.snapshot;
        let (Some(menu), Some(name)) = (&snapshot.menu, parse_menu_name(path.as_bytes())) else {
            return LookOutcome::Nothing(None);
        };
        if !name.is_rendered() {
            return LookOutcome::Nothing(Some(
                "menus are rendered under the hardware address and the default name".into(),
            ));
        }

        // A loader asks for the name with the hardware address first. Where that is rendered, it
        // never comes to the operator's own menu for every machine (B-1, B-7).
        if let Some(general) = name.general_name() {
            match look.find(&self.images, &path.sibling(general)) {
                None => return LookOutcome::NeedsWorker,
                Some(CatalogAnswer::Refused(_)) | Some(CatalogAnswer::Ask(_)) => {}
                Some(_) => {
                    return LookOutcome::Nothing(Some(format!(
                        "the file {general} in that directory is the menu of every machine"
                    )));
                }
            }
        }

        let machine = self.identify_machine(ask, &name);
        let rendered = script::render_menu(
            menu,
            &script::MenuRequest {
                loader: name.loader,
                prefix: name.prefix,
                over_http: ask.over_http,
                machine: machine.as_ref(),
                server: self.server_address(ask),
                http_port: snapshot.dhcp.http_port,
                install_by_default: self.installs_by_default(self.address_of(ask.peer)),
                boot: &snapshot.dhcp.boot,
            },
        );
        let content = ServedContent::rendered(rendered.text, SystemTime::now(), None);
        LookOutcome::Reply(FileReply::Content(FileAnswer {
            content,
            origin: FileOrigin::Menu,
            reasons: rendered.reasons,
        }))
    }

    /// The machine that asks: the hardware address in the name takes precedence over the lease.
    fn identify_machine(&self, ask: &FileRequest, name: &MenuName<'_>) -> Option<Machine> {
        let bound = self.machine_at(ask.peer);
        match name.key {
            MenuKey::Mac(mac) => bound.filter(|machine| machine.mac == mac).or(Some(Machine {
                mac,
                uuid: None,
                firmware: None,
            })),
            _ => bound,
        }
    }

    /// The server's address for URLs: `[server] advertise`, or else the address that the client
    /// asked.
    fn server_address(&self, ask: &FileRequest) -> IpAddr {
        self.published.load().snapshot.dhcp.advertise.map_or(ask.local, IpAddr::V4)
    }

    fn installs_by_default(&self, peer: IpAddr) -> bool {
        let IpAddr::V4(peer) = peer.to_canonical() else { return false };
        self.published
            .load()
            .snapshot
            .dhcp
            .subnets
            .iter()
            .any(|subnet| subnet.network.contains(peer) && subnet.install_by_default)
    }

    fn template(&self, ask: &FileRequest, path: &CleanPath) -> FileReply {
        let template = path.with_suffix(template::SUFFIX);
        let name = template.display().into_owned();
        let source = match self.images.read_whole(&template) {
            Ok((bytes, _)) => bytes,
            Err(refusal) => {
                return FileReply::Refused(refusal, format!("template {name}: {refusal}"));
            }
        };
        let Ok(source) = String::from_utf8(source) else {
            return FileReply::Refused(
                NameRefusal::ReadFailed,
                format!("template {name} is not UTF-8 text"),
            );
        };

        let machine = self.machine_at(ask.peer);
        match self.render_template(&name, &source, ask, machine.as_ref()) {
            Ok(text) => {
                let reason = machine.map_or_else(
                    || "an unknown machine".to_owned(),
                    |machine| machine.mac.to_string(),
                );
                let reasons = vec![format!("template {name} rendered for {reason}")];
                // Its length is known only now. A large text counts against the share of its source
                // in the memory for copies.
                let share = match self.images.copies().reserve_share(ask.peer, text.len() as u64) {
                    Ok(share) => share,
                    Err(busy) => {
                        return FileReply::Refused(
                            busy,
                            format!("template {name}: copies have all the memory they may"),
                        );
                    }
                };
                let content = ServedContent::rendered(text, SystemTime::now(), share);
                FileReply::Content(FileAnswer { content, origin: FileOrigin::Template, reasons })
            }
            Err(why) => FileReply::Refused(NameRefusal::TemplateFailed, why.to_string()),
        }
    }

    /// Renders a template with the facts about the machine that asks.
    fn render_template(
        &self,
        name: &str,
        source: &str,
        ask: &FileRequest,
        machine: Option<&Machine>,
    ) -> Result<String, TemplateError> {
        let generation = self.published.load();
        let policy = &generation.snapshot.dhcp;
        let client = self.address_of(ask.peer);
        let subnet = match client.to_canonical() {
            IpAddr::V4(address) => policy.subnets.find(address),
            IpAddr::V6(_) => None,
        };
        // A machine may ask from another subnet than the one of its reservation.
        let reservation = machine.and_then(|machine| {
            policy.subnets.iter().find_map(|subnet| subnet.reserved_for(machine.mac))
        });
        let facts = TemplateFacts::from_context(&template::TemplateContext {
            client,
            machine,
            hostname: reservation.and_then(|reserved| reserved.hostname.as_deref()),
            subnet,
            server: self.server_address(ask),
            http_port: policy.http_port,
        });
        self.renderer.render(name, source, &facts)
    }
}

fn not_found(ask: &FileRequest, why: Option<String>) -> FileReply {
    let path = ask.path.display();
    let text = why.map_or_else(
        || format!("{path}: no such file"),
        |why| format!("{path}: no such file ({why})"),
    );
    FileReply::Refused(NameRefusal::NotFound, text)
}
