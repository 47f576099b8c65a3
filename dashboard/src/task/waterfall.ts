// The waterfall of a task: where its time went, from facts, usage and deliveries alone.

import { DeliveryState, FailureReason, type Delivery, type Task, type TaskEvent } from "../plane/contract.ts";
import { millis, seconds, words } from "../parts/format.ts";

export type SpanKind =
  | "queued"
  | "scheduled"
  | "backoff"
  | "attempt"
  | "load"
  | "run"
  | "media"
  | "webhook";

/** One bar: something that took time. */
export interface Span {
  readonly kind: SpanKind;
  readonly label: string;
  readonly from: number;
  /** Undefined: it goes on. */
  readonly to: number | undefined;
  /** Whether it ended badly. */
  readonly failed?: boolean;
  /** What is known besides, for people. */
  readonly detail?: string;
  /** Whether it is a part of the bar above it. */
  readonly part?: boolean;
}

export interface Waterfall {
  readonly from: number;
  /** The end of the last bar, or now while one goes on. */
  readonly to: number;
  readonly spans: readonly Span[];
}

/** Return the waterfall of what is known, or undefined before the first fact. Times in milliseconds since 1970. */
export function waterfall(
  { facts, task, deliveries }: { facts: readonly TaskEvent[]; task: Task | undefined; deliveries: readonly Delivery[] },
  now: number,
): Waterfall | undefined {
  const begin = millis(facts[0]?.time);
  if (begin === undefined) return undefined;
  const life = new Life();
  for (const fact of facts) life.tell(fact);
  const spans = [...life.spans(task), ...deliveries.flatMap((each) => delivered(each))];
  const ends = spans.map((span) => span.to ?? Math.max(now, span.from));
  return { from: begin, to: Math.max(begin + 1, ...ends), spans };
}

/** Follows the facts of one task from bar to bar. */
class Life {
  readonly #spans: Span[] = [];
  #open: Span | undefined;
  /** When the task may start next, if it was told to wait. */
  #heldUntil: number | undefined;

  tell(fact: TaskEvent): void {
    const time = millis(fact.time) ?? 0;
    switch (fact.event.case) {
      case "taskSubmitted": {
        const delay = seconds(fact.event.value.delay) ?? 0;
        this.#wait(time, delay, "scheduled");
        break;
      }
      case "attemptStarted": {
        const { attempt, worker, device } = fact.event.value;
        this.#close(time);
        this.#open = { kind: "attempt", label: `Attempt ${attempt}`, from: time, to: undefined, detail: `${device} on ${worker}` };
        break;
      }
      case "attemptFailed": {
        const { failure } = fact.event.value;
        this.#close(time, { failed: true, detail: failure ? words(FailureReason[failure.reason] ?? "") : "" });
        this.#wait(time, seconds(failure?.retryDelay) ?? 0, "backoff");
        break;
      }
      case "attemptReturned":
        this.#close(time, { detail: `handed back: ${fact.event.value.reason}` });
        this.#wait(time, 0, "queued");
        break;
      case "taskSucceeded":
        this.#close(time);
        break;
      case "taskFailed":
        this.#close(time, { failed: true });
        break;
      case "taskCancelled":
        this.#close(time, { detail: "cancelled" });
        break;
      case "mediaRegistered":
        this.#media(time);
        break;
      default:
    }
  }

  /** Return the bars; the last attempt's are split as its usage says. */
  spans(task: Task | undefined): readonly Span[] {
    const spans = this.#open === undefined ? this.#spans : [...this.#spans, this.#open];
    const last = spans.findLastIndex((span) => span.kind === "attempt");
    const attempt = spans[last];
    const usage = task?.usage;
    if (attempt === undefined || attempt.to === undefined || usage === undefined) return spans;
    return spans.toSpliced(last + 1, 0, ...parts(attempt.from, attempt.to, usage.modelLoadSeconds, usage.runSeconds));
  }

  #wait(from: number, delay: number, kind: "scheduled" | "backoff" | "queued"): void {
    if (delay > 0) {
      this.#heldUntil = from + delay * 1000;
      this.#open = { kind, label: kind === "backoff" ? "Back-off" : "Scheduled", from, to: undefined };
    } else {
      this.#open = { kind: "queued", label: "Queued", from, to: undefined };
    }
  }

  #close(time: number, more: Partial<Span> = {}): void {
    const open = this.#open;
    if (open === undefined) return;
    const held = this.#heldUntil;
    // A wait that was over before somebody took the task went on in the queue.
    if (held !== undefined && held < time && open.kind !== "attempt") {
      this.#spans.push({ ...open, to: held }, { kind: "queued", label: "Queued", from: held, to: time, ...more });
    } else {
      this.#spans.push({ ...open, to: time, ...more });
    }
    this.#open = undefined;
    this.#heldUntil = undefined;
  }

  #media(time: number): void {
    const end = this.#spans.at(-1)?.to ?? time;
    this.#spans.push({ kind: "media", label: "Media", from: end, to: time, detail: "registered with the media library" });
  }
}

/** What an attempt did, one after the other: load models, and run. */
function parts(from: number, to: number, load: number, run: number): Span[] {
  const length = (to - from) / 1000;
  if (load + run <= 0 || load + run > length * 1.05 + 0.05) return []; // not of this attempt
  const loaded = Math.min(to, from + load * 1000);
  const ran = Math.min(to, loaded + run * 1000);
  const found: Span[] = [];
  if (load > 0) found.push({ kind: "load", label: "Model load", from, to: loaded, part: true });
  if (run > 0) found.push({ kind: "run", label: "Run", from: loaded, to: ran, part: true });
  return found;
}

function delivered(delivery: Delivery): Span[] {
  const from = millis(delivery.createTime);
  if (from === undefined) return [];
  const tries = delivery.tries === 1 ? "1 try" : `${delivery.tries} tries`;
  const status = delivery.lastStatus === 0 ? delivery.lastError : `HTTP ${delivery.lastStatus}`;
  return [
    {
      kind: "webhook",
      label: `Webhook ${delivery.event}`,
      from,
      to: millis(delivery.endTime),
      failed: delivery.state === DeliveryState.DEAD,
      detail: [tries, status].filter((each) => each !== "").join(", "),
    },
  ];
}
