//! What a URL becomes for FFmpeg: the address, the options, and what may be touched on the way.
//!
//! An input from the network never reaches a local file, whatever a playlist names, and a file never reaches the network nor
//! another file: playlists are no files here. FFmpeg opens only the protocols and formats listed.

use std::time::Duration;

use url::Url;

/// How an input is opened. It has no `Debug`: the address has credentials in it.
pub(super) struct Origin {
    /// What FFmpeg is given.
    pub(super) address: String,
    /// FFmpeg's options by name.
    pub(super) options: Vec<(&'static str, String)>,
    /// For sentences: "the RTMP input".
    pub(super) what: &'static str,
    /// How it is paced; `None` where the sender does that.
    pub(super) lead: Option<Duration>,
    /// At its end it begins anew.
    pub(super) loops: bool,
}

impl Origin {
    /// Of a URL that was not looked at before.
    ///
    /// # Errors
    /// A sentence: the scheme is unknown, or the path is no file.
    pub(super) fn new(url: &Url) -> Result<Self, String> {
        let kind = Kind::of(url.scheme()).ok_or_else(|| {
            format!(
                "FFmpeg opens no {} URLs here; it opens {}",
                url.scheme(),
                "rtmp, rtmps, srt, http, https, file, udp, rtsp, rtsps"
            )
        })?;
        let address = if url.scheme() == "file" { file_path(url)? } else { without_via(url) };
        let options = COMMON.iter().map(|&(name, value)| (name, value.to_owned()));
        let own = kind.options.iter().map(|&(name, value)| (name, value.to_owned()));
        let lists = [("protocol_whitelist", kind.protocols), ("format_whitelist", kind.formats)];
        let lists = lists.into_iter().map(|(name, value)| (name, value.to_owned()));
        Ok(Self {
            address,
            options: options.chain(lists).chain(own).collect(),
            what: kind.what,
            lead: kind.lead,
            loops: kind.loops,
        })
    }
}

/// `via` is ours and would be sent to the camera.
fn without_via(url: &Url) -> String {
    let Some(query) = url.query() else { return url.to_string() };
    let kept: Vec<&str> =
        query.split('&').filter(|pair| pair.split('=').next().is_some_and(|name| name != "via")).collect();
    let mut url = url.clone();
    url.set_query((!kept.is_empty()).then(|| kept.join("&")).as_deref());
    url.to_string()
}

/// Only what is a regular file is opened: opening a pipe or a device can block for ever, and nothing interrupts that.
fn file_path(url: &Url) -> Result<String, String> {
    let path =
        url.to_file_path().map_err(|()| "a file input needs an absolute path without a host".to_owned())?;
    let path =
        path.to_str().filter(|path| !path.contains('\0')).ok_or("the path of the file is not UTF-8 text")?;
    let metadata = std::fs::metadata(path).map_err(|error| format!("the file cannot be opened: {error}"))?;
    if !metadata.is_file() {
        return Err("the path names no regular file".to_owned());
    }
    Ok(format!("file:{path}"))
}

struct Kind {
    scheme: &'static str,
    what: &'static str,
    protocols: &'static str,
    formats: &'static str,
    options: &'static [(&'static str, &'static str)],
    lead: Option<Duration>,
    loops: bool,
}

impl Kind {
    fn of(scheme: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.scheme == scheme)
    }
}

/// Opening is quick and bounded: two seconds or 4 MB of media, 64 tracks. A picture of parameter sets is all that is looked
/// for (no frame rate), and no decoder but these two is opened for it. What was looked at is delivered (no `nobuffer`: that
/// would throw away the first random access point).
const COMMON: &[(&str, &str)] = &[
    ("analyzeduration", "2000000"),
    ("probesize", "4000000"),
    ("fpsprobesize", "0"),
    ("max_streams", "64"),
    ("codec_whitelist", "h264,hevc"),
];

/// Containers that name no other file.
const FILES: &str = "mov,matroska,mpegts,flv,h264,hevc,avi,mpeg";

/// The same, and HLS with what its segments may be.
const WEB: &str = "hls,mpegts,mov,matroska,flv,h264,hevc,mpeg,aac,mp3,ac3,eac3,webvtt";

const HTTP: &str = "http,https,tls,tcp,httpproxy,crypto,data";

/// By HTTP, segments in stock arrive faster than they are seen.
const HTTP_LEAD: Option<Duration> = Some(Duration::from_millis(500));

/// `tls_verify`: FFmpeg does not by itself. Its RTSP, and segments of HLS, take no such option (FFmpeg 5.1).
const TLS: &[(&str, &str)] = &[("tls_verify", "1")];

/// TCP first; only what we use is set up.
const RTSP: &[(&str, &str)] = &[("rtsp_flags", "prefer_tcp"), ("allowed_media_types", "video")];

/// A full receive buffer loses packets, as UDP does anywhere, rather than the input.
const UDP: &[(&str, &str)] = &[("overrun_nonfatal", "1")];

const KINDS: &[Kind] = &[
    Kind {
        scheme: "rtmp",
        what: "the RTMP input",
        protocols: "rtmp,tcp",
        formats: "flv,live_flv",
        options: &[],
        lead: None,
        loops: false,
    },
    Kind {
        scheme: "rtmps",
        what: "the RTMPS input",
        protocols: "rtmps,tls,tcp",
        formats: "flv,live_flv",
        options: TLS,
        lead: None,
        loops: false,
    },
    Kind {
        scheme: "srt",
        what: "the SRT input",
        protocols: "srt",
        formats: "mpegts",
        options: &[],
        lead: None,
        loops: false,
    },
    Kind {
        scheme: "udp",
        what: "the UDP input",
        protocols: "udp",
        formats: "mpegts",
        options: UDP,
        lead: None,
        loops: false,
    },
    Kind {
        scheme: "http",
        what: "the HTTP input",
        protocols: HTTP,
        formats: WEB,
        options: TLS,
        lead: HTTP_LEAD,
        loops: false,
    },
    Kind {
        scheme: "https",
        what: "the HTTPS input",
        protocols: HTTP,
        formats: WEB,
        options: TLS,
        lead: HTTP_LEAD,
        loops: false,
    },
    Kind {
        scheme: "file",
        what: "the file",
        protocols: "file",
        formats: FILES,
        options: &[],
        lead: Some(Duration::ZERO),
        loops: true,
    },
    Kind {
        scheme: "rtsp",
        what: "the RTSP input",
        protocols: "rtsp,rtp,tcp,udp",
        formats: "rtsp",
        options: RTSP,
        lead: None,
        loops: false,
    },
    Kind {
        scheme: "rtsps",
        what: "the RTSPS input",
        protocols: "rtsps,rtp,tls,tcp,udp",
        formats: "rtsp",
        options: RTSP,
        lead: None,
        loops: false,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(url: &str) -> Result<Origin, String> {
        Origin::new(&Url::parse(url).expect("a URL"))
    }

    fn option(origin: &Origin, name: &str) -> String {
        origin
            .options
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.clone())
            .unwrap_or_default()
    }

    #[test]
    fn via_is_taken_off_and_the_rest_stays() {
        let address = |url| origin(url).map(|origin| origin.address).ok();
        assert_eq!(address("rtsp://u:p%40@h:554/a?via=ffmpeg").as_deref(), Some("rtsp://u:p%40@h:554/a"));
        assert_eq!(address("rtsp://h/a?x=%201&via=ffmpeg&y").as_deref(), Some("rtsp://h/a?x=%201&y"));
        assert_eq!(address("rtmp://h/via/ia?viax=1").as_deref(), Some("rtmp://h/via/ia?viax=1"));
    }

    #[test]
    fn the_network_never_reaches_files_nor_files_the_network() {
        for kind in KINDS {
            let files = kind.protocols.split(',').any(|protocol| protocol == "file");
            assert_eq!(files, kind.scheme == "file", "{}", kind.scheme);
        }
        let file = tempfile::NamedTempFile::new().expect("a file");
        let file = origin(&format!("file://{}", file.path().display())).expect("a file");
        assert_eq!(option(&file, "protocol_whitelist"), "file");
        assert!(!option(&file, "format_whitelist").contains("hls"));
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        for url in
            ["file:///", "file:///dev/zero", "file:///no/such/file", "file:///tmp/%00", "file:///tmp/%ff"]
        {
            assert!(origin(url).is_err(), "{url}");
        }
    }

    #[test]
    fn unknown_schemes_are_refused_by_name() {
        let error = origin("gopher://h/secret").err().expect("refused");
        assert!(error.contains("gopher") && !error.contains("secret"), "{error}");
    }
}
