//! `GET /`: the streams, as a page. No script and nothing from elsewhere.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, X_CONTENT_TYPE_OPTIONS};
use axum::response::Html;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use uuid::Uuid;

use super::StreamView;
use crate::control_plane::ControlPlane;
use crate::recording::RecorderCounters;

/// The streams, as a page.
#[utoipa::path(get, path = "/", tag = "health", responses(
    (status = 200, description = "HTML", body = String, content_type = "text/html")))]
pub async fn page(State(control): State<Arc<ControlPlane>>) -> ([(HeaderName, String); 3], Html<String>) {
    let views = StreamView::all(&control, &RecorderCounters::default());
    let nonce = Uuid::new_v4().simple().to_string();
    let policy = format!("default-src 'none'; style-src 'nonce-{nonce}'; frame-ancestors 'none'");
    let headers = [
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (CACHE_CONTROL, "no-store".to_owned()),
    ];
    (headers, Html(render(&views, &nonce)))
}

fn render(streams: &[StreamView], nonce: &str) -> String {
    let mut rows = String::new();
    for stream in streams {
        row(&mut rows, stream);
    }
    if streams.is_empty() {
        rows.push_str("<tr><td colspan=7>No streams yet: <code>POST /streams</code></td></tr>");
    }
    PAGE.replace("{nonce}", nonce).replace("{version}", env!("CARGO_PKG_VERSION")).replace("{rows}", &rows)
}

fn row(rows: &mut String, stream: &StreamView) {
    let id = stream.source_id.to_string();
    let path = utf8_percent_encode(&id, NON_ALPHANUMERIC);
    let size = stream.width.zip(stream.height).map(|(width, height)| format!("{width}×{height}"));
    // Writing to a String cannot fail.
    let _ = writeln!(
        rows,
        "<tr><td><a href=\"/streams/{path}\">{}</a></td><td class={:?}>{:?}</td><td>{}</td><td>{} {}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
        escape(&id),
        stream.state,
        stream.state,
        escape(stream.state_reason.as_deref().unwrap_or_default()),
        stream.codec.unwrap_or_default(),
        size.unwrap_or_default(),
        stream.viewers,
        stream.shard,
        escape(&stream.rtsp_url),
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="5">
<title>Lanecast</title>
<style nonce="{nonce}">
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color: #222; background: #fff }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #ddd; vertical-align: top }
.Active { color: #0a7d34 } .Error { color: #b3261e } .Connecting { color: #8a5a00 } .Inactive { color: #666 }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } th, td { border-color: #444 } a { color: #8ab4f8 } }
</style>
</head>
<body>
<h1>Lanecast</h1>
<p>Version {version} · <a href="/swagger-ui/">API</a> · <a href="/metrics">Metrics</a></p>
<table>
<thead><tr><th>Stream<th>State<th>Reason<th>Picture<th>Viewers<th>Shard<th>Camera</tr></thead>
<tbody>
{rows}
</tbody>
</table>
</body>
</html>
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Summary;
    use crate::definition::tests::definition;
    use crate::registry::Registry;
    use crate::source_id::SourceId;

    #[test]
    fn what_an_operator_typed_is_text_and_not_markup() {
        let mut registry = Registry::new(1);
        let id = SourceId::Text("<script>\"'&/".into());
        let id = registry.insert(id, definition("rtsp://cam/?token=abcd&x='<b>"), true).unwrap();
        let stream = registry.stream(id).unwrap();
        let view = StreamView::new(&registry, id, stream, Summary::default(), None);
        let page = render(&[view], "n");
        assert!(page.contains("&lt;script&gt;&quot;&#39;&amp;/"));
        assert!(page.contains("href=\"/streams/%3Cscript%3E%22%27%26%2F\""));
        assert!(!page.contains("<script") && !page.contains("abcd") && !page.contains("<b>"));
    }

    #[test]
    fn an_empty_server_says_what_to_do() {
        assert!(render(&[], "n").contains("POST /streams"));
    }
}
