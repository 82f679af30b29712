//! What the running server's control side is made of: reading the configuration again, and the admin socket's resources.

use std::collections::HashMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, lchown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use serde_json::json;

use super::now::Now;
use super::{check, health, lease, loader, look, machine_list, machines, quirk, resources, serve, walks};
use crate::config::Config;
use crate::control::admin::{self, Answer, Routes};
use crate::control::quirks::Quirks;
use crate::guard::Account;
use crate::images::CleanPath;
use crate::observe::journal::Journal;
use crate::serve::overview::Overview;
use crate::serve::supervisor::{Control, Handle, Refusal, Reread, StartControl};
use crate::store::DATABASE;

/// The control side of a server that runs with this configuration.
pub(super) fn control(
    config: Config,
    borrowed: HashMap<CleanPath, PathBuf>,
    arguments: &serve::Arguments,
    known: Known,
) -> Control {
    let socket = config.server.admin_socket.clone();
    // Whose state directory that would be, nobody has said.
    let database = (!arguments.is_by_root_alone()).then(|| config.state.join(DATABASE));
    let inside = Inside { known, database, arguments: arguments.clone() };
    let is_wanted = !arguments.is_by_root_alone() || arguments.socket.is_some();
    let arguments = arguments.clone();
    Control {
        read_again: Box::new(move || {
            let refused = |error| Refusal { why: format!("{error:#}"), findings: serve::why_unread(&error) };
            let (mut next, _) = serve::read(&arguments).map_err(refused)?;
            let mut after_restart = after_restart(&config, &next);
            if config.dhcp.listen_address != next.dhcp.listen_address {
                // Until the restart that the answer names, the sockets stay as they are.
                next.snapshot.dhcp_interfaces.clone_from(&config.snapshot.dhcp_interfaces);
            }
            // Who we are now is who reads: the account of the start has been taken by then.
            let found = serve::examine(&mut next, arguments.no_dhcp, None).map_err(refused)?;
            // One that is lent no longer is in nobody's way.
            if found.borrowed.files.iter().any(|(name, path)| borrowed.get(name) != Some(path)) {
                after_restart.push("the loaders of packages that [boot] names".to_owned());
            }
            Ok(Reread { snapshot: next.snapshot, after_restart, remarks: found.remarks })
        }),
        bind: Box::new(move |handle, account| -> Box<StartControl> {
            let Some(path) = socket else { return Box::new(|| Box::new(())) };
            let bound = make_directory(&path, account)
                .and_then(|()| admin::bind(&path))
                .and_then(|bound| give(&path, account).map(|()| bound));
            Box::new(move || match bound.and_then(|bound| bound.serve(routes(handle, inside))) {
                Ok(socket) => Box::new(socket),
                Err(error) => {
                    let text =
                        format!("no admin socket at {}: {error}; commands cannot reach this server", path.display());
                    if is_wanted {
                        tracing::warn!("{text}");
                    } else {
                        tracing::info!("{text}. --socket PATH makes it elsewhere, for `ringboot status --socket PATH`");
                    }
                    Box::new(())
                }
            })
        }),
    }
}

/// The socket's own directory is made where its parent is there: /run/ringboot goes with every boot.
fn make_directory(socket: &Path, account: Option<&Account>) -> io::Result<()> {
    const DIRECTORY_MODE: u32 = 0o755;
    let Some(directory) = socket.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return Ok(()) };
    match DirBuilder::new().mode(DIRECTORY_MODE).create(directory) {
        Ok(()) => give(directory, account),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whom the process becomes must be able to remove it again, and the group of that user may use it.
fn give(path: &Path, account: Option<&Account>) -> io::Result<()> {
    account.map_or(Ok(()), |account| lchown(path, Some(account.ids.uid), Some(account.ids.gid)))
}

/// The tables whose changes a reload does not carry: sockets, threads and limits are made once.
fn after_restart(old: &Config, new: &Config) -> Vec<String> {
    let addresses = |config: &Config| (config.dhcp.is_wanted(), config.dhcp.listen_address, config.dhcp.listen_port);
    // Without a subnet to serve there is no store and no DHCP core: the first one starts them. The last one leaves them idle.
    let starts = new.dhcp.is_wanted() && !old.dhcp.is_wanted();
    let moved = new.dhcp.is_wanted() && old.dhcp.is_wanted() && addresses(old) != addresses(new);
    let changed = [
        ("root", old.root != new.root),
        ("state", old.state != new.state),
        ("[server]", old.server != new.server),
        ("[tftp]", old.tftp != new.tftp),
        ("[http]", old.http != new.http),
        ("[dhcp], of which nothing was served,", starts),
        ("`listen-address` and `listen-port` of [dhcp]", moved),
        ("[log]", old.log != new.log),
        ("[tuning]", old.tuning != new.tuning),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name.to_owned()).collect()
}

/// What is known of machines.
pub(super) struct Known {
    pub(super) journal: Arc<Journal>,
    /// None: no DHCP, no machine.
    pub(super) quirks: Option<Arc<Quirks>>,
}

/// What the resources look at.
struct Inside {
    known: Known,
    /// None: no configuration, no store.
    database: Option<PathBuf>,
    arguments: serve::Arguments,
}

fn routes(handle: Handle, inside: Inside) -> Routes {
    let Inside { known: Known { journal, quirks }, database, arguments } = inside;
    let (status, configuration, checked, listed) = (handle.clone(), handle.clone(), handle.clone(), handle.clone());
    let all = Arc::clone(&journal);
    let one_at_a_time = Mutex::new(());
    // Whoever asks for what happened asks for what clients have met before: an answer may have left while its event is on its way.
    let settled = {
        let handle = handle.clone();
        move || handle.overview().inspect(|overview| overview.settle())
    };
    let (settled_all, settled_one) = (settled.clone(), settled.clone());
    let fixed = move || settled().map(|overview| overview.generation().snapshot.quirks.clone()).unwrap_or_default();
    let (limiting, limits) = (quirks.clone(), fixed.clone());
    let counted = quirks.clone();
    let known = |quirks: &Option<Arc<Quirks>>| quirks.as_ref().map(|quirks| quirks.list()).unwrap_or_default();
    let found = look::routes(walks::routes(Routes::default(), &handle), &handle);
    quirk::routes(lease::routes(found, &handle), quirks, fixed)
        .get("/v1/status", move |_| {
            of(&status, |overview| {
                let mut body = resources::status(overview);
                body["quirks"] = quirk::counted(&known(&counted));
                body["health"] = health::judge(&body);
                Answer::ok(body)
            })
        })
        .get("/v1/configuration", move |_| of(&configuration, resources::configuration))
        .get(machine_list::PATH, move |_| machine_list::of_server(&all, settled_all().as_deref()))
        .get("/v1/machines/", move |who| {
            let now = Now::of(settled_one().as_deref());
            machines::of_journal(&journal, &now, || quirk::all(known(&limiting), &limits()), who)
        })
        .get("/v1/check", move |_| of(&checked, |overview| Answer::ok(check::in_server(&arguments, overview))))
        .get("/v1/loaders", move |_| of(&listed, |overview| Answer::ok(loader::listing(Some(overview.images.root())))))
        .download("/v1/backup", move || {
            let _copying = one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
            resources::backup(database.as_deref())
        })
        .post("/v1/reload", move |_| match handle.reload() {
            Ok(done) => Answer::ok(json!({
                "generation": done.generation,
                "after_restart": done.after_restart,
                "findings": done.remarks.iter().map(check::finding).collect::<Vec<_>>(),
            })),
            Err(Refusal { why, findings }) => {
                let title = "not reloaded, the old configuration stays";
                let mut answer = Answer::problem(StatusCode::CONFLICT, title, &why);
                answer.body["findings"] = findings.iter().map(check::finding).collect();
                answer
            }
        })
}

/// What runs now; nobody can say while the server starts or stops.
fn of(handle: &Handle, answer: impl FnOnce(&Overview) -> Answer) -> Answer {
    match handle.overview() {
        Some(overview) => answer(&overview),
        None => Answer::problem(StatusCode::SERVICE_UNAVAILABLE, "starting or stopping", "ask again in a moment"),
    }
}
