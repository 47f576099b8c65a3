// A button that copies, and says that it did.

import type { JSX } from "preact";
import { useState } from "preact/hooks";

import { Copy } from "./icons.tsx";
import { tell } from "./notices.tsx";

export function CopyButton({ text, label }: { text: string; label: string }): JSX.Element {
  const [copied, setCopied] = useState(false);
  async function copy(): Promise<void> {
    try {
      await navigator.clipboard.writeText(text);
      setCopied(true);
      setTimeout(() => setCopied(false), 1500);
    } catch {
      tell("The browser does not let this page copy.", { failed: true });
    }
  }
  return (
    <button type="button" class="quiet copy" onClick={() => void copy()} aria-label={copied ? `${label}: copied` : label}>
      <Copy />
      {copied ? "Copied" : "Copy"}
    </button>
  );
}
