// When a running attempt will be done, by how fast it came so far.

/** One look at a task's progress. */
export interface Sample {
  /** When, in milliseconds since 1970. */
  readonly time: number;
  readonly current: number;
  readonly total: number;
}

export interface Estimate {
  /** Seconds until current reaches total. */
  readonly seconds: number;
  /** How many steps a second. */
  readonly rate: number;
}

/** As many samples as are kept: a rate is of the recent past. */
const KEPT = 40;
/** How much a newer step weighs more than the one before it. */
const SMOOTHING = 0.3;

/** Return the samples with one more; a step back or another total begins anew. */
export function observe(samples: readonly Sample[], sample: Sample): readonly Sample[] {
  const last = samples.at(-1);
  if (last === undefined) return [sample];
  if (sample.total !== last.total || sample.current < last.current) return [sample];
  if (sample.current === last.current || sample.time <= last.time) return samples;
  return [...samples, sample].slice(-KEPT);
}

/** Return when it will be done, or undefined while that cannot be known: two steps are needed. */
export function estimate(samples: readonly Sample[], now: number): Estimate | undefined {
  const last = samples.at(-1);
  if (last === undefined || last.total === 0 || samples.length < 2) return undefined;
  let rate: number | undefined;
  for (const [index, sample] of samples.entries()) {
    const before = samples[index - 1];
    if (before === undefined) continue;
    const latest = ((sample.current - before.current) * 1000) / (sample.time - before.time);
    rate = rate === undefined ? latest : SMOOTHING * latest + (1 - SMOOTHING) * rate;
  }
  if (rate === undefined || rate <= 0) return undefined;
  const sinceLast = Math.max(0, now - last.time) / 1000;
  return { seconds: Math.max(0, (last.total - last.current) / rate - sinceLast), rate };
}
