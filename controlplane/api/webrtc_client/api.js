// The server's API: calls that fail in words, and the server's clock.

export const API = new URL("../", document.baseURI);

// An API call that takes longer has failed.
const CALL_MS = 10_000;

// A call that failed, in words. `code`: the API's, `final`: the same again would fail again.
export class Refusal extends Error {
  constructor(message, { status = null, code = null, final = false, pauseMs = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.final = final;
    this.pauseMs = pauseMs;
  }
}

export async function call(path, options = {}) {
  const askedAt = Date.now();
  let response;
  try {
    response = await fetch(new URL(path, API), { cache: "no-store", signal: AbortSignal.timeout(CALL_MS), ...options });
  } catch (error) {
    const late = error.name === "TimeoutError";
    throw new Refusal(late ? `The server gave no answer within ${CALL_MS / 1000} s.` : "The server cannot be reached.");
  }
  compareClocks(response, askedAt);
  if (!response.ok) throw await refusal(response);
  return response;
}

export async function post(path, body) {
  const headers = { "content-type": "application/json" };
  return (await call(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
}

export const streamPath = (stream) => `streams/${encodeURIComponent(stream)}`;

async function refusal(response) {
  const said = await response.json().catch(() => ({}));
  const message = said.message ?? `The server answered ${response.statusText || "with an error"}.`;
  const code = said.error ? `${said.error}, ` : "";
  const again = [408, 409, 425, 429].includes(response.status) || response.status >= 500;
  const pause = Number(response.headers.get("retry-after"));
  return new Refusal(`${message} (${code}HTTP ${response.status})`, {
    status: response.status,
    code: said.error,
    final: !again,
    pauseMs: pause > 0 ? Math.min(pause, 30) * 1000 : null,
  });
}

// How far the server's clock is ahead of ours, at least and at most, by the dates of its answers.
let ahead = { least: -Infinity, most: Infinity };

// A date has whole seconds, and may be as old as another one.
const DATE_MS = 2000;

function compareClocks(response, askedAt) {
  const date = Date.parse(response.headers.get("date") ?? "");
  if (Number.isNaN(date)) return;
  const reading = { least: date - Date.now(), most: date + DATE_MS - askedAt };
  const both = { least: Math.max(ahead.least, reading.least), most: Math.min(ahead.most, reading.most) };
  // They contradict each other when a clock was set.
  ahead = both.least <= both.most ? both : reading;
}

// Now by the server's clock, which recordings go by: ours, unless it is known to be wrong.
export function serverNow() {
  return Date.now() + Math.min(Math.max(0, ahead.least), ahead.most);
}
