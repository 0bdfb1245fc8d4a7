//! A camera's URL as it may be shown: without user info, and with the secrets masked that cameras
//! take in the query or, some of them, in the path.

use percent_encoding::percent_decode_str;
use url::Url;

/// The URL for views, pages and log lines.
pub fn shown_url(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only for URLs without a host, which have no user info.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let path = mask_path(url.path());
    if path != url.path() {
        url.set_path(&path);
    }
    if let Some(query) = url.query() {
        let masked = mask_query(query);
        if masked != query {
            url.set_query(Some(&masked));
        }
    }
    url.to_string()
}

/// The values that [`shown_url`] hides, as they stand in the URL.
pub fn hidden_values(url: &Url) -> Vec<String> {
    let query = url.query().unwrap_or_default().split(['&', ';']).filter_map(secret_of_pair);
    let path = path_secrets(url.path()).into_iter().map(|(start, end)| &url.path()[start..end]);
    query.chain(path).map(str::to_owned).collect()
}

fn mask_query(query: &str) -> String {
    let mut masked = String::with_capacity(query.len());
    for pair in query.split_inclusive(['&', ';']) {
        let (pair, delimiter) = match pair.strip_suffix(['&', ';']) {
            Some(bare) => (bare, &pair[bare.len()..]),
            None => (pair, ""),
        };
        match pair.split_once('=') {
            Some((key, _)) if is_secret_key(key) => masked.extend([key, "=", MASK]),
            _ => masked.push_str(pair),
        }
        masked.push_str(delimiter);
    }
    masked
}

fn secret_of_pair(pair: &str) -> Option<&str> {
    let (key, value) = pair.split_once('=')?;
    is_secret_key(key).then_some(value)
}

/// Cameras of the XMEye family take `/user=admin_password=x_channel=1`, Dahua and others `/user=a&password=b&…`.
fn mask_path(path: &str) -> String {
    let mut masked = path.to_owned();
    for (start, end) in path_secrets(path).into_iter().rev() {
        masked.replace_range(start..end, MASK);
    }
    masked
}

/// Byte ranges of the secret values in a path, in order.
fn path_secrets(path: &str) -> Vec<(usize, usize)> {
    let mut secrets = Vec::new();
    let mut from = 0;
    while let Some(equals) = path[from..].find('=').map(|index| from + index) {
        let key = path[from..equals].rsplit(['/', '&', ';', '_', ',']).next().unwrap_or_default();
        let value_start = equals + 1;
        if is_secret_key(key) {
            let end = value_end(path, value_start);
            secrets.push((value_start, end));
            from = end;
        } else {
            from = value_start;
        }
    }
    secrets
}

/// A value ends at a delimiter; an underscore is one only before another `key=`, as a password may hold it.
fn value_end(path: &str, start: usize) -> usize {
    let rest = &path[start..];
    let hard = rest.find(['/', '&', ';']).unwrap_or(rest.len());
    let next_key = rest[..hard].find('=').and_then(|equals| rest[..equals].rfind('_'));
    start + next_key.unwrap_or(hard)
}

fn is_secret_key(key: &str) -> bool {
    let key = percent_decode_str(key).decode_utf8_lossy().to_ascii_lowercase();
    let key: String = key.chars().filter(char::is_ascii_alphanumeric).collect();
    SECRET_KEYS.contains(&key.as_str()) || SECRET_PARTS.iter().any(|part| key.contains(part))
}

const MASK: &str = "***";
/// Keys of user names and of secrets too short to look for inside other keys.
const SECRET_KEYS: &[&str] =
    &["user", "usr", "username", "login", "auth", "key", "pw", "sig", "sid", "hash", "jwt"];
/// What a secret's key contains.
const SECRET_PARTS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "pass",
    "token",
    "secret",
    "apikey",
    "signature",
    "credential",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> String {
        shown_url(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_plain_url_is_shown_as_it_is() {
        for url in ["rtsp://cam/", "rtsp://cam:8554/live?channel=1&subtype=0", "rtsp://[::1]/a_b=c/d"] {
            assert_eq!(shown(url), url);
        }
    }

    #[test]
    fn user_info_is_gone() {
        assert_eq!(shown("rtsp://admin:s3cret@cam/live"), "rtsp://cam/live");
    }

    #[test]
    fn secrets_of_the_query_are_masked_whatever_their_spelling() {
        assert_eq!(shown("rtsp://cam/?a=1&PassWord=x&b=2"), "rtsp://cam/?a=1&PassWord=***&b=2");
        assert_eq!(
            shown("rtsp://cam/?pass%77ord=x;access_token=y"),
            "rtsp://cam/?pass%77ord=***;access_token=***"
        );
        assert_eq!(shown("rtsp://cam/?user=u&pwd=p&api-key=k"), "rtsp://cam/?user=***&pwd=***&api-key=***");
    }

    #[test]
    fn secrets_of_the_path_are_masked() {
        assert_eq!(
            shown("rtsp://cam/user=admin_password=a_b_channel=1_stream=0.sdp?real"),
            "rtsp://cam/user=***_password=***_channel=1_stream=0.sdp?real"
        );
        assert_eq!(
            shown("rtsp://cam/user=a&password=b&channel=1"),
            "rtsp://cam/user=***&password=***&channel=1"
        );
    }

    #[test]
    fn what_is_hidden_can_be_listed() {
        let url = Url::parse("rtsp://cam/user=admin_password=tl_Jw_channel=1?token=abc").unwrap();
        assert_eq!(hidden_values(&url), ["abc", "admin", "tl_Jw"]);
    }
}
