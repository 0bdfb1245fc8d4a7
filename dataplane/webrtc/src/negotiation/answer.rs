//! The answer (RFC 9429 section 5.3.1): one section taken, all others rejected, every candidate in it.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::candidate::{Candidate, default_candidate, write_candidates};
use super::section::{Section, TRANSPORT_CC_URI};
use super::{Fingerprint, Negotiated, Offer};
use crate::ice::IceCredentials;

/// What the answer says of us.
#[derive(Clone, Debug)]
pub struct LocalDescription<'a> {
    /// `o=` session number.
    pub session_number: u64,
    /// Our ICE credentials.
    pub ice: &'a IceCredentials,
    /// Our certificate.
    pub fingerprint: &'a Fingerprint,
    /// All of them.
    pub candidates: &'a [Candidate],
    /// SSRC of the media.
    pub ssrc: u32,
    /// SSRC of the retransmissions, used where negotiated.
    pub rtx_ssrc: u32,
    /// CNAME (RFC 7022).
    pub cname: &'a str,
}

/// The answer.
pub fn write_answer(offer: &Offer, negotiated: &Negotiated, local: &LocalDescription<'_>) -> String {
    let mut out = String::with_capacity(ANSWER_LEN);
    write_session(&mut out, offer, negotiated, local);
    for (index, section) in offer.sections.iter().enumerate() {
        if index == negotiated.section {
            write_taken(&mut out, section, negotiated, local);
        } else {
            write_rejected(&mut out, section);
        }
    }
    out
}

/// Writes a line; writing to a String cannot fail.
macro_rules! line {
    ($out:expr, $($text:tt)*) => {{
        let _ = write!($out, $($text)*);
        $out.push_str("\r\n");
    }};
}

fn write_session(out: &mut String, offer: &Offer, negotiated: &Negotiated, local: &LocalDescription<'_>) {
    // RFC 9429 section 5.2.1: the highest bit of the number is 0.
    let number = local.session_number & i64::MAX.unsigned_abs();
    line!(out, "v=0");
    line!(out, "o=- {number} 1 IN IP4 0.0.0.0");
    line!(out, "s=-");
    line!(out, "t=0 0");
    if offer.sections.get(negotiated.section).is_some_and(|section| section.tagged.is_some()) {
        line!(out, "a=group:BUNDLE {}", negotiated.mid);
    }
    line!(out, "a=ice-lite");
    // RFC 8445 section 10: `ice2` says that the viewer shall not nominate aggressively.
    line!(out, "a=ice-options:{}", if offer.trickle { "trickle ice2" } else { "ice2" });
}

/// RFC 9429 section 5.3.1: a port of 0 and a format of the offer.
fn write_rejected(out: &mut String, section: &Section) {
    line!(out, "m={} 0 {} {}", section.kind, section.protocol, section.first_format);
    line!(out, "c=IN IP4 0.0.0.0");
    if let Some(mid) = &section.mid {
        line!(out, "a=mid:{mid}");
    }
    line!(out, "a=inactive");
}

fn write_taken(out: &mut String, section: &Section, negotiated: &Negotiated, local: &LocalDescription<'_>) {
    let address = default_candidate(local.candidates).unwrap_or(NO_ADDRESS);
    let _ = write!(out, "m=video {} {} {}", address.port(), section.protocol, negotiated.payload_type);
    if let Some(rtx) = negotiated.rtx {
        let _ = write!(out, " {}", rtx.payload_type);
    }
    out.push_str("\r\n");
    line!(out, "c=IN {} {}", if address.is_ipv6() { "IP6" } else { "IP4" }, address.ip());
    line!(out, "a=mid:{}", negotiated.mid);
    line!(out, "a=sendonly");
    line!(out, "a=rtcp-mux");
    if section.rtcp_rsize {
        line!(out, "a=rtcp-rsize");
    }
    line!(out, "a=setup:passive");
    line!(out, "a=ice-ufrag:{}", local.ice.ufrag);
    line!(out, "a=ice-pwd:{}", local.ice.password);
    line!(out, "a=fingerprint:{}", local.fingerprint);
    if let Some(id) = negotiated.transport_cc {
        line!(out, "a=extmap:{id} {TRANSPORT_CC_URI}");
    }
    write_formats(out, section, negotiated);
    write_sources(out, negotiated, local);
    write_candidates(out, local.candidates);
}

fn write_formats(out: &mut String, section: &Section, negotiated: &Negotiated) {
    let payload_type = negotiated.payload_type;
    if let Some(format) = section.formats.of(payload_type) {
        line!(out, "a=rtpmap:{payload_type} {}/{}", format.name, format.clock_rate_hz);
        let parameters = format.answer_parameters();
        if !parameters.is_empty() {
            line!(out, "a=fmtp:{payload_type} {parameters}");
        }
    }
    for (agreed, message) in [
        (negotiated.nack, "nack"),
        (negotiated.pli, "nack pli"),
        (negotiated.fir, "ccm fir"),
        (negotiated.remb, "goog-remb"),
        (negotiated.transport_cc.is_some(), "transport-cc"),
    ] {
        if agreed {
            line!(out, "a=rtcp-fb:{payload_type} {message}");
        }
    }
    if let Some(rtx) = negotiated.rtx {
        line!(out, "a=rtpmap:{} rtx/90000", rtx.payload_type);
        line!(out, "a=fmtp:{} apt={payload_type}", rtx.payload_type);
    }
}

/// RFC 8830 (msid), RFC 5576 (ssrc), RFC 4588 section 8.8 (FID).
fn write_sources(out: &mut String, negotiated: &Negotiated, local: &LocalDescription<'_>) {
    let LocalDescription { ssrc, rtx_ssrc, cname, .. } = local;
    line!(out, "a=msid:lanecast video");
    if negotiated.rtx.is_some() {
        line!(out, "a=ssrc-group:FID {ssrc} {rtx_ssrc}");
    }
    line!(out, "a=ssrc:{ssrc} cname:{cname}");
    if negotiated.rtx.is_some() {
        line!(out, "a=ssrc:{rtx_ssrc} cname:{cname}");
    }
}

/// Where no candidate is UDP (RFC 8839 section 4.2.1.2).
const NO_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9);
/// What an answer to a browser has, with a few candidates to spare.
const ANSWER_LEN: usize = 2048;
