/** Keyboard shortcuts: when a key is one, and the list of them. */

import { h, openDialog } from "./dom.js";

const SHORTCUTS = {
  "Everywhere": [
    ["?", "This list"],
    ["Esc", "Close what is open, or clear the selection"],
  ],
  "Generate": [["Ctrl Enter", "Generate"]],
  "Gallery and large view": [
    ["j", "Next image"],
    ["k", "Previous image"],
    ["Enter", "Show the image large"],
    ["f", "Favourite, or no longer"],
    ["c", "Copy the prompt"],
    ["d", "Download"],
    ["Space", "Select, or no longer"],
    ["a", "Select all that are shown"],
    ["Shift A", "Select none"],
    ["/", "Search"],
  ],
  "Painting a mask": [
    ["Arrows", "Move the brush"],
    ["Space", "Paint there"],
    ["e", "Paint or erase"],
    ["Ctrl Z", "Undo"],
  ],
};

const WRITING = "input:not([type=checkbox], [type=range]), textarea, select, [contenteditable]";
const TAKING_SPACE = "button, summary, input, a:not(.tile a)";

/** Whether a key may act as a shortcut: not while the person types, nor with Ctrl, Alt or Meta. */
export function isShortcutFree(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return false;
  if (event.target.matches?.(WRITING)) return false;
  return event.key !== " " || !event.target.matches?.(TAKING_SPACE);
}

/** Shows all shortcuts. */
export function showHelp() {
  if (document.getElementById("help")) return;
  openDialog(
    { id: "help", titleId: "help-title", title: "Keyboard shortcuts" },
    h("div", { class: "help-groups" }, Object.entries(SHORTCUTS).map(([name, keys]) => group(name, keys))),
  );
}

function group(name, keys) {
  const rows = keys.map(([key, words]) =>
    h("div", {}, h("dt", {}, key.split(" ").map((part) => h("kbd", {}, part))), h("dd", {}, words)),
  );
  return h("section", {}, h("h3", {}, name), h("dl", {}, rows));
}
