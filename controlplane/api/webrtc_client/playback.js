// What one session plays, live or recorded: the mode that the server tells, the time of the picture between two
// tellings, and the commands. What of it is shown does not belong here.

import { call, post, serverNow } from "./api.js";

const POLL_MS = 1000;

export class Playback {
  // `changed` is called after every telling, `failed` with what a command was refused with.
  constructor({ changed, failed }) {
    this.changed = changed;
    this.failed = failed;
    // Raised by every command: the answer to what was asked under another number is old.
    this.turn = 0;
    this.running = false;
    this.clear();
  }

  clear() {
    clearInterval(this.timer);
    this.session = null;
    this.mode = null;
    // Where the command under way leads: Unix ms, or "live"; and the steps of the one that waits for it.
    this.target = null;
    this.next = null;
    this.turn += 1;
  }

  // `from`: where the session starts, `null`: live.
  attach(session, from) {
    this.clear();
    this.session = session;
    this.tell({ is_live: from === null, current_time_ms: from, speed: 1 });
    this.timer = setInterval(() => this.poll(), POLL_MS);
  }

  detach() {
    this.clear();
    this.changed();
  }

  get isRewound() {
    return this.mode !== null && !this.mode.is_live;
  }

  get isPaused() {
    return this.isRewound && this.mode.speed === 0;
  }

  // Wall-clock of the picture in Unix ms; without a session there is none.
  get positionMs() {
    if (this.mode === null) return null;
    if (this.mode.is_live) return serverNow();
    const passedMs = performance.now() - this.toldAt;
    return Math.min(this.mode.current_time_ms + passedMs * this.mode.speed, serverNow());
  }

  // The same, or where a command under way leads.
  get aimMs() {
    return typeof this.target === "number" ? this.target : this.positionMs;
  }

  seek(timestamp) {
    return this.command(timestamp, [["seek", { timestamp }]]);
  }

  live() {
    return this.command("live", [["live", {}]]);
  }

  // A pause or slow motion of what is live starts at this moment of the recording. It does not take the place of a
  // seek that waits.
  setSpeed(speed) {
    const steps = [...(this.next ?? []), ["speed", { speed }]];
    if (!this.mode.is_live || this.target !== null || speed >= 1) return this.command(this.target, steps);
    const timestamp = Math.floor(serverNow()) - EDGE_MS;
    return this.command(timestamp, [["seek", { timestamp }], ...steps]);
  }

  // One after another; a newer one takes the place of the one that waits.
  async command(target, steps) {
    this.turn += 1;
    this.target = target;
    this.next = steps;
    this.changed();
    if (this.running) return;
    this.running = true;
    while (this.next) {
      const taken = this.next;
      this.next = null;
      await this.run(this.turn, this.session, taken);
    }
    this.running = false;
  }

  async run(turn, session, steps) {
    try {
      for (const [verb, body] of steps) {
        if (session !== this.session) return;
        const mode = await post(`client-session-control/${session}/${verb}`, body);
        if (turn === this.turn) this.tell(mode);
      }
      this.finish(turn, null);
    } catch (refusal) {
      this.finish(turn, refusal);
    }
  }

  finish(turn, refusal) {
    if (turn !== this.turn) return;
    // What was asked before may be answered later.
    this.turn += 1;
    this.target = null;
    this.failed(refusal);
    this.changed();
  }

  async poll() {
    if (this.polling || document.hidden) return;
    this.polling = true;
    const turn = this.turn;
    try {
      const mode = await (await call(`client-session-control/${this.session}/mode`)).json();
      if (turn === this.turn) this.tell(mode);
    } catch {
      // A session that is gone is noticed by its connection.
    } finally {
      this.polling = false;
    }
  }

  tell(mode) {
    this.mode = { ...mode, current_time_ms: mode.current_time_ms ?? this.aimMs };
    this.toldAt = performance.now();
    this.changed();
  }
}

// What is newer than this is live.
export const EDGE_MS = 1000;
