// Bulk actions on everything that the filter means: a count first, then the question, then how far it is.

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { Ask } from "../parts/ask.tsx";
import { count, counted } from "../parts/format.ts";
import { tell } from "../parts/notices.tsx";
import { sentence } from "../plane/errors.ts";
import { carryOut, find, type Found, type Tally, type Wish } from "./bulk.ts";
import { formatFilter, type Filter } from "./filter.ts";

const DONE: Readonly<Record<Wish, string>> = { cancel: "asked to stop", retry: "submitted again" };

export function BulkBar({ project, filter, wishes }: { project: string; filter: Filter; wishes: readonly Wish[] }): JSX.Element {
  const [asked, setAsked] = useState<{ wish: Wish; found: Found } | undefined>();
  const [counting, setCounting] = useState<Wish | undefined>();
  const [tally, setTally] = useState<Tally | undefined>();
  const control = useRef<AbortController | undefined>(undefined);
  useEffect(() => () => control.current?.abort(), []);

  async function ask(wish: Wish): Promise<void> {
    control.current = new AbortController();
    setCounting(wish);
    try {
      setAsked({ wish, found: await find(wish, { project, filter }, control.current.signal) });
    } catch (thrown) {
      if (!control.current.signal.aborted) tell(sentence(thrown), { failed: true });
    } finally {
      setCounting(undefined);
    }
  }

  async function go(wish: Wish, found: Found): Promise<void> {
    setAsked(undefined);
    const running = (control.current = new AbortController());
    const end = await carryOut(wish, found.tasks, setTally, running.signal);
    setTally(undefined);
    const refused = end.refused === 0 ? "" : ` ${count(end.refused)} were refused: ${end.problem}.`;
    tell(`${counted(end.done, "task")} ${DONE[wish]}.${refused}`, { failed: end.refused > 0 });
  }

  if (tally !== undefined) {
    const sofar = tally.done + tally.refused;
    return (
      <div class="bulk" role="status">
        {count(sofar)} of {counted(tally.total, "task")} …
        <button type="button" onClick={() => control.current?.abort()}>
          Stop here
        </button>
      </div>
    );
  }
  return (
    <div class="bulk" role="group" aria-label="For all tasks of this filter">
      {wishes.map((wish) => (
        <button key={wish} type="button" disabled={counting !== undefined} onClick={() => void ask(wish)}>
          {counting === wish ? "Counting …" : wish === "cancel" ? "Cancel all of these" : "Retry all of these"}
        </button>
      ))}
      {asked !== undefined && (
        <Confirm {...asked} filter={filter} onNo={() => setAsked(undefined)} onYes={() => void go(asked.wish, asked.found)} />
      )}
    </div>
  );
}

interface Confirmation {
  readonly wish: Wish;
  readonly found: Found;
  readonly filter: Filter;
  readonly onYes: () => void;
  readonly onNo: () => void;
}

function Confirm({ wish, found, filter, onYes, onNo }: Confirmation): JSX.Element {
  const many = counted(found.tasks.length, "task");
  const meant = formatFilter(filter) || "everything";
  if (found.tasks.length === 0) {
    return (
      <Ask title={`Nothing to ${wish}`} yes="All right" onYes={onNo} onNo={onNo}>
        <p>No task of “{meant}” can be {wish === "cancel" ? "cancelled" : "retried"}.</p>
      </Ask>
    );
  }
  return (
    <Ask
      title={`${wish === "cancel" ? "Cancel" : "Retry"} ${many}?`}
      yes={wish === "cancel" ? `Cancel ${many}` : `Retry ${many}`}
      danger={wish === "cancel"}
      onYes={onYes}
      onNo={onNo}
    >
      <p>
        All that <code>{meant}</code> means now{found.isCut ? ", the newest of them" : ""}.{" "}
        {wish === "cancel" ? "What runs is stopped; that cannot be taken back." : "Each becomes a new task."}
      </p>
    </Ask>
  );
}
