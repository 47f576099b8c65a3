// When the tasks of a list were submitted, and what became of them: the numbers of the strip above the list.

import { millis } from "../parts/format.ts";
import type { Task } from "../plane/contract.ts";
import { STATES, stateName, type StateName } from "./states.ts";

export interface Column {
  /** When it starts, in milliseconds since 1970. */
  readonly start: number;
  readonly counts: Readonly<Record<StateName, number>>;
}

export interface Strip {
  readonly columns: readonly Column[];
  /** How long a column is, in milliseconds. */
  readonly length: number;
  /** The most tasks of one column. */
  readonly highest: number;
}

/** Lengths a column may have: the first by which the tasks fit into the strip is taken. */
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const LENGTHS = [
  SECOND, 5 * SECOND, 15 * SECOND, 30 * SECOND, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 6 * HOUR, 24 * HOUR, 7 * 24 * HOUR,
];

/** As many columns as there are at least, so that none is as broad as a wall. */
const LEAST = 60;

const NOTHING: Strip = { columns: [], length: 0, highest: 0 };

/** Return the strip of the tasks up to now, in at most *most* columns; empty without tasks. */
export function stripOf(tasks: readonly Task[], now: number, most = 90): Strip {
  const times = tasks.map((task) => millis(task.createTime) ?? now);
  if (times.length === 0) return NOTHING;
  const oldest = times.reduce((one, other) => Math.min(one, other));
  const newest = times.reduce((one, other) => Math.max(one, other), now);
  const length = LENGTHS.find((each) => (newest - oldest) / each < most - 1) ?? (newest - oldest) / (most - 2);
  const last = Math.floor(newest / length) * length;
  const first = Math.min(Math.floor(oldest / length) * length, last - (LEAST - 1) * length);
  const counts = Array.from({ length: Math.round((last - first) / length) + 1 }, empty);
  tasks.forEach((task, index) => {
    const column = counts[Math.floor(((times[index] ?? first) - first) / length)];
    if (column) column[stateName(task.state)] += 1;
  });
  const columns = counts.map((each, index) => ({ start: first + index * length, counts: each }));
  return { columns, length, highest: Math.max(...counts.map(sum)) };
}

/** Return how many tasks there are in each state. */
export function byState(tasks: readonly Task[]): Readonly<Record<StateName, number>> {
  const counts = empty();
  for (const task of tasks) counts[stateName(task.state)] += 1;
  return counts;
}

function empty(): Record<StateName, number> {
  return { pending: 0, running: 0, succeeded: 0, failed: 0, cancelled: 0 };
}

function sum(counts: Readonly<Record<StateName, number>>): number {
  return STATES.reduce((total, state) => total + counts[state], 0);
}
