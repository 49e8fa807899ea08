/** The picture that a model's ControlNet follows: brought to the size of the job's images before it is sent. */

import { uploadInput } from "./api.js";
import { pick } from "./sizes.js";
import { recall, remember } from "./storage.js";

const MEMORY = "lastControlScale";
const field = (id) => document.getElementById(id);

/** Fires "change" when there is another picture, or none. */
export class ControlPicture extends EventTarget {
  #picture = null; // a file with its size; or the id of an earlier job's, whose file is not here
  #tasks = [];
  #task = "text2image";

  constructor() {
    super();
    field("control-scale").value = pick(recall(MEMORY), 0, 2, 1);
    this.#showScale();
    field("control-scale").addEventListener("input", () => {
      remember(MEMORY, field("control-scale").value);
      this.#showScale();
    });
    field("control-file").addEventListener("change", () => {
      this.take(field("control-file").files[0]);
      field("control-file").value = "";
    });
    field("control-remove").addEventListener("click", () => this.#set(null));
  }

  get element() {
    return field("control");
  }

  get target() {
    return field("control-drop");
  }

  get isOffered() {
    return this.#tasks.includes(this.#task);
  }

  get isSet() {
    return this.isOffered && this.#picture !== null;
  }

  /** Width and height of the picture, where there is one. */
  get size() {
    return this.isSet ? [this.#picture.width, this.#picture.height] : null;
  }

  /**
   * Shows what a model can do; a picture that was chosen is kept for one that can.
   *
   * @param {string[]} tasks what a control picture goes with
   * @param {string} task what the job does
   */
  follow(tasks, task) {
    this.#tasks = tasks;
    this.#task = task;
    field("control").hidden = tasks.length === 0;
    field("control-other").hidden = this.isOffered;
    this.#show();
  }

  /** Follows a file. It is sent with the job, as only then its size is known. */
  async take(file) {
    if (!file) return;
    try {
      const { width, height } = await createImageBitmap(file);
      this.#set({ file, width, height, address: URL.createObjectURL(file), words: `${width} \u00d7 ${height} pixels` });
    } catch {
      this.#tellProblem("The file is not a picture that this browser can read.");
    }
  }

  /** Follows what an earlier job did, which may no longer be there. */
  restore({ control_image, control_scale, width, height }) {
    if (!control_image) return this.#set(null);
    this.#set({ id: control_image, width, height, words: "The picture of the earlier job" });
    if (control_scale !== undefined && control_scale !== null) field("control-scale").value = control_scale;
    this.#showScale();
  }

  /**
   * Sends the picture.
   *
   * @param {{width: number, height: number}} size of the job's images
   * @returns {Promise<string|null>} its id; null where it could not be sent, which is told
   */
  async send({ width, height }) {
    const picture = this.#picture;
    if (!picture.file) return picture.id;
    try {
      const isFitting = picture.width === width && picture.height === height;
      return (await uploadInput(isFitting ? picture.file : await scaled(picture.file, width, height))).id;
    } catch (error) {
      if (!("isTold" in error)) console.error(error);
      this.#tellProblem(error.message);
      return null;
    }
  }

  /** What goes into a job's settings. */
  get settings() {
    return { control_scale: Number(field("control-scale").value) };
  }

  #set(picture) {
    if (this.#picture?.address) URL.revokeObjectURL(this.#picture.address);
    this.#picture = picture;
    this.#tellProblem("");
    this.#show();
    this.dispatchEvent(new Event("change"));
  }

  #show() {
    const picture = this.#picture;
    field("controlled").hidden = !this.isSet;
    field("control-drop").hidden = !this.isOffered || picture !== null;
    field("control-words").textContent = picture?.words ?? "";
    const place = field("control-picture");
    if (place.dataset.shown === (picture?.address ?? "")) return;
    place.dataset.shown = picture?.address ?? "";
    place.replaceChildren();
    if (!picture?.address) return;
    const element = new Image();
    element.alt = "The picture to follow";
    element.src = picture.address;
    place.append(element);
  }

  #showScale() {
    field("control-scale-value").textContent = field("control-scale").value;
  }

  #tellProblem(sentence) {
    field("control-problem").textContent = sentence;
    field("control-problem").hidden = !sentence;
  }
}

async function scaled(file, width, height) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const bitmap = await createImageBitmap(file, { resizeWidth: width, resizeHeight: height, resizeQuality: "high" });
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
