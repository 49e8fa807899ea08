/** Shows and saves the service's pictures, also with an API key, which an <img> cannot send. */

import { fetchBlob, imageAddress, imageLink } from "./api.js";
import { recallApiKey } from "./storage.js";

const KEPT_MS = 60_000; // until the browser has surely begun to save

/**
 * Shows a picture. Where it cannot be fetched, as from a bucket of another origin, a signed link is used.
 *
 * @param {HTMLImageElement} element where
 * @param {string} address of the image or its thumbnail
 * @param {string} id of the image
 */
export async function showPicture(element, address, id) {
  if (!recallApiKey()) {
    element.src = address;
    return;
  }
  try {
    const source = URL.createObjectURL(await fetchBlob(address));
    element.addEventListener("load", () => URL.revokeObjectURL(source), { once: true });
    element.src = source;
  } catch {
    element.src = await imageLink(id).then(({ url }) => url, () => address);
  }
}

/** Saves an image as a file. */
export async function savePicture(image) {
  if (recallApiKey()) saveBlob(await fetchBlob(imageAddress(image.id)), fileName(image));
  else save(imageAddress(image.id), fileName(image));
}

/** Saves what was fetched as a file. */
export function saveBlob(blob, name) {
  const address = URL.createObjectURL(blob);
  save(address, name);
  setTimeout(() => URL.revokeObjectURL(address), KEPT_MS);
}

function save(address, name) {
  const anchor = document.createElement("a");
  anchor.href = address;
  anchor.download = name;
  anchor.click();
}

/** The name of an image's file, with the seed that makes the image again. */
export function fileName({ id, settings = {} }) {
  return `cyberimage-${settings.seed ?? id}.${{ jpeg: "jpg" }[settings.output_format] ?? settings.output_format ?? "png"}`;
}
