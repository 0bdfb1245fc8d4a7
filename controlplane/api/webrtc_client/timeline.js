// What is recorded of a stream, drawn over time, with the picture's place in it, and the controls to go elsewhere.
// What a session plays is known by `Playback`; sessions are the player's.

import { call, serverNow, streamPath } from "./api.js";
import { element, setText } from "./dom.js";
import { EDGE_MS, Playback } from "./playback.js";

// How often the cursor moves, and how often the server is asked what is recorded.
const DRAW_MS = 250;
const REFRESH_MS = 5000;
const MINUTE_MS = 60_000;
// Share of the window beyond now, so that the live edge can be seen.
const MARGIN = 0.02;
// What a mark's words take.
const WORDS_PIXELS = 76;
// A slider's value is read out when it changes: seldom.
const SAY_MS = 10_000;

const buttons = (id) => [...element(id).querySelectorAll("button")];

export class Timeline {
  // `playFrom(unixMs)`: starts a session in the past, `null`: live. `known`: what tests may read.
  constructor({ playFrom, known }) {
    this.playFrom = playFrom;
    this.known = known;
    this.stream = null;
    this.windowMs = 60 * MINUTE_MS;
    // The window's end when it was panned; `null`: it follows the picture.
    this.pannedTo = null;
    this.recorded = NOTHING;
    this.asked = 0;
    // Where the pointer drags to.
    this.dragMs = null;
    this.playback = new Playback({ changed: () => this.show(), failed: (refusal) => this.problem(refusal) });
    this.listen();
    setInterval(() => this.show(), DRAW_MS);
    setInterval(() => this.refresh(), REFRESH_MS);
  }

  // ---- What is recorded ---------------------------------------------------------------------------------

  choose(stream) {
    if (stream === this.stream) return;
    this.stream = stream;
    this.recorded = NOTHING;
    this.pannedTo = null;
    this.problem(null);
    this.note("Asking the server …");
    element("timeline").hidden = !stream;
    element("timeline-body").hidden = true;
    this.refresh();
  }

  async refresh() {
    if (!this.stream || document.hidden) return;
    const asked = (this.asked += 1);
    const { start, end } = this.view();
    // Some more than is seen, to pan in.
    const from = Math.floor(start - this.windowMs / 2);
    const to = Math.ceil(Math.min(end + this.windowMs / 2, serverNow()));
    this.range = { from, to };
    try {
      const stream = await (await call(streamPath(this.stream))).json();
      const isRecorded = stream.should_record || stream.recording_start_time !== null;
      const path = `${streamPath(this.stream)}/recordings?from=${from}&to=${to}`;
      const recorded = isRecorded ? await (await call(path)).json() : null;
      if (asked === this.asked) this.know(recorded, stream);
    } catch (refusal) {
      if (asked === this.asked) this.refused(refusal);
    }
  }

  // `recorded`: `null` where nothing of the stream is, and nothing will be.
  know(recorded, stream) {
    this.recorded = recorded ?? NOTHING;
    element("timeline-body").hidden = recorded === null;
    const spans = this.recorded.spans.length;
    if (recorded === null) this.note(NOT_RECORDED);
    else if (recorded.truncated) this.note(`Only the first ${spans} pieces are shown: choose a shorter time.`);
    else if (spans > 0) this.note(null);
    else this.note(`Nothing is recorded at this time.${stream.should_record ? "" : " The stream is not being recorded now."}`);
    this.show();
  }

  refused(refusal) {
    if (refusal.code === "not_recorded") return this.know(null);
    this.note(`What is recorded is not known: ${refusal.message}`);
  }

  // ---- Where to --------------------------------------------------------------------------------------------

  goTo(unixMs) {
    this.pannedTo = null;
    this.problem(null);
    const isLive = unixMs > serverNow() - EDGE_MS;
    if (this.playback.session === null) return this.playFrom(isLive ? null : Math.floor(unixMs));
    return isLive ? this.playback.live() : this.playback.seek(Math.max(0, Math.floor(unixMs)));
  }

  jump(ms) {
    return this.goTo((this.playback.aimMs ?? serverNow()) + ms);
  }

  setSpeed(speed) {
    this.problem(null);
    if (this.playback.session !== null) this.playback.setSpeed(speed);
  }

  togglePause() {
    this.setSpeed(this.playback.isPaused ? 1 : 0);
  }

  // By a share of the window. At its newest end a live picture is followed again.
  pan(share) {
    const to = this.view().end + share * this.windowMs;
    this.pannedTo = to >= this.newestEnd() ? null : Math.max(to, this.windowMs);
    if (this.pannedTo === null && this.playback.isRewound) this.pannedTo = this.newestEnd();
    this.show();
    this.refresh();
  }

  zoom(windowMs) {
    const { start, end } = this.view();
    if (this.pannedTo !== null) this.pannedTo = Math.min((start + end + windowMs) / 2, this.newestEnd(windowMs));
    this.windowMs = windowMs;
    this.show();
    this.refresh();
  }

  newestEnd(windowMs = this.windowMs) {
    return serverNow() + MARGIN * windowMs;
  }

  // What is shown: up to now while the picture's time is within, else around that time.
  view() {
    if (this.held) return this.held;
    let end = this.pannedTo ?? this.newestEnd();
    const position = this.playback.aimMs;
    if (this.pannedTo === null && position !== null && position < end - this.windowMs * (1 - MARGIN)) {
      // In steps, so that it stands still while the picture moves.
      const step = this.windowMs / 4;
      end = Math.min((Math.floor(position / step) + 3) * step, end);
    }
    return { start: end - this.windowMs, end };
  }

  // ---- Drawing ---------------------------------------------------------------------------------------------

  show() {
    if (!this.stream || document.hidden) return this.tellTests();
    this.showPosition();
    if (!element("timeline-body").hidden) this.draw();
    this.tellTests();
  }

  draw() {
    const view = this.view();
    if (view.start < this.range.from || Math.min(view.end, serverNow()) > this.range.to + 2 * REFRESH_MS) this.refresh();
    const share = (unixMs) => percent((unixMs - view.start) / this.windowMs);
    this.drawStill(view, share);
    const position = this.playback.aimMs;
    place(element("cursor"), position, view, share);
    place(element("pointer"), this.dragMs ?? this.hoverMs, view, share);
    element("pointer").classList.toggle("dragged", this.dragMs !== null);
    place(element("edge"), serverNow(), view, share);
    this.sayPosition(view, position);
    element("later").disabled = view.end >= this.newestEnd() - 1;
  }

  // What moves by less than a pixel is left as it is.
  drawStill(view, share) {
    const pixelMs = this.windowMs / Math.max(element("track").clientWidth, 1);
    const drawn = [this.recorded, pixelMs, Math.round(view.start / pixelMs)];
    if (this.drawn?.every((part, index) => part === drawn[index])) return;
    this.drawn = drawn;
    const { spans, gaps } = this.recorded;
    this.drawBars("spans", spans, { y: 22, height: 26, leastMs: pixelMs }, view, share);
    this.drawBars("gaps", gaps, { y: 33, height: 4, leastMs: 2 * pixelMs }, view, share);
    this.drawMarks(pixelMs, view, share);
  }

  drawBars(id, times, { y, height, leastMs }, view, share) {
    const bars = merged(times, leastMs).filter(({ start, end }) => end > view.start && start < view.end);
    const bar = ({ start, end }) => {
      const node = svg("rect", { x: share(start), y, width: percent(Math.max(end - start, leastMs) / this.windowMs), height });
      const title = svg("title", {});
      title.textContent = `${clockTime(start)} to ${clockTime(end)}`;
      node.append(title);
      return node;
    };
    element(id).replaceChildren(...bars.map(bar));
  }

  drawMarks(pixelMs, view, share) {
    const words = this.windowMs > 1440 * MINUTE_MS ? DAY : MINUTES;
    const wordsMs = WORDS_PIXELS * pixelMs;
    const mark = (unixMs) => {
      const x = share(unixMs);
      const line = svg("line", { x1: x, x2: x, y1: 48, y2: 54 });
      if (Math.min(unixMs - view.start, view.end - unixMs) < wordsMs / 2) return [line];
      const text = svg("text", { x, y: 66, "text-anchor": "middle" });
      text.textContent = words.format(unixMs);
      return [line, text];
    };
    element("marks").replaceChildren(...roundTimes(view, Math.max(this.windowMs / 6, wordsMs)).flatMap(mark));
  }

  showPosition() {
    const { playback } = this;
    const position = playback.aimMs;
    const known = position !== null;
    setText(element("position-time"), known ? clockTime(position) : "");
    if (known) element("position-time").dateTime = new Date(position).toISOString();
    setText(element("position-how"), known ? this.how(position) : "");
    for (const button of buttons("speeds")) {
      const speed = Number(button.dataset.speed);
      button.disabled = !known;
      press(button, known && speed === playback.mode.speed);
      if (speed === 0) setText(button, playback.isPaused ? "Resume" : "Pause");
    }
    for (const button of buttons("windows")) press(button, Number(button.dataset.minutes) * MINUTE_MS === this.windowMs);
    press(element("live"), known && playback.mode.is_live);
  }

  how(position) {
    const { target, mode, isPaused } = this.playback;
    if (target === "live") return "going live …";
    if (target !== null) return "going there …";
    if (mode.is_live) return "live";
    const ago = `${duration(serverNow() - position)} ago`;
    if (isPaused) return `paused, ${ago}`;
    return mode.speed === 1 ? `recorded, ${ago}` : `recorded, ${ago}, at ${mode.speed}×`;
  }

  // For who does not see the cursor.
  sayPosition(view, position) {
    if (position === null) return;
    const { mode, target } = this.playback;
    const state = `${mode.is_live} ${mode.speed} ${target}`;
    if (this.said === state && performance.now() - this.saidAt < SAY_MS) return;
    this.said = state;
    this.saidAt = performance.now();
    const track = element("track");
    const seconds = (unixMs) => String(Math.round(unixMs / 1000));
    track.setAttribute("aria-valuemin", seconds(view.start));
    track.setAttribute("aria-valuemax", seconds(view.end));
    track.setAttribute("aria-valuenow", seconds(position));
    track.setAttribute("aria-valuetext", `${clockTime(position)}, ${this.how(position)}`);
  }

  note(text) {
    element("timeline-note").hidden = !text;
    setText(element("timeline-note"), text ?? "");
    this.tellTests();
  }

  problem(refusal) {
    const text = refusal === null ? null : inWords(refusal);
    element("timeline-problem").hidden = !text;
    setText(element("timeline-problem"), text ?? "");
    this.known.problem = text;
  }

  tellTests() {
    const { mode, positionMs, target } = this.playback;
    const { spans, gaps } = this.recorded;
    const note = element("timeline-note").textContent || null;
    Object.assign(this.known, { mode, positionMs, target, spans, gaps, note, windowMs: this.windowMs });
  }

  // ---- What the user does -----------------------------------------------------------------------------------

  listen() {
    const click = (button, act) => button.addEventListener("click", () => act(button.dataset));
    for (const button of buttons("windows")) click(button, ({ minutes }) => this.zoom(Number(minutes) * MINUTE_MS));
    for (const button of buttons("jumps")) click(button, ({ seconds }) => this.jump(Number(seconds) * 1000));
    for (const button of buttons("speeds")) {
      click(button, ({ speed }) => (speed === "0" ? this.togglePause() : this.setSpeed(Number(speed))));
    }
    click(element("live"), () => this.goTo(serverNow()));
    click(element("earlier"), () => this.pan(-0.5));
    click(element("later"), () => this.pan(0.5));
    element("go-to").addEventListener("submit", (event) => {
      event.preventDefault();
      this.goTo(new Date(element("go-to-time").value).getTime());
    });
    document.addEventListener("visibilitychange", () => this.refresh());
    const track = element("track");
    track.addEventListener("keydown", (event) => this.key(event));
    track.addEventListener("pointerdown", (event) => this.grab(event));
    track.addEventListener("pointermove", (event) => this.move(event));
    track.addEventListener("pointerup", () => this.release(true));
    track.addEventListener("pointercancel", () => this.release(false));
    track.addEventListener("pointerleave", () => this.hover(null));
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const step = event.shiftKey ? MINUTE_MS : 10_000;
    const acts = {
      ArrowLeft: () => this.jump(-step),
      ArrowRight: () => this.jump(step),
      ArrowDown: () => this.jump(-step),
      ArrowUp: () => this.jump(step),
      PageUp: () => this.pan(-0.5),
      PageDown: () => this.pan(0.5),
      Home: () => this.goTo(this.view().start),
      End: () => this.goTo(serverNow()),
      " ": () => this.togglePause(),
      Escape: () => this.release(false),
    };
    if (!acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  }

  grab(event) {
    if (event.button !== 0) return;
    event.currentTarget.setPointerCapture(event.pointerId);
    // It stands still under the pointer.
    this.held = this.view();
    this.dragMs = this.timeAt(event);
    this.hover(this.dragMs);
  }

  move(event) {
    const unixMs = this.timeAt(event);
    if (this.dragMs !== null) this.dragMs = unixMs;
    this.hover(unixMs);
  }

  release(go) {
    if (this.dragMs === null) return;
    const unixMs = this.dragMs;
    this.dragMs = null;
    this.held = null;
    if (go) this.goTo(unixMs);
    this.show();
  }

  hover(unixMs) {
    this.hoverMs = unixMs;
    if (unixMs !== null) setText(element("pointer").querySelector("text"), clockTime(unixMs));
    this.show();
  }

  timeAt(event) {
    const box = element("track").getBoundingClientRect();
    const share = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
    return this.view().start + share * this.windowMs;
  }
}

// ---- Words and times ---------------------------------------------------------------------------------------

const NOTHING = { spans: [], gaps: [] };
const NOT_RECORDED = "This stream is not recorded.";

const SAYINGS = {
  not_recorded: "Nothing is recorded there or later; the session plays what it played.",
  session_is_live: "What is live cannot go faster or slower: go back in time first.",
};

function inWords(refusal) {
  const saying = SAYINGS[refusal.code];
  return saying ? `${saying} (${refusal.code}, HTTP ${refusal.status})` : refusal.message;
}

const format = (options) => new Intl.DateTimeFormat("en-GB", options);
const CLOCK = format({ day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short" });
const MINUTES = format({ hour: "2-digit", minute: "2-digit" });
const DAY = format({ weekday: "short", day: "numeric", month: "short" });

const clockTime = (unixMs) => CLOCK.format(unixMs);

function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const parts = [[86_400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([unit]) => seconds >= unit);
  if (first < 0) return "0 s";
  const counts = parts.slice(first, first + 2).map(([unit, name], index) => {
    const left = index === 0 ? seconds : seconds % parts[first][0];
    return [Math.floor(left / unit), name];
  });
  return counts.filter(([count]) => count > 0).map(([count, name]) => `${count} ${name}`).join(" ");
}

// Distances of marks, in minutes.
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 240, 360, 720, 1440];

// Times within the view that are round where the user lives; daylight saving or not.
function roundTimes({ start, end }, leastMs) {
  const step = STEPS.find((minutes) => minutes * MINUTE_MS >= leastMs) ?? STEPS.at(-1);
  const first = new Date(start);
  const times = [];
  for (let minutes = 0; times.length < 50; minutes += step) {
    const time = new Date(first.getFullYear(), first.getMonth(), first.getDate(), 0, minutes).getTime();
    if (time > end) return times;
    if (time >= start && time !== times.at(-1)) times.push(time);
  }
  return times;
}

// ---- Shapes ------------------------------------------------------------------------------------------------

// Those that are nearer than this as one: no more bars than pixels.
function merged(all, leastMs) {
  const bars = [];
  for (const { start, end } of all) {
    const last = bars.at(-1);
    if (last && start - last.end < leastMs) last.end = Math.max(last.end, end);
    else bars.push({ start, end });
  }
  return bars;
}

const percent = (share) => `${(share * 100).toFixed(3)}%`;

function svg(name, attributes) {
  const node = document.createElementNS(element("chart").namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

// Moves a line, or a group's line and what it carries, to a time; out of sight where the time is.
function place(node, unixMs, view, share) {
  const isShown = unixMs !== null && unixMs !== undefined && unixMs >= view.start && unixMs <= view.end;
  node.setAttribute("visibility", isShown ? "visible" : "hidden");
  if (!isShown) return;
  const x = share(unixMs);
  for (const part of [node, ...node.children]) {
    for (const name of { line: ["x1", "x2"], circle: ["cx"] }[part.tagName] ?? []) part.setAttribute(name, x);
    if (part.tagName !== "text") continue;
    const at = (unixMs - view.start) / (view.end - view.start);
    part.setAttribute("x", x);
    part.setAttribute("text-anchor", at < 0.15 ? "start" : at > 0.85 ? "end" : "middle");
  }
}

function press(button, isPressed) {
  if (button.getAttribute("aria-pressed") !== String(isPressed)) button.setAttribute("aria-pressed", String(isPressed));
}
