// Work that a button starts: one at a time, and what went wrong is told.

import { useState } from "preact/hooks";

import { sentence } from "../plane/errors.ts";
import { tell } from "./notices.tsx";

/** Whether work is under way, and how to do some. */
export function useBusy(): [boolean, (work: () => Promise<void>) => Promise<void>] {
  const [busy, setBusy] = useState(false);
  async function doing(work: () => Promise<void>): Promise<void> {
    setBusy(true);
    try {
      await work();
    } catch (thrown) {
      tell(sentence(thrown), { failed: true });
    } finally {
      setBusy(false);
    }
  }
  return [busy, doing];
}
