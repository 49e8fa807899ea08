/** What this browser stores: the fields of the form, and the jobs that it submitted. */

const JOBS_KEY = "jobs";
const API_KEY = "apiKey";
const JOBS_KEPT = 24;

/**
 * @typedef {object} StoredJob
 * @property {string} key        the Idempotency-Key of its submission, unique in the list
 * @property {string|null} id    the job's id, null until the service has answered
 * @property {string} [refusal]  why the service did not take it
 * @property {object} request    what was asked: the body of POST /api/generate
 */

/** A browser may forbid storage altogether; the page then works without memory. */
export function recall(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

export function remember(key, value) {
  try {
    localStorage.setItem(key, String(value));
  } catch {
    // Full or forbidden: the page works without.
  }
}

export const recallApiKey = () => recall(API_KEY);
export const rememberApiKey = (key) => remember(API_KEY, key.trim());

/** Calls back when another tab has changed the list of jobs. */
export function whenJobsChangeElsewhere(listener) {
  window.addEventListener("storage", (event) => {
    if (event.key === JOBS_KEY || event.key === null) listener();
  });
}

/** @returns {StoredJob[]} newest first */
export function storedJobs() {
  try {
    const jobs = JSON.parse(recall(JOBS_KEY) ?? "[]");
    return Array.isArray(jobs) ? jobs.filter((job) => job?.key && job.request?.settings) : [];
  } catch {
    return [];
  }
}

/** Adds the job, or replaces the one with its key. The list is read again each time: another tab may write it too. */
export function storeJob(job) {
  const jobs = storedJobs();
  const place = jobs.findIndex((other) => other.key === job.key);
  if (place >= 0) jobs[place] = job;
  else jobs.unshift(job);
  remember(JOBS_KEY, JSON.stringify(jobs.slice(0, JOBS_KEPT)));
}

export function forgetJob(key) {
  remember(JOBS_KEY, JSON.stringify(storedJobs().filter((job) => job.key !== key)));
}
