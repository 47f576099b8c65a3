// The durable readers of the log: how far webhooks, the brain and the counting are behind.

import type { JSX } from "preact";
import { useEffect, useMemo } from "preact/hooks";

import { seconds, span, words } from "../parts/format.ts";
import { poll } from "../parts/poll.ts";
import { operations } from "../plane/client.ts";
import type { LogReader } from "../plane/contract.ts";

const PERIOD = 5_000;
/** How far behind a reader may be before it stands out, in seconds. */
const LATE = 10;

export function Readers(): JSX.Element | null {
  const polled = useMemo(() => poll((signal) => operations.listLogReaders({}, { signal }), PERIOD), []);
  useEffect(() => polled.stop, [polled]);
  const readers = polled.answer.value?.readers ?? [];
  if (readers.length === 0) return null;
  return (
    <section aria-labelledby="readers-title">
      <h2 id="readers-title">Readers of the log</h2>
      <ul class="readers card">
        {readers.map((reader) => (
          <li key={reader.name}>
            <strong>{words(reader.name)}</strong> <Standing reader={reader} />
          </li>
        ))}
      </ul>
    </section>
  );
}

function Standing({ reader }: { reader: LogReader }): JSX.Element {
  const lag = seconds(reader.lag) ?? 0;
  if (!reader.isHeld) return <span class="dot dot-failed">nobody does it now</span>;
  if (lag >= LATE) return <span class="dot dot-pending number">{span(lag)} behind</span>;
  return <span class="dot dot-succeeded">keeps up</span>;
}
