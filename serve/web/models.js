/** A model's state in words. */

const STATES = {
  ready: { word: "ready", sentence: "Ready" },
  cold: { word: "not loaded", sentence: "Not loaded; the next job loads it, which takes a while" },
  loading: { word: "loading", sentence: "Loading; jobs wait until it is there" },
  unavailable: { word: "unavailable", sentence: "Could not be loaded" },
  unknown: { word: "", sentence: "The service does not know its state right now" },
};

/**
 * @param {{state?: string, reason?: string, hint?: string}} model of GET /api/models
 * @returns {{word: string, sentence: string}} for a list, and for a line of its own with the reason
 */
export function modelState({ state, reason, hint }) {
  const known = STATES[state] ?? { word: "", sentence: "" };
  if (!reason) return known;
  return { ...known, sentence: [`${known.sentence || state}: ${reason}`, hint].filter(Boolean).join(" ") };
}
