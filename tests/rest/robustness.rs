//! No body makes the server fail.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::harness::Server;
use crate::offers::BROWSER;

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "rtsp://[a-z0-9@:/?#%&=_.\\[\\]]{0,24}".prop_map(Value::from),
        prop_oneof![Just("tcp"), Just("udp"), Just("x")].prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let key = prop_oneof![Just("label"), Just("url"), Just("priority"), Just("transport")];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(key, inner, 0..4)
                .prop_map(|map| map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

fn any_object() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        Just("source_id"),
        Just("rtsp_url"),
        Just("rtsp_inputs"),
        Just("username"),
        Just("password"),
        Just("should_record"),
        Just("restart_interval_secs"),
        Just("transport"),
        Just("timestamp"),
        Just("speed"),
        Just("offer"),
    ];
    prop::collection::hash_map(key, any_json(), 0..6).prop_map(|map| json!(map).to_string())
}

fn any_body() -> impl Strategy<Value = String> {
    let cut_off = (any_object(), any::<prop::sample::Index>())
        .prop_map(|(text, cut)| text.chars().take(cut.index(text.len())).collect());
    prop_oneof![4 => any_object(), 1 => any_json().prop_map(|json| json.to_string()), 1 => ".{0,40}", 1 => cut_off]
}

#[test]
fn no_body_is_answered_with_a_fault_of_ours() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (server, _directory) = runtime.block_on(Server::start());
    let stream = runtime.block_on(server.add(json!("x")));
    let session = server.open_session(stream);
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let check = |body: String| {
        runtime.block_on(async {
            let control = format!("/client-session-control/{session}");
            for answer in [
                server.post("/streams", &body).await,
                server.patch("/streams/x", &body).await,
                server.post("/streams/x/webrtc", &body).await,
                server.post("/streams/x/webrtc/dvr", &body).await,
                server.post(&format!("{control}/seek"), &body).await,
                server.post(&format!("{control}/speed"), &body).await,
                server.post(&format!("{control}/live"), &body).await,
            ] {
                prop_assert!(answer.status.as_u16() < 500, "{body}: {answer:?}");
                if answer.status.is_client_error() {
                    let error = answer.json();
                    prop_assert!(error["error"].is_string() && error["message"].is_string(), "{answer:?}");
                }
            }
            Ok(())
        })
    };
    runner.run(&any_body(), check).unwrap();
}

#[test]
fn no_path_is_answered_with_a_fault_of_ours() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (server, _directory) = runtime.block_on(Server::start());
    let piece = prop_oneof![
        Just("streams".to_owned()),
        Just("wsc-rtp".to_owned()),
        Just("client-session-control".to_owned()),
        Just("webrtc".to_owned()),
        Just("whep".to_owned()),
        Just("swagger-ui".to_owned()),
        Just("..".to_owned()),
        "[a-zA-Z0-9%._~-]{0,6}",
    ];
    let path = prop::collection::vec(piece, 0..6).prop_map(|pieces| format!("/{}", pieces.join("/")));
    let mut runner = TestRunner::new(Config { cases: 500, failure_persistence: None, ..Config::default() });
    let check = |path: String| {
        let answer = runtime.block_on(server.get(&path));
        prop_assert!(answer.status.as_u16() < 500, "{path}: {answer:?}");
        prop_assert!(!answer.status.is_client_error() || answer.json()["error"].is_string());
        Ok(())
    };
    runner.run(&path, check).unwrap();
}

/// A bound of time as somebody may write it.
fn any_bound() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<f64>().prop_map(|number| number.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        prop_oneof![Just("NaN"), Just("-inf"), Just("1e999"), Just("")].prop_map(str::to_owned),
        "[0-9eE+.%a-z-]{0,12}",
    ]
}

#[test]
fn no_range_is_answered_with_a_fault_of_ours() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut server, _directory) = runtime.block_on(Server::start());
    let stream = runtime.block_on(server.add(json!("x")));
    runtime.block_on(server.record(stream, 1_000_000, 1_060_000));
    let pair = (prop_oneof![Just("from"), Just("to"), Just("x")], any_bound())
        .prop_map(|(name, bound)| format!("{name}={bound}"));
    let query = prop::collection::vec(pair, 0..4).prop_map(|pairs| pairs.join("&"));
    let mut runner = TestRunner::new(Config { cases: 500, failure_persistence: None, ..Config::default() });
    let check = |query: String| {
        let path = format!("/streams/x/recordings?{query}");
        for answer in [runtime.block_on(server.get(&path)), runtime.block_on(server.delete(&path))] {
            prop_assert!(answer.status.as_u16() < 500, "{query}: {answer:?}");
            let known = ["invalid_query", "invalid_range"];
            let refused = answer.status.is_client_error();
            prop_assert!(!refused || known.contains(&answer.json()["error"].as_str().unwrap()), "{answer:?}");
        }
        Ok(())
    };
    runner.run(&query, check).unwrap();
}

/// A browser's offer with some lines gone, doubled, cut off or changed.
fn any_offer() -> impl Strategy<Value = String> {
    let change = (0..5_u8, any::<prop::sample::Index>(), ".{0,12}");
    prop::collection::vec(change, 1..8).prop_map(|changes| {
        let mut lines: Vec<String> = BROWSER.lines().map(str::to_owned).collect();
        for (kind, at, text) in changes {
            let at = at.index(lines.len());
            match kind {
                0 => lines[at] = text,
                1 => lines.insert(at, lines[at].clone()),
                2 => lines[at] = lines[at].chars().take(text.len()).collect(),
                3 => lines[at] += &text,
                _ => lines.swap(0, at),
            }
        }
        lines.join("\r\n") + "\r\n"
    })
}

#[test]
fn every_session_of_a_broken_offer_was_answered() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (server, _directory) = runtime.block_on(Server::start());
    runtime.block_on(server.add(json!("x")));
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let check = |offer: String| {
        runtime.block_on(async {
            let answer = server.post("/streams/x/webrtc", json!({ "offer": offer })).await;
            prop_assert!(answer.status.as_u16() < 500, "{offer}: {answer:?}");
            let expected = usize::from(answer.status == 201);
            prop_assert_eq!(server.control.registry().webrtc_session_count(), expected);
            prop_assert_eq!(server.plane().webrtc.len(), expected);
            if expected == 1 {
                let session = answer.json()["session_id"].as_str().unwrap().to_owned();
                let closed = server.delete(&format!("/streams/x/webrtc/{session}")).await;
                prop_assert_eq!(closed.status.as_u16(), 204);
            }
            Ok(())
        })
    };
    runner.run(&any_offer(), check).unwrap();
}
