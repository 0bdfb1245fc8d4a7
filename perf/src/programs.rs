//! The programs of a scenario: camera, server, viewers; ended when dropped.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

/// How long a program may take to be ready.
const READY: Duration = Duration::from_secs(20);
/// How long a program may take to say what is waited for: the longest measurement and the joins before it.
const LINE: Duration = Duration::from_secs(120);

/// A running program.
#[derive(Debug)]
pub struct Program {
    child: Child,
    lines: Receiver<String>,
}

impl Program {
    /// Starts a program of this workspace, built beside this one, on the given processors (as `taskset -c`).
    ///
    /// # Errors
    /// When it is not built.
    pub fn start(name: &str, cpus: Option<&str>, arguments: &[&str]) -> anyhow::Result<Self> {
        let path = sibling(name)?;
        let mut command = match cpus {
            Some(cpus) => {
                let mut command = Command::new("taskset");
                command.args(["-c", cpus]).arg(path);
                command
            }
            None => Command::new(path),
        };
        command.args(arguments);
        Self::spawn(command)
    }

    /// Starts any program.
    ///
    /// # Errors
    /// When it is not there.
    pub fn spawn(mut command: Command) -> anyhow::Result<Self> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let (sender, lines) = channel();
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|out| Box::new(out) as _),
            child.stderr.take().map(|out| Box::new(out) as _),
        ];
        for output in outputs.into_iter().flatten() {
            let sender = sender.clone();
            // Ends with the program's output.
            std::thread::spawn(move || {
                BufReader::new(output).lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
            });
        }
        Ok(Self { child, lines })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads its output up to a line that contains `text`.
    ///
    /// # Errors
    /// When its output ends before, or in two minutes.
    pub fn line_with(&self, text: &str) -> anyhow::Result<String> {
        let start = Instant::now();
        while let Ok(line) = self.lines.recv_timeout(LINE.saturating_sub(start.elapsed())) {
            if line.contains(text) {
                return Ok(line);
            }
        }
        bail!("it did not say {text:?}")
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(mut self) -> anyhow::Result<bool> {
        Ok(self.child.wait()?.success())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a camera and gives its URL.
///
/// # Errors
/// When it does not come up.
pub fn camera(cpus: &str, arguments: &[&str]) -> anyhow::Result<(Program, String)> {
    let camera = Program::start("lanecast-camera", Some(cpus), arguments)?;
    let line = camera.line_with("rtsp://")?;
    let mut words = line.split_whitespace();
    let url = words.find(|word| word.starts_with("rtsp://")).context("the camera's URL")?.to_owned();
    Ok((camera, url))
}

/// A server with one shard.
#[derive(Debug)]
pub struct Server {
    program: Program,
    url: String,
    data: tempfile::TempDir,
}

impl Server {
    /// Starts it on free ports.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_on(None)
    }

    /// The same on the given processors (as `taskset -c`).
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_on(cpus: Option<&str>) -> anyhow::Result<Self> {
        Self::start_with(cpus, tempfile::tempdir()?)
    }

    /// The same with its data in a new folder in `folder`; the folder goes with the server.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_in(folder: &Path) -> anyhow::Result<Self> {
        Self::start_with(None, tempfile::Builder::new().prefix("lanecast-").tempdir_in(folder)?)
    }

    fn start_with(cpus: Option<&str>, data: tempfile::TempDir) -> anyhow::Result<Self> {
        let path = data.path().to_str().context("a UTF-8 path")?;
        let arguments =
            ["--http-bind", "127.0.0.1:0", "--wsc-udp-port", "0", "--shards", "1", "--data-dir", path];
        let program = Program::start("lanecast", cpus, &arguments)?;
        let line = program.line_with("listening on http://")?;
        let at = line.find("http://").context("its address")?;
        let url = line[at..].split_whitespace().next().unwrap_or_default().to_owned();
        Ok(Self { program, url, data })
    }

    /// Its base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where its recordings are.
    pub fn recordings(&self) -> PathBuf {
        self.data.path().join("recordings")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Adds a stream and does not wait for it.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn add_stream(&self, id: usize, rtsp_url: &str) -> anyhow::Result<()> {
        let body = serde_json::json!({"source_id": id, "rtsp_url": rtsp_url, "should_record": false});
        let answer = ureq::post(format!("{}/streams", self.url))
            .header("content-type", "application/json")
            .send(body.to_string())?;
        anyhow::ensure!(answer.status() == 201, "{}", answer.status());
        Ok(())
    }

    /// Switches a stream's recording on or off.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn set_recording(&self, id: usize, on: bool) -> anyhow::Result<()> {
        let body = serde_json::json!({"should_record": on});
        let answer = ureq::patch(format!("{}/streams/{id}", self.url))
            .header("content-type", "application/json")
            .send(body.to_string())?;
        anyhow::ensure!(answer.status() == 200, "{}", answer.status());
        Ok(())
    }

    /// From when to when a stream was recorded, UTC ms.
    ///
    /// # Errors
    /// When nothing is recorded.
    pub fn recorded(&self, id: usize) -> anyhow::Result<(i64, i64)> {
        let text =
            ureq::get(format!("{}/streams/{id}/recordings", self.url)).call()?.body_mut().read_to_string()?;
        let view: Value = serde_json::from_str(&text)?;
        let bounds = view["from"].as_i64().zip(view["to"].as_i64());
        bounds.with_context(|| format!("nothing is recorded of {id}"))
    }

    /// Waits until a metric, summed over its labels, is as wanted.
    ///
    /// # Errors
    /// When it is not in 20 s.
    pub fn wait_metric(&self, name: &str, is_wanted: impl Fn(f64) -> bool) -> anyhow::Result<()> {
        let start = Instant::now();
        while start.elapsed() < READY {
            if is_wanted(self.metric(name)?) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("{name} stays at {}", self.metric(name)?)
    }

    /// Waits until `count` streams have pictures.
    ///
    /// # Errors
    /// When they have not in 20 s.
    pub fn wait_active(&self, count: usize) -> anyhow::Result<()> {
        let start = Instant::now();
        while start.elapsed() < READY {
            let text = ureq::get(format!("{}/streams", self.url)).call()?.body_mut().read_to_string()?;
            let view: Value = serde_json::from_str(&text)?;
            let streams = view["streams"].as_array().context("a list of streams")?;
            if streams
                .iter()
                .filter(|stream| stream["state"] == "Active" && !stream["codec"].is_null())
                .count()
                >= count
            {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("the streams have no pictures")
    }

    /// Sum of a metric over all its labels.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = ureq::get(format!("{}/metrics", self.url)).call()?.body_mut().read_to_string()?;
        let values = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        Ok(values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }
}

fn sibling(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    anyhow::ensure!(path.exists(), "{name} is not built: cargo build --release --workspace --bins");
    Ok(path)
}
