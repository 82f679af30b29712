//! What kind of program a boot file is: the fields of a PE image that name its processor and show
//! whether it is signed.

/// Bytes of a file that [`BootProgram::detect`] reads: the headers of every loader fit well within.
pub const HEAD_BYTES: usize = 4096;

/// PE machine types (PE/COFF specification, "Machine Types").
const MACHINE_X64: u16 = 0x8664;
const MACHINE_IA32: u16 = 0x014c;
const MACHINE_ARM64: u16 = 0xaa64;
/// IMAGE_SUBSYSTEM_EFI_APPLICATION; drivers (11, 12) and ROMs (13) are no boot files.
const SUBSYSTEM_EFI_APPLICATION: u16 = 10;
/// Magic numbers of the optional header: 32-bit and 64-bit images.
const PE32: u16 = 0x010b;
const PE32_PLUS: u16 = 0x020b;
/// Bytes in which to look for an HTML tag: blanks and a byte order mark may come before it.
const HTML_SEEN_BYTES: usize = 256;
/// Index of the attribute certificate table among the data directories.
const SECURITY_DIRECTORY: usize = 4;

/// The kind of a boot file, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootProgram {
    /// A PE image.
    Efi {
        /// The processor that it was built for.
        machine: PeMachine,
        /// True for a program that firmware starts, false for a driver.
        is_application: bool,
        /// True where the image carries a certificate, trusted or not.
        is_signed: bool,
    },
    /// An ELF image.
    Elf,
    /// Readable text: a script, a menu, or an error page that was saved as a loader.
    Text,
    /// No bytes at all.
    Empty,
    /// Any other bytes, such as a BIOS boot program without a header.
    Raw,
}

/// The processor that a PE image was built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeMachine {
    /// 64-bit x86.
    X64,
    /// 32-bit x86.
    Ia32,
    /// 64-bit Arm.
    Arm64,
    /// Another number of the PE/COFF specification.
    Other(u16),
}

impl BootProgram {
    /// Detects the kind from the first [`HEAD_BYTES`] of a file, or from all of a shorter one.
    pub fn detect(head: &[u8]) -> Self {
        if head.is_empty() {
            return Self::Empty;
        }
        if let Some(efi) = parse_efi_image(head) {
            return efi;
        }
        if head.starts_with(b"\x7fELF") {
            return Self::Elf;
        }
        let is_text = head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
        if is_text { Self::Text } else { Self::Raw }
    }

    /// The kind in words, with an article.
    pub fn describe(self) -> String {
        match self {
            Self::Efi { machine, is_application: true, .. } => {
                format!("a UEFI program for {}", machine.name())
            }
            Self::Efi { machine, .. } => {
                format!("a PE file for {} that is no UEFI program", machine.name())
            }
            Self::Elf => "an ELF file, a program for an operating system".to_owned(),
            Self::Text => "a text file".to_owned(),
            Self::Empty => "an empty file".to_owned(),
            Self::Raw => "no UEFI program".to_owned(),
        }
    }
}

impl PeMachine {
    /// The name in the configuration's keys.
    pub fn name(self) -> String {
        match self {
            Self::X64 => "x64".to_owned(),
            Self::Ia32 => "ia32".to_owned(),
            Self::Arm64 => "arm64".to_owned(),
            Self::Other(number) => format!("machine type {number:#06x}"),
        }
    }
}

/// What a file is, where it cannot be a kernel, or an initrd. An initrd may be text, since loaders
/// hand text files to the kernel (wimboot reads scripts); iPXE runs a script in the place of a
/// kernel. An HTML page is neither.
pub fn image_fault(head: &[u8], is_kernel: bool) -> Option<String> {
    let text: String = head
        .iter()
        .take(HTML_SEEN_BYTES)
        .map(|byte| char::from(*byte).to_ascii_lowercase())
        .collect();
    if ["<!doctype html", "<html"].iter().any(|start| text.trim_start().starts_with(start)) {
        return Some("an HTML page".to_owned());
    }
    let fault = match BootProgram::detect(head) {
        BootProgram::Empty => BootProgram::Empty,
        BootProgram::Text if is_kernel && !head.starts_with(b"#!") => BootProgram::Text,
        _ => return None,
    };
    Some(fault.describe())
}

/// Parses a PE image. None for other files, and for a header that reaches beyond these bytes.
fn parse_efi_image(head: &[u8]) -> Option<BootProgram> {
    const OPTIONAL_HEADER: usize = 24;
    if !head.starts_with(b"MZ") {
        return None;
    }
    let pe = usize::try_from(read_pe_u32(head, 0x3c)?).ok()?;
    if head.get(pe..pe.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    let machine = match read_pe_u16(head, pe + 4)? {
        MACHINE_X64 => PeMachine::X64,
        MACHINE_IA32 => PeMachine::Ia32,
        MACHINE_ARM64 => PeMachine::Arm64,
        other => PeMachine::Other(other),
    };
    let optional = pe + OPTIONAL_HEADER;
    // The 64-bit header has no BaseOfData and four wider fields: its directories begin 16 bytes
    // later.
    let directories = match read_pe_u16(head, optional)? {
        PE32 => optional + 96,
        PE32_PLUS => optional + 112,
        _ => return None,
    };
    let is_application = read_pe_u16(head, optional + 68)? == SUBSYSTEM_EFI_APPLICATION;
    let count = usize::try_from(read_pe_u32(head, directories - 4)?).ok()?;
    let size = read_pe_u32(head, directories + 8 * SECURITY_DIRECTORY + 4);
    let is_signed = count > SECURITY_DIRECTORY && size.is_some_and(|size| size > 0);
    Some(BootProgram::Efi { machine, is_application, is_signed })
}

/// The smallest head of a UEFI program for x64, for loaders in tests.
pub fn build_x64_program() -> [u8; 0x200] {
    const PE: usize = 0x80;
    let mut head = [0; 0x200];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &[0x80]);
    put(PE, b"PE\0\0");
    put(PE + 4, &MACHINE_X64.to_le_bytes());
    put(PE + 24, &PE32_PLUS.to_le_bytes());
    put(PE + 24 + 68, &SUBSYSTEM_EFI_APPLICATION.to_le_bytes());
    put(PE + 24 + 108, &[16]); // data directories
    head
}

fn read_pe_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn read_pe_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(at: usize, bytes: &[u8]) -> BootProgram {
        let mut head = build_x64_program();
        head[at..at + bytes.len()].copy_from_slice(bytes);
        BootProgram::detect(&head)
    }

    #[test]
    fn machine_subsystem_and_signature_are_read() {
        let x64 =
            BootProgram::Efi { machine: PeMachine::X64, is_application: true, is_signed: false };
        assert_eq!(BootProgram::detect(&build_x64_program()), x64);
        let signed = with(0x80 + 24 + 112 + 8 * 4 + 4, &[8, 1]);
        assert_eq!(
            signed,
            BootProgram::Efi { machine: PeMachine::X64, is_application: true, is_signed: true }
        );
        for (number, machine) in [
            (0x014c, PeMachine::Ia32),
            (0xaa64, PeMachine::Arm64),
            (0x5064, PeMachine::Other(0x5064)),
        ] {
            let found = with(0x84, &u16::to_le_bytes(number));
            assert!(
                matches!(found, BootProgram::Efi { machine: found, .. } if found == machine),
                "{found:?}"
            );
        }
        let driver = with(0x80 + 24 + 68, &[11]);
        assert!(matches!(driver, BootProgram::Efi { is_application: false, .. }));
        for (program, said) in [
            (x64, "a UEFI program for x64"),
            (driver, "a PE file for x64 that is no UEFI program"),
            (with(0x84, &[0x4c, 0x01]), "a UEFI program for ia32"),
            (with(0x84, &[0x64, 0xaa]), "a UEFI program for arm64"),
            (with(0x84, &[0x64, 0x50]), "a UEFI program for machine type 0x5064"),
        ] {
            assert_eq!(program.describe(), said);
        }
    }

    #[test]
    fn an_image_is_signed_whose_directories_reach_to_a_certificate() {
        for (directories, signed) in [(0, false), (4, false), (5, true), (16, true)] {
            let mut head = build_x64_program();
            head[0x80 + 24 + 108] = directories;
            head[0x80 + 24 + 112 + 8 * 4 + 4] = 1;
            let found = BootProgram::detect(&head);
            assert!(
                matches!(found, BootProgram::Efi { is_signed, .. } if is_signed == signed),
                "{directories}: {found:?}"
            );
        }
    }

    #[test]
    fn a_32_bit_header_has_its_directories_elsewhere() {
        let mut head = build_x64_program();
        head[0x80 + 24..0x80 + 26].copy_from_slice(&PE32.to_le_bytes());
        head[0x80 + 24 + 92] = 16;
        head[0x80 + 24 + 96 + 8 * 4 + 4] = 1;
        assert!(matches!(BootProgram::detect(&head), BootProgram::Efi { is_signed: true, .. }));
    }

    #[test]
    fn other_files_are_told_apart() {
        assert_eq!(BootProgram::detect(b""), BootProgram::Empty);
        assert_eq!(BootProgram::detect(b"<html>\n404 not found\n"), BootProgram::Text);
        assert_eq!(BootProgram::detect(b"\x7fELF\x02\x01\x01\0"), BootProgram::Elf);
        assert_eq!(BootProgram::detect(b"\xea\x05\0\xc0\x07"), BootProgram::Raw);
        assert_eq!(
            with(0x3c, &[0xff, 0xff, 0xff, 0xff]),
            BootProgram::Raw,
            "the header lies beyond the end"
        );
    }

    #[test]
    fn what_is_no_kernel_and_no_initial_disk_is_known_by_its_first_bytes() {
        for (head, of_kernel, of_initrd) in [
            (&b""[..], Some("an empty file"), Some("an empty file")),
            (b"\n <!DOCTYPE HTML>\n<html>404", Some("an HTML page"), Some("an HTML page")),
            (b"<html><body>", Some("an HTML page"), Some("an HTML page")),
            (b"not found\n", Some("a text file"), None),
            (b"#!ipxe\nboot\n", None, None),
            (b"\x1f\x8b\x08\0", None, None),
            (b"070701\0\0", None, None),
            (b"MZ\0\0", None, None),
        ] {
            assert_eq!(image_fault(head, true).as_deref(), of_kernel, "{head:?}");
            assert_eq!(image_fault(head, false).as_deref(), of_initrd, "{head:?}");
        }
    }

    /// Every head with one byte changed, and every shorter one, gives an answer.
    #[test]
    fn no_head_is_too_broken_to_be_read() {
        let head = build_x64_program();
        for at in 0..head.len() {
            let _ = BootProgram::detect(&head[..at]);
            for value in [0, 1, 0x7f, 0x80, 0xff, head[at] ^ 0x10] {
                let mut mutant = head;
                mutant[at] = value;
                for end in [at, at + 1, 0x100, head.len()] {
                    let _ = BootProgram::detect(&mutant[..end]).describe();
                }
            }
        }
        assert_eq!(
            BootProgram::detect(&head[..0x80 + 24 + 68]),
            BootProgram::Raw,
            "cut short before it says what it is"
        );
    }
}
