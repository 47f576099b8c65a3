import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { TaskSchema } from "../src/plane/contract.ts";
import { draftFrom, draftOf, forms, problemsOf, requestOf, typeNamed, type Draft } from "../src/playground/draft.ts";
import type { Field, Forms } from "../src/playground/model.ts";
import { changed, check, chosen, read, readMetadata, typed } from "../src/playground/values.ts";

function field(type: string, name: string): Field {
  const found = forms.messages[typeNamed(type)?.input ?? ""]?.find((each) => each.name === name);
  assert.ok(found, `${type} has no ${name}`);
  return found;
}

function imageDraft(input: Draft["input"]): Draft {
  const type = typeNamed("generate_image");
  assert.ok(type);
  return { ...draftOf(type), input };
}

test("the form knows the rules, the words and the choices of the contract", () => {
  const width = field("generate_image", "width");
  assert.deepEqual([width.kind, width.min, width.max, width.multipleOf], ["integer", 64, 2048, 8]);
  assert.match(width.help, /divisible by 8/);
  assert.equal(field("generate_image", "prompt").required, true);
  assert.deepEqual(field("generate_image", "format").choices?.map((each) => each.name), [
    "IMAGE_FORMAT_PNG", "IMAGE_FORMAT_WEBP", "IMAGE_FORMAT_JPEG",
  ]);
  assert.deepEqual([field("ping", "duration").kind, field("ping", "duration").max], ["duration", 3600]);
});

test("a draft asks for previews wherever an input can, and a replay for what its task did", () => {
  const drafts = new Map(forms.taskTypes.map((type) => [type.name, draftOf(type).input]));
  assert.deepEqual(drafts.get("generate_video"), { previewEverySteps: 5 });
  assert.deepEqual(drafts.get("ping"), {});
  for (const type of forms.taskTypes) {
    const canShow = forms.messages[type.input]?.some((each) => each.name === "preview_every_steps") ?? false;
    assert.equal("previewEverySteps" in (drafts.get(type.name) ?? {}), canShow, type.name);
  }
  const task = create(TaskSchema, { taskType: "generate_image", spec: { input: { case: "generateImage", value: { prompt: "kite" } } } });
  assert.deepEqual(draftFrom(task)?.input, { prompt: "kite" });
});

test("a file can be brought wherever the contract refers to one, and nowhere else", () => {
  const found = Object.entries(forms.messages).flatMap(([message, fields]) => fields.filter((each) => each.file).map((each) => `${message}.${each.name}`));
  assert.deepEqual(found, ["callsheet.tasks.v1.MediaReference.uri"]);
  assert.equal(field("edit_image", "image").message, "callsheet.tasks.v1.MediaReference");
});

test("what breaks a rule is named by its path in the contract", () => {
  const problems = problemsOf(imageDraft({ width: 65, steps: 500, guidanceScale: "much", model: "No Model" }));
  assert.deepEqual(Object.fromEntries(problems), {
    "spec.generate_image.prompt": "is needed",
    "spec.generate_image.width": "must be divisible by 8",
    "spec.generate_image.steps": "must be at most 150",
    "spec.generate_image.guidance_scale": "is no number",
    "spec.generate_image.model": "must look like ^([a-z0-9][a-z0-9._-]*)?$",
  });
});

test("a length is counted in characters", () => {
  assert.equal(problemsOf(imageDraft({ prompt: "🎬".repeat(2000) })).size, 0);
  assert.equal(problemsOf(imageDraft({ prompt: "🎬".repeat(2001) })).size, 1);
});

test("what was typed becomes a request, and an empty field is not in it", () => {
  const input = changed(changed({ prompt: "kite" }, "width", 64), "width", undefined);
  const request = requestOf({ ...imageDraft(input), priority: "0", delay: "1.5", metadata: "a=b\nc = d=e" }, { project: "film", requestId: "r" });
  assert.ok(typeof request !== "string");
  assert.equal(request.priority, 0);
  assert.equal(request.delay?.nanos, 500_000_000);
  assert.deepEqual(request.metadata, { a: "b", c: "d=e" });
  assert.ok(request.spec?.input.case === "generateImage");
  assert.equal(request.spec.input.value.width, undefined);
});

test("what cannot be sent is told in words", () => {
  assert.equal(typeof requestOf(imageDraft({ prompt: "x", nonsense: 1 }), { project: "" }), "string");
});

test("a task that is replayed asks for the same", () => {
  const task = create(TaskSchema, {
    taskType: "generate_image",
    priority: 8,
    metadata: { shot: "12" },
    spec: { input: { case: "generateImage", value: { prompt: "kite", seed: 7n, format: 3 } } },
  });
  const draft = draftFrom(task);
  assert.ok(draft);
  const request = requestOf(draft, { project: "" });
  assert.ok(typeof request !== "string");
  assert.deepEqual(request.spec, task.spec);
  assert.deepEqual(request.metadata, task.metadata);
  assert.equal(request.priority, 8);
});

test("numbers and lengths of time are read as they are typed", () => {
  assert.equal(read(field("generate_image", "seed"), "7"), 7);
  assert.equal(read(field("generate_image", "seed"), "x"), "x");
  assert.equal(read(field("generate_image", "seed"), ""), undefined);
  assert.equal(read(field("ping", "duration"), "2.5"), "2.5s");
  assert.equal(typed(field("ping", "duration"), "2.5s"), "2.5");
});

test("of a oneof one arm is set, and lists and messages are checked item by item", () => {
  const made: Forms = {
    taskTypes: [],
    messages: {
      Whole: [
        { json: "one", name: "one", label: "One", help: "", kind: "integer", oneof: "which", min: 3 },
        { json: "other", name: "other", label: "Other", help: "", kind: "message", message: "Part", oneof: "which" },
        { json: "parts", name: "parts", label: "Parts", help: "", kind: "message", message: "Part", repeated: true, maxItems: 1 },
      ],
      Part: [{ json: "name", name: "name", label: "Name", help: "", kind: "text", required: true }],
    },
  };
  const fields = made.messages["Whole"] ?? [];
  const one = chosen({ parts: [] }, fields, fields[0], "which");
  assert.deepEqual(one, { parts: [], one: 3 });
  assert.deepEqual(chosen(one, fields, fields[1], "which"), { parts: [], other: {} });
  assert.deepEqual(chosen(one, fields, undefined, "which"), { parts: [] });
  assert.deepEqual(Object.fromEntries(check(made, fields, { other: {}, parts: [{}, { name: "x" }] }, "spec")), {
    "spec.other.name": "is needed",
    "spec.parts": "has more than 1 items",
    "spec.parts[0].name": "is needed",
  });
});

test("a line of metadata without a key is told", () => {
  assert.match(readMetadata("a=b\nnonsense").problem, /“nonsense” is no key=value/);
});
