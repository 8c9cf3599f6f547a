// Steps through a case without loading a page for each step. Without it, every step is a page with an address of its own.

"use strict";

(() => {
  const player = document.getElementById("player");
  if (!player) return;
  const slider = player.elements.at, against = player.elements.from, heard = document.getElementById("heard");
  const last = Number(slider.max), PAUSE_MS = 1200, KEPT = 60;
  const moves = Object.fromEntries([...player.querySelectorAll("[data-move]")].map((one) => [one.dataset.move, one]));
  const ticks = [...player.querySelectorAll(".tick")];
  const pages = new Map();  // by address: the answer, or the promise of one
  let at = Number(slider.value), wanted = 0, playing = 0;

  player.querySelector(".show").hidden = true;
  moves.play.hidden = false;

  const query = (step) => {
    const said = new URLSearchParams({at: step});
    if (against.value) said.set("from", against.value);
    return said;
  };
  const addressOf = (step) => `${player.dataset.page}?${query(step)}`;

  const load = (step) => {
    const address = `${player.dataset.steps}&${query(step)}`;
    if (!pages.has(address)) {
      const answer = fetch(address, {headers: {accept: "text/html"}}).then(async (response) => {
        if (!response.ok || response.redirected) throw new Error("the page says why");
        return response.text();
      });
      answer.catch(() => pages.delete(address));
      pages.set(address, answer);
      if (pages.size > KEPT) pages.delete(pages.keys().next().value);
    }
    return pages.get(address);
  };

  const show = async (step) => {
    const turn = ++wanted;
    slider.value = at = step;
    let text;
    try {
      text = await load(step);
    } catch {
      if (turn === wanted) location.assign(addressOf(step));
      return;
    }
    if (turn !== wanted) return;
    replace(text);
    history.replaceState(null, "", addressOf(step));
    for (const near of [step + 1, step - 1]) if (near >= 1 && near <= last) load(near).catch(() => {});
  };

  const replace = (text) => {
    const made = document.createElement("template");
    made.innerHTML = text;
    const next = made.content.getElementById("step"), before = document.getElementById("step");
    for (const open of before.querySelectorAll("details[open][data-keep]")) {
      const same = next.querySelector(`details[data-keep="${CSS.escape(open.dataset.keep)}"]`);
      if (same) same.open = true;
    }
    const held = before.contains(document.activeElement);
    before.replaceWith(next);
    if (held) slider.focus({preventScroll: true});
    follow(next);
  };

  // Everything outside of the step that tells which one it is.
  const follow = (step) => {
    slider.setAttribute("aria-valuetext", step.dataset.valuetext);
    heard.textContent = step.dataset.said;
    ticks.forEach((tick, index) => tick.classList.toggle("later", index >= at));
    for (const item of document.querySelectorAll(".all li")) {
      const here = item.querySelector("[data-step]").dataset.step === String(at);
      if (here) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
    }
    markMoves();
  };

  const markMoves = () => {
    const targets = {first: 1, back: Math.max(at - 1, 1), on: Math.min(at + 1, last), last};
    for (const [name, target] of Object.entries(targets)) {
      moves[name].href = addressOf(target);
      moves[name].setAttribute("aria-disabled", String(target === at));
    }
  };

  const go = (step) => {
    if (step >= 1 && step <= last && step !== at) show(step);
  };

  const stop = () => {
    clearInterval(playing);
    playing = 0;
    moves.play.setAttribute("aria-pressed", "false");
  };

  const play = () => {
    if (at === last) go(1);
    moves.play.setAttribute("aria-pressed", "true");
    playing = setInterval(() => {
      go(at + 1);
      if (at === last) stop();
    }, PAUSE_MS);
  };

  moves.play.addEventListener("click", () => (playing ? stop() : play()));
  slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
  against.addEventListener("change", () => show(at));
  player.addEventListener("submit", (event) => { event.preventDefault(); show(Number(slider.value)); });
  player.addEventListener("keydown", (event) => {
    if (event.target === slider && (event.key === "[" || event.key === "]")) {  // elsewhere they are the page's keys
      event.preventDefault();
      stop();
      go(at + (event.key === "]" ? 1 : -1));
    }
    if (event.target === slider || event.target === against) return;  // they know the others themselves
    if (event.key === "Home" || event.key === "End") {
      event.preventDefault();
      stop();
      go(event.key === "Home" ? 1 : last);
    }
  });

  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    const move = event.target.closest("a[data-move]"), link = event.target.closest("a[data-step]");
    if (!move && !link) return;
    event.preventDefault();
    stop();
    if (link) go(Number(link.dataset.step));
    else go({first: 1, back: at - 1, on: at + 1, last}[move.dataset.move]);
  });

  markMoves();
  for (const near of [at + 1, at - 1]) if (near >= 1 && near <= last) load(near).catch(() => {});
})();
