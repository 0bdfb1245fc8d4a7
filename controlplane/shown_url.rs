//! A camera's URL as it may be shown, and what of it may not.

use lanecast_protocol::wsc::public_url;
use percent_encoding::percent_decode_str;
use url::Url;

/// The URL for views, pages and log lines: the one that viewers get too.
pub fn shown_url(url: &Url) -> String {
    public_url(url.as_str())
}

/// The pieces of the path and the query that [`shown_url`] leaves out, and the values in them.
pub fn hidden_pieces(url: &Url) -> Vec<String> {
    let shown = shown_url(url);
    let pieces = url.path().split(['/', '&', ';']).chain(url.query().unwrap_or_default().split(['&', ';']));
    let hidden = pieces.filter(|piece| !shown.contains(piece));
    let mut hidden: Vec<String> = hidden
        .flat_map(|piece| {
            let value = piece.split_once('=').map(|(_, value)| value);
            std::iter::once(piece).chain(value).map(str::to_owned)
        })
        .collect();
    // A library may have understood what it complains of.
    let plain = |piece: &String| Some(percent_decode_str(piece).decode_utf8().ok()?.into_owned());
    let plain: Vec<String> =
        hidden.iter().filter_map(plain).filter(|plain| !hidden.contains(plain)).collect();
    hidden.extend(plain);
    hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(url: &str) -> Vec<String> {
        hidden_pieces(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_plain_url_hides_nothing() {
        assert_eq!(hidden("rtsp://cam:8554/live/1?channel=1&subtype=0"), [""; 0]);
        assert_eq!(hidden("rtsp://cam"), [""; 0]);
    }

    #[test]
    fn what_is_not_shown_is_listed() {
        assert_eq!(hidden("rtsp://cam/live?token=abcd&channel=1"), ["token=abcd", "abcd"]);
        assert_eq!(hidden("rtsp://cam/user=a&password=b&channel=1"), ["user=a", "a", "password=b", "b"]);
        assert_eq!(
            hidden("srt://h:1?streamid=a%2Fbcde"),
            ["streamid=a%2Fbcde", "a%2Fbcde", "streamid=a/bcde", "a/bcde"]
        );
        assert_eq!(hidden("rtmp://h/live/abcd"), ["abcd"]);
        let whole = "user=a_password=b_c_channel=1";
        assert_eq!(hidden(&format!("rtsp://cam/{whole}")), [whole, "a_password=b_c_channel=1"]);
    }
}
