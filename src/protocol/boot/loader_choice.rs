//! Which loader a firmware class gets, and why.

use std::net::Ipv4Addr;

use crate::model::machine::{Arch, Firmware, FirmwareRole};

/// The loader of each firmware class: a path under the root, or (iPXE, HTTP Boot) an `http://` URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootConfig {
    /// `[boot] bios`: option 93 = 0.
    pub bios: Option<String>,
    /// `[boot] uefi-x64`: option 93 = 7 or 9.
    pub uefi_x64: Option<String>,
    /// `[boot] uefi-ia32`: option 93 = 6.
    pub uefi_ia32: Option<String>,
    /// `[boot] uefi-arm64`: option 93 = 11.
    pub uefi_arm64: Option<String>,
    /// `[boot] uefi-http`, for UEFI HTTP Boot: an `http://` URL, or a path under the root from
    /// which the URL is made.
    pub uefi_http: Option<String>,
    /// `[boot] ipxe`, for a client that is iPXE already; None = the rendered script.
    pub ipxe: Option<String>,
}

/// The host and the port in the URLs of boot files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UrlOrigin {
    /// The address of this server, as the machine sees it.
    pub server: Ipv4Addr,
    /// TCP port of HTTP.
    pub http_port: u16,
}

impl UrlOrigin {
    /// `http://192.168.4.150/boot.ipxe`; port 80 is left out. The host is an address, not a name:
    /// HTTP firmware does not hand its name servers on.
    pub fn url(self, path: &str) -> String {
        let path = path.trim_start_matches('/');
        match self.http_port {
            80 => format!("http://{}/{path}", self.server),
            port => format!("http://{}:{port}/{path}", self.server),
        }
    }
}

/// The boot file of a machine, and why it is this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderChoice {
    /// The boot file: a TFTP name or a URL. None: no boot file.
    pub file: Option<String>,
    /// One clause, such as `loader shimx64.efi because option 93 = 7`.
    pub reason: String,
    /// True for a machine that needs a boot file and gets none: the operator gets an event (D-73).
    pub missing: bool,
}

/// The rendered script that iPXE gets unless `[boot] ipxe` names another file.
pub const IPXE_SCRIPT: &str = "boot.ipxe";

/// The boot file of a firmware class. `evidence` names the option that shows the class (`option 93
/// = 7`); `speaks_http` is false for an iPXE that lists no HTTP (D-70).
pub fn choose_loader(
    firmware: Firmware,
    evidence: &str,
    speaks_http: bool,
    boot: &BootConfig,
    origin: UrlOrigin,
) -> LoaderChoice {
    match firmware.role {
        FirmwareRole::Pxe => choose_by_arch(firmware.arch, evidence, boot),
        FirmwareRole::Ipxe => choose_for_ipxe(firmware.arch, evidence, speaks_http, boot, origin),
        FirmwareRole::HttpBoot => choose_for_http_boot(firmware.arch, evidence, boot, origin),
        FirmwareRole::RaspberryPi => make_empty_choice(format!(
            "no boot file because a Raspberry Pi asks for its own files ({evidence})"
        )),
        FirmwareRole::UBoot => make_empty_choice(format!(
            "no boot file because U-Boot looks for pxelinux.cfg itself ({evidence})"
        )),
        FirmwareRole::System => {
            make_empty_choice("no boot file because the client says nothing of booting".to_owned())
        }
    }
}

fn choose_by_arch(arch: Option<Arch>, evidence: &str, boot: &BootConfig) -> LoaderChoice {
    match find_configured_loader(arch, boot) {
        (_, Some(name)) => {
            make_file_choice(name.to_owned(), format!("loader {name} because {evidence}"))
        }
        (Some(key), None) => make_missing_choice(format!(
            "no boot file because [boot] {key} is not set ({evidence})"
        )),
        (None, None) => make_missing_choice(format!(
            "no boot file because no loader can be configured for this client ({evidence})"
        )),
    }
}

/// iPXE never gets an iPXE: it would load itself without end (D-69).
fn choose_for_ipxe(
    arch: Option<Arch>,
    evidence: &str,
    speaks_http: bool,
    boot: &BootConfig,
    origin: UrlOrigin,
) -> LoaderChoice {
    if let Some(name) = boot.ipxe.as_deref().filter(|name| !is_ipxe_binary(name)) {
        // A client with HTTP fetches a script under the root by HTTP, and needs no TFTP.
        if name.ends_with(".ipxe") && !is_loader_url(name) && speaks_http {
            let url = origin.url(name);
            return make_file_choice(
                url,
                format!("script {name} because the client is iPXE ({evidence})"),
            );
        }
        return make_file_choice(
            name.to_owned(),
            format!("{name} because the client is iPXE ({evidence})"),
        );
    }
    if let (_, Some(name)) = find_configured_loader(arch, boot)
        && !is_ipxe_binary(name)
    {
        return make_file_choice(
            name.to_owned(),
            format!("loader {name} for iPXE because {evidence} and [boot] ipxe is not set"),
        );
    }
    if !speaks_http {
        let reason = format!(
            "{IPXE_SCRIPT} by TFTP because this iPXE says that it has no HTTP ({evidence})"
        );
        return make_file_choice(IPXE_SCRIPT.to_owned(), reason);
    }
    make_file_choice(
        origin.url(IPXE_SCRIPT),
        format!("script {IPXE_SCRIPT} because the client is iPXE ({evidence})"),
    )
}

/// An absolute `http://` URL or nothing: HTTP Boot firmware must never see a TFTP name (D-66).
fn choose_for_http_boot(
    arch: Option<Arch>,
    evidence: &str,
    boot: &BootConfig,
    origin: UrlOrigin,
) -> LoaderChoice {
    if !arch.is_some_and(Arch::is_uefi) {
        return make_missing_choice(format!(
            "no boot file because HTTP Boot is for UEFI x64, ia32 and arm64 only ({evidence})"
        ));
    }
    let Some(configured) = boot.uefi_http.as_deref() else {
        return make_missing_choice(format!(
            "no boot file because [boot] uefi-http is not set ({evidence})"
        ));
    };

    // The host of a URL under the root is our address, which needs no name server (D-66).
    let url =
        if is_loader_url(configured) { configured.to_owned() } else { origin.url(configured) };
    let reason = format!("{url} because the client is HTTP Boot firmware ({evidence})");
    make_file_choice(url, reason)
}

/// The configuration key of an architecture and its value.
fn find_configured_loader(
    arch: Option<Arch>,
    boot: &BootConfig,
) -> (Option<&'static str>, Option<&str>) {
    let (key, value) = match arch {
        Some(Arch::Bios) => ("bios", &boot.bios),
        Some(Arch::UefiX64) => ("uefi-x64", &boot.uefi_x64),
        Some(Arch::UefiIa32) => ("uefi-ia32", &boot.uefi_ia32),
        Some(Arch::UefiArm64) => ("uefi-arm64", &boot.uefi_arm64),
        Some(Arch::Other(_)) | None => return (None, None),
    };
    (Some(key), value.as_deref())
}

/// True for the usual file names of iPXE binaries; an `.ipxe` file is a script.
fn is_ipxe_binary(name: &str) -> bool {
    let file = name.rsplit(['/', '\\']).next().unwrap_or(name).to_ascii_lowercase();
    !file.ends_with(".ipxe")
        && ["ipxe", "undionly", "snponly"].iter().any(|part| file.contains(part))
}

fn is_loader_url(name: &str) -> bool {
    name.contains("://")
}

fn make_file_choice(file: String, reason: String) -> LoaderChoice {
    LoaderChoice { file: Some(file), reason, missing: false }
}

fn make_empty_choice(reason: String) -> LoaderChoice {
    LoaderChoice { file: None, reason, missing: false }
}

fn make_missing_choice(reason: String) -> LoaderChoice {
    LoaderChoice { file: None, reason, missing: true }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ORIGIN: UrlOrigin = UrlOrigin { server: Ipv4Addr::new(192, 168, 4, 150), http_port: 80 };

    fn boot() -> BootConfig {
        BootConfig {
            bios: Some("pxelinux.0".into()),
            uefi_x64: Some("shimx64.efi".into()),
            uefi_http: Some("efi/bootx64.efi".into()),
            ..BootConfig::default()
        }
    }

    fn file(role: FirmwareRole, arch: Option<Arch>, boot: &BootConfig) -> Option<String> {
        choose_loader(Firmware { role, arch }, "option 93", true, boot, ORIGIN).file
    }

    #[test]
    fn every_class_gets_its_configured_loader() {
        assert_eq!(file(FirmwareRole::Pxe, Some(Arch::Bios), &boot()).unwrap(), "pxelinux.0");
        assert_eq!(file(FirmwareRole::Pxe, Some(Arch::UefiX64), &boot()).unwrap(), "shimx64.efi");
        assert_eq!(file(FirmwareRole::RaspberryPi, Some(Arch::Bios), &boot()), None);
        assert_eq!(file(FirmwareRole::UBoot, None, &boot()), None);
        assert_eq!(file(FirmwareRole::System, None, &boot()), None);
    }

    #[test]
    fn d73_an_architecture_without_loader_gets_none_and_the_operator_hears_why() {
        let arm64 = Firmware { role: FirmwareRole::Pxe, arch: Some(Arch::UefiArm64) };
        let choice = choose_loader(arm64, "option 93 = 11", true, &boot(), ORIGIN);
        assert_eq!((choice.file, choice.missing), (None, true));
        assert_eq!(
            choice.reason,
            "no boot file because [boot] uefi-arm64 is not set (option 93 = 11)"
        );
        let riscv = Firmware { role: FirmwareRole::Pxe, arch: Some(Arch::Other(27)) };
        assert!(choose_loader(riscv, "option 93 = 27", true, &boot(), ORIGIN).missing);
    }

    #[test]
    fn d69_ipxe_never_gets_an_ipxe_binary() {
        assert_eq!(file(FirmwareRole::Ipxe, Some(Arch::Bios), &boot()).unwrap(), "pxelinux.0");
        for binary in
            ["undionly.kpxe", "boot/ipxe.efi", "SNPONLY.EFI", "ipxe-arm64.efi", "a\\ipxe.pxe"]
        {
            let only = BootConfig { bios: Some(binary.into()), ..BootConfig::default() };
            assert_eq!(
                file(FirmwareRole::Ipxe, Some(Arch::Bios), &only).unwrap(),
                "http://192.168.4.150/boot.ipxe"
            );
            let wrong = BootConfig { ipxe: Some(binary.into()), ..BootConfig::default() };
            assert_eq!(
                file(FirmwareRole::Ipxe, Some(Arch::Bios), &wrong).unwrap(),
                "http://192.168.4.150/boot.ipxe"
            );
        }
        let by_http = "http://192.168.4.150/menu.ipxe";
        for (written, given) in [
            ("http://h/x.ipxe", "http://h/x.ipxe"),
            ("menu.ipxe", by_http),
            ("lpxelinux.0", "lpxelinux.0"),
        ] {
            let set = BootConfig { ipxe: Some(written.into()), ..boot() };
            assert_eq!(file(FirmwareRole::Ipxe, Some(Arch::Bios), &set).unwrap(), given);
        }
        assert_eq!(
            file(FirmwareRole::Ipxe, None, &boot()).unwrap(),
            "http://192.168.4.150/boot.ipxe"
        );
    }

    #[test]
    fn d70_an_ipxe_without_http_gets_the_script_by_tftp() {
        let ipxe = Firmware { role: FirmwareRole::Ipxe, arch: Some(Arch::UefiArm64) };
        assert_eq!(
            choose_loader(ipxe, "option 175", false, &boot(), ORIGIN).file.unwrap(),
            "boot.ipxe"
        );
        let set = BootConfig { ipxe: Some("menu.ipxe".into()), ..boot() };
        assert_eq!(
            choose_loader(ipxe, "option 175", false, &set, ORIGIN).file.unwrap(),
            "menu.ipxe"
        );
    }

    #[test]
    fn d66_http_boot_gets_an_absolute_url_or_nothing() {
        let http = |boot: &BootConfig| file(FirmwareRole::HttpBoot, Some(Arch::UefiX64), boot);
        assert_eq!(http(&boot()).unwrap(), "http://192.168.4.150/efi/bootx64.efi");
        let url = BootConfig { uefi_http: Some("http://10.0.0.1/a.efi".into()), ..boot() };
        assert_eq!(http(&url).unwrap(), "http://10.0.0.1/a.efi");
        assert_eq!(http(&BootConfig { uefi_http: None, ..boot() }), None, "never the TFTP loader");
        assert_eq!(file(FirmwareRole::HttpBoot, Some(Arch::Bios), &boot()), None);
        assert_eq!(
            UrlOrigin { http_port: 8080, ..ORIGIN }.url("/a"),
            "http://192.168.4.150:8080/a"
        );
    }
}
