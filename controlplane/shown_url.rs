//! A camera's URL as it may be shown, and what of it may not.

use lanecast_protocol::wsc::public_url;
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
    hidden
        .flat_map(|piece| {
            let value = piece.split_once('=').map(|(_, value)| value);
            std::iter::once(piece).chain(value).map(str::to_owned)
        })
        .collect()
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
        let whole = "user=a_password=b_c_channel=1";
        assert_eq!(hidden(&format!("rtsp://cam/{whole}")), [whole, "a_password=b_c_channel=1"]);
    }
}
