// The facts of a task, numbered as they are everywhere else, and the newest words of its progress.

import { toJson } from "@bufbuild/protobuf";
import type { JSX } from "preact";

import { now } from "../parts/clock.ts";
import { clock, millis, words } from "../parts/format.ts";
import { REGISTRY, TaskEventSchema, type Checkpoint, type TaskEvent } from "../plane/contract.ts";
import { givenWords, savedWords, statesGiven } from "./checkpoints.ts";
import type { Note } from "./story.ts";

/** As many messages of progress as are shown. */
const SHOWN = 20;

export function Facts({ facts, notes }: { facts: readonly TaskEvent[]; notes: readonly Note[] }): JSX.Element {
  const given = statesGiven(facts);
  return (
    <section class="card" aria-labelledby="facts-title">
      <h2 id="facts-title">Events</h2>
      <ol class="facts">
        {facts.map((fact) => (
          <li key={String(fact.sequence)}>
            <details>
              <summary>
                <span class="number fact-number">{String(fact.sequence)}</span>
                <span class="fact-name">{nameOf(fact)}</span>
                <span class="muted">{detailOf(fact, given)}</span>
                <span class="gap" />
                <span class="number muted">{clock(millis(fact.time) ?? 0, { now: now.value, exact: true })}</span>
              </summary>
              <pre class="code" tabIndex={0}>{JSON.stringify(toJson(TaskEventSchema, fact, { registry: REGISTRY }), null, 2)}</pre>
            </details>
          </li>
        ))}
      </ol>
      {notes.length > 0 && (
        <details class="notes">
          <summary>Progress as it came</summary>
          <ol class="note-list">
            {notes.slice(-SHOWN).toReversed().map((note) => (
              <li key={note.time}>
                <span class="number muted">{clock(note.time, { now: now.value, exact: true })}</span>
                <span class="number">
                  {note.progress.current}/{note.progress.total}
                </span>
                <span>{note.progress.message}</span>
              </li>
            ))}
          </ol>
        </details>
      )}
    </section>
  );
}

function nameOf(fact: TaskEvent): string {
  const name = fact.event.case;
  if (name === undefined) return "something newer than this page";
  return words(name.replaceAll(/[A-Z]/g, (letter) => `_${letter}`));
}

/** What is said beside its name, of a fact that tells where the work stood. */
function detailOf({ event }: TaskEvent, given: ReadonlyMap<number, Checkpoint>): string {
  if (event.case === "checkpointSaved" && event.value.checkpoint) return savedWords(event.value.checkpoint);
  const state = event.case === "attemptStarted" ? given.get(event.value.attempt) : undefined;
  return state ? givenWords(state) : "";
}
