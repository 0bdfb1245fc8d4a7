//! The session description of a WSC-RTP session (wire contract section 4).

use crate::codec::ParameterSets;

/// What a description is made from.
#[derive(Clone, Copy, Debug)]
pub struct SessionDescription<'a> {
    /// Number in `o=`: stays for the stream.
    pub source_number: u64,
    /// Version in `o=`: grows with each change.
    pub version: u64,
    /// True for `IP6` in `o=` and `c=`.
    pub ipv6: bool,
    /// Port of `m=`: where RTP will arrive; 0 where the client binds its own.
    pub client_port: u16,
    /// Codec and parameter sets.
    pub parameter_sets: &'a ParameterSets,
}

/// The text, with CRLF line ends.
pub fn write_session(_description: &SessionDescription<'_>) -> String {
    String::new()
}
