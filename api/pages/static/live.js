// Keeps what is marked with data-live up to date: "list", or "case:" and an id or number.
//
// When the desk says that it has changed, the page is fetched again and what is different is put in place. Whatever is
// the same stays the very same element, with its focus, its selection and its place; a form in which somebody has typed
// is left alone, and says so. Marks: an element with data-keep is its script's own; "live:updated" is sent to each
// region that was brought up to date.

"use strict";

(() => {
  const regions = [...document.querySelectorAll("[data-live][id]")];
  if (!regions.length || !window.EventSource) return;

  const KEPT = "[data-keep], #lookers";
  const GAP_MS = 1000;
  const AGAIN_MS = 10000;
  const PATIENCE_MS = 8000;
  const AGES_MS = 300000; // "in 3 h" is not true for long

  const body = document.body;
  const lists = regions.filter((region) => region.dataset.live === "list");
  let since = body.dataset.since;
  let source = null;
  let isOver = false;
  let isFetching = false;
  let isWanted = false;
  let fetchedAt = 0;
  let trouble = 0;

  // The stream: only while the page can be seen, since browsers allow few connections to one place.

  function address() {
    const asked = new URLSearchParams();
    for (const region of regions) {
      const [kind, ...name] = region.dataset.live.split(":");
      asked.set(kind, name.join(":"));
    }
    if (since) asked.set("since", since);
    return `/live?${asked}`;
  }

  function open() {
    if (source || isOver || document.hidden) return;
    source = new EventSource(address());
    source.addEventListener("open", () => tellTrouble(false));
    source.addEventListener("changed", (event) => {
      since = event.lastEventId || since;
      refresh();
    });
    source.addEventListener("lookers", (event) => showLookers(JSON.parse(event.data).names));
    source.addEventListener("ended", end);
    source.addEventListener("error", () => {
      tellTrouble(true);
      if (source?.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      close();
      setTimeout(() => { refresh(); open(); }, AGAIN_MS * (1 + Math.random()));
    });
  }

  function close() {
    source?.close();
    source = null;
    tellTrouble(false);
  }

  function end() {
    isOver = true;
    close();
    tell("This page no longer updates by itself.", "Load it again");
  }

  function tellTrouble(isTrouble) {
    if (isOver) return;
    if (isTrouble) {
      trouble ||= setTimeout(() => tell("The desk cannot be reached; what you see may be out of date."), PATIENCE_MS);
    } else {
      clearTimeout(trouble);
      trouble = 0;
      tell("");
    }
  }

  function tell(text, link = "") {
    let line = document.getElementById("live-says");
    if (!text) return line?.remove();
    if (!line) {
      line = Object.assign(document.createElement("p"), { id: "live-says", className: "note live" });
      line.setAttribute("role", "status");
      document.querySelector("main").prepend(line);
    }
    line.textContent = `${text} `;
    if (link) line.append(Object.assign(document.createElement("a"), { href: pageAddress(), textContent: link }));
  }

  function showLookers(names) {
    const line = document.getElementById("lookers");
    if (!line) return;
    line.hidden = !names.length;
    line.replaceChildren();
    names.forEach((name, place) => {
      if (place) line.append(place === names.length - 1 ? " and " : ", ");
      line.append(Object.assign(document.createElement("bdi"), { textContent: name }));
    });
    if (names.length) line.append(names.length === 1 ? " is looking at this too" : " are looking at this too");
  }

  // What is new on the page.

  function pageAddress() {
    return regions[0].dataset.from || location.pathname + location.search;
  }

  function refresh() {
    isWanted = true;
    if (isFetching || isOver || document.hidden) return;
    isFetching = true;
    setTimeout(fetchAgain, Math.max(0, fetchedAt + GAP_MS - Date.now()));
  }

  async function fetchAgain() {
    isWanted = false;
    try {
      const answer = await fetch(pageAddress(), { headers: { accept: "text/html" }, cache: "no-store" });
      if (answer.redirected && new URL(answer.url).pathname === "/sign-in") return end();
      if (answer.status >= 500) return tellTrouble(true);
      if (!answer.ok) return end();
      put(new DOMParser().parseFromString(await answer.text(), "text/html"));
      if (source?.readyState === EventSource.OPEN) tellTrouble(false);
    } catch {
      tellTrouble(true); // the stream finds out when it is over
    } finally {
      fetchedAt = Date.now();
      isFetching = false;
    }
    if (isWanted) refresh();
  }

  function put(fresh) {
    since = fresh.body.dataset.since ?? since;
    document.title = fresh.title;
    const focused = document.activeElement;
    for (const region of regions) {
      const found = fresh.getElementById(region.id);
      if (!found || region.isEqualNode(found)) continue;
      bringUpToDate(region, found, region.dataset.live === "list");
      region.dispatchEvent(new CustomEvent("live:updated", { bubbles: true }));
    }
    if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
  }

  function bringUpToDate(old, fresh, isList) {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    if (old.matches(KEPT) || old.isEqualNode(fresh)) return;
    if (old.matches("form") && isBeingFilledIn(old, isList)) {
      if (!asShown(old).isEqualNode(asShown(fresh))) hold(old, fresh);
      return;
    }
    if (old.matches("form")) release(old);
    copyAttributes(old, fresh);
    const ids = new Set([...fresh.children].map((one) => one.id));
    const isGone = (one) => one?.id && !ids.has(one.id) && !holds(one, isList);
    let here = old.firstChild;
    for (const wanted of [...fresh.childNodes]) {
      while (here?.matches?.(".held") || isGone(here)) {
        const next = here.nextSibling;
        if (isGone(here)) here.remove();
        here = next;
      }
      const same = counterpart(here, wanted);
      if (!same) {
        old.insertBefore(document.importNode(wanted, true), here);
        continue;
      }
      if (same === here) here = here.nextSibling;
      else old.insertBefore(same, here);
      bringUpToDate(same, wanted, isList);
    }
    while (here) {
      const next = here.nextSibling;
      if (!holds(here, isList)) here.remove();
      here = next;
    }
  }

  // The same element as it was: by its id, or else the next one of its kind.
  function counterpart(here, wanted) {
    const isAlike = (one) => one.nodeName === wanted.nodeName && (one.id ?? "") === (wanted.id ?? "");
    if (!wanted.id) return here && isAlike(here) ? here : null;
    for (let one = here; one; one = one.nextSibling) if (isAlike(one)) return one;
    return null;
  }

  function copyAttributes(old, fresh) {
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name); // what was unfolded stays so
    }
    for (const { name, value } of fresh.attributes) {
      if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
  }

  // Forms in which somebody is typing.

  function isBeingFilledIn(form, isList) {
    return [...form.querySelectorAll("input, textarea, select")].some((field) => {
      if (field.matches("[type=hidden], [type=submit], [type=button]")) return false;
      if (field.matches("[type=checkbox], [type=radio]")) return !isList && field.checked !== field.defaultChecked;
      if (field === document.activeElement) return true;
      if (field.matches("select")) return [...field.options].some((one) => one.selected !== one.defaultSelected);
      return field.value !== field.defaultValue;
    });
  }

  function holds(node, isList) {
    if (node.nodeType !== Node.ELEMENT_NODE) return false;
    if (node.matches(`.held, ${KEPT}`)) return true;
    return [node, ...node.querySelectorAll("form")].some((one) => one.matches("form") && isBeingFilledIn(one, isList));
  }

  // Without what is another each time a form is made.
  function asShown(form) {
    const copy = form.cloneNode(true);
    for (const one of copy.querySelectorAll("[name=key], [name=csrf]")) one.removeAttribute("value");
    return copy;
  }

  function hold(form, fresh) {
    release(form);
    const line = Object.assign(document.createElement("p"), { className: "note held", textContent: "This has changed meanwhile. " });
    const show = Object.assign(document.createElement("button"), { type: "button", textContent: "Show, and keep what I wrote" });
    line.setAttribute("role", "status");
    line.append(show);
    show.addEventListener("click", () => {
      const shown = document.importNode(fresh, true);
      for (const field of form.elements) carryOver(field, shown.elements[field.name]);
      line.remove();
      form.replaceWith(shown);
      shown.querySelector("textarea, input:not([type=hidden]), select, button")?.focus();
    });
    form.after(line); // what somebody is typing in stays where it is
  }

  function release(form) {
    if (form.nextElementSibling?.matches(".held")) form.nextElementSibling.remove();
  }

  function carryOver(field, shown) {
    if (!field.name || !(shown instanceof Element) || field.matches("[type=hidden], button")) return;
    if (field.matches("[type=checkbox], [type=radio]")) shown.checked = field.checked;
    else shown.value = field.value;
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return close();
    if (isWanted) refresh();
    open();
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => { if (event.persisted) open(); });
  if (lists.length) setInterval(refresh, AGES_MS);
  open();
})();
