//! Why a simulated machine did not boot, as a sentence of the report.

use std::io;
use std::time::Duration;

use ringboot_protocol::tftp::client::ServerViolation;

/// The failure of one machine's boot. Reports count failures with the same [`BootFailure::cause`]
/// together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootFailure {
    #[error("not done within {0:?}")]
    /// The boot took longer than `FleetPlan::within`.
    Late(Duration),
    #[error("no DHCP answer")]
    /// No DHCP server answered within the machine's patience.
    DhcpSilent,
    #[error("{who} gives up: {what}, {tries} tries in {seconds} s")]
    /// The firmware gave up after its own number of tries.
    GaveUp {
        /// The program, as in [`BootFailure::cause`].
        who: &'static str,
        /// The failure of its last try.
        what: String,
        /// Its messages or connections.
        tries: u32,
        /// Its time at real pace.
        seconds: u64,
    },
    #[error("DHCP: offers, but every REQUEST was refused (NAK)")]
    /// Every REQUEST got a NAK.
    DhcpRefused,
    #[error("DHCP: option 82 did not come back as it was sent")]
    /// The server changed or dropped option 82 (D-49).
    DhcpRelayInformation,
    #[error("DHCP: two machines were given one address")]
    /// Another machine held the address at the same time.
    AddressDoubled,
    #[error("DHCP: an address of another network")]
    /// The address is in no network of the segment.
    AddressOutside,
    #[error("DHCP: no boot file in the answer")]
    /// Neither option 67 nor the header's `file` names a loader.
    NoBootFile,
    /// The protocol, and the address at which no server listens, with the network's message.
    #[error("{0}: {1}")]
    Nobody(&'static str, String),
    #[error("TFTP: no answer for {0}")]
    /// The file for which no TFTP packet came.
    TftpSilent(String),
    #[error("TFTP: the server fell silent after {1} bytes of {0}")]
    /// The file, and its bytes until the silence.
    TftpStalled(String, u64),
    #[error("TFTP: no file {0}")]
    /// The required file that got ERROR 1.
    TftpMissing(String),
    #[error("TFTP: refused {0} with error {1}")]
    /// The file, and the code of the ERROR.
    TftpRefused(String, u16),
    #[error("TFTP: the server broke a rule with {0}: {words}", words = describe_disagreement(*.1))]
    /// The file, and the rule that the server broke.
    TftpDisagreed(String, ServerViolation),
    #[error("HTTP: the connection for {0} was refused")]
    /// The file whose connection the host refused.
    HttpRefused(String),
    #[error("HTTP: no answer for {0}")]
    /// The file for which no HTTP answer came.
    HttpSilent(String),
    #[error("HTTP: the server fell silent after {1} bytes of {0}")]
    /// The file, and its bytes until the silence.
    HttpStalled(String, u64),
    #[error("HTTP: the connection ended after {1} bytes of {0}")]
    /// The file, and its bytes until the end of the connection.
    HttpCutOff(String, u64),
    #[error("HTTP: another range of {0} than requested")]
    /// Content-Range differs from the requested range.
    HttpWrongRange(String),
    #[error("HTTP: the rest of {0} came from another version of it: its ETag has changed")]
    /// A resumed file has another ETag than its first part.
    HttpOtherVersion(String),
    #[error("HTTP: status {1} for {0}")]
    /// The file, and the status code that ends the boot.
    HttpStatus(String, u16),
    #[error("HTTP: the whole of {0} instead of the requested part")]
    /// A range request got 200 instead of 206.
    HttpNotInPart(String),
    #[error("HTTP: an unreadable answer for {0}")]
    /// The head of the answer is no HTTP, or is too long.
    HttpNonsense(String),
    #[error("a URL that a machine cannot follow: {0}")]
    /// The URL is no `http` or `tftp` URL with a literal address.
    BadUrl(String),
    #[error("wrong contents of {0} at byte {1}")]
    /// The file, and the offset of the first wrong byte.
    WrongContent(String, u64),
    #[error("{0} is longer than a menu may be")]
    /// The menu is larger than `limits` allows.
    MenuTooLong(String),
    #[error("{0} is {1} bytes long, not {2}")]
    /// The file, its received bytes, and its expected bytes.
    WrongLength(String, u64, u64),
    #[error("no menu found")]
    /// The loader found none of its menu names.
    NoMenu,
    #[error("the menu has no entry {0}")]
    /// The label that the plan chooses and the menu lacks.
    NoEntry(String),
    #[error("loaded again and again: {0}")]
    /// DHCP or a script named the same loader again and again (D-69).
    LoaderLoop(String),
    #[error("shim over HTTP Boot: GRUB stops at its prompt")]
    /// Debian's shim over HTTP Boot starts a GRUB without a menu.
    GrubPrompt,
    #[error("HTTP: no Content-Length for {0}")]
    /// UEFI HTTP Boot needs the size from HEAD.
    HttpNoSize(String),
    #[error("no socket: {0}")]
    /// The host refused a socket; the text is its error.
    Socket(String),
}

impl BootFailure {
    /// True if the received bytes were not those of the file.
    pub(super) fn is_of_contents(&self) -> bool {
        matches!(self, Self::WrongContent(..) | Self::WrongLength(..))
    }

    /// The sentence without details that differ from machine to machine.
    pub fn cause(&self) -> String {
        match self {
            Self::TftpStalled(name, _) => {
                format!("TFTP: the server fell silent in the middle of {name}")
            }
            Self::HttpStalled(name, _) => {
                format!("HTTP: the server fell silent in the middle of {name}")
            }
            Self::HttpCutOff(name, _) => {
                format!("HTTP: the connection ended before the end of {name}")
            }
            Self::WrongContent(name, _) => format!("wrong contents of {name}"),
            Self::WrongLength(name, ..) => format!("wrong length of {name}"),
            other => other.to_string(),
        }
    }
}

/// The rule that the server broke, from the client's side.
fn describe_disagreement(disagreement: ServerViolation) -> &'static str {
    match disagreement {
        ServerViolation::OptionNotAsked => "it answered an option that was not requested",
        ServerViolation::OptionValue => "it answered an option with a forbidden value",
        ServerViolation::BlockTooLong => "a block is longer than was agreed",
        ServerViolation::SizeDiffers => "the file has more or fewer bytes than tsize said",
    }
}

impl From<io::Error> for BootFailure {
    fn from(error: io::Error) -> Self {
        Self::Socket(error.kind().to_string())
    }
}
