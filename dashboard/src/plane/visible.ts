// Whether anybody looks: a hidden page asks for nothing, and frees its stream for the visible ones.

import { effect, signal } from "@preact/signals";

/** How long a page may be hidden before it counts as not looked at, in milliseconds. */
const GRACE = 20_000;

/** Whether the page is looked at, or was until a moment ago. */
export const watched = signal(!document.hidden);

let timer: ReturnType<typeof setTimeout> | undefined;
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) watched.value = true;
  else timer = setTimeout(() => (watched.value = false), GRACE);
});

/** Do the work while the page is looked at; its signal is aborted when nobody does. Returns how to stop for good. */
export function whileWatched(work: (signal: AbortSignal) => Promise<void> | void): () => void {
  return effect(() => {
    if (!watched.value) return undefined;
    const control = new AbortController();
    // The work reads signals of its own, and is not to be begun anew by them.
    queueMicrotask(() => control.signal.aborted || void work(control.signal));
    return () => control.abort();
  });
}
