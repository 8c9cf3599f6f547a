// In lists of cases: keys that go from one to the next and select, and a box that selects all of a page.

"use strict";

{
  const links = () => [...document.querySelectorAll(".cases .title a, .board .card .title a")];
  const rowOf = (element) => element?.closest?.(".cases tr, .card");
  const here = () => links().indexOf(rowOf(document.activeElement)?.querySelector(".title a"));

  function go(step) {
    const all = links();
    const next = all[Math.min(Math.max(here() + step, 0), all.length - 1)];
    next?.focus();
    next?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  if (links().length) {
    casework.key("j", "Next case", () => go(1));
    casework.key("k", "Case before", () => go(here() < 0 ? 0 : -1));
  }
  if (document.querySelector(".cases .pick")) {
    casework.key("x", "Select the case", () => rowOf(document.activeElement)?.querySelector(".pick input")?.click());
    casework.key("b", "Do something with all that are selected", () => document.querySelector(".bulk button")?.focus());
  }
  if (document.querySelector(".card .move")) {
    casework.key("m", "Move the case", () => {
      const menu = rowOf(document.activeElement)?.querySelector(".move");
      if (!menu) return;
      menu.open = true;
      menu.querySelector("a").focus();
    });
  }

  const boxes = () => [...document.querySelectorAll(".cases .pick input[name]")];
  const countPicked = () => {
    const all = document.querySelector("[data-all]");
    if (!all) return;
    const picked = boxes().filter((box) => box.checked).length;
    [all.checked, all.indeterminate] = [picked > 0 && picked === boxes().length, picked > 0 && picked < boxes().length];
  };

  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-all]")) for (const box of boxes()) box.checked = event.target.checked;
    countPicked();
  });
  document.addEventListener("live:updated", countPicked);
  countPicked();

  // On a phone the tabs are wider than the screen.
  document.querySelector(".tabs [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
}
