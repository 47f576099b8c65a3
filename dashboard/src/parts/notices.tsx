// Short sentences about what was just done, read out politely, gone after a while.

import { signal } from "@preact/signals";
import type { JSX } from "preact";

interface Notice {
  readonly id: number;
  readonly text: string;
  readonly failed: boolean;
}

const LASTS = 6_000;
const MOST = 4;

const notices = signal<readonly Notice[]>([]);
let latest = 0;

/** Tell the person something; what failed stays until it is dismissed. */
export function tell(text: string, { failed = false }: { failed?: boolean } = {}): void {
  const id = (latest += 1);
  notices.value = [...notices.value, { id, text, failed }].slice(-MOST);
  if (!failed) setTimeout(() => dismiss(id), LASTS);
}

function dismiss(id: number): void {
  notices.value = notices.value.filter((each) => each.id !== id);
}

export function Notices(): JSX.Element {
  return (
    <div class="notices" role="status" aria-live="polite">
      {notices.value.map((notice) => (
        <div key={notice.id} class={notice.failed ? "notice notice-failed" : "notice"}>
          <span>{notice.text}</span>
          <button type="button" class="quiet" onClick={() => dismiss(notice.id)}>
            Dismiss
          </button>
        </div>
      ))}
    </div>
  );
}
