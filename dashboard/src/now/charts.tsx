// The two charts of Now, drawn as SVG, each with its numbers as a table for whoever cannot see them.

import type { JSX } from "preact";
import { useState } from "preact/hooks";

import { now } from "../parts/clock.ts";
import { clock, count } from "../parts/format.ts";
import { scaleTop, type Ended, type Grid } from "./series.ts";

const WIDTH = 720;
const HEIGHT = 150;
const LEFT = 38;
const BOTTOM = 20;
const TOP = 8;

const PARTS = ["failed", "cancelled", "succeeded"] as const;

/** How many tasks ended, over time. */
export function EndedChart({ buckets, grid }: { buckets: readonly Ended[]; grid: Grid }): JSX.Element {
  const [over, setOver] = useState<Ended | undefined>();
  const highest = scaleTop(Math.max(0, ...buckets.map((each) => each.succeeded + each.failed + each.cancelled)));
  const step = (WIDTH - LEFT) / Math.max(1, buckets.length);
  const scale = (HEIGHT - BOTTOM - TOP) / highest;
  return (
    <figure class="chart">
      <figcaption>
        Tasks that ended
        <span class="legend number" aria-hidden="true">
          {over === undefined
            ? PARTS.toReversed().map((part) => <span key={part} class={`key key-${part}`}>{part}</span>)
            : `${clock(over.start, { now: now.value })} · ${count(over.succeeded)} succeeded · ${count(over.failed)} failed · ${count(over.cancelled)} cancelled`}
        </span>
      </figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} aria-hidden="true" onMouseLeave={() => setOver(undefined)}>
        <Axis highest={highest} grid={grid} />
        {buckets.map((bucket, index) => {
          let base = HEIGHT - BOTTOM;
          const x = LEFT + index * step;
          return (
            <g key={bucket.start} onMouseEnter={() => setOver(bucket)}>
              <rect class="chart-reach" x={x} y={TOP} width={step} height={HEIGHT - TOP - BOTTOM} />
              {PARTS.map((part) => {
                const height = bucket[part] * scale;
                base -= height;
                return height > 0 && <rect key={part} class={`chart-${part}`} x={x + step * 0.12} y={base} width={step * 0.76} height={height} />;
              })}
            </g>
          );
        })}
      </svg>
      <Numbers
        columns={["From", "Succeeded", "Failed", "Cancelled"]}
        rows={buckets.filter((each) => each.succeeded + each.failed + each.cancelled > 0).map((each) => [clock(each.start, { now: now.peek() }), each.succeeded, each.failed, each.cancelled])}
        label="Tasks that ended, over time"
      />
    </figure>
  );
}

/** How many tasks were ready, over time, a line for each queue. */
export function ReadyChart({ lines, grid }: { lines: readonly { name: string; values: readonly (number | undefined)[] }[]; grid: Grid }): JSX.Element {
  const highest = scaleTop(Math.max(0, ...lines.flatMap((line) => line.values.map((value) => value ?? 0))));
  const step = (WIDTH - LEFT) / Math.max(1, grid.starts.length);
  const y = (value: number): number => HEIGHT - BOTTOM - (value * (HEIGHT - BOTTOM - TOP)) / highest;
  return (
    <figure class="chart">
      <figcaption>
        Tasks ready for a worker
        <span class="legend" aria-hidden="true">
          {lines.map((line, index) => <span key={line.name} class={`key line-${index % 4}`}>{line.name}</span>)}
        </span>
      </figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} aria-hidden="true">
        <Axis highest={highest} grid={grid} />
        {lines.map((line, index) => (
          <path key={line.name} class={`chart-line line-${index % 4}`} d={pathOf(line.values, (at) => LEFT + (at + 0.5) * step, y)} />
        ))}
      </svg>
      <Numbers
        columns={["Queue", "Most on average"]}
        rows={lines.map((line) => [line.name, Math.max(0, ...line.values.map((value) => value ?? 0)).toFixed(1)])}
        label="Tasks ready for a worker, by queue"
      />
    </figure>
  );
}

/** Return the path through the values; it is broken where there is none. */
export function pathOf(values: readonly (number | undefined)[], x: (index: number) => number, y: (value: number) => number): string {
  let isOpen = false;
  return values
    .map((value, index) => {
      if (value === undefined) {
        isOpen = false;
        return "";
      }
      const step = `${isOpen ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}${isOpen ? "" : "h.01"}`;
      isOpen = true;
      return step;
    })
    .join("");
}

/** The lines behind a chart: nothing, half, and the top of the scale; and the time at its ends. */
function Axis({ highest, grid }: { highest: number; grid: Grid }): JSX.Element {
  const bottom = HEIGHT - BOTTOM;
  const [first] = grid.starts;
  const last = grid.starts.at(-1);
  return (
    <g class="axis">
      {[0, 0.5, 1].map((share) => {
        const y = bottom - share * (bottom - TOP);
        return (
          <g key={share}>
            <line x1={LEFT} x2={WIDTH} y1={y} y2={y} />
            <text x={LEFT - 6} y={y + 3.5} text-anchor="end">
              {share === 0.5 && highest < 2 ? "" : count(highest * share)}
            </text>
          </g>
        );
      })}
      {first !== undefined && (
        <text x={LEFT} y={HEIGHT - 5}>
          {clock(first, { now: now.peek() }).slice(0, -3)}
        </text>
      )}
      {last !== undefined && (
        <text x={WIDTH} y={HEIGHT - 5} text-anchor="end">
          now
        </text>
      )}
    </g>
  );
}

function Numbers({ label, columns, rows }: { label: string; columns: readonly string[]; rows: readonly (readonly (string | number)[])[] }): JSX.Element {
  return (
    <table class="unseen" aria-label={label}>
      <thead>
        <tr>
          {columns.map((column) => (
            <th key={column} scope="col">
              {column}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <tr key={String(row[0])}>
            {row.map((value, index) => (
              <td key={columns[index]}>{value}</td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}
