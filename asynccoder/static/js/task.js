// The task page: rows come as HTML from the server; this writes counters and unfinished text only.
// @ts-check
import { announce, favicon, fragment, Line } from "./live.js";

const ROWS_KEPT = 300;
const GAP = 250; // At most one request for rows in so many milliseconds.
const STREAM_KEPT = 20_000;
const NEAR = 80;
const ENDS = ["completion", "error"];
const CHANGES_PANE = ["checkpoint.made", "check.finished"];

/** @param {string} id */
const at = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
const feed = at("feed");
const rows = at("rows");
const title = document.title.replace(/^[^·]*· /, "");
const task = feed.dataset.task ?? "";

let cursor = Number(feed.dataset.cursor);
let known = cursor; // The newest sequence number heard of.
let over = ["completed", "failed", "cancelled"].includes(feed.dataset.status ?? "");
let fetching = false;
let fetched = 0;
let unseen = 0;
let lastEvent = Date.now();
/** @type {{sequence: number, text: string}[]} */
let pending = [];
let painting = false;
const tail = at("tail");
const tailText = at("stream-text");
const streamed = /** @type {HTMLElement} */ (tail.parentElement);

// --- Following: stay at the end only while the reader is there ----------------------------------
const wide = matchMedia("(min-width: 70rem) and (min-height: 38rem)");
const scroller = () => (wide.matches ? feed : /** @type {HTMLElement} */ (document.scrollingElement));
const atEnd = () => {
  const box = scroller();
  return box.scrollHeight - box.scrollTop - box.clientHeight < NEAR;
};

function follow() {
  unseen = 0;
  at("latest").hidden = true;
  const box = scroller();
  box.scrollTop = box.scrollHeight;
}

/** Change the timeline, then keep the reader's place. @param {() => number} change How many new rows. */
function keepingPlace(change) {
  const stays = atEnd() && feed.offsetParent !== null;
  const added = change();
  if (stays) return follow();
  unseen += added;
  at("latest").hidden = !unseen;
  at("latest-text").textContent = `${unseen} new`;
}
addEventListener("scroll", () => { if (atEnd()) { unseen = 0; at("latest").hidden = true; } }, { capture: true, passive: true });
at("follow").addEventListener("click", follow);
document.addEventListener("keydown", (event) => {
  const inField = /** @type {HTMLElement} */ (event.target).closest("input, textarea, select");
  if (event.key === "." && !inField && !event.ctrlKey && !event.metaKey) follow();
});

// --- Rows -----------------------------------------------------------------------------------------
/** @param {Element} row @param {string} name */
const number = (row, name) => Number(/** @type {HTMLElement} */ (row).dataset[name]);

/** Add what the server sent, in order and once. @param {Iterable<Element>} sent */
function append(sent) {
  let added = 0;
  for (const row of [...sent]) {
    if (number(row, "seq") <= cursor) continue;
    cursor = number(row, "seq");
    const last = rows.lastElementChild;
    if (row.hasAttribute("data-text") && last?.hasAttribute("data-text")) joinText(last, row);
    else rows.append(document.adoptNode(row));
    settle(row);
    added += row.hasAttribute("hidden") ? 0 : 1;
  }
  pending = pending.filter((piece) => piece.sequence > cursor);
  while (rows.children.length > ROWS_KEPT && !atTop()) dropFirst();
  paint();
  return added;
}

/** @param {Element} last @param {Element} row */
function joinText(last, row) {
  const text = document.createTextNode(row.querySelector("p")?.textContent ?? "");
  const paragraph = last.querySelector("p");
  paragraph?.insertBefore(text, paragraph.contains(tail) ? tail : null);
  last.setAttribute("data-seq", String(number(row, "seq")));
}

/** A step that ended hides the row that said it runs. @param {Element} row */
function settle(row) {
  if (!row.hasAttribute("data-settled")) return;
  for (const begun of rows.querySelectorAll(`[data-step="${number(row, "step")}"]:not([data-settled])`))
    begun.setAttribute("hidden", "");
}

const atTop = () => scroller().scrollTop < NEAR;
function dropFirst() {
  rows.firstElementChild?.remove();
  const first = rows.firstElementChild;
  if (first) at("earlier").dataset.first = String(number(first, "from"));
  /** @type {HTMLElement} */ (at("earlier").parentElement).hidden = false;
}

/** Put the new header and plan in place of the old, if they differ. @param {Document} page */
function replaceHead(page) {
  for (const id of ["facts", "plan", "tray-open", "tray-balance"]) {
    const fresh = page.getElementById(id);
    const old = at(id);
    if (!fresh || !old || fresh.innerHTML === old.innerHTML) continue;
    for (const details of fresh.querySelectorAll("details")) {
      const was = details.id ? document.getElementById(details.id) : old.querySelector("details");
      details.toggleAttribute("open", was?.hasAttribute("open") ?? false);
    }
    const focused = old.contains(document.activeElement) ? document.activeElement?.id : "";
    old.replaceWith(document.adoptNode(fresh));
    if (focused) document.getElementById(focused)?.focus();
  }
}

/** Ask for the rows after the cursor until there are no more; one request at a time. */
async function fetchRows() {
  if (fetching) return;
  fetching = true;
  try {
    do {
      await new Promise((done) => setTimeout(done, Math.max(0, fetched + GAP - Date.now())));
      fetched = Date.now();
      const before = cursor;
      const { page, headers } = await fragment(`${feed.dataset.rows}?after=${cursor}`);
      keepingPlace(() => append(page.querySelectorAll("[data-rows] > li")));
      replaceHead(page);
      known = Math.max(known, Number(headers.get("X-Cursor")));
      finished(headers.get("X-Status") ?? "");
      if (cursor === before) break;
    } while (cursor < known);
  } catch (error) {
    console.info("rows not fetched:", String(error)); // The line's own state tells the reader.
  } finally {
    fetching = false;
  }
  entitle();
}

async function earlier() {
  const button = at("earlier");
  const { page } = await fragment(`${feed.dataset.rows}?before=${button.dataset.first}`);
  const box = scroller();
  const height = box.scrollHeight;
  const list = page.querySelector("[data-rows]");
  rows.prepend(...(list?.children ?? []));
  box.scrollTop += box.scrollHeight - height;
  const first = Number(/** @type {HTMLElement} */ (list)?.dataset.first ?? 1);
  button.dataset.first = String(first);
  /** @type {HTMLElement} */ (button.parentElement).hidden = first <= 1;
}
at("earlier").addEventListener("click", () => earlier().catch(() => {}));

// --- Unfinished text and counters ---------------------------------------------------------------
/** Show what is not in a row yet: behind the last row's text if that goes on, else by itself. */
function paint() {
  if (painting) return;
  painting = true;
  requestAnimationFrame(() => {
    painting = false;
    const text = pending.map((piece) => piece.text).join("").slice(-STREAM_KEPT);
    const last = rows.lastElementChild;
    const home = (last?.hasAttribute("data-text") && last.querySelector("p")) || streamed;
    if (tail.parentElement === home && text === tailText.textContent) return;
    const stays = atEnd();
    home.append(tail);
    tail.hidden = !text;
    tailText.textContent = text;
    at("stream").hidden = !text || home !== streamed;
    if (stays) follow();
  });
}

/** @param {any} message */
function counters(message) {
  if (typeof message.progress === "number") {
    at("percent").textContent = String(message.progress);
    at("percent-bar").setAttribute("width", String(message.progress));
  }
  const step = message.data?.current_step;
  if (step && !over) at("doing").textContent = `· ${step}`;
}

function entitle() {
  const facts = at("facts").dataset;
  const percent = at("percent").textContent;
  document.title = `${over ? facts.word : `${percent} %`} · ${title}`;
  favicon(over ? (document.hidden ? "done" : "") : "run");
}

// --- The right half -------------------------------------------------------------------------------
/** Show the newer result, unless the reader is in the middle of the old one. */
async function refreshPane() {
  const review = at("result");
  const busy = review.contains(document.activeElement) || review.scrollTop > NEAR;
  if (busy) return void (at("pane-news").hidden = false);
  const tab = over && !new URLSearchParams(location.search).has("tab") ? "result" : at("pane").dataset.tab;
  const { page } = await fragment(`${feed.dataset.pane}?tab=${tab}`);
  const fresh = page.getElementById("pane");
  if (!fresh) return;
  at("pane").replaceWith(document.adoptNode(fresh));
  // @ts-ignore htmx is a classic script of this site.
  window.htmx?.process(fresh);
}

/** @param {string} status */
function finished(status) {
  if (over || !["completed", "failed", "cancelled"].includes(status)) return;
  over = true;
  announce(`The task ended: ${at("facts").dataset.word}`);
  refreshPane().catch(() => (at("pane-news").hidden = false));
}

// --- The line -------------------------------------------------------------------------------------
/** @type {string} */
let state = "off";
/** @type {any} */
let detail = {};

/** @param {any} message */
function heard(message) {
  lastEvent = Date.now();
  if (message.type === "connected") {
    known = Math.max(known, message.newest ?? 0);
    if (known > cursor) fetchRows();
    return;
  }
  known = Math.max(known, message.sequence ?? 0);
  counters(message);
  const kind = message.data?.kind;
  if (kind === "model.text") {
    if (message.sequence > cursor) pending.push({ sequence: message.sequence, text: String(message.data.text ?? "") });
    paint();
  } else fetchRows();
  if (CHANGES_PANE.includes(kind)) refreshPane().catch(() => {});
  if (ENDS.includes(message.type)) fetchRows().then(() => line?.end());
}

function tell() {
  const box = at("live");
  const seconds = (/** @type {number} */ moment) => Math.max(0, Math.round((Date.now() - moment) / 1000));
  box.dataset.state = state;
  if (state === "ended") at("live-hint")?.remove();
  at("live-now").hidden = state !== "reconnecting";
  const words = {
    live: `Live · event ${cursor} · last one ${seconds(lastEvent)} s ago`,
    reconnecting: `${detail.tries > 2 ? "Slow updates. " : ""}Line lost ${seconds(detail.since)} s ago. The task goes on.` +
      (detail.code === 4429 ? " Too many open pages." : "") +
      (detail.next > Date.now() ? ` Next try in ${Math.ceil((detail.next - Date.now()) / 1000)} s` : " Trying…"),
    refused: "This task can no longer be seen from here.",
    ended: `Ended · ${cursor} event${cursor === 1 ? "" : "s"}`,
  };
  // @ts-ignore `off` has no words: the page's own text stays.
  if (words[state]) at("live-text").textContent = words[state];
}

function tick() {
  if (document.hidden) return;
  tell();
  const since = /** @type {HTMLElement | null} */ (document.querySelector("[data-since]"));
  if (since && !over) {
    const s = Math.max(0, Math.floor((Date.now() - Date.parse(since.dataset.since ?? "")) / 1000));
    since.textContent = s < 60 ? `${s} s` : `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, "0")} s`;
  }
}

/** @type {Line | undefined} */
let line;
if (!over) {
  if (wide.matches) follow();
  line = new Line(`/api/ws/task/${task}`, {
    cursor: () => Math.max(cursor, pending.at(-1)?.sequence ?? 0),
    message: heard,
    state: (now, more) => {
      if (now === "reconnecting" && state === "live") announce("The line is lost; the task goes on");
      state = now;
      detail = more;
      tell();
    },
    slow: () => void fetchRows(),
  });
  at("live-now").addEventListener("click", () => line?.now());
  setInterval(tick, 1000);
  entitle();
}
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  if (over) favicon("");
  else fetchRows();
});
