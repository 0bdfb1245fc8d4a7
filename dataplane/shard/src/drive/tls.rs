//! TLS to a camera (RTSPS), sans-IO: ciphertext in, plaintext out, and back.
//!
//! rustls does the work. Whom to trust is the configuration's business, which the control plane makes; sockets and
//! timeouts are the camera's.

mod failure;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{BufRead, Write};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

/// What rustls may hold of plaintext before it can be encrypted: requests of a dialogue, a few hundred bytes each.
const BUFFER_BYTES_MAX: usize = 16 << 10;

/// A TLS connection's client side.
#[derive(Debug)]
pub(crate) struct TlsSession {
    connection: ClientConnection,
    /// What is to be written to the socket, in order.
    ciphertext: VecDeque<Bytes>,
    is_established: bool,
}

/// What came of received bytes, beside plaintext.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The handshake is done; told once.
    pub(crate) established: bool,
    /// The camera has said that nothing follows.
    pub(crate) closed: bool,
}

impl TlsSession {
    /// Begins a handshake with a server that must have a certificate for `name`: a DNS name or an address. The error is
    /// for an operator.
    pub(crate) fn new(config: Arc<ClientConfig>, name: &str) -> Result<Self, String> {
        // URLs have IPv6 addresses in brackets.
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let server = ServerName::try_from(bare.to_owned())
            .map_err(|_| format!("no certificate can be for the host name {name}"))?;
        let mut connection =
            ClientConnection::new(config, server).map_err(|error| failure::sentence(&error))?;
        connection.set_buffer_limit(Some(BUFFER_BYTES_MAX));
        let mut session = Self { connection, ciphertext: VecDeque::new(), is_established: false };
        session.collect();
        Ok(session)
    }

    /// Takes in what the socket gave; plaintext is appended. After an error only [`Self::poll_ciphertext`] is of use:
    /// it may give an alert. The error is for an operator.
    pub(crate) fn handle_received(
        &mut self,
        mut ciphertext: &[u8],
        plaintext: &mut BytesMut,
    ) -> Result<Progress, String> {
        let mut progress = Progress::default();
        // rustls takes some KB at a time; once the server has closed it takes nothing more.
        while !ciphertext.is_empty() && !progress.closed {
            let taken = self.connection.read_tls(&mut ciphertext).map_err(|error| error.to_string());
            let result = match taken {
                Ok(_) => self.connection.process_new_packets(),
                Err(reason) => Err(rustls::Error::General(reason)),
            };
            self.drain(plaintext);
            self.collect();
            let state = result.map_err(|error| failure::sentence(&error))?;
            progress.closed = state.peer_has_closed();
            if !self.is_established && !self.connection.is_handshaking() {
                self.is_established = true;
                progress.established = true;
            }
        }
        Ok(progress)
    }

    /// Encrypts what is to be written. Before the handshake is done a little of it waits, the rest is dropped.
    pub(crate) fn write(&mut self, mut plaintext: &[u8]) {
        while !plaintext.is_empty() {
            match self.connection.writer().write(plaintext) {
                Ok(taken) if taken > 0 => plaintext = &plaintext[taken..],
                Ok(_) | Err(_) => return,
            }
            self.collect();
        }
    }

    /// Says that nothing follows.
    pub(crate) fn close(&mut self) {
        self.connection.send_close_notify();
        self.collect();
    }

    /// The next bytes for the socket.
    pub(crate) fn poll_ciphertext(&mut self) -> Option<Bytes> {
        self.ciphertext.pop_front()
    }

    /// Whether plaintext can pass.
    pub(crate) fn is_established(&self) -> bool {
        self.is_established
    }

    fn drain(&mut self, plaintext: &mut BytesMut) {
        let mut reader = self.connection.reader();
        while let Ok(chunk) = reader.fill_buf() {
            if chunk.is_empty() {
                return;
            }
            plaintext.extend_from_slice(chunk);
            let taken = chunk.len();
            reader.consume(taken);
        }
    }

    fn collect(&mut self) {
        let mut ciphertext = Vec::new();
        while self.connection.wants_write() {
            // A Vec takes all that it is given.
            match self.connection.write_tls(&mut ciphertext) {
                Ok(written) if written > 0 => {}
                Ok(_) | Err(_) => break,
            }
        }
        if !ciphertext.is_empty() {
            self.ciphertext.push_back(Bytes::from(ciphertext));
        }
    }
}
