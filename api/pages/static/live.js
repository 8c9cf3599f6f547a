// Keeps what is marked with data-live and an id up to date. Its value says what the desk is asked to tell of: "list" is
// any case, "case:" with an id or number is one; whatever else is so marked is brought up to date along with those.
//
// When the desk says that it has changed, the page is fetched again and what is different is put in place. Whatever is
// the same stays the very same element, with its focus, its selection and its place; a form in which somebody has typed
// is left alone, and says so. An element with data-own, and an id, is never touched. "live:updated" is sent to each
// region that was brought up to date. Where the page's address is not the one to load (it answers a form), data-from is.

"use strict";

(() => {
  const regions = [...document.querySelectorAll("[data-live][id]")];
  const topics = regions.map((region) => region.dataset.live.split(":")).filter(([kind]) => ["list", "case"].includes(kind));
  if (!topics.length || !window.EventSource) return;

  const OWN = "[data-own], #lookers";
  const GAP_MS = 1000;
  const AGAIN_MS = 10000;
  const PATIENCE_MS = 8000;
  const BACK_MS = 5000;
  const LONG_MS = 30000;
  const AGES_MS = 300000; // "in 3 h" is not true for long

  const served = new WeakMap(); // by element: its attributes as the desk sent them
  const body = document.body;
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
    for (const [kind, name] of topics) asked.set(kind, name ?? "");
    if (since) asked.set("since", since);
    return `/live?${asked}`;
  }

  function open() {
    if (source || isOver || document.hidden) return;
    source = new EventSource(address());
    source.addEventListener("open", () => tellTrouble(false));
    source.addEventListener("changed", (event) => {
      since = event.lastEventId || since;
      if (Object.entries(JSON.parse(event.data)).some(isNew)) refresh();
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

  // A version of a case that the page shows already was made by it, most likely.
  function isNew([topic, version]) {
    const region = regions.find((one) => one.dataset.live === topic);
    return !version || !(Number(region?.dataset.version) >= version);
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
      const how = { headers: { "x-loaded-again": "1" }, cache: "no-store", signal: AbortSignal.timeout(LONG_MS) };
      const answer = await fetch(pageAddress(), how);
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
    const row = focused.closest("[data-live] :is(tr, li)[id]");
    const neighbours = [row?.nextElementSibling, row?.previousElementSibling];
    for (const region of regions) {
      const found = fresh.getElementById(region.id);
      if (!found || region.isEqualNode(found)) continue;
      bringUpToDate(region, found);
      region.dispatchEvent(new CustomEvent("live:updated", { bubbles: true }));
    }
    if (focused === document.activeElement) return;
    const next = focused.isConnected ? focused : neighbours.find((one) => one?.isConnected)?.querySelector("a, button");
    next?.focus({ preventScroll: true });
  }

  // Idiomorph finds out which element becomes which, by their ids above all, and asks before it does anything to one.
  function bringUpToDate(region, fresh) {
    const isList = !region.dataset.live.startsWith("case");
    const forms = [region, ...region.querySelectorAll("form")].filter((one) => one.matches("form"));
    const drafts = forms.filter((form) => isBeingFilledIn(form, isList));
    let before, now; // the attributes of the element at hand
    Idiomorph.morph(region, fresh, {
      restoreFocus: false, // it would scroll there
      callbacks: {
        beforeNodeMorphed(old, wanted) {
          if (old.nodeType !== Node.ELEMENT_NODE) return true;
          if (old.matches(OWN)) return false;
          if (drafts.includes(old)) {
            hold(old, wanted);
            return false;
          }
          if (old.matches("form")) release(old);
          [before, now] = [served.get(old), attributesOf(wanted)];
          served.set(old, now);
          return true;
        },
        // Only what is different from what the desk sent before: the rest of the attributes is for scripts and readers.
        beforeAttributeUpdated: (name) => before?.get(name) !== now.get(name),
        beforeNodeRemoved: (node) => !node.matches?.(OWN) && !drafts.some((form) => node.contains(form)),
        afterNodeAdded: remember,
      },
    });
    // It does not ask about an element of which some part with an id has gone elsewhere.
    for (const form of drafts) if (!form.isConnected) region.append(form);
  }

  function attributesOf(element) {
    return new Map([...element.attributes].map(({ name, value }) => [name, value]));
  }

  function remember(node) {
    if (node.nodeType !== Node.ELEMENT_NODE) return node;
    for (const one of [node, ...node.querySelectorAll("*")]) if (!served.has(one)) served.set(one, attributesOf(one));
    return node;
  }

  // Forms in which somebody is typing.

  function isBeingFilledIn(form, isList) {
    return [...form.querySelectorAll("input, textarea, select")].some((field) => {
      if (field.matches("[type=hidden], [type=submit], [type=button]")) return false;
      if (field.matches("[type=checkbox], [type=radio]")) return !isList && field.checked !== field.defaultChecked;
      if (field === document.activeElement) return true;
      if (field.matches("select")) return field.selectedIndex !== asSent(field);
      return field.value !== field.defaultValue;
    });
  }

  function asSent(select) {
    return Math.max([...select.options].findLastIndex((one) => one.defaultSelected), 0);
  }

  // Without what is another each time a form is made, and what is said here of what somebody wrote.
  function asShown(form) {
    const copy = form.cloneNode(true);
    for (const one of copy.querySelectorAll(".held, .kept")) one.remove();
    for (const one of copy.querySelectorAll("[name=key], [name=csrf]")) one.removeAttribute("value");
    return copy;
  }

  function hold(form, fresh) {
    if (asShown(form).isEqualNode(asShown(fresh))) return;
    release(form);
    const line = Object.assign(document.createElement("p"), { className: "note held", textContent: "This has changed meanwhile. " });
    const show = Object.assign(document.createElement("button"), { type: "button", textContent: "Show, and keep what I wrote" });
    line.setAttribute("role", "status");
    line.append(show);
    show.addEventListener("click", () => {
      const shown = remember(document.importNode(fresh, true));
      for (const field of form.elements) carryOver(field, shown.elements[field.name]);
      form.replaceWith(shown);
      shown.querySelector("textarea, input:not([type=hidden]), select, button")?.focus();
    });
    form.append(line); // what somebody is typing in stays where it is
  }

  function release(form) {
    form.querySelector(".held")?.remove();
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
  addEventListener("beforeunload", () => {
    close(); // or this page would load itself again because of the very form that it sends
    setTimeout(open, BACK_MS); // it was a download
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => { if (event.persisted) open(); });
  regions.forEach(remember);
  if (topics.some(([kind]) => kind === "list")) setInterval(refresh, AGES_MS);
  open();
})();
