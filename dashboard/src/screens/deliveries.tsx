// Deliveries: what was told to whom, what they answered, and telling it once more.

import { create } from "@bufbuild/protobuf";
import type { JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";

import { DeliveryTable } from "../deliveries/table.tsx";
import { Ask } from "../parts/ask.tsx";
import { useBusy } from "../parts/busy.ts";
import { counted } from "../parts/format.ts";
import { tell } from "../parts/notices.tsx";
import { poll } from "../parts/poll.ts";
import { go } from "../place.ts";
import { operations } from "../plane/client.ts";
import { DeliveryFilterSchema, DeliveryState, type Delivery, type DeliveryFilter } from "../plane/contract.ts";
import { sentence } from "../plane/errors.ts";

const PERIOD = 3_000;
const PAGE = 100;
/** As many deliveries as one wish replays, and as many calls as it takes. */
const MOST_REPLAYED = 1_000;
const MOST_CALLS = 50;

const STATES: readonly { word: string; state: DeliveryState; name: string }[] = [
  { word: "", state: DeliveryState.UNSPECIFIED, name: "all" },
  { word: "waiting", state: DeliveryState.WAITING, name: "waiting" },
  { word: "delivered", state: DeliveryState.DELIVERED, name: "delivered" },
  { word: "dead", state: DeliveryState.DEAD, name: "given up" },
];

export function Deliveries({ project, query }: { project: string; query: Readonly<Record<string, string>> }): JSX.Element {
  const word = query["state"] ?? "";
  const url = query["url"] ?? "";
  const filter = useMemo(
    () => create(DeliveryFilterSchema, { project, url, state: STATES.find((each) => each.word === word)?.state ?? DeliveryState.UNSPECIFIED }),
    [project, url, word],
  );
  const polled = useMemo(() => poll((signal) => operations.listDeliveries({ filter, pageSize: PAGE }, { signal }), PERIOD), [filter]);
  useEffect(() => polled.stop, [polled]);
  const [older, setOlder] = useOlder(filter);
  const answer = polled.answer.value;
  const shown = joined(answer?.deliveries ?? [], older.deliveries);
  const token = older.token ?? answer?.nextPageToken ?? "";
  return (
    <>
      <div class="screen-head">
        <h1>Deliveries</h1>
        <div class="chips" role="group" aria-label="State">
          {STATES.map((each) => (
            <button key={each.word} type="button" class="chip" aria-pressed={each.word === word} onClick={() => go({ screen: "deliveries", query: { ...query, state: each.word } })}>
              {each.name}
            </button>
          ))}
        </div>
        <UrlField url={url} onChange={(next) => go({ screen: "deliveries", query: { ...query, url: next } })} />
        <span class="gap" />
        <ReplayAll filter={filter} onReplayed={() => void polled.again()} />
      </div>
      {polled.problem.value !== "" && <p class="problem" role="alert">{polled.problem.value}</p>}
      {answer !== undefined && shown.length === 0 ? (
        <div class="nothing">
          <p>No webhook {word === "" && url === "" ? "was sent yet. A task that is submitted with a callback has some." : "fits."}</p>
        </div>
      ) : (
        <DeliveryTable deliveries={shown} onReplayed={() => void polled.again()} />
      )}
      {token !== "" && (
        <button type="button" class="more" onClick={() => void setOlder(token)}>
          Show older
        </button>
      )}
    </>
  );
}

/** Pages that were asked for; the newest page is polled and not among them. */
function useOlder(filter: DeliveryFilter): [{ deliveries: readonly Delivery[]; token: string | undefined }, (token: string) => Promise<void>] {
  const [older, setOlder] = useState<{ deliveries: readonly Delivery[]; token: string | undefined }>({ deliveries: [], token: undefined });
  useEffect(() => setOlder({ deliveries: [], token: undefined }), [filter]);
  async function more(pageToken: string): Promise<void> {
    try {
      const page = await operations.listDeliveries({ filter, pageSize: PAGE, pageToken });
      setOlder({ deliveries: joined(older.deliveries, page.deliveries), token: page.nextPageToken });
    } catch (thrown) {
      tell(sentence(thrown), { failed: true });
    }
  }
  return [older, more];
}

function joined(first: readonly Delivery[], second: readonly Delivery[]): readonly Delivery[] {
  const ids = new Set(first.map((each) => each.id));
  return [...first, ...second.filter((each) => !ids.has(each.id))];
}

function UrlField({ url, onChange }: { url: string; onChange: (url: string) => void }): JSX.Element {
  return (
    <form class="row" onSubmit={(event) => (event.preventDefault(), onChange(String(new FormData(event.currentTarget).get("url"))))}>
      <input key={url} name="url" type="search" class="url-field" defaultValue={url} maxLength={2048} placeholder="endpoint’s whole URL" aria-label="Only this endpoint" />
    </form>
  );
}

/** Replays what the filter means: what was given up, unless another state is asked for. */
function ReplayAll({ filter, onReplayed }: { filter: DeliveryFilter; onReplayed: () => void }): JSX.Element {
  const [asking, setAsking] = useState(false);
  const [busy, doing] = useBusy();
  const what = filter.state === DeliveryState.UNSPECIFIED ? "given-up" : (STATES.find((each) => each.state === filter.state)?.name ?? "");

  async function replay(): Promise<void> {
    setAsking(false);
    await doing(async () => {
      tell(`${counted(await replayAll(filter), "webhook")} will be delivered once more.`);
      onReplayed();
    });
  }

  return (
    <>
      <button type="button" disabled={busy} onClick={() => setAsking(true)}>
        {busy ? "Replaying …" : `Replay all ${what}`}
      </button>
      {asking && (
        <Ask title={`Replay all ${what} deliveries?`} yes="Replay them" onYes={() => void replay()} onNo={() => setAsking(false)}>
          <p>
            At most {MOST_REPLAYED} of them{filter.url === "" ? "" : <> to <code>{filter.url}</code></>}, each under its old webhook-id.
          </p>
        </Ask>
      )}
    </>
  );
}

async function replayAll(filter: DeliveryFilter): Promise<number> {
  let replayed = 0;
  let pageToken = "";
  for (let calls = 0; calls < MOST_CALLS && replayed < MOST_REPLAYED; calls += 1) {
    const response = await operations.replayDeliveries({ selection: { case: "filter", value: filter }, limit: MOST_REPLAYED - replayed, pageToken });
    replayed += response.replayed;
    pageToken = response.nextPageToken;
    if (pageToken === "") break;
  }
  return replayed;
}
