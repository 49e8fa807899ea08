/** Two images side by side, and in what their parameters differ. */

import { imageAddress } from "./api.js";
import { h, iconButton } from "./dom.js";
import { showPicture } from "./pictures.js";
import { parameters } from "./viewer.js";

/** Shows two images of the gallery. */
export function compare(first, second) {
  const dialog = h(
    "dialog",
    { class: "compare", "aria-labelledby": "compare-title", on: { close: () => dialog.remove() } },
    h("header", {}, h("h2", { id: "compare-title" }, "Compare"), iconButton("close", "Close", () => dialog.close())),
    h("div", { class: "compared", tabIndex: 0, role: "region", "aria-label": "Both images" }, sides(first, second)),
  );
  document.body.append(dialog);
  dialog.showModal();
}

function sides(...images) {
  const lists = images.map(parameters);
  const known = lists.map((list) => new Map([...list.children].map((row) => [row.firstChild.textContent, row.lastChild.textContent])));
  for (const list of lists) {
    for (const row of list.children) {
      const name = row.firstChild.textContent;
      row.classList.toggle("differs", known[0].get(name) !== known[1].get(name));
    }
  }
  return images.map((image, place) => {
    const picture = h("img", { alt: image.prompt });
    showPicture(picture, imageAddress(image.id), image.id);
    return h("section", { "aria-label": `Image ${place + 1}` }, picture, h("p", { class: "viewer-prompt" }, image.prompt), lists[place]);
  });
}
