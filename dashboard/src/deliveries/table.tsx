// Deliveries of webhooks in a table, each with a way to make it once more.

import type { JSX } from "preact";

import { useBusy } from "../parts/busy.ts";
import { now } from "../parts/clock.ts";
import { clock, millis, short, span } from "../parts/format.ts";
import { tell } from "../parts/notices.tsx";
import { operations } from "../plane/client.ts";
import { DeliveryState, type Delivery } from "../plane/contract.ts";
import { formatPlace } from "../router.ts";

export interface DeliveryTableProps {
  readonly deliveries: readonly Delivery[];
  readonly isOfOneTask?: boolean;
  readonly onReplayed: () => void;
}

export function DeliveryTable({ deliveries, isOfOneTask, onReplayed }: DeliveryTableProps): JSX.Element {
  return (
    <div class="table-view">
      <table class="table">
        <thead>
          <tr>
            <th scope="col">State</th>
            <th scope="col">Tells</th>
            {!isOfOneTask && <th scope="col">Task</th>}
            <th scope="col">Endpoint</th>
            <th scope="col">Tries</th>
            <th scope="col">Answer</th>
            <th scope="col">Recorded</th>
            <th scope="col">
              <span class="unseen">Actions</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {deliveries.map((delivery) => (
            <Row key={delivery.id} delivery={delivery} isOfOneTask={isOfOneTask ?? false} onReplayed={onReplayed} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Row({ delivery, isOfOneTask, onReplayed }: { delivery: Delivery; isOfOneTask: boolean; onReplayed: () => void }): JSX.Element {
  return (
    <tr>
      <td>
        <DeliveryMark delivery={delivery} />
      </td>
      <td>
        {delivery.event} <span class="muted number">#{String(delivery.sequence)}</span>
      </td>
      {!isOfOneTask && (
        <td>
          <a href={formatPlace({ screen: "tasks", part: delivery.taskId })}>
            <code>{short(delivery.taskId)}</code>
          </a>
        </td>
      )}
      <td class="url" title={delivery.url}>
        {delivery.url}
      </td>
      <td class="number">{delivery.tries}</td>
      <td class="answer" title={delivery.lastError}>
        {delivery.lastStatus !== 0 && <span class="number">{delivery.lastStatus} </span>}
        {delivery.lastError}
      </td>
      <td class="number" title={delivery.id}>
        {clock(millis(delivery.createTime) ?? 0, { now: now.value })}
      </td>
      <td class="end">
        <Replay delivery={delivery} onReplayed={onReplayed} />
      </td>
    </tr>
  );
}

const MARKS: Readonly<Record<number, { look: string; word: string }>> = {
  [DeliveryState.WAITING]: { look: "pending", word: "waiting" },
  [DeliveryState.DELIVERED]: { look: "succeeded", word: "delivered" },
  [DeliveryState.DEAD]: { look: "failed", word: "given up" },
};

function DeliveryMark({ delivery }: { delivery: Delivery }): JSX.Element {
  const mark = MARKS[delivery.state] ?? { look: "pending", word: "unknown" };
  const next = millis(delivery.nextTryTime);
  const left = next === undefined ? undefined : Math.max(0, Math.ceil((next - now.value) / 1000));
  return (
    <span class={`dot dot-${mark.look}`}>
      {mark.word}
      {delivery.state === DeliveryState.WAITING && left !== undefined && delivery.tries > 0 && (
        <span class="muted number"> · again {left === 0 ? "now" : `in ${span(left)}`}</span>
      )}
    </span>
  );
}

function Replay({ delivery, onReplayed }: { delivery: Delivery; onReplayed: () => void }): JSX.Element {
  const [busy, doing] = useBusy();
  async function replay(): Promise<void> {
    const { replayed } = await operations.replayDeliveries({ selection: { case: "deliveryId", value: delivery.id } });
    tell(replayed === 0 ? "There was nothing to deliver once more." : "The webhook is delivered once more.");
    onReplayed();
  }
  return (
    <button type="button" class="small" disabled={busy} onClick={() => void doing(replay)} aria-label={`Replay ${delivery.event} of ${short(delivery.taskId)}`}>
      Replay
    </button>
  );
}
