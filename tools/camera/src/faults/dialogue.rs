//! What a camera gets wrong in the RTSP dialogue. `docs/cameras.md` tells which devices are known for it.
//!
//! Each flag is declared here, once; what it acts on is in the file named. Where the right answer of a client can be
//! told from a wrong one, the camera insists: a wrong URL, session or silence is refused as the device would.

use std::time::Duration;

use clap::{Args, ValueEnum};
use rtsp_types::StatusCode;

/// The faults of the dialogue. `DialogueFaults::default()` has none.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Faults of the RTSP dialogue")]
pub struct DialogueFaults {
    /// How the description says where SETUP and PLAY go; other URLs are answered with 404. `conversation.rs`
    #[arg(long, value_enum, default_value_t)]
    pub control: Control,
    /// Answers PLAY with 405 where its URL ends with a slash. `conversation.rs`
    #[arg(long)]
    pub no_slash_play: bool,
    /// Which tracks there are, and in which order. `sdp.rs`, `conversation.rs`
    #[arg(long, value_enum, default_value_t)]
    pub tracks: Tracks,
    /// The RTP-Info of the reply to PLAY. `conversation.rs`
    #[arg(long, value_enum, default_value_t)]
    pub rtp_info: RtpInfo,
    /// The Transport of the reply to SETUP. `conversation.rs`
    #[arg(long, value_enum, default_value_t)]
    pub transport_reply: TransportReply,
    /// The Session of replies. `conversation.rs`
    #[arg(long, value_enum, default_value_t)]
    pub session_header: SessionHeader,
    /// What keeps a session from expiring, and what OPTIONS says of it. `conversation.rs`, `connection.rs`
    #[arg(long, value_enum, default_value_t)]
    pub keepalive: Keepalive,
    /// Answers OPTIONS with this status.
    #[arg(long, value_name = "STATUS")]
    pub options_status: Option<u16>,
    /// How the heads of replies are written. `conversation.rs`
    #[arg(long, value_enum, default_value_t)]
    pub head: Head,
    /// Replies without CSeq. `conversation.rs`
    #[arg(long)]
    pub no_cseq: bool,
    /// Replies with the CSeq of the request before. `conversation.rs`
    #[arg(long)]
    pub previous_cseq: bool,
    /// Answers DESCRIBE without Content-Type. `conversation.rs`
    #[arg(long)]
    pub no_content_type: bool,
    /// Takes each Digest nonce once; the next request gets 401 with a new one and stale=true. `auth.rs`
    #[arg(long)]
    pub stale_nonce: bool,
    /// Asks for several kinds of authentication at once, the one that it takes last. `conversation.rs`
    #[arg(long)]
    pub many_challenges: bool,
    /// Sends an interleaved frame of nobody's and stray bytes before each reply. `connection.rs`
    #[arg(long)]
    pub binary_between_replies: bool,
    /// Neither reads nor writes any more S seconds after PLAY, and does not close. `connection.rs`
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub freeze_after: Option<Duration>,
    /// Forgets the session S seconds after PLAY: no media any more, no word, and 454 to who asks. `connection.rs`
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub forget_after: Option<Duration>,
    /// Sends TEARDOWN of its own S seconds after PLAY, and no media any more. `connection.rs`
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub teardown_after: Option<Duration>,
    /// Sends requests of its own while it plays, and hangs up on who does not answer. `connection.rs`
    #[arg(long)]
    pub asks: bool,
    /// Answers DESCRIBE with 302, and that the camera is at this URL. `conversation.rs`
    #[arg(long, value_name = "URL")]
    pub redirect: Option<String>,
    /// Answers DESCRIBE without end. `conversation.rs`, `connection.rs`
    #[arg(long, value_enum)]
    pub endless: Option<Endless>,
}

/// How a description says where SETUP and PLAY go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Control {
    /// Of the presentation `*`, of the tracks their last segment. Any URL that names the track will do.
    #[default]
    Relative,
    /// Whole URLs; the presentation's without a slash at its end, Content-Base with one.
    Absolute,
    /// Whole URLs; the presentation's with a slash at its end, Content-Base without.
    AbsoluteSlash,
    /// Whole paths.
    Path,
    /// Content-Base has a query, and the track's name is appended behind it.
    BehindQuery,
    /// The track is a query.
    Query,
    /// The track's is `*`, too: there is only one.
    Star,
    /// None at all.
    None,
}

/// Where a camera with a [`Control`] wants SETUP and PLAY to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ControlUrls {
    pub content_base: String,
    /// What the description says; `None`: no such line.
    pub presentation: Option<String>,
    pub track: Option<String>,
    /// Where SETUP must go.
    pub setup: String,
    /// Where PLAY must go.
    pub play: String,
}

impl Control {
    /// For the mount point `name` at `authority`, whose track is called `track`.
    pub(crate) fn urls(self, authority: &str, name: &str, track: &str) -> ControlUrls {
        let url = format!("rtsp://{authority}/{name}");
        let queried = format!("{url}?channel=1&subtype=0/");
        let of = |content_base: &str,
                  presentation: Option<&str>,
                  of_track: Option<&str>,
                  setup: &str,
                  play: &str| {
            ControlUrls {
                content_base: content_base.to_owned(),
                presentation: presentation.map(str::to_owned),
                track: of_track.map(str::to_owned),
                setup: setup.to_owned(),
                play: play.to_owned(),
            }
        };
        let (slash, whole) = (format!("{url}/"), format!("{url}/{track}"));
        let (path, track_path) = (format!("/{name}"), format!("/{name}/{track}"));
        let (query, with_query) = (format!("?{track}"), format!("{url}?{track}"));
        let behind = format!("{queried}{track}");
        match self {
            Self::Relative => of(&slash, Some("*"), Some(track), &whole, &slash),
            Self::Absolute => of(&slash, Some(&url), Some(&whole), &whole, &url),
            Self::AbsoluteSlash => of(&url, Some(&slash), Some(&whole), &whole, &slash),
            Self::Path => of(&slash, Some(&path), Some(&track_path), &whole, &url),
            Self::BehindQuery => of(&queried, Some("*"), Some(track), &behind, &queried),
            Self::Query => of(&url, Some("*"), Some(&query), &with_query, &url),
            Self::Star => of(&url, Some("*"), Some("*"), &url, &url),
            Self::None => of(&url, None, None, &url, &url),
        }
    }

    /// Whether only the one URL will do.
    pub(crate) fn insists(self) -> bool {
        self != Self::Relative
    }
}

/// Which tracks there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Tracks {
    /// The video, and the audio before it if that is asked for.
    #[default]
    Plain,
    /// An audio track behind the video.
    AudioLast,
    /// An audio track before the video, whose SETUP is answered with 500.
    AudioRefused,
    /// An ONVIF metadata track before the video.
    MetadataFirst,
    /// A JPEG track before the video.
    JpegFirst,
    /// Two tracks of the same video.
    TwoVideos,
    /// Two tracks of the same video; SETUP of the first is answered with 500.
    FirstRefused,
}

/// The RTP-Info of the reply to PLAY.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RtpInfo {
    /// As it should be.
    #[default]
    Right,
    /// No such header.
    None,
    /// Words that mean nothing.
    Garbage,
    /// The URL of another camera.
    OtherUrl,
    /// No sequence number, and a timestamp that is no number.
    NoSeq,
    /// A sequence number and a timestamp that are wrong, a blank behind the comma, a semicolon at the end.
    Wrong,
}

/// The Transport of the reply to SETUP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TransportReply {
    /// As it should be.
    #[default]
    Right,
    /// No such header.
    None,
    /// Over UDP: no server_port.
    NoServerPort,
    /// Over UDP: a comma behind server_port where a semicolon should be.
    Comma,
    /// Over TCP: no interleaved.
    NoInterleaved,
    /// Over TCP: channels 2 and 3, whatever was asked for.
    OtherChannels,
    /// Over TCP: RTP and RTCP change places.
    SwappedChannels,
    /// Over TCP: says the channels that were asked for, and sends over 2 and 3.
    UntoldChannels,
    /// Over TCP: channels 6 and 7, between blanks, strange parameters and quoted commas.
    Foreign,
}

/// The Session of replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SessionHeader {
    /// As it should be.
    #[default]
    Right,
    /// Blanks around everything.
    Spaced,
    /// The timeout in quotes.
    Quoted,
    /// The timeout is told in the reply to PLAY only.
    InPlay,
}

/// What keeps a session from expiring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Keepalive {
    /// Any request.
    #[default]
    Any,
    /// OPTIONS only. Public does not have GET_PARAMETER, which is answered with 405.
    Options,
    /// OPTIONS only. There is no Public, and GET_PARAMETER is answered with 501.
    NoPublic,
    /// OPTIONS only. Public has GET_PARAMETER, which is answered with 400.
    RefusedGetParameter,
    /// OPTIONS only. Public has GET_PARAMETER, which is never answered.
    SilentGetParameter,
    /// GET_PARAMETER only. OPTIONS is answered with 405 (or as --options-status says).
    GetParameter,
    /// Any request, but none is offered: OPTIONS and GET_PARAMETER are answered with 501.
    Unoffered,
}

impl Keepalive {
    /// Whether a request of this method keeps the session.
    pub(crate) fn is_kept_by(self, method: &str) -> bool {
        match (self, method) {
            (_, "SETUP" | "PLAY") | (Self::Any | Self::Unoffered, _) => true,
            (Self::GetParameter, method) => method == "GET_PARAMETER",
            (_, method) => method == "OPTIONS",
        }
    }

    /// The value of Public, where there is such a header.
    pub(crate) fn public(self) -> Option<&'static str> {
        match self {
            Self::Options => Some("OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"),
            Self::NoPublic | Self::GetParameter | Self::Unoffered => None,
            _ => Some("OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, SET_PARAMETER, TEARDOWN"),
        }
    }

    /// The status that a method is refused with.
    pub(crate) fn refusal(self, method: &str) -> Option<StatusCode> {
        match (self, method) {
            (Self::Options, "GET_PARAMETER" | "SET_PARAMETER") | (Self::GetParameter, "OPTIONS") => {
                Some(StatusCode::MethodNotAllowed)
            }
            (Self::NoPublic, "GET_PARAMETER" | "SET_PARAMETER")
            | (Self::Unoffered, "OPTIONS" | "GET_PARAMETER" | "SET_PARAMETER") => {
                Some(StatusCode::NotImplemented)
            }
            (Self::RefusedGetParameter, "GET_PARAMETER" | "SET_PARAMETER") => Some(StatusCode::BadRequest),
            _ => None,
        }
    }

    /// Whether a request is not answered at all.
    pub(crate) fn is_ignored(self, method: &str) -> bool {
        self == Self::SilentGetParameter && matches!(method, "GET_PARAMETER" | "SET_PARAMETER")
    }
}

/// How the heads of replies are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Head {
    /// As it should be.
    #[default]
    Right,
    /// Names of headers in lower case.
    LowerCase,
    /// Lines end with LF.
    Lf,
    /// No reason phrase, nor the blank before it.
    NoReason,
    /// A line with only a blank in it between the headers.
    BlankLine,
    /// Blanks before colons, none behind; a header line without a colon.
    Sloppy,
}

impl Head {
    /// A reply with its head written so.
    pub(crate) fn rewrite(self, reply: Vec<u8>) -> Vec<u8> {
        let Some(end) = reply.windows(4).position(|window| window == b"\r\n\r\n") else { return reply };
        let text = String::from_utf8_lossy(&reply[..end]);
        let (status, headers) = text.split_once("\r\n").unwrap_or((&text, ""));
        let headers = headers.split("\r\n").filter_map(|line| line.split_once(": "));
        let head = match self {
            Self::Right => return reply,
            Self::LowerCase => headers.fold(format!("{status}\r\n"), |head, (name, value)| {
                head + &format!("{}: {value}\r\n", name.to_lowercase())
            }),
            Self::Lf => headers
                .fold(format!("{status}\n"), |head, (name, value)| head + &format!("{name}: {value}\n")),
            Self::NoReason => {
                let status = status.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" ");
                headers.fold(format!("{status}\r\n"), |head, (name, value)| {
                    head + &format!("{name}: {value}\r\n")
                })
            }
            Self::BlankLine => headers.fold(format!("{status}\r\n"), |head, (name, value)| {
                head + &format!("{name}: {value}\r\n \r\n")
            }),
            Self::Sloppy => headers.fold(format!("{status}\r\nno header\r\n"), |head, (name, value)| {
                head + &format!("{name} :{value}\r\n")
            }),
        };
        let end_of_head: &[u8] = if self == Self::Lf { b"\n" } else { b"\r\n" };
        [head.as_bytes(), end_of_head, &reply[end + 4..]].concat()
    }
}

/// What never ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Endless {
    /// The head: one header after the other.
    Head,
    /// The body: 8 GiB are promised and sent.
    Body,
}

impl Endless {
    /// What the reply begins with.
    pub(crate) fn beginning(self, cseq: &str) -> String {
        let head = format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nContent-Type: application/sdp\r\n");
        match self {
            Self::Head => head,
            Self::Body => head + "Content-Length: 8589934592\r\n\r\nv=0\r\n",
        }
    }

    /// What comes then, again and again.
    pub(crate) fn line(self) -> &'static [u8] {
        match self {
            Self::Head => b"X-And-Another: one more line of a head that does not end\r\n",
            Self::Body => b"a=x-and-another:one more line of a description that does not end\r\n",
        }
    }
}

/// A positive number of seconds.
///
/// # Errors
/// A sentence for who typed it.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number of seconds")?;
    match Duration::try_from_secs_f64(number) {
        Ok(duration) if !duration.is_zero() && number < 1e9 => Ok(duration),
        _ => Err("expected a positive number of seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_say_where_requests_go() {
        let urls = |control: Control| control.urls("h:1", "cam0", "trackID=1");
        assert_eq!(urls(Control::Absolute).play, "rtsp://h:1/cam0");
        assert_eq!(urls(Control::AbsoluteSlash).play, "rtsp://h:1/cam0/");
        assert_eq!(urls(Control::BehindQuery).setup, "rtsp://h:1/cam0?channel=1&subtype=0/trackID=1");
        assert_eq!(urls(Control::Query).setup, "rtsp://h:1/cam0?trackID=1");
        assert_eq!(urls(Control::Path).track.as_deref(), Some("/cam0/trackID=1"));
        assert_eq!(urls(Control::None).track, None);
    }

    #[test]
    fn heads_are_written_wrong_and_bodies_left_alone() {
        let reply = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nPublic: A\r\n\r\nx\r\ny".to_vec();
        let text = |head: Head| String::from_utf8(head.rewrite(reply.clone())).unwrap();
        assert_eq!(text(Head::LowerCase), "RTSP/1.0 200 OK\r\ncseq: 1\r\npublic: A\r\n\r\nx\r\ny");
        assert_eq!(text(Head::Lf), "RTSP/1.0 200 OK\nCSeq: 1\nPublic: A\n\nx\r\ny");
        assert_eq!(text(Head::NoReason), "RTSP/1.0 200\r\nCSeq: 1\r\nPublic: A\r\n\r\nx\r\ny");
        assert_eq!(text(Head::BlankLine), "RTSP/1.0 200 OK\r\nCSeq: 1\r\n \r\nPublic: A\r\n \r\n\r\nx\r\ny");
        assert_eq!(text(Head::Sloppy), "RTSP/1.0 200 OK\r\nno header\r\nCSeq :1\r\nPublic :A\r\n\r\nx\r\ny");
    }

    #[test]
    fn a_session_is_kept_by_what_the_camera_likes() {
        assert!(Keepalive::Options.is_kept_by("OPTIONS") && !Keepalive::Options.is_kept_by("GET_PARAMETER"));
        assert!(Keepalive::GetParameter.is_kept_by("GET_PARAMETER"));
        assert!(!Keepalive::GetParameter.is_kept_by("OPTIONS") && Keepalive::GetParameter.is_kept_by("PLAY"));
        assert!(Keepalive::SilentGetParameter.is_ignored("GET_PARAMETER"));
        assert_eq!(Keepalive::Unoffered.refusal("OPTIONS"), Some(StatusCode::NotImplemented));
    }
}
