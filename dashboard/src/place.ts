// The place the page is at, followed through the browser's history.

import { computed, signal } from "@preact/signals";

import { formatPlace, parsePlace, type Screen } from "./router.ts";

const hash = signal(location.hash);
addEventListener("hashchange", () => (hash.value = location.hash));

export const place = computed(() => parsePlace(hash.value));

/** Go to a place; *replace* leaves no step back to the one before. */
export function go(
  to: { screen: Screen; part?: string; query?: Readonly<Record<string, string>> },
  { replace = false }: { replace?: boolean } = {},
): void {
  const address = formatPlace(to);
  if (replace) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  hash.value = address;
}
