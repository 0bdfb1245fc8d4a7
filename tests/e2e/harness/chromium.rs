//! A real browser: Chromium without a window, with a profile of its own, driven by its WebDriver server.

use std::ops::Deref;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tempfile::TempDir;

use super::process::Process;
use super::until;
use super::webdriver::WebDriver;

/// No call home, and nothing between a page and its pictures.
const SWITCHES: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    // A machine may have no other interface than loopback.
    "--allow-loopback-in-peer-connection",
    // /dev/shm of a container is too small for pictures.
    "--disable-dev-shm-usage",
    "--window-size=1280,1400",
];

pub struct Chromium {
    driver: WebDriver,
    /// Lives as long as the browser.
    _process: Process,
    profile: TempDir,
}

impl Chromium {
    pub fn start() -> Self {
        let profile = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new("chromedriver");
        let mut process = Process::start("chromedriver", command.arg("--port=0"));
        let port = process.line("its port", |line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        let mut switches: Vec<String> = SWITCHES.iter().map(|&switch| switch.to_owned()).collect();
        switches.push(format!("--user-data-dir={}", profile.path().display()));
        let driver = WebDriver::open(
            port,
            &json!({
                "browserName": "chrome",
                "goog:chromeOptions": { "args": switches },
                "goog:loggingPrefs": { "browser": "ALL" },
            }),
        );
        Self { driver, _process: process, profile }
    }

    /// Processes that have our profile: the browser and its children.
    fn processes(&self) -> Vec<Pid> {
        let profile = self.profile.path().as_os_str().as_encoded_bytes();
        let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let ours = |id: &i32| {
            let command = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            command.windows(profile.len()).any(|part| part == profile)
        };
        ids.filter(ours).map(Pid::from_raw).collect()
    }
}

impl Deref for Chromium {
    type Target = WebDriver;

    fn deref(&self) -> &WebDriver {
        &self.driver
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let console = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.driver.console()));
            eprintln!("---- the browser's console ----\n{}\n----", console.unwrap_or_default().join("\n"));
        }
        self.driver.close();
        // The driver gives the browser a process group of its own: what outlives the session is ended by id.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until("the browser's end", || {
                let left = self.processes();
                for &id in &left {
                    // It may have ended by now.
                    let _ = kill(id, Signal::SIGKILL);
                }
                left.is_empty().then_some(())
            })
        }));
    }
}
