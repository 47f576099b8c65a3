// A table of any length: only the rows in sight exist, and the rest is room.

import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

export interface RowsProps<Item> {
  readonly label: string;
  readonly items: readonly Item[];
  readonly keyOf: (item: Item) => string;
  readonly columns: readonly string[];
  readonly renderRow: (item: Item) => JSX.Element;
  /** The height of one row in pixels, as the style sheet has it. */
  readonly rowHeight: number;
  /** The end of the list came into sight. */
  readonly onEnd?: (() => void) | undefined;
  readonly onOpen: (item: Item) => void;
}

/** As many rows beyond what is in sight, so that scrolling shows no gaps. */
const MARGIN = 8;

export function Rows<Item>({ label, items, keyOf, columns, renderRow, rowHeight, onEnd, onOpen }: RowsProps<Item>): JSX.Element {
  const view = useRef<HTMLDivElement>(null);
  const [window_, setWindow] = useState({ top: 0, height: 800 });
  const [current, setCurrent] = useState("");

  useLayoutEffect(() => {
    const element = view.current;
    if (element === null) return undefined;
    const look = (): void => setWindow({ top: element.scrollTop, height: element.clientHeight });
    look();
    const observer = new ResizeObserver(look);
    observer.observe(element);
    element.addEventListener("scroll", look, { passive: true });
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", look);
    };
  }, []);

  const first = Math.max(0, Math.floor(window_.top / rowHeight) - MARGIN);
  const last = Math.min(items.length, Math.ceil((window_.top + window_.height) / rowHeight) + MARGIN);
  const atEnd = last >= items.length;
  useEffect(() => {
    if (atEnd) onEnd?.();
  }, [atEnd, items.length, onEnd]);

  const index = Math.max(0, items.findIndex((item) => keyOf(item) === current));

  function move(to: number): void {
    const target = Math.min(items.length - 1, Math.max(0, to));
    const item = items[target];
    const element = view.current;
    if (item === undefined || element === null) return;
    setCurrent(keyOf(item));
    const top = target * rowHeight;
    if (top < element.scrollTop) element.scrollTop = top;
    else if (top + rowHeight > element.scrollTop + element.clientHeight) {
      element.scrollTop = top + rowHeight - element.clientHeight;
    }
  }

  function onKey(event: KeyboardEvent): void {
    const page = Math.max(1, Math.floor(window_.height / rowHeight) - 1);
    const steps: Record<string, number> = {
      ArrowDown: current === "" ? 0 : index + 1, ArrowUp: index - 1, PageDown: index + page, PageUp: index - page,
      Home: 0, End: items.length - 1, j: current === "" ? 0 : index + 1, k: index - 1,
    };
    const item = items[index];
    const to = steps[event.key];
    if (event.key === "Enter" && current !== "" && item !== undefined && event.target === event.currentTarget) onOpen(item);
    else if (to !== undefined && !event.metaKey && !event.ctrlKey && !event.altKey) move(to);
    else return;
    event.preventDefault();
  }

  const active = current !== "" && index >= first && index < last ? `row-${keyOf(items[index]!)}` : undefined;
  return (
    <div
      class="rows"
      role="grid"
      aria-label={label}
      aria-rowcount={items.length + 1}
      aria-colcount={columns.length}
      tabIndex={0}
      onKeyDown={onKey}
      {...(active ? { "aria-activedescendant": active } : {})}
    >
      <div class="rows-head" role="row" aria-rowindex={1}>
        {columns.map((column) => (
          <div key={column} role="columnheader">
            {column}
          </div>
        ))}
      </div>
      <div class="rows-view" ref={view} role="rowgroup">
        <div class="rows-room" role="presentation" style={{ height: `${items.length * rowHeight}px` }}>
          <div class="rows-shown" role="presentation" style={{ transform: `translateY(${first * rowHeight}px)` }}>
            {items.slice(first, last).map((item, offset) => {
              const key = keyOf(item);
              return (
                <div key={key} id={`row-${key}`} role="row" aria-rowindex={first + offset + 2} class="rows-row" aria-selected={key === current}>
                  {renderRow(item)}
                </div>
              );
            })}
          </div>
        </div>
      </div>
    </div>
  );
}
