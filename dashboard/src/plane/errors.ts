// What a refused call tells: a sentence, the reason, the fields at fault, and when to try again.

import { Code, ConnectError, type ConnectError as Refusal } from "@connectrpc/connect";

import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";

export interface Violation {
  /** The path of the field in the contract, such as spec.generate_image.width. */
  readonly field: string;
  readonly description: string;
}

/** What a refused call tells its caller. */
export interface Problem {
  readonly code: Code;
  readonly message: string;
  /** The reason of the google.rpc.ErrorInfo; "" without one. */
  readonly reason: string;
  readonly violations: readonly Violation[];
  /** Milliseconds until another try makes sense; undefined: it does not, or nobody knows. */
  readonly retryAfter: number | undefined;
}

/** Return what an error of a call tells. */
export function problemOf(thrown: unknown): Problem {
  const error = ConnectError.from(thrown);
  const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return {
    code: error.code,
    message: error.rawMessage || "The gateway cannot be reached.",
    reason: error.findDetails(ErrorInfoSchema)[0]?.reason ?? "",
    violations: error.findDetails(BadRequestSchema).flatMap((detail) => detail.fieldViolations),
    retryAfter: delay && Number(delay.seconds) * 1000 + delay.nanos / 1e6,
  };
}

/** Return the error as one sentence for people. */
export function sentence(thrown: unknown): string {
  const { message, violations } = problemOf(thrown);
  const fields = violations.map((each) => `${each.field} ${each.description}`).join("; ");
  return fields === "" ? message : `${message}: ${fields}`;
}

/** Return what a route that is not of the contract refused a request for: its problem, as one sentence for people. */
export function refusal(body: string, status: number): string {
  const answered = `The gateway answered ${status}.`;
  try {
    const problem = JSON.parse(body) as { detail?: string; title?: string } | null;
    return problem?.detail ?? problem?.title ?? answered;
  } catch {
    return answered;
  }
}

/** Whether the same call may succeed in a while. */
export function passes(thrown: unknown): boolean {
  const code = ConnectError.from(thrown).code;
  return PASSING.has(code);
}

const PASSING: ReadonlySet<Code> = new Set([
  Code.Unavailable, Code.Unknown, Code.DeadlineExceeded, Code.ResourceExhausted, Code.Aborted, Code.Internal,
]);

export type { Refusal };
