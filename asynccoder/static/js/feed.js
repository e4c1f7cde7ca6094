// Lists and home: a task that changes is drawn anew in its place; the list never re-sorts by itself.
// @ts-check
import { fragment, Line } from "./live.js";

let cursor = -1; // Nothing is replayed: the page was just read from the database.
let fresh = new Set();

/** @param {string} id */
async function redraw(id) {
  const row = document.getElementById(`task-${id}`);
  if (!row) return isNew(id);
  const { page } = await fragment(`/tasks/${id}/line/?as=${row.dataset.as ?? "line"}`);
  const found = page.getElementById(`task-${id}`);
  if (!found) return;
  const focused = row.contains(document.activeElement);
  row.replaceWith(document.adoptNode(found));
  if (focused) found.querySelector("a")?.focus();
}

/** @param {string} id */
function isNew(id) {
  const news = document.getElementById("news");
  if (!news) return;
  fresh.add(id);
  news.hidden = false;
  const count = news.querySelector("[data-count]");
  if (count) count.textContent = String(fresh.size);
}

/** @type {Map<string, ReturnType<typeof setTimeout>>} */
const waiting = new Map();

/** Redraw a task at most every half second. @param {string} id */
function soon(id) {
  if (waiting.has(id)) return;
  waiting.set(id, setTimeout(() => {
    waiting.delete(id);
    redraw(id).catch(() => {});
  }, 500));
}

new Line("/ws", {
  cursor: () => cursor,
  message: (message) => {
    if (message.sequence !== undefined) cursor = Math.max(cursor, message.sequence);
    const data = message.data ?? {};
    if (data.taskId && /^[0-9a-f-]{36}$/.test(data.taskId)) soon(data.taskId);
    const balance = document.getElementById("tray-balance");
    if (message.event === "credits:updated" && balance) balance.textContent = Number(data.credits).toLocaleString("en");
  },
  state: () => {},
});
