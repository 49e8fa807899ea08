/**
 * Events of this tab's jobs, over one connection. It is open only while a job is followed and the tab is visible: a
 * browser opens at most six connections to one address, for all tabs together. Events may be lost; a follower of a job
 * asks for its state when the stream is live again.
 */

import { openEvents, readJson } from "./api.js";

const SILENCE_MS = 45_000; // the service sends a comment every 15 s
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 15_000;

export class JobStream extends EventTarget {
  #listeners = new Map();
  #abort = null;
  #pause = FIRST_PAUSE_MS;
  #timer = null;

  /** Whether events arrive now; "live" and "silent" are fired when that changes. */
  isLive = false;

  constructor() {
    super();
    document.addEventListener("visibilitychange", () => this.#adjust());
  }

  /**
   * @param {string} id of the job
   * @param {(name: string, data: object) => void} listener called with each event of it
   */
  follow(id, listener) {
    this.#listeners.set(id, listener);
    this.#adjust();
  }

  unfollow(id) {
    this.#listeners.delete(id);
    this.#adjust();
  }

  /** Connects again, as with another API key. */
  restart() {
    this.#abort?.abort();
    this.#pause = FIRST_PAUSE_MS;
  }

  #adjust() {
    const isWanted = this.#listeners.size > 0 && !document.hidden;
    if (isWanted && !this.#abort && !this.#timer) this.#connect();
    if (!isWanted) {
      clearTimeout(this.#timer);
      this.#timer = null;
      this.#abort?.abort();
    }
  }

  async #connect() {
    this.#abort = new AbortController();
    try {
      const response = await openEvents(this.#abort.signal);
      if (!response.ok || !response.headers.get("Content-Type")?.startsWith("text/event-stream")) throw new Error("no events");
      this.#setLive(true);
      await this.#read(response.body.getReader());
    } catch {
      // What was lost is asked for: see above.
    }
    this.#abort = null;
    this.#setLive(false);
    if (this.#listeners.size === 0 || document.hidden) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#adjust();
    }, this.#pause);
    this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE_MS);
  }

  async #read(reader) {
    const decoder = new TextDecoder();
    let text = "";
    let silence;
    try {
      for (;;) {
        silence = setTimeout(() => this.#abort?.abort(), SILENCE_MS);
        const { done, value } = await reader.read();
        clearTimeout(silence);
        if (done) return;
        this.#pause = FIRST_PAUSE_MS;
        const blocks = (text + decoder.decode(value, { stream: true })).replace(/\r\n/g, "\n").split("\n\n");
        text = blocks.pop();
        for (const block of blocks) this.#dispatch(block);
      }
    } finally {
      clearTimeout(silence);
    }
  }

  #dispatch(block) {
    const lines = block.split("\n");
    const of = (name) => lines.filter((line) => line.startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).trimStart());
    const data = readJson(of("data").join("\n"));
    if (data?.id) this.#listeners.get(data.id)?.(of("event").at(-1) ?? "message", data);
  }

  #setLive(isLive) {
    if (this.isLive === isLive) return;
    this.isLive = isLive;
    this.dispatchEvent(new Event(isLive ? "live" : "silent"));
  }
}
