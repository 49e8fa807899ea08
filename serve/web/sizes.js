/** Width and height: within a model's limits, with presets of the shapes people ask for. */

import { count, field, h } from "./dom.js";
import { recall, remember } from "./storage.js";

const SHAPES = [
  ["Square", 1, 1],
  ["Portrait", 3, 4],
  ["Landscape", 4, 3],
  ["Tall", 9, 16],
  ["Wide", 16, 9],
];
const MEMORY = { width: "lastWidth", height: "lastHeight" };

export class Sizes {
  #size = null;
  #isFromPicture = false;

  constructor() {
    field("swap").addEventListener("click", () => this.set(field("height").value, field("width").value));
    field("size-fields").addEventListener("input", () => this.#remember());
  }

  /** Whether the form asks for a size: not for a model with one size, nor with a start picture, which has its own. */
  get isAsked() {
    return !field("size-fields").hidden;
  }

  /** Fields of the job's settings. */
  get settings() {
    return this.isAsked ? this.#entered : {};
  }

  /** Size of the images where no start picture sets it. */
  get output() {
    if (this.#isOpen) return this.#entered;
    return { width: this.#size?.default_width, height: this.#size?.default_height };
  }

  /** As many pixels as the model's own size has, in the shape of a picture. */
  setShape(width, height) {
    if (this.#isOpen) this.set(...fit(this.#size, width, height));
  }

  /**
   * @param {object|undefined} size of GET /api/models
   * @param {boolean} isSameModel whether what is remembered was meant for this model
   */
  follow(size, isSameModel) {
    this.#size = size;
    for (const id of ["width", "height"]) {
      if (!this.#isOpen) continue;
      const input = field(id);
      const multiple = size.multiple_of ?? 1;
      // Steps are counted from the minimum, so it has to be a multiple itself.
      input.min = Math.ceil(size.minimum / multiple) * multiple;
      input.max = size.maximum;
      input.step = multiple;
      const stored = isSameModel ? recall(MEMORY[id]) : null;
      input.value = pick(stored, size.minimum, size.maximum, size[`default_${id}`]);
    }
    this.#showPresets();
    this.#adjust();
    if (this.#isOpen) this.#remember();
  }

  /** Hides the fields while a start picture sets the size. */
  setFromPicture(isFromPicture) {
    this.#isFromPicture = isFromPicture;
    this.#adjust();
  }

  set(width, height) {
    if (!this.#isOpen || !width || !height) return;
    field("width").value = width;
    field("height").value = height;
    this.#remember();
    this.check();
  }

  /** Checks the rule that HTML has no attribute for. */
  check() {
    const limit = this.#size?.max_pixels;
    const isTooLarge = this.isAsked && limit && field("width").value * field("height").value > limit;
    field("height").setCustomValidity(isTooLarge ? `Width times height may be ${count(limit)} pixels at most` : "");
    for (const preset of field("presets").children) {
      const isChosen = preset.dataset.size === `${field("width").value}x${field("height").value}`;
      preset.setAttribute("aria-pressed", String(isChosen));
    }
  }

  get #entered() {
    return { width: Number(field("width").value), height: Number(field("height").value) };
  }

  get #isOpen() {
    return Boolean(this.#size) && this.#size.minimum !== this.#size.maximum;
  }

  #adjust() {
    field("size-fields").hidden = !this.#isOpen || this.#isFromPicture;
    for (const id of ["width", "height"]) field(id).disabled = !this.isAsked;
    this.check();
  }

  #remember() {
    for (const [id, key] of Object.entries(MEMORY)) remember(key, field(id).value);
  }

  #showPresets() {
    const shapes = this.#isOpen ? SHAPES.map(([name, ...ratio]) => [name, ...fit(this.#size, ...ratio)]) : [];
    field("presets").replaceChildren(...shapes.map(([name, width, height]) => this.#preset(name, width, height)));
  }

  #preset(name, width, height) {
    const shape = h("span", { class: "shape", "aria-hidden": "true" });
    shape.style.aspectRatio = `${width} / ${height}`;
    shape.style[width >= height ? "width" : "height"] = "100%";
    return h(
      "button",
      {
        type: "button",
        title: `${width} × ${height}`,
        "aria-pressed": "false",
        dataset: { size: `${width}x${height}` },
        on: { click: () => this.set(width, height) },
      },
      h("span", { class: "shape-box" }, shape),
      name,
    );
  }
}

/** The size of a shape with about as many pixels as the model's own size, in its steps and within its limits. */
function fit(size, across, down) {
  const multiple = size.multiple_of ?? 1;
  const pixels = Math.min(size.default_width * size.default_height, size.max_pixels ?? Infinity);
  const side = (share, other) => {
    const lowest = Math.ceil(size.minimum / multiple) * multiple;
    const highest = Math.floor(size.maximum / multiple) * multiple;
    const ideal = Math.floor(Math.sqrt((pixels * share) / other) / multiple) * multiple;
    return Math.min(Math.max(ideal, lowest), highest);
  };
  return [side(across, down), side(down, across)];
}

/** The stored value where it lies within the range, else the default. */
export function pick(stored, min, max, preset) {
  const value = Number(stored);
  return stored !== null && stored !== "" && value >= min && value <= max ? value : preset;
}
