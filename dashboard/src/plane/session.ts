// Who is signed in: the key goes to the gateway once, and what comes back is a cookie this page cannot read.

import { ConnectError } from "@connectrpc/connect";
import { computed, signal } from "@preact/signals";

import { access, onSignedOut } from "./client.ts";
import { Role, type Principal } from "./contract.ts";
import { refusal } from "./errors.ts";

export type Session =
  | { readonly state: "asking" }
  | { readonly state: "out"; readonly notice: string }
  | { readonly state: "in"; readonly principal: Principal };

const SESSION = "/api/v1/session";
const PROJECT = "callsheet.project";
const NOT_OVER = "The plane does not answer, so the session goes on in this browser: sign in and out again.";

export const session = signal<Session>({ state: "asking" });

/** What the signed-in key allows. */
export const may = computed(() => {
  const roles = session.value.state === "in" ? session.value.principal.roles : [];
  return {
    submit: roles.includes(Role.SUBMIT),
    read: roles.includes(Role.READ),
    operate: roles.includes(Role.OPERATE),
  };
});

/** The projects to choose from, by name. */
export const projects = computed(() =>
  session.value.state === "in" ? session.value.principal.projects.toSorted() : [],
);

const chosen = signal(localStorage.getItem(PROJECT) ?? "");

/** The project whose tasks are shown. */
export const project = computed(() =>
  projects.value.includes(chosen.value) ? chosen.value : (projects.value[0] ?? ""),
);

export function chooseProject(name: string): void {
  localStorage.setItem(PROJECT, name);
  chosen.value = name;
}

onSignedOut((error) => {
  const notice = session.value.state === "in" ? `You were signed out: ${error.rawMessage}.` : "";
  session.value = { state: "out", notice };
});

/** Ask the gateway who is signed in. */
export async function askWho(): Promise<void> {
  try {
    const { principal } = await access.getPrincipal({});
    if (principal) session.value = { state: "in", principal };
  } catch (thrown) {
    if (session.value.state === "out") return;
    session.value = { state: "out", notice: ConnectError.from(thrown).rawMessage || "The gateway cannot be reached." };
  }
}

/** Sign in; return why not, or "" on success. */
export async function signIn(key: string): Promise<string> {
  let response: Response;
  try {
    response = await fetch(SESSION, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ api_key: key }),
    });
  } catch {
    return "The gateway cannot be reached.";
  }
  if (!response.ok) return refusal(await response.text(), response.status);
  await askWho();
  return session.value.state === "in" ? "" : "The gateway took the key, but no session came of it.";
}

/** Sign out: this page shows nothing more; whether the session is over as well, the notice says. */
export async function signOut(): Promise<void> {
  const isOver = await fetch(SESSION, { method: "DELETE" }).then((response) => response.ok, () => false);
  session.value = { state: "out", notice: isOver ? "You are signed out." : NOT_OVER };
}
