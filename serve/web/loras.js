/** The LoRAs of a model: which are active, and their scales. */

import { field, h } from "./dom.js";
import { pick } from "./sizes.js";
import { recall, remember } from "./storage.js";

const MEMORY = "lastLoras";
const WEAKEST = -4;
const STRONGEST = 4;

export class Loras {
  #names = [];
  #defaults = {};
  #most = 0;
  #chosen = new Map(); // scales by name

  /** @param {object} model of GET /api/models; the remembered LoRAs that it has are chosen */
  follow({ loras = [], lora_scales = {}, max_loras = loras.length }) {
    this.#names = loras;
    this.#defaults = lora_scales;
    this.#most = max_loras;
    this.#choose(remembered());
  }

  /** What goes into a job's settings. */
  get settings() {
    return this.#chosen.size ? { loras: [...this.#chosen].map(([name, scale]) => ({ name, scale })) } : {};
  }

  /** Chooses the LoRAs of an earlier job that the model has. */
  restore(loras = []) {
    this.#choose(Object.fromEntries(loras.map(({ name, scale }) => [name, scale])));
    this.#remember();
  }

  #choose(scales) {
    const names = this.#names.filter((name) => Object.hasOwn(scales, name)).slice(0, this.#most);
    this.#chosen = new Map(names.map((name) => [name, Number(pick(scales[name], WEAKEST, STRONGEST, this.#defaultOf(name)))]));
    field("loras").hidden = this.#names.length === 0;
    field("lora-list").replaceChildren(...this.#names.map((name) => this.#row(name)));
    this.#showLimit();
  }

  #row(name) {
    const value = h("output", {});
    const show = (scale) => {
      slider.hidden = value.hidden = !this.#chosen.has(name);
      slider.value = scale;
      value.textContent = scale;
    };
    const set = (scale) => {
      this.#chosen.set(name, scale);
      show(scale);
      this.#remember();
    };
    const toggle = (event) => {
      if (event.target.checked) return set(this.#defaultOf(name));
      this.#chosen.delete(name);
      show(this.#defaultOf(name));
      this.#remember();
    };
    const box = h("input", { type: "checkbox", checked: this.#chosen.has(name), on: { input: toggle } });
    const slider = h("input", {
      type: "range",
      min: WEAKEST,
      max: STRONGEST,
      step: 0.05,
      "aria-label": `Scale of ${name}`,
      on: { input: () => set(Number(slider.value)) },
    });
    show(this.#chosen.get(name) ?? this.#defaultOf(name));
    return h("div", { class: "field lora" }, h("label", { class: "tick" }, box, name), value, slider);
  }

  #defaultOf(name) {
    return this.#defaults[name] ?? 1;
  }

  #remember() {
    remember(MEMORY, JSON.stringify(Object.fromEntries(this.#chosen)));
    this.#showLimit();
  }

  #showLimit() {
    const isFull = this.#chosen.size >= this.#most;
    field("lora-limit").hidden = !isFull || this.#names.length <= this.#most;
    field("lora-limit").textContent = `At most ${this.#most} at once`;
    for (const box of field("lora-list").querySelectorAll("[type=checkbox]")) box.disabled = isFull && !box.checked;
  }
}

function remembered() {
  try {
    return JSON.parse(recall(MEMORY) ?? "{}") ?? {};
  } catch {
    return {};
  }
}
