// The waterfall of a task: where its time went, from facts, usage and deliveries alone.

import { DeliveryState, FailureReason, ProgressPhase, type Checkpoint, type Delivery, type Task, type TaskEvent, type TaskReading, type Usage } from "../plane/contract.ts";
import { millis, seconds, words } from "../parts/format.ts";
import { givenWords, savedWords, statesGiven } from "./checkpoints.ts";
import type { Stay } from "./phases.ts";

export type SpanKind =
  | "queued"
  | "scheduled"
  | "backoff"
  | "attempt"
  | "load"
  | "steps"
  | "encode"
  | "run"
  | "media"
  | "webhook"
  | "brain";

/** A stretch of time within a bar. */
export interface Piece {
  readonly from: number;
  readonly to: number | undefined;
}

/** A moment within a bar: the state of the work was saved, or the attempt was given one. */
export interface Mark {
  readonly kind: "saved" | "given";
  readonly time: number;
  /** What happened, for people. */
  readonly label: string;
}

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
  /** When it was at it, if that was not all the time. */
  readonly pieces?: readonly Piece[];
  /** What happened meanwhile, oldest first. */
  readonly marks?: readonly Mark[];
}

export interface Waterfall {
  readonly from: number;
  /** The end of the last bar, or now while one goes on. */
  readonly to: number;
  readonly spans: readonly Span[];
}

/** What is known of where a task's time went. */
export interface Known {
  readonly facts: readonly TaskEvent[];
  readonly task: Task | undefined;
  readonly deliveries: readonly Delivery[];
  /** What the running attempt was at, as far as its progress was heard. */
  readonly stays?: readonly Stay[];
  /** How far the brain is with the task's latest fact, once the task has ended. */
  readonly brain?: TaskReading | undefined;
}

/** Return the waterfall of what is known, or undefined before the first fact. Times in milliseconds since 1970. */
export function waterfall({ facts, task, deliveries, stays = [], brain }: Known, now: number): Waterfall | undefined {
  const begin = millis(facts[0]?.time);
  if (begin === undefined) return undefined;
  const life = new Life(statesGiven(facts));
  for (const fact of facts) life.tell(fact);
  const spans = [...life.spans(task?.usage, stays), ...deliveries.flatMap((each) => delivered(each)), ...told(brain, facts)];
  // The page's clock ticks, so that what was just told may be later than it.
  const ends = spans.map((span) => span.to ?? Math.max(now, span.from, span.marks?.at(-1)?.time ?? 0));
  return { from: begin, to: Math.max(begin + 1, ...ends), spans };
}

/** Follows the facts of one task from bar to bar. */
class Life {
  readonly #spans: Span[] = [];
  #open: Span | undefined;
  /** When the task may start next, if it was told to wait. */
  #heldUntil: number | undefined;
  readonly #given: ReadonlyMap<number, Checkpoint>;

  constructor(given: ReadonlyMap<number, Checkpoint>) {
    this.#given = given;
  }

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
        const given = this.#given.get(attempt);
        this.#open = { kind: "attempt", label: `Attempt ${attempt}`, from: time, to: undefined, detail: `${device} on ${worker}` };
        if (given) this.#mark({ kind: "given", time, label: givenWords(given) });
        break;
      }
      case "checkpointSaved": {
        const { checkpoint } = fact.event.value;
        if (checkpoint) this.#mark({ kind: "saved", time, label: savedWords(checkpoint) });
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

  /** Return the bars; the last attempt's are split as its usage says, and while it runs as its progress does. */
  spans(usage: Usage | undefined, stays: readonly Stay[]): readonly Span[] {
    const spans = this.#open === undefined ? this.#spans : [...this.#spans, this.#open];
    const last = spans.findLastIndex((span) => span.kind === "attempt");
    const attempt = spans[last];
    if (attempt === undefined) return spans;
    if (attempt.to === undefined) return spans.toSpliced(last + 1, 0, ...live(stays));
    return usage === undefined ? spans : spans.toSpliced(last + 1, 0, ...parts(attempt.from, attempt.to, usage));
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

  #mark(mark: Mark): void {
    if (this.#open) this.#open = { ...this.#open, marks: [...(this.#open.marks ?? []), mark] };
  }

  #media(time: number): void {
    const end = this.#spans.at(-1)?.to ?? time;
    this.#spans.push({ kind: "media", label: "Media", from: end, to: time, detail: "registered with the media library" });
  }
}

/** What an attempt did: load models, walk steps, and encode what came of them at its end. */
function parts(from: number, to: number, usage: Usage): Span[] {
  const { modelLoadSeconds: load, runSeconds: run, stepSeconds: steps, encodeSeconds: encode } = usage;
  const length = (to - from) / 1000;
  if (load + run <= 0 || load + run > length * 1.05 + 0.05) return []; // not of this attempt
  const loaded = Math.min(to, from + load * 1000);
  const ran = Math.min(to, loaded + run * 1000);
  const found: Span[] = [];
  if (load > 0) found.push({ kind: "load", label: LABELS.load, from, to: loaded, part: true });
  if (run > 0 && steps === undefined && encode === undefined) {
    found.push({ kind: "run", label: "Run", from: loaded, to: ran, part: true });
  }
  // Of several images each has steps and an encoding of its own: what is known is how long they took together.
  if (steps !== undefined) found.push({ kind: "steps", label: LABELS.steps, from: loaded, to: Math.min(ran, loaded + steps * 1000), detail: "all steps together", part: true });
  if (encode !== undefined) found.push({ kind: "encode", label: LABELS.encode, from: Math.max(loaded, ran - encode * 1000), to: ran, detail: "all files together", part: true });
  return found;
}

type Phase = "load" | "steps" | "encode";

const LABELS: Readonly<Record<Phase, string>> = { load: "Model load", steps: "Steps", encode: "Encode" };
const PHASES: readonly (readonly [ProgressPhase, Phase])[] = [
  [ProgressPhase.LOADING, "load"],
  [ProgressPhase.STEPS, "steps"],
  [ProgressPhase.ENCODING, "encode"],
];

/** What a running attempt has been at so far: one bar for each phase, with as many pieces as it was entered. */
function live(stays: readonly Stay[]): Span[] {
  return PHASES.flatMap(([phase, kind]) => {
    const pieces = stays.filter((stay) => stay.phase === phase);
    const [first] = pieces;
    if (first === undefined) return [];
    return [{ kind, label: LABELS[kind], from: first.from, to: pieces.at(-1)?.to, detail: "as far as this page was told", pieces, part: true }];
  });
}

/** The brain is told of the latest fact; when it is not known when, there is no bar. */
function told(brain: TaskReading | undefined, facts: readonly TaskEvent[]): Span[] {
  const from = millis(facts.at(-1)?.time);
  if (brain === undefined || from === undefined) return [];
  const time = millis(brain.doneTime);
  if (time !== undefined) return [{ kind: "brain", label: "Brain", from, to: Math.max(from, time), detail: "told of the end, to half a second" }];
  if (brain.refusal !== "") return [{ kind: "brain", label: "Brain", from, to: from, failed: true, detail: `refused: ${brain.refusal}` }];
  return brain.isDone ? [] : [{ kind: "brain", label: "Brain", from, to: undefined, detail: "has not been told yet" }];
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
