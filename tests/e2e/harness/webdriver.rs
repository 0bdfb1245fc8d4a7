//! A small WebDriver client (W3C WebDriver): one session, its pages, scripts and screenshots.
//! Which browser it is and how it is started does not belong here.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The key under which an element's reference stands (section 12.2 of the standard).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

pub struct WebDriver {
    agent: ureq::Agent,
    session: String,
}

impl WebDriver {
    /// Opens a session at a driver that listens on this port of the loopback address.
    pub fn open(port: u16, capabilities: &Value) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .into();
        let mut driver = Self { agent, session: format!("http://127.0.0.1:{port}/session") };
        let opened = driver.post("", &json!({ "capabilities": { "alwaysMatch": capabilities } }));
        let id = opened["sessionId"].as_str().expect("a session has an id");
        driver.session = format!("{}/{id}", driver.session);
        driver
    }

    /// Loads a page and returns when it is loaded.
    pub fn go(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// Runs a function's body; `arguments[…]` are its arguments.
    pub fn run(&self, script: &str, arguments: &[Value]) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": arguments }))
    }

    /// Runs a function's body that calls its last argument with the result.
    pub fn run_async(&self, script: &str, arguments: &[Value]) -> Value {
        self.post("/execute/async", &json!({ "script": script, "args": arguments }))
    }

    /// A PNG of what the first element of this CSS selector looks like.
    pub fn screenshot(&self, selector: &str) -> Vec<u8> {
        let found = self.post("/element", &json!({ "using": "css selector", "value": selector }));
        let element = found[ELEMENT].as_str().expect("an element's reference");
        decoded(&self.get(&format!("/element/{element}/screenshot")))
    }

    /// A PNG of the window.
    pub fn screenshot_of_page(&self) -> Vec<u8> {
        decoded(&self.get("/screenshot"))
    }

    /// What the browser's console said since the last asking (an extension of chromedriver).
    pub fn console(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({ "type": "browser" }));
        let entries = entries.as_array().expect("a list");
        entries.iter().filter_map(|entry| entry["message"].as_str()).map(str::to_owned).collect()
    }

    /// Ends the session and with it the browser, where they still are.
    pub fn close(&self) {
        // The driver may be gone, with the browser or before it.
        let _ = self.agent.delete(&self.session).call();
    }

    fn get(&self, path: &str) -> Value {
        value(path, self.agent.get(format!("{}{path}", self.session)).call())
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.agent.post(format!("{}{path}", self.session));
        value(path, request.header("content-type", "application/json").send(body.to_string()))
    }
}

fn value(path: &str, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Value {
    let mut answer = answer.unwrap_or_else(|e| panic!("the driver does not answer {path}: {e}"));
    let text = answer.body_mut().with_config().limit(64 << 20).read_to_string().expect("UTF-8");
    let mut body: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("not JSON ({e}): {text}"));
    assert_eq!(answer.status().as_u16(), 200, "{path}: {text}");
    body["value"].take()
}

fn decoded(base64: &Value) -> Vec<u8> {
    STANDARD.decode(base64.as_str().expect("text")).expect("base64")
}
