/** The form. Its fields follow the chosen model, and their values are remembered. */

import { enrichPrompt } from "./api.js";
import { ControlPicture } from "./control.js";
import { button, field, h, several } from "./dom.js";
import { Loras } from "./loras.js";
import { modelState } from "./models.js";
import { tell } from "./notice.js";
import { takePictures } from "./picture-drop.js";
import { PromptCount } from "./prompt-count.js";
import { pick, Sizes } from "./sizes.js";
import { StartPicture } from "./start.js";
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

/** The remembered fields besides the model, the steps and the size, which follow the model's rules. */
const MEMORY = {
  prompt: "lastPrompt",
  "negative-prompt": "lastNegativePrompt",
  guidance: "lastGuidanceValue",
  "num-images": "lastNumImages",
  seed: "lastSeed",
  scheduler: "lastScheduler",
  "clip-skip": "lastClipSkip",
  priority: "lastPriority",
  "output-format": "lastFormat",
  quality: "lastQuality",
  "enrich-style": "lastStyle",
};

export class Form {
  #models = {};
  #sizes = new Sizes();
  #start = new StartPicture();
  #control = new ControlPicture();
  #loras = new Loras();
  #promptCount = new PromptCount();
  #onSubmit;
  #lastSeed;

  /**
   * @param {(job: object) => void} onSubmit called with the body of POST /api/generate
   * @param {() => string|undefined} lastSeed the seed of the newest job
   */
  constructor(onSubmit, lastSeed) {
    this.#onSubmit = onSubmit;
    this.#lastSeed = lastSeed;
    this.#restore();
    this.#listen();
  }

  /** Fills the model select and applies the remembered choice; for known models only updates their states. */
  setModels({ models, default: defaultId }) {
    const ids = Object.keys(models);
    const isNews = ids.join() !== Object.keys(this.#models).join();
    this.#models = models;
    if (isNews) field("model").replaceChildren(...ids.map((id) => new Option(id, id)));
    this.#showStates();
    if (!isNews && ids.length > 0) return;
    const chosen = [recall("lastModelId"), defaultId, ids[0]].find((id) => id in models);
    field("model").disabled = field("generate").disabled = ids.length === 0;
    if (chosen === undefined) this.#describe("The service has no models: its operator adds them to the catalog.");
    else this.#chooseModel(chosen);
  }

  /** @param {{enrich: boolean}} service of GET /api/service */
  setService({ enrich }) {
    field("enrich-row").hidden = !enrich;
  }

  /** Puts the settings of an earlier job into the form. */
  fill({ model_id, prompt, negative_prompt = "", settings, image, mask, control_image }) {
    this.#set("prompt", prompt);
    this.#set("negative-prompt", negative_prompt);
    field("negative").open = negative_prompt !== "";
    if (model_id in this.#models) this.#chooseModel(model_id);
    this.#set("steps", settings.num_inference_steps);
    this.#set("guidance", settings.guidance_scale);
    this.#set("num-images", settings.num_images);
    this.#set("seed", settings.seed);
    this.#set("scheduler", settings.scheduler ?? "");
    this.#set("clip-skip", settings.clip_skip);
    this.#set("output-format", settings.output_format ?? "png");
    this.#set("quality", settings.quality ?? "");
    field("deterministic").checked = Boolean(settings.deterministic);
    this.#entered(field("deterministic"));
    this.#loras.restore(settings.loras);
    this.#start.restore({ image: settings.image ?? image, mask: settings.mask ?? mask, strength: settings.strength });
    this.#control.restore({ control_image, ...settings });
    this.#sizes.set(settings.width, settings.height);
    field("prompt").focus();
  }

  /** Starts from an image of the gallery. */
  startFrom(image) {
    this.#start.useImage(image);
    field("prompt").focus();
    if (field("start").hidden) tell("This model does not start from pictures; choose one that does.");
  }

  #listen() {
    const form = field("generation");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    form.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      form.requestSubmit();
    });
    form.addEventListener("input", (event) => this.#entered(event.target));
    field("dice").addEventListener("click", () => this.#set("seed", rollSeed()));
    field("lock").addEventListener("click", () => {
      this.#set("seed", field("seed").value ? "" : (this.#lastSeed() ?? rollSeed()));
    });
    field("model").addEventListener("change", () => this.#chooseModel(field("model").value));
    field("enrich").addEventListener("click", () => this.#enrich());
    field("make-first").addEventListener("click", () => {
      this.#set("prompt", BUILT_IN_EXAMPLES[0]);
      form.requestSubmit();
    });
    this.#start.addEventListener("change", () => this.#followPictures());
    this.#control.addEventListener("change", () => {
      if (this.#control.isSet) this.#sizes.setShape(...this.#control.size);
      if (this.#control.isSet) field("more").open = true;
      this.#followPictures();
    });
    takePictures(field("view-generate"), [this.#start, this.#control]);
  }

  #entered(input) {
    if (input.id in MEMORY) remember(MEMORY[input.id], input.value);
    if (input.id === "deterministic") remember("lastDeterministic", input.checked);
    if (input.id === "steps") remember("lastStepsValue", input.value);
    this.#refresh();
  }

  #restore() {
    for (const [id, key] of Object.entries(MEMORY)) {
      const value = recall(key);
      if (value !== null) this.#putBack(field(id), value);
    }
    field("negative").open = field("negative-prompt").value !== "";
    field("deterministic").checked = recall("lastDeterministic") === "true";
    field("more").open = this.#chosenWords() !== "";
  }

  /** Leaves a select as it is where the stored choice no longer exists. */
  #putBack(input, value) {
    if (input.tagName !== "SELECT" || [...input.options].some((option) => option.value === value)) input.value = value;
  }

  #set(id, value) {
    const input = field(id);
    if (input.disabled || value === undefined || value === null) return;
    input.value = value;
    this.#entered(input);
  }

  #chooseModel(id) {
    const model = this.#models[id];
    // Guidance and size that suit one model do not suit the next. On the first visit there is no earlier model: what is
    // stored then was entered while the page waited for the models.
    const last = recall("lastModelId");
    const isSameModel = last === null || last === id;
    field("model").value = id;
    remember("lastModelId", id);
    this.#describe(model.description ?? "");
    this.#followSteps(model.step_config ?? {});
    this.#followGuidance(model.guidance, isSameModel);
    this.#sizes.follow(model.size, isSameModel);
    this.#followSchedulers(model.schedulers ?? []);
    this.#followClipSkip(model.clip_skip ?? { maximum: 0, default: 0 }, isSameModel);
    this.#loras.follow(model);
    this.#start.follow(model.tasks);
    this.#followImageCount(model.max_images ?? DEFAULT_MAX_IMAGES);
    this.#followPromptLength(model.max_prompt_characters ?? DEFAULT_PROMPT_CHARACTERS);
    this.#showExamples(model);
    this.#showStates();
    this.#refresh();
  }

  #describe(text) {
    field("model-description").textContent = text;
  }

  /** Replaces a stored value outside the model's range by the model's default; a fixed number is not stored. */
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

  #followSchedulers(schedulers) {
    const options = [new Option("Default", ""), ...schedulers.map((name) => new Option(schedulerWords(name), name))];
    field("scheduler").replaceChildren(...options);
    field("scheduler").value = schedulers.includes(recall(MEMORY.scheduler)) ? recall(MEMORY.scheduler) : "";
    field("scheduler-field").hidden = schedulers.length === 0;
  }

  #followClipSkip({ maximum, default: usual }, isSameModel) {
    const input = field("clip-skip");
    const stored = isSameModel ? recall(MEMORY[input.id]) : null;
    input.defaultValue = usual;
    setRange(input, 0, maximum, pick(stored, 0, maximum, usual));
    input.disabled = field("clip-skip-field").hidden = maximum === 0;
  }

  /** A start picture brings its size, unless a control picture has to have the same one. */
  #followPictures() {
    this.#control.follow(this.#models[field("model").value]?.control_tasks ?? [], this.#start.task);
    this.#sizes.setFromPicture(this.#start.isSet && !this.#control.isSet);
    this.#refresh();
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
    field("first").hidden = examples.length === 0;
    field("first-prompt").textContent = examples[0] ?? "";
  }

  #exampleChip(prompt) {
    const use = () => {
      this.#set("prompt", prompt);
      field("prompt").focus();
    };
    return button(prompt, use, { class: "chip" });
  }

  /** Shows which models are loaded, and why the chosen one is not. */
  #showStates() {
    for (const option of field("model").options) {
      const { word } = modelState(this.#models[option.value]);
      option.textContent = word ? `${option.value} (${word})` : option.value;
    }
    const model = this.#models[field("model").value];
    const { sentence } = modelState(model ?? {});
    field("model-state").hidden = !sentence;
    field("model-state").dataset.state = model?.state ?? "";
    field("model-state").replaceChildren(h("span", { class: "lamp", "aria-hidden": "true" }), sentence);
  }

  async #enrich() {
    const before = field("prompt").value;
    if (!field("prompt").reportValidity()) return;
    field("enrich").disabled = true;
    try {
      const { enriched_prompt } = await enrichPrompt(before.trim(), field("enrich-style").value.trim());
      this.#set("prompt", enriched_prompt);
      tell("The prompt is enriched.", { label: "Undo", run: () => this.#set("prompt", before) });
    } catch (error) {
      tell(error.message);
    } finally {
      field("enrich").disabled = false;
    }
  }

  /** Updates the shown values, and the checks that HTML has no attribute for. */
  #refresh() {
    field("steps-value").textContent = field("steps").value + (field("steps").disabled ? " (fixed)" : "");
    field("guidance-value").textContent = field("guidance").value;
    field("quality-field").hidden = field("output-format").value === "png";
    const seed = field("seed").value;
    const seedTooLarge = /^\d+$/.test(seed) && BigInt(seed) > LARGEST_SEED;
    field("seed").setCustomValidity(seedTooLarge ? `A seed is at most ${LARGEST_SEED}` : "");
    field("lock").setAttribute("aria-pressed", String(seed !== ""));
    field("prompt").setCustomValidity(field("prompt").value.trim() ? "" : "Describe the picture first");
    field("more-chosen").textContent = this.#chosenWords();
    this.#sizes.check();
    this.#promptCount.show(this.#models[field("model").value], field("prompt").value, field("prompt").maxLength);
  }

  /** Settings that differ from the defaults, for the summary of the folded part. */
  #chosenWords() {
    const loras = this.#loras.settings.loras ?? [];
    const format = field("output-format");
    const clipSkip = field("clip-skip");
    return [
      loras.length && several(loras.length, "LoRA"),
      this.#control.isSet && "control picture",
      field("scheduler").value && schedulerWords(field("scheduler").value),
      clipSkip.value !== clipSkip.defaultValue && `CLIP skip ${clipSkip.value}`,
      field("priority").value !== "normal" && `${field("priority").value} priority`,
      format.value !== "png" && format.selectedOptions[0].text,
      field("deterministic").checked && "same bytes",
    ]
      .filter(Boolean)
      .join(", ");
  }

  async #submit() {
    const job = { model_id: field("model").value, prompt: field("prompt").value.trim(), settings: this.#settings() };
    const negative = field("negative-prompt").value.trim();
    if (negative) job.negative_prompt = negative;
    if (field("priority").value !== "normal") job.priority = field("priority").value;
    Object.assign(job, this.#start.fields);
    if (this.#control.isSet && !(await this.#addControl(job))) return;
    this.#onSubmit(job);
  }

  async #addControl(job) {
    const size = this.#sizes.output;
    Object.assign(job.settings, this.#control.settings, size);
    field("generate").disabled = true;
    job.control_image = await this.#control.send(size);
    field("generate").disabled = false;
    return job.control_image;
  }

  #settings() {
    const settings = {
      num_images: Number(field("num-images").value),
      num_inference_steps: Number(field("steps").value),
    };
    if (!field("guidance-field").hidden) settings.guidance_scale = Number(field("guidance").value);
    Object.assign(settings, this.#sizes.settings, this.#start.settings, this.#loras.settings);
    // Leading zeros are no JSON number.
    if (field("seed").value) settings.seed = BigInt(field("seed").value).toString();
    if (field("scheduler").value) settings.scheduler = field("scheduler").value;
    const clipSkip = field("clip-skip");
    if (!clipSkip.disabled && clipSkip.value) settings.clip_skip = Number(clipSkip.value);
    const format = field("output-format").value;
    if (format !== "png") settings.output_format = format;
    if (format !== "png" && field("quality").value) settings.quality = Number(field("quality").value);
    if (field("deterministic").checked) settings.deterministic = true;
    return settings;
  }
}

const rollSeed = () => crypto.getRandomValues(new Uint32Array(1))[0];

const schedulerWords = (name) => name.replace(/Scheduler$/, "").replace(/([a-z])([A-Z])/g, "$1 $2");

function setRange(input, min, max, value) {
  input.min = min;
  input.max = max;
  input.value = value;
}
