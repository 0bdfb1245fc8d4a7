//! What of an offer suits a stream (RFC 9429 section 5.3.1).

use lanecast_protocol::codec::Codec;

use super::section::Section;
use super::transport::{CANDIDATES_MAX, Transport};
use super::{Fingerprint, Offer, RemoteCandidate};
use crate::ice::IceCredentials;

/// Why a well-formed offer does not suit (422).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// No video section that wants to receive.
    #[error("the offer has no video section that receives")]
    NoVideo,
    /// The stream's codec is not among those offered.
    #[error("the stream is {stream}, the offer has {offered}")]
    CodecNotOffered {
        /// E.g. `H.265`.
        stream: String,
        /// E.g. `VP8, H.264`.
        offered: String,
    },
    /// Anything else that we need: a sentence naming it (rtcp-mux, fingerprint, setup role, ICE credentials, profile).
    #[error("{0}")]
    Unsupported(String),
}

/// What a stream sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamMedia {
    /// The codec.
    pub codec: Codec,
    /// The first three bytes of an H.264 SPS behind its header (profile_idc, constraint flags, level_idc), where known.
    pub profile_level_id: Option<[u8; 3]>,
}

/// What both sides take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// Which section of the offer is answered; the others are rejected.
    pub section: usize,
    /// Its mid.
    pub mid: String,
    /// Payload type of the media.
    pub payload_type: u8,
    /// Retransmission (RFC 4588), where offered.
    pub rtx: Option<Rtx>,
    /// NACK was offered.
    pub nack: bool,
    /// PLI was offered.
    pub pli: bool,
    /// FIR was offered.
    pub fir: bool,
    /// REMB was offered.
    pub remb: bool,
    /// Header extension id of the transport-wide sequence number, where the extension and its feedback are offered.
    /// Only together with `rtx`: a packet sent again under its own sequence number must be the same to the byte.
    pub transport_cc: Option<u8>,
    /// The viewer's ICE credentials.
    pub ice: IceCredentials,
    /// Its certificate's hashes, at least one.
    pub fingerprints: Vec<Fingerprint>,
    /// Its candidates so far, bounded.
    pub candidates: Vec<RemoteCandidate>,
}

/// Retransmission (RFC 4588), where negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rtx {
    /// Its payload type.
    pub payload_type: u8,
}

impl Offer {
    /// What of it suits this stream.
    ///
    /// # Errors
    /// When nothing does.
    pub fn negotiate(&self, media: StreamMedia) -> Result<Negotiated, NegotiationError> {
        let mut refused = NegotiationError::NoVideo;
        for (index, section) in self.sections.iter().enumerate().filter(|(_, it)| it.receives_video()) {
            match self.negotiate_section(index, section, media) {
                Ok(negotiated) => return Ok(negotiated),
                Err(error) if refused == NegotiationError::NoVideo => refused = error,
                Err(_) => {}
            }
        }
        Err(refused)
    }

    fn negotiate_section(
        &self,
        index: usize,
        section: &Section,
        media: StreamMedia,
    ) -> Result<Negotiated, NegotiationError> {
        if !section.is_secure_rtp() {
            return unsupported(format!("video over {}; UDP/TLS/RTP/SAVPF is needed", section.protocol));
        }
        let Some(mid) = section.mid.clone() else { return missing("a=mid") };
        let format = section.formats.choose(media)?;
        let levels = self.transports(index);
        if !levels.iter().any(|it| it.rtcp_mux) {
            return missing("a=rtcp-mux");
        }
        check_role(&levels)?;
        let fingerprints = fingerprints(&levels)?;
        let Some(ice) = levels.iter().find_map(|it| it.ice.clone()) else {
            return missing("a=ice-ufrag and a=ice-pwd");
        };
        let rtx = section.formats.rtx_of(format.payload_type);
        let feedback = format.feedback;
        Ok(Negotiated {
            section: index,
            mid,
            payload_type: format.payload_type,
            rtx,
            nack: feedback.nack,
            pli: feedback.pli,
            fir: feedback.fir,
            remb: feedback.remb,
            transport_cc: section.transport_cc.filter(|_| rtx.is_some() && feedback.transport_cc),
            ice,
            fingerprints,
            candidates: candidates(&levels),
        })
    }

    /// The section whose transport carries `section`, where that is another: the first of the BUNDLE group. A viewer
    /// that offered `max-bundle` has no other transport (Chromium refuses an answer that rejects this section), and a
    /// bundle-only section must not be alone (RFC 8843 section 7.3.1). Only what can be answered without media.
    pub(super) fn carrier(&self, section: usize) -> Option<usize> {
        let index = self.sections.get(section)?.tagged.filter(|index| *index != section)?;
        let carrier = self.sections.get(index)?;
        (carrier.is_open() && carrier.is_secure_rtp() && carrier.formats.first().is_some()).then_some(index)
    }

    /// Where a section's transport stands: in itself, in the first section of its BUNDLE group (RFC 8843 section 7.1.3
    /// lets a bundle-only section leave it out), or in the session.
    fn transports(&self, section: usize) -> Vec<&Transport> {
        let own = self.sections.get(section);
        let tagged = own.and_then(|it| it.tagged).filter(|index| *index != section);
        let tagged = tagged.and_then(|index| self.sections.get(index));
        [own, tagged].into_iter().flatten().map(|it| &it.transport).chain([&self.transport]).collect()
    }
}

/// We are the DTLS server. Without `a=setup` the offerer is active (RFC 4145 section 4).
fn check_role(levels: &[&Transport]) -> Result<(), NegotiationError> {
    match levels.iter().find_map(|it| it.setup.as_deref()) {
        None | Some("actpass" | "active") => Ok(()),
        Some(other) => unsupported(format!("a=setup:{other}; the server takes actpass or active")),
    }
}

fn fingerprints(levels: &[&Transport]) -> Result<Vec<Fingerprint>, NegotiationError> {
    if let Some(level) = levels.iter().find(|it| !it.fingerprints.is_empty()) {
        return Ok(level.fingerprints.clone());
    }
    let refused: Vec<&str> = levels
        .iter()
        .flat_map(|it| &it.refused_algorithms)
        .map(String::as_str)
        .take(REFUSED_SHOWN_MAX)
        .collect();
    if refused.is_empty() {
        return missing("a=fingerprint");
    }
    unsupported(format!("a=fingerprint of {} only; sha-256 or better is needed", refused.join(", ")))
}

fn candidates(levels: &[&Transport]) -> Vec<RemoteCandidate> {
    let level = levels.iter().find(|it| !it.candidates.is_empty());
    level.map_or_else(Vec::new, |it| it.candidates.iter().copied().take(CANDIDATES_MAX).collect())
}

fn missing<T>(what: &str) -> Result<T, NegotiationError> {
    unsupported(format!("the offer's video section has no {what}"))
}

fn unsupported<T>(reason: String) -> Result<T, NegotiationError> {
    Err(NegotiationError::Unsupported(reason))
}

/// Enough for a sentence.
const REFUSED_SHOWN_MAX: usize = 4;
