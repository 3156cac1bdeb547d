// @ts-check
// One queue's row in the table of queues: its figures, its line, and its buttons.

/** @import { View } from "../view.js" */
/** @import { QueueRow } from "../wire.js" */

import { bdi, button, make, setAttribute, setText, show } from "../dom.js";
import { doneOf, duration, messageCount, number, progress, totalOf } from "../format.js";
import { Sparkline } from "../sparkline.js";

/** The columns of figures: their names, and classes of their cells. */
export const FIGURES = /** @type {const} */ ([
  ["done", "aq-progress"],
  ["failed", ""],
  ["waiting", ""],
  ["running", ""],
  ["per min", "aq-rate"],
  ["time left", "aq-time"],
  ["oldest", "aq-time"],
]);

export class QueueItem {
  /**
   * @param {View} view
   * @param {string} key
   * @param {(text: string) => void} searchMessages
   */
  constructor(view, key, searchMessages) {
    this.view = view;
    this.key = key;
    this.always = true;
    /** @type {QueueRow | undefined} */
    this.row = undefined;
    this.queue = bdi("aq-strong");
    this.actor = bdi("aq-quiet");
    this.remark = make("span", { class: "aq-tag" });
    const search = () => searchMessages(`${this.row?.actor} ${this.row?.queue}`);
    const attributes = { type: "button", class: "aq-link", onclick: search };
    this.name = make("button", attributes, this.queue, " ", this.actor);
    this.line = new Sparkline();
    this.cells = FIGURES.map(([label, kind]) => make("td", { class: `aq-number ${kind}`, "data-label": label }));
    this.actions = new QueueActions(view, key);
    this.node = make(
      "tr",
      {},
      make("th", { scope: "row", class: "aq-name" }, this.name, this.remark),
      make("td", { class: "aq-wide" }, this.line.node),
      ...this.cells,
      make("td", { class: "aq-actions" }, this.actions.buttons, this.actions.confirmation),
    );
  }

  /** @param {QueueRow} row */
  update(row) {
    this.row = row;
    const { mirror } = this.view;
    setText(this.queue, row.queue);
    setText(this.actor, row.actor);
    setAttribute(this.name, "title", `Messages of ${row.queue} of ${row.actor}`);
    const remark = this.remarkOn(row);
    setText(this.remark, remark);
    show(this.remark, remark !== "");
    setAttribute(this.node, "class", row.paused ? "aq-paused" : null);
    this.updateFigures(row);
    this.actions.update(row);
    this.line.draw(mirror.history.of(this.key), mirror.elapsed);
  }

  /** @param {QueueRow} row */
  remarkOn(row) {
    const remarks = [];
    const left = (/** @type {number | null} */ end) => (end ? `, ${duration(Math.max(0, end - this.view.mirror.now))} left` : "");
    if (row.paused) remarks.push(`paused${left(row.paused_until)}${row.reason ? `: ${row.reason}` : ""}`);
    else if (row.limit !== null) remarks.push(`waits for limit ${row.limit}${left(row.next_start)}`);
    else if (row.orphaned) remarks.push("not declared any more");
    const senders = row.waiting_senders;
    if (senders) remarks.push(`full: ${number(senders)} ${senders === 1 ? "sender waits" : "senders wait"}`);
    if (row.expired) remarks.push(`${number(row.expired)} expired`);
    return remarks.join("; ");
  }

  /** @param {QueueRow} row */
  updateFigures(row) {
    const { mirror } = this.view;
    const [done, failed, waiting, running, rate, left, oldest] = this.cells;
    setText(done, progress(doneOf(row), totalOf(row)));
    setAttribute(done, "title", "completed or failed, before a restart of the kernel too");
    setText(failed, row.dead ? number(row.dead) : "–");
    setAttribute(failed, "class", row.dead ? "aq-number aq-bad" : "aq-number");
    setText(waiting, number(row.ready + row.delayed));
    setAttribute(waiting, "title", row.delayed ? `${number(row.delayed)} of them for later` : null);
    setText(running, row.running || "–");
    setText(rate, mirror.perMinute(this.key) || "–");
    setText(left, duration(mirror.timeLeft(this.key)) || "–");
    setText(oldest, row.oldest_at ? duration(mirror.now - row.oldest_at) : "–");
  }
}

/** Pause and resume, and purge, which asks first. */
class QueueActions {
  /**
   * @param {View} view
   * @param {string} key
   */
  constructor(view, key) {
    this.view = view;
    this.key = key;
    this.paused = false;
    this.pause = button("Pause", "", (event) => view.act(event, { action: this.paused ? "resume" : "pause", key }));
    this.purge = button("Purge", "", () => this.askFirst());
    this.buttons = make("div", { class: "aq-buttons" }, this.pause, this.purge);
    this.question = make("span", { class: "aq-question" });
    this.yes = button("Cancel them", "", (event) => this.purgeNow(event), "aq-danger");
    this.no = button("Keep", "Keep the messages", () => this.keep());
    const attributes = { class: "aq-confirm", role: "group", hidden: true };
    this.confirmation = make("div", attributes, this.question, this.yes, this.no);
    this.confirmation.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation(); // in a notebook, it leaves the cell
      this.keep();
    });
  }

  /** The way back gets the focus, so that pressing Enter twice purges nothing. */
  askFirst() {
    this.confirm(true);
    this.no.focus();
  }

  keep() {
    this.confirm(false);
    this.purge.focus();
  }

  /** @param {Event} event */
  async purgeNow(event) {
    await this.view.act(event, { action: "purge", key: this.key });
    this.confirm(false);
    this.pause.focus();
  }

  /** @param {boolean} asked */
  confirm(asked) {
    show(this.confirmation, asked);
    show(this.buttons, !asked);
  }

  /** @param {QueueRow} row */
  update(row) {
    this.paused = row.paused;
    const waiting = row.ready + row.delayed;
    const count = messageCount(waiting);
    const what = `queue ${row.queue} of ${row.actor}`;
    setText(this.pause, row.paused ? "Resume" : "Pause");
    setAttribute(this.pause, "aria-label", `${row.paused ? "Resume" : "Pause"} ${what}`);
    setAttribute(this.pause, "title", row.paused ? `Resume ${what}` : `Hand out nothing of ${what}`);
    setAttribute(this.purge, "aria-label", `Purge ${what}`);
    setAttribute(this.purge, "title", `Cancel what waits in ${what}`);
    setText(this.question, `Cancel ${count}?`);
    setAttribute(this.confirmation, "aria-label", `Cancel ${count} of ${what}?`);
    setAttribute(this.yes, "aria-label", `Cancel them: ${count} of ${what}`);
    this.purge.disabled = waiting === 0;
    show(this.pause, !row.internal);
    show(this.purge, !row.internal);
  }
}
