// A submission that is being written: what of it is kept, and how it becomes a request.

import { fromJson, toJson, type JsonObject } from "@bufbuild/protobuf";

import FORMS from "../../gen/forms.json" with { type: "json" };
import { REGISTRY, SubmitTaskRequestSchema, TaskSpecSchema, type SubmitTaskRequest, type Task } from "../plane/contract.ts";
import type { Forms, TaskType } from "./model.ts";
import { check, isObject, readMetadata, typeMetadata, type Problems } from "./values.ts";

export const forms = FORMS as unknown as Forms;

/** The field that asks for previews, in every input that can. */
const PREVIEWS = "preview_every_steps";
/** After how many steps each: whoever uses the page looks on, and a program that wants none asks for none. */
const PREVIEW_EVERY = 5;

export interface Draft {
  readonly type: TaskType;
  /** The input, as protobuf JSON. */
  readonly input: JsonObject;
  /** 0 to 9, as typed; "": the task type's own. */
  readonly priority: string;
  /** Seconds, as typed. */
  readonly delay: string;
  readonly callback: string;
  /** Lines of key=value. */
  readonly metadata: string;
  readonly reuse: string;
}

export function typeNamed(name: string): TaskType | undefined {
  return forms.taskTypes.find((type) => type.name === name);
}

/** Return a draft of a task type that asks for nothing yet but previews, where there can be some. */
export function draftOf(type: TaskType): Draft {
  const previews = forms.messages[type.input]?.find((field) => field.name === PREVIEWS);
  return { type, input: previews ? { [previews.json]: PREVIEW_EVERY } : {}, priority: "", delay: "", callback: "", metadata: "", reuse: "" };
}

/** Return a draft that asks for what the task was asked for; undefined if its type is newer than this page. */
export function draftFrom(task: Task): Draft | undefined {
  const type = typeNamed(task.taskType);
  if (type === undefined || task.spec === undefined) return undefined;
  const spec = toJson(TaskSpecSchema, task.spec, { registry: REGISTRY }) as JsonObject;
  const input = spec[type.json];
  return {
    ...draftOf(type),
    input: isObject(input) ? input : {},
    priority: String(task.priority),
    callback: task.callback?.url ?? "",
    metadata: typeMetadata(task.metadata),
  };
}

/** Return what breaks a rule, by the path of the field. */
export function problemsOf(draft: Draft): Problems {
  const path = `spec.${draft.type.name}`;
  const problems = new Map(check(forms, forms.messages[draft.type.input] ?? [], draft.input, path));
  const { problem } = readMetadata(draft.metadata);
  if (problem !== "") problems.set("metadata", problem);
  return problems;
}

/** Return the request, or why there is none yet. */
export function requestOf(draft: Draft, { project, requestId = "" }: { project: string; requestId?: string }): SubmitTaskRequest | string {
  const json: JsonObject = {
    project,
    spec: { [draft.type.json]: draft.input },
    ...(requestId === "" ? {} : { requestId }),
    ...(draft.priority === "" ? {} : { priority: Number(draft.priority) }),
    ...(draft.delay === "" ? {} : { delay: `${Number(draft.delay)}s` }),
    ...(draft.callback === "" ? {} : { callback: { url: draft.callback } }),
    ...(draft.metadata.trim() === "" ? {} : { metadata: { ...readMetadata(draft.metadata).metadata } }),
    ...(draft.reuse === "" ? {} : { reuse: { mode: draft.reuse } }),
  };
  try {
    return fromJson(SubmitTaskRequestSchema, json, { registry: REGISTRY });
  } catch (thrown) {
    return thrown instanceof Error ? thrown.message : String(thrown);
  }
}
