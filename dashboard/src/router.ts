// Where the page is, as its address says: #/screen/part?name=value, so that every view can be sent as a link.

export const SCREENS = ["now", "tasks", "playground", "deliveries", "dead-letters", "workers"] as const;
export type Screen = (typeof SCREENS)[number];

export interface Place {
  readonly screen: Screen;
  /** What of the screen, such as a task's id; "" for the screen itself. */
  readonly part: string;
  readonly query: Readonly<Record<string, string>>;
}

const FIRST: Place = { screen: "now", part: "", query: {} };

/** Read a place out of an address's hash; what is not known leads to the first screen. */
export function parsePlace(hash: string): Place {
  const [path = "", query = ""] = hash.replace(/^#/, "").split(/\?(.*)/s);
  const [screen = "", part = ""] = path.split("/").filter((each) => each !== "").map(decoded);
  const found = SCREENS.find((each) => each === screen);
  if (found === undefined) return FIRST;
  return { screen: found, part, query: Object.fromEntries(new URLSearchParams(query)) };
}

/** Return the hash that reads back as the place; empty values are left out. */
export function formatPlace(place: { screen: Screen; part?: string; query?: Readonly<Record<string, string>> }): string {
  const filled = Object.entries(place.query ?? {}).filter(([, value]) => value !== "");
  const query = new URLSearchParams(filled).toString();
  const part = place.part ? `/${encodeURIComponent(place.part)}` : "";
  return `#/${place.screen}${part}${query === "" ? "" : `?${query}`}`;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
