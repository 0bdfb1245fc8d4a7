//! WHEP (draft-ietf-wish-whep): the offer in a POST, the answer in its response, the session's end by DELETE.
//!
//! Plain HTTP; what descriptions say is not looked at here.

use std::time::Duration;

use ureq::Agent;
use ureq::http::Response;
use ureq::{Body, config::Config};
use url::Url;

use crate::peer::{Descriptions, Exchange};

/// One WHEP resource.
#[derive(Debug)]
pub struct Whep {
    url: Url,
    authorization: Option<String>,
    agent: Agent,
}

impl Whep {
    /// Viewers of `url`; `authorization` is the header's value.
    pub fn new(url: Url, authorization: Option<String>) -> Self {
        let config = Config::builder()
            .http_status_as_error(false)
            .timeout_global(Some(REQUEST_TIMEOUT))
            .max_idle_connections_per_host(IDLE_CONNECTIONS_MAX)
            .max_idle_connections(IDLE_CONNECTIONS_MAX)
            .build();
        Self { url, authorization, agent: config.new_agent() }
    }

    fn post(&self, offer: &str) -> Result<(String, Option<String>), String> {
        let mut request = self.agent.post(self.url.as_str()).header("Content-Type", "application/sdp");
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let mut response = request.send(offer).map_err(|error| format!("whep: {error}"))?;
        let status = response.status().as_u16();
        let location = self.location(&response);
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let body = body.map_err(|error| format!("whep: {error}"))?;
        match status {
            200 | 201 => Ok((body, location)),
            _ => Err(format!("whep: {status} {}", first_line(&body))),
        }
    }

    fn location(&self, response: &Response<Body>) -> Option<String> {
        let location = response.headers().get("Location")?.to_str().ok()?;
        Some(self.url.join(location).ok()?.into())
    }
}

impl Exchange for Whep {
    fn begin(&self, _number: u32, viewer: &mut dyn Descriptions) -> Result<Option<String>, String> {
        let offer = viewer.offer()?;
        let (answer, location) = self.post(&offer)?;
        if let Err(error) = viewer.accept_answer(&answer) {
            // The first error is the one to tell.
            let _ = location.map(|location| self.end(&location));
            return Err(error);
        }
        Ok(location)
    }

    fn end(&self, session: &str) -> Result<(), String> {
        let mut request = self.agent.delete(session);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let status = request.call().map_err(|error| format!("whep: {error}"))?.status();
        if status.is_success() { Ok(()) } else { Err(format!("whep: DELETE {}", status.as_u16())) }
    }
}

/// Enough of an error's body to know it by.
fn first_line(body: &str) -> String {
    body.lines().next().unwrap_or_default().chars().take(200).collect()
}

const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// As many as threads ever ask at once.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// An answer is a few KiB.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
