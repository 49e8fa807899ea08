/** The images that a search finds, page by page; each page continues at the cursor of the page before. */

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

  /** Whether a page is being fetched. */
  get isLoading() {
    return this.#abort !== null;
  }

  /** Searches with other filters (search, model, favourite, tag), and cancels the request that is under way. */
  async search(filters) {
    this.#filters = filters;
    this.#cursor = null;
    await this.#load([]);
  }

  /** Fetches the next page, unless there is none or it is being fetched. */
  async more() {
    if (this.hasMore && !this.isLoading) await this.#load(this.images);
  }

  /** Removes images that were deleted. */
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
