/** The jobs of this browser: submitted, followed until they end, and kept over a reload. */

import { cancelJob, ConnectionLost, jobStatus, Refusal, submitJob } from "./api.js";
import { Card, isTerminal } from "./card.js";
import { JobStream } from "./job-stream.js";
import { forgetJob, storedJobs, storeJob, whenJobsChangeElsewhere } from "./storage.js";

const POLL_MS = 400;
const HIDDEN_POLL_MS = 3000;
const LOADING_POLL_MS = 1000; // there are no events of a model's load
const LONGEST_PAUSE_MS = 5000;
const STREAMED_POLL_MS = 15_000; // while events arrive, polling is only a safety net

/** Fires "completed" when a job's pictures are there. */
export class JobList extends EventTarget {
  #list = document.getElementById("jobs");
  #stream = new JobStream();
  #jobs = new Set();
  #actions;
  #announce;

  /**
   * @param {object} page what the list reports to
   * @param {(text: string) => void} page.announce announces a change
   * @param {object} page.actions what a card's buttons do: reuse, start, view
   */
  constructor({ announce, actions }) {
    super();
    this.#announce = announce;
    this.#actions = actions;
    for (const name of ["live", "silent"]) this.#stream.addEventListener(name, () => this.wake());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.wake();
    });
    whenJobsChangeElsewhere(() => this.#adopt());
  }

  /** The seed of the newest job whose seed is known. */
  get lastSeed() {
    return [...this.#jobs].findLast((job) => job.seed !== undefined)?.seed;
  }

  /** Shows the jobs of earlier visits; one whose submission was interrupted is sent again with its old key. */
  restore() {
    for (const stored of storedJobs().toReversed()) this.#add(stored);
    this.#showEmptiness();
  }

  /** Submits a job and shows its card at once. */
  submit(request) {
    const stored = { key: newKey(), id: null, request };
    storeJob(stored);
    const job = this.#add(stored);
    this.#showEmptiness();
    job.card.element.scrollIntoView({ block: "nearest" });
  }

  /** Polls at once. */
  wake() {
    for (const job of this.#jobs) job.wake();
  }

  /** Connects again with another API key. */
  reconnect() {
    this.#stream.restart();
    this.wake();
  }

  /** Adopts the jobs of other tabs, each once the service has answered its submission. */
  #adopt() {
    const known = new Set([...this.#jobs].map((job) => job.key));
    for (const stored of storedJobs().toReversed()) {
      if (!known.has(stored.key) && (stored.id || stored.refusal)) this.#add(stored);
    }
    this.#showEmptiness();
  }

  #add(stored) {
    const job = new Job(stored, {
      announce: this.#announce,
      stream: this.#stream,
      actions: { ...this.#actions, remove: () => this.#remove(job) },
      whenCompleted: () => this.dispatchEvent(new Event("completed")),
    });
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
  #stream;
  #whenCompleted;
  #last = { status: "sending" };
  #overtaking = null;
  #isCancelling = false;
  #wake = () => {};

  constructor(stored, { announce, stream, actions, whenCompleted }) {
    this.#stored = stored;
    this.#announce = announce;
    this.#stream = stream;
    this.#whenCompleted = whenCompleted;
    this.card = new Card(stored.request, { ...actions, cancel: () => this.#cancel() });
    this.#run();
  }

  get key() {
    return this.#stored.key;
  }

  get seed() {
    return this.#last.settings?.seed ?? undefined;
  }

  get #hasEnded() {
    return isTerminal(this.#last.status);
  }

  get #isLoading() {
    return this.#last.progress?.loading_model === true;
  }

  wake() {
    this.#wake();
  }

  async #run() {
    if (this.#stored.refusal) return this.#show({ status: "failed", message: this.#stored.refusal });
    if (!this.#stored.id) await this.#patiently(() => this.#send(), { retryRefusals: false });
    if (this.#hasEnded) return;
    this.#stream.follow(this.#stored.id, (name, data) => this.#apply(name, data));
    while (!this.#hasEnded) {
      await this.#patiently(() => this.#ask(), { retryRefusals: true });
      if (!this.#hasEnded) await this.#pause(this.#pollInterval());
    }
    this.#stream.unfollow(this.#stored.id);
  }

  #pollInterval() {
    if (document.hidden) return HIDDEN_POLL_MS;
    if (!this.#stream.isLive) return POLL_MS;
    return this.#isLoading ? LOADING_POLL_MS : STREAMED_POLL_MS;
  }

  async #send() {
    const answer = await submitJob(this.#stored.request, this.key);
    this.#stored = { ...this.#stored, id: answer.job_id };
    storeJob(this.#stored);
  }

  async #ask() {
    this.#overtaking = null;
    const status = await jobStatus(this.#stored.id);
    // Progress that an event brought meanwhile is newer than this answer.
    this.#show(this.#overtaking && !isTerminal(status.status) ? progressed(status, this.#overtaking) : status);
  }

  /** Applies an event of GET /api/events: a whole job, or what has changed. */
  #apply(name, data) {
    if (name === "state" || name === "end") this.#show(data);
    else if (name === "preview") this.#show({ ...this.#last, preview: data.image });
    else if (name === "progress") this.#show(progressed(this.#last, data));
    if (name !== "preview") this.#overtaking = name === "progress" ? data : null;
    if (this.#hasEnded || this.#isLoading) this.wake();
  }

  /**
   * Repeats a call until the service has answered. A status may be asked again after a passing refusal too; a refused
   * submission (a full queue, a rate limit) is for the person to repeat.
   */
  async #patiently(call, { retryRefusals }) {
    for (let pause = POLL_MS; !this.#hasEnded; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
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

  /** Ignores an answer that arrives after the job's end. */
  #show(status) {
    if (this.#hasEnded) return;
    const wasNews = status.status !== this.#last.status;
    this.#last = status;
    this.card.show(status);
    if (wasNews) this.#announce(newsOf(status));
    if (wasNews && status.status === "completed") this.#whenCompleted();
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

function progressed(last, { step, total_steps, phase, eta_seconds, queue_position }) {
  const progress = { step, total_steps, ...(phase ? { [phase]: true } : {}) };
  return { ...last, status: phase ? "processing" : last.status, progress, eta_seconds, queue_position };
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
