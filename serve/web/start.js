/** The picture that a job starts from (chosen, dropped, pasted or generated earlier), its strength and its mask. */

import { imageAddress, uploadInput } from "./api.js";
import { field } from "./dom.js";
import { paintMask } from "./mask.js";
import { PicturePlace } from "./picture-drop.js";

/** Fires "change" also when the mask or the model changes, and with it the job's task. */
export class StartPicture extends PicturePlace {
  #mask = null;
  #isOffered = false;
  #upload = 0;

  constructor() {
    super("start", { slider: "strength", memory: "lastStrength", alt: "The picture to start from" });
    field("start-mask").addEventListener("click", () => this.#paint());
    field("start-unmask").addEventListener("click", () => this.#setMask(null));
  }

  /** Whether the model starts from pictures. */
  get isOffered() {
    return this.#isOffered;
  }

  /** The job's task, as the API names it. */
  get task() {
    if (!this.isSet) return "text2image";
    return this.#mask ? "inpaint" : "image2image";
  }

  /** Whether a job starts from the picture, and so has its size. */
  get isSet() {
    return this.#isOffered && this.picture !== null;
  }

  /** Fields of the job's body besides its settings. */
  get fields() {
    if (!this.isSet) return {};
    return this.#mask ? { image: this.picture.id, mask: this.#mask.id } : { image: this.picture.id };
  }

  /** Fields of the job's settings. */
  get settings() {
    return this.isSet ? { strength: this.value } : {};
  }

  /** Follows the chosen model. A picture stays for the next model that can use one. */
  follow(tasks = []) {
    this.#isOffered = tasks.includes("image2image") || tasks.includes("inpaint");
    field("start").hidden = !this.#isOffered;
    field("start-mask").hidden = !tasks.includes("inpaint");
    if (!tasks.includes("inpaint")) this.#mask = null;
    this.changed();
  }

  /** Starts from an image of the gallery. */
  useImage({ id, settings = {} }) {
    this.set({ id, address: imageAddress(id), width: settings.width, height: settings.height, words: "An image made here" });
  }

  /** Starts as an earlier job did, from the ids in its settings; the service may have deleted the pictures since. */
  restore({ image, mask, strength }) {
    if (!image) return this.clear();
    this.set({ id: image, address: null, words: "The picture of the earlier job" });
    if (mask) this.#setMask({ id: mask });
    this.slide(strength);
  }

  clear() {
    this.#upload += 1;
    super.clear();
  }

  /** Uploads a file and starts from it. */
  async take(file) {
    if (!file) return;
    const upload = (this.#upload += 1);
    this.tellProblem("");
    field("start-words").textContent = "Sending the picture";
    try {
      const kept = await uploadInput(file);
      if (upload !== this.#upload) return;
      this.set({ ...kept, address: URL.createObjectURL(file), words: `${kept.width} × ${kept.height} pixels` });
    } catch (error) {
      if (upload === this.#upload) this.tellProblem(error.message);
    }
  }

  set(picture) {
    this.#mask = null;
    super.set(picture);
  }

  #setMask(mask) {
    this.#mask = mask;
    this.changed();
  }

  show() {
    const { picture } = this;
    field("started").hidden = picture === null;
    field("start-drop").hidden = picture !== null;
    field("start-unmask").hidden = this.#mask === null;
    field("start-mask").disabled = !picture?.address;
    field("start-mask").textContent = this.#mask ? "Paint the mask anew" : "Paint a mask";
    if (picture) field("start-words").textContent = this.#mask ? `${picture.words}, with a mask` : picture.words;
    super.show();
  }

  async #paint() {
    const element = field("start-picture").querySelector("img");
    const blob = await paintMask(element);
    if (!blob) return;
    try {
      this.#setMask(await uploadInput(blob));
    } catch (error) {
      this.tellProblem(error.message);
    }
  }
}
