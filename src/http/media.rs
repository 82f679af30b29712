//! Content-Type by name (H-26). EDK2 compares the whole value, so none has a parameter.

/// The type of a file, by the last component of its path.
pub fn media_type(path: &[u8]) -> &'static str {
    let name = path.rsplit(|&b| b == b'/').next().unwrap_or_default().to_ascii_lowercase();
    let extension = name.iter().rposition(|&b| b == b'.').map_or(&b""[..], |dot| &name[dot + 1..]);
    match extension {
        b"efi" => "application/efi",
        b"iso" => "application/vnd.efi-iso",
        b"img" => "application/vnd.efi-img",
        b"ipxe" | b"cfg" | b"conf" | b"ks" | b"seed" | b"preseed" | b"txt" | b"yaml" | b"yml" | b"xml" | b"log" => TEXT,
        b"html" | b"htm" => "text/html",
        b"json" => "application/json",
        _ if is_answer_file(&name, path) => TEXT,
        _ => "application/octet-stream",
    }
}

const TEXT: &str = "text/plain";

/// Names that boot programs and installers ask for by rule and not by extension.
fn is_answer_file(name: &[u8], path: &[u8]) -> bool {
    matches!(name, b"user-data" | b"meta-data" | b"vendor-data" | b"network-config")
        || name.starts_with(b"grub.cfg-")
        || path.split(|&b| b == b'/').any(|directory| directory == b"pxelinux.cfg")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h26_boot_files_have_the_types_that_firmware_compares() {
        for (path, wanted) in [
            ("boot/shimx64.efi", "application/efi"),
            ("BOOTX64.EFI", "application/efi"),
            ("debian-12.iso", "application/vnd.efi-iso"),
            ("boot.img", "application/vnd.efi-img"),
            ("vmlinuz", "application/octet-stream"),
            ("vmlinuz-6.1.0-18-amd64", "application/octet-stream"),
            ("initrd.gz", "application/octet-stream"),
            ("boot.ipxe", "text/plain"),
            ("ks.cfg", "text/plain"),
            ("web1.ks", "text/plain"),
            ("preseed.cfg", "text/plain"),
            ("seed/user-data", "text/plain"),
            ("grub/grub.cfg-01-52-54-00-12-34-56", "text/plain"),
            ("pxelinux.cfg/01-52-54-00-12-34-56", "text/plain"),
            ("", "application/octet-stream"),
        ] {
            assert_eq!(media_type(path.as_bytes()), wanted, "{path}");
        }
    }

    #[test]
    fn h26_no_type_has_a_parameter() {
        for extension in ["efi", "iso", "img", "ipxe", "cfg", "ks", "html", "json", "bin", ""] {
            assert!(!media_type(format!("a.{extension}").as_bytes()).contains(';'), "{extension}");
        }
    }
}
