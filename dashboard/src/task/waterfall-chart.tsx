// The waterfall as a picture, and as a table for whoever cannot see one.

import type { JSX } from "preact";

import { now } from "../parts/clock.ts";
import { counted, span } from "../parts/format.ts";
import { isFinal } from "../tasks/states.ts";
import type { Story } from "./story.ts";
import { waterfall, type Mark, type Span, type Waterfall } from "./waterfall.ts";

export function WaterfallChart({ story }: { story: Story }): JSX.Element | null {
  const facts = story.facts.value;
  const task = story.task.value;
  const goesOn = task !== undefined && !isFinal(task.state);
  // A task that has ended does not move with the clock, unless a delivery is under way.
  const deliveries = story.deliveries.value;
  const brain = story.brain.value;
  const isTelling = deliveries.some((each) => !each.endTime) || (brain !== undefined && !brain.isDone && brain.refusal === "");
  const moment = goesOn || isTelling ? now.value : 0;
  const chart = waterfall({ facts, task, deliveries, stays: story.stays.value, brain }, moment);
  if (chart === undefined) return null;
  return (
    <section class="card" aria-labelledby="waterfall-title">
      <h2 id="waterfall-title">Where the time went</h2>
      <div class="waterfall" role="table" aria-labelledby="waterfall-title">
        <Ruler chart={chart} />
        {chart.spans.map((each, index) => (
          <Bar key={`${each.kind} ${index}`} bar={each} chart={chart} />
        ))}
      </div>
    </section>
  );
}

const MARKS = 4;

function Ruler({ chart }: { chart: Waterfall }): JSX.Element {
  const length = (chart.to - chart.from) / 1000;
  return (
    <div class="waterfall-ruler" aria-hidden="true">
      <span />
      <div class="waterfall-marks">
        {Array.from({ length: MARKS + 1 }, (_, index) => (
          <span key={index} class="number" style={{ left: `${(index * 100) / MARKS}%` }}>
            {index === 0 ? "0" : span((length * index) / MARKS)}
          </span>
        ))}
      </div>
      <span />
    </div>
  );
}

function Bar({ bar, chart }: { bar: Span; chart: Waterfall }): JSX.Element {
  const whole = chart.to - chart.from;
  const pieces = bar.pieces ?? [bar];
  const length = pieces.reduce((sum, piece) => sum + (piece.to ?? chart.to) - piece.from, 0);
  const share = (time: number): number => ((time - chart.from) / whole) * 100;
  const heard = [bar.detail ?? "", ...marksHeard(bar.marks ?? [])].filter((each) => each !== "").join(", ");
  const look = ["waterfall-bar", `bar-${bar.kind}`, bar.failed ? "bar-failed" : ""];
  return (
    <div class={bar.part ? "waterfall-row waterfall-part" : "waterfall-row"} role="row" title={bar.detail ?? ""}>
      <span role="rowheader">{bar.label}</span>
      <div class="waterfall-lane" role="cell">
        {heard !== "" && <span class="unseen">{heard}</span>}
        {pieces.map((piece) => {
          const left = share(piece.from);
          const width = Math.max(0, (((piece.to ?? chart.to) - piece.from) / whole) * 100);
          const isOpen = piece.to === undefined ? "bar-open" : "";
          return <div key={piece.from} class={[...look, isOpen].join(" ")} style={{ left: `${left}%`, width: `max(3px, ${width}%)` }} />;
        })}
        {bar.marks?.map((mark) => (
          <div key={`${mark.kind} ${mark.time}`} class={`waterfall-mark mark-${mark.kind}`} style={{ left: `${share(mark.time)}%` }} title={mark.label} aria-hidden="true" />
        ))}
      </div>
      <span role="cell" class="number">
        {bar.to === undefined ? "…" : span(length / 1000)}
      </span>
    </div>
  );
}

/** What is said of marks to whoever cannot see them: of states that were saved, how many and the last. */
function marksHeard(marks: readonly Mark[]): readonly string[] {
  const saved = marks.filter((mark) => mark.kind === "saved");
  const given = marks.filter((mark) => mark.kind === "given").map((mark) => mark.label);
  const last = saved.at(-1);
  return last === undefined ? given : [...given, `${counted(saved.length, "checkpoint")}, the last: ${last.label}`];
}
