/** Two images side by side, with the parameters that differ marked. */

import { imageAddress } from "./api.js";
import { h, openDialog } from "./dom.js";
import { showPicture } from "./pictures.js";
import { parameters } from "./viewer.js";

/** Shows two images of the gallery. */
export function compare(first, second) {
  openDialog(
    { class: "compare", titleId: "compare-title", title: "Compare" },
    h("div", { class: "compared", tabIndex: 0, role: "region", "aria-label": "Both images" }, sides(first, second)),
  );
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
