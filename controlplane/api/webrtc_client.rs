//! `GET /debug/webrtc-client`: a page that plays a stream by WebRTC. Plain files with nothing from elsewhere;
//! what they show comes from the API like any client's.

use axum::http::HeaderName;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};

use crate::http::{ApiError, ApiPath, ErrorBody};

/// A file as it is served.
type File = ([(HeaderName, &'static str); 4], &'static str);

/// Nothing but our own files and our own API; no script in the page itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A player for one stream, as a page.
#[utoipa::path(get, path = "/debug/webrtc-client", tag = "health", operation_id = "webrtc_client", params(
    ("stream" = Option<String>, Query, description = "Id of the stream to play"),
    ("protocol" = Option<String>, Query, description = "`json` or `whep`"),
    ("autoplay" = Option<String>, Query, description = "`1`: play at once")),
    responses((status = 200, description = "HTML", body = String, content_type = "text/html")))]
pub async fn page() -> File {
    file("text/html; charset=utf-8", include_str!("webrtc_client/index.html"))
}

/// What the player's page is made of.
#[utoipa::path(get, path = "/debug/webrtc-client/{file}", tag = "health", operation_id = "webrtc_client_file",
    params(("file" = String, Path, description = "A script, style or icon that the page names")), responses(
    (status = 200, description = "The file", body = String, content_type = "text/plain"),
    (status = 404, description = "No such file", body = ErrorBody)))]
pub async fn asset(ApiPath(name): ApiPath<String>) -> Result<File, ApiError> {
    let asset = ASSETS.iter().find(|asset| asset.0 == name);
    let (_, content_type, content) = *asset.ok_or(ApiError::of_status(hyper::StatusCode::NOT_FOUND))?;
    Ok(file(content_type, content))
}

/// Name, type and content.
const ASSETS: [(&str, &str, &str); 7] = [
    ("script.js", SCRIPT, include_str!("webrtc_client/script.js")),
    ("timeline.js", SCRIPT, include_str!("webrtc_client/timeline.js")),
    ("playback.js", SCRIPT, include_str!("webrtc_client/playback.js")),
    ("api.js", SCRIPT, include_str!("webrtc_client/api.js")),
    ("dom.js", SCRIPT, include_str!("webrtc_client/dom.js")),
    ("style.css", "text/css; charset=utf-8", include_str!("webrtc_client/style.css")),
    ("icon.svg", "image/svg+xml", include_str!("webrtc_client/icon.svg")),
];

const SCRIPT: &str = "text/javascript; charset=utf-8";

fn file(content_type: &'static str, content: &'static str) -> File {
    let headers = [
        (CONTENT_TYPE, content_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // A new version of the server brings its own files.
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_file_is_served_with_the_policy_and_an_honest_type() {
        let mut served = vec![page().await];
        for (name, ..) in ASSETS {
            served.push(asset(ApiPath(name.into())).await.expect("a file of the page"));
        }
        for (headers, content) in served {
            let value = |name| headers.iter().find(|(header, _)| *header == name).map(|(_, value)| *value);
            assert!(!content.is_empty());
            assert_eq!(value(X_CONTENT_TYPE_OPTIONS), Some("nosniff"));
            let policy = value(CONTENT_SECURITY_POLICY).expect("a policy");
            assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        }
        assert!(asset(ApiPath("../mod.rs".into())).await.is_err());
    }

    #[test]
    fn nothing_comes_from_elsewhere_and_no_script_or_style_stands_in_the_page() {
        let page = include_str!("webrtc_client/index.html");
        // The icon names its format by a URL.
        let assets = ASSETS.iter().filter(|asset| asset.0 != "icon.svg").map(|asset| asset.2);
        for text in assets.chain([page]) {
            assert!(!text.contains("http:") && !text.contains("https:") && !text.contains("url("), "{text}");
        }
        assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains(" on"), "{page}");
        assert!(page.matches("<script").count() == page.matches("<script src=").count());
    }

    #[test]
    fn what_the_scripts_look_for_is_there() {
        let page = include_str!("webrtc_client/index.html");
        for (_, _, script) in ASSETS.iter().filter(|asset| asset.1 == SCRIPT) {
            let ids = ["element(\"", "buttons(\"", "show(\"", "drawBars(\""];
            for id in ids.iter().flat_map(|by| named(script, by)) {
                assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
            }
            for import in named(script, "from \"./") {
                assert!(ASSETS.iter().any(|asset| asset.0 == import), "{import}");
            }
        }
    }

    /// What stands between `before` and the next quotation mark.
    fn named<'a>(script: &'a str, before: &str) -> Vec<&'a str> {
        script.split(before).skip(1).filter_map(|rest| rest.split('"').next()).collect()
    }
}
