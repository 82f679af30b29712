//! Why a simulated machine did not boot, in the words of the report.

use std::io;

use crate::tftp::client::Disagreement;

/// The end of one machine's boot. Failures of one cause are counted together, so a cause has no address or number of its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("no DHCP answer")]
    DhcpSilent,
    #[error("{who} gives up: {what}, {tries} tries in {seconds} s")]
    GaveUp { who: &'static str, what: String, tries: u32, seconds: u64 },
    #[error("DHCP: every REQUEST refused")]
    DhcpRefused,
    #[error("DHCP: option 82 did not come back as it was sent")]
    DhcpRelayInformation,
    #[error("DHCP: two machines were given one address")]
    AddressDoubled,
    #[error("DHCP: an address of another network")]
    AddressOutside,
    #[error("DHCP: no boot file in the answer")]
    NoBootFile,
    #[error("TFTP: no answer for {0}")]
    TftpSilent(String),
    #[error("TFTP: no file {0}")]
    TftpMissing(String),
    #[error("TFTP: refused {0} with error {1}")]
    TftpRefused(String, u16),
    #[error("TFTP: the server broke a rule with {0}: {1:?}")]
    TftpDisagreed(String, Disagreement),
    #[error("HTTP: no answer for {0}")]
    HttpSilent(String),
    #[error("HTTP: status {1} for {0}")]
    HttpStatus(String, u16),
    #[error("HTTP: the whole of {0} where a part was asked for")]
    HttpNotInPart(String),
    #[error("HTTP: an answer for {0} that is not understood")]
    HttpNonsense(String),
    #[error("not a URL that a machine can follow: {0}")]
    BadUrl(String),
    #[error("wrong contents of {0}")]
    WrongContent(String),
    #[error("{0} is {1} octets long, not {2}")]
    WrongLength(String, u64, u64),
    #[error("no menu found")]
    NoMenu,
    #[error("the menu has no entry {0}")]
    NoEntry(String),
    #[error("loaded again and again: {0}")]
    LoaderLoop(String),
    #[error("shim over HTTP Boot: GRUB stops at its prompt")]
    GrubPrompt,
    #[error("HTTP: no size told for {0}")]
    HttpNoSize(String),
    #[error("no socket: {0}")]
    Socket(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Socket(error.kind().to_string())
    }
}
