//! One `m=` section of an offer, as far as an answer needs it.

use std::collections::HashMap;

use sdp_types::{Attribute, Media, Session};

use super::format::Formats;
use super::printable;
use super::transport::Transport;

/// One section.
#[derive(Clone, Debug)]
pub(super) struct Section {
    /// `audio`, `video`, `application`, …
    pub(super) kind: String,
    pub(super) protocol: String,
    /// The first of `m=`; a rejected section names it.
    pub(super) first_format: String,
    pub(super) mid: Option<String>,
    /// The first section of its BUNDLE group, where it is in one (RFC 8843).
    pub(super) tagged: Option<usize>,
    /// Of `m=`.
    port: u16,
    /// `a=bundle-only` is there.
    bundle_only: bool,
    pub(super) direction: Direction,
    pub(super) rtcp_rsize: bool,
    /// Header extension id of the transport-wide sequence number.
    pub(super) transport_cc: Option<u8>,
    pub(super) formats: Formats,
    pub(super) transport: Transport,
}

/// Which way media flows, as the offerer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    SendReceive,
    Receive,
    Send,
    Inactive,
}

impl Section {
    /// Reads a section; what it leaves out holds from the session. A sentence where it is malformed.
    pub(super) fn parse(media: &Media, session: &Session) -> Result<Self, String> {
        let has = |name: &str| media.attributes.iter().any(|it| it.attribute == name);
        let direction = direction(&media.attributes).or_else(|| direction(&session.attributes));
        Ok(Self {
            kind: token(&media.media, "media type")?,
            protocol: token(&media.proto, "protocol")?,
            first_format: token(media.fmt.split_ascii_whitespace().next().unwrap_or_default(), "format")?,
            mid: mid(media)?,
            tagged: None,
            port: media.port,
            bundle_only: has("bundle-only"),
            direction: direction.unwrap_or(Direction::SendReceive),
            rtcp_rsize: has("rtcp-rsize"),
            transport_cc: transport_cc(&media.attributes).or_else(|| transport_cc(&session.attributes)),
            formats: if is_rtp(media) { Formats::parse(media)? } else { Formats::default() },
            transport: Transport::parse(&media.attributes)?,
        })
    }

    /// A video section in which the offerer wants to get something.
    pub(super) fn receives_video(&self) -> bool {
        self.kind == "video"
            && self.is_open()
            && matches!(self.direction, Direction::SendReceive | Direction::Receive)
    }

    /// Not rejected by the offerer itself: a port of 0 means something else only in a BUNDLE group (RFC 8843 section 6).
    pub(super) fn is_open(&self) -> bool {
        self.port != 0 || (self.bundle_only && self.tagged.is_some())
    }

    /// RTP over DTLS-SRTP, or a name under which it was offered once (RFC 9429 section 5.1.2).
    pub(super) fn is_secure_rtp(&self) -> bool {
        let profile = ["UDP/TLS/", "TCP/DTLS/", "TCP/TLS/"]
            .iter()
            .find_map(|transport| self.protocol.strip_prefix(transport))
            .unwrap_or(&self.protocol);
        matches!(profile, "RTP/SAVPF" | "RTP/SAVP")
    }
}

/// Whose formats are payload types.
fn is_rtp(media: &Media) -> bool {
    media.proto.split('/').any(|word| word == "RTP")
}

/// Sets [`Section::tagged`] by the BUNDLE groups; mids are unique, or a sentence.
pub(super) fn bundle(sections: &mut [Section], session: &Session) -> Result<(), String> {
    let mut places = HashMap::new();
    for (index, section) in sections.iter().enumerate() {
        if let Some(mid) = &section.mid
            && places.insert(mid.clone(), index).is_some()
        {
            return Err(format!("two sections have a=mid:{}", printable(mid)));
        }
    }
    let groups =
        session.attributes.iter().filter(|it| it.attribute == "group").filter_map(|it| it.value.as_deref());
    for mids in groups.filter_map(|group| group.trim().strip_prefix("BUNDLE")) {
        let mut members = mids.split_ascii_whitespace().filter_map(|mid| places.get(mid).copied()).peekable();
        let tagged = members.peek().copied();
        for member in members {
            sections[member].tagged = sections[member].tagged.or(tagged);
        }
    }
    Ok(())
}

fn token(text: &str, what: &str) -> Result<String, String> {
    let fits = (1..=TOKEN_LEN_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| text.to_owned()).ok_or_else(|| format!("the {what} {:?} is not a word", printable(text)))
}

fn mid(media: &Media) -> Result<Option<String>, String> {
    let mid = media.attributes.iter().find(|it| it.attribute == "mid");
    mid.map(|it| token(it.value.as_deref().unwrap_or_default().trim(), "mid")).transpose()
}

fn direction(attributes: &[Attribute]) -> Option<Direction> {
    attributes.iter().find_map(|attribute| match attribute.attribute.as_str() {
        "sendrecv" => Some(Direction::SendReceive),
        "recvonly" => Some(Direction::Receive),
        "sendonly" => Some(Direction::Send),
        "inactive" => Some(Direction::Inactive),
        _ => None,
    })
}

/// `a=extmap:3 http://…` or `a=extmap:3/recvonly http://…` (RFC 8285 section 5).
fn transport_cc(attributes: &[Attribute]) -> Option<u8> {
    attributes.iter().filter(|it| it.attribute == "extmap").find_map(|attribute| {
        let mut words = attribute.value.as_deref()?.split_ascii_whitespace();
        let (id, direction) = words.next().map(|it| it.split_once('/').unwrap_or((it, "sendrecv")))?;
        let received = matches!(direction, "sendrecv" | "recvonly");
        let id = id.parse().ok().filter(|id| ONE_BYTE_IDS.contains(id))?;
        (received && words.next() == Some(TRANSPORT_CC_URI)).then_some(id)
    })
}

/// The transport-wide sequence number (draft-holmer-rmcat-transport-wide-cc-extensions-01).
pub(super) const TRANSPORT_CC_URI: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
/// RFC 8285 section 4.2: 15 is reserved, higher ones need two bytes.
const ONE_BYTE_IDS: std::ops::RangeInclusive<u8> = 1..=14;
/// Far above any in use; these words come back in the answer.
const TOKEN_LEN_MAX: usize = 64;
