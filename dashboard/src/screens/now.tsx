// Now: what waits, who works, on which devices, and how it went in the last hour or day.

import type { JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";

import { EndedChart, ReadyChart } from "../now/charts.tsx";
import { Performance } from "../now/performance.tsx";
import { Queues } from "../now/queues.tsx";
import { Readers } from "../now/readers.tsx";
import { endedOverTime, gridOf, readyOverTime, total } from "../now/series.ts";
import { count, percent } from "../parts/format.ts";
import { poll } from "../parts/poll.ts";
import { go } from "../place.ts";
import { operations } from "../plane/client.ts";
import { PerformanceWindow, type GetPerformanceResponse, type Queue, type Worker } from "../plane/contract.ts";
import { may } from "../plane/session.ts";
import { Device } from "./workers.tsx";

/** How often the state of things is asked for, and how often what was counted, in milliseconds. */
const PERIOD = 2_000;
const COUNTED_PERIOD = 10_000;

const WINDOWS = [
  { window: PerformanceWindow.HOUR, name: "last hour" },
  { window: PerformanceWindow.DAY, name: "last day" },
] as const;

export function Now({ project }: { project: string }): JSX.Element {
  return may.value.operate ? <Operating project={project} /> : <Elsewhere />;
}

/** Whoever may not look at queues and workers begins with the tasks. */
function Elsewhere(): JSX.Element {
  const mayRead = may.value.read;
  useEffect(() => {
    if (mayRead) go({ screen: "tasks" }, { replace: true });
  }, [mayRead]);
  return (
    <div class="nothing">
      <p>This key may not look at queues and workers.</p>
    </div>
  );
}

function Operating({ project }: { project: string }): JSX.Element {
  const [window_, setWindow] = useState<PerformanceWindow>(PerformanceWindow.HOUR);
  const [ofAll, setOfAll] = useState(false);
  const of = ofAll ? "" : project;
  const state = useMemo(() => poll(async (signal) => {
    const [queues, workers] = await Promise.all([operations.listQueues({}, { signal }), operations.listWorkers({}, { signal })]);
    return { queues: queues.queues, workers: workers.workers };
  }, PERIOD), []);
  const counted = useMemo(
    () => poll((signal) => operations.getPerformance({ project: of, window: window_ }, { signal }), COUNTED_PERIOD),
    [of, window_],
  );
  useEffect(() => state.stop, [state]);
  useEffect(() => counted.stop, [counted]);
  const there = state.answer.value;
  const answer = counted.answer.value;
  return (
    <>
      <div class="screen-head">
        <h1>Now</h1>
        <span class="gap" />
        <div class="chips" role="group" aria-label="Whose tasks are counted">
          <button type="button" class="chip" aria-pressed={!ofAll} onClick={() => setOfAll(false)}>{project}</button>
          <button type="button" class="chip" aria-pressed={ofAll} onClick={() => setOfAll(true)}>all projects</button>
        </div>
        <div class="chips" role="group" aria-label="Over which time">
          {WINDOWS.map((each) => (
            <button key={each.name} type="button" class="chip" aria-pressed={each.window === window_} onClick={() => setWindow(each.window)}>
              {each.name}
            </button>
          ))}
        </div>
      </div>
      {state.problem.value !== "" && <p class="problem" role="alert">{state.problem.value}</p>}
      {counted.problem.value !== "" && counted.problem.value !== state.problem.value && <p class="problem" role="alert">{counted.problem.value}</p>}
      {there && <Headline queues={there.queues} workers={there.workers} answer={answer} />}
      {answer && <Charts answer={answer} />}
      {there && <Queues queues={there.queues} onChanged={() => void state.again()} />}
      {answer && <Performance answer={answer} />}
      {there && <Devices workers={there.workers} />}
      <Readers />
    </>
  );
}

function Headline({ queues, workers, answer }: { queues: readonly Queue[]; workers: readonly Worker[]; answer: GetPerformanceResponse | undefined }): JSX.Element {
  const ready = queues.reduce((sum, queue) => sum + Number(queue.ready), 0);
  const slots = workers.flatMap((worker) => worker.slots);
  const busy = slots.reduce((sum, each) => sum + each.busy, 0);
  const ended = answer && total(answer);
  return (
    <dl class="headline">
      <Figure name="Ready" value={count(ready)} />
      <Figure name="Running" value={count(busy)} />
      <Figure name="Workers" value={count(workers.length)} />
      {ended && <Figure name="Ended" value={count(ended.ended)} />}
      {ended && <Figure name="Failed" value={percent(ended.failureRate)} isBad={ended.failed > 0} />}
    </dl>
  );
}

function Figure({ name, value, isBad }: { name: string; value: string; isBad?: boolean }): JSX.Element {
  return (
    <div class={isBad ? "figure figure-bad" : "figure"}>
      <dt>{name}</dt>
      <dd class="number">{value}</dd>
    </div>
  );
}

function Charts({ answer }: { answer: GetPerformanceResponse }): JSX.Element {
  const grid = gridOf(answer);
  const lines = answer.queues.map((queue) => ({ name: queue.name, values: readyOverTime(queue, grid) }));
  return (
    <div class="charts">
      <section class="card" aria-label="Tasks that ended">
        <EndedChart buckets={endedOverTime(answer, grid)} grid={grid} />
      </section>
      <section class="card" aria-label="Tasks ready for a worker">
        <ReadyChart lines={lines} grid={grid} />
      </section>
    </div>
  );
}

/** The devices that runners told of, with their memory and warm models. */
function Devices({ workers }: { workers: readonly Worker[] }): JSX.Element | null {
  const devices = workers.flatMap((worker) => worker.devices.map((device) => ({ worker, device })));
  if (devices.length === 0) return null;
  return (
    <section aria-labelledby="devices-title">
      <h2 id="devices-title">Devices</h2>
      <ul class="devices">
        {devices.map(({ worker, device }) => (
          <li key={`${worker.id} ${device.name}`} class="card">
            <p class="muted">{worker.host}</p>
            <Device device={device} />
          </li>
        ))}
      </ul>
    </section>
  );
}
