// The queues: how deep, how long the first task has waited, who serves them; and holding them.

import type { JSX } from "preact";

import { useBusy } from "../parts/busy.ts";
import { count, percent, seconds, span, words } from "../parts/format.ts";
import { tell } from "../parts/notices.tsx";
import { operations } from "../plane/client.ts";
import type { Queue } from "../plane/contract.ts";

export function Queues({ queues, onChanged }: { queues: readonly Queue[]; onChanged: () => void }): JSX.Element {
  return (
    <section aria-labelledby="queues-title">
      <h2 id="queues-title">Queues</h2>
      <div class="table-view card flush">
        <table class="table">
          <thead>
            <tr>
              <th scope="col">Queue</th>
              <th scope="col">Task types</th>
              <th scope="col" class="end">Ready</th>
              <th scope="col" class="end">First waits</th>
              <th scope="col" class="end">Workers</th>
              <th scope="col">Slots taken</th>
              <th scope="col">
                <span class="unseen">Actions</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {queues.map((queue) => (
              <QueueRow key={queue.name} queue={queue} onChanged={onChanged} />
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function QueueRow({ queue, onChanged }: { queue: Queue; onChanged: () => void }): JSX.Element {
  const wait = seconds(queue.oldestWait);
  const share = queue.slots === 0 ? 0 : queue.busySlots / queue.slots;
  return (
    <tr>
      <th scope="row">
        {queue.name}
        {queue.pauseTime && <span class="dot dot-pending"> paused</span>}
      </th>
      <td>{queue.taskTypes.map((type) => words(type)).join(", ")}</td>
      <td class="end number">{count(queue.ready)}</td>
      <td class="end number">{wait === undefined ? "" : span(wait)}</td>
      <td class={queue.workers === 0 ? "end number failure-word" : "end number"}>{queue.workers}</td>
      <td>
        <div class="slots-line">
          <div class="meter" role="meter" aria-label={`Slots of ${queue.name}`} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(share * 100)} aria-valuetext={percent(share)}>
            <div style={{ width: `${share * 100}%` }} />
          </div>
          <span class="number">
            {queue.busySlots} of {queue.slots}
          </span>
        </div>
      </td>
      <td class="end">
        <Hold queue={queue} onChanged={onChanged} />
      </td>
    </tr>
  );
}

function Hold({ queue, onChanged }: { queue: Queue; onChanged: () => void }): JSX.Element {
  const [busy, doing] = useBusy();
  const isPaused = queue.pauseTime !== undefined;
  async function change(): Promise<void> {
    if (isPaused) await operations.resumeQueue({ queue: queue.name });
    else await operations.pauseQueue({ queue: queue.name });
    tell(isPaused ? `Tasks of ${queue.name} may be taken again.` : `No worker takes tasks of ${queue.name} any more.`);
    onChanged();
  }
  return (
    <button type="button" class="small" disabled={busy} onClick={() => void doing(change)} aria-label={`${isPaused ? "Resume" : "Pause"} ${queue.name}`}>
      {isPaused ? "Resume" : "Pause"}
    </button>
  );
}
