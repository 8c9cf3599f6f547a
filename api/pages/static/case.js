// The case page: what somebody writes is kept in their browser until it is sent. Everything here may be missing.

"use strict";

(() => {
  const PREFIX = "casework.draft.";
  const SENT = "casework.sent";
  const DAYS_KEPT = 30;
  const DAY_MS = 24 * 3600 * 1000;

  // Whether the form that was sent last has led here: then there is no draft of it any more.
  const sent = kept(() => sessionStorage.getItem(SENT));
  kept(() => sessionStorage.removeItem(SENT));
  if (sent && document.getElementById("done")) kept(() => localStorage.removeItem(sent));

  for (const key of kept(() => Object.keys(localStorage)) ?? []) {
    if (key.startsWith(PREFIX) && Date.now() - (read(key)?.at ?? 0) > DAYS_KEPT * DAY_MS) localStorage.removeItem(key);
  }

  const restoreAll = () => document.querySelectorAll("form[data-draft]").forEach(restore);
  restoreAll();
  document.addEventListener("live:updated", restoreAll);

  document.addEventListener("input", ({ target }) => {
    const form = target.closest("form[data-draft]");
    if (form) keep(form);
  });

  document.addEventListener("submit", ({ target }) => {
    if (target.matches("form[data-draft]")) kept(() => sessionStorage.setItem(SENT, nameOf(target)));
  });

  function nameOf(form) {
    return PREFIX + form.dataset.draft;
  }

  function read(key) {
    return kept(() => JSON.parse(localStorage.getItem(key)));
  }

  function keep(form) {
    const texts = Object.fromEntries([...form.querySelectorAll("textarea")].map((one) => [one.name, one.value]));
    const isEmpty = Object.values(texts).every((text) => !text.trim());
    kept(() => (isEmpty ? localStorage.removeItem(nameOf(form)) : localStorage.setItem(nameOf(form), JSON.stringify({ at: Date.now(), texts }))));
  }

  function restore(form) {
    const draft = read(nameOf(form));
    const empty = [...form.querySelectorAll("textarea")].filter((one) => !one.value && draft?.texts?.[one.name]);
    if (!empty.length) return;
    for (const field of empty) field.value = draft.texts[field.name];
    form.closest("details.opening")?.setAttribute("open", "");
    const line = Object.assign(document.createElement("p"), { className: "kept", textContent: `Your draft of ${new Date(draft.at).toLocaleString()}. ` });
    const discard = Object.assign(document.createElement("button"), { type: "button", textContent: "Discard it" });
    discard.addEventListener("click", () => {
      for (const field of empty) field.value = "";
      keep(form);
      line.remove();
      empty[0].focus();
    });
    line.append(discard);
    empty[0].after(line);
  }

  // What was done is said once, not again when the page is loaded again.
  const url = new URL(location);
  if (url.searchParams.has("done")) {
    url.searchParams.delete("done");
    history.replaceState(null, "", url);
  }

  // A file that is too large is said to be so before it is sent.
  document.addEventListener("change", ({ target }) => {
    if (!target.matches("input[type=file][data-most]")) return;
    const isTooLarge = [...target.files].some((one) => one.size > Number(target.dataset.most));
    target.setCustomValidity(isTooLarge ? target.dataset.mostSaid : "");
    target.reportValidity();
  });
})();
