//! Content-Type by file name (H-26). EDK2 compares the whole value, so no type has a parameter.

/// Extensions in lower case, without the dot, and their types.
const BY_EXTENSION: &[(&[u8], &str)] = &[
    (b"efi", "application/efi"),
    (b"iso", "application/vnd.efi-iso"),
    (b"img", "application/vnd.efi-img"),
    (b"ipxe", TEXT),
    (b"cfg", TEXT),
    (b"conf", TEXT),
    (b"ks", TEXT),
    (b"seed", TEXT),
    (b"preseed", TEXT),
    (b"txt", TEXT),
    (b"yaml", TEXT),
    (b"yml", TEXT),
    (b"xml", TEXT),
    (b"log", TEXT),
    (b"html", "text/html"),
    (b"htm", "text/html"),
    (b"json", "application/json"),
];

const TEXT: &str = "text/plain";

/// The type of a file, by the last component of its path.
pub fn find_media_type(path: &[u8]) -> &'static str {
    let name = path.rsplit(|&b| b == b'/').next().unwrap_or_default();
    let extension = name.iter().rposition(|&b| b == b'.').map_or(&b""[..], |dot| &name[dot + 1..]);
    let known = BY_EXTENSION.iter().find(|(known, _)| known.eq_ignore_ascii_case(extension));
    known.map_or_else(
        || if is_answer_file(name, path) { TEXT } else { "application/octet-stream" },
        |(_, media)| media,
    )
}

/// Names that boot programs and installers request by convention and not by extension.
fn is_answer_file(name: &[u8], path: &[u8]) -> bool {
    let names: [&[u8]; 4] = [b"user-data", b"meta-data", b"vendor-data", b"network-config"];
    let grub = b"grub.cfg-";
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
        || name.get(..grub.len()).is_some_and(|start| start.eq_ignore_ascii_case(grub))
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
            assert_eq!(find_media_type(path.as_bytes()), wanted, "{path}");
        }
    }

    #[test]
    fn h26_no_type_has_a_parameter() {
        for extension in ["efi", "iso", "img", "ipxe", "cfg", "ks", "html", "json", "bin", ""] {
            assert!(
                !find_media_type(format!("a.{extension}").as_bytes()).contains(';'),
                "{extension}"
            );
        }
    }
}
