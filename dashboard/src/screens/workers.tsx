// Workers: who is there, what they run, and asking them to wait or to leave.

import type { JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";

import { useBusy } from "../parts/busy.ts";
import { now } from "../parts/clock.ts";
import { Ask } from "../parts/ask.tsx";
import { ago, bytes, counted, millis, percent, short } from "../parts/format.ts";
import { tell } from "../parts/notices.tsx";
import { poll } from "../parts/poll.ts";
import { operations } from "../plane/client.ts";
import type { Worker, WorkerDevice } from "../plane/contract.ts";
import { formatPlace } from "../router.ts";

const PERIOD = 2_000;

type Wish = "pause" | "resume" | "drain";

export function Workers(): JSX.Element {
  const polled = useMemo(() => poll((signal) => operations.listWorkers({}, { signal }), PERIOD), []);
  useEffect(() => polled.stop, [polled]);
  const workers = polled.answer.value?.workers;
  return (
    <>
      <div class="screen-head">
        <h1>Workers</h1>
        <p class="tally" aria-live="polite">{workers === undefined ? "" : counted(workers.length, "worker")}</p>
      </div>
      {polled.problem.value !== "" && <p class="problem" role="alert">{polled.problem.value}</p>}
      {workers?.length === 0 && (
        <div class="nothing">
          <p>No worker is there. Tasks wait until one comes.</p>
        </div>
      )}
      <ul class="worker-list">
        {workers?.map((worker) => (
          <li key={worker.id}>
            <WorkerCard worker={worker} onChanged={() => void polled.again()} />
          </li>
        ))}
      </ul>
    </>
  );
}

function WorkerCard({ worker, onChanged }: { worker: Worker; onChanged: () => void }): JSX.Element {
  const standing = worker.draining ? "draining" : worker.paused ? "paused" : "working";
  const look = worker.draining || worker.paused ? "pending" : "succeeded";
  return (
    <article class="card worker" aria-label={`Worker ${worker.id}`}>
      <div class="worker-head">
        <h2>{worker.host}</h2>
        <span class={`dot dot-${look}`}>{standing}</span>
        <span class="gap" />
        <WorkerActions worker={worker} onChanged={onChanged} />
      </div>
      <p class="muted number">
        {worker.id} · process {worker.pid} · up {ago(millis(worker.startTime) ?? now.value, now.value)} · heard of {ago(millis(worker.seenTime) ?? now.value, now.value)} ago
      </p>
      <dl class="worker-facts">
        <dt>Queues</dt>
        <dd>{worker.queues.join(", ")}</dd>
        <dt>Device</dt>
        <dd>{worker.device}</dd>
        <dt>Slots</dt>
        <dd class="number">
          {worker.slots.map((slots) => (
            <span key={slots.resourceClass} class="slots">
              {slots.busy} of {slots.total} {slots.resourceClass}
            </span>
          ))}
        </dd>
        <dt>Runs</dt>
        <dd>
          {worker.runningTaskIds.length === 0 ? <span class="muted">nothing of yours</span> : worker.runningTaskIds.map((id) => (
            <a key={id} class="run" href={formatPlace({ screen: "tasks", part: id })}>
              <code>{short(id)}</code>
            </a>
          ))}
        </dd>
        {Number(worker.batchedTasks) + Number(worker.overtakenTasks) > 0 && (
          <>
            <dt>Chosen</dt>
            <dd class="number">
              {Number(worker.batchedTasks)} ran together, {Number(worker.overtakenTasks)} were overtaken
            </dd>
          </>
        )}
      </dl>
      {worker.devices.map((device) => (
        <Device key={device.name} device={device} />
      ))}
    </article>
  );
}

export function Device({ device }: { device: WorkerDevice }): JSX.Element {
  const total = Number(device.memoryTotalBytes);
  const share = total === 0 ? 0 : Number(device.memoryUsedBytes) / total;
  return (
    <div class="device">
      <div class="device-line">
        <strong>{device.name}</strong>
        <span class="muted">{device.product}</span>
        <span class="gap" />
        {total > 0 && (
          <span class="number">
            {bytes(device.memoryUsedBytes, { binary: true })} of {bytes(total, { binary: true })}
          </span>
        )}
      </div>
      {total > 0 && (
        <div class="meter" role="meter" aria-label={`Memory of ${device.name}`} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(share * 100)} aria-valuetext={percent(share)}>
          <div style={{ width: `${share * 100}%` }} />
        </div>
      )}
      {device.loadedModels.length > 0 && <p class="models">Warm: {device.loadedModels.join(", ")}</p>}
    </div>
  );
}

function WorkerActions({ worker, onChanged }: { worker: Worker; onChanged: () => void }): JSX.Element {
  const [asking, setAsking] = useState(false);
  const [busy, doing] = useBusy();

  async function carryOut(wish: Wish): Promise<void> {
    setAsking(false);
    await doing(async () => {
      if (wish === "pause") await operations.pauseWorker({ workerId: worker.id });
      else if (wish === "resume") await operations.resumeWorker({ workerId: worker.id });
      else await operations.drainWorker({ workerId: worker.id });
      tell(SAID[wish]);
      onChanged();
    });
  }

  const waits = worker.paused || worker.draining;
  return (
    <div class="row" role="group" aria-label={`Actions for worker ${worker.id}`}>
      <button type="button" class="small" disabled={busy} onClick={() => void carryOut(waits ? "resume" : "pause")}>
        {waits ? "Resume" : "Pause"}
      </button>
      {!worker.draining && (
        <button type="button" class="small" disabled={busy} onClick={() => setAsking(true)}>
          Drain
        </button>
      )}
      {asking && (
        <Ask title="Drain this worker?" yes="Drain it" danger onYes={() => void carryOut("drain")} onNo={() => setAsking(false)}>
          <p>It takes no more tasks, lets what it runs end, and then ends itself. What supervises it may start another one.</p>
        </Ask>
      )}
    </div>
  );
}

const SAID: Readonly<Record<Wish, string>> = {
  pause: "The worker was asked to take no more tasks.",
  resume: "The worker was asked to take tasks again.",
  drain: "The worker was asked to end when its tasks have.",
};
