/** Places of the form that hold one picture each; a dropped or pasted picture goes to one of them. */

import { field } from "./dom.js";
import { showPicture } from "./pictures.js";
import { pick } from "./sizes.js";
import { recall, remember } from "./storage.js";

/** One picture and its slider, whose value is stored in this browser. Fires "change" when there is another picture, or none. */
export class PicturePlace extends EventTarget {
  /** `words` describe it; `address` is where it can be shown from. */
  picture = null;
  #name;
  #slider;
  #alt;

  /**
   * @param {string} name what the ids of its elements begin with
   * @param {object} more
   * @param {string} more.slider id of the slider
   * @param {string} more.memory the key of its value in this browser's storage
   * @param {string} more.alt words for the picture
   */
  constructor(name, { slider, memory, alt }) {
    super();
    this.#name = name;
    this.#slider = field(slider);
    this.#alt = alt;
    const { min, max, value } = this.#slider;
    this.slide(pick(recall(memory), min, max, value));
    this.#slider.addEventListener("input", () => {
      remember(memory, this.#slider.value);
      this.#showValue();
    });
    const file = this.part("file");
    file.addEventListener("change", () => {
      this.take(file.files[0]);
      file.value = "";
    });
    this.part("remove").addEventListener("click", () => this.clear());
  }

  /** Its part of the form. */
  get element() {
    return field(this.#name);
  }

  /** What lights up while a picture is held over it. */
  get target() {
    return this.part("drop");
  }

  get value() {
    return Number(this.#slider.value);
  }

  part(name) {
    return field(`${this.#name}-${name}`);
  }

  /** Sets the slider where there is a value; unlike a change by the person, this is not stored. */
  slide(value) {
    if (value !== undefined && value !== null) this.#slider.value = value;
    this.#showValue();
  }

  clear() {
    this.set(null);
  }

  set(picture) {
    if (this.picture?.address?.startsWith("blob:")) URL.revokeObjectURL(this.picture.address);
    this.picture = picture;
    this.tellProblem("");
    this.changed();
  }

  changed() {
    this.show();
    this.dispatchEvent(new Event("change"));
  }

  /** Shows the picture; one that is shown already is not fetched again. */
  show() {
    const { id, address = null } = this.picture ?? {};
    const frame = this.part("picture");
    if (frame.dataset.shown === (address ?? "")) return;
    frame.dataset.shown = address ?? "";
    frame.replaceChildren();
    if (!address) return;
    const element = new Image();
    element.alt = this.#alt;
    frame.append(element);
    if (address.startsWith("blob:")) element.src = address;
    else showPicture(element, address, id);
  }

  tellProblem(sentence) {
    this.part("problem").textContent = sentence;
    this.part("problem").hidden = !sentence;
  }

  #showValue() {
    field(`${this.#slider.id}-value`).textContent = this.#slider.value;
  }
}

/**
 * Takes the pictures that are dropped onto a view or pasted.
 *
 * @param {HTMLElement} view where to listen
 * @param {PicturePlace[]} places the first that takes pictures gets what was dropped on none of them
 */
export function takePictures(view, places) {
  const placeOf = (node) => {
    const offered = places.filter((place) => place.isOffered);
    return offered.find(({ element }) => element.contains(node)) ?? offered[0];
  };
  const light = (lit) => places.forEach((place) => place.target.classList.toggle("over", place === lit));

  view.addEventListener("dragover", (event) => {
    const isFile = [...(event.dataTransfer?.items ?? [])].some(({ kind }) => kind === "file");
    const place = isFile && placeOf(event.target);
    light(place);
    if (place) event.preventDefault();
  });
  view.addEventListener("dragleave", () => light(null));
  view.addEventListener("drop", (event) => {
    light(null);
    const place = placeOf(event.target);
    if (!place || event.dataTransfer.files.length === 0) return;
    event.preventDefault();
    place.take(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
    const place = file && !view.hidden && placeOf(event.target);
    if (!place) return;
    event.preventDefault();
    place.take(file);
  });
}
