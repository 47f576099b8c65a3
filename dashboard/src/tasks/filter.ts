// The filter bar: one text that says which tasks are meant, in the list, the stream, the address and bulk actions.

import type { Task } from "../plane/contract.ts";
import { STATES, isStateName, stateName, type StateName } from "./states.ts";

/** Which tasks are meant. What is empty means any. */
export interface Filter {
  readonly states: readonly StateName[];
  readonly types: readonly string[];
  readonly queues: readonly string[];
  readonly workers: readonly string[];
  readonly ids: readonly string[];
  /** Entries of metadata that must be there, as they are. */
  readonly metadata: readonly (readonly [key: string, value: string])[];
  /** Words that must stand in what the task is about, in any case. */
  readonly words: readonly string[];
}

export interface ParsedFilter {
  readonly filter: Filter;
  /** What could not be understood, a sentence each. */
  readonly problems: readonly string[];
}

export const EVERYTHING: Filter = {
  states: [], types: [], queues: [], workers: [], ids: [], metadata: [], words: [],
};

/** The lists of names a filter holds, by the word that is typed. */
const LISTS = { state: "states", type: "types", queue: "queues", worker: "workers", id: "ids" } as const;
type ListWord = keyof typeof LISTS;

const METADATA = "meta.";
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
/** A term: key:"quoted", key:plain, "quoted", plain. */
const TERM = /([a-z][a-z0-9_]*(?:\.[^\s:"]+)?):(?:"((?:[^"\\]|\\.)*)"|(\S*))|"((?:[^"\\]|\\.)*)"|(\S+)/gi;
/** The longest text that is read; more is nothing a person typed. */
const LONGEST = 2000;

/** Read what was typed, such as `state:failed type:generate_image meta.shot:12 lighthouse`. */
export function parseFilter(text: string): ParsedFilter {
  const terms = new Terms();
  for (const [whole, key, quotedValue, plainValue, quoted, plain] of text.slice(0, LONGEST).matchAll(TERM)) {
    const word = quoted === undefined ? plain : unescape(quoted);
    if (key === undefined) terms.word(word ?? "");
    else terms.pair(key, quotedValue === undefined ? (plainValue ?? "") : unescape(quotedValue), whole);
  }
  return { filter: terms.filter(), problems: terms.problems };
}

class Terms {
  readonly problems: string[] = [];
  readonly #lists: Record<(typeof LISTS)[ListWord], string[]> = {
    states: [], types: [], queues: [], workers: [], ids: [],
  };
  readonly #metadata: [string, string][] = [];
  readonly #words: string[] = [];

  word(word: string): void {
    if (UUID.test(word)) this.#lists.ids.push(word.toLowerCase());
    else if (word !== "") this.#words.push(word.toLowerCase());
  }

  pair(key: string, value: string, whole: string): void {
    const lower = key.toLowerCase();
    if (lower.startsWith(METADATA)) this.#metadata.push([key.slice(METADATA.length), value]);
    else if (lower in LISTS) this.#list(lower as ListWord, value);
    else if (/^\w+$/.test(key) && whole.includes("://")) this.word(whole);
    else this.problems.push(`“${key}:” is not known; ${Object.keys(LISTS).join(", ")} and meta.KEY are.`);
  }

  #list(word: ListWord, value: string): void {
    for (const name of value.split(",").filter((each) => each !== "")) {
      if (word === "state" && !isStateName(name.toLowerCase())) {
        this.problems.push(`“${name}” is no state; ${STATES.join(", ")} are.`);
      } else if (word === "id" && !UUID.test(name)) {
        this.problems.push(`“${name}” is no whole id.`);
      } else {
        const kept = word === "state" || word === "id" ? name.toLowerCase() : name;
        if (!this.#lists[LISTS[word]].includes(kept)) this.#lists[LISTS[word]].push(kept);
      }
    }
  }

  filter(): Filter {
    const states = STATES.filter((state) => this.#lists.states.includes(state));
    return { ...this.#lists, states, metadata: this.#metadata, words: this.#words };
  }
}

/** Return the text that reads back as the filter; "" for everything. */
export function formatFilter(filter: Filter): string {
  const lists = (Object.keys(LISTS) as ListWord[])
    .filter((word) => filter[LISTS[word]].length > 0)
    .map((word) => `${word}:${filter[LISTS[word]].join(",")}`);
  const metadata = filter.metadata.map(([key, value]) => `${METADATA}${key}:${quote(value)}`);
  const words = filter.words.map((word) => (/[:"\s]/.test(word) ? `"${escape(word)}"` : word));
  return [...lists, ...metadata, ...words].join(" ");
}

/** Return the filter with one more or one less of its states. */
export function toggleState(filter: Filter, state: StateName): Filter {
  const states = filter.states.includes(state)
    ? filter.states.filter((each) => each !== state)
    : STATES.filter((each) => each === state || filter.states.includes(each));
  return { ...filter, states };
}

/** Whether the task is meant; *text* is what it is about, in lower case. */
export function matches(filter: Filter, task: Task, text: () => string): boolean {
  return (
    within(filter.states, stateName(task.state)) &&
    within(filter.types, task.taskType) &&
    within(filter.queues, task.queue) &&
    within(filter.workers, task.worker) &&
    within(filter.ids, task.id) &&
    filter.metadata.every(([key, value]) => task.metadata[key] === value) &&
    (filter.words.length === 0 || contains(text(), filter.words))
  );
}

function within(list: readonly string[], value: string): boolean {
  return list.length === 0 || list.includes(value);
}

function contains(text: string, words: readonly string[]): boolean {
  return words.every((word) => text.includes(word));
}

function quote(value: string): string {
  return value === "" || /[\s"]/.test(value) ? `"${escape(value)}"` : value;
}

function escape(value: string): string {
  return value.replaceAll(/["\\]/g, (found) => `\\${found}`);
}

function unescape(value: string): string {
  return value.replaceAll(/\\(.)/g, "$1");
}
