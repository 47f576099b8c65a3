// The bar that a filter is typed into; what is typed stands in the address.

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { Search, StateIcon } from "../parts/icons.tsx";
import { go } from "../place.ts";
import { formatFilter, toggleState, type Filter } from "./filter.ts";
import { STATES } from "./states.ts";

/** How long typing rests before it counts, in milliseconds. */
const REST = 250;

export function FilterBar({ typed, filter, problems }: { typed: string; filter: Filter; problems: readonly string[] }): JSX.Element {
  const [text, setText] = useState(typed);
  const told = useRef(typed);
  useEffect(() => {
    if (typed === told.current) return; // our own doing
    told.current = typed;
    setText(typed);
  }, [typed]);
  useEffect(() => {
    if (text === told.current) return undefined;
    const timer = setTimeout(() => tell(text), REST);
    return () => clearTimeout(timer);
  }, [text]);

  function tell(next: string): void {
    told.current = next;
    setText(next);
    go({ screen: "tasks", query: { filter: next } }, { replace: true });
  }

  return (
    <search class="filter">
      <div class="filter-line">
        <Search />
        <input
          type="search"
          value={text}
          maxLength={2000}
          placeholder="state:failed  type:generate_image  meta.shot:12  lighthouse"
          aria-label="Filter tasks"
          aria-describedby="filter-problems"
          spellcheck={false}
          onInput={(event) => setText(event.currentTarget.value)}
          onKeyDown={(event) => event.key === "Enter" && tell(event.currentTarget.value)}
        />
      </div>
      <div class="chips" role="group" aria-label="States">
        {STATES.map((state) => (
          <button
            key={state}
            type="button"
            class={`chip state-${state}`}
            aria-pressed={filter.states.includes(state)}
            onClick={() => tell(formatFilter(toggleState(filter, state)))}
          >
            <StateIcon state={state} />
            {state}
          </button>
        ))}
      </div>
      <p id="filter-problems" class="problem" aria-live="polite">
        {problems.join(" ")}
      </p>
    </search>
  );
}
