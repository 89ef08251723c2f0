//! One keep-alive connection that never blocks.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Result, bail};
use rustls::{ClientConnection, StreamOwned};

use crate::wire::{Reader, Reply, Request};

pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// How far a connection got.
#[derive(Debug)]
pub(crate) enum Progress {
    /// The answer is whole.
    Answered(Reply),
    /// Nothing more to do until the socket can be read, or written if `to_write`.
    Waiting { to_write: bool },
}

pub(crate) struct Connection {
    transport: Transport,
    request: Option<Request>,
    sent: usize,
    reader: Reader,
}

impl Connection {
    pub(crate) fn new(transport: Transport) -> Self {
        Self { transport, request: None, sent: 0, reader: Reader::new() }
    }

    /// Begins a request; sends as much of it as the socket takes.
    pub(crate) fn begin(&mut self, request: Request) -> Result<Progress> {
        self.reader.begin(&request);
        self.request = Some(request);
        self.sent = 0;
        Ok(Progress::Waiting { to_write: !self.write()? })
    }

    /// Goes on after the socket got ready.
    pub(crate) fn advance(&mut self, buffer: &mut [u8]) -> Result<Progress> {
        let written = self.write()?;
        loop {
            let read = match &mut self.transport {
                Transport::Plain(stream) => stream.read(buffer),
                Transport::Tls(stream) => stream.read(buffer),
            };
            match read {
                Ok(0) => bail!("the server closed the connection"),
                Ok(length) => {
                    let reply = self.reader.feed(buffer.get(..length).unwrap_or_default())?;
                    if let Some(reply) = reply {
                        if reply.closes {
                            bail!("the server ends the connection after an answer");
                        }
                        self.request = None;
                        return Ok(Progress::Answered(reply));
                    }
                    // A short read has emptied the socket, but not what TLS holds back.
                    if length < buffer.len() && matches!(self.transport, Transport::Plain(_)) {
                        return Ok(Progress::Waiting { to_write: !written });
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Progress::Waiting { to_write: !written });
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether everything is sent.
    fn write(&mut self) -> Result<bool> {
        let Some(request) = &self.request else { return Ok(true) };
        while self.sent < request.len() {
            let slices = request.rest(self.sent);
            let written = match &mut self.transport {
                Transport::Plain(stream) => stream.write_vectored(&slices),
                Transport::Tls(stream) => stream.write_vectored(&slices),
            };
            match written {
                Ok(length) => self.sent += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if let Transport::Tls(stream) = &mut self.transport {
            match stream.flush() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                result => result?,
            }
        }
        Ok(true)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.transport {
            Transport::Plain(stream) => stream.as_fd(),
            Transport::Tls(stream) => stream.sock.as_fd(),
        }
    }
}
