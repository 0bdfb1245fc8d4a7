//! Janus as a viewer's server: how it is configured for one camera, and its way of exchanging descriptions: the server
//! makes the offer, over its HTTP API.
//!
//! It is an ICE-lite agent here, as ours is, and never lets a session time out. Nothing is tuned otherwise.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use lanecast_perf::programs::Program;
use lanecast_viewer::peer::{Descriptions, Exchange};
use serde_json::{Value, json};
use ureq::Agent;

/// A running Janus that shows one camera.
pub struct Janus {
    program: Program,
    _folder: tempfile::TempDir,
}

impl Janus {
    /// Starts it on these processors and waits until it has the camera.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub fn start(cpus: &str, rtsp_url: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        configure(folder.path(), rtsp_url)?;
        let mut command = Command::new("taskset");
        command.args(["-c", cpus, "janus", "-F"]).arg(folder.path());
        let program = Program::spawn(command)?;
        let start = Instant::now();
        while !has_camera() {
            if start.elapsed() > READY {
                bail!("janus did not come up with the camera; is it installed?");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(Self { program, _folder: folder })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }
}

/// Only what this needs is loaded.
fn configure(folder: &Path, rtsp_url: &str) -> anyhow::Result<()> {
    let installed = installed()?;
    for (kind, library) in [("plugins", "libjanus_streaming.so"), ("transports", "libjanus_http.so")] {
        fs::create_dir(folder.join(kind))?;
        symlink(installed.join(kind).join(library), folder.join(kind).join(library))?;
    }
    let path = folder.display();
    let main = format!(
        "general: {{ configs_folder = \"{path}\"; plugins_folder = \"{path}/plugins\"; \
         transports_folder = \"{path}/transports\"; debug_level = 2; session_timeout = 0; }}\n\
         nat: {{ ice_lite = true; }}\n"
    );
    let http = "general: { json = \"compact\"; base_path = \"/janus\"; http = true; port = 8088; ip = \"127.0.0.1\"; }\n\
         admin: { admin_http = false; }\n";
    let streaming = format!(
        "camera: {{ type = \"rtsp\"; id = 1; audio = false; video = true; url = \"{rtsp_url}\"; }}\n"
    );
    fs::write(folder.join("janus.jcfg"), main)?;
    fs::write(folder.join("janus.transport.http.jcfg"), http)?;
    fs::write(folder.join("janus.plugin.streaming.jcfg"), streaming)?;
    Ok(())
}

/// Where Debian puts it, on any architecture.
fn installed() -> anyhow::Result<PathBuf> {
    let folders = fs::read_dir("/usr/lib")?.filter_map(|entry| Some(entry.ok()?.path().join("janus")));
    folders.into_iter().find(|path| path.is_dir()).context("janus is not installed: apt-get install janus")
}

fn has_camera() -> bool {
    let listed = || -> Result<bool, String> {
        let api = Api::new();
        let session = api.create()?;
        let handle = api.attach(&session)?;
        let answer = api.post(&handle, json!({"janus": "message", "body": {"request": "list"}}))?;
        let list = answer["plugindata"]["data"]["list"].as_array().map_or(0, Vec::len);
        api.post(&session, json!({"janus": "destroy"}))?;
        Ok(list > 0)
    };
    listed().unwrap_or(false)
}

/// The streaming plugin's viewers.
pub struct Streaming {
    api: Api,
}

impl Streaming {
    /// Viewers of the one camera.
    pub fn new() -> Self {
        Self { api: Api::new() }
    }
}

impl Exchange for Streaming {
    fn begin(&self, _number: u32, viewer: &mut dyn Descriptions) -> Result<Option<String>, String> {
        let session = self.api.create()?;
        let handle = self.api.attach(&session)?;
        self.api.post(&handle, json!({"janus": "message", "body": {"request": "watch", "id": 1}}))?;
        let offer = self.api.offer(&session)?;
        let answer = with_candidate(&viewer.answer(&offer)?);
        let start = json!({
            "janus": "message",
            "body": {"request": "start"},
            "jsep": {"type": "answer", "sdp": answer},
        });
        self.api.post(&handle, start)?;
        Ok(Some(session))
    }

    fn end(&self, session: &str) -> Result<(), String> {
        self.api.post(session, json!({"janus": "destroy"})).map(drop)
    }
}

/// Janus begins only when it knows a candidate. The viewers have none to tell, as they come first; it then learns their
/// addresses from their checks, and never sends to this one (TEST-NET-1).
fn with_candidate(answer: &str) -> String {
    let candidate = "a=candidate:1 1 udp 2130706431 192.0.2.254 9 typ host\r\na=end-of-candidates\r\n";
    answer.replace("a=ice-options:trickle\r\n", "") + candidate
}

struct Api {
    agent: Agent,
}

impl Api {
    fn new() -> Self {
        let config = Agent::config_builder().timeout_global(Some(REQUEST_TIMEOUT)).build();
        Self { agent: config.new_agent() }
    }

    /// A session's URL.
    fn create(&self) -> Result<String, String> {
        self.child(BASE, json!({"janus": "create"}))
    }

    /// A handle's URL.
    fn attach(&self, session: &str) -> Result<String, String> {
        self.child(session, json!({"janus": "attach", "plugin": "janus.plugin.streaming"}))
    }

    fn child(&self, parent: &str, request: Value) -> Result<String, String> {
        let id = self.post(parent, request)?["data"]["id"].as_u64().ok_or("janus: no id")?;
        Ok(format!("{parent}/{id}"))
    }

    fn post(&self, url: &str, mut request: Value) -> Result<Value, String> {
        request["transaction"] = "compare".into();
        let answer =
            self.agent.post(url).header("Content-Type", "application/json").send(request.to_string());
        understand(answer)
    }

    /// The offer, among the session's events.
    fn offer(&self, session: &str) -> Result<String, String> {
        for _ in 0..EVENTS_MAX {
            let event = understand(self.agent.get(format!("{session}?maxev=1")).call())?;
            if let Some(offer) = event["jsep"]["sdp"].as_str() {
                return Ok(offer.to_owned());
            }
            let error = event["plugindata"]["data"]["error"].as_str().or(event["reason"].as_str());
            if let Some(error) = error {
                return Err(format!("janus: {error}"));
            }
        }
        Err("janus: no offer".into())
    }
}

fn understand(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value, String> {
    let text = answer.and_then(|mut answer| answer.body_mut().read_to_string());
    let text = text.map_err(|error| format!("janus: {error}"))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| format!("janus: {error}"))?;
    match value["error"]["reason"].as_str() {
        Some(reason) => Err(format!("janus: {reason}")),
        None => Ok(value),
    }
}

const BASE: &str = "http://127.0.0.1:8088/janus";

const READY: Duration = Duration::from_secs(20);

/// A long poll lasts 30 s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(35);

/// The offer is the first event, or the second.
const EVENTS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_gets_its_candidate_in_the_last_section() {
        let answer = with_candidate("v=0\r\nm=video 9\r\na=ice-options:trickle\r\na=mid:v\r\n");
        assert!(answer.starts_with("v=0\r\nm=video 9\r\na=mid:v\r\na=candidate:1 1 udp "));
    }
}
