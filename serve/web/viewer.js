/** An image in full size, with its parameters and actions. */

import { deleteImage, imageAddress, imageMetadata, markFavourite, tagImage, untagImage } from "./api.js";
import { button, factList, h, iconButton, moment } from "./dom.js";
import { ask, attempt, copyText, tell } from "./notice.js";
import { savePicture, showPicture } from "./pictures.js";
import { isShortcutFree } from "./shortcuts.js";

/** Fires "deleted" with an image's id in `detail`, and "changed" when favourites or tags have. */
export class Viewer extends EventTarget {
  #list = null;
  #place = 0;
  #details = null; // the shown image, with its metadata once they have arrived
  #actions;

  /**
   * @param {object} actions what the page does with an image
   * @param {(image: object) => void} actions.reuse puts its parameters into the form
   * @param {(image: object) => void} actions.start starts from it
   */
  constructor(actions) {
    super();
    this.#actions = actions;
    this.#build();
  }

  /**
   * @param {object} list of what can be looked through
   * @param {() => object[]} list.images
   * @param {number} list.place of the first one shown
   * @param {() => number} [list.total] of all, where more can be fetched
   * @param {() => Promise<void>} [list.needMore] fetches more
   * @param {(id: string) => void} [list.toggle] selects, where that is possible
   * @param {(id: string) => boolean} [list.isSelected]
   * @param {(place: number) => void} [list.closed] called with the place of the last one shown
   */
  open(list) {
    this.#list = list;
    this.#select.hidden = !list.toggle;
    this.dialog.showModal();
    // Not a button in it, which would take the space bar for itself.
    this.dialog.focus();
    this.#show(list.place);
  }

  /** Makes an image a favourite, or no longer. */
  async favourite(image) {
    const favourite = !image.favourite;
    if (!(await attempt(() => markFavourite(image.id, favourite)))) return;
    image.favourite = favourite;
    tell(favourite ? "Marked as a favourite." : "No favourite any more.");
    this.#changed(image);
  }

  #select;

  #build() {
    this.picture = h("img", { alt: "", decoding: "async" });
    this.prompt = h("p", { class: "viewer-prompt" });
    this.counter = h("p", { class: "hint" });
    this.facts = h("div", { class: "viewer-facts" });
    this.heart = iconButton("heart", "Favourite", () => this.favourite(this.#image), { "aria-pressed": "false" });
    this.tagList = h("ul", { class: "tags", "aria-label": "Tags" });
    this.tagField = h("input", { id: "viewer-tag", maxLength: 64, placeholder: "Add a tag", "aria-label": "Add a tag" });
    this.#select = h("button", { type: "button", class: "quiet", "aria-pressed": "false", on: { click: () => this.#toggle() } }, "Select");
    const tagForm = h("form", { class: "tag-form", on: { submit: (event) => this.#addTag(event) } }, this.tagField, h("button", { class: "quiet" }, "Add"));
    this.dialog = h(
      "dialog",
      { class: "viewer", tabIndex: -1, "aria-label": "Image", on: { close: () => this.#list.closed?.(this.#place), keydown: (event) => this.#press(event) } },
      h(
        "div",
        { class: "viewer-stage" },
        this.picture,
        iconButton("previous", "Previous image", () => this.#show(this.#place - 1), { class: "tool step previous" }),
        iconButton("next", "Next image", () => this.#show(this.#place + 1), { class: "tool step next" }),
      ),
      h(
        "div",
        { class: "viewer-side", tabIndex: 0, role: "region", "aria-label": "Parameters" },
        h("header", {}, this.counter, this.heart, iconButton("close", "Close", () => this.dialog.close())),
        this.prompt,
        h(
          "div",
          { class: "viewer-actions" },
          button("Copy prompt", () => copyText(this.#image.prompt, "The prompt is copied.")),
          button("Use these settings", () => this.#leaveFor("reuse")),
          button("Start from it", () => this.#leaveFor("start")),
          button("Download", () => attempt(() => savePicture(this.#image))),
          this.#select,
          button("Delete", () => this.#delete(), { class: "quiet danger" }),
        ),
        this.tagList,
        tagForm,
        this.facts,
      ),
    );
    document.body.append(this.dialog);
  }

  get #image() {
    return this.#list.images()[this.#place];
  }

  async #show(place) {
    const images = this.#list.images();
    if (place >= images.length && this.#list.needMore) await this.#list.needMore();
    if (place < 0 || place >= this.#list.images().length) return;
    this.#place = place;
    const image = this.#image;
    this.picture.removeAttribute("src");
    this.picture.alt = image.prompt;
    showPicture(this.picture, imageAddress(image.id), image.id);
    this.prompt.textContent = image.prompt;
    this.counter.textContent = `${place + 1} of ${this.#list.total?.() ?? this.#list.images().length}`;
    // Not with `disabled`, which would take the focus out of the dialog, and with it the keys.
    this.dialog.querySelector(".previous").ariaDisabled = String(place === 0);
    this.dialog.querySelector(".next").ariaDisabled = String(place + 1 >= (this.#list.total?.() ?? this.#list.images().length));
    this.#mark();
    this.facts.replaceChildren(parameters(image));
    this.#details = image;
    const metadata = await attempt(() => imageMetadata(image.id));
    if (!metadata || this.#image !== image) return;
    this.#details = { ...image, ...metadata };
    this.facts.replaceChildren(parameters(this.#details));
  }

  #mark() {
    const image = this.#image;
    this.heart.setAttribute("aria-pressed", String(Boolean(image.favourite)));
    this.#select.setAttribute("aria-pressed", String(Boolean(this.#list.isSelected?.(image.id))));
    const chips = (image.tags ?? []).map((tag) =>
      h("li", {}, h("span", {}, tag), iconButton("close", `Remove the tag ${tag}`, () => this.#setTags(image, () => untagImage(image.id, tag)))),
    );
    const hadFocus = this.tagList.contains(document.activeElement);
    this.tagList.replaceChildren(...chips);
    if (hadFocus) (this.tagList.querySelector("button") ?? this.dialog).focus();
  }

  #addTag(event) {
    event.preventDefault();
    const tag = this.tagField.value.trim();
    const image = this.#image;
    this.tagField.value = "";
    if (tag) this.#setTags(image, () => tagImage(image.id, tag));
  }

  /** The service normalises a tag and answers with all tags of the image. */
  async #setTags(image, change) {
    const answer = await attempt(change);
    if (!answer) return;
    image.tags = answer.tags;
    this.#changed(image);
  }

  #changed(image) {
    if (this.dialog.open && this.#image === image) this.#mark();
    this.dispatchEvent(new Event("changed"));
  }

  #toggle() {
    this.#list.toggle(this.#image.id);
    this.#mark();
  }

  #leaveFor(action) {
    this.#list.closed = undefined;
    this.dialog.close();
    this.#actions[action](this.#details);
  }

  async #delete() {
    const { id } = this.#image;
    if (!(await ask("Delete this image for good?", "Delete"))) return;
    if (!(await attempt(() => deleteImage(id)))) return;
    this.dispatchEvent(new CustomEvent("deleted", { detail: id }));
    tell("The image is deleted.");
    const left = this.#list.images().length;
    if (left === 0 || !this.#list.total) this.dialog.close();
    else this.#show(Math.min(this.#place, left - 1));
  }

  #press(event) {
    if (!isShortcutFree(event)) return;
    const image = this.#image;
    const act = {
      j: () => this.#show(this.#place + 1),
      ArrowRight: () => this.#show(this.#place + 1),
      k: () => this.#show(this.#place - 1),
      ArrowLeft: () => this.#show(this.#place - 1),
      f: () => this.favourite(image),
      c: () => copyText(image.prompt, "The prompt is copied."),
      d: () => attempt(() => savePicture(image)),
      " ": this.#list.toggle && (() => this.#toggle()),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }
}

/** All that made an image, as a list. */
export function parameters(image) {
  const { settings = {} } = image;
  return factList({
    Model: image.model_id,
    "Negative prompt": image.negative_prompt,
    Seed: settings.seed,
    Steps: settings.num_inference_steps,
    Guidance: settings.guidance_scale,
    Size: settings.width && `${settings.width} × ${settings.height}`,
    Strength: settings.strength,
    "Control scale": settings.control_scale,
    Scheduler: image.scheduler ?? settings.scheduler,
    Format: settings.output_format,
    Deterministic: settings.deterministic ? "yes" : "",
    LoRAs: (settings.loras ?? []).map(({ name, scale }) => `${name} ${scale ?? ""}`.trim()).join(", "),
    Made: image.created_at && moment(image.created_at),
    Id: image.id,
  });
}
