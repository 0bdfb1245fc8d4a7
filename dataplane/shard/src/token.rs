//! What a ring operation belongs to, in the 64 bits that come back with its completion.

/// The owner of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The shard's UDP socket.
    Udp,
    /// A camera's RTSP connection.
    CameraConnection,
    /// A camera's RTP socket.
    CameraRtp,
    /// A camera's RTCP socket.
    CameraRtcp,
    /// A viewer's WebSocket.
    WebSocket,
    /// A viewer's connection of ICE-TCP.
    IceTcp,
    /// A stream's recorder.
    Recording,
    /// A viewer's player.
    Playback,
}

/// Owner, slot and epoch: a completion of an owner that has moved on is known by its epoch and dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) owner: Owner,
    pub(crate) slot: usize,
    pub(crate) epoch: u32,
}

const SLOT_BITS: u32 = 24;
const EPOCH_BITS: u32 = 32;

impl Token {
    pub(crate) fn pack(self) -> u64 {
        (self.owner as u64) << (SLOT_BITS + EPOCH_BITS)
            | (self.slot as u64 & ((1 << SLOT_BITS) - 1)) << EPOCH_BITS
            | u64::from(self.epoch)
    }

    pub(crate) fn unpack(raw: u64) -> Self {
        let owner = match raw >> (SLOT_BITS + EPOCH_BITS) {
            1 => Owner::CameraConnection,
            2 => Owner::CameraRtp,
            3 => Owner::CameraRtcp,
            4 => Owner::WebSocket,
            5 => Owner::IceTcp,
            6 => Owner::Recording,
            7 => Owner::Playback,
            _ => Owner::Udp,
        };
        Self { owner, slot: (raw >> EPOCH_BITS) as usize & ((1 << SLOT_BITS) - 1), epoch: raw as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_were() {
        for owner in [
            Owner::Udp,
            Owner::CameraConnection,
            Owner::CameraRtp,
            Owner::CameraRtcp,
            Owner::WebSocket,
            Owner::IceTcp,
            Owner::Recording,
            Owner::Playback,
        ] {
            let token = Token { owner, slot: 0xab_cdef, epoch: u32::MAX };
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}
