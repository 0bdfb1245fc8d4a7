//! Whom an input trusts, and why that may fail.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

/// Who vouches for a camera's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "TlsBody", try_from = "TlsBody")]
pub enum TlsTrust {
    /// The authorities that the system trusts.
    #[default]
    System,
    /// Nobody: any certificate of any name is taken.
    Insecure,
    /// The authorities of this PEM file.
    CaFile(PathBuf),
}

/// How [`TlsTrust`] is written: `{"insecure": true}` or `{"ca_file": "/etc/cameras.pem"}`; `{}` for the system's.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TlsTrust)]
pub(crate) struct TlsBody {
    /// Take any certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    insecure: Option<bool>,
    /// Absolute path on the server of a PEM file. A certificate is taken that one of those in it signed for the camera's
    /// name, or that is one of those in it: then by any name and date. Read when the stream is made, changed or restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "/etc/lanecast/cameras.pem")]
    ca_file: Option<PathBuf>,
}

impl TlsTrust {
    /// A number that is another for another trust, within this process.
    pub fn number(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

impl From<TlsTrust> for TlsBody {
    fn from(trust: TlsTrust) -> Self {
        match trust {
            TlsTrust::System => Self { insecure: None, ca_file: None },
            TlsTrust::Insecure => Self { insecure: Some(true), ca_file: None },
            TlsTrust::CaFile(path) => Self { insecure: None, ca_file: Some(path) },
        }
    }
}

impl TryFrom<TlsBody> for TlsTrust {
    type Error = &'static str;

    fn try_from(body: TlsBody) -> Result<Self, Self::Error> {
        match (body.insecure.unwrap_or(false), body.ca_file) {
            (false, None) => Ok(Self::System),
            (true, None) => Ok(Self::Insecure),
            (true, Some(_)) => Err("`insecure` and `ca_file` exclude each other"),
            (false, Some(path)) if !path.is_absolute() => Err("`ca_file` must be an absolute path"),
            (false, Some(path)) => Ok(Self::CaFile(path)),
        }
    }
}

impl utoipa::PartialSchema for TlsTrust {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        TlsBody::schema()
    }
}

impl ToSchema for TlsTrust {
    fn name() -> std::borrow::Cow<'static, str> {
        "TlsTrust".into()
    }
}

/// Why there is no configuration; sentences for an operator, to stand behind the name of a field.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TlsError {
    /// The system has no authorities.
    #[error(
        "the system trusts no certificate authority (is the package ca-certificates installed?): give a CA file, or set insecure"
    )]
    NoSystemRoots,
    /// The file cannot be read.
    #[error("cannot read {path}: {reason}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The file has no certificate in PEM.
    #[error("{path} holds no certificate in PEM", path = .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file has something that is no certificate.
    #[error("{path} holds a certificate that cannot be read: {reason}", path = .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The TLS library refuses its own defaults.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}
