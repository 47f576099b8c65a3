// Whether what is shown follows the plane as it goes.

import type { JSX } from "preact";

import type { Connection } from "../plane/follow.ts";

const WORDS: Readonly<Record<Connection, string>> = {
  connecting: "connecting",
  live: "live",
  broken: "reconnecting",
};

export function Live({ connection }: { connection: Connection }): JSX.Element {
  return (
    <span class={`live live-${connection}`} role="status">
      {WORDS[connection]}
    </span>
  );
}
