/** The queue view for operators: models, jobs by state, storage and keys. It polls while it is visible. */

import { clearJobs, pauseModel, queueCounts, resetQueue, resumeModel, usage } from "./api.js";
import { button, count, h, several } from "./dom.js";
import { KeySection } from "./queue-keys.js";
import { QueueJobs, STATES } from "./queue-jobs.js";
import { modelState } from "./models.js";
import { ask, attempt, tell } from "./notice.js";

const LOOK_MS = 3000;
const LINKS = [["ray_dashboard", "Ray dashboard"], ["grafana", "Grafana"]];

export class Queue {
  #view = document.getElementById("view-queue");
  #models = {};
  #counts = null;
  #timer = null;
  #keys = new KeySection();
  #jobs = new QueueJobs({ changed: () => this.#look(), cleared: (state) => this.#clear(state) });

  constructor() {
    this.summary = h("p", { class: "hint", role: "status" });
    this.links = h("p", { class: "links" });
    this.problem = h("p", { class: "problem", role: "alert", hidden: true });
    this.models = h("ul", { class: "model-list" });
    this.storage = h("div", {});
    this.storageSection = h("section", { class: "panel", hidden: true }, h("h2", {}, "Storage"), this.storage);
    this.#view.append(
      h("div", { class: "gallery-head" }, h("h1", {}, "Queue"), this.summary, this.links),
      this.problem,
      h("section", { class: "panel" }, h("h2", {}, "Models"), this.models),
      h(
        "section",
        { class: "panel" },
        h(
          "div",
          { class: "section-head" },
          h("h2", {}, "Jobs"),
          button("Put stalled jobs back", () => this.#reset(), { title: "Jobs whose copy of the model no longer reports wait again" }),
        ),
        this.#jobs.element,
      ),
      this.storageSection,
      this.#keys.element,
    );
    document.addEventListener("visibilitychange", () => this.#look());
  }

  /** Called when the view is shown. */
  enter() {
    this.#look();
    this.#jobs.reload();
    this.#showUsage();
    this.#keys.reload();
  }

  /** @param {object} models of GET /api/models */
  setModels(models) {
    this.#models = models;
    this.#showModels();
  }

  /** @param {object} links of GET /api/service */
  setLinks(links) {
    const known = LINKS.filter(([name]) => links[name]);
    this.links.replaceChildren(...known.map(([name, words]) => h("a", { href: links[name], target: "_blank", rel: "noreferrer" }, words)));
  }

  async #look() {
    clearTimeout(this.#timer);
    if (this.#view.hidden || document.hidden) return;
    try {
      this.#counts = await queueCounts();
      this.#tellProblem("");
      this.#show();
      await this.#jobs.refresh();
    } catch (error) {
      this.#tellProblem(error.message);
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), LOOK_MS);
  }

  #tellProblem(sentence) {
    this.problem.hidden = !sentence;
    if (this.problem.textContent !== sentence) this.problem.textContent = sentence;
  }

  #show() {
    const { pending, processing, recent_24h, avg_processing_time_seconds: average } = this.#counts;
    const words = [`${count(pending)} waiting, ${count(processing)} running`];
    if (recent_24h) words.push(`${several(recent_24h, "job")} in the last day`);
    if (average) words.push(`${average.toFixed(1)} s each`);
    if (this.summary.textContent !== words.join("; ")) this.summary.textContent = words.join("; ");
    this.#jobs.setCounts(this.#counts);
    this.#showModels();
  }

  #showModels() {
    const ids = [...new Set([...Object.keys(this.#models), ...(this.#counts?.paused ?? [])])];
    const focused = document.activeElement?.dataset?.model;
    const rows = ids.map((id) => this.#modelRow(id));
    this.models.replaceChildren(...(rows.length ? rows : [h("li", { class: "hint" }, "There are no models: add some to the catalog.")]));
    if (focused) [...this.models.querySelectorAll("button")].find(({ dataset }) => dataset.model === focused)?.focus();
  }

  #modelRow(id) {
    const model = this.#models[id] ?? {};
    const isPaused = this.#counts?.paused?.includes(id) ?? false;
    const { sentence } = modelState(model);
    return h(
      "li",
      { dataset: { state: isPaused ? "paused" : (model.state ?? "") } },
      h("div", { class: "model-name" }, h("span", { class: "lamp", "aria-hidden": "true" }), h("strong", {}, id)),
      h("p", { class: "hint" }, isPaused ? "Paused: jobs wait, none is started" : sentence),
      h("p", { class: "numbers" }, this.#numbers(id).map((words) => h("span", {}, words))),
      button(isPaused ? "Resume" : "Pause", () => this.#switch(id, isPaused), {
        dataset: { model: id },
        class: "quiet outlined",
        "aria-label": `${isPaused ? "Resume" : "Pause"} ${id}`,
      }),
    );
  }

  #numbers(id) {
    const { replicas, max_batch: batch } = this.#models[id] ?? {};
    const rate = this.#counts?.images_per_minute?.[id];
    const counts = this.#counts?.models?.[id];
    return [
      replicas > 0 && (replicas === 1 ? "1 copy" : `${count(replicas)} copies`),
      batch && `batches to ${count(batch)}`,
      rate > 0 && `${rate.toLocaleString([], { maximumFractionDigits: 1 })} images/min`,
      ...STATES.map(([state, words]) => counts?.[state] > 0 && `${count(counts[state])} ${words.toLowerCase()}`),
    ].filter(Boolean);
  }

  async #switch(id, isPaused) {
    const answer = await attempt(() => (isPaused ? resumeModel(id) : pauseModel(id)));
    if (answer) tell(answer.message);
    this.#look();
  }

  async #reset() {
    const answer = await attempt(resetQueue);
    if (answer) tell(answer.message);
    this.#look();
  }

  /** Clears all jobs of a state; the service clears at most a thousand in one request. */
  async #clear(state) {
    const number = this.#counts?.[state] ?? 0;
    const loss = state === "pending" ? "They are cancelled." : "They are forgotten, with their images.";
    const words = STATES.find(([name]) => name === state)[1].toLowerCase();
    if (!(await ask(`Clear ${several(number, `${words} job`)}? ${loss}`, "Clear"))) return;
    let answer;
    do answer = await attempt(() => clearJobs(state));
    while (answer?.remaining > 0 && answer.cleared > 0);
    if (answer) tell(answer.message);
    await this.#jobs.reload();
    this.#look();
  }

  /** Images and bytes by owner and model. */
  async #showUsage() {
    const found = await usage().catch(() => null);
    this.storageSection.hidden = !found;
    if (!found) return;
    const rows = found.usage.map(({ owner, model_id, images, bytes }) => [owner, model_id, count(images), size(bytes)]);
    const limits = [found.quota_images && several(found.quota_images, "image"), found.quota_bytes && size(found.quota_bytes)].filter(Boolean);
    this.storage.replaceChildren(
      h("p", {}, `${several(found.images, "image")}, ${size(found.bytes)}.`, limits.length > 0 && ` An owner may have ${limits.join(" and ")}.`),
      rows.length > 0 ? table(["Owner", "Model", "Images", "Size"], rows) : "",
    );
  }
}

function table(names, rows) {
  return h(
    "table",
    {},
    h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((value) => h("td", {}, value))))),
  );
}

function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  return `${(bytes / 1000 ** power).toLocaleString([], { maximumFractionDigits: power ? 1 : 0 })} ${units[power]}`;
}
