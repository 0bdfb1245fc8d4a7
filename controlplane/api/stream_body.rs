//! What a client may say of a stream, and how it becomes a [`Definition`].

use std::ops::RangeInclusive;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Deserializer};
use url::Url;
use utoipa::ToSchema;

use crate::definition::{Definition, InputDefinition, Secret, Transport};
use crate::http::ApiError;
use crate::shown_url::shown_url;
use crate::source_id::{SourceId, is_printable};
use crate::source_url::{self, speaks_tls};
use crate::tls::TlsTrust;

/// A new stream. Either `rtsp_url` (revision 1) or `rtsp_inputs` (revision 2); with both, `rtsp_inputs` counts.
#[derive(Deserialize, ToSchema)]
pub struct CreateStream {
    /// The operator's name for it; comes back as it was given. A number and a string of the same text are duplicates.
    pub source_id: SourceId,
    /// The camera: `rtsp` or `rtsps`; `rtmp`, `rtmps`, `srt`, `http`, `https`, `udp`, `file`, and RTSP with `?via=ffmpeg`,
    /// by FFmpeg. User info in it takes the place of `username` and `password`.
    #[schema(example = "rtsp://192.168.1.20:554/stream1")]
    pub rtsp_url: Option<String>,
    /// Ways to reach the camera, at most 16.
    pub rtsp_inputs: Option<Vec<InputBody>>,
    /// For every input without user info in its URL.
    pub username: Option<Hidden>,
    /// For every input without user info in its URL. Never shown again.
    pub password: Option<Hidden>,
    /// Whether to record it.
    pub should_record: Option<bool>,
    /// Pause before every new attempt in seconds, 1 to 86400; by default it grows from attempt to attempt.
    pub restart_interval_secs: Option<u64>,
    /// For every input that does not say its own.
    pub transport: Option<Transport>,
    /// Connect only while somebody watches, or it is recorded.
    pub on_demand: Option<bool>,
    /// For every `rtsps` input that does not say its own: who vouches for the camera's certificate.
    pub tls: Option<TlsTrust>,
}

/// One way to reach the camera.
#[derive(Clone, Deserialize, ToSchema)]
pub struct InputBody {
    /// The operator's name for it, at most 128 bytes.
    pub label: String,
    /// Its URL, with or without user info.
    pub url: String,
    /// Lower is tried first; equal ones in the order given.
    pub priority: i64,
    /// Which transport to ask for.
    pub transport: Option<Transport>,
    /// Of `rtsps`: who vouches for the camera's certificate; `null`: the authorities that the system trusts.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<TlsTrust>)]
    pub tls: Option<Option<TlsTrust>>,
}

/// What to change; what is absent stays.
#[derive(Deserialize, ToSchema)]
pub struct PatchStream {
    /// May only repeat what it is.
    pub source_id: Option<SourceId>,
    /// Replaces all inputs by this one.
    pub rtsp_url: Option<String>,
    /// Replaces all inputs. An input without user info keeps the credentials of a present input on the same host, and
    /// its `tls`; one whose URL reads as the server shows it keeps the secrets of its path and its query too.
    pub rtsp_inputs: Option<Vec<InputBody>>,
    /// For every input without user info in a URL of this body; `null` clears it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub username: Option<Option<Hidden>>,
    /// For every input without user info in a URL of this body; `null` clears it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub password: Option<Option<Hidden>>,
    /// Whether to record it.
    pub should_record: Option<bool>,
    /// Pause before every new attempt in seconds, 1 to 86400; `null` goes back to the default.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u64>)]
    pub restart_interval_secs: Option<Option<u64>>,
    /// For every input that does not say its own in this body.
    pub transport: Option<Transport>,
    /// Connect only while somebody watches, or it is recorded.
    pub on_demand: Option<bool>,
    /// For every `rtsps` input that does not say its own in this body; `null`: the authorities that the system trusts.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<TlsTrust>)]
    pub tls: Option<Option<TlsTrust>>,
}

/// A body that fits together. Where its inputs lead is still to be checked.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What is wanted.
    pub definition: Definition,
    /// The inputs that the body changes: their places in the definition, and what the body calls them.
    pub changed: Vec<ChangedInput>,
}

/// An input that a body changes.
#[derive(Clone, Debug)]
pub struct ChangedInput {
    /// Its place in the definition.
    pub index: usize,
    /// The field of its URL.
    pub url_field: String,
    /// The field that says whom it trusts.
    pub tls_field: String,
}

/// A text of a request that must not be shown, so it has no `Debug`; neither have the bodies that hold one.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct Hidden(String);

impl CreateStream {
    /// Checks everything; the first fault is the error.
    pub fn into_draft(self) -> Result<(SourceId, Draft), ApiError> {
        if let Some(fault) = self.source_id.fault() {
            return Err(ApiError::invalid_value("source_id", fault));
        }
        let username = credential("username", self.username)?;
        let password = credential("password", self.password)?;
        let mut inputs = read_inputs(self.rtsp_url, self.rtsp_inputs)?
            .ok_or_else(|| ApiError::missing_field("missing field `rtsp_url` (or `rtsp_inputs`)."))?;
        for input in inputs.iter_mut().filter(|input| !input.has_own_credentials) {
            input.username.clone_from(&username);
            input.password.clone_from(&password);
        }
        trust(&mut inputs, self.tls.map(Some))?;
        let changed = changed(&inputs);
        let definition = Definition {
            inputs: inputs.into_iter().map(|input| input.define(self.transport)).collect(),
            should_record: self.should_record.unwrap_or(false),
            restart_interval_secs: interval(self.restart_interval_secs)?,
            on_demand: self.on_demand.unwrap_or(false),
        };
        Ok((self.source_id, Draft { definition, changed }))
    }
}

impl PatchStream {
    /// What is wanted once this is applied to what was wanted.
    pub fn apply(&self, source_id: &SourceId, before: &Definition) -> Result<Draft, ApiError> {
        if self.source_id.as_ref().is_some_and(|new| new.to_string() != source_id.to_string()) {
            return Err(ApiError::invalid_value("source_id", "cannot be changed"));
        }
        let username = self.username.clone().map(|name| credential("username", name)).transpose()?;
        let password = self.password.clone().map(|word| credential("password", word)).transpose()?;
        let mut inputs = match read_inputs(self.rtsp_url.clone(), self.rtsp_inputs.clone())? {
            Some(mut inputs) => {
                inherit(&mut inputs, &before.inputs);
                inputs
            }
            None => before.inputs.iter().map(|input| CheckedInput::present(input, self.transport)).collect(),
        };
        for input in inputs.iter_mut().filter(|input| !input.has_own_credentials) {
            if let Some(username) = &username {
                input.username.clone_from(username);
            }
            if let Some(password) = &password {
                input.password.clone_from(password);
            }
        }
        trust(&mut inputs, self.tls.clone())?;
        let changed = changed(&inputs);
        let definition = Definition {
            inputs: inputs.into_iter().map(|input| input.define(self.transport)).collect(),
            should_record: self.should_record.unwrap_or(before.should_record),
            restart_interval_secs: match self.restart_interval_secs {
                Some(seconds) => interval(seconds)?,
                None => before.restart_interval_secs,
            },
            on_demand: self.on_demand.unwrap_or(before.on_demand),
        };
        Ok(Draft { definition, changed })
    }
}

/// An input whose URL is read, before it has its defaults.
struct CheckedInput {
    /// What the body calls its URL; `None`: the body does not mention it.
    field: Option<String>,
    label: String,
    url: Url,
    username: Option<Secret>,
    password: Option<Secret>,
    has_own_credentials: bool,
    priority: i64,
    transport: Option<Transport>,
    /// What the body says of it, or what it was.
    tls: Option<TlsTrust>,
    /// The field that says it.
    tls_field: Option<String>,
}

impl CheckedInput {
    fn read(field: &str, label: String, url: &str, priority: i64) -> Result<Self, ApiError> {
        let mut url = source_url::read(field, url)?;
        let has_own_credentials = !url.username().is_empty() || url.password().is_some();
        let (username, password) = take_user_info(field, &mut url)?;
        Ok(Self {
            field: Some(field.to_owned()),
            label,
            url,
            username,
            password,
            has_own_credentials,
            priority,
            transport: None,
            tls: None,
            tls_field: None,
        })
    }

    /// Takes what an entry of a list says beside its URL.
    fn with(mut self, field: String, body: InputExtras) -> Result<Self, ApiError> {
        self.transport = body.transport;
        if let Some(tls) = body.tls {
            if tls.as_ref().is_some_and(|tls| *tls != TlsTrust::System) && !speaks_tls(&self.url) {
                return Err(ApiError::invalid_value(&field, NO_TLS));
            }
            self.tls = Some(tls.unwrap_or_default());
            self.tls_field = Some(field);
        }
        Ok(self)
    }

    /// An input that the body does not mention.
    fn present(input: &InputDefinition, transport: Option<Transport>) -> Self {
        Self {
            field: None,
            label: input.label.clone(),
            url: input.url.clone(),
            username: input.username.clone(),
            password: input.password.clone(),
            has_own_credentials: false,
            priority: input.priority,
            transport: transport.or(Some(input.transport)),
            tls: Some(input.tls.clone()),
            tls_field: None,
        }
    }

    /// Views show no secret, so an input that comes back as it was shown keeps its own. Credentials otherwise
    /// stay with their host: who may only change a URL must not be able to send them elsewhere.
    fn inherit(&mut self, same: Option<&InputDefinition>, present: &[InputDefinition]) {
        let is_same_host =
            |input: &&InputDefinition| self.url.has_host() && input.url.host_str() == self.url.host_str();
        let same_host = || present.iter().find(is_same_host);
        let Some(source) = same.or_else(same_host) else { return };
        if self.tls.is_none() && source.speaks_tls() && speaks_tls(&self.url) {
            self.tls = Some(source.tls.clone());
        }
        if self.has_own_credentials {
            return;
        }
        self.username.clone_from(&source.username);
        self.password.clone_from(&source.password);
        if let Some(same) = same {
            self.url = same.url.clone();
            self.transport = self.transport.or(Some(same.transport));
        }
    }

    fn define(self, transport: Option<Transport>) -> InputDefinition {
        InputDefinition {
            label: self.label,
            url: self.url,
            username: self.username,
            password: self.password,
            priority: self.priority,
            transport: self.transport.or(transport).unwrap_or_default(),
            tls: self.tls.unwrap_or_default(),
        }
    }
}

/// What an entry of a list says beside its URL.
struct InputExtras {
    transport: Option<Transport>,
    tls: Option<Option<TlsTrust>>,
}

/// Each input of a body finds what it was. Several may be shown alike, being different in what is hidden: then the label
/// tells, else their order; none is found twice.
fn inherit(inputs: &mut [CheckedInput], present: &[InputDefinition]) {
    let mut left: Vec<&InputDefinition> = present.iter().collect();
    let mut found: Vec<Option<&InputDefinition>> = vec![None; inputs.len()];
    for by_label in [true, false] {
        for (input, found) in inputs.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
            let is_same = |present: &&InputDefinition| {
                shown_url(&present.url) == input.url.as_str() && (!by_label || present.label == input.label)
            };
            *found = left.iter().position(is_same).map(|position| left.remove(position));
        }
    }
    for (input, same) in inputs.iter_mut().zip(found) {
        input.inherit(same, present);
    }
}

/// Gives a body's `tls` to the inputs that it is for.
fn trust(inputs: &mut [CheckedInput], tls: Option<Option<TlsTrust>>) -> Result<(), ApiError> {
    let Some(tls) = tls else { return Ok(()) };
    let tls = tls.unwrap_or_default();
    if tls != TlsTrust::System && !inputs.iter().any(|input| speaks_tls(&input.url)) {
        return Err(ApiError::invalid_value("tls", NO_TLS));
    }
    for input in inputs.iter_mut().filter(|input| input.tls_field.is_none() && speaks_tls(&input.url)) {
        input.tls = Some(tls.clone());
        input.tls_field = Some("tls".to_owned());
    }
    Ok(())
}

fn changed(inputs: &[CheckedInput]) -> Vec<ChangedInput> {
    let changed = inputs.iter().enumerate().filter_map(|(index, input)| {
        let url_field = input.field.clone().or_else(|| input.tls_field.clone())?;
        let tls_field = input.tls_field.clone().unwrap_or_else(|| url_field.clone());
        Some(ChangedInput { index, url_field, tls_field })
    });
    changed.collect()
}

/// The inputs of a body, best first; `None` if it names none.
fn read_inputs(
    rtsp_url: Option<String>,
    rtsp_inputs: Option<Vec<InputBody>>,
) -> Result<Option<Vec<CheckedInput>>, ApiError> {
    match (rtsp_inputs, rtsp_url) {
        (Some(inputs), _) if !inputs.is_empty() => read_list(inputs).map(Some),
        (_, Some(url)) => {
            CheckedInput::read("rtsp_url", LABEL.to_owned(), &url, 0).map(|input| Some(vec![input]))
        }
        (Some(_), None) => Err(ApiError::invalid_value("rtsp_inputs", "is empty")),
        (None, None) => Ok(None),
    }
}

fn read_list(bodies: Vec<InputBody>) -> Result<Vec<CheckedInput>, ApiError> {
    if bodies.len() > INPUTS_MAX {
        return Err(ApiError::invalid_value("rtsp_inputs", format!("has more than {INPUTS_MAX} entries")));
    }
    let mut inputs = Vec::with_capacity(bodies.len());
    for (index, body) in bodies.into_iter().enumerate() {
        check_text(&format!("rtsp_inputs[{index}].label"), &body.label, LABEL_BYTES_MAX)?;
        let field = format!("rtsp_inputs[{index}].url");
        let input = CheckedInput::read(&field, body.label, &body.url, body.priority)?;
        let extras = InputExtras { transport: body.transport, tls: body.tls };
        inputs.push(input.with(format!("rtsp_inputs[{index}].tls"), extras)?);
    }
    inputs.sort_by_key(|input| input.priority);
    Ok(inputs)
}

/// Moves user info out of the URL, percent-decoded.
fn take_user_info(field: &str, url: &mut Url) -> Result<(Option<Secret>, Option<Secret>), ApiError> {
    let decode = |text: &str| match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(ApiError::invalid_url(field, "its user info is not UTF-8")),
    };
    let username = match url.username() {
        "" => None,
        name => Some(decode(name)?),
    };
    let password = url.password().map(decode).transpose()?;
    for text in [&username, &password].into_iter().flatten() {
        check_text(&format!("the user info of {field}"), text, CREDENTIAL_BYTES_MAX)?;
    }
    // Both fail only without a host, and then there was nothing.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Ok((username.map(Secret), password.map(Secret)))
}

fn credential(field: &str, text: Option<Hidden>) -> Result<Option<Secret>, ApiError> {
    let Some(Hidden(text)) = text else { return Ok(None) };
    check_text(field, &text, CREDENTIAL_BYTES_MAX)?;
    Ok(Some(Secret(text)))
}

/// A line break in a credential or a label could forge a line of RTSP or of the log.
fn check_text(field: &str, text: &str, bytes_max: usize) -> Result<(), ApiError> {
    if text.len() > bytes_max {
        return Err(ApiError::invalid_value(field, format!("is longer than {bytes_max} bytes")));
    }
    match text.chars().all(is_printable) {
        true => Ok(()),
        false => Err(ApiError::invalid_value(field, "holds a character that cannot be printed")),
    }
}

fn interval(seconds: Option<u64>) -> Result<Option<u64>, ApiError> {
    match seconds {
        Some(seconds) if !INTERVAL_SECONDS.contains(&seconds) => {
            let reason = format!("is not from {} to {}", INTERVAL_SECONDS.start(), INTERVAL_SECONDS.end());
            Err(ApiError::invalid_value("restart_interval_secs", reason))
        }
        seconds => Ok(seconds),
    }
}

/// `null` is a value of its own: it clears.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// What the only input of revision 1 is called.
const LABEL: &str = "main";
const LABEL_BYTES_MAX: usize = 128;
/// More ways to one camera than any site has.
const INPUTS_MAX: usize = 16;
/// Why a `tls` is refused.
const NO_TLS: &str = "is for rtsps URLs without via=ffmpeg only";
const CREDENTIAL_BYTES_MAX: usize = 256;
/// From "at once" to once a day.
const INTERVAL_SECONDS: RangeInclusive<u64> = 1..=86_400;

#[cfg(test)]
mod tests;
