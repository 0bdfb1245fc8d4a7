//! What a camera gets wrong on purpose. Each fault is applied at one named place, written beside it.
//! A fault's decision is here; what it acts on is in the file named.

mod dialogue;
mod media;

use std::time::Duration;

pub(crate) use self::dialogue::ControlUrls;
pub use self::dialogue::{
    Control, DialogueFaults, Endless, Head, Keepalive, RtpInfo, SessionHeader, Tracks, TransportReply,
    seconds,
};
pub use self::media::MediaFaults;

/// The faults of all mount points. `Faults::default()` has none.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Closes each RTSP connection this long after it was accepted. `connection.rs`
    pub drop_every: Option<Duration>,
    /// Leaves the parameter sets out of the SDP. `sdp.rs`
    pub no_sprop: bool,
    /// Leaves the parameter sets out of the media. `reel.rs`
    pub no_inband_parameter_sets: bool,
    /// Where RTP markers are. `packetizer.rs`
    pub marker: Marker,
    /// RTP timestamps stand still, leap forward and fall back. `stream.rs`
    pub jumpy_timestamps: bool,
    /// Largest RTP packet in bytes, instead of `packet_bytes_max`. `reel.rs`
    pub oversize_packets: Option<usize>,
    /// Sends no media any more this long after PLAY, but answers requests. `connection.rs`
    pub silence_after: Option<Duration>,
    /// Sends bytes that are no RTSP message and no interleaved frame after each access unit; over UDP a datagram
    /// that is no RTP. `connection.rs`
    pub garbage_between_frames: bool,
    /// Replies with a CSeq that is one too high. `conversation.rs`
    pub wrong_cseq: bool,
    /// The Content-Base of the DESCRIBE reply. `conversation.rs`
    pub content_base: ContentBase,
    /// Per cent of the RTP packets that are not sent over UDP, 0 to 100. `link.rs`
    pub loss_percent: f64,
    /// Sends every now and then an RTP packet late over UDP. `link.rs`
    pub reorder: bool,
    /// Answers each request with 503. `conversation.rs`
    pub refuse: bool,
    /// Sends the first access unit before the reply to PLAY. `connection.rs`
    pub media_before_play_reply: bool,
    /// Session timeout, instead of 60 s. `conversation.rs`, `connection.rs`
    pub session_timeout: Option<Duration>,
    /// Switches to a picture of another size, and back, this often. `stream.rs`
    pub change_resolution_every: Option<Duration>,
    /// What it gets wrong in its media.
    pub media: MediaFaults,
    /// What goes wrong in the RTSP dialogue beside the above.
    pub dialogue: DialogueFaults,
}

impl Faults {
    /// Distorts a picture's tick: the tick that its timestamp is made of, and 90 kHz units to add.
    ///
    /// In turn, 50 pictures each: as it should be; 10 s ahead; 5 s behind; standing still for 10 pictures, then right.
    pub(crate) fn distort(&self, tick: u64) -> (u64, i64) {
        const PERIOD: u64 = 50;
        const STILL: u64 = 10;
        if !self.jumpy_timestamps {
            return (tick, 0);
        }
        match (tick / PERIOD) % 4 {
            0 => (tick, 0),
            1 => (tick, 10 * 90_000),
            2 => (tick, -5 * 90_000),
            _ if tick % PERIOD < STILL => (tick - tick % PERIOD, 0),
            _ => (tick, 0),
        }
    }
}

/// Where RTP markers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Marker {
    /// On the last packet of each access unit (RFC 6184 section 5.1).
    #[default]
    LastPacket,
    /// There, and on an SEI packet of its own before the picture, as if it were an access unit.
    AlsoOnSei,
    /// On each packet.
    EveryPacket,
    /// Nowhere.
    Never,
}

impl Marker {
    /// Whether the packet of a single SEI before the picture has a marker.
    pub(crate) fn of_sei(self) -> bool {
        matches!(self, Self::AlsoOnSei | Self::EveryPacket)
    }
}

/// The Content-Base header of the DESCRIBE reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContentBase {
    /// The mount point's URL with a trailing slash.
    #[default]
    Absolute,
    /// Only its path.
    Relative,
    /// Without `rtsp://`.
    Schemeless,
    /// No such header.
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_left_alone_unless_asked() {
        assert_eq!(Faults::default().distort(123), (123, 0));
    }

    #[test]
    fn jumpy_timestamps_leap_fall_back_and_stand_still() {
        let faults = Faults { jumpy_timestamps: true, ..Faults::default() };
        assert_eq!(faults.distort(49), (49, 0));
        assert_eq!(faults.distort(50), (50, 900_000));
        assert_eq!(faults.distort(100), (100, -450_000));
        assert_eq!(faults.distort(155), (150, 0));
        assert_eq!(faults.distort(160), (160, 0));
    }
}
