// The strip above the list: when its tasks were submitted, and in which state they are now.

import type { JSX } from "preact";
import { useMemo } from "preact/hooks";

import { now } from "../parts/clock.ts";
import { clock, counted, span } from "../parts/format.ts";
import type { Task } from "../plane/contract.ts";
import { byState, stripOf } from "./strip.ts";
import { STATES } from "./states.ts";

const HEIGHT = 36;
const STEP = 10;

/** Drawn once a second, however fast the tasks move. */
export function StripChart({ tasks, scope, isLoading }: { tasks: readonly Task[]; scope: string; isLoading: boolean }): JSX.Element | null {
  const moment = now.value;
  const isEmpty = tasks.length === 0;
  const strip = useMemo(() => stripOf(tasks, moment), [moment, scope, isEmpty, isLoading]);
  if (isEmpty || strip.columns.length === 0) return null;
  const first = strip.columns[0]?.start ?? moment;
  const counts = byState(tasks);
  const told = STATES.filter((state) => counts[state] > 0).map((state) => `${counts[state]} ${state}`);
  return (
    <div class="strip" role="img" aria-label={`${counted(tasks.length, "task")} since ${clock(first, { now: moment })}: ${told.join(", ")}`}>
      <svg viewBox={`0 0 ${strip.columns.length * STEP} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
        {strip.columns.map((column, index) => {
          let base = HEIGHT;
          return STATES.toReversed().map((state) => {
            const height = (column.counts[state] * HEIGHT) / strip.highest;
            base -= height;
            return height > 0 && (
              <rect key={`${column.start} ${state}`} class={`chart-${state}`} x={index * STEP + 1} y={base} width={STEP - 2} height={height} />
            );
          });
        })}
      </svg>
      <p class="strip-scale number">
        <span>{clock(first, { now: moment })}</span>
        <span>submitted, {span(strip.length / 1000)} a column</span>
        <span>now</span>
      </p>
    </div>
  );
}
