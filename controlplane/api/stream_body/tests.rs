//! What bodies become, and which are refused.

use super::*;
use serde_json::{Value, json};

fn create(body: Value) -> Result<(SourceId, Definition), ApiError> {
    let (source_id, draft) = serde_json::from_value::<CreateStream>(body).unwrap().into_draft()?;
    Ok((source_id, draft.definition))
}

fn define(body: Value) -> Definition {
    create(body).unwrap().1
}

fn patch(before: &Definition, body: Value) -> Result<Definition, ApiError> {
    let patch = serde_json::from_value::<PatchStream>(body).unwrap();
    patch.apply(&SourceId::Number(7), before).map(|draft| draft.definition)
}

fn credentials(input: &InputDefinition) -> (Option<&str>, Option<&str>) {
    (input.username.as_ref().map(|s| s.0.as_str()), input.password.as_ref().map(|s| s.0.as_str()))
}

fn with_url(url: &str) -> Result<Definition, ApiError> {
    create(json!({"source_id": 7, "rtsp_url": url})).map(|(_, definition)| definition)
}

#[test]
fn revision_1_has_one_input() {
    let body = json!({"source_id": 7, "rtsp_url": "rtsp://cam/live", "username": "u", "password": "p",
        "should_record": true, "restart_interval_secs": 5});
    let (source_id, definition) = create(body).unwrap();
    assert_eq!(source_id, SourceId::Number(7));
    assert_eq!((definition.should_record, definition.restart_interval_secs), (true, Some(5)));
    let [input] = definition.inputs.as_slice() else { panic!() };
    assert_eq!((input.url.as_str(), credentials(input)), ("rtsp://cam/live", (Some("u"), Some("p"))));
}

#[test]
fn revision_2_is_sorted_by_priority() {
    let input =
        |label: &str, priority: i64| json!({"label": label, "url": "rtsp://cam/", "priority": priority});
    let inputs = [input("c", 2), input("a", -1), input("d", 2), input("b", 0)];
    let definition = define(json!({"source_id": "x", "rtsp_inputs": inputs}));
    let labels: Vec<&str> = definition.inputs.iter().map(|input| input.label.as_str()).collect();
    assert_eq!(labels, ["a", "b", "c", "d"]);
}

#[test]
fn user_info_is_taken_out_decoded_and_wins() {
    let url = "rtsp://ad%40min:p%3Aw@cam:554/live#x";
    let definition = define(json!({"source_id": 7, "rtsp_url": url, "username": "u", "password": "p"}));
    assert_eq!(definition.inputs[0].url.as_str(), "rtsp://cam:554/live");
    assert_eq!(credentials(&definition.inputs[0]), (Some("ad@min"), Some("p:w")));
}

#[test]
fn user_info_is_text() {
    assert_eq!(with_url("rtsp://%ff:x@cam/").unwrap_err().code(), "invalid_url");
}

#[test]
fn no_line_break_comes_through_a_credential() {
    assert_eq!(with_url("rtsp://a%0d%0ab:c@cam/").unwrap_err().code(), "invalid_value");
    let body = json!({"source_id": 7, "rtsp_url": "rtsp://cam/", "password": "a\nb"});
    assert_eq!(create(body).unwrap_err().code(), "invalid_value");
}

#[test]
fn bounds_are_named() {
    let refusal = |extra: Value| {
        let mut body = json!({"source_id": 7, "rtsp_url": "rtsp://cam/"});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        create(body).unwrap_err().reason().to_owned()
    };
    assert!(refusal(json!({"restart_interval_secs": 0})).starts_with("restart_interval_secs is not from 1"));
    assert!(refusal(json!({"restart_interval_secs": 86_401})).starts_with("restart_interval_secs"));
    assert!(refusal(json!({"source_id": ""})).starts_with("source_id is empty"));
    let input = json!({"label": "x", "url": "rtsp://cam/", "priority": 0});
    assert!(refusal(json!({"rtsp_inputs": vec![input; 17]})).starts_with("rtsp_inputs has more than 16"));
    let input = json!({"label": "x", "url": "cam", "priority": 0});
    assert!(refusal(json!({"rtsp_inputs": [input]})).starts_with("rtsp_inputs[0].url"));
    let error = create(json!({"source_id": 7})).unwrap_err();
    assert_eq!(error.code(), "missing_field");
    assert!(error.reason().contains("rtsp_url"));
    assert_eq!(create(json!({"source_id": 7, "rtsp_inputs": []})).unwrap_err().code(), "invalid_value");
}

#[test]
fn an_empty_patch_changes_nothing() {
    let before = define(json!({"source_id": 7, "rtsp_url": "rtsp://u:p@cam/?token=t", "transport": "udp"}));
    assert_eq!(patch(&before, json!({})).unwrap(), before);
    assert_eq!(patch(&before, json!({"source_id": 7, "state": "Active"})).unwrap(), before);
    assert_eq!(patch(&before, json!({"source_id": 8})).unwrap_err().code(), "invalid_value");
}

#[test]
fn a_patch_changes_what_it_names() {
    let before = define(json!({"source_id": 7, "rtsp_url": "rtsp://u:p@cam/", "restart_interval_secs": 5}));
    let after =
        patch(&before, json!({"password": "new", "should_record": true, "transport": "tcp"})).unwrap();
    assert_eq!(credentials(&after.inputs[0]), (Some("u"), Some("new")));
    assert_eq!((after.should_record, after.inputs[0].transport), (true, Transport::Tcp));
    assert_eq!(after.restart_interval_secs, Some(5));
    let after =
        patch(&before, json!({"username": null, "password": null, "restart_interval_secs": null})).unwrap();
    assert_eq!((credentials(&after.inputs[0]), after.restart_interval_secs), ((None, None), None));
}

#[test]
fn a_view_sent_back_keeps_every_secret() {
    let before =
        define(json!({"source_id": 7, "rtsp_url": "rtsp://u:p@cam/live?token=abc", "transport": "tcp"}));
    let input = json!({"label": "door", "url": shown_url(&before.inputs[0].url), "priority": 3});
    let after = patch(&before, json!({"rtsp_inputs": [input]})).unwrap();
    let expected = InputDefinition { label: "door".into(), priority: 3, ..before.inputs[0].clone() };
    assert_eq!(after.inputs, [expected]);
}

#[test]
fn credentials_stay_with_their_host() {
    let before = define(json!({"source_id": 7, "rtsp_url": "rtsp://u:p@cam/live"}));
    let moved = |url: &str| patch(&before, json!({"rtsp_url": url})).unwrap().inputs.remove(0);
    assert_eq!(credentials(&moved("rtsp://cam:8554/other")), (Some("u"), Some("p")));
    assert_eq!(credentials(&moved("rtsp://elsewhere/live")), (None, None));
    assert_eq!(credentials(&moved("rtsp://new:word@cam/live")), (Some("new"), Some("word")));
}

fn tls(definition: &Definition) -> Vec<TlsTrust> {
    definition.inputs.iter().map(|input| input.tls.clone()).collect()
}

#[test]
fn trust_is_said_of_all_or_of_one() {
    let ca = TlsTrust::CaFile("/etc/ca.pem".into());
    let one = define(json!({"source_id": 7, "rtsp_url": "rtsps://cam/", "tls": {"insecure": true}}));
    assert_eq!(tls(&one), [TlsTrust::Insecure]);
    let inputs = json!([
        {"label": "a", "url": "rtsps://a/", "priority": 0, "tls": {"ca_file": "/etc/ca.pem"}},
        {"label": "b", "url": "rtsps://b/", "priority": 1, "tls": null},
        {"label": "c", "url": "rtsps://c/", "priority": 2},
        {"label": "d", "url": "rtsp://d/", "priority": 3, "tls": null},
    ]);
    let several = json!({"source_id": 7, "rtsp_inputs": inputs, "tls": {"insecure": true}});
    let expected = [ca, TlsTrust::System, TlsTrust::Insecure, TlsTrust::System];
    assert_eq!(tls(&define(several)), expected);
    let stream = create(json!({"source_id": 7, "rtsp_url": "rtsp://cam/", "tls": {"insecure": true}}));
    assert!(stream.unwrap_err().reason().starts_with("tls is for rtsps"));
    let input = json!([{"label": "a", "url": "rtsp://a/", "priority": 0, "tls": {"insecure": true}}]);
    let input = create(json!({"source_id": 7, "rtsp_inputs": input})).unwrap_err();
    assert_eq!(input.status().as_u16(), 422);
    assert!(input.reason().starts_with("rtsp_inputs[0].tls is for rtsps"), "{}", input.reason());
}

#[test]
fn a_patch_keeps_trust_and_demand() {
    let body = json!({"source_id": 7, "rtsp_url": "rtsps://cam/live?token=abcd", "tls": {"insecure": true},
        "on_demand": true});
    let before = define(body);
    assert_eq!(patch(&before, json!({})).unwrap(), before);
    assert!(patch(&before, json!({"should_record": true})).unwrap().on_demand);
    assert!(!patch(&before, json!({"on_demand": false})).unwrap().on_demand);
    let shown = json!({"label": "main", "url": "rtsps://cam/live", "priority": 0});
    assert_eq!(patch(&before, json!({"rtsp_inputs": [shown]})).unwrap().inputs, before.inputs);
    let trust = |body: Value| tls(&patch(&before, body).unwrap());
    assert_eq!(trust(json!({"rtsp_url": "rtsps://cam/other"})), [TlsTrust::Insecure]);
    assert_eq!(trust(json!({"rtsp_url": "rtsps://u:p@cam/other"})), [TlsTrust::Insecure]);
    assert_eq!(trust(json!({"rtsp_url": "rtsps://elsewhere/"})), [TlsTrust::System]);
    assert_eq!(trust(json!({"rtsp_url": "rtsp://cam/"})), [TlsTrust::System]);
    assert_eq!(trust(json!({"tls": null})), [TlsTrust::System]);
    let nulled = json!({"label": "main", "url": "rtsps://cam/live", "priority": 0, "tls": null});
    assert_eq!(trust(json!({"rtsp_inputs": [nulled]})), [TlsTrust::System]);
}

#[cfg(feature = "ffmpeg")]
#[test]
fn inputs_that_are_shown_alike_keep_their_own_keys() {
    let input =
        |label: &str, url: &str, priority: i64| json!({"label": label, "url": url, "priority": priority});
    let inputs = [input("a", "rtmp://h/live/keyA", 0), input("b", "rtmp://h/live/keyB", 1)];
    let before = define(json!({"source_id": 7, "rtsp_inputs": inputs}));
    let urls = |labels: [&str; 2]| {
        let shown = [input(labels[0], "rtmp://h/live/***", 0), input(labels[1], "rtmp://h/live/***", 1)];
        let after = patch(&before, json!({"rtsp_inputs": shown})).unwrap();
        after.inputs.iter().map(|input| input.url.path().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(urls(["a", "b"]), ["/live/keyA", "/live/keyB"]);
    assert_eq!(urls(["b", "a"]), ["/live/keyB", "/live/keyA"]);
    assert_eq!(urls(["new", "a"]), ["/live/keyB", "/live/keyA"]);
    assert_eq!(urls(["x", "y"]), ["/live/keyA", "/live/keyB"]);
}

#[test]
fn a_draft_names_the_fields_of_its_inputs() {
    let input = |url: &str, priority: i64| json!({"label": "x", "url": url, "priority": priority});
    let body = json!({"source_id": 7, "rtsp_inputs": [input("rtsps://b/", 1), input("rtsp://a/", 0)]});
    let (_, draft) = serde_json::from_value::<CreateStream>(body).unwrap().into_draft().unwrap();
    let fields: Vec<_> = draft.changed.iter().map(|input| (input.index, input.url_field.as_str())).collect();
    assert_eq!(fields, [(0, "rtsp_inputs[1].url"), (1, "rtsp_inputs[0].url")]);
    let patch = |body: Value| {
        let patch = serde_json::from_value::<PatchStream>(body).unwrap();
        patch.apply(&SourceId::Number(7), &draft.definition).unwrap().changed
    };
    assert!(patch(json!({"should_record": true})).is_empty());
    let [input] = patch(json!({"tls": {"insecure": true}})).try_into().unwrap();
    assert_eq!((input.index, input.tls_field.as_str()), (1, "tls"));
}
