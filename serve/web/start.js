/** The picture that a job starts from: chosen, dropped, pasted or made here before; how much of it stays, and where. */

import { imageAddress, uploadInput } from "./api.js";
import { paintMask } from "./mask.js";
import { showPicture } from "./pictures.js";
import { recall, remember } from "./storage.js";

const MEMORY = "lastStrength";
const field = (id) => document.getElementById(id);

export class StartPicture extends EventTarget {
  #picture = null;
  #mask = null;
  #isOffered = false;
  #upload = 0;

  constructor() {
    super();
    const stored = Number(recall(MEMORY));
    if (stored >= 0.05 && stored <= 1) field("strength").value = stored;
    this.#showStrength();
    field("strength").addEventListener("input", () => {
      remember(MEMORY, field("strength").value);
      this.#showStrength();
    });
    field("start-file").addEventListener("change", () => {
      this.take(field("start-file").files[0]);
      field("start-file").value = "";
    });
    field("start-remove").addEventListener("click", () => this.clear());
    field("start-mask").addEventListener("click", () => this.#paint());
    field("start-unmask").addEventListener("click", () => this.#setMask(null));
  }

  get element() {
    return field("start");
  }

  get target() {
    return field("start-drop");
  }

  get isOffered() {
    return this.#isOffered;
  }

  /** What a job does with the picture, in the words of the API. */
  get task() {
    if (!this.isSet) return "text2image";
    return this.#mask ? "inpaint" : "image2image";
  }

  /** Changes when the job's size comes from a picture, or no longer does: then "change" is fired. */
  get isSet() {
    return this.#isOffered && this.#picture !== null;
  }

  /** What goes into a job beside its settings. */
  get fields() {
    if (!this.isSet) return {};
    return this.#mask ? { image: this.#picture.id, mask: this.#mask.id } : { image: this.#picture.id };
  }

  /** What goes into a job's settings. */
  get settings() {
    return this.isSet ? { strength: Number(field("strength").value) } : {};
  }

  /** Shows what a model can do with a picture; one that was chosen is kept for a model that can. */
  follow(tasks = []) {
    this.#isOffered = tasks.includes("image2image") || tasks.includes("inpaint");
    field("start").hidden = !this.#isOffered;
    field("start-mask").hidden = !tasks.includes("inpaint");
    if (!tasks.includes("inpaint")) this.#mask = null;
    this.#show();
  }

  /** Starts from an image that was made here. */
  useImage({ id, settings = {} }) {
    this.#set({ id, address: imageAddress(id), width: settings.width, height: settings.height, words: "An image made here" });
  }

  /** Starts as an earlier job did: from the ids in its settings, which may no longer be there. */
  restore({ image, mask, strength }) {
    if (!image) return this.clear();
    this.#set({ id: image, address: null, words: "The picture of the earlier job" });
    if (mask) this.#setMask({ id: mask });
    if (strength) field("strength").value = strength;
    this.#showStrength();
  }

  clear() {
    this.#upload += 1;
    this.#set(null);
  }

  /** Sends a file, to start from it. */
  async take(file) {
    if (!file) return;
    const upload = (this.#upload += 1);
    this.#tellProblem("");
    field("start-words").textContent = "Sending the picture";
    try {
      const kept = await uploadInput(file);
      if (upload !== this.#upload) return;
      this.#set({ ...kept, address: URL.createObjectURL(file), words: `${kept.width} × ${kept.height} pixels` });
    } catch (error) {
      if (upload === this.#upload) this.#tellProblem(error.message);
    }
  }

  #set(picture) {
    if (this.#picture?.address?.startsWith("blob:")) URL.revokeObjectURL(this.#picture.address);
    this.#picture = picture;
    this.#mask = null;
    this.#tellProblem("");
    this.#show();
  }

  #setMask(mask) {
    this.#mask = mask;
    this.#show();
  }

  #show() {
    const picture = this.#picture;
    field("started").hidden = picture === null;
    field("start-drop").hidden = picture !== null;
    field("start-unmask").hidden = this.#mask === null;
    field("start-mask").disabled = !picture?.address;
    field("start-mask").textContent = this.#mask ? "Paint the mask anew" : "Paint a mask";
    if (picture) field("start-words").textContent = this.#mask ? `${picture.words}, with a mask` : picture.words;
    if (field("start-picture").dataset.id !== (picture?.id ?? "")) this.#showPicture();
    this.dispatchEvent(new Event("change"));
  }

  #showPicture() {
    const picture = this.#picture;
    field("start-picture").dataset.id = picture?.id ?? "";
    field("start-picture").replaceChildren();
    if (!picture?.address) return;
    const element = new Image();
    element.alt = "The picture to start from";
    field("start-picture").append(element);
    if (picture.address.startsWith("blob:")) element.src = picture.address;
    else showPicture(element, picture.address, picture.id);
  }

  async #paint() {
    const element = field("start-picture").querySelector("img");
    const blob = await paintMask(element);
    if (!blob) return;
    try {
      this.#setMask(await uploadInput(blob));
    } catch (error) {
      this.#tellProblem(error.message);
    }
  }

  #showStrength() {
    field("strength-value").textContent = field("strength").value;
  }

  #tellProblem(sentence) {
    field("start-problem").textContent = sentence;
    field("start-problem").hidden = !sentence;
  }
}
