// What is in an output: every artifact in it, wherever the task type keeps it.

import { anyUnpack, type Any } from "@bufbuild/protobuf/wkt";
import { toJson, type JsonValue, type Message } from "@bufbuild/protobuf";

import type { Artifact } from "../../gen/callsheet/tasks/v1/artifact_pb.js";
import { REGISTRY } from "../plane/contract.ts";

const ARTIFACT = "callsheet.tasks.v1.Artifact";

/** Return the artifacts of an output, in the order of its fields; none of a type newer than this page. */
export function artifacts(output: Any | undefined): Artifact[] {
  const message = output && anyUnpack(output, REGISTRY);
  return message ? [...within(message)] : [];
}

/** Return an output as JSON, or undefined if its type is newer than this page. */
export function outputJson(output: Any): JsonValue | undefined {
  const message = anyUnpack(output, REGISTRY);
  const schema = message && REGISTRY.getMessage(message.$typeName);
  return message && schema ? toJson(schema, message, { registry: REGISTRY }) : undefined;
}

function* within(value: unknown): Generator<Artifact> {
  if (Array.isArray(value)) {
    for (const each of value) yield* within(each);
  } else if (isMessage(value)) {
    if (value.$typeName === ARTIFACT) yield value as Artifact;
    else for (const each of Object.values(value)) yield* within(each);
  }
}

function isMessage(value: unknown): value is Message {
  return typeof value === "object" && value !== null && "$typeName" in value;
}
