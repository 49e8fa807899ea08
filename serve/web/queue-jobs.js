/** The jobs of a state, newest first, with what can be done with each. */

import { cancelJob, listJobs, prioritizeJob, retryJob } from "./api.js";
import { button, count, h, moment, several } from "./dom.js";
import { attempt, tell } from "./notice.js";

export const STATES = [
  ["pending", "Waiting"],
  ["processing", "Running"],
  ["completed", "Done"],
  ["failed", "Failed"],
  ["cancelled", "Cancelled"],
];
const WORDS = Object.fromEntries(STATES);
const PAGE = 50;
const EMPTY = {
  "": "No job yet. What is submitted here, by the command line or by another program shows up in this list.",
  pending: "Nothing waits.",
  processing: "Nothing runs right now.",
  completed: "No job has completed yet.",
  failed: "No job has failed.",
  cancelled: "No job was cancelled.",
};

export class QueueJobs {
  #state = "";
  #jobs = [];
  #cursor = null;
  #asked = 0;
  #actions;

  /**
   * @param {object} actions
   * @param {() => void} actions.changed the queue has changed
   * @param {(state: string) => void} actions.cleared the person asks to clear a state
   */
  constructor(actions) {
    this.#actions = actions;
    this.tabs = h(
      "div",
      { class: "state-tabs", role: "group", "aria-label": "State" },
      [["", "All"], ...STATES].map(([state, words]) =>
        h(
          "button",
          { type: "button", class: "chip", dataset: { state }, "aria-pressed": String(state === ""), on: { click: () => this.#choose(state) } },
          words,
          h("span", { class: "count" }),
        ),
      ),
    );
    this.clear = button("Clear", () => this.#actions.cleared(this.#state), { class: "quiet danger", hidden: true });
    this.list = h("ul", { class: "job-list" });
    this.more = button("Show more", () => this.#load(this.#jobs), { class: "quiet outlined", hidden: true });
    this.element = h("div", {}, h("div", { class: "section-head" }, this.tabs, this.clear), this.list, this.more);
  }

  /** @param {object} counts by state, and `total` */
  setCounts(counts) {
    for (const tab of this.tabs.children) {
      tab.querySelector(".count").textContent = count(counts[tab.dataset.state || "total"] ?? 0);
    }
    document.getElementById("waiting-count").textContent = count(counts.pending + counts.processing);
    document.getElementById("waiting-count").hidden = counts.pending + counts.processing === 0;
  }

  /** Fetches the first page again. */
  reload() {
    return this.#load([]);
  }

  /** As `reload`, unless more than the first page is shown: the list would jump. */
  async refresh() {
    if (this.#jobs.length <= PAGE) await this.reload();
  }

  #choose(state) {
    this.#state = state;
    for (const tab of this.tabs.children) tab.setAttribute("aria-pressed", String(tab.dataset.state === state));
    this.clear.hidden = state === "" || state === "processing";
    this.#load([]);
  }

  async #load(before) {
    const asked = (this.#asked += 1);
    const cursor = before.length ? this.#cursor : null;
    const page = await attempt(() => listJobs({ state: this.#state, limit: PAGE, cursor }));
    if (!page || asked !== this.#asked) return;
    this.#jobs = [...before, ...page.jobs];
    this.#cursor = page.next_cursor;
    this.more.hidden = !page.next_cursor;
    this.#show();
  }

  /** Rows whose jobs are as they were stay, so that nothing that has the focus goes away. */
  #show() {
    const old = new Map([...this.list.children].map((row) => [row.dataset.shown, row]));
    const rows = this.#jobs.map((job) => old.get(JSON.stringify(job)) ?? this.#row(job));
    if (rows.length === 0) rows.push(h("li", { class: "hint" }, EMPTY[this.#state]));
    const isSame = rows.length === this.list.children.length && rows.every((row, place) => row === this.list.children[place]);
    if (!isSame) this.list.replaceChildren(...rows);
  }

  #row(job) {
    const isRunning = job.status === "processing";
    return h(
      "li",
      { class: "job-row", dataset: { state: job.status, shown: JSON.stringify(job) } },
      h(
        "div",
        { class: "job-words" },
        h("p", { class: "job-prompt" }, job.prompt),
        h(
          "p",
          { class: "hint" },
          [
            job.model_id,
            several(job.num_images, "image"),
            moment(job.created_at),
            job.client && `from ${job.client}`,
            job.priority !== "normal" && `${job.priority} priority`,
            job.retry_of && "tried again",
          ]
            .filter(Boolean)
            .join(", "),
        ),
        job.message && h("p", { class: "reason" }, job.message),
      ),
      h(
        "p",
        { class: "state" },
        h("span", { class: "lamp", "aria-hidden": "true" }),
        isRunning && job.total_steps ? `Running, step ${job.step} of ${job.total_steps}` : (WORDS[job.status] ?? job.status),
      ),
      h("div", { class: "job-actions" }, this.#buttons(job)),
    );
  }

  #buttons(job) {
    if (job.status === "pending") return [this.#priority(job), this.#button(job, "Cancel", cancelJob)];
    if (job.status === "processing") return [this.#button(job, "Cancel", cancelJob)];
    if (job.status === "completed") return [];
    return [this.#button(job, "Try again", retryJob, "Queued once more, as a new job.")];
  }

  #button(job, words, call, done) {
    const act = async () => {
      const answer = await attempt(() => call(job.id));
      if (answer && done) tell(done);
      this.#changed();
    };
    return button(words, act, { "aria-label": `${words}: ${job.prompt}` });
  }

  #priority(job) {
    const choose = async (event) => {
      await attempt(() => prioritizeJob(job.id, event.target.value));
      this.#changed();
    };
    const select = h("select", { "aria-label": `Priority of ${job.prompt}`, on: { change: choose } });
    select.append(...["high", "normal", "low"].map((name) => new Option(name[0].toUpperCase() + name.slice(1), name)));
    select.value = job.priority;
    return select;
  }

  async #changed() {
    await this.reload();
    this.#actions.changed();
  }
}
