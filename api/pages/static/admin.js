// What is shown once is copied once: a click into it selects all of it.

"use strict";

for (const field of document.querySelectorAll("[data-copy]")) {
  field.addEventListener("focus", () => field.select());
}
