// What GetPerformance counted, laid out over time: one column for each bucket, with those in which nothing happened.

import { millis, seconds } from "../parts/format.ts";
import type { GetPerformanceResponse, QueuePerformance, TaskMeasures } from "../plane/contract.ts";

/** The buckets of a window: where each starts, in milliseconds since 1970. */
export interface Grid {
  readonly starts: readonly number[];
  /** How long each is, in milliseconds. */
  readonly length: number;
}

/** As many buckets as are drawn; a window has 60 or 96. */
const MOST = 400;

/** Return the buckets of the window; none before anything was counted. */
export function gridOf(answer: GetPerformanceResponse): Grid {
  const from = millis(answer.startTime);
  const to = millis(answer.endTime);
  const length = (seconds(answer.bucketLength) ?? 0) * 1000;
  if (from === undefined || to === undefined || length <= 0) return { starts: [], length: 0 };
  const count = Math.min(MOST, Math.max(0, Math.round((to - from) / length)));
  return { starts: Array.from({ length: count }, (_, index) => from + index * length), length };
}

/** How many tasks ended in one bucket, by how. */
export interface Ended {
  readonly start: number;
  readonly succeeded: number;
  readonly failed: number;
  readonly cancelled: number;
}

/** Return how many tasks of all types ended in each bucket. */
export function endedOverTime(answer: GetPerformanceResponse, grid: Grid): readonly Ended[] {
  const sums = new Map<number, { succeeded: number; failed: number; cancelled: number }>();
  for (const type of answer.taskTypes) {
    for (const bucket of type.buckets) {
      const index = indexOf(grid, millis(bucket.startTime));
      const sum = sums.get(index) ?? { succeeded: 0, failed: 0, cancelled: 0 };
      sum.succeeded += Number(bucket.measures?.succeeded ?? 0n);
      sum.failed += Number(bucket.measures?.failed ?? 0n);
      sum.cancelled += Number(bucket.measures?.cancelled ?? 0n);
      sums.set(index, sum);
    }
  }
  return grid.starts.map((start, index) => ({ start, ...(sums.get(index) ?? { succeeded: 0, failed: 0, cancelled: 0 }) }));
}

/** Return how many tasks of the queue were ready in each bucket, on average; undefined where nobody looked. */
export function readyOverTime(queue: QueuePerformance, grid: Grid): readonly (number | undefined)[] {
  const ready = new Map(queue.buckets.map((bucket) => [indexOf(grid, millis(bucket.startTime)), bucket.measures?.meanReady]));
  return grid.starts.map((_, index) => ready.get(index));
}

function indexOf(grid: Grid, start: number | undefined): number {
  const [first] = grid.starts;
  if (first === undefined || start === undefined) return -1;
  return Math.round((start - first) / grid.length);
}

/** Return what was counted of all types together: sums, the longest of all, and averages weighed by their counts. */
export function total(answer: GetPerformanceResponse): { ended: number; failed: number; failureRate: number } {
  let succeeded = 0;
  let failed = 0;
  for (const type of answer.taskTypes) {
    succeeded += Number(type.total?.succeeded ?? 0n);
    failed += Number(type.total?.failed ?? 0n);
  }
  const ended = succeeded + failed;
  return { ended, failed, failureRate: ended === 0 ? 0 : failed / ended };
}

/** Whether anything was counted. */
export function isEmpty(measures: TaskMeasures | undefined): boolean {
  return measures === undefined || measures.submitted + measures.succeeded + measures.failed + measures.cancelled === 0n;
}

/** Return the top of a scale: the next of 1, 2, 5, 10, 20 … that holds the highest value. */
export function scaleTop(highest: number): number {
  if (highest <= 1) return 1;
  const power = 10 ** Math.floor(Math.log10(highest));
  return power * ([1, 2, 5, 10].find((step) => step * power >= highest) ?? 10);
}
