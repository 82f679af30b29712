//! The EEPROM of a Raspberry Pi 4, by TFTP: its own directory first, then the root, with the files
//! that it usually does not find.
//!
//! No Pi was at hand: names and order are those of the maker's documentation (B-14) and of
//! published server logs.

use std::net::Ipv4Addr;

use super::boot::BootingMachine;
use crate::clients::fetch::fetch_required_file;
use crate::clients::tftp::FetchedTftp;
use crate::failure::BootFailure;
use crate::report::steps::BootSteps;
use ringboot_observe::events::MachineStage;

/// The names of files from config.txt.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PiConfig {
    kernel: String,
    initramfs: Option<String>,
}

impl BootingMachine<'_> {
    pub(super) async fn raspberry_pi(
        &self,
        address: Ipv4Addr,
        steps: &mut BootSteps,
    ) -> Result<(), BootFailure> {
        steps.enter(MachineStage::Loader);
        let tftp = self.make_tftp_fetcher(address);
        let folder = self.raspberry_pi_folder(address).await?;
        let in_folder = |name: &str| format!("{folder}{name}");
        tftp.fetch(&self.rom, &in_folder("config.txt"), false).await?;
        self.request_optional(address, &folder, &["pieeprom.sig", "recover4.elf", "recovery.elf"])
            .await?;
        for name in ["start4.elf", "fixup4.dat"] {
            fetch_required_file(&tftp, &self.rom, &in_folder(name)).await?;
        }
        // From here on start4.elf makes the requests.
        steps.enter(MachineStage::Menu);
        let config = match tftp.fetch(&self.rom, &in_folder("config.txt"), true).await? {
            FetchedTftp::File(text) => PiConfig::parse(&String::from_utf8_lossy(&text)),
            FetchedTftp::Missing => PiConfig::parse(""),
        };
        self.request_optional(address, &folder, &["dt-blob.bin", "bootcfg.txt"]).await?;
        fetch_required_file(&tftp, &self.rom, &in_folder("bcm2711-rpi-4-b.dtb")).await?;
        self.request_optional(
            address,
            &folder,
            &["overlays/overlay_map.dtb", "cmdline.txt", "armstub8-gic.bin"],
        )
        .await?;
        steps.enter(MachineStage::Kernel);
        fetch_required_file(&tftp, &self.rom, &in_folder(&config.kernel)).await?;
        if let Some(initramfs) = &config.initramfs {
            steps.enter(MachineStage::Initrd);
            fetch_required_file(&tftp, &self.rom, &in_folder(initramfs)).await?;
        }
        Ok(())
    }

    /// The serial number's directory if start4.elf or start.elf is in it; else the root.
    async fn raspberry_pi_folder(&self, address: Ipv4Addr) -> Result<String, BootFailure> {
        let [.., a, b, c, d] = self.port.uuid.0;
        let folder = format!("{a:02x}{b:02x}{c:02x}{d:02x}/");
        for name in ["start4.elf", "start.elf"] {
            if self
                .make_tftp_fetcher(address)
                .fetch(&self.rom, &format!("{folder}{name}"), false)
                .await?
                != FetchedTftp::Missing
            {
                return Ok(folder);
            }
        }
        Ok(String::new())
    }

    /// Requests optional names.
    async fn request_optional(
        &self,
        address: Ipv4Addr,
        folder: &str,
        names: &[&str],
    ) -> Result<(), BootFailure> {
        for name in names {
            self.make_tftp_fetcher(address)
                .fetch(&self.rom, &format!("{folder}{name}"), false)
                .await?;
        }
        Ok(())
    }
}

impl PiConfig {
    fn parse(text: &str) -> Self {
        let kernel =
            text.lines().find_map(|line| line.trim().strip_prefix("kernel=")).map(str::trim);
        // `initramfs NAME followkernel`: the only line without an equals sign.
        let initramfs =
            text.lines().find_map(|line| line.trim().strip_prefix("initramfs ")).map(str::trim);
        let initramfs =
            initramfs.and_then(|rest| rest.split_whitespace().next()).map(str::to_owned);
        // The default name of a 64-bit kernel.
        Self { kernel: kernel.unwrap_or("kernel8.img").to_owned(), initramfs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b14_config_txt_names_kernel_and_initramfs() {
        let config = PiConfig::parse(
            "arm_64bit=1\nkernel=demo/vmlinuz\ninitramfs demo/initrd.img followkernel\n",
        );
        let initramfs = Some("demo/initrd.img".to_owned());
        assert_eq!(config, PiConfig { kernel: "demo/vmlinuz".to_owned(), initramfs });
        assert_eq!(
            PiConfig::parse(""),
            PiConfig { kernel: "kernel8.img".to_owned(), initramfs: None }
        );
    }
}
