//! The menu model of all loaders: its fields, their limits, and which entry installs unattended.

/// `[menu]`: a boot menu, rendered for the loader that asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootMenu {
    /// The heading of the menu.
    pub title: String,
    /// The entries below the local disk, in their order.
    pub entries: Vec<MenuEntry>,
    /// Label of the default entry; None = the local disk.
    pub default: Option<String>,
    /// Seconds until the default entry starts; 0 waits without end.
    pub timeout_s: u32,
    /// Picture for vesamenu, a path under the root.
    pub background: Option<String>,
    /// Text file that PXELINUX shows above its prompt, a path under the root.
    pub display: Option<String>,
    /// Serial console, such as `ttyS0,115200n8`, for the loaders and the kernel.
    pub console: Option<String>,
}

/// `[[menu.entry]]`: one line of the menu.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MenuEntry {
    /// Short unique name, for prompts and for `default`.
    pub label: String,
    /// The text at the console; `^` stands before the hot key.
    pub title: String,
    /// Path under the root (or an http URL).
    pub kernel: String,
    /// The same for each initial RAM disk, in loading order.
    pub initrds: Vec<String>,
    /// Kernel command line.
    pub arguments: String,
}

/// Label of the entry that boots the machine's disk. Every menu has it, and no configuration may
/// use the label.
pub const LOCAL_LABEL: &str = "local";
/// Longest path: PXELINUX and U-Boot cannot request a longer name.
pub const PATH_MAX_BYTES: usize = 127;
/// Longest title: a line of a text screen.
pub const TITLE_MAX_BYTES: usize = 72;
/// Longest kernel arguments. PXELINUX takes 2,047 bytes after APPEND, which hold initrds,
/// `console=` and BOOTIF as well; a kernel takes 2,048 and more.
pub const ARGUMENTS_MAX_BYTES: usize = 1_400;
/// Most initrds of an entry: with the longest names, they and the arguments fit APPEND.
pub const INITRDS_MAX: usize = 4;
/// Longest label: iPXE and PXELINUX print labels at their prompts.
pub const LABEL_MAX_BYTES: usize = 32;

/// The argument that makes this entry an unattended installation, because it answers the
/// installer's questions. None: the installer asks a person.
pub fn find_entry_argument(entry: &MenuEntry) -> Option<&str> {
    find_unattended_argument(&entry.arguments)
}

/// The same for kernel arguments from any source.
pub fn find_unattended_argument(arguments: &str) -> Option<&str> {
    const ANSWERS: [&str; 12] = [
        "ks=",
        "inst.ks=",
        "ks",
        "inst.ks",
        "preseed/url=",
        "preseed/file=",
        "url=",
        "autoyast=",
        "autoyast2=",
        "inst.auto=",
        "agama.auto=",
        "ignition.config.url=",
    ];
    arguments.split_ascii_whitespace().find(|argument| {
        let argument = argument.trim_matches('"');
        let (name, value) =
            argument.split_once('=').map_or((argument, None), |(name, value)| (name, Some(value)));
        // The whole name must match: `ksdevice=eth0` answers no question.
        let spelled = if value.is_some() { &argument[..=name.len()] } else { name };
        ANSWERS.contains(&spelled)
            || matches!(
                (name, value),
                ("auto" | "auto-install/enable", Some("true")) | ("autoinstall" | "preseed", _)
            )
            || name.starts_with("coreos.inst.")
    })
}

/// Why this text cannot be a label, as a clause that follows the text; None if it can.
pub fn label_fault(label: &str) -> Option<&'static str> {
    if !label.bytes().all(is_label_byte)
        || !label.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
    {
        return Some(
            "is no name: use letters, digits, `.`, `_` and `-`, and begin with a letter or digit",
        );
    }
    (label.len() > LABEL_MAX_BYTES).then_some("is longer than 32 bytes")
}

fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}

/// Why this text cannot be a title, as a clause that follows the text; None if it can.
pub fn title_fault(title: &str) -> Option<&'static str> {
    // Loaders without hot keys print the title without `^`, which must be harmless as well.
    let plain = title.replace('^', "");
    if plain.trim().is_empty() || plain.starts_with('-') {
        return Some("is empty or begins with `-`, which iPXE reads as an option");
    }
    if title.len() > TITLE_MAX_BYTES {
        return Some("is longer than 72 bytes, a line of a text screen");
    }
    text_fault(title).or_else(|| text_fault(&plain))
}

/// Why these cannot be kernel arguments, as a clause that follows them; None if they can.
pub fn arguments_fault(arguments: &str) -> Option<&'static str> {
    if arguments.len() > ARGUMENTS_MAX_BYTES {
        return Some("are longer than 1400 bytes, more than PXELINUX passes on");
    }
    if arguments.contains(['\'', '\\']) {
        return Some("hold ' or \\, and GRUB would put a \\ before it");
    }
    if !arguments.matches('"').count().is_multiple_of(2) {
        return Some("hold a quotation mark that is not closed");
    }
    text_fault(arguments)
}

/// Why some client cannot request this path, as a clause that follows the path; None if all can
/// (H-25).
pub fn path_fault(path: &str) -> Option<&'static str> {
    if path.trim_matches('/').is_empty() {
        return Some("names no file");
    }
    if path.len() > PATH_MAX_BYTES {
        return Some("is longer than 127 bytes, more than PXELINUX and U-Boot can ask for");
    }
    if !path.bytes().all(is_path_byte) {
        return Some(
            "holds a blank or a sign that boot loaders do not pass on: use letters, digits and / . \
             _ - + ~ @ =",
        );
    }
    path.split('/').any(|part| part == "..").then_some("holds `..`: write it without")
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/._-+~@=".contains(&byte)
}

/// The same for a path under the root or an `http://` URL.
pub fn location_fault(location: &str) -> Option<&'static str> {
    if let Some((authority, path)) = split_http_url(location) {
        let host = !authority.is_empty() && authority.bytes().all(is_authority_byte);
        return if host {
            path_fault(path)
        } else {
            Some("has no host that a boot loader could reach")
        };
    }
    if location.contains("://") {
        return Some("is neither a path under the root nor an http:// URL");
    }
    path_fault(location)
}

fn is_authority_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte)
}

/// Why this is no serial console, as a clause that follows the text; None if it is one.
pub fn console_fault(console: &str) -> Option<&'static str> {
    let wrong = "is no console as a kernel knows it, such as ttyS0,115200n8";
    if SerialConsole::parse(console).is_some() { None } else { Some(wrong) }
}

/// The host, with its port, and the path of an `http://` URL.
pub(super) fn split_http_url(location: &str) -> Option<(&str, &str)> {
    let rest = location.strip_prefix("http://")?;
    Some(rest.split_at(rest.find('/').unwrap_or(rest.len())))
}

/// The parts of a kernel's `console=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SerialConsole {
    /// The n of `ttySn`; None for other ports, which the loaders do not drive.
    pub(super) port: Option<u8>,
    pub(super) baud: u32,
    /// `n`, `e` or `o`.
    pub(super) parity: char,
    pub(super) bits: char,
}

impl SerialConsole {
    /// Parses `ttyS0`, `ttyS0,115200`, `ttyS0,115200n8`, `ttyAMA0,115200`. The default is the
    /// kernel's: 9600n8.
    pub(super) fn parse(console: &str) -> Option<Self> {
        let (name, mode) = console.split_once(',').unwrap_or((console, "9600"));
        let kind = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let number: u8 = name[kind.len()..].parse().ok()?;
        let named =
            (1..=8).contains(&kind.len()) && kind.bytes().all(|byte| byte.is_ascii_alphabetic());
        let digits = mode.bytes().take_while(u8::is_ascii_digit).count();
        let baud = mode[..digits].parse().ok().filter(|baud| (110..=4_000_000).contains(baud))?;
        let mut rest = mode[digits..].chars();
        let parity = rest.next().unwrap_or('n');
        let bits = rest.next().unwrap_or('8');
        let flow = rest.next().is_none_or(|flow| flow == 'r') && rest.next().is_none();
        let known = matches!(parity, 'n' | 'e' | 'o') && matches!(bits, '5'..='8');
        (named && known && flow).then_some(Self {
            port: (kind == "ttyS").then_some(number),
            baud,
            parity,
            bits,
        })
    }
}

/// Why no menu can hold this text, as a clause that follows it: some loader would end the line,
/// expand a variable, or read a command.
fn text_fault(text: &str) -> Option<&'static str> {
    if !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Some(
            "holds a line end, a control character or a letter outside ASCII, which firmware \
             consoles do not show",
        );
    }
    if text.contains("${") {
        return Some("holds `${`, which iPXE would expand");
    }
    let commands = [";", "#", "&&", "||"];
    text.split(' ')
        .any(|word| commands.contains(&word))
        .then_some("holds one of ; # && || as a word, which ends a command in iPXE")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_says_something_and_is_no_option_with_its_hot_key_or_without() {
        for title in ["", " ", "^", "^ ", "-x", "^-x", "-^x"] {
            assert!(title_fault(title).is_some(), "{title:?}");
        }
        assert_eq!(["x-", "^x", "x ^-y"].map(title_fault), [None; 3]);
    }

    #[test]
    fn a_location_is_a_path_or_an_http_url_with_a_host() {
        for location in [
            "linux/vmlinuz",
            "/vmlinuz",
            "http://h/vmlinuz",
            "http://192.168.4.1:8080/a",
            "http://[fd00::1]/a",
        ] {
            assert_eq!(location_fault(location), None, "{location}");
        }
        for (location, fault) in [
            ("http:///vmlinuz", "has no host"),
            ("http://ho st/vmlinuz", "has no host"),
            ("http://u@h/vmlinuz", "has no host"),
            ("http://h", "names no file"),
            ("http://h/a b", "holds a blank"),
            ("https://h/vmlinuz", "neither a path"),
            ("/a/../b", "holds `..`"),
        ] {
            let found = location_fault(location);
            assert!(found.is_some_and(|found| found.contains(fault)), "{location}: {found:?}");
        }
    }

    #[test]
    fn a_console_is_a_port_with_a_number_and_perhaps_a_mode_that_a_kernel_knows() {
        let serial = |port, baud, parity, bits| Some(SerialConsole { port, baud, parity, bits });
        for (console, read) in [
            ("ttyS0", serial(Some(0), 9600, 'n', '8')),
            ("ttyS255,115200", serial(Some(255), 115_200, 'n', '8')),
            ("ttyS1,110e", serial(Some(1), 110, 'e', '8')),
            ("ttyS0,4000000o7", serial(Some(0), 4_000_000, 'o', '7')),
            ("ttyS0,9600n5r", serial(Some(0), 9600, 'n', '5')),
            ("ttyAMA0,115200n8", serial(None, 115_200, 'n', '8')),
            ("ttyABCDE0", serial(None, 9600, 'n', '8')),
        ] {
            assert_eq!(SerialConsole::parse(console), read, "{console}");
            assert_eq!(console_fault(console), None, "{console}");
        }
        for console in [
            "",
            "0",
            "tty",
            "ttyS",
            "ttyS256",
            "tty S0",
            "tty-S0",
            "ttyABCDEF0",
            "ttyS0,",
            "ttyS0,n8",
            "ttyS0,109",
            "ttyS0,4000001",
            "ttyS0,9600x",
            "ttyS0,9600x8",
            "ttyS0,9600n4",
            "ttyS0,9600n9",
            "ttyS0,9600n8x",
            "ttyS0,9600n8rr",
            "ttyS0,9600n8xr",
        ] {
            assert_eq!(SerialConsole::parse(console), None, "{console}");
            assert!(
                console_fault(console).is_some_and(|fault| fault.contains("ttyS0,115200n8")),
                "{console}"
            );
        }
    }

    #[test]
    fn what_is_too_long_is_refused_from_the_first_octet_on() {
        type Fault = fn(&str) -> Option<&'static str>;
        let faults: [(Fault, usize); 3] = [
            (label_fault, LABEL_MAX_BYTES),
            (title_fault, TITLE_MAX_BYTES),
            (arguments_fault, ARGUMENTS_MAX_BYTES),
        ];
        for (fault, most) in faults {
            let of = |len: usize| fault(&"a".repeat(len));
            assert_eq!([of(1), of(most)], [None, None], "{most}");
            for len in [most + 1, most + 2, 10 * most] {
                assert!(
                    of(len).is_some_and(|fault| fault.contains(&most.to_string())),
                    "{len} of {most}"
                );
            }
        }
    }
}
