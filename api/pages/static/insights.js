// While the log is being read, the page asks again by itself.

"use strict";

for (const waiting of document.querySelectorAll("[data-again]")) {
  setTimeout(() => location.reload(), Number(waiting.dataset.again));
}
