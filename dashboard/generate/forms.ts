// Reads the forms of the playground out of the contract: every task type, its fields, and their rules and comments.
import {
  createFileRegistry,
  fromBinary,
  getExtension,
  hasExtension,
  ScalarType,
  type DescEnum,
  type DescField,
  type DescMessage,
  type FileRegistry,
  type Message,
} from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";

import type { Choice, Field, Forms, Kind, TaskType } from "../src/playground/model.ts";
import { Comments } from "./comments.ts";

/** Messages of options, whose fields are known by the contract alone. */
type Fields = Readonly<Record<string, unknown>>;

/** Well-known messages that are typed in as one value. */
const WELL_KNOWN: Readonly<Record<string, Kind>> = {
  "google.protobuf.Duration": "duration",
  "google.protobuf.Timestamp": "timestamp",
  "google.protobuf.Struct": "json",
  "google.protobuf.Value": "json",
  "google.protobuf.ListValue": "json",
  "google.protobuf.Any": "json",
};

/** The message that refers to a file; its text names an artifact or an upload. */
const REFERENCE = "callsheet.tasks.v1.MediaReference";

const INTEGERS = new Set([
  ScalarType.INT32, ScalarType.INT64, ScalarType.UINT32, ScalarType.UINT64, ScalarType.SINT32,
  ScalarType.SINT64, ScalarType.FIXED32, ScalarType.FIXED64, ScalarType.SFIXED32, ScalarType.SFIXED64,
]);

const UNSIGNED = new Set<number>([ScalarType.UINT32, ScalarType.UINT64, ScalarType.FIXED32, ScalarType.FIXED64]);

/** Return the forms of all task types of the contract in a serialised FileDescriptorSet. */
export function readForms(image: Uint8Array): Forms {
  const files = fromBinary(FileDescriptorSetSchema, image);
  return new Reader(createFileRegistry(files), new Comments(files)).forms();
}

class Reader {
  readonly #registry: FileRegistry;
  readonly #comments: Comments;
  readonly #messages: Record<string, readonly Field[]> = {};

  constructor(registry: FileRegistry, comments: Comments) {
    this.#registry = registry;
    this.#comments = comments;
  }

  forms(): Forms {
    const spec = this.#registry.getMessage("callsheet.v1.TaskSpec");
    if (spec === undefined) throw new Error("the contract has no callsheet.v1.TaskSpec");
    const taskTypes = spec.oneofs
      .flatMap((oneof) => oneof.fields)
      .map((arm) => this.#taskType(arm));
    return { taskTypes, messages: this.#messages };
  }

  #taskType(arm: DescField): TaskType {
    if (arm.fieldKind !== "message") throw new Error(`${arm.toString()} is no message`);
    const options = this.#option(arm.message, "callsheet.tasks.v1.task_type") as Fields;
    this.#readMessage(arm.message);
    return {
      name: arm.name,
      json: arm.jsonName,
      help: this.#comments.of(arm),
      input: arm.message.typeName,
      queue: String(options["queue"]),
      maxAttempts: Number(options["maxAttempts"]),
      timeLimitSeconds: seconds(options["timeLimit"]) ?? 0,
    };
  }

  #readMessage(message: DescMessage): void {
    if (message.typeName in this.#messages) return;
    this.#messages[message.typeName] = []; // a message may hold itself
    this.#messages[message.typeName] = message.fields.map((field) => this.#field(field));
  }

  #field(field: DescField): Field {
    const rules = (this.#option(field, "buf.validate.field") ?? {}) as Fields;
    const unsetMeans = this.#option(field, "callsheet.tasks.v1.unset_means") as string | undefined;
    const unset = unsetMeans ?? (this.#option(field, "callsheet.tasks.v1.model_default") ? "the model's own" : undefined);
    return prune({
      json: field.jsonName,
      name: field.name,
      label: words(field.name),
      help: this.#comments.of(field),
      kind: this.#kind(field),
      repeated: field.fieldKind === "list",
      map: field.fieldKind === "map",
      oneof: field.oneof?.name,
      choices: field.enum === undefined ? undefined : this.#choices(field.enum),
      message: this.#message(field),
      unset: unset?.replaceAll('"', "").replace(/^[A-Z]+(_[A-Z]+)*_/, "").toLowerCase(),
      about: this.#option(field, "callsheet.tasks.v1.about") === true,
      file: field.parent.typeName === REFERENCE && field.scalar === ScalarType.STRING,
      ...bounds(field.fieldKind === "list" ? itemRules(rules) : rules, UNSIGNED.has(field.scalar ?? 0)),
      maxItems: number(((rules["type"] as Fields | undefined)?.["value"] as Fields | undefined)?.["maxItems"]),
      required: rules["required"] === true || atLeastOne(rules),
    });
  }

  #kind(field: DescField): Kind {
    if (field.fieldKind === "map") return "json";
    if (field.enum !== undefined) return "enum";
    if (field.message !== undefined) return WELL_KNOWN[field.message.typeName] ?? "message";
    switch (field.scalar) {
      case ScalarType.BOOL:
        return "boolean";
      case ScalarType.STRING:
        return "text";
      case ScalarType.BYTES:
        return "bytes";
      default:
        return INTEGERS.has(field.scalar) ? "integer" : "number";
    }
  }

  #message(field: DescField): string | undefined {
    if (field.fieldKind === "map" || field.message === undefined) return undefined;
    if (field.message.typeName in WELL_KNOWN) return undefined;
    this.#readMessage(field.message);
    return field.message.typeName;
  }

  #choices(of: DescEnum): Choice[] {
    return of.values
      .filter((value) => value.number !== 0)
      .map((value) => ({
        name: value.name,
        label: words(value.localName),
        help: this.#comments.of(value),
      }));
  }

  #option(of: DescField | DescMessage, name: string): unknown {
    const extension = this.#registry.getExtension(name);
    const options = of.proto.options as Message | undefined;
    if (extension === undefined || options === undefined) return undefined;
    return hasExtension(options, extension) ? getExtension(options, extension) : undefined;
  }
}

function bounds(rules: Fields, unsigned: boolean): Partial<Field> {
  const typed = (rules["type"] as { case?: string; value?: Fields } | undefined) ?? {};
  const value = typed.value ?? {};
  const inDuration = typed.case === "duration";
  const limit = (oneof: string, inclusive: string): number | undefined => {
    const found = value[oneof] as { case?: string; value?: unknown } | undefined;
    if (found?.case !== inclusive) return undefined;
    return inDuration ? seconds(found.value) : number(found.value);
  };
  return {
    min: limit("greaterThan", "gte") ?? (unsigned ? 0 : undefined),
    max: limit("lessThan", "lte"),
    minLength: typed.case === "string" ? number(value["minLen"]) || undefined : undefined,
    maxLength: typed.case === "string" ? number(value["maxLen"]) : undefined,
    pattern: typed.case === "string" && value["pattern"] !== "" ? (value["pattern"] as string) : undefined,
    multipleOf: multipleOf(rules["cel"]),
  } as Partial<Field>;
}

function itemRules(rules: Fields): Fields {
  const typed = rules["type"] as { case?: string; value?: Fields } | undefined;
  return (typed?.case === "repeated" ? typed.value?.["items"] : undefined) as Fields | undefined ?? {};
}

function atLeastOne(rules: Fields): boolean {
  const typed = rules["type"] as { case?: string; value?: Fields } | undefined;
  if (typed?.case === "string") return (number(typed.value?.["minLen"]) ?? 0) > 0;
  return typed?.case === "repeated" && (number(typed.value?.["minItems"]) ?? 0) > 0;
}

/** The one rule in CEL that a number's input can follow. */
function multipleOf(rules: unknown): number | undefined {
  for (const rule of (rules as readonly { expression: string }[] | undefined) ?? []) {
    const found = /^this % (\d+)u? == 0u?$/.exec(rule.expression);
    if (found) return Number(found[1]);
  }
  return undefined;
}

function seconds(duration: unknown): number | undefined {
  const read = duration as { seconds: bigint; nanos: number } | undefined;
  return read && Number(read.seconds) + read.nanos / 1e9;
}

function number(value: unknown): number | undefined {
  const read = typeof value === "bigint" ? Number(value) : value;
  return typeof read === "number" && read !== 0 ? read : read === 0 ? 0 : undefined;
}

function words(name: string): string {
  const text = name.replaceAll("_", " ").toLowerCase();
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Leave out what says nothing, so that the forms stay small. */
function prune(field: { [Name in keyof Field]: Field[Name] | undefined }): Field {
  const told = Object.entries(field).filter(([, value]) => value !== undefined && value !== false);
  return Object.fromEntries(told) as unknown as Field;
}
