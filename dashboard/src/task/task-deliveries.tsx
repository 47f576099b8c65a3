// The webhooks of one task.

import type { JSX } from "preact";

import { DeliveryTable } from "../deliveries/table.tsx";
import type { Story } from "./story.ts";

export function TaskDeliveries({ story }: { story: Story }): JSX.Element | null {
  const deliveries = story.deliveries.value;
  if (deliveries.length === 0) return null;
  return (
    <section class="card" aria-labelledby="deliveries-title">
      <h2 id="deliveries-title">Deliveries</h2>
      <DeliveryTable deliveries={deliveries} isOfOneTask onReplayed={() => undefined} />
    </section>
  );
}
