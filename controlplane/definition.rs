//! A stream as the operator wants it: its inputs with their credentials, and how it is kept.
//!
//! This is what the database stores and what a shard is given. How a request's body becomes one is
//! the business of `api::streams`.

use std::cmp::Reverse;
use std::fmt;
use std::time::Duration;

use lanecast_protocol::rtsp::{Credentials, TransportPreference};
use lanecast_shard::{Input, InputKind, SourceConfig};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

use crate::config::SourceSettings;
use crate::shown_url::{hidden_pieces, shown_url};
use crate::source_url::{kind, speaks_tls};
use crate::tls::TlsTrust;

/// What the operator wants of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// At least one; the one to try first is first.
    pub inputs: Vec<InputDefinition>,
    /// Whether it is to be recorded.
    pub should_record: bool,
    /// The pause before every new attempt in seconds, in place of the back-off.
    pub restart_interval_secs: Option<u64>,
    /// Whether it is connected only while somebody watches, or it is recorded.
    #[serde(default)]
    pub on_demand: bool,
}

/// One way to reach the camera. Its `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputDefinition {
    /// The operator's name for it.
    pub label: String,
    /// Without user info; its path and its query may hold secrets.
    pub url: Url,
    /// For Basic and Digest, or what its protocol has.
    pub username: Option<Secret>,
    /// The same.
    pub password: Option<Secret>,
    /// Lower is tried first.
    pub priority: i64,
    /// Which transport to ask for.
    pub transport: Transport,
    /// Who vouches for its certificate, where we speak TLS with it.
    #[serde(default)]
    pub tls: TlsTrust,
}

/// Which transport a camera is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP first, UDP where the camera refuses it.
    #[default]
    Auto,
    /// TCP only.
    Tcp,
    /// UDP first, TCP where the camera refuses it.
    Udp,
}

/// A text that must not be shown, so it has no `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl Definition {
    /// What a shard's source is made from.
    pub fn source_config(&self, settings: &SourceSettings) -> SourceConfig {
        SourceConfig {
            inputs: self.inputs.iter().map(InputDefinition::input).collect(),
            restart_interval: self.restart_interval_secs.map(Duration::from_secs),
            connect_timeout: settings.connect,
            reply_timeout: settings.reply,
            silence_timeout: settings.silence,
            return_after: settings.return_after,
            on_demand: self.on_demand.then_some(settings.on_demand_idle),
            bits_per_second_max: settings.bits_per_second_max,
            denied: settings.reach.denied.clone(),
        }
    }

    /// A text from a camera or a shard with this stream's secrets taken out.
    pub fn without_secrets(&self, text: &str) -> String {
        let mut secrets: Vec<String> = self.inputs.iter().flat_map(InputDefinition::secrets).collect();
        secrets.retain(|secret| secret.len() >= SECRET_BYTES_MIN);
        // The longest first: one may hold another.
        secrets.sort_by_key(|secret| Reverse(secret.len()));
        secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }
}

impl InputDefinition {
    /// Who speaks with it.
    pub fn kind(&self) -> InputKind {
        kind(&self.url)
    }

    /// Whether we speak TLS with it.
    pub fn speaks_tls(&self) -> bool {
        speaks_tls(&self.url)
    }

    fn input(&self) -> Input {
        Input {
            kind: self.kind(),
            label: self.label.clone(),
            url: self.url.clone(),
            credentials: self.credentials(),
            priority: self.priority,
            transport: self.transport.into(),
            trust: self.tls.number(),
        }
    }

    /// Its user info.
    pub fn credentials(&self) -> Option<Credentials> {
        if self.username.is_none() && self.password.is_none() {
            return None;
        }
        let text =
            |secret: &Option<Secret>| secret.as_ref().map_or_else(String::new, |secret| secret.0.clone());
        Some(Credentials { username: text(&self.username), password: text(&self.password) })
    }

    fn secrets(&self) -> impl Iterator<Item = String> {
        let passwords = self.password.iter().flat_map(|Secret(password)| {
            // As it stands in a URL, which a library's sentence may repeat.
            [password.clone(), utf8_percent_encode(password, NON_ALPHANUMERIC).to_string()]
        });
        passwords.chain(hidden_pieces(&self.url))
    }
}

impl fmt::Debug for InputDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} {} {:?}", self.label, shown_url(&self.url), self.priority, self.transport)
    }
}

impl From<Transport> for TransportPreference {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Auto => Self::Auto,
            Transport::Tcp => Self::Tcp,
            Transport::Udp => Self::Udp,
        }
    }
}

/// A shorter secret would take pieces out of ordinary words.
const SECRET_BYTES_MIN: usize = 4;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn definition(url: &str) -> Definition {
        let input = InputDefinition {
            label: "main".into(),
            url: Url::parse(url).unwrap(),
            username: Some(Secret("admin".into())),
            password: Some(Secret("s3cret".into())),
            priority: 0,
            transport: Transport::Tcp,
            tls: TlsTrust::System,
        };
        Definition {
            inputs: vec![input],
            should_record: true,
            restart_interval_secs: Some(5),
            on_demand: false,
        }
    }

    #[test]
    fn survives_its_storage() {
        let definition = definition("rtsp://cam/live?token=abcd");
        let json = serde_json::to_string(&definition).unwrap();
        assert_eq!(serde_json::from_str::<Definition>(&json).unwrap(), definition);
    }

    #[test]
    fn what_an_older_version_stored_is_read() {
        let json = r#"{"inputs":[{"label":"main","url":"rtsp://cam/live?token=abcd","username":"admin",
            "password":"s3cret","priority":0,"transport":"tcp"}],"should_record":true,"restart_interval_secs":5}"#;
        let read: Definition = serde_json::from_str(json).unwrap();
        assert_eq!(read, definition("rtsp://cam/live?token=abcd"));
    }

    #[test]
    fn debug_hides_the_credentials() {
        let text = format!("{:?}", definition("rtsp://cam/?token=abcd"));
        assert!(!text.contains("s3cret") && !text.contains("abcd") && !text.contains("admin"), "{text}");
    }

    #[test]
    fn secrets_are_taken_out_of_a_reason() {
        let definition = definition("rtsp://cam/live?token=abcd");
        let reason = definition.without_secrets("cannot read rtsp://admin:s3cret@cam/live?token=abcd");
        assert_eq!(reason, "cannot read rtsp://admin:***@cam/live?***");
    }

    #[test]
    fn a_password_alone_is_a_credential() {
        let mut definition = definition("rtsp://cam/");
        definition.inputs[0].username = None;
        let credentials = definition.inputs[0].credentials().unwrap();
        assert_eq!((credentials.username.as_str(), credentials.password.as_str()), ("", "s3cret"));
        definition.inputs[0].password = None;
        assert_eq!(definition.inputs[0].credentials(), None);
    }
}
