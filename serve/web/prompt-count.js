/** The prompt's length in tokens of the chosen model: counted by the service where it can, else estimated. */

import { countTokens } from "./api.js";
import { count, field } from "./dom.js";

const PAUSE_MS = 400; // without a key press

export class PromptCount {
  #output = field("prompt-count");
  #limits = new Map(); // by model id: of an answer; null where the service cannot count
  #counted = {}; // the newest answer, with what it is of
  #timer = null;

  /**
   * @param {object|undefined} model the chosen one, of GET /api/models
   * @param {string} prompt
   * @param {number} characters how many it may have
   */
  show(model, prompt, characters) {
    clearTimeout(this.#timer);
    const { id, max_sequence_length } = model ?? {};
    const isCounted = this.#counted.id === id && this.#counted.prompt === prompt;
    const limit = this.#limits.get(id)?.limit ?? max_sequence_length;
    if (isCounted) this.#write(this.#counted.tokens, limit, "tokens");
    else if (limit) this.#write(estimate(prompt), limit, "tokens", prompt ? "about " : "");
    else this.#write(prompt.length, characters, "");
    const isWanted = id && prompt && !isCounted && this.#limits.get(id) !== null;
    if (isWanted) this.#timer = setTimeout(() => this.#count(model, prompt, characters), PAUSE_MS);
  }

  async #count(model, prompt, characters) {
    const answer = await countTokens(model.id, prompt).catch(() => null);
    if (!answer) return;
    this.#limits.set(model.id, answer.tokens === null ? null : answer);
    if (answer.tokens === null) return;
    this.#counted = { id: model.id, prompt, tokens: answer.tokens };
    const isStillIt = field("prompt").value === prompt && field("model").value === model.id;
    if (isStillIt) this.show(model, prompt, characters);
  }

  #write(length, most, unit, about = "") {
    const isTooLong = unit && most && length > most;
    const words = most > 0 ? `${about}${count(length)} / ${count(most)} ${unit}` : `${about}${count(length)} ${unit}`;
    this.#output.textContent = isTooLong ? `${words}: the end is not read` : words.trim();
    this.#output.classList.toggle("near", most > 0 && length > 0.9 * most);
  }
}

/** Words, their parts of some six letters, and marks come near what tokenizers count. */
function estimate(text) {
  const pieces = text.match(/[\p{L}\p{N}]+|[^\s\p{L}\p{N}]/gu) ?? [];
  return pieces.reduce((sum, piece) => sum + Math.ceil(piece.length / 6), 0);
}
