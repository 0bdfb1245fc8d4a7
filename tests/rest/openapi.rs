//! The API is a file in the tree: a change of it shows as a diff.

use crate::harness::Server;

/// Write the file anew with `LANECAST_BLESS=1 cargo test --test rest openapi`.
#[test]
fn the_document_is_the_one_that_is_checked_in() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/controlplane/api/openapi.json");
    let now = lanecast::http::openapi_json();
    if std::env::var_os("LANECAST_BLESS").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let checked_in = std::fs::read_to_string(path).unwrap_or_default();
    let difference = checked_in.lines().zip(now.lines()).find(|(before, after)| before != after);
    assert!(
        checked_in == now,
        "the API changed, first at {difference:?}; if it should, run with LANECAST_BLESS=1"
    );
}

#[tokio::test]
async fn it_is_served_and_browsable_from_here_alone() {
    let (server, _directory) = Server::start().await;
    let document = server.get("/api-docs/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for path in [
        "/streams",
        "/streams/{source_id}",
        "/streams/{source_id}/wsc-rtp",
        "/client-session-control/{session_id}/seek",
        "/metrics",
    ] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    assert_eq!(server.get("/swagger-ui").await.headers["location"], "/swagger-ui/");
    let page = server.get("/swagger-ui/").await;
    assert_eq!(page.status, 200);
    assert!(!page.body.contains("src=\"http") && !page.body.contains("href=\"http"), "{}", page.body);
    for asset in ["swagger-ui-bundle.js", "swagger-ui.css", "swagger-initializer.js"] {
        assert_eq!(server.get(&format!("/swagger-ui/{asset}")).await.status, 200, "{asset}");
    }
}

#[test]
fn every_operation_has_a_name_of_its_own() {
    let document: serde_json::Value = serde_json::from_str(&lanecast::http::openapi_json()).unwrap();
    let paths = document["paths"].as_object().unwrap().values();
    let operations = paths.flat_map(|path| path.as_object().unwrap().values());
    let mut names: Vec<&str> =
        operations.map(|operation| operation["operationId"].as_str().unwrap()).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}
