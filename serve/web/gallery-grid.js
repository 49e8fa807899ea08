/** Tiles in rows. Only tiles near the viewport exist, so a hundred thousand images cost as little as a hundred. */

import { thumbnailAddress } from "./api.js";
import { h, icon } from "./dom.js";
import { showPicture } from "./pictures.js";

const NARROWEST_TILE = 168;
const PHONE_TILE = 104;
const GAP = 8;
const ROWS_AROUND = 3;

export class GalleryGrid {
  #images = [];
  #tiles = new Map();
  #columns = 1;
  #side = NARROWEST_TILE;
  #isDrawing = false;
  #actions;

  /**
   * @param {object} actions
   * @param {(place: number) => void} actions.open shows an image large
   * @param {(id: string) => void} actions.toggle selects an image, or no longer
   * @param {() => void} actions.needMore the last tiles are near
   * @param {(id: string) => boolean} actions.isSelected
   */
  constructor(actions) {
    this.#actions = actions;
    this.element = h("ul", { class: "tiles", role: "list", "aria-label": "Images" });
    window.addEventListener("scroll", () => this.#soon(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  /** Replaces the images that are shown. */
  setImages(images) {
    this.#images = images;
    this.draw();
  }

  /** The place of the image that has the focus, or -1. */
  get current() {
    const tile = document.activeElement?.closest?.(".tile");
    return tile ? this.#images.findIndex(({ id }) => id === tile.dataset.id) : -1;
  }

  /** Scrolls to an image and focuses it. */
  focus(place) {
    const image = this.#images[place];
    if (!image) return;
    const top = this.element.getBoundingClientRect().top + this.#top(place);
    const margin = 96;
    if (top < margin) window.scrollBy(0, top - margin);
    else if (top + this.#side > window.innerHeight - margin) window.scrollBy(0, top + this.#side - window.innerHeight + margin);
    this.draw();
    this.#tiles.get(image.id)?.querySelector("a").focus({ preventScroll: true });
  }

  /** Draws the tiles that are visible now. */
  draw() {
    const width = this.element.clientWidth;
    if (width === 0) return;
    const narrowest = width < 480 ? PHONE_TILE : NARROWEST_TILE;
    this.#columns = Math.max(1, Math.floor((width + GAP) / (narrowest + GAP)));
    this.#side = Math.floor((width - GAP * (this.#columns - 1)) / this.#columns);
    const rows = Math.ceil(this.#images.length / this.#columns);
    this.element.style.height = `${Math.max(0, rows * (this.#side + GAP) - GAP)}px`;
    const above = -this.element.getBoundingClientRect().top / (this.#side + GAP);
    const first = Math.max(0, Math.floor(above) - ROWS_AROUND) * this.#columns;
    const last = Math.ceil(above + window.innerHeight / (this.#side + GAP) + ROWS_AROUND) * this.#columns;
    this.#place(first, last);
    if (last >= this.#images.length) this.#actions.needMore();
  }

  /** Updates the marks of the tiles: selected, favourite. */
  mark() {
    for (const image of this.#images) {
      const tile = this.#tiles.get(image.id);
      if (tile) this.#markTile(tile, image);
    }
  }

  #soon() {
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    requestAnimationFrame(() => {
      this.#isDrawing = false;
      this.draw();
    });
  }

  #place(first, last) {
    const seen = new Set();
    const visible = this.#images.slice(first, Math.max(first, last));
    for (const [offset, image] of visible.entries()) {
      seen.add(image.id);
      const tile = this.#tiles.get(image.id) ?? this.#tile(image);
      this.#lay(tile, first + offset);
      this.#markTile(tile, image);
      if (!tile.isConnected) this.element.append(tile);
    }
    for (const [id, tile] of this.#tiles) {
      if (seen.has(id) || tile.contains(document.activeElement)) continue;
      tile.remove();
      this.#tiles.delete(id);
    }
  }

  #lay(tile, place) {
    tile.style.width = tile.style.height = `${this.#side}px`;
    tile.style.transform = `translate(${(place % this.#columns) * (this.#side + GAP)}px, ${this.#top(place)}px)`;
    tile.setAttribute("aria-posinset", place + 1);
    tile.setAttribute("aria-setsize", this.#images.length);
  }

  #top(place) {
    return Math.floor(place / this.#columns) * (this.#side + GAP);
  }

  #tile(image) {
    const picture = h("img", { alt: image.prompt, decoding: "async", loading: "lazy" });
    const size = this.#side * window.devicePixelRatio > 300 ? 512 : 256;
    showPicture(picture, thumbnailAddress(image.id, size), image.id);
    const open = (event) => {
      if (event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      if (event.shiftKey) this.#actions.toggle(image.id);
      else this.#actions.open(this.#images.findIndex(({ id }) => id === image.id));
    };
    const tick = h("input", { type: "checkbox", "aria-label": `Select ${image.prompt}`, on: { change: () => this.#actions.toggle(image.id) } });
    const tile = h(
      "li",
      { class: "tile", dataset: { id: image.id } },
      h("a", { href: `#gallery/${encodeURIComponent(image.id)}`, title: image.prompt, on: { click: open } }, picture),
      h("label", { class: "tick-box" }, tick),
      h("span", { class: "is-favourite" }, icon("heart"), h("span", { class: "unseen" }, "Favourite")),
    );
    this.#tiles.set(image.id, tile);
    return tile;
  }

  #markTile(tile, image) {
    const isSelected = this.#actions.isSelected(image.id);
    tile.classList.toggle("selected", isSelected);
    tile.querySelector("input").checked = isSelected;
    tile.querySelector(".is-favourite").hidden = !image.favourite;
  }
}
