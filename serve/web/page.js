/** The page: puts the form, the jobs and the connection together. */

import { connection, ConnectionLost, listModels } from "./api.js";
import { Form } from "./form.js";
import { JobList } from "./jobs.js";
import { rememberApiKey } from "./storage.js";

const MODELS_RETRY_MS = 1500;

const form = new Form((request) => jobs.submit(request));
const jobs = new JobList({ announce, reuse: (request) => form.fill(request) });

connection.addEventListener("lost", () => showConnection(false));
connection.addEventListener("back", () => showConnection(true));
connection.addEventListener("unauthorized", () => {
  document.getElementById("key-field").hidden = false;
});
document.getElementById("api-key").addEventListener("change", (event) => {
  rememberApiKey(event.target.value);
  loadModels();
  jobs.wake();
});
window.addEventListener("online", () => jobs.wake());

jobs.restore();
loadModels();

async function loadModels() {
  try {
    form.setModels(await listModels());
  } catch (error) {
    if (!(error instanceof ConnectionLost)) document.getElementById("model-description").textContent = error.message;
    if (error instanceof ConnectionLost || error.isPassing) setTimeout(loadModels, MODELS_RETRY_MS);
  }
}

function showConnection(isUp) {
  document.getElementById("connection").hidden = isUp;
}

function announce(text) {
  document.getElementById("announcement").textContent = text;
}
