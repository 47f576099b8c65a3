// What a form knows of the contract: the shape of gen/forms.json, which the build reads from the descriptors.

/** How a field is typed in. */
export type Kind =
  | "text"
  | "integer"
  | "number"
  | "boolean"
  | "enum"
  | "duration"
  | "timestamp"
  | "bytes"
  | "message"
  | "json";

/** One choice of an enum. */
export interface Choice {
  /** The name in JSON, such as SCHEDULER_EULER. */
  readonly name: string;
  readonly label: string;
  readonly help: string;
}

/** One field of a message, with the rules the contract sets for it. */
export interface Field {
  /** The name in JSON, such as guidanceScale. */
  readonly json: string;
  /** The name in the contract, such as guidance_scale: violations name it. */
  readonly name: string;
  readonly label: string;
  readonly help: string;
  readonly kind: Kind;
  readonly repeated?: boolean;
  readonly map?: boolean;
  readonly required?: boolean;
  /** Bounds of a number, or of a duration in seconds. */
  readonly min?: number;
  readonly max?: number;
  readonly multipleOf?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly maxItems?: number;
  readonly pattern?: string;
  readonly choices?: readonly Choice[];
  /** The message's full name: a key of Forms.messages. */
  readonly message?: string;
  /** The oneof it belongs to: at most one of these is set. */
  readonly oneof?: string;
  /** What an unset field means, for people. */
  readonly unset?: string;
  /** Whether it tells what the task is about. */
  readonly about?: boolean;
  /** Whether it names an artifact or an upload, so that a file may be brought for it. */
  readonly file?: boolean;
}

/** One task type, as its input's options declare it. */
export interface TaskType {
  /** The arm of the oneof, such as generate_image. */
  readonly name: string;
  /** The arm's name in JSON. */
  readonly json: string;
  readonly help: string;
  /** The full name of the input message. */
  readonly input: string;
  readonly queue: string;
  readonly maxAttempts: number;
  readonly timeLimitSeconds: number;
}

export interface Forms {
  readonly taskTypes: readonly TaskType[];
  readonly messages: Readonly<Record<string, readonly Field[]>>;
}
