//! Where a description's relative URLs are to be resolved (RFC 2326 appendix C.1.1), and redirects.

use std::net::IpAddr;

use rtsp_types::HeaderName;
use rtsp_types::headers::{CONTENT_BASE, CONTENT_LOCATION, LOCATION};
use url::Url;

use super::dialogue::Response;
use crate::sdp::absolute_url;

/// Content-Base, else Content-Location, else the request's URL.
pub(super) fn base_url(response: &Response, request: &Url) -> Url {
    [CONTENT_BASE, CONTENT_LOCATION]
        .iter()
        .find_map(|name| resolve(header(response, name)?, request))
        .unwrap_or_else(|| request.clone())
}

/// Where a redirect leads; `None` if it does not say so, or not to an RTSP URL.
pub(super) fn redirect(location: Option<&str>, request: &Url) -> Option<Url> {
    resolve(location?, request)
}

/// `Location` of an answer.
pub(super) fn location(response: &Response) -> Option<&str> {
    header(response, &LOCATION)
}

fn header<'a>(response: &'a Response, name: &HeaderName) -> Option<&'a str> {
    response.header(name).map(|value| value.as_str().trim()).filter(|value| !value.is_empty())
}

fn resolve(text: &str, request: &Url) -> Option<Url> {
    if let Some(absolute) = absolute_url(text) {
        return Some(absolute);
    }
    if text.starts_with("//") {
        return absolute_url(&format!("{}:{text}", request.scheme()));
    }
    // Anjvision cameras leave the scheme out (moonfire-nvr issue 356).
    let authority = text.split('/').next().unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    if host.parse::<IpAddr>().is_ok() || Some(host) == request.host_str() {
        return absolute_url(&format!("{}://{text}", request.scheme()));
    }
    request.join(text).ok().and_then(|url| absolute_url(url.as_str()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rtsp_types::{StatusCode, Version};

    use super::*;

    fn base(headers: &[(HeaderName, &str)]) -> String {
        let mut response = rtsp_types::Response::builder(Version::V1_0, StatusCode::Ok).build(Bytes::new());
        for (name, value) in headers {
            response.insert_header(name.clone(), *value);
        }
        base_url(&response, &Url::parse("rtsp://192.0.2.7/live/main").unwrap()).to_string()
    }

    #[test]
    fn takes_the_first_header_that_can_be_read() {
        assert_eq!(base(&[]), "rtsp://192.0.2.7/live/main");
        assert_eq!(
            base(&[(CONTENT_BASE, "rtsp://192.0.2.7:554/live/main/ ")]),
            "rtsp://192.0.2.7:554/live/main/"
        );
        assert_eq!(base(&[(CONTENT_BASE, ""), (CONTENT_LOCATION, "rtsp://10.0.0.9/x")]), "rtsp://10.0.0.9/x");
        assert_eq!(base(&[(CONTENT_BASE, "rtsp://")]), "rtsp://192.0.2.7/live/main");
    }

    #[test]
    fn repairs_bases_without_scheme_and_relative_ones() {
        assert_eq!(base(&[(CONTENT_BASE, "192.0.2.7:554/live/")]), "rtsp://192.0.2.7:554/live/");
        assert_eq!(base(&[(CONTENT_BASE, "10.0.0.3/live/")]), "rtsp://10.0.0.3/live/");
        assert_eq!(base(&[(CONTENT_BASE, "//192.0.2.7/live/")]), "rtsp://192.0.2.7/live/");
        assert_eq!(base(&[(CONTENT_BASE, "/other/")]), "rtsp://192.0.2.7/other/");
        assert_eq!(base(&[(CONTENT_BASE, "main/")]), "rtsp://192.0.2.7/live/main/");
        let secure = Url::parse("rtsps://192.0.2.7/live").unwrap();
        assert_eq!(resolve("192.0.2.7:322/live/", &secure), Url::parse("rtsps://192.0.2.7:322/live/").ok());
        assert_eq!(base(&[(CONTENT_BASE, "rtsp://admin:pw@192.0.2.7/x")]), "rtsp://192.0.2.7/x");
    }
}
