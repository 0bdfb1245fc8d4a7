//! Where log lines go: standard error, filtered, as text or JSON.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::{LogConfig, LogFormat};

/// Starts logging; once a process.
pub fn start(config: &LogConfig) {
    // The configuration has checked the filter.
    // What comes from the network is counted by us; the DTLS library has a line for each extension that it does not know.
    let filter = EnvFilter::new(format!("rtc_dtls=off,{}", config.filter));
    let lines = fmt().with_env_filter(filter).with_writer(stderr);
    match config.format {
        LogFormat::Json => lines.json().flatten_event(true).init(),
        LogFormat::Text => lines.with_ansi(stderr().is_terminal()).init(),
    }
}
