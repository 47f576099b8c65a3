// The page's clock: one tick a second for everything that shows how long ago.

import { signal } from "@preact/signals";

const TICK = 1_000;

/** Now, in milliseconds since 1970; moves once a second while the page is shown. */
export const now = signal(Date.now());

setInterval(() => {
  if (!document.hidden) now.value = Date.now();
}, TICK);
