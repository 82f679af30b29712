//! `ringboot serve`: reads the configuration, puts the rooms together, runs until SIGTERM.

use std::io::Read;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use tracing::Level;

use super::control::Known;
use crate::config::{self, ADMIN_SOCKET, Config, Problems, TftpOptions};
use crate::control::check::{self, Reader, Subject};
use crate::control::loaders::{self, Borrowed};
use crate::dhcp::subnet::{Clients, Mode, Subnet};
use crate::engine::affinity;
use crate::engine::datapath::Datapath;
use crate::engine::open_files::raise_open_files;
use crate::guard::{self, Account};
use crate::images::{
    Ceiling, CleanPath, Fence, ImageMemory, Images, MAPPINGS_MAX, PIECE_BYTES, Workers, clean, raise_locked_memory,
    runs_as_root,
};
use crate::observe::finding::{Finding, Severity};
use crate::observe::log::Memory;
use crate::observe::sink;
use crate::serve::descriptors;
use crate::serve::http::HttpPlan;
use crate::serve::placement;
use crate::serve::shelf::Names;
use crate::serve::supervisor::{self, Plan};
use crate::serve::tftp::TftpPlan;
use crate::snapshot::Published;
use crate::template::Renderer;
use crate::tftp::limits::Limits;
use crate::tftp::options::OptionPolicy;
use crate::tftp::table::Policy;

/// Read when neither --config nor --root is given.
pub(super) const DEFAULT_CONFIG: &str = "/etc/ringboot/ringboot.toml";

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Arguments {
    /// Configuration file [default: /etc/ringboot/ringboot.toml where it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serve this directory by TFTP and HTTP; without --config no DHCP is answered
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Answer TFTP here, in place of the configured addresses; may be given several times
    #[arg(long, value_name = "ADDR:PORT")]
    tftp: Vec<SocketAddr>,
    /// Answer HTTP here, in place of the configured addresses; may be given several times
    #[arg(long, value_name = "ADDR:PORT")]
    http: Vec<SocketAddr>,
    /// Answer no DHCP, whatever the configuration says
    #[arg(long)]
    pub(super) no_dhcp: bool,
    /// At most so many boot cores [default: one for each processor of the affinity mask, less one for DHCP]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    workers: Option<u16>,
    /// The admin socket, in place of the configured one [default without a configuration: /run/ringboot/admin.sock, where it can be made]
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// How much is logged, in place of the configured level
    #[arg(long, value_name = "LEVEL", value_parser = level())]
    log_level: Option<Level>,
    /// Log more than the configuration says: -v one level more, -vv two
    #[arg(short, long, action = clap::ArgAction::Count, conflicts_with = "log_level")]
    verbose: u8,
}

/// From little to much.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

fn level() -> impl TypedValueParser<Value = Level> {
    PossibleValuesParser::new(LEVELS).try_map(|name| name.parse::<Level>())
}

impl Arguments {
    /// True where no file says what is served.
    pub(super) fn is_by_root_alone(&self) -> bool {
        self.config.is_none() && self.root.is_some()
    }

    fn level(&self, configured: Level) -> Level {
        let place = LEVELS.iter().position(|name| configured.as_str().eq_ignore_ascii_case(name)).unwrap_or(0);
        let more = LEVELS.get(place + usize::from(self.verbose)).or(LEVELS.last()).and_then(|name| name.parse().ok());
        self.log_level.or(more).unwrap_or(configured)
    }
}

/// The name of a configuration that is no file.
const STANDARD_INPUT: &str = "-";
/// What a process may open by default, where the kernel does not tell.
const USUAL_OPEN_FILES: u64 = 1024;

/// Runs the command. Exit 2: usage, configuration or what it names; 1: could not start, or a core ended by itself.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let (config, file) = match read(arguments) {
        Ok(read) => read,
        Err(error) => {
            sink::last_words(&format!("{error:#}"), None);
            return ExitCode::from(2);
        }
    };
    let facility = config.log.facility;
    sink::start(config.log.level, facility);
    // Before the first thread is started.
    if let Err(error) = guard::no_new_privileges() {
        tracing::warn!("programs that are started may still gain privileges: {error}");
    }
    // A mapping and a connection hold one each: the usual 1,024 are fewer than either may be.
    let open_files = raise_open_files().unwrap_or_else(|error| {
        tracing::warn!("the limit of open files stays as it is: {error}");
        USUAL_OPEN_FILES
    });
    match plan(config, file.as_deref(), arguments, open_files).and_then(|plan| Ok(supervisor::run(plan)?)) {
        Ok(()) => {
            sink::finish();
            ExitCode::SUCCESS
        }
        Err(error) => {
            sink::last_words(&format!("{error:#}"), facility);
            // 2 is "do not start me again like this" to the unit.
            if error.is::<NotRight>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// What the configuration names is not there, or not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("`ringboot check` finds this wrong:{}", .0.iter().map(|finding| format!("\n{finding}")).collect::<String>())]
struct NotRight(Vec<Finding>);

/// The text of a configuration is wrong.
#[derive(Debug, thiserror::Error)]
#[error("the configuration is not right\n{0}")]
struct WrongText(Problems);

/// Reads and checks a configuration file; `-` is standard input, and relative names start from the working directory then.
pub(super) fn read_file(file: &Path) -> anyhow::Result<Config> {
    if file == Path::new(STANDARD_INPUT) {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).context("reading standard input")?;
        return Ok(Config::parse_bytes("<stdin>", &bytes).map_err(WrongText)?);
    }
    let bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    Ok(Config::parse_bytes(&file.to_string_lossy(), &bytes).map_err(WrongText)?)
}

/// Why there is no configuration, one by one.
pub(super) fn why_unread(error: &anyhow::Error) -> Vec<Finding> {
    match (error.downcast_ref::<WrongText>(), error.downcast_ref::<NotRight>()) {
        (Some(WrongText(problems)), _) => check::problems(problems),
        (None, Some(NotRight(findings))) => findings.clone(),
        (None, None) => vec![Finding::fatal(format!("{error:#}"), "")],
    }
}

/// The configuration of `serve` with these arguments, and the file that it comes from.
pub(super) fn read(arguments: &Arguments) -> anyhow::Result<(Config, Option<PathBuf>)> {
    if arguments.config.as_deref() == Some(Path::new(STANDARD_INPUT)) {
        bail!(
            "a reload reads the configuration again, so it must be a file\n  hint: `ringboot check --config -` reads standard input"
        );
    }
    let (mut config, file) = read_named(arguments.config.as_deref(), arguments.root.as_deref())?;
    if !arguments.tftp.is_empty() {
        config.tftp.listen.clone_from(&arguments.tftp);
    }
    if let Some(first) = arguments.http.first() {
        config.http.listen.clone_from(&arguments.http);
        config.snapshot.dhcp.http_port = first.port();
    }
    config.log.level = arguments.level(config.log.level);
    let usual = arguments.is_by_root_alone().then(|| PathBuf::from(ADMIN_SOCKET));
    config.server.admin_socket = arguments.socket.clone().or(config.server.admin_socket).or(usual);
    Ok((config, file))
}

/// The configuration that --config and --root ask for, and the file that it comes from.
pub(super) fn read_named(file: Option<&Path>, root: Option<&Path>) -> anyhow::Result<(Config, Option<PathBuf>)> {
    let file = match (file, root) {
        (Some(file), _) => Some(file.to_path_buf()),
        (None, Some(_)) => None,
        (None, None) if Path::new(DEFAULT_CONFIG).exists() => Some(PathBuf::from(DEFAULT_CONFIG)),
        (None, None) => bail!(
            "nothing to serve: there is no {DEFAULT_CONFIG}\n  hint: `ringboot serve --root DIR` serves a directory by TFTP and HTTP \
             without any configuration; --config FILE names another file"
        ),
    };
    let mut config = match (&file, root) {
        (Some(file), _) => read_file(file)?,
        (None, Some(root)) => Config::for_root(root),
        (None, None) => bail!("nothing to serve"),
    };
    if let Some(root) = root {
        config.root = root.to_path_buf();
    }
    Ok((config, file))
}

/// A configuration that may be served.
pub(super) struct Examined {
    pub(super) borrowed: Borrowed,
    /// What is wrong with it all the same, the worst first.
    pub(super) remarks: Vec<Finding>,
}

/// Settles the loaders and asks what `ringboot check` asks of configuration and files. What is fatal is an error: nothing is started or
/// published. Whatever else is wrong is remarked, and keeps nobody from what is right.
pub(super) fn examine(config: &mut Config, no_dhcp: bool, account: Option<&Account>) -> anyhow::Result<Examined> {
    let wants_dhcp = config.dhcp.is_wanted() && !no_dhcp;
    let borrowed = loaders::settle(&mut config.snapshot.dhcp.boot, &config.root, wants_dhcp, Path::new("/"));
    let subject = Subject { config, borrowed: &borrowed, wants_dhcp, reader: reader(account), is_service: false };
    let mut findings = check::configuration(subject);
    findings.sort_by_key(|finding| finding.severity);
    if findings.first().is_some_and(|finding| finding.severity == Severity::Fatal) {
        return Err(NotRight(findings).into());
    }
    Ok(Examined { remarks: findings, borrowed })
}

/// Who opens the files that are served.
pub(super) fn reader(account: Option<&Account>) -> Reader {
    match account {
        Some(account) => Reader::User { uid: account.ids.uid, gid: account.ids.gid },
        None if runs_as_root() => Reader::Root,
        None => Reader::Caller,
    }
}

fn plan(mut config: Config, file: Option<&Path>, arguments: &Arguments, open_files: u64) -> anyhow::Result<Plan> {
    let account = guard::account(config.server.user.as_deref())?;
    let Examined { borrowed, remarks } = examine(&mut config, arguments.no_dhcp, account.as_ref())?;
    remarks.iter().for_each(Finding::log);
    if let Some(account) = &account {
        account.bound_capabilities();
    }
    // The first thread: lines have waited until now.
    sink::write();
    let workers = Workers::start().context("starting worker threads")?;
    let private: Vec<&Path> = file.into_iter().chain([config.state.as_path()]).collect();
    let memory = image_memory(&config);
    let fence = Fence {
        borrowed: borrowed.files.clone(),
        only_world_readable: reader(account.as_ref()) == Reader::Root,
        ..Fence::of(&private)
    };
    let images = Images::open_fenced(&config.root, fence, memory, workers)
        .with_context(|| format!("opening the root {}", config.root.display()))?;
    let wants_dhcp = config.dhcp.is_wanted() && !arguments.no_dhcp;
    borrowed.reasons.iter().for_each(|reason| tracing::info!("{reason}"));
    say_what_will_happen(&config, arguments, wants_dhcp);
    let published = Published::new(config.snapshot.clone());
    let names = Arc::new(Names {
        images,
        published: Arc::clone(&published),
        renderer: Renderer::default(),
        strip_prefixes: prefixes(&config.tftp.strip_prefixes),
        ignore_case: config.tftp.case_insensitive,
    });
    // Without DHCP no machine is known by name, and there is no state directory.
    let (dhcp, memory, quirks) = match wants_dhcp {
        true => super::dhcp::plan(&config, &published, account.as_ref())
            .map(|(dhcp, memory, quirks)| (Some(dhcp), memory, Some(quirks)))?,
        false => (None, Memory::default(), None),
    };
    let journal = Arc::clone(&memory.journal);
    let workers = arguments.workers.map(usize::from).or(config.server.workers);
    let mut tftp = tftp_plan(&config);
    fit(open_files, workers, &mut tftp, &names.images);
    Ok(Plan {
        tftp,
        http: http_plan(&config),
        dhcp,
        datapath: datapath(config.tuning.datapath),
        workers,
        account,
        names,
        memory,
        remarks,
        control: super::control::control(config, borrowed.files, arguments, Known { journal, quirks }),
    })
}

/// The memory for boot images. Locking it must be allowed before root is given away.
fn image_memory(config: &Config) -> Arc<ImageMemory> {
    let ceiling = Ceiling::read();
    let budget = ceiling.budget(config.tuning.image_memory);
    // A range may be larger than what is left of a small budget.
    if let Err(error) = raise_locked_memory(budget.saturating_add(2 * PIECE_BYTES)) {
        tracing::debug!("the limit of locked memory stays as it is: {error}");
    }
    ImageMemory::new(budget)
}

/// The start log: what this process will do to the network, and what in the configuration an operator should know of.
fn say_what_will_happen(config: &Config, arguments: &Arguments, wants_dhcp: bool) {
    let snapshot = &config.snapshot;
    tracing::info!("serving {}", config.root.display());
    if wants_dhcp {
        for subnet in &snapshot.dhcp.subnets {
            let by = subnet.interface.as_deref().map_or("relays only".to_owned(), |name| format!("interface {name}"));
            tracing::info!("DHCP on {} by {by}: {}", subnet.network, words(subnet));
        }
    } else if arguments.no_dhcp || arguments.is_by_root_alone() {
        tracing::info!("no DHCP is answered");
    } else {
        tracing::info!(
            "no DHCP is answered: no [[dhcp.subnet]] is to be served. Fill in `subnet`, `mode = \"server\"`, `interface` and `pools` \
             of one to give addresses on its network"
        );
    }
    if config.tftp.per_source.is_none() {
        tracing::info!("limits per client address are off");
    }
}

fn prefixes(written: &[String]) -> Vec<CleanPath> {
    written
        .iter()
        .filter_map(|prefix| clean(prefix.as_bytes()).ok())
        .filter(|path| !path.as_bytes().is_empty())
        .collect()
}

fn tftp_plan(config: &Config) -> TftpPlan {
    let tftp = &config.tftp;
    let limits = Limits {
        transfers_per_address_max: tftp.per_source.map_or(u16::MAX, |n| u16::try_from(n).unwrap_or(u16::MAX)),
        waiting_max: usize::try_from(tftp.queue).unwrap_or(usize::MAX),
        requests_per_second_max: tftp.requests_per_second.unwrap_or(u32::MAX),
        requests_burst_max: tftp.requests_per_second.map_or(u32::MAX, |n| n.saturating_mul(2)),
        ..Limits::default()
    };
    let policy = Policy {
        mtu: u16::MAX, // each request is held to the MTU of its own interface
        options: option_policy(tftp.options),
        tids: config.tuning.tid_sockets,
        limits,
        packets_per_ms: tftp.packets_per_ms.map_or(0, NonZeroU16::get),
        per_address_limits: tftp.per_source.is_some() || tftp.requests_per_second.is_some(),
        serve: config.snapshot.networks().into_iter().collect(),
    };
    let rules = tftp.clone();
    TftpPlan {
        listen: tftp.listen.clone(),
        tids: config.tuning.tid_sockets,
        port_range: tftp.port_range,
        policy,
        options_for: Arc::new(move |address, machine| option_policy(rules.options_for(address, machine))),
        spin: Duration::from_micros(u64::from(config.tuning.spin_us)),
        segments_max: config.tuning.gso_segments,
        receive_buffers: config.tuning.receive_buffers,
    }
}

/// Holds transfer ports and mappings to what this process may open, and says so where that is less than they would be.
fn fit(open_files: u64, workers: Option<usize>, tftp: &mut TftpPlan, images: &Images) {
    let cores = affinity::allowed().map_or(1, |allowed| placement::place(&allowed, workers).boot.len());
    let shares = descriptors::share_out(open_files, cores, tftp.tids);
    images.map_at_most(shares.mappings);
    if shares.tids < tftp.tids || shares.mappings < MAPPINGS_MAX {
        tracing::warn!(
            "this process may have {open_files} open files: {} large files are in use at a time at most, and TFTP answers from {} ports \
             a core. Raise LimitNOFILE= of the unit, or `ulimit -n`",
            shares.mappings,
            shares.tids
        );
    }
    tftp.tids = shares.tids;
    tftp.policy.tids = shares.tids;
}

/// What the supervisor is told: None = whatever the kernel gives.
fn datapath(wanted: config::Datapath) -> Option<Datapath> {
    match wanted {
        config::Datapath::Auto => None,
        config::Datapath::IoUring => Some(Datapath::IoUring),
        config::Datapath::Epoll => Some(Datapath::Epoll),
    }
}

fn http_plan(config: &Config) -> HttpPlan {
    let http = &config.http;
    let usize_of = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    HttpPlan {
        listen: http.listen.clone(),
        index: http.index.iter().filter_map(|path| clean(path.as_bytes()).ok()).collect(),
        index_file: http.index_file.clone(),
        per_source: http.per_source.map(usize_of),
        connections: usize_of(http.connections),
        chunk_bytes: u64::from(config.tuning.http_chunk),
        slots: config.tuning.http_slots,
        congestion: config.tuning.tcp_congestion,
        ..HttpPlan::default()
    }
}

fn option_policy(options: TftpOptions) -> OptionPolicy {
    OptionPolicy {
        blksize: !options.refuse_blksize,
        timeout: !options.refuse_timeout,
        tsize: !options.refuse_tsize,
        windowsize: !options.refuse_windowsize,
        block_size_max: options.blksize_max.unwrap_or(u16::MAX),
        window_max: options.windowsize_max,
    }
}

fn words(subnet: &Subnet) -> &'static str {
    match (subnet.mode, subnet.clients) {
        (Mode::Server, Clients::Pxe) => "addresses and boot files for machines that boot from the network",
        (Mode::Server, Clients::Known) => "addresses and boot files for machines with a reservation",
        (Mode::Server, Clients::Any) => "addresses and boot files for everybody",
        (Mode::Off, _) => "silent (mode = \"off\")",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::limits::{RECEIVE_BUFFERS, SEGMENTS_MAX};

    #[test]
    fn what_the_configuration_gives_by_default_is_what_the_engine_has() {
        let plan = tftp_plan(&Config::for_root("/"));
        assert_eq!((plan.segments_max, plan.receive_buffers), (SEGMENTS_MAX, RECEIVE_BUFFERS));
    }
}
