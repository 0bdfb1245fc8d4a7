//! The ICE-lite side of a viewer (RFC 8445 sections 2.5, 7.3 and 8.2; consent: RFC 7675).
//!
//! It only answers. The viewer is always controlling; where its media goes is where it nominated last.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::stun::BindingRequest;

/// A viewer without an authenticated check for this long is gone (RFC 7675 section 5.1).
pub const CONSENT: Duration = Duration::from_secs(30);

/// A username fragment and its password (RFC 8445 section 5.3).
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// 4–256 characters.
    pub ufrag: String,
    /// 22–256 characters.
    pub password: String,
}

impl std::fmt::Debug for IceCredentials {
    /// The password stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceCredentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

/// Where a viewer's packets come from and go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// Datagrams of the shard's socket.
    Udp(SocketAddr),
    /// A connection of ICE-TCP, by the driver's number.
    Tcp {
        /// The driver's number of the connection.
        connection: u64,
        /// Its remote address.
        from: SocketAddr,
    },
}

/// A viewer's ICE.
#[derive(Debug)]
pub struct IceLite {}

/// What a check came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Checked {
    /// The answer; goes back the way the check came.
    pub response: Bytes,
    /// Media goes here from now on, if that is new.
    pub moved: Option<Path>,
}

/// Why a check was refused: counted; answered only where [`CheckError::response`] says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The username is not of this session.
    #[error("unknown username")]
    Username,
    /// MESSAGE-INTEGRITY is missing or wrong.
    #[error("wrong password")]
    Integrity,
    /// The peer wants to be controlled: 487 (RFC 8445 section 7.3.1.1).
    #[error("role conflict")]
    RoleConflict(Bytes),
}

impl IceLite {
    /// Waits for checks. The remote password is kept only for checks of our own (none: lite).
    pub fn new(now: Instant, local: IceCredentials, remote: IceCredentials) -> Self {
        let _ = (now, local, remote);
        Self {}
    }

    /// Other credentials (ICE restart, RFC 8445 section 9): the old path stays until a check under the new ones comes.
    pub fn restart(&mut self, now: Instant, local: IceCredentials, remote: IceCredentials) {
        let _ = (now, local, remote);
    }

    /// Credentials that checks must use.
    pub fn local(&self) -> &IceCredentials {
        unimplemented!()
    }

    /// A check came from `from`.
    ///
    /// # Errors
    /// When it is not authentic.
    pub fn handle_request(
        &mut self,
        now: Instant,
        from: Path,
        request: &BindingRequest<'_>,
    ) -> Result<Checked, CheckError> {
        let _ = (now, from, request);
        unimplemented!()
    }

    /// Where media goes.
    pub fn path(&self) -> Option<Path> {
        unimplemented!()
    }

    /// When consent ends unless a check comes before. Only once a check came; before that the caller's limit counts.
    pub fn consent_until(&self) -> Option<Instant> {
        unimplemented!()
    }
}
