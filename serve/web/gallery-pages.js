/** The images that a search finds, page by page: what comes later is fetched from where the last page ended. */

import { listImages } from "./api.js";

const PAGE = 50;

/** Fires "change" when there are more images or fewer, and "fail" with the error in `detail`. */
export class GalleryPages extends EventTarget {
  #filters = {};
  #cursor = null;
  #abort = null;

  images = [];
  total = 0;
  hasMore = false;

  /** Whether a page is on its way. */
  get isLoading() {
    return this.#abort !== null;
  }

  /** Starts anew with other filters: search, model, favourite, tag. What was on its way is of no interest any more. */
  async search(filters) {
    this.#filters = filters;
    this.#cursor = null;
    await this.#load([]);
  }

  /** Fetches the next page, unless there is none or it is on its way. */
  async more() {
    if (this.hasMore && !this.isLoading) await this.#load(this.images);
  }

  /** Takes out images that were deleted. */
  remove(ids) {
    const gone = new Set(ids);
    const left = this.images.filter(({ id }) => !gone.has(id));
    this.total -= this.images.length - left.length;
    this.images = left;
    this.dispatchEvent(new Event("change"));
  }

  async #load(before) {
    this.#abort?.abort();
    const abort = (this.#abort = new AbortController());
    this.dispatchEvent(new Event("change"));
    try {
      const page = await listImages({ ...this.#filters, limit: PAGE, cursor: this.#cursor }, abort.signal);
      if (abort.signal.aborted) return;
      this.#abort = null;
      this.images = [...before, ...page.images];
      this.total = page.total ?? this.images.length;
      this.hasMore = Boolean(page.has_more && page.next_cursor);
      this.#cursor = page.next_cursor;
      this.dispatchEvent(new Event("change"));
    } catch (error) {
      if (abort.signal.aborted) return;
      this.#abort = null;
      this.hasMore = false;
      this.dispatchEvent(new CustomEvent("fail", { detail: error }));
    }
  }
}
