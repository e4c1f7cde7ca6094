// Small manners of every page: menus close, forms are sent once.
// @ts-check

/** Close the open menus other than the one that holds `inside`. @param {Node | null} inside */
function closeMenus(inside) {
  for (const menu of document.querySelectorAll("details.menu[open]"))
    if (!inside || !menu.contains(inside)) menu.removeAttribute("open");
}

document.addEventListener("click", (event) => closeMenus(/** @type {Node} */ (event.target)));
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const open = document.querySelector("details.menu[open]");
  closeMenus(null);
  if (open) /** @type {HTMLElement | null} */ (open.querySelector("summary"))?.focus();
});

// The second click of an impatient hand must not send the form twice.
document.addEventListener("submit", (event) => {
  const form = /** @type {HTMLFormElement} */ (event.target);
  if (form.method !== "post") return;
  if (form.dataset.sent) return event.preventDefault();
  form.dataset.sent = "yes";
  const button = /** @type {HTMLElement | null} */ (event.submitter);
  if (button?.dataset.busy) button.textContent = button.dataset.busy;
});
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) form.removeAttribute("data-sent");
});

const summary = /** @type {HTMLElement | null} */ (document.querySelector("[data-focus]"));
summary?.focus();
