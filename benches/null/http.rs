//! An HTTP server that reads no request: every empty line is answered with the same head and body
//! from memory.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::thread;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

/// Serves this file under every name, on a thread of this core.
pub(crate) fn serve(file: &[u8]) -> io::Result<SocketAddrV4> {
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", file.len()).into_bytes();
    answer.extend_from_slice(file);
    let listener = ringboot::engine::net::open_tcp_listener(
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        false,
    )?;
    listener.set_nonblocking(true)?;
    let SocketAddr::V4(address) = listener.local_addr()? else {
        return Err(io::Error::other("not an IPv4 socket"));
    };
    thread::spawn(move || -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, accept(listener, Rc::from(answer)))
    });
    Ok(address)
}

async fn accept(listener: std::net::TcpListener, answer: Rc<[u8]>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        spawn_local(converse(stream, Rc::clone(&answer)));
    }
}

/// Until the client goes.
async fn converse(mut stream: TcpStream, answer: Rc<[u8]>) -> io::Result<()> {
    let mut request = Vec::with_capacity(4096);
    while stream.read_buf(&mut request).await? > 0 {
        if request.ends_with(b"\r\n\r\n") {
            request.clear();
            stream.write_all(&answer).await?;
        }
    }
    Ok(())
}
