/** Elements by hand. Words of people and of the service enter them as text only. */

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

/** A button with words. */
export const button = (words, listener, properties = {}) =>
  h("button", { type: "button", class: "quiet", on: { click: listener }, ...properties }, words);

/** A button that shows an icon; its words are for those who do not see it, and its tip. */
export const iconButton = (name, words, listener, properties = {}) =>
  h("button", { type: "button", class: "tool", title: words, "aria-label": words, on: { click: listener }, ...properties }, icon(name));

/** A list of names and values; what has no value is left out. */
export function factList(facts, properties = { class: "facts" }) {
  const known = Object.entries(facts).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return h(
    "dl",
    properties,
    known.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value)))),
  );
}

/** "1,234" in the reader's own way of writing numbers. */
export const count = (number) => Number(number).toLocaleString();

/** A moment as the reader writes it. */
export function moment(text) {
  const time = new Date(text);
  return Number.isNaN(time.getTime()) ? String(text ?? "") : time.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

/** "1 picture", "2 pictures". */
export const several = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
