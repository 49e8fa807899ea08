/** The service's HTTP interface, and whether it can be reached. */

import { recallApiKey } from "./storage.js";

const REQUEST_MS = 20_000;

/** The service said no; the message is its own sentence. */
export class Refusal extends Error {
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
export class ConnectionLost extends Error {}

/** Fires "lost", "back" and "unauthorized"; the first two only when the state changes. */
export const connection = new EventTarget();
let isLost = false;

export const listModels = () => request("GET", "api/models");
export const jobStatus = (id) => request("GET", `api/status/${encodeURIComponent(id)}`);
export const cancelJob = (id) => request("DELETE", `api/jobs/${encodeURIComponent(id)}`);
export const imageAddress = (id) => `api/image/${encodeURIComponent(id)}`;

/** Submits a job. Sent twice with the same key it is still one job. */
export function submitJob(job, key) {
  return request("POST", "api/generate", {
    body: writeJson(job),
    headers: { "Content-Type": "application/json", "Idempotency-Key": key },
  });
}

async function request(method, path, { headers = {}, body } = {}) {
  const key = recallApiKey();
  const authorization = key ? { Authorization: `Bearer ${key}` } : {};
  let response;
  let text;
  try {
    response = await fetch(path, {
      method,
      body,
      headers: { ...authorization, ...headers },
      signal: AbortSignal.timeout(REQUEST_MS),
    });
    text = await response.text();
  } catch {
    setLost(true);
    throw new ConnectionLost("No answer from the service");
  }
  const answer = readJson(text);
  // A proxy in front of a service that is down answers in its place, without the service's words.
  if (response.status >= 502 && !answer?.message) {
    setLost(true);
    throw new ConnectionLost("No answer from the service");
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

function setLost(lost) {
  if (lost === isLost) return;
  isLost = lost;
  connection.dispatchEvent(new Event(lost ? "lost" : "back"));
}

/**
 * Seeds have up to 63 bits, more than a JavaScript number holds, so this page keeps them as strings of digits. Inside
 * a JSON string the quotes would be escaped, so these patterns can only match a real key.
 */
function readJson(text) {
  try {
    return JSON.parse(text.replace(/"seed"(\s*:\s*)(\d+)/g, '"seed"$1"$2"'));
  } catch {
    return null;
  }
}

function writeJson(value) {
  return JSON.stringify(value).replace(/"seed":"(\d+)"/g, '"seed":$1');
}
