// On the board: a card can be carried to a column, and the form of the move opens on top of the board.

"use strict";

{
  const board = document.querySelector(".board");
  const dialog = document.getElementById("moving");
  let carried = null;

  // The same page that the link of the menu leads to, or that a form comes back with: its form, and nothing around it.
  const show = async (response) => {
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const found = page.getElementById("move");
    if (!found) return location.assign(response.url);
    dialog.replaceChildren(document.adoptNode(found));
    if (!dialog.open) dialog.showModal();
    const field = "form :is(select, textarea, input:not([type=hidden]))";
    (dialog.querySelector("[aria-invalid]") ?? dialog.querySelector(field) ?? dialog.querySelector("a")).focus();
  };

  const open = async (url) => {
    try {
      await show(await fetch(url));
    } catch {
      location.assign(url);
    }
  };

  const linkTo = (card, state) => [...card.querySelectorAll("[data-to]")].find((link) => link.dataset.to === state);

  document.addEventListener("click", (event) => {
    const link = event.target.closest(".card [data-to]");
    if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      link.closest("details").open = false;
      open(link.href);
    } else if (event.target === dialog || event.target.closest("dialog .cancel[href^='/board']")) {
      event.preventDefault();
      dialog.close();
    }
  });

  dialog?.addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = event.target;
    const button = form.querySelector("button.main");
    button.disabled = true;
    try {
      const response = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
      if (!response.redirected) return await show(response);
      const moved = new URL(response.url);
      moved.hash = /moves\/([^/]+)/.exec(form.action)[1];
      const isHere = moved.pathname + moved.search === location.pathname + location.search;
      location.assign(moved);
      if (isHere) location.reload();
    } catch {
      button.disabled = false;
      form.submit();
    }
  });

  // Carrying, with a mouse.

  const over = (event) => carried && event.target.closest?.(".column");

  document.addEventListener("dragstart", (event) => {
    carried = event.target.closest?.(".card[draggable=true]");
    if (!carried) return;
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/plain", carried.id);
    carried.classList.add("carried");
    board.classList.add("carrying");
    for (const column of board.children) column.classList.toggle("fits", Boolean(linkTo(carried, column.dataset.state)));
  });

  document.addEventListener("dragover", (event) => {
    const column = over(event);
    for (const one of board?.children ?? []) one.classList.toggle("over", one === column);
    if (column && !column.contains(carried)) event.preventDefault();
  });

  document.addEventListener("drop", (event) => {
    const column = over(event);
    if (!column) return;
    event.preventDefault();
    // What no menu offers is asked for as well: the answer says why not.
    const state = column.dataset.state;
    open((linkTo(carried, state) ?? carried.querySelector("[data-to]")).href.replace(/\/[a-z_]+(?=\?|$)/, `/${state}`));
  });

  document.addEventListener("dragend", () => {
    carried?.classList.remove("carried");
    board?.classList.remove("carrying");
    for (const one of board?.children ?? []) one.classList.remove("over", "fits");
    carried = null;
  });
}
