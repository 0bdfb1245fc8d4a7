//! One viewer that shows what it sees: events as JSON lines, the SDP, the elementary stream, the packets for another program.

use std::fs;
use std::io::{self, Write};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::clock::Moment;
use crate::crowd::{Crowd, Progress, Roster};
use crate::drops::{self, HostDrops};
use crate::elementary::Elementary;
use crate::interrupt::Interrupt;
use crate::nal::Codec;
use crate::process::Usage;
use crate::session::Transmit;
use crate::summary::{Findings, Run, Summary, Window};
use crate::viewer::{Observer, Plan};

/// What is asked of a watch.
pub struct Watch {
    /// What the viewer is.
    pub plan: Plan,
    /// What the summary says of it.
    pub run: Run,
    /// Where each SDP goes, the newest over the last.
    pub sdp_out: Option<PathBuf>,
    /// Where the elementary stream goes.
    pub out: Option<Elementary>,
    /// The port on loopback that each packet goes on to.
    pub forward: Option<u16>,
    /// Where events go.
    pub events: Box<dyn Write>,
    /// When to end, beside an interrupt.
    pub seconds: Option<Duration>,
    /// The same, in packets received.
    pub packets: Option<u64>,
}

/// Runs it to its end, an interrupt, or the session's end.
///
/// # Errors
/// When a socket or file cannot be had.
pub fn run(watch: Watch, interrupt: &Interrupt) -> Result<Summary> {
    let begin = Moment::now();
    let roster =
        Roster { first: 0, stride: 1, count: 1, begin, join_interval: Duration::ZERO, shared_sockets: None };
    let host_before = HostDrops::read();
    let progress = Arc::new(Progress::default());
    let rewrite = watch.forward.or(watch.plan.client_port);
    let screen = Screen {
        begin,
        events: watch.events,
        sdp_out: watch.sdp_out.map(|path| SdpFile { path, port: rewrite }),
        out: watch.out,
        forward: watch.forward.map(Forward::new).transpose()?,
        media: 0,
        failure: None,
    };
    let mut crowd = Crowd::new(Arc::new(watch.plan), roster, Arc::clone(&progress), screen)?;
    crowd.open_window();
    let mut told = false;
    loop {
        crowd.turn(TURN_WAIT_MAX)?;
        let now = Moment::now();
        if !told && progress.joined.load(Ordering::Relaxed) > 0 {
            told = true;
            crowd.observer().tell(now, json!({"event": "first_packet"}));
        }
        if let Some(error) = crowd.observer().failure.take() {
            return Err(error).context("writing what was received");
        }
        let failed = progress.failed.load(Ordering::Relaxed) > 0;
        let long_enough = watch.seconds.is_some_and(|seconds| now.since(begin) >= seconds);
        let enough = watch.packets.is_some_and(|packets| progress.packets.load(Ordering::Relaxed) >= packets);
        if failed || long_enough || enough || interrupt.came() {
            break;
        }
    }
    crowd.close_window();
    crowd.observer().finish();
    let window = Window {
        seconds: Moment::now().since(begin).as_secs_f64(),
        process: Usage::own(),
        ..Window::default()
    };
    let drops = drops::by_port();
    let (outcomes, stillborn, meters) = crowd.finish();
    let host_drops = HostDrops::read().since(host_before);
    Ok(Summary::new(Findings {
        run: watch.run,
        outcomes,
        stillborn,
        meters: vec![meters],
        drops,
        host_drops,
        window,
    }))
}

/// What the viewer's packets and messages are shown on.
struct Screen {
    begin: Moment,
    events: Box<dyn Write>,
    sdp_out: Option<SdpFile>,
    out: Option<Elementary>,
    forward: Option<Forward>,
    media: u64,
    failure: Option<io::Error>,
}

impl Screen {
    fn tell(&mut self, now: Moment, event: Value) {
        let mut line = Map::new();
        line.insert("ms".into(), json!(now.since(self.begin).as_micros() as f64 / 1e3));
        if let Value::Object(fields) = event {
            line.extend(fields);
        }
        let result = writeln!(self.events, "{}", Value::Object(line)).and_then(|()| self.events.flush());
        self.note(result);
    }

    fn show_sdp(&mut self, sdp: &str) {
        if let (Some(codec), Some(out)) = (Codec::of_sdp(sdp), &mut self.out) {
            out.set_codec(codec);
        }
        if let Some(file) = &self.sdp_out {
            let result = file.write(sdp);
            self.note(result);
        }
    }

    fn finish(&mut self) {
        let Some(out) = &self.out else { return };
        let (units, dropped) = out.counts();
        self.tell(Moment::now(), json!({"event": "written", "nal_units": units, "left_out": dropped}));
    }

    fn note(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.failure.get_or_insert(error);
        }
    }
}

impl Observer for Screen {
    fn on_text(&mut self, now: Moment, text: &str) {
        let message: Value =
            serde_json::from_str(text).unwrap_or_else(|_| json!({"type": "garbage", "text": text}));
        if let Some(sdp) = message["sdp"].as_str() {
            self.show_sdp(sdp);
        }
        let mut event = json!({"event": message["type"]});
        if let (Value::Object(event), Value::Object(fields)) = (&mut event, message) {
            event.extend(fields.into_iter().filter(|(name, _)| name != "type"));
        }
        self.tell(now, event);
    }

    fn on_transmit(&mut self, now: Moment, transmit: &Transmit) {
        let event = match transmit {
            Transmit::Text(text) => json!({"event": "sent", "text": text}),
            Transmit::Binary(bytes) => json!({"event": "sent", "binary_bytes": bytes.len()}),
            Transmit::Datagram(bytes) => json!({"event": "sent", "datagram": String::from_utf8_lossy(bytes)}),
        };
        self.tell(now, event);
    }

    fn on_media(&mut self, bytes: &[u8]) {
        self.media += 1;
        if let Some(forward) = &self.forward {
            forward.send(bytes);
        }
        if let Some(out) = &mut self.out {
            let result = out.handle_packet(bytes);
            self.note(result);
        }
    }

    fn on_end(&mut self, now: Moment, cause: &str) {
        self.tell(now, json!({"event": "end", "cause": cause}));
    }
}

/// A file that always holds one whole SDP.
struct SdpFile {
    path: PathBuf,
    /// What `m=` is to name instead of its own port.
    port: Option<u16>,
}

impl SdpFile {
    /// Writes beside it and renames, so that nobody reads half of it.
    fn write(&self, sdp: &str) -> io::Result<()> {
        let text = self.port.map_or_else(|| sdp.to_owned(), |port| with_port(sdp, port));
        let beside = beside(&self.path);
        fs::write(&beside, text)?;
        fs::rename(&beside, &self.path)
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn with_port(sdp: &str, port: u16) -> String {
    let line = |line: &str| match line.strip_prefix("m=video ").and_then(|rest| rest.split_once(' ')) {
        Some((_, rest)) => format!("m=video {port} {rest}\r\n"),
        None => format!("{line}\r\n"),
    };
    sdp.lines().map(line).collect()
}

/// Another program on this machine that gets each packet.
struct Forward {
    socket: UdpSocket,
    port: u16,
}

impl Forward {
    fn new(port: u16) -> io::Result<Self> {
        Ok(Self { socket: UdpSocket::bind(("127.0.0.1", 0))?, port })
    }

    /// Whether anybody listens is not known, and need not be.
    fn send(&self, bytes: &[u8]) {
        let _ = self.socket.send_to(bytes, ("127.0.0.1", self.port));
    }
}

const TURN_WAIT_MAX: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_media_port_of_an_sdp_is_rewritten() {
        let sdp = "v=0\r\nm=video 0 RTP/AVP 96\r\na=sendonly\r\n";
        assert_eq!(with_port(sdp, 5004), "v=0\r\nm=video 5004 RTP/AVP 96\r\na=sendonly\r\n");
    }
}
