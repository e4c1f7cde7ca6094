// The one socket of a page: it never gives up, says what state it is in, and drops what it has seen.
// @ts-check

const WAITS = [500, 1000, 2000, 4000, 8000, 15000];
const SILENCE = 40_000; // The server says something every 15 s; longer means a dead line.
const LONG_HIDDEN = 5 * 60_000;
const CROWDED = 60_000;

/**
 * @typedef {object} Hooks
 * @property {() => number} cursor The newest sequence number that the page has.
 * @property {(message: any) => void} message
 * @property {(state: "live" | "reconnecting" | "refused" | "ended", detail: Detail) => void} state
 * @property {() => void} [slow] Called every 5 s while sockets do not get through.
 *
 * @typedef {{tries: number, since: number, next: number, code: number}} Detail
 */

export class Line {
  /** @param {string} path @param {Hooks} hooks */
  constructor(path, hooks) {
    this.path = path;
    this.hooks = hooks;
    /** @type {WebSocket | null} */
    this.socket = null;
    this.tries = 0;
    this.heard = Date.now();
    this.since = Date.now();
    this.next = 0;
    this.ended = false;
    this.hiddenAt = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    setInterval(() => this.watch(), 5000);
    addEventListener("online", () => this.now());
    addEventListener("pagehide", () => this.drop());
    addEventListener("pageshow", (event) => event.persisted && this.now());
    document.addEventListener("visibilitychange", () => this.turned());
    this.open();
  }

  open() {
    clearTimeout(this.timer);
    if (this.ended || this.socket) return;
    const url = new URL(this.path, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    url.searchParams.set("after", String(this.hooks.cursor()));
    url.searchParams.set("heartbeat", "1");
    /** @type {WebSocket} */
    let socket;
    try {
      socket = new WebSocket(url);
    } catch {
      return this.again(0, 0); // A policy or a proxy's own rule forbids it; polling still works.
    }
    this.socket = socket;
    this.heard = Date.now();
    socket.onmessage = (event) => this.got(socket, event);
    socket.onclose = (event) => this.closed(socket, event.code);
  }

  /** @param {WebSocket} socket @param {MessageEvent} event */
  got(socket, event) {
    if (socket !== this.socket) return;
    this.heard = Date.now();
    if (this.tries || !this.isLive) {
      this.tries = 0;
      this.isLive = true;
      this.say("live");
    }
    const message = JSON.parse(event.data);
    if (message.type === "ping") return;
    if (message.sequence !== undefined && message.type !== "connected" && message.sequence <= this.hooks.cursor()) return;
    this.hooks.message(message);
  }

  /** @param {WebSocket} socket @param {number} code */
  closed(socket, code) {
    if (socket !== this.socket) return;
    this.socket = null;
    if (this.isLive) this.since = Date.now();
    this.isLive = false;
    if (this.ended) return;
    if (code === 4401) location.assign(`/sign-in/?next=${encodeURIComponent(location.pathname + location.search)}`);
    if (code === 4403 || code === 4404) return this.end("refused", code);
    this.again(code === 4429 ? CROWDED : 0, code);
  }

  /** Try again after a while that grows and is never the same. @param {number} least @param {number} code */
  again(least, code) {
    const wait = Math.max(least, WAITS[Math.min(this.tries, WAITS.length - 1)] * (0.7 + Math.random() * 0.6));
    this.tries += 1;
    this.next = Date.now() + wait;
    this.timer = setTimeout(() => this.open(), wait);
    this.say("reconnecting", code);
  }

  /** @param {"live" | "reconnecting" | "refused" | "ended"} state */
  say(state, code = 0) {
    this.hooks.state(state, { tries: this.tries, since: this.since, next: this.next, code });
  }

  now() {
    if (this.ended || (this.socket && this.socket.readyState === WebSocket.OPEN)) return;
    this.drop();
    this.open();
  }

  drop() {
    clearTimeout(this.timer);
    const socket = this.socket;
    this.socket = null;
    if (this.isLive) this.since = Date.now();
    this.isLive = false;
    socket?.close();
  }

  /** @param {"refused" | "ended"} state */
  end(state = "ended", code = 0) {
    this.ended = true;
    this.drop();
    this.say(state, code);
  }

  /** Every 5 s while the page is looked at: is the line silent, is it slow? */
  watch() {
    if (this.ended || document.hidden) return;
    // A socket may die without a word: silent, never opened, or refused without an event.
    const socket = this.socket;
    if (socket && (Date.now() - this.heard > SILENCE || socket.readyState === WebSocket.CLOSED)) {
      this.drop();
      this.again(0, 0);
    }
    if (this.tries >= 3) this.hooks.slow?.();
    if (!this.isLive) this.say("reconnecting");
  }

  /** Timers of a hidden page run once a minute: nothing is decided until it is looked at again. */
  turned() {
    if (document.hidden) {
      this.hiddenAt = Date.now();
      return;
    }
    if (Date.now() - this.hiddenAt > LONG_HIDDEN) this.drop();
    this.heard = Math.max(this.heard, Date.now() - SILENCE / 2);
    this.now();
  }
}

/** Fetch a fragment of this site; a lost session leads to the sign-in page. @param {string} url */
export async function fragment(url) {
  const response = await fetch(url, { headers: { "HX-Request": "true" }, credentials: "same-origin" });
  if (response.redirected && new URL(response.url).pathname.startsWith("/sign-in")) location.assign(response.url);
  if (!response.ok || response.redirected) throw new Error(`status ${response.status}`);
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  return { page, headers: response.headers };
}

let announced = 0;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let announcing;

/** Tell a screen reader what happened: at most once in 5 s, the last one wins. @param {string} text */
export function announce(text) {
  clearTimeout(announcing);
  const wait = Math.max(0, announced + 5000 - Date.now());
  announcing = setTimeout(() => {
    announced = Date.now();
    const place = document.getElementById("announce");
    if (place) place.textContent = text;
  }, wait);
}

/** Swap the tab's icon: `run`, `done` or the plain one. @param {"run" | "done" | ""} state */
export function favicon(state) {
  const link = /** @type {HTMLLinkElement | null} */ (document.getElementById("favicon"));
  if (!link) return;
  link.dataset.plain ??= link.href;
  link.href = (state && link.dataset[state]) || link.dataset.plain;
}
