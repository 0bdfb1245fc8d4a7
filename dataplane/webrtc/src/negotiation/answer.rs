//! The answer (RFC 9429 section 5.3.1): one section taken, all others rejected, every candidate in it. Where the
//! viewer bundles and another section comes first, that one is answered too, without media: it has the transport.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::candidate::{Candidate, default_candidate, write_candidates};
use super::format::Format;
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
    let carrier = offer.carrier(negotiated.section);
    let mut out = String::with_capacity(ANSWER_LEN);
    write_session(&mut out, offer, negotiated, local);
    for (index, section) in offer.sections.iter().enumerate() {
        if index == negotiated.section {
            write_taken(&mut out, section, negotiated, local);
        } else if Some(index) == carrier {
            write_carrier(&mut out, section, local);
        } else {
            write_rejected(&mut out, section, local);
        }
        // RFC 8843 section 7.3.2: of a group, only the first section has them.
        if index == carrier.unwrap_or(negotiated.section) {
            write_candidates(&mut out, local.candidates);
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
    write_group(out, offer, negotiated);
    line!(out, "a=ice-lite");
    // RFC 8445 section 10: `ice2` says that the viewer shall not nominate aggressively.
    line!(out, "a=ice-options:{}", if offer.trickle { "trickle ice2" } else { "ice2" });
}

/// RFC 8843 section 7.3: the section that has the transport comes first.
fn write_group(out: &mut String, offer: &Offer, negotiated: &Negotiated) {
    let Negotiated { section, mid, .. } = negotiated;
    let carrier = offer.carrier(*section).and_then(|index| offer.sections.get(index)?.mid.as_deref());
    match carrier {
        Some(carrier) => line!(out, "a=group:BUNDLE {carrier} {mid}"),
        None if offer.sections.get(*section).is_some_and(|it| it.tagged.is_some()) => {
            line!(out, "a=group:BUNDLE {mid}");
        }
        None => {}
    }
}

/// RFC 9429 section 5.3.1: a port of 0 and a format of the offer. The rest would not be needed, but GStreamer 1.22 and
/// aiortc 1.16 refuse an answer without credentials, hash and codec in every section, also in a rejected one.
fn write_rejected(out: &mut String, section: &Section, local: &LocalDescription<'_>) {
    let format = section.formats.first().map(|it| it.payload_type.to_string());
    let format = format.as_deref().unwrap_or(&section.first_format);
    line!(out, "m={} 0 {} {format}", section.kind, section.protocol);
    line!(out, "c=IN IP4 0.0.0.0");
    if let Some(mid) = &section.mid {
        line!(out, "a=mid:{mid}");
    }
    line!(out, "a=inactive");
    write_transport(out, section, local);
    if let Some(format) = section.formats.first() {
        write_format(out, format);
    }
}

/// Accepted for its transport; nothing is sent in it.
fn write_carrier(out: &mut String, section: &Section, local: &LocalDescription<'_>) {
    let Some(format) = section.formats.first() else { return };
    write_media(out, section, &[format.payload_type], local);
    line!(out, "a=inactive");
    write_transport(out, section, local);
    write_format(out, format);
}

/// A format as it is offered.
fn write_format(out: &mut String, format: &Format) {
    let Format { payload_type, map, parameters, .. } = format;
    line!(out, "a=rtpmap:{payload_type} {map}");
    if !parameters.is_empty() {
        line!(out, "a=fmtp:{payload_type} {parameters}");
    }
}

fn write_taken(out: &mut String, section: &Section, negotiated: &Negotiated, local: &LocalDescription<'_>) {
    match negotiated.rtx {
        Some(rtx) => write_media(out, section, &[negotiated.payload_type, rtx.payload_type], local),
        None => write_media(out, section, &[negotiated.payload_type], local),
    }
    line!(out, "a=sendonly");
    write_transport(out, section, local);
    if let Some(id) = negotiated.transport_cc {
        line!(out, "a=extmap:{id} {TRANSPORT_CC_URI}");
    }
    write_formats(out, section, negotiated);
    write_sources(out, negotiated, local);
}

fn write_media(out: &mut String, section: &Section, payload_types: &[u8], local: &LocalDescription<'_>) {
    let address = default_candidate(local.candidates).unwrap_or(NO_ADDRESS);
    let _ = write!(out, "m={} {} {}", section.kind, address.port(), section.protocol);
    for payload_type in payload_types {
        let _ = write!(out, " {payload_type}");
    }
    line!(out, "");
    line!(out, "c=IN {} {}", if address.is_ipv6() { "IP6" } else { "IP4" }, address.ip());
    if let Some(mid) = &section.mid {
        line!(out, "a=mid:{mid}");
    }
}

fn write_transport(out: &mut String, section: &Section, local: &LocalDescription<'_>) {
    line!(out, "a=rtcp-mux");
    if section.rtcp_rsize {
        line!(out, "a=rtcp-rsize");
    }
    line!(out, "a=setup:passive");
    line!(out, "a=ice-ufrag:{}", local.ice.ufrag);
    line!(out, "a=ice-pwd:{}", local.ice.password);
    line!(out, "a=fingerprint:{}", local.fingerprint);
}

fn write_formats(out: &mut String, section: &Section, negotiated: &Negotiated) {
    let payload_type = negotiated.payload_type;
    if let Some(format) = section.formats.of(payload_type) {
        line!(out, "a=rtpmap:{payload_type} {}", format.map);
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
