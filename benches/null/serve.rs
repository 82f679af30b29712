//! The null servers as programs of their own.

use std::fs;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use super::datagrams::{self, IdleManner};
use super::dhcp::PreparedAnswer;
use super::http::{BareServer, ServedFile};
use super::tftp::PreparedFile;

/// A server and what it is told.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Responder {
    /// One file under every name
    Tftp {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        file: PathBuf,
        /// Bytes that clients ask for; without it they ask for no option
        #[arg(long)]
        block_size: Option<u16>,
        /// Blocks that clients ask for at a time
        #[arg(long, default_value_t = 1)]
        window: u16,
        /// Look for datagrams without a pause, in place of sleeping until one comes
        #[arg(long)]
        spin: bool,
    },
    /// Every file below a directory
    Http {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        root: PathBuf,
        /// Bytes of each connection's send buffer, past the limits of the host
        #[arg(long)]
        send_buffer: Option<usize>,
        /// Congestion control of the connections, where it is not the host's
        #[arg(long)]
        congestion: Option<String>,
    },
    /// An address to every machine
    Dhcp {
        /// The address that machines and relay agents send to
        #[arg(long)]
        listen: SocketAddrV4,
    },
}

impl Responder {
    /// Ends only with an error.
    pub(crate) fn serve(self) -> io::Result<()> {
        match self {
            Self::Tftp { listen, file, block_size, window, spin } => {
                let prepared = PreparedFile::new(&fs::read(file)?, block_size, window);
                let socket = datagrams::open_socket(listen)?;
                let idle = if spin { IdleManner::Spin } else { IdleManner::Sleep };
                datagrams::serve_datagrams(&socket, idle, |arrival, outbox| {
                    prepared.answer(arrival, outbox);
                })
            }
            Self::Http { listen, root, send_buffer, congestion } => {
                let files = ServedFile::open_below(&root)?;
                BareServer::open(listen, files, send_buffer, congestion.as_deref())?.run()
            }
            Self::Dhcp { listen } => {
                let prepared = PreparedAnswer::new(*listen.ip());
                let socket = datagrams::open_socket(listen.into())?;
                datagrams::serve_datagrams(&socket, IdleManner::Sleep, |arrival, outbox| {
                    prepared.answer(arrival, outbox);
                })
            }
        }
    }
}
