/** Pictures that are dropped or pasted: each goes to one of the places in the view that take them. */

/**
 * @typedef {object} Place
 * @property {HTMLElement} element its part of the form
 * @property {HTMLElement} target  what lights up while a picture is held over it
 * @property {boolean} isOffered   whether it takes any right now
 * @property {(file: File) => void} take
 */

/**
 * @param {HTMLElement} view where to listen
 * @param {Place[]} places the first one that takes any has what comes to none of them
 */
export function takePictures(view, places) {
  const placeOf = (node) => {
    const offered = places.filter((place) => place.isOffered);
    return offered.find(({ element }) => element.contains(node)) ?? offered[0];
  };
  const light = (lit) => places.forEach((place) => place.target.classList.toggle("over", place === lit));

  view.addEventListener("dragover", (event) => {
    const isFile = [...(event.dataTransfer?.items ?? [])].some(({ kind }) => kind === "file");
    const place = isFile && placeOf(event.target);
    light(place);
    if (place) event.preventDefault();
  });
  view.addEventListener("dragleave", () => light(null));
  view.addEventListener("drop", (event) => {
    light(null);
    const place = placeOf(event.target);
    if (!place || event.dataTransfer.files.length === 0) return;
    event.preventDefault();
    place.take(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
    const place = file && !view.hidden && placeOf(event.target);
    if (!place) return;
    event.preventDefault();
    place.take(file);
  });
}
