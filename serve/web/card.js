/** A card: one job on the page. Texts of users and of the service become text nodes only, never HTML. */

import { imageAddress } from "./api.js";
import { factList } from "./dom.js";
import { fileName, savePicture, showPicture } from "./pictures.js";
import { recallApiKey } from "./storage.js";

const STATE_WORDS = {
  sending: "Sending",
  pending: "Queued",
  processing: "Generating",
  completed: "Done",
  failed: "Failed",
  cancelled: "Cancelled",
};
const TERMINAL_STATES = ["completed", "failed", "cancelled"];

/** @param {string} state */
export const isTerminal = (state) => TERMINAL_STATES.includes(state);

export class Card {
  #request;
  #actions;

  /**
   * @param {object} request what was asked
   * @param {{reuse: (request: object) => void, start: (image: object) => void, view: (images: object[], place: number) => void,
   *   cancel: () => void, remove: () => void}} actions
   */
  constructor(request, actions) {
    this.#request = request;
    this.#actions = actions;
    this.element = document.getElementById("job-template").content.firstElementChild.cloneNode(true);
    this.#button("reuse").addEventListener("click", () => actions.reuse(this.#request));
    this.#button("cancel").addEventListener("click", actions.cancel);
    this.#button("remove").addEventListener("click", actions.remove);
    this.#showRequest();
    this.show({ status: "sending" });
  }

  /** Shows an answer of GET /api/status/{id}, or a part of one. */
  show(job) {
    if (job.settings) this.#request = { ...this.#request, settings: { ...this.#request.settings, ...job.settings } };
    this.element.dataset.state = job.status;
    this.#slot("state").textContent = stateWords(job);
    this.#showProgress(job);
    const message = job.status === "completed" ? "" : job.message;
    this.#slot("message").textContent = message ?? "";
    this.#slot("message").hidden = !message;
    this.#showButtons(job);
    this.#showPictures(job);
    this.#showPreview(job);
    this.#showFacts();
  }

  /** Not with `disabled`, which would take the keyboard focus away. */
  setCancelling(cancelling) {
    this.#button("cancel").ariaDisabled = String(cancelling);
    this.#button("cancel").textContent = cancelling ? "Cancelling" : "Cancel";
  }

  #showRequest() {
    const { prompt, negative_prompt } = this.#request;
    this.#slot("prompt").textContent = prompt;
    this.#slot("without").textContent = negative_prompt ? `without ${negative_prompt}` : "";
    this.#slot("without").hidden = !negative_prompt;
  }

  #showProgress(job) {
    const bar = this.element.querySelector("progress");
    bar.hidden = isTerminal(job.status);
    const [done, whole] = job.status === "processing" ? howFar(job) : [0, 0];
    if (done && whole) {
      bar.max = whole;
      bar.value = Math.min(done, whole);
    } else {
      bar.removeAttribute("value");
    }
  }

  #showButtons({ status }) {
    const ended = isTerminal(status);
    if (ended && document.activeElement === this.#button("cancel")) this.element.focus();
    this.#button("cancel").hidden = ended || status === "sending";
    this.#button("remove").hidden = !ended;
    // A finished job offers its settings under each picture, with that picture's own seed.
    this.#button("reuse").hidden = !ended || status === "completed";
  }

  /** Empty frames of the right shape stand in for the pictures, so that nothing jumps when they come. */
  #showPictures({ status, images = [] }) {
    const pictures = this.element.querySelector(".pictures");
    pictures.hidden = isTerminal(status) && images.length === 0;
    const settings = this.#request.settings;
    const names = images.length ? images.map((image) => image.id) : Array(settings.num_images ?? 1).fill("");
    const shown = [this.#shape(), ...names].join();
    if (pictures.dataset.shown === shown) return;
    pictures.dataset.shown = shown;
    pictures.replaceChildren(
      ...(images.length ? this.#figures(images) : names.map(() => this.#blank())),
    );
  }

  /** Shows a preview of the newest picture in the first empty frame, once it has loaded, so nothing flickers. */
  #showPreview({ status, preview, progress = {} }) {
    if (status !== "processing" || !preview) return;
    const isData = preview.startsWith("data:image/");
    const source = isData ? preview : `${preview.replace(/^\//, "")}?step=${progress.step ?? 0}`;
    if (!isData && recallApiKey()) return;
    const picture = new Image();
    picture.className = "preview";
    picture.alt = "";
    picture.addEventListener("load", () => {
      const frame = this.element.querySelector(".pictures > div.frame");
      if (frame && this.element.dataset.state === "processing") frame.replaceChildren(picture);
    });
    picture.src = source;
  }

  #blank() {
    const frame = document.createElement("div");
    frame.className = "frame";
    frame.style.aspectRatio = this.#shape();
    return frame;
  }

  #shape() {
    const { width = 1, height = 1 } = this.#request.settings;
    return `${width} / ${height}`;
  }

  #figures(images) {
    const { image, mask, control_image, ...asked } = this.#request;
    const records = images.map((made, place) => ({
      ...asked,
      id: made.id,
      created_at: made.created_at,
      settings: { ...asked.settings, image, mask, control_image, num_images: 1, seed: this.#seedOf(made, place) },
    }));
    return records.map((record, place) => this.#picture(record, place, records));
  }

  #picture(record, place, records) {
    const figure = document.getElementById("picture-template").content.firstElementChild.cloneNode(true);
    const { seed } = record.settings;
    const address = imageAddress(record.id);
    const link = figure.querySelector("a.frame");
    link.href = address;
    link.style.aspectRatio = this.#shape();
    onPlainClick(link, () => this.#actions.view(records, place));
    const picture = figure.querySelector("img");
    picture.alt = `Picture ${place + 1} of: ${record.prompt}`;
    showPicture(picture, address, record.id);
    figure.querySelector(".seed").textContent = seed === undefined ? "" : `seed ${seed}`;
    const download = figure.querySelector("[data-action=download]");
    download.href = address;
    download.download = fileName(record);
    if (recallApiKey()) onPlainClick(download, () => savePicture(record));
    figure.querySelector("[data-action=reuse]").addEventListener("click", () => this.#actions.reuse(record));
    figure.querySelector("[data-action=start]").addEventListener("click", () => this.#actions.start(record));
    return figure;
  }

  /** The seed of an image; without one in its record it follows from the job's: image k has seed + k. */
  #seedOf(image, place) {
    const own = image.metadata?.settings?.seed ?? image.metadata?.seed;
    if (own !== undefined && own !== null) return String(own);
    const first = this.#request.settings.seed;
    return first === undefined || first === null ? undefined : String((BigInt(first) + BigInt(place)) % 2n ** 63n);
  }

  #showFacts() {
    const { model_id, settings } = this.#request;
    const facts = factList({
      Model: model_id,
      Steps: settings.num_inference_steps,
      Guidance: settings.guidance_scale,
      Size: settings.width && settings.height && `${settings.width} × ${settings.height}`,
      Strength: settings.strength,
    });
    this.element.querySelector(".facts").replaceChildren(...facts.children);
  }

  #slot(name) {
    return this.element.querySelector(`[data-slot=${name}]`);
  }

  #button(name) {
    return this.element.querySelector(`header [data-action=${name}]`);
  }
}

/** Handles a plain click; with a modifier key the link does what browsers do. */
function onPlainClick(link, listener) {
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    listener();
  });
}

/** Progress as a pair, what is done and the whole: seconds of the model's load, or steps. */
function howFar({ progress = {}, loading }) {
  if (progress.loading_model) return [loading?.seconds ?? 0, loading?.usual_seconds ?? 0];
  return [progress.step, progress.total_steps];
}

function loadingWords(loading) {
  if (!loading) return "Loading the model";
  const usually = loading.usual_seconds ? `, usually ${Math.ceil(loading.usual_seconds)} s` : "";
  return `Loading the model for ${Math.floor(loading.seconds)} s${usually}`;
}

function stateWords({ status, progress = {}, queue_position, eta_seconds, loading }) {
  const words = [STATE_WORDS[status] ?? status];
  if (status === "pending" && queue_position !== undefined && queue_position !== null) {
    words.push(`position ${queue_position}`);
  }
  if (status === "processing") {
    if (progress.saving) words[0] = "Saving";
    else if (progress.loading_model) words[0] = loadingWords(loading);
    else if (progress.step) words.push(`step ${progress.step} of ${progress.total_steps}`);
  }
  if (eta_seconds > 0 && !isTerminal(status)) words.push(`about ${Math.ceil(eta_seconds)} s`);
  return words.join(", ");
}
