// Signing in: an API key goes to the gateway once, and a cookie that no script can read comes back.

import type { JSX } from "preact";
import { useState } from "preact/hooks";

import { Slate } from "../parts/icons.tsx";
import { signIn } from "../plane/session.ts";

export function SignIn({ notice }: { notice: string }): JSX.Element {
  const [key, setKey] = useState("");
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);

  async function submit(event: Event): Promise<void> {
    event.preventDefault();
    setBusy(true);
    setProblem(await signIn(key.trim()));
    setBusy(false);
  }

  return (
    <main class="sign-in">
      <form onSubmit={(event) => void submit(event)} aria-labelledby="sign-in-title">
        <div class="sign-in-brand">
          <Slate />
          <h1 id="sign-in-title">Callsheet</h1>
        </div>
        <p class="muted">Who is working, on what, and until when.</p>
        {notice !== "" && problem === "" && <p class="hint" role="status">{notice}</p>}
        <label class="field">
          <span class="field-label">API key</span>
          <input
            type="password"
            name="api-key"
            autocomplete="current-password"
            required
            maxLength={4096}
            value={key}
            onInput={(event) => setKey(event.currentTarget.value)}
            aria-describedby="sign-in-help"
            autofocus
          />
          <span class="field-help" id="sign-in-help">
            The key is not kept here: this browser gets a ticket that ends by itself.
          </span>
        </label>
        {problem !== "" && <p class="problem" role="alert">{problem}</p>}
        <button type="submit" class="primary wide" disabled={busy || key.trim() === ""}>
          {busy ? "Signing in …" : "Sign in"}
        </button>
      </form>
    </main>
  );
}
