//! From a configuration to the plan of the server: the parts of all rooms are put together here.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::control::Control;
use super::supervisor::Plan;
use crate::api::state::Known;
use crate::config::{self, Config, TftpOptions};
use crate::control::examine::{ExaminedConfig, choose_file_reader, examine_config};
use crate::control::load::ConfigOverrides;
use crate::control::served::build_fence;
use crate::dhcp::subnet::{AnsweringMode, ClientAdmission, Subnet};
use crate::engine::affinity;
use crate::engine::datapath::Datapath;
use crate::guard;
use crate::images::{
    CleanPath, DiskWorkers, ImageMemory, ImageStore, MAPPINGS_MAX, MemoryCeiling, PIECE_BYTES,
    clean_path_name, raise_locked_memory,
};
use crate::observe::finding::CheckFinding;
use crate::observe::log::JournalMemory;
use crate::observe::sink;
use crate::render::TemplateRenderer;
use crate::serve::descriptors;
use crate::serve::http::HttpPlan;
use crate::serve::placement;
use crate::serve::shelf::FileSources;
use crate::serve::tftp::TftpPlan;
use crate::snapshot::PublishedState;
use crate::tftp::limits::TransferLimits;
use crate::tftp::options::OptionPolicy;
use crate::tftp::table::TftpPolicy;

/// The plan for this configuration. `open_files`: the limit of file descriptors.
pub fn plan(
    mut config: Config,
    overrides: &ConfigOverrides,
    open_files: u64,
) -> anyhow::Result<Plan> {
    let account = guard::choose_account(config.server.user.as_deref())?;
    let ExaminedConfig { borrowed, remarks } =
        examine_config(&mut config, overrides.no_dhcp, account.as_ref())?;
    remarks.iter().for_each(CheckFinding::log);
    if let Some(account) = &account {
        account.bound_capabilities();
    }
    // The first thread: from now on log lines are written, the earlier ones have waited.
    sink::start_log_writer();
    let workers = DiskWorkers::start().context("starting worker threads")?;
    let memory = image_memory(&config);
    let fence = build_fence(&config, &borrowed, choose_file_reader(account.as_ref()));
    let images = ImageStore::open_fenced(&config.root, fence, memory, workers)
        .with_context(|| format!("opening the root {}", config.root.display()))?;

    let wants_dhcp = config.dhcp.is_wanted() && !overrides.no_dhcp;
    borrowed.reasons.iter().for_each(|reason| tracing::info!("{reason}"));
    say_what_will_happen(&config, overrides, wants_dhcp);
    let published = PublishedState::new(config.snapshot.clone());
    let names = Arc::new(FileSources {
        images,
        published: Arc::clone(&published),
        renderer: TemplateRenderer::default(),
        strip_prefixes: prefixes(&config.tftp.strip_prefixes),
        ignore_case: config.tftp.case_insensitive,
    });

    // Without DHCP the server knows no machine, and needs no state directory.
    let (dhcp, memory, quirks) = match wants_dhcp {
        true => super::dhcp::plan(&config, &published, account.as_ref())
            .map(|(dhcp, memory, quirks)| (Some(dhcp), memory, Some(quirks)))?,
        false => (None, JournalMemory::default(), None),
    };

    let journal = Arc::clone(&memory.journal);
    let workers = overrides.workers.map(usize::from).or(config.server.workers);
    let mut tftp = tftp_plan(&config);
    limit_descriptors(open_files, workers, &mut tftp, &names.images);
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
        control: Control::new(config, borrowed.files, overrides.clone(), Known { journal, quirks }),
    })
}

/// The memory for boot images. The limit of locked memory must be raised before the process drops
/// root.
fn image_memory(config: &Config) -> Arc<ImageMemory> {
    let ceiling = MemoryCeiling::read();
    let budget = ceiling.budget(config.tuning.image_memory);
    // Beside the budget, one range may be locked that is larger than the rest of a small budget.
    if let Err(error) = raise_locked_memory(budget.saturating_add(2 * PIECE_BYTES)) {
        tracing::debug!("the limit of locked memory stays as it is: {error}");
    }
    ImageMemory::new(budget)
}

/// Logs at the start what this process will do on the network.
fn say_what_will_happen(config: &Config, overrides: &ConfigOverrides, wants_dhcp: bool) {
    let snapshot = &config.snapshot;
    tracing::info!("serving {}", config.root.display());
    if wants_dhcp {
        for subnet in &snapshot.dhcp.subnets {
            let by = subnet
                .interface
                .as_deref()
                .map_or("relays only".to_owned(), |name| format!("interface {name}"));
            tracing::info!("DHCP on {} by {by}: {}", subnet.network, describe_mode(subnet));
        }
    } else if overrides.no_dhcp || overrides.is_by_root_alone() {
        // Nothing is missing: the command line asks for no DHCP, or names a root and no
        // configuration.
        tracing::info!("this server answers no DHCP");
    } else {
        tracing::info!(
            "this server answers no DHCP: no [[dhcp.subnet]] is to be served. Fill in `subnet`, \
             `mode = \"server\"`, `interface` and `pools` of one to give addresses on its network"
        );
    }
    if config.tftp.per_source.is_none() {
        tracing::info!("limits per client address are off");
    }
}

fn prefixes(written: &[String]) -> Vec<CleanPath> {
    written
        .iter()
        .filter_map(|prefix| clean_path_name(prefix.as_bytes()).ok())
        .filter(|path| !path.as_bytes().is_empty())
        .collect()
}

fn tftp_plan(config: &Config) -> TftpPlan {
    let tftp = &config.tftp;
    let limits = TransferLimits {
        transfers_per_address_max: tftp
            .per_source
            .map_or(u16::MAX, |n| u16::try_from(n).unwrap_or(u16::MAX)),
        waiting_max: widen_limit(tftp.queue),
        requests_per_second_max: tftp.requests_per_second.unwrap_or(u32::MAX),
        requests_burst_max: tftp.requests_per_second.map_or(u32::MAX, |n| n.saturating_mul(2)),
        ..TransferLimits::default()
    };
    let policy = TftpPolicy {
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
        options_for: Arc::new(move |address, machine| {
            option_policy(rules.options_for(address, machine))
        }),
        spin: Duration::from_micros(u64::from(config.tuning.spin_us)),
        segments_max: config.tuning.gso_segments,
        receive_buffers: config.tuning.receive_buffers,
    }
}

/// Limits transfer ports and mappings to the descriptors of this process, and logs it if that
/// reduces them.
fn limit_descriptors(
    open_files: u64,
    workers: Option<usize>,
    tftp: &mut TftpPlan,
    images: &ImageStore,
) {
    // A mask that cannot be read counts as one processor here: `supervisor::run` ends the start
    // with the error.
    let cores = affinity::list_allowed_processors()
        .map_or(1, |allowed| placement::place(&allowed, workers).boot.len());
    let shares = descriptors::share_out(open_files, cores, tftp.tids);
    images.limit_mappings(shares.mappings);
    if shares.tids < tftp.tids || shares.mappings < MAPPINGS_MAX {
        tracing::warn!(
            "this process may have {open_files} open files: {} large files are in use at a time at \
             most, and TFTP answers from {} ports a core. Raise LimitNOFILE= of the unit, or \
             `ulimit -n`",
            shares.mappings,
            shares.tids
        );
    }

    // The supervisor binds the one number of ports, and the transfer table chooses among the other.
    tftp.tids = shares.tids;
    tftp.policy.tids = shares.tids;
}

/// The datapath that the supervisor must use; None: the best one that the kernel gives.
fn datapath(wanted: config::DatapathChoice) -> Option<Datapath> {
    match wanted {
        config::DatapathChoice::Auto => None,
        config::DatapathChoice::IoUring => Some(Datapath::IoUring),
        config::DatapathChoice::Epoll => Some(Datapath::Epoll),
    }
}

fn http_plan(config: &Config) -> HttpPlan {
    let http = &config.http;
    HttpPlan {
        listen: http.listen.clone(),
        index: http.index.iter().filter_map(|path| clean_path_name(path.as_bytes()).ok()).collect(),
        index_file: http.index_file.clone(),
        per_source: http.per_source.map(widen_limit),
        connections: widen_limit(http.connections),
        chunk_bytes: u64::from(config.tuning.http_chunk),
        slots: config.tuning.http_slots,
        congestion: config.tuning.tcp_congestion,
        ..HttpPlan::default()
    }
}

fn widen_limit(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
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

/// What the start log says about a subnet.
fn describe_mode(subnet: &Subnet) -> &'static str {
    match (subnet.mode, subnet.clients) {
        (AnsweringMode::Server, ClientAdmission::Pxe) => {
            "addresses and boot files for machines that boot from the network"
        }
        (AnsweringMode::Server, ClientAdmission::Known) => {
            "addresses and boot files for machines with a reservation"
        }
        (AnsweringMode::Server, ClientAdmission::Any) => {
            "addresses and boot files for every client"
        }
        (AnsweringMode::Off, _) => "silent (mode = \"off\")",
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
