// Plays one stream by WebRTC and says what can be known of it, and in words what went wrong.
// No library, nothing from elsewhere. Tests read `window.lanecast`.

import { API, Refusal, call, post, streamPath } from "./api.js";
import { element, setText } from "./dom.js";
import { Timeline } from "./timeline.js";

// How often figures are read; those of the server at every second reading.
const TICK_MS = 1000;
// A silence that is worth a word, and one that ends the attempt.
const QUIET_MS = 3000;
const GIVE_UP_MS = 10_000;
// Pause before another attempt: doubled each time, forgotten after pictures for a while.
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;
const STEADY_MS = 5000;
// Streams listed as buttons, lines kept of what happened, figures shown of what the server says.
const LISTED = 100;
const LOGGED = 100;
const SERVER_FIGURES = 80;

const video = element("video");

// What the page knows, for the page and for tests.
// state: idle · connecting · playing · paused · stalled · waiting (for the next attempt) · failed
const lanecast = {
  state: "idle",
  stream: null,
  protocol: null,
  sessionId: null,
  attempts: 0,
  firstFrameMs: null,
  problem: null,
  stats: {},
  timeline: {},
};
window.lanecast = lanecast;

// ---- Signalling ------------------------------------------------------------------------------------------

// Each takes an offer to the server and gives { id, url, answer } of the session.
const signalling = {
  async json(stream, offer) {
    return sessionOf(stream, await post(`${streamPath(stream)}/webrtc`, { offer }));
  },
  async whep(stream, offer) {
    const response = await call(`${streamPath(stream)}/whep`, {
      method: "POST",
      headers: { "content-type": "application/sdp" },
      body: offer,
    });
    const location = response.headers.get("location");
    if (!location) throw new Refusal("The server's WHEP answer names no session (no Location).", { final: true });
    const url = new URL(location, response.url);
    return { id: url.pathname.split("/").pop(), url, answer: await response.text() };
  },
};

// The same for what is recorded, from a time; WHEP knows only live streams.
async function recorded(stream, offer, timestamp) {
  return sessionOf(stream, await post(`${streamPath(stream)}/webrtc/dvr`, { offer, timestamp }));
}

function sessionOf(stream, { session_id: id, answer }) {
  return { id, url: new URL(`${streamPath(stream)}/webrtc/${id}`, API), answer };
}

function endSession(session) {
  // Also while the page goes away; the session may be gone already.
  fetch(session.url, { method: "DELETE", keepalive: true }).catch(() => {});
}

// ---- One attempt: offer, answer, connection, pictures ----------------------------------------------------

class Attempt {
  constructor(player, startedAt) {
    this.player = player;
    this.startedAt = startedAt;
    this.lastPictureAt = performance.now();
    this.firstPictureAt = null;
    this.framesDecoded = 0;
    this.ticks = 0;
    this.ended = false;
  }

  async start() {
    try {
      await this.connect();
    } catch (error) {
      this.fail(error instanceof Refusal ? error : new Refusal(`The browser cannot: ${error.message}`, { final: true }));
    }
  }

  async connect() {
    const pc = (this.pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" }));
    pc.addTransceiver("video", { direction: "recvonly" });
    pc.addEventListener("track", ({ track }) => this.show(track));
    pc.addEventListener("connectionstatechange", () => this.connectionChanged());
    this.timer = setInterval(() => this.tick(), TICK_MS);
    await pc.setLocalDescription(await pc.createOffer());
    // Our candidates are not waited for: the server learns our address from our checks.
    if (this.ended) return;
    this.note("Offer made");
    const { sdp } = pc.localDescription;
    const { from } = this.player;
    const offer = from === null ? signalling[lanecast.protocol](lanecast.stream, sdp) : recorded(lanecast.stream, sdp, from);
    const session = await offer;
    if (this.ended) return endSession(session);
    this.session = session;
    lanecast.sessionId = session.id;
    playback.attach(session.id, from);
    this.note("Answer of the server");
    await pc.setRemoteDescription({ type: "answer", sdp: session.answer });
    const transport = pc.getReceivers()[0]?.transport;
    transport?.addEventListener("statechange", () => this.transportChanged(transport.state));
  }

  show(track) {
    video.srcObject = new MediaStream([track]);
    const first = (now) => this.firstPicture(now);
    if (video.requestVideoFrameCallback) this.frameCallback = video.requestVideoFrameCallback(first);
    // A hidden page presents no frames, and some browsers cannot tell when they do.
    if (!this.frameCallback || document.hidden) {
      video.addEventListener("loadeddata", () => first(performance.now()), { once: true });
    }
    video.play().catch((error) => {
      if (error.name === "NotAllowedError") this.player.say("The browser wants a click on the picture to play it.");
    });
  }

  firstPicture(now) {
    if (this.ended || this.firstPictureAt !== null) return;
    this.firstPictureAt = this.lastPictureAt = now;
    this.note("First picture");
    this.player.playing(Math.round(now - this.startedAt));
  }

  connectionChanged() {
    if (this.ended) return;
    const state = this.pc.connectionState;
    this.note(`Connection: ${state}`);
    if (state === "failed") this.fail(new Refusal(this.whyNotConnected()));
  }

  transportChanged(state) {
    if (this.ended) return;
    if (state === "failed") this.fail(new Refusal(this.whyNotConnected()));
    if (state === "closed") this.fail(new Refusal("The server ended the session."));
  }

  whyNotConnected() {
    const pc = this.pc;
    const dtls = pc.getReceivers()[0]?.transport?.state;
    const offered = candidates(this.session?.answer ?? "").join(", ") || "nowhere: its answer has no candidate";
    if (["connected", "completed"].includes(pc.iceConnectionState) || dtls === "failed") {
      return "DTLS failed: the server was reached, but no encrypted connection came about.";
    }
    if (this.firstPictureAt !== null) return "ICE failed: the path to the server was lost.";
    return `ICE failed: no path to the server. It can be reached at ${offered}. Is a firewall between, or an address missing?`;
  }

  async tick() {
    if (this.busy || this.ended) return;
    this.busy = true;
    try {
      await this.readFigures();
      if (this.ticks % 2 === 0) await this.askServer();
      this.ticks += 1;
      if (!this.ended) this.judge();
    } finally {
      this.busy = false;
    }
  }

  async readFigures() {
    const report = await this.pc.getStats();
    if (this.ended) return;
    const { stats, sums } = figures(report, this.pc, this.sums);
    this.sums = sums;
    if ((stats.framesDecoded ?? 0) > this.framesDecoded) this.lastPictureAt = performance.now();
    this.framesDecoded = stats.framesDecoded ?? 0;
    Object.assign(lanecast.stats, stats);
    showFigures(lanecast);
  }

  // The stream's state and the session's counters.
  async askServer() {
    const [stream, session] = await Promise.allSettled([
      call(streamPath(lanecast.stream)).then((response) => response.json()),
      this.session && call(`client-session-control/${this.session.id}/statistics`).then((response) => response.json()),
    ]);
    if (this.ended) return;
    this.serverProblem = stream.reason ?? null;
    if (session.reason?.code === "unknown_session") this.serverProblem ??= new Refusal("The server has no such session any more.");
    lanecast.stats.stream = stream.value ?? null;
    lanecast.stats.server = session.value ?? null;
    showFigures(lanecast);
  }

  // Says what a lack of pictures is due to, and ends what will not get better by waiting.
  judge() {
    if (playback.isPaused && !this.serverProblem) {
      this.lastPictureAt = performance.now();
      return this.player.paused();
    }
    const quietMs = performance.now() - this.lastPictureAt;
    if (quietMs < QUIET_MS) {
      if (this.firstPictureAt !== null) this.player.flowing(performance.now() - this.firstPictureAt > STEADY_MS);
      return;
    }
    if (this.serverProblem) return this.fail(this.serverProblem);
    const stream = lanecast.stats.stream;
    const silent = `No picture for ${Math.round(quietMs / 1000)} s`;
    const connected = this.pc.connectionState === "connected";
    // What is recorded comes from no camera, and far between at a high speed: only keyframes of long GOPs.
    if (connected && playback.isRewound) return this.player.stalled(`${silent} of what is recorded: ${this.whyNoPicture()}`);
    if (connected && stream && stream.state !== "Active") {
      const reason = stream.state_reason ? `: ${stream.state_reason}` : "";
      return this.player.stalled(`${silent}. The stream is ${stream.state}${reason}`);
    }
    const why = connected ? `${silent}: ${this.whyNoPicture()}` : this.whyNotConnected();
    if (quietMs > GIVE_UP_MS) return this.fail(new Refusal(why));
    if (connected) this.player.stalled(why);
  }

  whyNoPicture() {
    const { bitrateBps, packetsReceived } = lanecast.stats;
    if (!packetsReceived) return "connected, but nothing has come from the server.";
    if (!bitrateBps) return "nothing comes from the server any more.";
    return "packets come, but the browser makes no picture of them.";
  }

  note(what) {
    log(`${what} (${Math.round(performance.now() - this.startedAt)} ms)`);
  }

  fail(refusal) {
    if (this.ended) return;
    // The next attempt goes on where this one was.
    if (this.session) this.player.from = playback.isRewound ? Math.floor(playback.positionMs) : null;
    this.end();
    this.player.failed(refusal);
  }

  end() {
    this.ended = true;
    clearInterval(this.timer);
    if (this.frameCallback) video.cancelVideoFrameCallback(this.frameCallback);
    this.pc?.close();
    video.srcObject = null;
    playback.detach();
    if (this.session) endSession(this.session);
    lanecast.sessionId = null;
  }
}

// `address:port/protocol` of the candidates in a description.
function candidates(sdp) {
  const lines = sdp.split(/\r?\n/).filter((line) => line.startsWith("a=candidate:"));
  return lines.map((line) => line.split(" ")).map((fields) => endpoint(fields[4], fields[5], fields[2]));
}

function endpoint(address, port, protocol) {
  // Browsers hide their own address.
  const host = address?.includes(":") ? `[${address}]` : address || "hidden";
  return `${host}:${port}/${protocol.toLowerCase()}`;
}

// ---- The player: attempts until one goes, and what the user is told ---------------------------------------

const player = {
  attempt: null,
  pauseMs: FIRST_PAUSE_MS,
  // Where an attempt starts: Unix ms, `null`: live.
  from: null,

  play(stream, protocol, from = null) {
    const clickedAt = performance.now();
    this.stop();
    Object.assign(lanecast, { stream, protocol, attempts: 0 });
    this.from = from;
    timeline.choose(stream);
    this.pauseMs = FIRST_PAUSE_MS;
    this.problem(null);
    element("stop").disabled = element("full").disabled = false;
    remember(stream, protocol);
    this.try(clickedAt);
  },

  try(startedAt = performance.now()) {
    lanecast.attempts += 1;
    Object.assign(lanecast, { firstFrameMs: null, stats: {} });
    this.enter("connecting", `Connecting to ${lanecast.stream} …`);
    this.attempt = new Attempt(this, startedAt);
    this.attempt.start();
  },

  stop() {
    clearTimeout(this.retry);
    if (this.attempt && !this.attempt.ended) this.attempt.end();
    this.attempt = null;
    if (lanecast.state === "idle") return;
    element("stop").disabled = element("full").disabled = true;
    this.problem(null);
    this.enter("idle", "Stopped.");
    listStreams();
  },

  playing(afterMs) {
    lanecast.firstFrameMs = afterMs;
    this.flowing(false);
  },

  flowing(steady) {
    if (steady) this.pauseMs = FIRST_PAUSE_MS;
    if (lanecast.state === "playing") return;
    this.problem(null);
    this.enter("playing", `Playing ${lanecast.stream}. First picture after ${lanecast.firstFrameMs} ms.`);
  },

  paused() {
    if (lanecast.state === "paused") return;
    this.problem(null);
    this.enter("paused", `Paused ${lanecast.stream}.`);
  },

  stalled(why) {
    this.problem(why);
    this.enter("stalled", `Waiting for pictures of ${lanecast.stream} …`);
  },

  failed(refusal) {
    this.problem(refusal.message);
    if (refusal.final) return this.enter("failed", `${lanecast.stream} cannot be played.`);
    // Not all pages at the same moment.
    const pauseMs = refusal.pauseMs ?? this.pauseMs * (0.75 + Math.random() / 2);
    this.pauseMs = Math.min(this.pauseMs * 2, LONGEST_PAUSE_MS);
    const seconds = (pauseMs / 1000).toFixed(1);
    this.enter("waiting", `Trying again in ${seconds} s (attempt ${lanecast.attempts + 1}).`);
    this.retry = setTimeout(() => this.try(), pauseMs);
  },

  problem(text) {
    if (text && text !== lanecast.problem) log(text);
    lanecast.problem = text;
    element("problem").hidden = !text;
    setText(element("problem"), text ?? "");
  },

  enter(state, text) {
    lanecast.state = state;
    element("status").dataset.state = state;
    this.say(text);
    document.title = lanecast.stream === null ? "Player · Lanecast" : `${lanecast.stream}: ${state} · Lanecast`;
  },

  say(text) {
    setText(element("status"), text);
  },
};

const timeline = new Timeline({
  playFrom: (from) => player.play(timeline.stream, element("protocol").value, from),
  known: lanecast.timeline,
});
const { playback } = timeline;

// ---- Figures -------------------------------------------------------------------------------------------

// The browser's report as one flat object; `sums` are counters to compare the next report with.
function figures(report, pc, before) {
  const all = [...report.values()];
  const video = all.find((entry) => entry.type === "inbound-rtp" && entry.kind === "video") ?? {};
  const transport = all.find((entry) => entry.type === "transport") ?? {};
  const pair = report.get(transport.selectedCandidatePairId)
    ?? all.find((entry) => entry.type === "candidate-pair" && (entry.selected || (entry.nominated && entry.state === "succeeded")));
  const sums = {
    at: video.timestamp ?? performance.timeOrigin + performance.now(),
    bytes: video.bytesReceived ?? 0,
    frames: video.framesDecoded ?? 0,
    delay: video.jitterBufferDelay ?? 0,
    emitted: video.jitterBufferEmittedCount ?? 0,
  };
  const since = before ?? { ...sums, bytes: 0, frames: 0, delay: 0, emitted: 0, at: sums.at - TICK_MS };
  const seconds = (sums.at - since.at) / 1000;
  const emitted = sums.emitted - since.emitted;
  const stats = {
    connection: pc.connectionState,
    ice: pc.iceConnectionState,
    dtls: transport.dtlsState ?? pc.getReceivers()[0]?.transport?.state,
    dtlsCipher: transport.dtlsCipher,
    srtpCipher: transport.srtpCipher,
    path: path(report, pair),
    roundTripMs: pair?.currentRoundTripTime === undefined ? undefined : pair.currentRoundTripTime * 1000,
    codec: codec(report.get(video.codecId)),
    ssrc: video.ssrc,
    decoder: video.decoderImplementation,
    width: video.frameWidth,
    height: video.frameHeight,
    fps: video.framesPerSecond ?? (seconds > 0 ? Math.round((sums.frames - since.frames) / seconds) : undefined),
    framesReceived: video.framesReceived,
    framesDecoded: video.framesDecoded,
    keyFramesDecoded: video.keyFramesDecoded,
    framesDropped: video.framesDropped,
    freezeCount: video.freezeCount,
    freezeSeconds: video.totalFreezesDuration,
    bitrateBps: seconds > 0 ? Math.round(((sums.bytes - since.bytes) * 8) / seconds) : 0,
    packetsReceived: video.packetsReceived,
    packetsLost: video.packetsLost,
    packetsRetransmitted: video.retransmittedPacketsReceived,
    jitterMs: video.jitter === undefined ? undefined : video.jitter * 1000,
    jitterBufferMs: emitted > 0 ? ((sums.delay - since.delay) / emitted) * 1000 : undefined,
    nackCount: video.nackCount,
    pliCount: video.pliCount,
    firCount: video.firCount,
  };
  return { stats, sums: seconds > 0 ? sums : since };
}

function path(report, pair) {
  const local = report.get(pair?.localCandidateId);
  const remote = report.get(pair?.remoteCandidateId);
  if (!remote) return undefined;
  const side = (candidate) => `${endpoint(candidate.address ?? candidate.ip, candidate.port, candidate.protocol)} (${candidate.candidateType})`;
  return { protocol: remote.protocol, local: local ? side(local) : undefined, remote: side(remote) };
}

function codec(entry) {
  if (!entry) return undefined;
  const profile = /profile-level-id=(\w+)/.exec(entry.sdpFmtpLine ?? "")?.[1];
  return `${entry.mimeType.replace("video/", "")}${profile ? ` ${profile}` : ""}`;
}

const round = (value, digits, unit) => (value === undefined ? undefined : `${value.toFixed(digits)} ${unit}`);

function bitrate(bps) {
  if (bps === undefined) return undefined;
  return bps >= 1e6 ? `${(bps / 1e6).toFixed(2)} Mb/s` : `${(bps / 1e3).toFixed(0)} kb/s`;
}

function showFigures({ stats, firstFrameMs }) {
  const { stream, server } = stats;
  show("picture-figures", {
    "First picture": firstFrameMs === null ? undefined : `${firstFrameMs} ms`,
    Resolution: stats.width && `${stats.width} × ${stats.height}`,
    "Pictures a second": stats.fps,
    Decoded: stats.framesDecoded,
    "Of them keyframes": stats.keyFramesDecoded,
    Dropped: stats.framesDropped,
    Freezes: stats.freezeCount === undefined ? undefined : `${stats.freezeCount} (${(stats.freezeSeconds ?? 0).toFixed(1)} s)`,
    "Jitter buffer": round(stats.jitterBufferMs, 0, "ms"),
    Codec: stats.codec,
    Decoder: stats.decoder,
  });
  show("network-figures", {
    Bitrate: bitrate(stats.bitrateBps),
    "Packets received": stats.packetsReceived,
    "Packets lost": stats.packetsLost,
    "Sent again": stats.packetsRetransmitted,
    NACK: stats.nackCount,
    PLI: stats.pliCount,
    FIR: stats.firCount,
    Jitter: round(stats.jitterMs, 1, "ms"),
    SSRC: stats.ssrc,
    "Round trip": round(stats.roundTripMs, 1, "ms"),
  });
  show("connection-figures", {
    Connection: stats.connection,
    ICE: stats.ice,
    DTLS: stats.dtls,
    Path: stats.path?.protocol,
    Server: stats.path?.remote,
    Browser: stats.path?.local,
    "SRTP cipher": stats.srtpCipher,
    "DTLS cipher": stats.dtlsCipher,
  });
  show("server-figures", {
    Stream: stream ? [stream.state, stream.state_reason].filter(Boolean).join(": ") : "unknown",
    "Viewers of it": stream?.viewers,
    ...Object.fromEntries(flat(server ?? {}).slice(0, SERVER_FIGURES)),
  });
}

// The leaves of what the server says, whatever that is.
function flat(value, name = "") {
  if (value === null || value === undefined) return [];
  if (typeof value !== "object") return [[name.replaceAll("_", " "), value]];
  return Object.entries(value).flatMap(([key, inner]) => flat(inner, name ? `${name} ${key}` : key));
}

function show(id, rows) {
  const list = element(id);
  const wanted = Object.entries(rows).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const terms = new Map([...list.querySelectorAll("dt")].map((term) => [term.textContent, term]));
  let behind = null;
  for (const [name, value] of wanted) {
    const term = terms.get(name) ?? row(list, name, behind);
    terms.delete(name);
    behind = term.nextElementSibling;
    setText(behind, String(value));
  }
  for (const term of terms.values()) {
    term.nextElementSibling.remove();
    term.remove();
  }
}

// A new row behind the one whose value is `behind`, or before all.
function row(list, name, behind) {
  const term = document.createElement("dt");
  term.textContent = name;
  const next = behind ? behind.nextSibling : list.firstChild;
  list.insertBefore(term, next);
  list.insertBefore(document.createElement("dd"), next);
  return term;
}

function log(text) {
  const list = element("log");
  const line = document.createElement("li");
  const time = document.createElement("time");
  time.textContent = new Date().toTimeString().slice(0, 8);
  line.append(time, text);
  list.prepend(line);
  while (list.childElementCount > LOGGED) list.lastElementChild.remove();
}

// ---- The list of streams and the controls ----------------------------------------------------------------

async function listStreams() {
  const note = element("streams-note");
  try {
    const { streams } = await (await call("streams")).json();
    note.hidden = streams.length > 0 && streams.length <= LISTED;
    setText(note, streams.length === 0 ? "The server has no streams yet." : `The first ${LISTED} of ${streams.length}:`);
    element("known").replaceChildren(...streams.map((stream) => new Option("", String(stream.source_id))));
    element("streams").replaceChildren(...streams.slice(0, LISTED).map(streamButton));
  } catch (error) {
    note.hidden = false;
    setText(note, error.message);
  }
}

function streamButton(stream) {
  const id = String(stream.source_id);
  const button = document.createElement("button");
  button.type = "button";
  const state = document.createElement("span");
  state.className = stream.state;
  state.textContent = stream.state;
  const size = stream.width ? `${stream.width}×${stream.height}` : "";
  button.append(`${id} · `, state, ` ${[stream.codec, size].filter(Boolean).join(" ")}`);
  button.title = stream.state_reason ?? "";
  button.addEventListener("click", () => {
    element("stream").value = id;
    player.play(id, element("protocol").value);
  });
  const item = document.createElement("li");
  item.append(button);
  return item;
}

// The address names what is played, to be kept or passed on.
function remember(stream, protocol) {
  const url = new URL(location.href);
  url.searchParams.set("stream", stream);
  if (protocol === "json") url.searchParams.delete("protocol");
  else url.searchParams.set("protocol", protocol);
  history.replaceState(null, "", url);
}

element("controls").addEventListener("submit", (event) => {
  event.preventDefault();
  player.play(element("stream").value, element("protocol").value);
});
element("stop").addEventListener("click", () => player.stop());
element("full").addEventListener("click", () => (video.requestFullscreen ?? video.webkitEnterFullscreen).call(video));
video.addEventListener("click", () => video.play().catch(() => {}));
addEventListener("pagehide", () => player.stop());

const query = new URLSearchParams(location.search);
element("stream").value = query.get("stream") ?? "";
if (query.get("protocol") in signalling) element("protocol").value = query.get("protocol");
element("stream").addEventListener("change", () => {
  if (["idle", "failed"].includes(lanecast.state)) timeline.choose(element("stream").value);
});
timeline.choose(element("stream").value);
listStreams();
if (query.get("autoplay") === "1" && query.get("stream")) player.play(query.get("stream"), element("protocol").value);
