//! A viewer's offer (RFC 8866, RFC 9429 section 5.8): read whole and within bounds. What suits a stream is asked later.

use sdp_types::Session;

use super::printable;
use super::section::{Section, bundle};
use super::transport::Transport;

/// An offer that could be answered, whatever the stream.
#[derive(Clone, Debug)]
pub struct Offer {
    pub(super) sections: Vec<Section>,
    /// What holds for every section that does not say otherwise.
    pub(super) transport: Transport,
    /// `a=ice-options` has `trickle`.
    pub(super) trickle: bool,
}

/// Why an offer cannot be answered at all: malformed (400).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// Not SDP, or over a bound; a sentence naming what and where.
    #[error("{0}")]
    Malformed(String),
}

impl Offer {
    /// Parses and checks an offer.
    ///
    /// # Errors
    /// When it is not a well-formed offer within our bounds.
    pub fn parse(sdp: &str) -> Result<Self, OfferError> {
        check_bounds(sdp)?;
        let session = parse_session(sdp)?;
        let mut sections = parse_sections(&session)?;
        bundle(&mut sections, &session).map_err(OfferError::Malformed)?;
        let transport = Transport::parse(&session.attributes).map_err(OfferError::Malformed)?;
        Ok(Self { sections, transport, trickle: trickles(&session) })
    }
}

/// What the parser would otherwise read and keep at any size.
pub(super) fn check_bounds(text: &str) -> Result<(), OfferError> {
    let refuse = |reason: String| Err(OfferError::Malformed(reason));
    if text.len() > BYTES_MAX {
        return refuse(format!("{} bytes are more than {BYTES_MAX}", text.len()));
    }
    let (mut sections, mut candidates) = (0_usize, 0_usize);
    for (index, line) in text.lines().enumerate() {
        if index >= LINES_MAX {
            return refuse(format!("more than {LINES_MAX} lines"));
        }
        if line.len() > LINE_BYTES_MAX {
            return refuse(format!("line {} is longer than {LINE_BYTES_MAX} bytes", index + 1));
        }
        sections += usize::from(line.starts_with("m="));
        candidates += usize::from(line.starts_with("a=candidate:"));
    }
    if sections > SECTIONS_MAX {
        return refuse(format!("{sections} sections are more than {SECTIONS_MAX}"));
    }
    if candidates > CANDIDATE_LINES_MAX {
        return refuse(format!("{candidates} candidates are more than {CANDIDATE_LINES_MAX}"));
    }
    Ok(())
}

pub(super) fn parse_session(sdp: &str) -> Result<Session, OfferError> {
    Session::parse(sdp.trim().as_bytes())
        .map_err(|error| OfferError::Malformed(format!("not SDP: {}", printable(&error.to_string()))))
}

fn parse_sections(session: &Session) -> Result<Vec<Section>, OfferError> {
    let parse = |(index, media)| {
        Section::parse(media, session)
            .map_err(|reason| OfferError::Malformed(format!("section {}: {reason}", index + 1)))
    };
    session.medias.iter().enumerate().map(parse).collect()
}

/// RFC 8838 section 3, at either level.
fn trickles(session: &Session) -> bool {
    let sections = session.medias.iter().flat_map(|media| &media.attributes);
    session.attributes.iter().chain(sections).any(|attribute| {
        let options = attribute.value.as_deref().unwrap_or_default();
        attribute.attribute == "ice-options" && options.split_ascii_whitespace().any(|it| it == "trickle")
    })
}

/// A browser's offer of three sections has 10 KB.
const BYTES_MAX: usize = 256 * 1024;
/// A browser's section has some 200.
const LINES_MAX: usize = 8192;
/// The longest of a browser are hashes and `m=`, some 200 bytes.
const LINE_BYTES_MAX: usize = 4096;
/// A page that reuses the connection of a conference has some dozens; we answer one.
const SECTIONS_MAX: usize = 64;
/// A machine with twenty addresses has 40 a section without BUNDLE; nobody has thousands.
const CANDIDATE_LINES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(sdp: &str) -> String {
        Offer::parse(sdp).unwrap_err().to_string()
    }

    fn with(lines: &str) -> String {
        format!("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n{lines}")
    }

    #[test]
    fn what_is_not_sdp_is_refused_with_the_place() {
        assert_eq!(refused(""), "not SDP: No version line");
        assert!(refused("<html>").starts_with("not SDP: "));
        assert!(refused("{\"type\":\"offer\"}").starts_with("not SDP: "));
        assert!(refused(&with("nonsense\r\n")).contains("line 5"));
        assert!(refused(&with("m=video\r\n")).starts_with("not SDP: "));
        assert!(refused(&with("m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\ra=x\r\n")).contains("line 6"));
    }

    #[test]
    fn every_bound_is_named() {
        assert_eq!(refused(&"v".repeat(300_000)), "300000 bytes are more than 262144");
        assert_eq!(refused(&"v=0\n".repeat(9000)), "more than 8192 lines");
        assert_eq!(refused(&with(&format!("a={}", "x".repeat(5000)))), "line 5 is longer than 4096 bytes");
        let sections = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n".repeat(65);
        assert_eq!(refused(&with(&sections)), "65 sections are more than 64");
        let candidates = "a=candidate:1 1 udp 1 192.0.2.1 4000 typ host\r\n".repeat(3000);
        assert_eq!(refused(&with(&candidates)), "3000 candidates are more than 512");
        let types = " 96".repeat(129);
        assert_eq!(
            refused(&with(&format!("m=video 9 UDP/TLS/RTP/SAVPF{types}\r\n"))),
            "section 1: more than 128 payload types"
        );
        let mid = "m".repeat(65);
        assert!(
            refused(&with(&format!("m=audio 9 X 0\r\na=mid:{mid}\r\n"))).starts_with("section 1: the mid")
        );
    }

    #[test]
    fn two_sections_never_share_a_mid() {
        let sections = "m=audio 9 X 0\r\na=mid:0\r\nm=video 9 X 0\r\na=mid:0\r\n";
        assert_eq!(refused(&with(sections)), "two sections have a=mid:0");
    }

    #[test]
    fn line_ends_may_be_bare_and_the_last_one_missing() {
        let sdp = with("m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0").replace("\r\n", "\n");
        assert_eq!(Offer::parse(&sdp).unwrap().sections.len(), 1);
    }
}
