//! What a WebRTC viewer leaves beside its packets, and what the summary says of it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use serde::Serialize;

use crate::clock::Moment;
use crate::peer::dtls::Profile;
use crate::summary::{Percentiles, tally};
use crate::viewer::Outcome;

macro_rules! peer_counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What was counted of one WebRTC viewer, or of many.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct PeerCounts { $($(#[$doc])* pub $name: u64,)* }

        impl AddAssign for PeerCounts {
            fn add_assign(&mut self, other: Self) { $(self.$name += other.$name;)* }
        }
    };
}

peer_counts! {
    /// Packets that were authenticated and decrypted.
    opened,
    /// Of those tried, packets that were not authentic. A full peer's stack drops them unseen.
    forged,
    /// Retransmissions received (RFC 4588).
    retransmissions,
    /// Packets that came a second time in their own stream: retransmissions without RFC 4588, or repeats.
    repeats,
    /// Packets dropped on purpose before the peer saw them.
    dropped,
    /// RTCP packets received, compound.
    rtcp_received,
    /// Sequence numbers asked for again.
    nacked,
    /// Picture loss indications sent.
    picture_losses,
    /// Receiver reports sent.
    receiver_reports,
    /// Transport-wide feedback sent.
    transport_feedback,
}

/// What is left of a WebRTC viewer.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeerOutcome {
    /// When the server's description was there.
    pub answered: Option<Moment>,
    /// When ICE was connected.
    pub connected: Option<Moment>,
    /// When the keys were there.
    pub keyed: Option<Moment>,
    /// The SRTP profile.
    pub profile: Option<Profile>,
    /// What was counted.
    pub counts: PeerCounts,
}

/// What the summary says of WebRTC viewers.
#[derive(Clone, Debug, Serialize)]
pub struct Peers {
    /// SRTP profiles, by viewers.
    pub srtp_profiles: BTreeMap<Profile, u64>,
    /// Of all viewers.
    pub counts: PeerCounts,
    /// Waits.
    pub timings: PeerTimings,
}

/// Waits of all WebRTC viewers.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PeerTimings {
    /// From the beginning to the server's description.
    pub start_to_answer: Percentiles,
    /// From there to the first answered connectivity check.
    pub answer_to_ice: Percentiles,
    /// From there to the end of the DTLS handshake.
    pub ice_to_dtls: Percentiles,
    /// From there to the first packet.
    pub dtls_to_first_packet: Percentiles,
    /// From the server's description to the first packet.
    pub answer_to_first_packet: Percentiles,
    /// From the server's description to the first whole random access point.
    pub answer_to_first_picture: Percentiles,
    /// From the beginning to the first whole random access point.
    pub start_to_first_picture: Percentiles,
}

impl Peers {
    /// Of those that are WebRTC viewers; none when nobody is.
    pub fn of(outcomes: &[Outcome]) -> Option<Self> {
        let peers: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.peer).collect();
        if peers.is_empty() {
            return None;
        }
        let mut counts = PeerCounts::default();
        peers.iter().for_each(|peer| counts += peer.counts);
        Some(Self {
            srtp_profiles: tally(peers.iter().filter_map(|peer| peer.profile)),
            counts,
            timings: PeerTimings::of(outcomes),
        })
    }
}

impl PeerTimings {
    fn of(outcomes: &[Outcome]) -> Self {
        type Ends = Option<(Moment, Moment)>;
        let waits = |wait: &dyn Fn(&Outcome, PeerOutcome) -> Ends| {
            let waits = outcomes.iter().filter_map(|one| wait(one, one.peer?));
            Percentiles::of_waits(waits.map(|(from, to)| to.since(from)))
        };
        Self {
            start_to_answer: waits(&|one, peer| Some((one.started, peer.answered?))),
            answer_to_ice: waits(&|_, peer| Some((peer.answered?, peer.connected?))),
            ice_to_dtls: waits(&|_, peer| Some((peer.connected?, peer.keyed?))),
            dtls_to_first_packet: waits(&|one, peer| Some((peer.keyed?, one.first_packet?))),
            answer_to_first_packet: waits(&|one, peer| Some((peer.answered?, one.first_packet?))),
            answer_to_first_picture: waits(&|one, peer| Some((peer.answered?, one.first_picture?))),
            start_to_first_picture: waits(&|one, _| Some((one.started, one.first_picture?))),
        }
    }

    /// Each that there is, with its name for people.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, Percentiles)> {
        [
            ("start to answer", self.start_to_answer),
            ("answer to ICE", self.answer_to_ice),
            ("ICE to DTLS", self.ice_to_dtls),
            ("DTLS to first packet", self.dtls_to_first_packet),
            ("answer to first packet", self.answer_to_first_packet),
            ("answer to first picture", self.answer_to_first_picture),
            ("start to first picture", self.start_to_first_picture),
        ]
        .into_iter()
        .filter(|(_, percentiles)| percentiles.count > 0)
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        for (profile, viewers) in &self.srtp_profiles {
            writeln!(f, "  srtp     {viewers} × {profile}")?;
        }
        writeln!(
            f,
            "  peers    {} packets opened, {} forged, {} dropped on purpose, {} retransmissions, {} repeats, {} RTCP in; \
             sent: {} nacked, {} PLI, {} RR, {} transport feedback",
            counts.opened,
            counts.forged,
            counts.dropped,
            counts.retransmissions,
            counts.repeats,
            counts.rtcp_received,
            counts.nacked,
            counts.picture_losses,
            counts.receiver_reports,
            counts.transport_feedback
        )
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::Aes128CmHmacSha1_80 => "AES128_CM_HMAC_SHA1_80",
        })
    }
}
