//! What of a camera's URL may be shown: no user info, and nothing that is named like a secret.

use url::Url;
use url::form_urlencoded;

/// Names that hold one of these, in any case, are not shown. Better a harmless value less than a password more.
const SECRET_NAMES: [&str; 16] = [
    "pass", "pwd", "psw", "token", "secret", "key", "auth", "sig", "cred", "user", "usr", "login", "session",
    "jwt", "account", "admin",
];

/// The same for names too short to look for inside others.
const SECRET_SHORT_NAMES: [&str; 5] = ["pw", "sid", "u", "p", "uid"];

/// What is named so only of SRT: access control puts a user and more into it (SRT's AccessControl.md).
const SRT_SECRET_NAME: &str = "streamid";

/// In place of a stream key.
const HIDDEN: &str = "***";

/// `url` without user info, fragment, and secrets in the query or (as in `/user=a&password=b&channel=1` of
/// XMEye recorders) in the path. Empty for what is no URL. Of RTMP, `/application/key`, the key is hidden: who knows it may
/// publish on most servers.
pub fn public_url(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else {
        return String::new();
    };
    if url.cannot_be_a_base() {
        return format!("{}:", url.scheme());
    }
    // Both refuse only URLs without a host, which have no user info.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    let path: Vec<_> = url.path().split('/').map(|segment| without_secrets(segment, true)).collect();
    let path = match url.scheme() {
        "rtmp" | "rtmps" => without_stream_key(&path),
        _ => path.join("/"),
    };
    url.set_path(&path);
    let mut query = url.query().map(|query| without_secrets(query, false)).filter(|query| !query.is_empty());
    if url.scheme() == "srt" {
        query = query.map(|query| without_streamid(&query)).filter(|query| !query.is_empty());
    }
    url.set_query(query.as_deref());
    url.into()
}

/// The `name=value` pairs that may be shown. `keep_bare`: what is no pair as well.
fn without_secrets(pairs: &str, keep_bare: bool) -> String {
    let shown = pairs.split(['&', ';']).filter(|pair| match pair.split_once('=') {
        Some(_) => !is_secret(pair),
        None => keep_bare,
    });
    shown.collect::<Vec<_>>().join("&")
}

/// A path's segments, the first of which is empty. An application alone is no key.
fn without_stream_key(path: &[String]) -> String {
    let named = path.iter().filter(|segment| !segment.is_empty()).count();
    match path.iter().rposition(|segment| !segment.is_empty()) {
        Some(key) if named > 1 => format!("{}/{HIDDEN}", path[..key].join("/")),
        _ => path.join("/"),
    }
}

fn without_streamid(query: &str) -> String {
    let is_shown = |pair: &&str| {
        form_urlencoded::parse(pair.as_bytes())
            .next()
            .is_none_or(|(name, _)| !name.trim().eq_ignore_ascii_case(SRT_SECRET_NAME))
    };
    query.split('&').filter(is_shown).collect::<Vec<_>>().join("&")
}

fn is_secret(pair: &str) -> bool {
    let Some((name, _)) = form_urlencoded::parse(pair.as_bytes()).next() else {
        return false;
    };
    let name = name.trim().to_ascii_lowercase();
    SECRET_NAMES.iter().any(|secret| name.contains(secret)) || SECRET_SHORT_NAMES.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_secret_stays() {
        for url in [
            "rtsp://camera.local:554/cam/realmonitor?channel=1&subtype=0",
            "rtsp://192.0.2.7/Streaming/Channels/101?profile=Profile_1",
            "rtsp://[2001:db8::1]:8554/live",
        ] {
            assert_eq!(public_url(url), url);
        }
    }

    #[test]
    fn user_info_is_taken_out() {
        assert_eq!(public_url("rtsp://admin:hunter2@camera/live"), "rtsp://camera/live");
        assert_eq!(public_url("rtsp://admin:a%40b@camera/live"), "rtsp://camera/live");
        assert_eq!(public_url("rtsp://:hunter2@camera/live"), "rtsp://camera/live");
    }

    #[test]
    fn secrets_in_the_query_are_taken_out() {
        assert_eq!(public_url("rtsp://c/a?Password=hunter2&channel=1"), "rtsp://c/a?channel=1");
        assert_eq!(public_url("rtsp://c/a?access_token=hunter2"), "rtsp://c/a");
        assert_eq!(public_url("rtsp://c/a?p%61ssword=hunter2;x=1"), "rtsp://c/a?x=1");
        assert_eq!(public_url("rtsp://c/a?hunter2"), "rtsp://c/a");
    }

    #[test]
    fn secrets_in_the_path_are_taken_out() {
        assert_eq!(
            public_url("rtsp://c:554/user=admin&password=hunter2&channel=1&stream=0.sdp"),
            "rtsp://c:554/channel=1&stream=0.sdp"
        );
        assert_eq!(public_url("rtsp://c/user=admin_password=hunter2_channel=1_stream=0.sdp"), "rtsp://c/");
    }

    #[test]
    fn a_stream_key_is_hidden() {
        assert_eq!(public_url("rtmp://h:1935/live/abcd-efgh"), "rtmp://h:1935/live/***");
        assert_eq!(public_url("rtmps://u:p@h/app/instance/abcd/?x=1"), "rtmps://h/app/instance/***?x=1");
        assert_eq!(public_url("rtmp://h/live"), "rtmp://h/live");
        assert_eq!(public_url(&public_url("rtmp://h/live/abcd")), "rtmp://h/live/***");
    }

    #[test]
    fn the_secrets_of_srt_are_taken_out() {
        let url =
            "srt://h:9000?mode=caller&StreamId=%23!::u=admin,r=cam&passphrase=hunter2hunter2&latency=200";
        assert_eq!(public_url(url), "srt://h:9000?mode=caller&latency=200");
        assert_eq!(public_url("srt://h:9000?streamid=x"), "srt://h:9000");
        assert_eq!(public_url("rtsp://c/a?streamid=1"), "rtsp://c/a?streamid=1");
    }

    #[test]
    fn what_cannot_be_read_is_not_shown() {
        assert_eq!(public_url("admin:hunter2@camera"), "admin:");
        assert_eq!(public_url("//admin:hunter2@camera"), "");
        assert_eq!(public_url(""), "");
        assert_eq!(public_url("rtsp://c/live#hunter2"), "rtsp://c/live");
    }

    proptest! {
        #[test]
        fn the_marked_secret_never_comes_through(
            path in "[a-z/=&;]{0,12}",
            name in "(password|PWD|token|api_key|user)",
            query in "[a-z=&;]{0,12}",
        ) {
            let url = format!("rtsp://u:XSECRETX@host/{path}?{query}&{name}=XSECRETX#XSECRETX");
            prop_assert!(!public_url(&url).contains("SECRET"), "{}", public_url(&url));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            public_url(&text);
        }
    }
}
