//! A URL that an input may have: which schemes there are, who speaks them, and what each must look like.
//!
//! Only the text is looked at; where it leads is the business of `reach`.

use std::net::IpAddr;

use lanecast_protocol::rtsp::Credentials;
use lanecast_shard::InputKind;
use url::Url;

use crate::http::ApiError;

/// Reads an input's URL. User info is still in it.
///
/// # Errors
/// 400 for what is no URL with a host, 422 for what a rule of its scheme forbids; both name the field, never the URL: it may
/// hold a password.
pub fn read(field: &str, text: &str) -> Result<Url, ApiError> {
    if text.len() > URL_BYTES_MAX {
        return Err(ApiError::invalid_url(field, format!("it is longer than {URL_BYTES_MAX} bytes")));
    }
    let text = text.trim();
    let mut url = Url::parse(text).map_err(|error| ApiError::invalid_url(field, error))?;
    if url.scheme() == "srt" && url.fragment().is_some() {
        // The streamid of an access control list begins with one (SRT's AccessControl.md): `streamid=#!::r=cam`.
        url = Url::parse(&text.replace('#', "%23")).map_err(|error| ApiError::invalid_url(field, error))?;
    }
    check_scheme(field, &url)?;
    match url.scheme() {
        "file" => check_file(field, &url)?,
        _ => check_host(field, &url)?,
    }
    url.set_fragment(None);
    Ok(url)
}

/// Who speaks with an input.
pub fn kind(url: &Url) -> InputKind {
    match url.scheme() {
        "rtsp" | "rtsps" if !is_via_ffmpeg(url) => InputKind::Rtsp,
        _ => InputKind::Foreign,
    }
}

/// Whether we speak TLS with it; a worker's own TLS is not ours to set up.
pub fn speaks_tls(url: &Url) -> bool {
    url.scheme() == "rtsps" && kind(url) == InputKind::Rtsp
}

/// Whether user info has a meaning to it.
pub fn takes_credentials(url: &Url) -> bool {
    !matches!(url.scheme(), "file" | "srt" | "udp")
}

/// What a worker opens: the URL with its credentials, and without what was meant for us.
pub fn foreign(url: &Url, credentials: Option<&Credentials>) -> Url {
    let mut url = url.clone();
    if is_via_ffmpeg(&url) {
        let query = pairs(&url).filter(|pair| *pair != VIA_FFMPEG).collect::<Vec<_>>().join("&");
        url.set_query(Some(query.as_str()).filter(|query| !query.is_empty()));
    }
    if let Some(credentials) = credentials.filter(|_| takes_credentials(&url)) {
        // Both fail only without a host, and there is one.
        let _ = url.set_username(&credentials.username);
        let _ = url.set_password(Some(&credentials.password));
    }
    url
}

/// The file of a `file` URL.
pub fn file_path(url: &Url) -> Option<std::path::PathBuf> {
    match url.scheme() {
        "file" => url.to_file_path().ok(),
        _ => None,
    }
}

/// The host as the system's resolver takes it, and whether it is an address.
pub fn host(url: &Url) -> Option<(&str, Option<IpAddr>)> {
    let host = url.host_str().filter(|host| !host.is_empty())?;
    // Url keeps the brackets of an IPv6 literal, the resolver wants none.
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((host, host.parse().ok()))
}

/// Whether its host is one of our own addresses, at which we wait for the sender.
pub fn listens(url: &Url) -> bool {
    url.scheme() == "udp" || url.scheme() == "srt" && pairs(url).any(|pair| pair == "mode=listener")
}

fn is_via_ffmpeg(url: &Url) -> bool {
    matches!(url.scheme(), "rtsp" | "rtsps") && pairs(url).any(|pair| pair == VIA_FFMPEG)
}

fn pairs(url: &Url) -> impl Iterator<Item = &str> {
    url.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty())
}

fn check_scheme(field: &str, url: &Url) -> Result<(), ApiError> {
    let is_known = OWN_SCHEMES.contains(&url.scheme()) || FOREIGN_SCHEMES.contains(&url.scheme());
    match (is_known, kind(url)) {
        (false, _) => Err(ApiError::unsupported_scheme(field, url.scheme(), &known_schemes())),
        (true, InputKind::Foreign) if !HAS_FFMPEG => Err(ApiError::built_without_ffmpeg(field, url.scheme())),
        (true, _) => Ok(()),
    }
}

fn known_schemes() -> String {
    let foreign = if HAS_FFMPEG { FOREIGN_SCHEMES } else { &[] };
    OWN_SCHEMES.iter().chain(foreign).copied().collect::<Vec<_>>().join(", ")
}

fn check_host(field: &str, url: &Url) -> Result<(), ApiError> {
    let Some((host, address)) = host(url) else {
        return Err(ApiError::invalid_url(field, "it has no host"));
    };
    if !host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':')) {
        return Err(ApiError::invalid_url(field, "its host is neither an address nor a name"));
    }
    if url.port() == Some(0) {
        return Err(ApiError::invalid_url(field, "its port is 0"));
    }
    let scheme = url.scheme();
    if matches!(scheme, "srt" | "udp") && url.port().is_none() {
        return Err(ApiError::invalid_value(field, format!("names no port, and {scheme} has no usual one")));
    }
    if !takes_credentials(url) && (!url.username().is_empty() || url.password().is_some()) {
        return Err(ApiError::invalid_value(field, format!("has user info, which {scheme} does not know")));
    }
    match scheme {
        "udp" if address.is_none() => {
            let rule =
                "must have an address of this server, 0.0.0.0 or [::], or a multicast group for its host";
            Err(ApiError::invalid_value(field, rule))
        }
        _ => Ok(()),
    }
}

fn check_file(field: &str, url: &Url) -> Result<(), ApiError> {
    if url.host().is_some() {
        return Err(ApiError::invalid_value(field, "names a host; a file of this server is file:///path"));
    }
    if url.query().is_some() {
        return Err(ApiError::invalid_value(field, "has a query, which files do not have: write ? as %3F"));
    }
    match file_path(url) {
        Some(path) if !path.as_os_str().as_encoded_bytes().contains(&0) => Ok(()),
        _ => Err(ApiError::invalid_url(field, "it holds no path")),
    }
}

/// What we speak ourselves.
const OWN_SCHEMES: &[&str] = &["rtsp", "rtsps"];
/// What workers speak.
const FOREIGN_SCHEMES: &[&str] = &["rtmp", "rtmps", "srt", "http", "https", "file", "udp"];
/// Has a worker speak RTSP with a camera that nothing else opens.
const VIA_FFMPEG: &str = "via=ffmpeg";
const HAS_FFMPEG: bool = cfg!(feature = "ffmpeg");
/// RTSP servers cut request lines off at 4 KiB and less.
const URL_BYTES_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> (u16, &'static str, String) {
        let error = read("url", text).expect_err(text);
        (error.status().as_u16(), error.code(), error.reason().to_owned())
    }

    #[test]
    fn urls_that_nobody_has_are_refused() {
        for url in [
            "",
            "cam",
            "192.168.1.5/live",
            "rtsp:",
            "rtsp:///live",
            "rtsp://",
            "rtsp://:554/",
            "rtsp://cam:0/",
            "rtsps://cam:99999/",
            "rtsp://a b/",
            "rtsp://b%C3%BCro/",
            "rtsp://u:p#w@cam/",
        ] {
            assert_eq!(refusal(url).1, "invalid_url", "{url}");
        }
        assert_eq!(refusal(&format!("rtsp://cam/{}", "x".repeat(URL_BYTES_MAX))).1, "invalid_url");
        for url in ["rtsp://10.0.0.1", "rtsps://[::1]:8554/x", "RTSP://Cam_1.local/x", " rtsp://cam/ "] {
            assert!(read("url", url).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_scheme_that_nobody_speaks_is_refused_with_those_that_are_known() {
        for url in ["ftp://cam/", "data:text/plain,x", "concat:a|b", "rtp://h:1", "tcp://h:1", "pipe:0"] {
            let (status, code, reason) = refusal(url);
            assert_eq!((status, code), (422, "unsupported_scheme"), "{url}");
            assert!(reason.contains("rtsp, rtsps"), "{reason}");
        }
    }

    #[cfg(feature = "ffmpeg")]
    mod by_workers {
        use super::*;

        #[test]
        fn who_speaks_what() {
            let of = |text: &str| kind(&read("url", text).unwrap());
            for own in ["rtsp://cam/", "rtsps://cam/", "rtsp://cam/?via=vpn", "rtsp://cam/?x=via=ffmpeg"] {
                assert_eq!(of(own), InputKind::Rtsp, "{own}");
            }
            for foreign in [
                "rtsp://cam/?via=ffmpeg",
                "rtsps://cam/?a=b&via=ffmpeg",
                "rtmp://h/app/key",
                "rtmps://h/app/key",
                "srt://h:9000",
                "http://h/x.m3u8",
                "https://h/x.ts?via=ffmpeg",
                "file:///v/x.mp4",
                "udp://239.0.0.1:1234",
            ] {
                assert_eq!(of(foreign), InputKind::Foreign, "{foreign}");
            }
        }

        #[test]
        fn a_worker_gets_the_credentials_and_not_what_is_meant_for_us() {
            let credentials = Credentials { username: "ad@min".into(), password: "p:w/#".into() };
            let given =
                |text: &str| foreign(&read("url", text).unwrap(), Some(&credentials)).as_str().to_owned();
            assert_eq!(given("rtsp://cam/a?via=ffmpeg"), "rtsp://ad%40min:p%3Aw%2F%23@cam/a");
            assert_eq!(given("rtsp://cam/a?x=1&via=ffmpeg&y"), "rtsp://ad%40min:p%3Aw%2F%23@cam/a?x=1&y");
            assert_eq!(given("https://h/x?via=ffmpeg"), "https://ad%40min:p%3Aw%2F%23@h/x?via=ffmpeg");
            assert_eq!(given("srt://h:1?streamid=a"), "srt://h:1?streamid=a");
            assert_eq!(given("file:///v/x.mp4"), "file:///v/x.mp4");
        }

        #[test]
        fn srt_and_udp_have_a_port_and_no_user() {
            for (url, rule) in [
                ("srt://h", "port"),
                ("udp://239.0.0.1", "port"),
                ("srt://u:p@h:9000", "user info"),
                ("udp://u@239.0.0.1:5", "user info"),
                ("udp://cam.example:5", "multicast"),
            ] {
                let (status, code, reason) = refusal(url);
                assert_eq!((status, code), (422, "invalid_value"), "{url}");
                assert!(reason.starts_with("url ") && reason.contains(rule), "{reason}");
            }
            for url in ["udp://@239.0.0.1:5", "udp://[ff15::1]:5", "udp://0.0.0.0:5"] {
                assert!(read("url", url).is_ok(), "{url}");
            }
            assert_eq!(refusal("udp://@:1234").1, "invalid_url");
            assert_eq!(refusal("srt://h:0").1, "invalid_url");
        }

        #[test]
        fn the_streamid_of_srt_may_hold_a_hash() {
            let url = read("url", "srt://h:9000?streamid=#!::r=cam,m=request&latency=200").unwrap();
            assert_eq!(url.query(), Some("streamid=%23!::r=cam,m=request&latency=200"));
            assert_eq!(read("url", "http://h/x#y").unwrap().as_str(), "http://h/x");
        }

        #[test]
        fn a_file_is_of_this_server() {
            assert!(refusal("file://host/etc/passwd").2.contains("names a host"));
            assert!(refusal("file:///v/x.mp4?a").2.contains("query"));
            assert_eq!(refusal("file:///v/%00.mp4").0, 400);
            let url = read("url", "file://localhost/v/%2e%2e/a%20b.mp4").unwrap();
            assert_eq!(file_path(&url).unwrap(), std::path::Path::new("/a b.mp4"));
        }
    }

    #[cfg(not(feature = "ffmpeg"))]
    #[test]
    fn what_needs_ffmpeg_is_refused_where_there_is_none() {
        for url in
            ["rtmp://h/a/b", "srt://h:1", "http://h/", "file:///x", "udp://1.1.1.1:1", "rtsp://c/?via=ffmpeg"]
        {
            let (status, code, reason) = refusal(url);
            assert_eq!((status, code), (422, "unsupported_scheme"), "{url}");
            assert!(reason.contains("built without FFmpeg"), "{reason}");
        }
        assert!(refusal("ftp://h/").2.ends_with("takes rtsp, rtsps."), "{}", refusal("ftp://h/").2);
    }
}
