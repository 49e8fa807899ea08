/** The picture that a model's ControlNet follows. It is scaled to the size of the job's images before it is sent. */

import { uploadInput } from "./api.js";
import { field } from "./dom.js";
import { PicturePlace } from "./picture-drop.js";

/** Its picture is a file with its size; or the id of an earlier job's, whose file is not here. */
export class ControlPicture extends PicturePlace {
  #tasks = [];
  #task = "text2image";

  constructor() {
    super("control", { slider: "control-scale", memory: "lastControlScale", alt: "The picture to follow" });
  }

  get isOffered() {
    return this.#tasks.includes(this.#task);
  }

  get isSet() {
    return this.isOffered && this.picture !== null;
  }

  /** Width and height of the picture, where there is one. */
  get size() {
    return this.isSet ? [this.picture.width, this.picture.height] : null;
  }

  /**
   * Follows the chosen model. A picture stays for the next model that can use one.
   *
   * @param {string[]} tasks the model's tasks that take a control picture
   * @param {string} task of the job
   */
  follow(tasks, task) {
    this.#tasks = tasks;
    this.#task = task;
    field("control").hidden = tasks.length === 0;
    field("control-other").hidden = this.isOffered;
    this.show();
  }

  /** Takes a file. It is sent with the job: only then the size of the images is known. */
  async take(file) {
    if (!file) return;
    try {
      const { width, height } = await createImageBitmap(file);
      this.set({ file, width, height, address: URL.createObjectURL(file), words: `${width} \u00d7 ${height} pixels` });
    } catch {
      this.tellProblem("The file is not a picture that this browser can read.");
    }
  }

  /** Takes the control picture of an earlier job, which the service may have deleted since. */
  restore({ control_image, control_scale, width, height }) {
    if (!control_image) return this.clear();
    this.set({ id: control_image, width, height, words: "The picture of the earlier job" });
    this.slide(control_scale);
  }

  /**
   * Sends the picture.
   *
   * @param {{width: number, height: number}} size of the job's images
   * @returns {Promise<string|null>} its id; null where it could not be sent; the form then says why
   */
  async send({ width, height }) {
    const picture = this.picture;
    if (!picture.file) return picture.id;
    try {
      const isFitting = picture.width === width && picture.height === height;
      return (await uploadInput(isFitting ? picture.file : await scaled(picture.file, width, height))).id;
    } catch (error) {
      if (!("isTold" in error)) console.error(error);
      this.tellProblem(error.message);
      return null;
    }
  }

  /** What goes into a job's settings. */
  get settings() {
    return { control_scale: this.value };
  }

  show() {
    const { picture } = this;
    field("controlled").hidden = !this.isSet;
    field("control-drop").hidden = !this.isOffered || picture !== null;
    field("control-words").textContent = picture?.words ?? "";
    super.show();
  }
}

async function scaled(file, width, height) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const bitmap = await createImageBitmap(file, { resizeWidth: width, resizeHeight: height, resizeQuality: "high" });
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
