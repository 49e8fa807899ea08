/** API keys. Shown only to a caller with a key: without one the service asks for none. */

import { createKey, listKeys, revokeKey } from "./api.js";
import { button, h, moment } from "./dom.js";
import { ask, attempt, copyText } from "./notice.js";
import { recallApiKey } from "./storage.js";

const SCOPES = ["read", "generate", "admin"];

export class KeySection {
  constructor() {
    this.list = h("ul", { class: "job-list" });
    this.fresh = h("div", { class: "fresh-key", hidden: true, role: "status" });
    this.name = h("input", { id: "key-name", required: true, maxLength: 64, pattern: "[A-Za-z0-9._@+\\-]+", title: "Letters, digits, . _ @ + and -", placeholder: "whose it is" });
    this.form = h(
      "form",
      { class: "key-form", on: { submit: (event) => this.#create(event) } },
      h("div", { class: "field" }, h("label", { for: "key-name" }, "New key for"), this.name),
      h(
        "fieldset",
        {},
        h("legend", {}, "It may"),
        SCOPES.map((scope) => h("label", { class: "tick" }, h("input", { type: "checkbox", name: "scope", value: scope, checked: scope !== "admin" }), scope)),
      ),
      h("button", { class: "quiet outlined" }, "Make a key"),
    );
    this.element = h("section", { class: "panel", hidden: true }, h("h2", {}, "API keys"), this.list, this.fresh, this.form);
  }

  /** Fetches the keys. Only a key with the scope admin may list them; others do not see the section. */
  async reload() {
    const answer = recallApiKey() ? await listKeys().catch(() => null) : null;
    this.element.hidden = !answer;
    if (answer) this.list.replaceChildren(...answer.keys.map((key) => this.#row(key)));
  }

  #row(key) {
    const used = key.revoked_at ? `revoked ${moment(key.revoked_at)}` : key.last_used_at ? `last used ${moment(key.last_used_at)}` : "never used";
    return h(
      "li",
      { class: "job-row" },
      h("div", { class: "job-words" }, h("p", { class: "job-prompt" }, key.name), h("p", { class: "hint" }, `${key.id}, may ${key.scopes.join(", ")}; ${used}`)),
      h("div", { class: "job-actions" }, !key.revoked_at && button("Revoke", () => this.#revoke(key), { class: "quiet danger", "aria-label": `Revoke ${key.name}` })),
    );
  }

  async #create(event) {
    event.preventDefault();
    const scopes = [...this.form.querySelectorAll("[name=scope]:checked")].map(({ value }) => value);
    const made = await attempt(() => createKey({ name: this.name.value, scopes }));
    if (!made) return;
    this.name.value = "";
    this.fresh.hidden = false;
    this.fresh.replaceChildren(
      h("p", {}, `The key of ${made.name}, shown only now:`),
      h("code", {}, made.key),
      button("Copy", () => copyText(made.key, "The key is copied."), { class: "quiet outlined" }),
    );
    await this.reload();
  }

  async #revoke(key) {
    if (!(await ask(`Revoke the key of ${key.name}? What uses it is refused from then on.`, "Revoke"))) return;
    await attempt(() => revokeKey(key.id));
    await this.reload();
  }
}
