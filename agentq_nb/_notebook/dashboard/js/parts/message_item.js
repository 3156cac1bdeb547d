// @ts-check
// One message's row in the table of messages, and all about it below, once it is unfolded.

/** @import { View } from "../view.js" */
/** @import { MessageDetails, MessageRow } from "../wire.js" */

import { bdi, bdiOf, button, make, rename, setAttribute, setText, show } from "../dom.js";
import { timeOfDay } from "../format.js";
import { isLive, isRetryable } from "../wire.js";

export class MessageItem {
  /**
   * @param {View} view
   * @param {string} key
   * @param {() => void} fit Called when the row below was filled.
   */
  constructor(view, key, fit) {
    this.view = view;
    this.key = key;
    this.fit = fit;
    this.open = false;
    /** @type {MessageRow | undefined} */
    this.row = undefined;
    this.status = make("span", { class: "aq-status" });
    this.attempts = make("span", { class: "aq-quiet" });
    this.sent = make("td", { class: "aq-nowrap aq-quiet" });
    this.queue = bdi("aq-clip");
    this.body = bdi("aq-clip");
    this.outcome = bdi("aq-clip");
    const toggles = { "aria-expanded": "false", onclick: () => this.unfold(!this.open) };
    const attributes = { type: "button", class: "aq-link aq-toggle", ...toggles };
    this.toggle = make("button", attributes, this.status, " ", this.attempts);
    this.cancel = button("Cancel", "", (event) => view.act(event, { action: "cancel", message: key }));
    const retry = (/** @type {Event} */ event) => view.act(event, { action: "retry", message: key });
    this.retry = button("Retry", `Retry message ${key}: put it back into its queue`, retry);
    this.details = make("td", { colspan: "6" });
    this.below = make("tr", { class: "aq-detail", hidden: true }, this.details);
    this.node = make(
      "tr",
      { class: "aq-unfolds", onclick: (event) => this.clicked(event) },
      make("td", { class: "aq-nowrap" }, this.toggle),
      this.sent,
      make("td", {}, this.queue),
      make("td", { class: "aq-mono" }, this.body),
      make("td", { class: "aq-mono" }, this.outcome),
      make("td", { class: "aq-actions" }, this.cancel, this.retry),
    );
  }

  /**
   * A click anywhere on the row counts, except on a button of its own, or at the end of selecting text.
   * @param {Event} event
   */
  clicked(event) {
    const onButton = /** @type {Element} */ (event.target).closest("button");
    if (!onButton && document.getSelection()?.isCollapsed) this.unfold(!this.open);
  }

  /** @param {boolean} open */
  async unfold(open) {
    this.open = open;
    setAttribute(this.toggle, "aria-expanded", String(open));
    show(this.below, open);
    this.details.replaceChildren();
    if (!open) return;
    const reply = await this.view.mirror.ask({ type: "show", message: this.key });
    if (reply.error) return this.view.say(reply.error, true);
    if (reply.shown) this.details.replaceChildren(...detailsOf(reply.shown));
    this.fit();
  }

  /** @param {MessageRow} row */
  update(row) {
    const settledNow = this.row?.status && this.row.status !== row.status;
    this.row = row;
    setText(this.status, row.status);
    setAttribute(this.status, "data-status", row.status);
    setText(this.attempts, row.attempts > 1 ? `×${row.attempts}` : "");
    rename(this.cancel, `Cancel message ${this.key} of ${row.queue} of ${row.actor}`);
    setAttribute(this.toggle, "aria-label", `${row.status}, message ${this.key}: show all about it`);
    setText(this.sent, timeOfDay(row.created_at));
    setText(this.queue, `${row.queue} ${row.actor}`);
    setAttribute(this.queue, "title", `${row.queue} of ${row.actor}`);
    setText(this.body, row.body);
    setAttribute(this.body, "title", row.body);
    setText(this.outcome, row.outcome);
    setAttribute(this.outcome, "title", row.outcome);
    setAttribute(this.outcome, "class", row.bad ? "aq-clip aq-bad" : "aq-clip");
    show(this.cancel, isLive(row.status));
    show(this.retry, isRetryable(row.status));
    if (this.open && settledNow) this.unfold(true);
  }
}

/**
 * All about a message; what is empty is left out.
 * @param {MessageDetails} shown
 */
function detailsOf(shown) {
  return [
    make("div", { class: "aq-part" }, make("span", { class: "aq-label" }, "id"), make("code", {}, shown.message)),
    ...part("body", shown.body),
    ...part("reply", shown.reply),
    ...part("error", shown.error, "aq-bad"),
    ...part("attempts", shown.attempts),
    ...part("key", shown.key),
  ];
}

/**
 * @param {string} name
 * @param {string} text
 * @param {string} [kind]
 */
function part(name, text, kind = "") {
  if (!text) return [];
  const label = make("span", { class: "aq-label" }, name);
  return [make("div", { class: "aq-part" }, label, make("pre", { class: kind, tabindex: "0" }, bdiOf(text)))];
}
