//! Splits what comes over the RTSP connection into messages and interleaved frames (RFC 2326 section 10.12).
//!
//! Messages are read by `rtsp-types`, after this file found where they end; heads that it refuses are
//! put in order first. What a message means does not belong here.

use bytes::{Buf, Bytes, BytesMut};
use rtsp_types::Message;
use url::Url;

/// One whole thing of the connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// Interleaved binary data.
    Interleaved {
        /// Channel id.
        channel: u8,
        /// The RTP or RTCP packet, a slice of the receive buffer.
        payload: Bytes,
    },
    /// A response or a request of the camera.
    Message(Box<Message<Bytes>>),
}

/// Why the connection cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Neither a frame nor a message starts here and none was found within the bound.
    #[error("lost the framing of the RTSP connection")]
    Unsynchronized,
    /// A message's header or body is longer than we take.
    #[error("RTSP message is larger than {limit} bytes")]
    TooLarge {
        /// The bound.
        limit: usize,
    },
    /// The first thing that came is HTTP.
    #[error("this port speaks HTTP")]
    Http,
}

/// The splitter. Holds no bytes of its own: what is incomplete stays in the caller's buffer.
///
/// Between two calls the caller may only append to the buffer.
#[derive(Debug, Default)]
pub struct Frames {
    /// How far the message at the front was searched for the end of its head.
    searched: usize,
    /// The message at the front, once its head is whole.
    extent: Option<Extent>,
    /// Garbage skipped since the last good frame. Not zero: the framing is lost, be suspicious.
    skipped: usize,
    /// Something good has come.
    seen: bool,
}

#[derive(Clone, Copy, Debug)]
struct Extent {
    head: usize,
    total: usize,
}

impl Frames {
    /// Splits the next frame off the front of `received`; `None` when more bytes are needed.
    pub fn next_frame(&mut self, received: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        loop {
            match Start::of(received, self.skipped > 0) {
                Start::Blank => received.advance(1),
                Start::Incomplete => return Ok(None),
                Start::Interleaved { len } => {
                    if received.len() < FRAME_HEADER_LEN + len {
                        return Ok(None);
                    }
                    let channel = received[1];
                    received.advance(FRAME_HEADER_LEN);
                    let payload = received.split_to(len).freeze();
                    self.skipped = 0;
                    self.seen = true;
                    return Ok(Some(Frame::Interleaved { channel, payload }));
                }
                Start::Message => {
                    let Some(extent) = self.message_extent(received)? else { return Ok(None) };
                    (self.searched, self.extent) = (0, None);
                    let whole = received.split_to(extent.total).freeze();
                    if let Some(message) = read_message(&whole, extent.head) {
                        self.skipped = 0;
                        self.seen = true;
                        return Ok(Some(Frame::Message(Box::new(message))));
                    }
                    self.note_skipped(extent.total)?;
                }
                Start::Garbage if !self.seen && received.starts_with(b"HTTP/") => {
                    return Err(FrameError::Http);
                }
                Start::Garbage => {
                    let next = received[1..].iter().position(|byte| may_start(*byte));
                    let garbage = next.map_or(received.len(), |position| position + 1);
                    received.advance(garbage);
                    self.note_skipped(garbage)?;
                }
            }
        }
    }

    /// Where the message at the front ends, once all of it is there.
    fn message_extent(&mut self, received: &[u8]) -> Result<Option<Extent>, FrameError> {
        let extent = match self.extent {
            Some(extent) => extent,
            None => {
                let Some(head) = head_len(received, self.searched.saturating_sub(HEAD_END_MAX)) else {
                    self.searched = received.len();
                    return if received.len() > MESSAGE_LEN_MAX { Err(TOO_LARGE) } else { Ok(None) };
                };
                let total = content_length(&received[..head]).saturating_add(head);
                if total > MESSAGE_LEN_MAX {
                    return Err(TOO_LARGE);
                }
                Extent { head, total }
            }
        };
        self.extent = Some(extent);
        Ok((received.len() >= extent.total).then_some(extent))
    }

    fn note_skipped(&mut self, bytes: usize) -> Result<(), FrameError> {
        self.skipped += bytes;
        if self.skipped > SKIPPED_BYTES_MAX { Err(FrameError::Unsynchronized) } else { Ok(()) }
    }
}

/// What the front of the buffer looks like.
#[derive(Debug, PartialEq, Eq)]
enum Start {
    /// Too few bytes to tell.
    Incomplete,
    /// A line end between messages.
    Blank,
    /// `$`, a channel and this length.
    Interleaved { len: usize },
    /// A status line, or a request line of a method that cameras send.
    Message,
    /// None of these.
    Garbage,
}

impl Start {
    /// `lost`: garbage came before, so that a `$` is only believed when what follows looks like RTP or RTCP.
    fn of(bytes: &[u8], lost: bool) -> Self {
        match bytes {
            [] => Self::Incomplete,
            [b'\r' | b'\n', ..] => Self::Blank,
            [b'$', _, high, low, rest @ ..] => {
                let len = usize::from(u16::from_be_bytes([*high, *low]));
                match (lost, rest.first()) {
                    (false, _) => Self::Interleaved { len },
                    (true, None) => Self::Incomplete,
                    (true, Some(_)) if looks_like_media(rest, len) => Self::Interleaved { len },
                    (true, Some(_)) => Self::Garbage,
                }
            }
            [b'$', ..] => Self::Incomplete,
            _ if MESSAGE_STARTS.iter().any(|start| bytes.starts_with(start)) => Self::Message,
            _ if MESSAGE_STARTS.iter().chain([&HTTP_START]).any(|start| start.starts_with(bytes)) => {
                Self::Incomplete
            }
            _ => Self::Garbage,
        }
    }
}

/// RTP or RTCP version 2 of a sane length, followed by something that can follow.
fn looks_like_media(payload: &[u8], len: usize) -> bool {
    let version_2 = payload.first().is_some_and(|byte| byte >> 6 == 2);
    version_2 && len >= 8 && payload.get(len).is_none_or(|next| may_start(*next))
}

fn may_start(byte: u8) -> bool {
    matches!(byte, b'$' | b'\r' | b'\n' | b'A'..=b'Z')
}

/// Length of the head with its blank line; `from` is where the search starts.
fn head_len(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(offset) = bytes[at..].iter().position(|byte| *byte == b'\n') {
        at += offset + 1;
        match &bytes[at..] {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// The body's length as the head says; 0 where it says nothing that can be read.
fn content_length(head: &[u8]) -> usize {
    for line in head.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        if line[..colon].trim_ascii().eq_ignore_ascii_case(b"content-length") {
            let digits = line[colon + 1..].trim_ascii();
            let digits = &digits[..digits.iter().take_while(|byte| byte.is_ascii_digit()).count()];
            let text = std::str::from_utf8(digits).unwrap_or_default();
            // All digits: what does not fit is too large, not nothing.
            return if text.is_empty() { 0 } else { text.parse().unwrap_or(usize::MAX) };
        }
    }
    0
}

fn read_message(whole: &Bytes, head: usize) -> Option<Message<Bytes>> {
    if let Ok((message, consumed)) = Message::<&[u8]>::parse(whole)
        && consumed == whole.len()
    {
        return with_body(message, |body| whole.slice_ref(body));
    }
    let body = whole.slice(head..);
    let ordered = ordered_head(&whole[..head])?;
    let (message, _) = Message::<&[u8]>::parse(ordered.as_bytes()).ok()?;
    with_body(message, |_| body)
}

fn with_body<'a>(message: Message<&'a [u8]>, body: impl FnOnce(&'a [u8]) -> Bytes) -> Option<Message<Bytes>> {
    match message {
        Message::Request(request) => Some(request.map_body(body).into()),
        Message::Response(response) => Some(response.map_body(body).into()),
        Message::Data(_) => None,
    }
}

/// A head that the parser refuses, in good order: line ends, blanks before colons, a status line without
/// reason, bytes that are not UTF-8; lines that are no header are dropped. The body's length is left out.
fn ordered_head(head: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split(['\r', '\n']).filter(|line| !line.trim().is_empty());
    let mut words = lines.next()?.split_whitespace();
    let mut out = match (words.next()?, words.next()?) {
        (version, status) if version.starts_with("RTSP/") => {
            format!("RTSP/1.0 {status} {}\r\n", words.collect::<Vec<_>>().join(" "))
        }
        (method, uri) if Url::parse(uri).is_ok() => format!("{method} {uri} RTSP/1.0\r\n"),
        (method, _) => format!("{method} * RTSP/1.0\r\n"),
    };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let name = name.trim();
        let token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !name.is_empty() && name.chars().all(token) && !name.eq_ignore_ascii_case("content-length") {
            out.push_str(&format!("{name}: {}\r\n", value.trim()));
        }
    }
    out.push_str("\r\n");
    Some(out)
}

/// `$`, channel, length (RFC 2326 section 10.12).
const FRAME_HEADER_LEN: usize = 4;
/// Head and body together: the longest descriptions of real cameras have a few KiB.
const MESSAGE_LEN_MAX: usize = 64 * 1024;
const TOO_LARGE: FrameError = FrameError::TooLarge { limit: MESSAGE_LEN_MAX };
/// Four of the largest interleaved frames: within this, cameras that lose bytes find their framing again.
const SKIPPED_BYTES_MAX: usize = 4 * 64 * 1024;
/// A head's end may lie on both sides of the place where the last search ended.
const HEAD_END_MAX: usize = 3;
const HTTP_START: &[u8] = b"HTTP/";
const MESSAGE_STARTS: [&[u8]; 12] = [
    b"RTSP/",
    b"ANNOUNCE ",
    b"DESCRIBE ",
    b"GET_PARAMETER ",
    b"OPTIONS ",
    b"PAUSE ",
    b"PLAY ",
    b"PLAY_NOTIFY ",
    b"REDIRECT ",
    b"SETUP ",
    b"SET_PARAMETER ",
    b"TEARDOWN ",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtsp_types::headers;

    use super::*;

    fn all(frames: &mut Frames, received: &mut BytesMut) -> Vec<Frame> {
        std::iter::from_fn(|| frames.next_frame(received).unwrap()).collect()
    }

    fn interleaved(channel: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![b'$', channel];
        out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        out.extend_from_slice(payload);
        out
    }

    fn rtp(len: usize) -> Vec<u8> {
        let mut packet = vec![0x80, 96];
        packet.resize(len, b'$');
        packet
    }

    const RESPONSE: &[u8] =
        b"RTSP/1.0 200 OK\r\nCSeq: 3\r\nContent-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n";

    fn dialogue() -> Vec<u8> {
        let mut bytes = interleaved(0, &rtp(40));
        bytes.extend_from_slice(RESPONSE);
        bytes.extend_from_slice(b"\r\n");
        bytes.extend(interleaved(1, &rtp(28)));
        bytes.extend_from_slice(b"OPTIONS rtsp://h/x RTSP/1.0\r\nCSeq: 1\r\n\r\n");
        bytes.extend(interleaved(0, &[]));
        bytes.extend_from_slice(b"RTSP/1.0 454 Session Not Found\nCSeq: 4\n\n");
        bytes.extend(interleaved(0, &rtp(60)));
        bytes
    }

    #[test]
    fn splits_frames_from_messages_at_every_split_point() {
        let bytes = dialogue();
        let whole = all(&mut Frames::default(), &mut BytesMut::from(&bytes[..]));
        assert_eq!(whole.len(), 7);
        for split in 0..=bytes.len() {
            let (mut frames, mut received) = (Frames::default(), BytesMut::from(&bytes[..split]));
            let mut got = all(&mut frames, &mut received);
            received.extend_from_slice(&bytes[split..]);
            got.extend(all(&mut frames, &mut received));
            assert_eq!(got, whole, "split at {split}");
            assert!(received.is_empty());
        }
        let (mut frames, mut received) = (Frames::default(), BytesMut::new());
        let mut got = Vec::new();
        for byte in bytes {
            received.extend_from_slice(&[byte]);
            got.extend(all(&mut frames, &mut received));
        }
        assert_eq!(got, whole);
    }

    #[test]
    fn payloads_are_slices_of_the_receive_buffer() {
        let mut received = BytesMut::from(&interleaved(0, &rtp(1000))[..]);
        let range = received.as_ptr_range();
        let Some(Frame::Interleaved { payload, .. }) = Frames::default().next_frame(&mut received).unwrap()
        else {
            panic!("no frame")
        };
        assert!(range.contains(&payload.as_ptr()));
    }

    #[test]
    fn a_message_has_its_body_and_its_headers() {
        let got = all(&mut Frames::default(), &mut BytesMut::from(RESPONSE));
        let [Frame::Message(message)] = got.as_slice() else { panic!("{got:?}") };
        let Message::Response(response) = message.as_ref() else { panic!("{message:?}") };
        assert_eq!(response.body().as_ref(), b"v=0\r\n");
        assert_eq!(response.header(&headers::CSEQ).unwrap().as_str(), "3");
    }

    #[test]
    fn puts_sloppy_heads_in_order() {
        for sloppy in [
            &b"RTSP/1.0 200\r\nCSeq: 3\r\n\r\n"[..],
            b"RTSP/1.0 200 OK\nCSeq : 3 \n\n",
            b"RTSP/1.0  200  OK\r\nno header\r\nCSeq:3\r\nServer: \xff\xfe\r\n\r\n",
            b"RTSP/1.1 200 OK\r\nCSeq: 3\r\nContent-Length: \r\n\r\n",
            b"RTSP/1.0 200 OK\r\n: x\r\nCSeq: 3\r\n\n",
        ] {
            let got = all(&mut Frames::default(), &mut BytesMut::from(sloppy));
            let [Frame::Message(message)] = got.as_slice() else { panic!("{got:?}") };
            let Message::Response(response) = message.as_ref() else { panic!("{message:?}") };
            assert_eq!(u16::from(response.status()), 200);
            assert_eq!(response.header(&headers::CSEQ).unwrap().as_str(), "3");
        }
        let request = b"OPTIONS /stream RTSP/1.0\r\nCSeq: 9\r\n\r\n";
        let got = all(&mut Frames::default(), &mut BytesMut::from(&request[..]));
        assert!(matches!(got.as_slice(), [Frame::Message(_)]));
    }

    #[test]
    fn finds_its_framing_again_after_garbage() {
        let garbages: [&[u8]; 5] = [
            b"\0\0\0\0",
            b"$garbage",
            b"half a NAL \x00\x00$\x00\xff\xff",
            b"v=0\r\no=- 1\r\nRT",
            &[0x24; 90],
        ];
        for garbage in garbages {
            for split in 0..=garbage.len() {
                let mut bytes = RESPONSE.to_vec();
                bytes.extend_from_slice(b"x");
                bytes.extend_from_slice(garbage);
                bytes.extend(interleaved(0, &rtp(100)));
                bytes.extend(interleaved(0, &rtp(50)));
                bytes.extend_from_slice(RESPONSE);
                let (mut frames, mut received) =
                    (Frames::default(), BytesMut::from(&bytes[..RESPONSE.len() + split]));
                let mut got = all(&mut frames, &mut received);
                received.extend_from_slice(&bytes[RESPONSE.len() + split..]);
                got.extend(all(&mut frames, &mut received));
                assert_eq!(got.len(), 4, "{garbage:?} split at {split}: {got:?}");
            }
        }
    }

    #[test]
    fn gives_up_on_endless_garbage_and_on_endless_messages() {
        let mut frames = Frames::default();
        let mut received = BytesMut::from(&vec![b'x'; SKIPPED_BYTES_MAX + 1][..]);
        assert_eq!(frames.next_frame(&mut received), Err(FrameError::Unsynchronized));

        let mut endless = BytesMut::from(&b"RTSP/1.0 200 OK\r\n"[..]);
        endless.extend_from_slice(&b"X: y\r\n".repeat(20_000));
        assert_eq!(Frames::default().next_frame(&mut endless), Err(TOO_LARGE));

        for length in ["65536", "99999999999999999999999999"] {
            let head = format!("RTSP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n");
            assert_eq!(Frames::default().next_frame(&mut BytesMut::from(head.as_bytes())), Err(TOO_LARGE));
        }
    }

    #[test]
    fn says_when_the_port_speaks_http() {
        let mut received = BytesMut::from(&b"HTT"[..]);
        let mut frames = Frames::default();
        assert_eq!(frames.next_frame(&mut received), Ok(None));
        received.extend_from_slice(b"P/1.1 400 Bad Request\r\n\r\n");
        assert_eq!(frames.next_frame(&mut received), Err(FrameError::Http));
    }

    proptest! {
        #[test]
        fn never_panics_and_always_stops(chunks in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..300), 0..8)) {
            let (mut frames, mut received) = (Frames::default(), BytesMut::new());
            for chunk in chunks {
                received.extend_from_slice(&chunk);
                while let Ok(Some(_)) = frames.next_frame(&mut received) {}
            }
        }

        #[test]
        fn never_panics_on_almost_rtsp(text in "(RTSP/1\\.0 [0-9]{0,4} ?[a-z]{0,3}\r?\n|OPTIONS [a-z:/*]{0,9} RTSP|[A-Za-z-]{0,6} ?: ?[^\0]{0,9}\r?\n|\r?\n|\\$[^\0]{0,9}){0,9}") {
            let (mut frames, mut received) = (Frames::default(), BytesMut::new());
            for byte in text.as_bytes() {
                received.extend_from_slice(&[*byte]);
                while let Ok(Some(_)) = frames.next_frame(&mut received) {}
            }
        }
    }
}
