//! A small blocking REST client, and the questions that tests ask of the API.

use std::time::Duration;

use serde_json::{Value, json};

use super::until;

#[derive(Clone)]
pub struct Rest {
    agent: ureq::Agent,
    base: String,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("not JSON ({e}): {self:?}"))
    }

    /// The stable code of an error answer; fails when the answer is not an error of the contract's form.
    pub fn error_code(&self) -> String {
        let body = self.json();
        assert!(body["message"].is_string(), "an error has a message: {self:?}");
        body["error"].as_str().unwrap_or_else(|| panic!("an error has a code: {self:?}")).to_owned()
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

impl Rest {
    /// `base` is like `http://127.0.0.1:8009`.
    pub fn new(base: &str) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(20)))
            .build()
            .into();
        Self { agent, base: base.to_owned() }
    }

    pub fn get(&self, path: &str) -> Answer {
        answer(self.agent.get(self.url(path)).call())
    }

    pub fn delete(&self, path: &str) -> Answer {
        answer(self.agent.delete(self.url(path)).call())
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, "application/json", &body.to_string())
    }

    pub fn post_text(&self, path: &str, content_type: &str, body: &str) -> Answer {
        answer(self.agent.post(self.url(path)).header("content-type", content_type).send(body))
    }

    pub fn patch(&self, path: &str, body: &Value) -> Answer {
        let request = self.agent.patch(self.url(path)).header("content-type", "application/json");
        answer(request.send(body.to_string()))
    }

    /// Creates a revision-1 stream from one URL.
    pub fn create(&self, source_id: impl Into<Value>, rtsp_url: &str) -> Value {
        let body = json!({ "source_id": source_id.into(), "rtsp_url": rtsp_url, "should_record": false });
        self.post("/streams", &body).expect(201).json()
    }

    /// Creates a stream of several inputs, the first the best; they are called `input 1`, `input 2` and so on.
    pub fn create_from(&self, source_id: impl Into<Value>, urls: &[&str], should_record: bool) -> Value {
        let input = |(number, url): (usize, &&str)| {
            let number = number + 1;
            json!({ "label": format!("input {number}"), "url": url, "priority": number })
        };
        let inputs: Vec<Value> = urls.iter().enumerate().map(input).collect();
        let body =
            json!({ "source_id": source_id.into(), "rtsp_inputs": inputs, "should_record": should_record });
        self.post("/streams", &body).expect(201).json()
    }

    /// Waits until the stream gives the pictures of the input of this label.
    pub fn active_by(&self, path_id: &str, label: &str) -> Value {
        self.stream_when(path_id, &format!("Active by {label}"), |stream| {
            stream["state"] == "Active" && stream["active_input"]["label"] == label
        })
    }

    pub fn stream(&self, path_id: &str) -> Value {
        self.get(&format!("/streams/{path_id}")).expect(200).json()
    }

    /// Waits until the stream's view pleases, and gives it.
    pub fn stream_when(&self, path_id: &str, what: &str, pleases: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(what, || {
                last = self.stream(path_id);
                pleases(&last).then(|| last.clone())
            })
        }));
        waited.unwrap_or_else(|_| panic!("stream {path_id} was never {what}; last: {last}"))
    }

    pub fn active(&self, path_id: &str) -> Value {
        self.stream_when(path_id, "Active", |stream| stream["state"] == "Active")
    }

    /// Waits for the state `Error` and gives its reason.
    pub fn error_reason(&self, path_id: &str) -> String {
        let stream = self.stream_when(path_id, "in Error", |stream| stream["state"] == "Error");
        stream["state_reason"].as_str().expect("an error has a reason").to_owned()
    }

    /// The sum over all labels of a counter of `/metrics`.
    pub fn metric(&self, name: &str) -> f64 {
        // A shard that does not answer in time is left out of the answer.
        until(&format!("the metric {name}"), || {
            let text = self.get("/metrics").expect(200).text;
            let values: Vec<f64> = text.lines().filter_map(|line| metric_value(line, name)).collect();
            (!values.is_empty()).then(|| values.iter().sum())
        })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

fn answer(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
    let mut response = result.expect("an HTTP answer");
    let content_type = response.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or("");
    Answer {
        status: response.status().as_u16(),
        content_type: content_type.to_owned(),
        text: response.body_mut().read_to_string().expect("UTF-8"),
    }
}

fn metric_value(line: &str, name: &str) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    if !rest.starts_with(['{', ' ']) {
        return None;
    }
    rest.rsplit(' ').next()?.parse().ok()
}
