// Numbers, times and sizes as people read them; every result has the same width for values of the same size.

import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";

/** Return the moment in milliseconds since 1970, or undefined without one. */
export function millis(time: Timestamp | undefined): number | undefined {
  return time && Number(time.seconds) * 1000 + time.nanos / 1e6;
}

/** Return the length in seconds, or undefined without one. */
export function seconds(duration: Duration | undefined): number | undefined {
  return duration && Number(duration.seconds) + duration.nanos / 1e9;
}

/** Return a length of time such as 240 ms, 3.2 s, 4 min 05 s, 2 h 07 min, 3 d 4 h. */
export function span(length: number): string {
  if (length < 0) return "0 ms";
  if (length < 0.9995) return `${Math.round(length * 1000)} ms`;
  if (length < 59.95) return `${length.toFixed(1)} s`;
  const whole = Math.round(length);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  const minutes = Math.round(length / 60);
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
  const hours = Math.round(length / 3600);
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Return how long ago, coarsely: now, 12 s, 4 min, 3 h, 5 d. */
export function ago(moment: number, now: number): string {
  const length = Math.max(0, (now - moment) / 1000);
  if (length < 1) return "now";
  if (length < 60) return `${Math.floor(length)} s`;
  if (length < 3600) return `${Math.floor(length / 60)} min`;
  if (length < 86_400) return `${Math.floor(length / 3600)} h`;
  return `${Math.floor(length / 86_400)} d`;
}

/** Return the time of day, with the date when it is not today's; milliseconds where they are asked for. */
export function clock(moment: number, { now, exact = false }: { now: number; exact?: boolean }): string {
  const date = new Date(moment);
  const today = new Date(now);
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const same = date.toDateString() === today.toDateString();
  const fraction = exact ? `.${String(date.getMilliseconds()).padStart(3, "0")}` : "";
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}${fraction}`;
  return same ? time : `${day} ${time}`;
}

/** Return a size such as 820 B, 3.4 MB, 24 GiB: decimal for files, binary for memory. */
export function bytes(size: number | bigint, { binary = false }: { binary?: boolean } = {}): string {
  const step = binary ? 1024 : 1000;
  const units = binary ? ["B", "KiB", "MiB", "GiB", "TiB"] : ["B", "kB", "MB", "GB", "TB"];
  let value = Number(size);
  let unit = 0;
  while (value >= step && unit < units.length - 1) {
    value /= step;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

const GROUPED = new Intl.NumberFormat("en-US");

/** Return a count with its thousands apart: 12,480. */
export function count(value: number | bigint): string {
  return GROUPED.format(value);
}

/** Return a count with its noun: 1 task, 12,480 tasks. */
export function counted(value: number | bigint, noun: string): string {
  return `${count(value)} ${noun}${Number(value) === 1 ? "" : "s"}`;
}

/** Return a share such as 0 %, 0.4 %, 12 %. */
export function percent(share: number): string {
  const value = share * 100;
  if (value > 0 && value < 0.05) return "< 0.1 %";
  return `${value > 0 && value < 9.95 ? value.toFixed(1) : Math.round(value)} %`;
}

/** Return a name of the contract for people: generate_image becomes generate image, TASK_STATE_X becomes x. */
export function words(name: string, prefix = ""): string {
  const bare = name.startsWith(prefix) ? name.slice(prefix.length) : name;
  return bare.toLowerCase().replaceAll("_", " ");
}

/** Return the part of an id that tells it from its neighbours. */
export function short(id: string): string {
  return id.length > 13 ? `${id.slice(0, 8)}…${id.slice(-4)}` : id;
}

function two(value: number): string {
  return String(value).padStart(2, "0");
}
