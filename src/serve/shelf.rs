//! What a requested name gives to the machine that asks: a file, a rendered menu, a rendered template, or a refusal with its reason.

use std::net::IpAddr;

use crate::images::{CleanPath, Content, Refusal};

/// A request for a name, over TFTP and HTTP alike.
#[derive(Clone, Debug)]
pub struct Ask {
    pub path: CleanPath,
    /// Who asks.
    pub peer: IpAddr,
    /// The address of ours that was asked: it goes into URLs that we make.
    pub local: IpAddr,
}

/// The answer to an [`Ask`].
#[derive(Clone, Debug)]
pub enum Reply {
    Content(Content),
    /// HTTP may list it; TFTP refuses it.
    Directory,
    /// With one sentence for the log.
    Refused(Refusal, String),
}
