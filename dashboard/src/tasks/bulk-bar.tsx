// Bulk actions on everything that the filter means: a count first, then the question, then how far it is, and what was refused.

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { Ask } from "../parts/ask.tsx";
import { count, counted } from "../parts/format.ts";
import { tell } from "../parts/notices.tsx";
import { sentence } from "../plane/errors.ts";
import { carryOut, refusals, type Tally } from "./bulk.ts";
import { formatFilter, type Filter } from "./filter.ts";
import { acting, find, type Found, type Wish } from "./wishes.ts";

const DONE: Readonly<Record<Wish, string>> = { cancel: "asked to stop", retry: "submitted again" };

type Standing =
  | { readonly at: "rest" }
  | { readonly at: "counting"; readonly wish: Wish; readonly found: number }
  | { readonly at: "asking"; readonly wish: Wish; readonly found: Found }
  | { readonly at: "work"; readonly tally: Tally };

const REST: Standing = { at: "rest" };

export function BulkBar({ project, filter, wishes }: { project: string; filter: Filter; wishes: readonly Wish[] }): JSX.Element {
  const [standing, setStanding] = useState<Standing>(REST);
  const control = useRef<AbortController | undefined>(undefined);
  useEffect(() => () => control.current?.abort(), []);
  const stop = (): void => control.current?.abort();

  async function ask(wish: Wish): Promise<void> {
    const { signal } = (control.current = new AbortController());
    setStanding({ at: "counting", wish, found: 0 });
    try {
      const found = await find(wish, { project, filter }, { signal, onFound: (number) => setStanding({ at: "counting", wish, found: number }) });
      setStanding({ at: "asking", wish, found });
    } catch (thrown) {
      if (!signal.aborted) tell(sentence(thrown), { failed: true });
      setStanding(REST);
    }
  }

  async function go(wish: Wish, { tasks }: Found): Promise<void> {
    const { signal } = (control.current = new AbortController());
    const onTally = (tally: Tally): void => setStanding({ at: "work", tally });
    onTally({ done: 0, total: tasks.length, refused: [], isStopped: false });
    const end = await carryOut(tasks, acting(wish), { onTally, stop: signal });
    setStanding(REST);
    tell(summary(wish, end), { failed: end.refused.length > 0 });
  }

  if (standing.at === "work") return <Working tally={standing.tally} onStop={stop} />;
  if (standing.at === "counting") {
    return (
      <div class="bulk" role="status">
        {count(standing.found)} found …
        <button type="button" onClick={stop}>
          Stop counting
        </button>
      </div>
    );
  }
  return (
    <div class="bulk" role="group" aria-label="For all tasks of this filter">
      {wishes.map((wish) => (
        <button key={wish} type="button" onClick={() => void ask(wish)}>
          {wish === "cancel" ? "Cancel all of these" : "Retry all of these"}
        </button>
      ))}
      {standing.at === "asking" && (
        <Confirm {...standing} filter={filter} onNo={() => setStanding(REST)} onYes={() => void go(standing.wish, standing.found)} />
      )}
    </div>
  );
}

function Working({ tally, onStop }: { tally: Tally; onStop: () => void }): JSX.Element {
  const refused = refusals(tally);
  return (
    <div class="bulk">
      <progress aria-label="How far the bulk action is" max={tally.total} value={tally.done + refused} />
      <span role="status">
        {count(tally.done + refused)} of {counted(tally.total, "task")}
        {refused > 0 && <span class="failure-word"> · {count(refused)} refused</span>}
      </span>
      <button type="button" onClick={onStop}>
        Stop here
      </button>
    </div>
  );
}

/** What came of it, as one text for the eye and for the ear. */
function summary(wish: Wish, { done, total, refused, isStopped }: Tally): string {
  const begun = isStopped ? `Stopped: ${count(done)} of ${counted(total, "task")}` : counted(done, "task");
  const why = refused.map((each) => `${count(each.count)} ${each.reason}`).join(", ");
  return `${begun} ${DONE[wish]}.${why === "" ? "" : ` Refused: ${why}.`}`;
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
