/** The form: its fields follow the chosen model, and it remembers what was entered. */

import { recall, remember } from "./storage.js";

const DEFAULT_STEPS = { min: 1, max: 100, default: 30 };
const DEFAULT_MAX_IMAGES = 8;
const DEFAULT_PROMPT_CHARACTERS = 10_000;
const LARGEST_SEED = 2n ** 63n - 1n;
const BUILT_IN_EXAMPLES = [
  "a large red circle on a blue background",
  "small yellow star, black background, on the left",
  "a big cyan ring on a purple background",
  "tiny white cross at the top, red background",
];

/** The remembered fields besides the model and the steps, which follow the model's rules. */
const MEMORY = {
  prompt: "lastPrompt",
  "negative-prompt": "lastNegativePrompt",
  guidance: "lastGuidanceValue",
  width: "lastWidth",
  height: "lastHeight",
  "num-images": "lastNumImages",
  seed: "lastSeed",
};

const field = (id) => document.getElementById(id);

export class Form {
  #models = {};
  #onSubmit;

  /** @param {(job: object) => void} onSubmit called with the body of POST /api/generate */
  constructor(onSubmit) {
    this.#onSubmit = onSubmit;
    this.#restore();
    this.#listen();
  }

  /** Fills the model select and applies the remembered choice. */
  setModels({ models, default: defaultId }) {
    this.#models = models;
    const ids = Object.keys(models);
    field("model").replaceChildren(...ids.map((id) => new Option(id, id)));
    const chosen = [recall("lastModelId"), defaultId, ids[0]].find((id) => id in models);
    field("model").disabled = field("generate").disabled = ids.length === 0;
    if (chosen === undefined) this.#describe("The service has no models");
    else this.#chooseModel(chosen);
  }

  /** Puts the settings of an earlier job into the form. */
  fill({ model_id, prompt, negative_prompt = "", settings }) {
    this.#set("prompt", prompt);
    this.#set("negative-prompt", negative_prompt);
    field("negative").open = negative_prompt !== "";
    if (model_id in this.#models) this.#chooseModel(model_id);
    this.#set("steps", settings.num_inference_steps);
    this.#set("guidance", settings.guidance_scale);
    this.#set("width", settings.width);
    this.#set("height", settings.height);
    this.#set("num-images", settings.num_images);
    this.#set("seed", settings.seed);
    field("prompt").focus();
  }

  #listen() {
    const form = field("generation");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    form.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || field("generate").disabled) return;
      event.preventDefault();
      form.requestSubmit();
    });
    form.addEventListener("input", (event) => this.#entered(event.target));
    field("dice").addEventListener("click", () => {
      this.#set("seed", crypto.getRandomValues(new Uint32Array(1))[0]);
    });
    field("model").addEventListener("change", () => this.#chooseModel(field("model").value));
  }

  #entered(input) {
    if (input.id in MEMORY) remember(MEMORY[input.id], input.value);
    if (input.id === "steps") remember("lastStepsValue", input.value);
    this.#refresh();
  }

  #restore() {
    for (const [id, key] of Object.entries(MEMORY)) {
      const value = recall(key);
      if (value !== null) field(id).value = value;
    }
    field("negative").open = field("negative-prompt").value !== "";
  }

  #set(id, value) {
    const input = field(id);
    if (input.disabled || value === undefined || value === null) return;
    input.value = value;
    this.#entered(input);
  }

  #chooseModel(id) {
    const model = this.#models[id];
    // Guidance and size that were right for one model are wrong for the next.
    const isSameModel = id === recall("lastModelId");
    field("model").value = id;
    remember("lastModelId", id);
    this.#describe(model.description ?? "");
    this.#followSteps(model.step_config ?? {});
    this.#followGuidance(model.guidance, isSameModel);
    this.#followSize(model.size, isSameModel);
    this.#followImageCount(model.max_images ?? DEFAULT_MAX_IMAGES);
    this.#followPromptLength(model.max_prompt_characters ?? DEFAULT_PROMPT_CHARACTERS);
    this.#showExamples(model);
    this.#refresh();
  }

  #describe(text) {
    field("model-description").textContent = text;
  }

  /** A stored value outside the model's range gives way to the model's default; a fixed number is not remembered. */
  #followSteps(config) {
    const fixed = config.fixed_steps;
    const range = fixed ? { min: fixed, max: fixed, default: fixed } : (config.steps ?? DEFAULT_STEPS);
    setRange(field("steps"), range.min, range.max, pick(recall("lastStepsValue"), range.min, range.max, range.default));
    field("steps").disabled = Boolean(fixed);
    if (!fixed) remember("lastStepsValue", field("steps").value);
  }

  #followGuidance(guidance, isSameModel) {
    const input = field("guidance");
    field("guidance-field").hidden = !guidance;
    if (!guidance) return;
    const { min, max } = guidance;
    const stored = isSameModel ? recall(MEMORY.guidance) : null;
    setRange(input, min, max, pick(stored, min, max, guidance.default));
    input.disabled = min === max;
    remember(MEMORY.guidance, input.value);
  }

  #followSize(size, isSameModel) {
    const isOpen = Boolean(size) && size.minimum !== size.maximum;
    field("size-fields").hidden = !isOpen;
    for (const id of ["width", "height"]) {
      const input = field(id);
      input.disabled = !isOpen;
      if (!isOpen) continue;
      const multiple = size.multiple_of ?? 1;
      // Steps are counted from the minimum, so it has to be a multiple itself.
      input.min = Math.ceil(size.minimum / multiple) * multiple;
      input.max = size.maximum;
      input.step = multiple;
      const stored = isSameModel ? recall(MEMORY[id]) : null;
      input.value = pick(stored, size.minimum, size.maximum, size[`default_${id}`]);
      remember(MEMORY[id], input.value);
    }
  }

  #followImageCount(maximum) {
    const input = field("num-images");
    input.max = maximum;
    input.value = pick(input.value, 1, maximum, 1);
  }

  #followPromptLength(maximum) {
    field("prompt").maxLength = maximum;
    field("negative-prompt").maxLength = maximum;
  }

  #showExamples(model) {
    const examples = model.source === "builtin" ? BUILT_IN_EXAMPLES : [];
    field("examples").hidden = examples.length === 0;
    field("examples").replaceChildren(...examples.map((prompt) => this.#exampleChip(prompt)));
  }

  #exampleChip(prompt) {
    const chip = document.createElement("button");
    chip.type = "button";
    chip.textContent = prompt;
    chip.addEventListener("click", () => {
      this.#set("prompt", prompt);
      field("prompt").focus();
    });
    return chip;
  }

  /** Brings the shown values and the checks that HTML has no attribute for up to date. */
  #refresh() {
    field("steps-value").textContent = field("steps").value + (field("steps").disabled ? " (fixed)" : "");
    field("guidance-value").textContent = field("guidance").value;
    const size = this.#models[field("model").value]?.size;
    const tooLarge = size?.max_pixels && field("width").value * field("height").value > size.max_pixels;
    field("height").setCustomValidity(
      tooLarge ? `Width times height may be ${size.max_pixels.toLocaleString()} pixels at most` : "",
    );
    const seed = field("seed").value;
    const seedTooLarge = /^\d+$/.test(seed) && BigInt(seed) > LARGEST_SEED;
    field("seed").setCustomValidity(seedTooLarge ? `A seed is at most ${LARGEST_SEED}` : "");
    field("prompt").setCustomValidity(field("prompt").value.trim() ? "" : "Describe the picture first");
  }

  #submit() {
    const job = { model_id: field("model").value, prompt: field("prompt").value.trim(), settings: this.#settings() };
    const negative = field("negative-prompt").value.trim();
    if (negative) job.negative_prompt = negative;
    this.#onSubmit(job);
  }

  #settings() {
    const settings = {
      num_images: Number(field("num-images").value),
      num_inference_steps: Number(field("steps").value),
    };
    if (!field("guidance-field").hidden) settings.guidance_scale = Number(field("guidance").value);
    if (!field("size-fields").hidden) {
      settings.width = Number(field("width").value);
      settings.height = Number(field("height").value);
    }
    // Leading zeros are no JSON number.
    if (field("seed").value) settings.seed = BigInt(field("seed").value).toString();
    return settings;
  }
}

function setRange(input, min, max, value) {
  input.min = min;
  input.max = max;
  input.value = value;
}

/** The stored value where it lies within the range, else the default. */
function pick(stored, min, max, preset) {
  const value = Number(stored);
  return stored !== null && stored !== "" && value >= min && value <= max ? value : preset;
}
