//! Every firmware model boots a system from a private server, and so do plain requests: what
//! `loadtest` counts on.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ringboot::fleet::{
    ContentMap, FirmwareModel, Fleet, FleetPace, FleetPlan, FleetProgress, FleetReport, ImageSizes,
    MachineRole, PrivateServer, Scenario, limits,
};
use ringboot::observe::events::MachineStage;

const IMAGES: ImageSizes = ImageSizes { kernel: 300_000, initrd: 500_000 };

fn serve(files: &ContentMap) -> PrivateServer {
    PrivateServer::start(Path::new(env!("CARGO_BIN_EXE_ringboot")), IMAGES, files, 1).unwrap()
}

fn plan(server: &PrivateServer, machines: u32) -> FleetPlan {
    let pace =
        FleetPace { haste: 1, idle_waits: false, gives_up: true, patience: limits::PATIENCE };
    server.make_plan(machines, pace, 1)
}

fn run(plan: FleetPlan) -> FleetReport {
    Fleet::new(plan).run(&Arc::new(FleetProgress::default())).unwrap()
}

#[test]
fn every_firmware_model_boots() {
    let server = serve(&ContentMap::default());
    for model in FirmwareModel::ALL {
        let roles = vec![MachineRole::booting(1, model)];
        let report = run(FleetPlan { roles, ..plan(&server, 2) });
        assert_eq!(
            (report.booted, report.failed()),
            (2, 0),
            "{}: {:?}",
            model.name(),
            report.failures
        );
        assert!(report.checked, "{}: every octet", model.name());
        let count = |stage| report.stages.get(&stage).map_or(0, |seen| seen.times.len());
        assert_eq!(
            (count(MachineStage::Kernel), count(MachineStage::Initrd)),
            (2, 2),
            "{}",
            model.name()
        );
        // UEFI HTTP Boot loads an iPXE, which asks for an address once more.
        assert_eq!(
            count(MachineStage::Dhcp),
            if model == FirmwareModel::UefiHttp { 4 } else { 2 },
            "{}",
            model.name()
        );
        assert!(report.records.iter().all(|record| record.model == model.name()));
    }
}

#[test]
fn requests_are_repeated_until_the_time_is_over_and_firmware_boots_again() {
    let scenario = Scenario::parse(
        "two.toml",
        r#"
        [files]
        "large.bin" = "1MiB"
        [[machine]]
        steps = [
          { dhcp = true },
          { tftp = "large.bin", blksize = 1468, windowsize = 16 },
          { http = "large.bin", range = "64KiB", repeat = 10 },
          { http = "large.bin", connection = "close" },
        ]
        [[machine]]
        firmware = "ipxe-http"
        "#,
    );
    let scenario = scenario.unwrap();
    let server = serve(&scenario.make_contents());
    let duration = Some(Duration::from_millis(700));
    let report = run(FleetPlan { roles: scenario.roles, duration, ..plan(&server, 4) });
    assert_eq!(report.failed(), 0, "{:?}", report.failures);
    assert!(report.checked && report.wall >= Duration::from_millis(700));
    let count = |stage| report.stages[&stage].times.len();
    // Machines of steps count once; each power-on of the others counts.
    let (boots, rounds) = (count(MachineStage::Kernel), count(MachineStage::Loader));
    assert_eq!(u64::from(report.machines), 2 + boots);
    assert!(boots > 2 && rounds > 2, "{boots} boots, {rounds} rounds");
    assert_eq!(count(MachineStage::File), 11 * rounds);
    assert_eq!(count(MachineStage::Dhcp), rounds + boots);
    assert_eq!(report.leases.len(), 4);
}
