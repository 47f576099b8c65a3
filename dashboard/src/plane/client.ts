// The clients of the contract: Connect over this page's own origin, signed in by its cookie.

import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";

import { AccessService, OperationsService, REGISTRY, TaskService } from "./contract.ts";

/** How long a call may take before the page gives up on it, in milliseconds; streams have no limit. */
const PATIENCE = 20_000;

let whenSignedOut: (error: ConnectError) => void = () => undefined;

/** Have *listener* told whenever a call is refused because nobody is signed in, or no longer. */
export function onSignedOut(listener: (error: ConnectError) => void): void {
  whenSignedOut = listener;
}

const noticeSignOut: Interceptor = (next) => async (request) => {
  try {
    const response = await next(request);
    return response.stream ? { ...response, message: noticing(response.message) } : response;
  } catch (thrown) {
    throw noticed(thrown);
  }
};

/** A stream may be refused at any time: when a ticket ends, or its key is revoked. */
async function* noticing<Told>(messages: AsyncIterable<Told>): AsyncIterable<Told> {
  try {
    yield* messages;
  } catch (thrown) {
    throw noticed(thrown);
  }
}

function noticed(thrown: unknown): ConnectError {
  const error = ConnectError.from(thrown);
  if (error.code === Code.Unauthenticated) whenSignedOut(error);
  return error;
}

const transport = createConnectTransport({
  baseUrl: location.origin,
  useBinaryFormat: true,
  defaultTimeoutMs: PATIENCE,
  interceptors: [noticeSignOut],
  jsonOptions: { registry: REGISTRY },
});

export const access = createClient(AccessService, transport);
export const operations = createClient(OperationsService, transport);
export const tasks = createClient(TaskService, transport);
