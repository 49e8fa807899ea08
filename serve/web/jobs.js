/** The jobs of this browser: submitted, watched until they end, and kept over a reload. */

import { cancelJob, ConnectionLost, jobStatus, Refusal, submitJob } from "./api.js";
import { Card, isTerminal } from "./card.js";
import { forgetJob, storedJobs, storeJob } from "./storage.js";

const POLL_MS = 400;
const HIDDEN_POLL_MS = 3000;
const LONGEST_PAUSE_MS = 5000;

export class JobList {
  #list = document.getElementById("jobs");
  #jobs = new Set();
  #announce;
  #reuse;

  /**
   * @param {{announce: (text: string) => void, reuse: (request: object) => void}} page what the list tells the page
   */
  constructor({ announce, reuse }) {
    this.#announce = announce;
    this.#reuse = reuse;
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.wake();
    });
  }

  /** Shows the jobs of earlier visits; one whose submission was cut short is sent again under its old key. */
  restore() {
    for (const stored of storedJobs().reverse()) this.#add(stored);
    this.#showEmptiness();
  }

  /** Submits a job; its card is there at once. */
  submit(request) {
    const stored = { key: newKey(), id: null, request };
    storeJob(stored);
    const job = this.#add(stored);
    this.#showEmptiness();
    job.card.element.scrollIntoView({ block: "nearest" });
  }

  /** Asks at once instead of waiting for the next poll. */
  wake() {
    for (const job of this.#jobs) job.wake();
  }

  #add(stored) {
    const job = new Job(stored, { announce: this.#announce, reuse: this.#reuse, remove: () => this.#remove(job) });
    this.#jobs.add(job);
    this.#list.prepend(job.card.element);
    return job;
  }

  #remove(job) {
    const next = job.card.element.nextElementSibling ?? document.getElementById("jobs-title");
    forgetJob(job.key);
    this.#jobs.delete(job);
    job.card.element.remove();
    next.focus();
    this.#showEmptiness();
  }

  #showEmptiness() {
    document.getElementById("empty").hidden = this.#jobs.size > 0;
  }
}

class Job {
  #stored;
  #announce;
  #state = "sending";
  #isCancelling = false;
  #wake = () => {};

  constructor(stored, { announce, reuse, remove }) {
    this.#stored = stored;
    this.#announce = announce;
    this.card = new Card(stored.request, { reuse, remove, cancel: () => this.#cancel() });
    this.#run();
  }

  get key() {
    return this.#stored.key;
  }

  wake() {
    this.#wake();
  }

  async #run() {
    if (this.#stored.refusal) return this.#show({ status: "failed", message: this.#stored.refusal });
    if (!this.#stored.id) await this.#patiently(() => this.#send(), { retryRefusals: false });
    while (!isTerminal(this.#state)) {
      await this.#patiently(() => this.#ask(), { retryRefusals: true });
      if (!isTerminal(this.#state)) await this.#pause(document.hidden ? HIDDEN_POLL_MS : POLL_MS);
    }
  }

  async #send() {
    const answer = await submitJob(this.#stored.request, this.key);
    this.#stored = { ...this.#stored, id: answer.job_id };
    storeJob(this.#stored);
  }

  async #ask() {
    this.#show(await jobStatus(this.#stored.id));
  }

  /**
   * Repeats a call until the service has answered. A status may be asked again after a passing refusal too; a refused
   * submission (a full queue, a rate limit) is for the person to repeat.
   */
  async #patiently(call, { retryRefusals }) {
    for (let pause = POLL_MS; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      try {
        return await call();
      } catch (error) {
        const isPassing = error instanceof ConnectionLost || (retryRefusals && (error.isPassing || error.status === 401));
        if (!isPassing) return this.#fail(error);
      }
      await this.#pause(pause);
    }
  }

  #fail(error) {
    if (!(error instanceof Refusal)) console.error(error);
    if (!this.#stored.id) storeJob({ ...this.#stored, refusal: error.message });
    this.#show({ status: "failed", message: error.message });
  }

  async #cancel() {
    if (this.#isCancelling) return;
    this.#setCancelling(true);
    try {
      await cancelJob(this.#stored.id);
      this.wake();
    } catch (error) {
      this.#setCancelling(false);
      this.#announce(error.message);
    }
  }

  #setCancelling(cancelling) {
    this.#isCancelling = cancelling;
    this.card.setCancelling(cancelling);
  }

  #show(status) {
    const wasNews = status.status !== this.#state;
    this.#state = status.status;
    this.card.show(status);
    if (wasNews) this.#announce(newsOf(status));
  }

  #pause(milliseconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** crypto.randomUUID exists in secure contexts only, and a service in the home network has no certificate. */
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function newsOf({ status, images = [], message = "" }) {
  if (status === "completed") return images.length === 1 ? "A picture is ready" : `${images.length} pictures are ready`;
  if (status === "failed") return `Failed: ${message}`;
  return { pending: "Queued", processing: "Generating", cancelled: "Cancelled" }[status] ?? "";
}
