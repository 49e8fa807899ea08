/** Notices (what was done, what went wrong) and questions before an action that cannot be undone. */

import { button, h } from "./dom.js";

const SHOWN_MS = 6000;

/**
 * Shows a sentence for a while.
 *
 * @param {string} sentence what to say
 * @param {{label: string, run: () => void}} [action] a button, such as Undo; the notice then stays twice as long
 */
export function tell(sentence, action) {
  const notice = h("p", { class: "notice" }, h("span", {}, sentence));
  const remove = () => notice.remove();
  if (action) notice.append(button(action.label, () => (remove(), action.run())));
  notice.append(button("Close", remove));
  document.getElementById("notices").append(notice);
  setTimeout(remove, action ? 2 * SHOWN_MS : SHOWN_MS);
}

/** Runs a call of the service; shows the error where it fails, and returns undefined. */
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    if (error.name === "AbortError") return undefined;
    if (!("isTold" in error)) console.error(error);
    tell(error.message);
    return undefined;
  }
}

/** Announces a text to screen readers only. */
export function announce(text) {
  document.getElementById("announcement").textContent = text;
}

/**
 * Asks before an action that cannot be undone.
 *
 * @returns {Promise<boolean>} whether the person said yes
 */
export function ask(question, yes) {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog",
      { class: "ask", "aria-label": question, on: { close: () => (dialog.remove(), resolve(dialog.returnValue === "yes")) } },
      h("p", {}, question),
      h(
        "div",
        { class: "actions" },
        button("Cancel", () => dialog.close("no")),
        button(yes, () => dialog.close("yes"), { class: "primary danger" }),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Copies text to the clipboard, also without HTTPS, where browsers have no clipboard interface. */
export async function copyText(text, words) {
  try {
    if (!navigator.clipboard) throw new Error("no clipboard in this context");
    await navigator.clipboard.writeText(text);
  } catch {
    const focused = document.activeElement;
    const area = h("textarea", { value: text, class: "unseen" });
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    focused?.focus({ preventScroll: true });
  }
  tell(words);
}
