//! Why a simulated machine did not boot, as a sentence of the report.

use std::io;
use std::time::Duration;

use ringboot_protocol::tftp::client::ServerViolation;

/// The failure of one machine's boot. Reports count failures with the same [`BootFailure::cause`]
/// together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootFailure {
    #[error("not done within {0:?}")]
    Late(Duration),
    #[error("no DHCP answer")]
    DhcpSilent,
    #[error("{who} gives up: {what}, {tries} tries in {seconds} s")]
    GaveUp { who: &'static str, what: String, tries: u32, seconds: u64 },
    #[error("DHCP: offers, but every REQUEST was refused (NAK)")]
    DhcpRefused,
    #[error("DHCP: option 82 did not come back as it was sent")]
    DhcpRelayInformation,
    #[error("DHCP: two machines were given one address")]
    AddressDoubled,
    #[error("DHCP: an address of another network")]
    AddressOutside,
    #[error("DHCP: no boot file in the answer")]
    NoBootFile,
    /// The protocol, and the address at which no server listens, with the network's message.
    #[error("{0}: {1}")]
    Nobody(&'static str, String),
    #[error("TFTP: no answer for {0}")]
    TftpSilent(String),
    #[error("TFTP: the server fell silent after {1} bytes of {0}")]
    TftpStalled(String, u64),
    #[error("TFTP: no file {0}")]
    TftpMissing(String),
    #[error("TFTP: refused {0} with error {1}")]
    TftpRefused(String, u16),
    #[error("TFTP: the server broke a rule with {0}: {words}", words = describe_disagreement(*.1))]
    TftpDisagreed(String, ServerViolation),
    #[error("HTTP: the connection for {0} was refused")]
    HttpRefused(String),
    #[error("HTTP: no answer for {0}")]
    HttpSilent(String),
    #[error("HTTP: the server fell silent after {1} bytes of {0}")]
    HttpStalled(String, u64),
    #[error("HTTP: the connection ended after {1} bytes of {0}")]
    HttpCutOff(String, u64),
    #[error("HTTP: another range of {0} than requested")]
    HttpWrongRange(String),
    #[error("HTTP: the rest of {0} came from another version of it: its ETag has changed")]
    HttpOtherVersion(String),
    #[error("HTTP: status {1} for {0}")]
    HttpStatus(String, u16),
    #[error("HTTP: the whole of {0} instead of the requested part")]
    HttpNotInPart(String),
    #[error("HTTP: an unreadable answer for {0}")]
    HttpNonsense(String),
    #[error("a URL that a machine cannot follow: {0}")]
    BadUrl(String),
    #[error("wrong contents of {0} at byte {1}")]
    WrongContent(String, u64),
    #[error("{0} is longer than a menu may be")]
    MenuTooLong(String),
    #[error("{0} is {1} bytes long, not {2}")]
    WrongLength(String, u64, u64),
    #[error("no menu found")]
    NoMenu,
    #[error("the menu has no entry {0}")]
    NoEntry(String),
    #[error("loaded again and again: {0}")]
    LoaderLoop(String),
    #[error("shim over HTTP Boot: GRUB stops at its prompt")]
    GrubPrompt,
    #[error("HTTP: no Content-Length for {0}")]
    HttpNoSize(String),
    #[error("no socket: {0}")]
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
