/** The service's HTTP interface, and whether the service can be reached. */

import { recallApiKey } from "./storage.js";

const REQUEST_MS = 20_000;

/** The service refused a request; the message is its own sentence. */
export class Refusal extends Error {
  isTold = true;

  constructor(message, status) {
    super(message);
    this.status = status;
  }

  /** Whether the same request may well succeed a little later. */
  get isPassing() {
    return this.status === 429 || this.status >= 500;
  }
}

/** No answer came. */
export class ConnectionLost extends Error {
  isTold = true;
}

/** Fires "lost", "back" and "unauthorized"; the first two only when the state changes. */
export const connection = new EventTarget();
let isLost = false;

const at = (strings, ...ids) => String.raw({ raw: strings }, ...ids.map(encodeURIComponent));

export const listModels = () => request("GET", "api/models");
export const aboutService = () => request("GET", "api/service");
export const countTokens = (model_id, prompt) => send("POST", "api/prompts/count", { model_id, prompt });
export const jobStatus = (id) => request("GET", at`api/status/${id}`);
export const cancelJob = (id) => request("DELETE", at`api/jobs/${id}`);
export const retryJob = (id) => request("POST", at`api/jobs/${id}/retry`);
export const prioritizeJob = (id, priority) => send("POST", at`api/jobs/${id}/priority`, { priority });
export const listJobs = (query) => request("GET", `api/jobs?${asked(query)}`);
export const clearJobs = (state) => request("DELETE", `api/jobs?${asked({ state })}`);
export const queueCounts = () => request("GET", "api/queue?detailed=true");
export const pauseModel = (id) => request("POST", at`api/queue/${id}/pause`);
export const resumeModel = (id) => request("POST", at`api/queue/${id}/resume`);
export const resetQueue = () => request("POST", "api/reset_queue");
export const usage = () => request("GET", "api/usage");
export const listKeys = () => request("GET", "api/keys");
export const createKey = (key) => send("POST", "api/keys", key);
export const revokeKey = (id) => request("DELETE", at`api/keys/${id}`);
export const listImages = (query, signal) => request("GET", `api/gallery?${asked(query)}`, { signal });
export const imageMetadata = (id) => request("GET", at`api/image/${id}/metadata`);
export const imageLink = (id) => request("GET", at`api/image/${id}/link`);
export const deleteImage = (id) => request("DELETE", at`api/image/${id}`);
export const markFavourite = (id, favourite) => request(favourite ? "PUT" : "DELETE", at`api/image/${id}/favourite`);
export const tagImage = (id, tag) => request("PUT", at`api/image/${id}/tags/${tag}`);
export const untagImage = (id, tag) => request("DELETE", at`api/image/${id}/tags/${tag}`);
export const listTags = () => request("GET", "api/tags");
export const deleteImages = (ids) => send("POST", "api/images/delete", { ids });
export const enrichPrompt = (prompt, style) => send("POST", "api/enrich", style ? { prompt, style } : { prompt });

export const imageAddress = (id) => at`api/image/${id}`;
export const thumbnailAddress = (id, size) => at`api/image/${id}/thumbnail?size=${size}`;

/** Uploads a picture that jobs can start from. */
export const uploadInput = (file) =>
  request("POST", "api/inputs", { body: file, headers: { "Content-Type": file.type || "image/png" } });

/** Submits a job. Sent twice with the same key it is still one job. */
export const submitJob = (job, key) => send("POST", "api/generate", job, { "Idempotency-Key": key });

/** The events of all the caller's jobs, as a response to read from. */
export const openEvents = (signal) =>
  fetch("api/events?previews=true", { headers: { Accept: "text/event-stream", ...authorization() }, signal });

/** Fetches bytes, with the API key where there is one. */
export async function fetchBlob(path, options = {}) {
  const response = await fetch(path, { ...options, headers: { ...authorization(), ...options.headers } });
  if (!response.ok) throw new Refusal(sentence(readJson(await response.text()), response), response.status);
  return response.blob();
}

/** One ZIP file of many images. */
export const downloadImages = (ids) =>
  fetchBlob("api/images/download", { method: "POST", body: writeJson({ ids }), headers: { "Content-Type": "application/json" } });

const send = (method, path, value, headers = {}) =>
  request(method, path, { body: writeJson(value), headers: { "Content-Type": "application/json", ...headers } });

function authorization() {
  const key = recallApiKey();
  return key ? { Authorization: `Bearer ${key}` } : {};
}

function asked(query) {
  const known = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "" && value !== false);
  return new URLSearchParams(known).toString();
}

async function request(method, path, { headers = {}, body, signal } = {}) {
  const timeout = AbortSignal.timeout(REQUEST_MS);
  let response;
  let text;
  try {
    response = await fetch(path, {
      method,
      body,
      headers: { ...authorization(), ...headers },
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw lost();
  }
  const answer = readJson(text);
  // A proxy in front of a service that is down or starting answers in its place, without the service's words; Ray
  // Serve's own says 404 until the service is there.
  if ((response.status === 404 || response.status >= 502) && !answer?.message) {
    throw lost();
  }
  setLost(false);
  if (response.status === 401) connection.dispatchEvent(new Event("unauthorized"));
  if (!response.ok) throw new Refusal(sentence(answer, response), response.status);
  if (!answer) throw new Refusal("The service's answer could not be read", response.status);
  return answer;
}

function sentence(answer, response) {
  return typeof answer?.message === "string" && answer.message
    ? answer.message
    : `The service answered ${response.status} ${response.statusText}`.trim();
}

function lost() {
  setLost(true);
  return new ConnectionLost("No answer from the service; it is asked again as soon as it can be reached.");
}

function setLost(isNow) {
  if (isNow === isLost) return;
  isLost = isNow;
  connection.dispatchEvent(new Event(isNow ? "lost" : "back"));
}

/**
 * Seeds have up to 63 bits, more than a JavaScript number holds, so this page keeps them as strings of digits. Inside
 * a JSON string the quotes would be escaped, so these patterns can only match a real key.
 */
export function readJson(text) {
  try {
    return JSON.parse(text.replace(/"seed"(\s*:\s*)(\d+)/g, '"seed"$1"$2"'));
  } catch {
    return null;
  }
}

function writeJson(value) {
  return JSON.stringify(value).replace(/"seed":"(\d+)"/g, '"seed":$1');
}
