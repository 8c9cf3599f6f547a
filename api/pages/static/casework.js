// What forms and links do by themselves, a little faster: everything here may be missing.

"use strict";

// Keys. An element says in data-key which key, or which two one after the other ("t c"), do what a click on it does; a
// script adds others with `casework.key("j", "Next case", () => …)`. "?" lists all there are, and lets them be off.
(() => {
  const OFF = "casework.keys-off";
  const PATIENCE_MS = 4000;
  const added = new Map();
  let first = "";
  let forgetting;

  window.casework = {
    key(keys, name, action) {
      added.set(keys, { name, action });
    },
  };

  const isOff = () => kept(() => localStorage.getItem(OFF)) !== null;
  const isTyping = (element) => element.closest?.("input, textarea, select, [contenteditable]") && !element.matches("[type=checkbox], [type=radio]");
  const isShown = (element) => element.checkVisibility?.() ?? element.offsetParent !== null;

  // What each key does here; of several elements with the same one, the first that is shown.
  function all() {
    const found = new Map();
    for (const element of document.querySelectorAll("[data-key]")) {
      const keys = element.dataset.key;
      if (!found.has(keys) && isShown(element)) found.set(keys, { name: nameOf(element), action: () => use(element) });
    }
    for (const [keys, one] of added) if (!found.has(keys)) found.set(keys, one);
    return found;
  }

  function nameOf(element) {
    return (element.dataset.keyName ?? element.getAttribute("aria-label") ?? element.labels?.[0]?.textContent ?? element.textContent).trim();
  }

  function use(element) {
    if (element.matches("summary")) openForm(element.parentElement);
    else if (element.matches("input, textarea, select")) element.focus();
    else element.click();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat) return;
    if (event.key === "Escape") return leave(event.target);
    if (isTyping(event.target) || document.querySelector("dialog[open]") || isOff()) return;
    const keys = first ? `${first} ${event.key}` : event.key;
    const found = all();
    const begun = [...found].filter(([one]) => one.startsWith(`${keys} `));
    forget();
    if (keys === "?") list();
    else if (found.has(keys)) found.get(keys).action(event);
    else if (begun.length) await2nd(keys, begun);
    else return;
    event.preventDefault();
  });

  // After the first of two keys: which the second can be.
  function await2nd(key, begun) {
    first = key;
    const said = Object.assign(document.createElement("p"), { id: "keys-begun", role: "status" });
    for (const [keys, one] of begun) said.append(keyCap(keys.slice(key.length + 1)), ` ${one.name}  `);
    document.body.append(said);
    forgetting = setTimeout(forget, PATIENCE_MS);
  }

  function forget() {
    first = "";
    clearTimeout(forgetting);
    document.getElementById("keys-begun")?.remove();
  }

  function keyCap(text) {
    return Object.assign(document.createElement("kbd"), { textContent: text });
  }

  function list() {
    const dialog = Object.assign(document.createElement("dialog"), { className: "keys" });
    dialog.setAttribute("aria-labelledby", "keys-title");
    const title = Object.assign(document.createElement("h2"), { id: "keys-title", textContent: "Keys" });
    const table = document.createElement("dl");
    for (const [keys, one] of [...all(), ["?", { name: "This list" }]]) {
      const row = document.createElement("div");
      const caps = document.createElement("dt");
      for (const key of keys.split(" ")) caps.append(keyCap(key), " ");
      row.append(caps, Object.assign(document.createElement("dd"), { textContent: one.name }));
      table.append(row);
    }
    const choice = document.createElement("label");
    const tick = Object.assign(document.createElement("input"), { type: "checkbox", checked: !isOff() });
    choice.className = "tick";
    choice.append(tick, " Single keys do this, in this browser");
    tick.addEventListener("change", () => kept(() => (tick.checked ? localStorage.removeItem(OFF) : localStorage.setItem(OFF, "1"))));
    const close = Object.assign(document.createElement("button"), { textContent: "Close", autofocus: true });
    close.addEventListener("click", () => dialog.close());
    dialog.append(title, table, choice, close);
    dialog.addEventListener("close", () => dialog.remove());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    document.body.append(dialog);
    dialog.showModal();
  }

  // Also for whoever has turned the keys off.
  const menu = document.querySelector(".menu > div");
  if (menu) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Keys" });
    button.addEventListener("click", list);
    menu.append(button);
  }

  // Escape closes the form that it is pressed in; what was typed stays in it.
  function leave(element) {
    forget();
    const opened = element.closest?.("details.opening, details.menu");
    if (!opened?.open) return;
    opened.open = false;
    opened.querySelector("summary").focus();
  }

  // A key or a link to a form opens it.
  function openForm(details) {
    details.open = true;
    (details.querySelector("form :is(input, textarea, select):not([type=hidden])") ?? details.querySelector("summary")).focus();
  }

  function openTarget() {
    const id = kept(() => decodeURIComponent(location.hash.slice(1)));
    const target = id ? document.getElementById(id) : null;
    if (target?.matches("details.opening")) openForm(target);
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest?.('a[href^="#"]');
    if (link && link.hash === location.hash) openTarget(); // else the address changes, which tells
  });
  addEventListener("hashchange", openTarget);
  openTarget();
})();

// Of menus one is open at a time, and none once something else is clicked.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});

// A form is sent once, however often its button is pressed.
document.addEventListener("submit", (event) => {
  if (event.defaultPrevented || event.target.method !== "post") return;
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "1";
});
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});

// The browser may keep nothing, or may not say what it keeps.
function kept(action) {
  try {
    return action();
  } catch {
    return null;
  }
}
