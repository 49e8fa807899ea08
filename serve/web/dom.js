/** Builds elements. Texts of users and of the service become text nodes only, never HTML. */

/**
 * Makes an element.
 *
 * @param {string} tag its name
 * @param {object} properties properties; with a dash, and `role`, attributes; `on` has listeners by the name of their event
 * @param {...(Node|string|null|false|Array)} children nothing, text, nodes, or lists of them
 */
export function h(tag, { on = {}, dataset = {}, ...properties } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.includes("-") || name === "role" || name === "for" || name === "list") element.setAttribute(name, value);
    else element[name === "class" ? "className" : name] = value;
  }
  Object.assign(element.dataset, dataset);
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An element of index.html by its id: a field of the form, or another part of the page. */
export const field = (id) => document.getElementById(id);

/** One of the icons of index.html. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const picture = document.createElementNS(space, "svg");
  const use = document.createElementNS(space, "use");
  picture.setAttribute("class", "icon");
  picture.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#icon-${name}`);
  picture.append(use);
  return picture;
}

/** A button with a text. */
export const button = (words, listener, properties = {}) =>
  h("button", { type: "button", class: "quiet", on: { click: listener }, ...properties }, words);

/** A button that shows an icon; its words are the accessible name and the tooltip. */
export const iconButton = (name, words, listener, properties = {}) =>
  h("button", { type: "button", class: "tool", title: words, "aria-label": words, on: { click: listener }, ...properties }, icon(name));

/**
 * Opens a dialog with a title and a button that closes it; once closed it is no longer in the page.
 *
 * @param {{titleId: string, title: string, onClose?: () => void}} about other properties are the dialog's own
 * @param {...(Node|string|null|false|Array)} children what is below the title
 */
export function openDialog({ titleId, title, onClose, ...properties }, ...children) {
  const close = () => (dialog.remove(), onClose?.());
  const head = h("header", {}, h("h2", { id: titleId }, title), iconButton("close", "Close", () => dialog.close()));
  const dialog = h("dialog", { "aria-labelledby": titleId, on: { close }, ...properties }, head, ...children);
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** A list of names and values, without those that have no value. */
export function factList(facts, properties = { class: "facts" }) {
  const known = Object.entries(facts).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return h(
    "dl",
    properties,
    known.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value)))),
  );
}

/** "1,234" in the reader's locale. */
export const count = (number) => Number(number).toLocaleString();

/** A date and time in the reader's locale. */
export function moment(text) {
  const time = new Date(text);
  return Number.isNaN(time.getTime()) ? String(text ?? "") : time.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

/** "1 picture", "2 pictures". */
export const several = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
