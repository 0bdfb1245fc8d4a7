//! STUN binding requests and answers (RFC 8489), as ICE uses them (RFC 8445 section 16).
//!
//! Only what a lite agent needs, and what it takes to ask a STUN server for our own public address.

use std::net::SocketAddr;

use bytes::Bytes;

/// A binding request, validated as far as that goes without a password.
#[derive(Clone, Copy, Debug)]
pub struct BindingRequest<'a> {
    /// The whole message.
    pub bytes: &'a [u8],
    /// Transaction id.
    pub transaction: [u8; 12],
    /// `local:remote`.
    pub username: &'a str,
    /// PRIORITY.
    pub priority: u32,
    /// USE-CANDIDATE.
    pub use_candidate: bool,
    /// ICE-CONTROLLED rather than ICE-CONTROLLING.
    pub controlled: bool,
}

impl<'a> BindingRequest<'a> {
    /// `None`: not a binding request that an ICE agent would send.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let _ = bytes;
        unimplemented!()
    }

    /// Part of the username before the colon: the fragment of the agent that is asked.
    pub fn local_ufrag(&self) -> &'a str {
        self.username.split(':').next().unwrap_or_default()
    }

    /// True if MESSAGE-INTEGRITY is by this password, and FINGERPRINT, where there is one, right.
    pub fn is_authentic(&self, password: &str) -> bool {
        let _ = password;
        unimplemented!()
    }

    /// A success response with XOR-MAPPED-ADDRESS, MESSAGE-INTEGRITY and FINGERPRINT.
    pub fn success(&self, mapped: SocketAddr, password: &str) -> Bytes {
        let _ = (mapped, password);
        unimplemented!()
    }

    /// An error response, e.g. 487.
    pub fn error(&self, code: u16, reason: &str, password: &str) -> Bytes {
        let _ = (code, reason, password);
        unimplemented!()
    }
}

/// True for what is STUN by its first byte and magic cookie (RFC 7983 section 7).
pub fn is_stun(bytes: &[u8]) -> bool {
    bytes.len() >= 20 && bytes[0] < 4 && bytes[4..8] == [0x21, 0x12, 0xa4, 0x42]
}

/// A request to a STUN server: which address do you see?
pub fn binding_request(transaction: [u8; 12]) -> Bytes {
    let _ = transaction;
    unimplemented!()
}

/// A binding indication, which keeps a NAT's mapping alive or opens it (RFC 8445 section 11).
pub fn binding_indication(transaction: [u8; 12]) -> Bytes {
    let _ = transaction;
    unimplemented!()
}

/// The mapped address of a STUN server's answer to [`binding_request`].
pub fn mapped_address(response: &[u8], transaction: [u8; 12]) -> Option<SocketAddr> {
    let _ = (response, transaction);
    unimplemented!()
}
