/** The page: puts the views, the jobs and the connection together. */

import { aboutService, connection, ConnectionLost, imageMetadata, listModels } from "./api.js";
import { field } from "./dom.js";
import { Form } from "./form.js";
import { Gallery } from "./gallery.js";
import { JobList } from "./jobs.js";
import { announce, attempt } from "./notice.js";
import { Queue } from "./queue.js";
import { followAddress, goTo } from "./router.js";
import { isShortcutFree, showHelp } from "./shortcuts.js";
import { recall, recallApiKey, remember, rememberApiKey } from "./storage.js";
import { Viewer } from "./viewer.js";

const MODELS_RETRY_MS = 1500;
const MODELS_MS = 15_000; // between two looks at the states of the models

const form = new Form((request) => jobs.submit(request), () => jobs.lastSeed);
const actions = {
  reuse: (image) => inForm(() => form.fill(image)),
  start: (image) => inForm(() => form.startFrom(image)),
};
const viewer = new Viewer(actions);
const gallery = new Gallery(viewer);
const queue = new Queue();
const jobs = new JobList({
  announce,
  actions: { ...actions, view: (images, place) => viewer.open({ images: () => images, place }) },
});
let service; // of GET /api/service, asked once for each key: only a restart changes it
let modelsTimer;

jobs.addEventListener("completed", () => {
  gallery.refresh();
  loadModels();
});
connection.addEventListener("lost", () => showConnection(false));
connection.addEventListener("back", () => showConnection(true));
connection.addEventListener("unauthorized", () => showKey(true));
window.addEventListener("online", () => jobs.wake());
document.addEventListener("visibilitychange", () => document.hidden || loadModels());
document.addEventListener("keydown", (event) => {
  if (event.key === "?" && isShortcutFree(event)) showHelp();
});
field("show-help").addEventListener("click", showHelp);
field("show-key").addEventListener("click", () => {
  showKey(field("key-field").hidden);
  if (!field("key-field").hidden) field("api-key").focus();
});
field("api-key").value = recallApiKey() ?? "";
field("api-key").addEventListener("change", (event) => {
  rememberApiKey(event.target.value);
  service = undefined; // what it says depends on the key
  loadModels();
  jobs.reconnect();
  gallery.refresh();
  if (!field("view-queue").hidden) queue.enter();
});
field("theme").addEventListener("click", switchTheme);

showTheme();
jobs.restore();
loadModels();
followAddress({ gallery: () => gallery.enter(), queue: () => queue.enter() }, (view, id) => view === "gallery" && openImage(id));

async function loadModels() {
  clearTimeout(modelsTimer);
  let next = MODELS_MS;
  try {
    const [answer, facts] = await Promise.all([listModels(), service ?? aboutService()]);
    service = facts;
    form.setService(service);
    form.setModels(answer);
    queue.setLinks(service.links);
    gallery.setModels(Object.keys(answer.models));
    queue.setModels(answer.models);
  } catch (error) {
    if (!(error instanceof ConnectionLost)) field("model-description").textContent = error.message;
    next = error instanceof ConnectionLost || error.isPassing ? MODELS_RETRY_MS : 0;
  }
  clearTimeout(modelsTimer);
  if (next && !document.hidden) modelsTimer = setTimeout(loadModels, next);
}

/** Opens an image by its address, as from a bookmark. */
async function openImage(id) {
  if (viewer.dialog.open) return;
  const metadata = await attempt(() => imageMetadata(id));
  if (metadata) viewer.open({ images: () => [{ ...metadata, id }], place: 0, closed: () => goTo("gallery") });
}

function inForm(work) {
  if (!field("view-generate").hidden) {
    work();
    return;
  }
  // The view has to be there before something in it can have the focus.
  window.addEventListener("hashchange", work, { once: true });
  goTo("generate");
}

function showConnection(isUp) {
  field("connection").hidden = isUp;
}

function showKey(isShown) {
  field("key-field").hidden = !isShown;
  field("show-key").setAttribute("aria-expanded", String(isShown));
}

/** Cycles: the system's theme, the opposite one, the system's own by name, and again. */
function switchTheme() {
  const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
  const themes = isDark ? ["", "light", "dark"] : ["", "dark", "light"];
  remember("theme", themes[(themes.indexOf(recall("theme") ?? "") + 1) % themes.length]);
  showTheme();
}

function showTheme() {
  const theme = recall("theme") || "";
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  const words = `Theme: ${theme || "as the system"}`;
  field("theme-name").textContent = words;
  field("theme").title = words;
}
