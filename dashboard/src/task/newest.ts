// What changes faster than it can be loaded: one at a time, and the newest next.

/** Loads what it is asked for; of what is asked while one is on its way, the newest alone. */
export class Newest<Loaded> {
  readonly #load: (address: string) => Promise<Loaded | undefined>;
  readonly #show: (loaded: Loaded) => void;
  #asked = "";
  #isLoading = false;

  /** *load* returns undefined for what is not there; then what was shown before stays. */
  constructor(load: (address: string) => Promise<Loaded | undefined>, show: (loaded: Loaded) => void) {
    this.#load = load;
    this.#show = show;
  }

  /** Show what is at the address; the same address twice in a row is asked for once. */
  ask(address: string): void {
    if (address === this.#asked) return;
    this.#asked = address;
    if (!this.#isLoading) void this.#loadAll();
  }

  async #loadAll(): Promise<void> {
    this.#isLoading = true;
    for (let last = ""; last !== this.#asked; ) {
      last = this.#asked;
      const loaded = await this.#load(last);
      if (loaded !== undefined) this.#show(loaded);
    }
    this.#isLoading = false;
  }
}
