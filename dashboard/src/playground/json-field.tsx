// An input as JSON, for whoever pastes one.

import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import type { JSX } from "preact";
import { useState } from "preact/hooks";

import { isObject } from "./values.ts";

export function JsonField({ value, onChange }: { value: JsonObject; onChange: (value: JsonObject) => void }): JSX.Element {
  const [text, setText] = useState(() => JSON.stringify(value, null, 2));
  const [problem, setProblem] = useState("");

  function onInput(next: string): void {
    setText(next);
    try {
      const read = JSON.parse(next) as JsonValue;
      if (!isObject(read)) throw new Error("An input is an object.");
      onChange(read);
      setProblem("");
    } catch (thrown) {
      setProblem(thrown instanceof Error ? thrown.message : String(thrown));
    }
  }

  return (
    <div class="field field-wide">
      <textarea class="code" rows={14} spellcheck={false} aria-label="Input as JSON" aria-describedby="json-problem" value={text} onInput={(event) => onInput(event.currentTarget.value)} />
      <span class="problem" id="json-problem" aria-live="polite">
        {problem}
      </span>
    </div>
  );
}
