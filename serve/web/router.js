/** The visible view: the word after # in the address. */

const VIEWS = ["generate", "gallery", "queue"];

/**
 * Follows the address from now on.
 *
 * @param {Record<string, () => void>} enter by the view's name; called when it is shown
 * @param {(view: string, rest: string) => void} arrived called with the view and what follows it after a slash
 */
export function followAddress(enter, arrived) {
  const scrolled = {};
  let shown = null;

  function show() {
    const [name, ...rest] = decodeURIComponent(location.hash.slice(1)).split("/");
    // A link within the page, such as the skip link's, is no view.
    if (name && !VIEWS.includes(name)) return;
    const view = name || "generate";
    if (view !== shown) change(view);
    if (rest.length) arrived(view, rest.join("/"));
  }

  function change(view) {
    if (shown) scrolled[shown] = window.scrollY;
    for (const other of VIEWS) document.getElementById(`view-${other}`).hidden = other !== view;
    for (const link of document.querySelectorAll("[data-view]")) {
      if (link.dataset.view === view) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    const title = document.getElementById(`view-${view}`).dataset.title;
    document.title = view === "generate" ? "CyberImage" : `${title} · CyberImage`;
    const isFirst = shown === null;
    shown = view;
    enter[view]?.();
    window.scrollTo(0, scrolled[view] ?? 0);
    if (!isFirst) document.getElementById("main").focus({ preventScroll: true });
  }

  window.addEventListener("hashchange", show);
  show();
}

/** Goes to a view. */
export function goTo(view) {
  location.hash = view;
}
