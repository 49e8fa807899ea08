/** The gallery: search, filters, the grid, and actions on the selected images. */

import { deleteImages, downloadImages, listTags, markFavourite } from "./api.js";
import { compare } from "./compare.js";
import { button, count, h, icon, several } from "./dom.js";
import { GalleryGrid } from "./gallery-grid.js";
import { GalleryPages } from "./gallery-pages.js";
import { announce, ask, attempt, copyText, tell } from "./notice.js";
import { saveBlob, savePicture } from "./pictures.js";
import { isShortcutFree } from "./shortcuts.js";

const SEARCH_PAUSE_MS = 250;
const MOST_AT_ONCE = 500; // that the service takes in one request
const MOST_COUNTED = 1_000; // of a search, by the service

export class Gallery {
  #view = document.getElementById("view-gallery");
  #pages = new GalleryPages();
  #selected = new Set();
  #viewer;
  #isStale = true;
  #timer = null;
  #failure = "";

  /** @param {import("./viewer.js").Viewer} viewer shows images large */
  constructor(viewer) {
    this.#viewer = viewer;
    this.#grid = new GalleryGrid({
      open: (place) => this.#open(place),
      toggle: (id) => this.#toggle(id),
      needMore: () => this.#pages.more(),
      isSelected: (id) => this.#selected.has(id),
    });
    this.#build();
    this.#pages.addEventListener("change", () => this.#show());
    this.#pages.addEventListener("fail", ({ detail }) => this.#show(detail.message));
    viewer.addEventListener("deleted", ({ detail }) => this.#forget([detail]));
    viewer.addEventListener("changed", () => {
      this.#show();
      this.#loadTags();
    });
    document.addEventListener("keydown", (event) => this.#press(event));
  }

  #grid;

  /** Called when the view is shown. */
  enter() {
    if (this.#isStale) this.#search();
    else this.#grid.draw();
    this.#loadTags();
  }

  /** Fetches new images, now or later: not while that would move what the person looks at. */
  refresh() {
    this.#isStale = true;
    if (!this.#view.hidden && window.scrollY < 40 && this.#selected.size === 0) this.#search();
  }

  /** @param {string[]} ids what can be filtered by */
  setModels(ids) {
    offer(this.model, ids.map((id) => new Option(id, id)));
  }

  #build() {
    const searchNow = () => this.#search();
    this.searchField = h("input", {
      type: "search",
      id: "gallery-search",
      placeholder: "Search prompts",
      maxLength: 1000,
      "aria-label": "Search prompts and models",
      on: { input: () => this.#searchSoon(), keydown: (event) => event.key === "Escape" && this.searchField.blur() },
    });
    this.model = h("select", { id: "gallery-model", "aria-label": "Model", on: { change: searchNow } }, new Option("All models", ""));
    this.tag = h("select", { id: "gallery-tag", "aria-label": "Tag", hidden: true, on: { change: searchNow } }, new Option("All tags", ""));
    this.favourites = h(
      "button",
      { type: "button", id: "gallery-favourites", class: "quiet outlined", "aria-pressed": "false", on: { click: () => this.#toggleFavourites() } },
      icon("heart"),
      "Favourites",
    );
    this.found = h("p", { class: "hint found", role: "status" });
    this.empty = h("div", { class: "empty", hidden: true });
    this.bar = this.#buildBar();
    this.#view.append(
      h("div", { class: "gallery-head" }, h("h1", {}, "Gallery"), this.found),
      h("div", { class: "filters", role: "search" }, this.searchField, this.model, this.tag, this.favourites),
      this.bar,
      this.#grid.element,
      this.empty,
    );
  }

  #buildBar() {
    this.chosen = h("p", { class: "chosen", role: "status" });
    this.compareButton = button("Compare", () => this.#compare());
    return h(
      "div",
      { class: "selection", role: "toolbar", "aria-label": "Selected images", hidden: true },
      this.chosen,
      button("Select all", () => this.#selectAll()),
      button("Clear", () => this.#clearSelection()),
      this.compareButton,
      button("Favourite", () => this.#favouriteAll()),
      button("Download", () => this.#download()),
      button("Delete", () => this.#delete(), { class: "quiet danger" }),
    );
  }

  #searchSoon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#search(), SEARCH_PAUSE_MS);
  }

  #search() {
    clearTimeout(this.#timer);
    this.#isStale = false;
    this.#failure = "";
    this.#pages.search({
      search: this.searchField.value.trim(),
      model: this.model.value,
      tag: this.tag.value,
      favourite: this.#isFavourites,
    });
  }

  get #isFavourites() {
    return this.favourites.getAttribute("aria-pressed") === "true";
  }

  get #isFiltered() {
    return Boolean(this.searchField.value.trim() || this.model.value || this.tag.value || this.#isFavourites);
  }

  #toggleFavourites() {
    this.favourites.setAttribute("aria-pressed", String(!this.#isFavourites));
    this.#search();
  }

  #show(failure = "") {
    const { images, total, isLoading } = this.#pages;
    this.#failure = failure;
    this.found.textContent = isLoading && images.length === 0 ? "Looking" : failure ? "" : this.#totalWords(total);
    this.#view.setAttribute("aria-busy", String(isLoading));
    this.#showEmptiness(images.length === 0 && !isLoading);
    this.#grid.setImages(images);
    this.#showSelection();
  }

  #totalWords(total) {
    return this.#isFiltered && total >= MOST_COUNTED ? `${count(MOST_COUNTED)} images or more` : several(total, "image");
  }

  async #loadTags() {
    const { tags } = await listTags().catch(() => ({ tags: [] }));
    this.tag.hidden = tags.length === 0;
    offer(this.tag, tags.map(({ tag, images }) => new Option(`${tag} (${count(images)})`, tag)));
  }

  #showEmptiness(isEmpty) {
    this.empty.hidden = !isEmpty;
    if (!isEmpty) return;
    const [title, words, way] = this.#emptyWords();
    this.empty.replaceChildren(h("div", { class: "frame", "aria-hidden": "true" }), h("h2", {}, title), h("p", {}, words), way);
  }

  #emptyWords() {
    if (this.#failure) return ["The gallery could not be read", this.#failure, button("Try again", () => this.#search(), { class: "primary" })];
    if (this.#isFiltered) {
      const words = "Every word must begin a word of the prompt or the model's name. Fewer words find more.";
      return ["Nothing is like that", words, button("Show all images", () => this.#showAll(), { class: "primary" })];
    }
    const words = "Every image that is made is kept here with its prompt and seed, to be found, compared and made again.";
    return ["No images yet", words, h("a", { class: "primary", href: "#generate" }, "Make the first one")];
  }

  #showAll() {
    this.searchField.value = this.model.value = this.tag.value = "";
    this.favourites.setAttribute("aria-pressed", "false");
    this.#search();
    this.searchField.focus();
  }

  #open(place) {
    const image = this.#pages.images[place];
    if (!image) return;
    this.#viewer.open({
      images: () => this.#pages.images,
      place,
      total: () => this.#pages.total,
      needMore: () => this.#pages.more(),
      toggle: (id) => this.#toggle(id),
      isSelected: (id) => this.#selected.has(id),
      closed: (last) => this.#grid.focus(last),
    });
  }

  #toggle(id) {
    if (!this.#selected.delete(id)) this.#selected.add(id);
    this.#showSelection();
  }

  #selectAll() {
    for (const { id } of this.#pages.images) this.#selected.add(id);
    this.#showSelection();
  }

  #clearSelection() {
    this.#selected.clear();
    this.#showSelection();
  }

  #showSelection() {
    const number = this.#selected.size;
    this.bar.hidden = number === 0;
    this.chosen.textContent = number === 0 ? "" : `${count(number)} selected`;
    this.compareButton.hidden = number !== 2;
    this.#grid.mark();
  }

  get #selectedImages() {
    return this.#pages.images.filter(({ id }) => this.#selected.has(id));
  }

  #compare() {
    compare(...this.#selectedImages);
  }

  async #favouriteAll() {
    const images = this.#selectedImages;
    const favourite = !images.every((image) => image.favourite);
    for (const image of images) {
      if (!(await attempt(() => markFavourite(image.id, favourite)))) break;
      image.favourite = favourite;
    }
    this.#grid.mark();
    tell(favourite ? `${several(images.length, "image")} marked as favourites.` : "No favourites any more.");
  }

  /** One as it is, several as ZIP files. */
  async #download() {
    const ids = [...this.#selected];
    if (ids.length === 1) {
      await attempt(() => savePicture(this.#selectedImages[0]));
      return;
    }
    for (const some of batches(ids)) {
      const archive = await attempt(() => downloadImages(some));
      if (archive) saveBlob(archive, "cyberimage.zip");
    }
  }

  async #delete() {
    const ids = [...this.#selected];
    if (!(await ask(`Delete ${several(ids.length, "image")} for good?`, "Delete"))) return;
    let deleted = 0;
    for (const some of batches(ids)) {
      const answer = await attempt(() => deleteImages(some));
      if (!answer) break;
      // What is missing was deleted elsewhere.
      this.#forget(some);
      deleted += answer.deleted.length;
    }
    if (deleted > 0) tell(`${several(deleted, "image")} deleted.`);
  }

  #forget(ids) {
    for (const id of ids) this.#selected.delete(id);
    this.#pages.remove(ids);
  }

  #press(event) {
    if (this.#view.hidden || !isShortcutFree(event)) return;
    const act = this.#shortcut(event);
    if (!act) return;
    event.preventDefault();
    act();
  }

  /** Those of the viewer, which is open over the gallery, are its own. */
  #shortcut(event) {
    if (document.querySelector("dialog[open]")) return undefined;
    const place = this.#grid.current;
    const image = this.#pages.images[place];
    const last = this.#pages.images.length - 1;
    const ofPage = {
      j: () => this.#grid.focus(Math.min(place + 1, last)),
      k: () => this.#grid.focus(Math.max(place - 1, 0)),
      "/": () => this.searchField.focus(),
      a: () => (this.#selectAll(), announce(`${count(this.#selected.size)} selected`)),
      A: () => this.#clearSelection(),
      Escape: this.#selected.size > 0 && (() => this.#clearSelection()),
    };
    const ofImage = {
      f: () => this.#viewer.favourite(image),
      c: () => copyText(image.prompt, "The prompt is copied."),
      d: () => attempt(() => savePicture(image)),
      " ": () => this.#toggle(image.id),
    };
    return ofPage[event.key] || (image && ofImage[event.key]);
  }
}

/** Replaces a filter's options but the first one, which is for all. The choice stays where it still exists. */
function offer(select, options) {
  const chosen = select.value;
  select.replaceChildren(select.options[0], ...options);
  select.value = options.some(({ value }) => value === chosen) ? chosen : "";
}

function batches(ids) {
  return Array.from({ length: Math.ceil(ids.length / MOST_AT_ONCE) }, (_, number) =>
    ids.slice(number * MOST_AT_ONCE, (number + 1) * MOST_AT_ONCE),
  );
}
