// @ts-check
// One queue's row in the table of queues: its figures, its line, and its buttons.

/** @import { View } from "../view.js" */
/** @import { QueueRow } from "../wire.js" */

import { Confirmation } from "../confirmation.js";
import { bdi, button, make, setAttribute, setText, show } from "../dom.js";
import { doneOf, duration, holdOf, messageCount, number, progress, totalOf } from "../format.js";
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
      make("td", { class: "aq-actions" }, this.actions.buttons, this.actions.confirmation.node),
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
    setAttribute(this.remark, "title", row.reason ? `${remark}: ${row.reason}` : remark);
    show(this.remark, remark !== "");
    setAttribute(this.node, "class", row.paused ? "aq-paused" : null);
    this.updateFigures(row);
    this.actions.update(row);
    this.line.draw(mirror.history.of(this.key), mirror.elapsed);
  }

  /** @param {QueueRow} row */
  remarkOn(row) {
    const hold = holdOf(row, this.view.mirror.now);
    const remarks = hold ? [hold] : row.orphaned ? ["not declared any more"] : [];
    const senders = row.waiting_senders;
    if (senders) remarks.push(`full: ${number(senders)} ${senders === 1 ? "sender waits" : "senders wait"}`);
    if (row.expired) remarks.push(`${number(row.expired)} expired`);
    if (row.host) remarks.push(`on ${row.host}`);
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
    setText(waiting, number(row.ready + row.delayed + row.blocked));
    const later = row.delayed ? [`${number(row.delayed)} of them for later`] : [];
    const blocked = row.blocked ? [`${number(row.blocked)} of them until other messages complete`] : [];
    setAttribute(waiting, "title", [...later, ...blocked].join(", ") || null);
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
    this.paused = false;
    this.pause = button("Pause", "", (event) => view.act(event, { action: this.paused ? "resume" : "pause", key }));
    this.purge = button("Purge", "", () => this.confirmation.open());
    this.buttons = make("div", { class: "aq-buttons" }, this.pause, this.purge);
    this.confirmation = new Confirmation(this.buttons, this.purge, "Keep the messages", async (event) => {
      await view.act(event, { action: "purge", key });
    });
  }

  /** @param {QueueRow} row */
  update(row) {
    this.paused = row.paused;
    const waiting = row.ready + row.delayed + row.blocked;
    const count = messageCount(waiting);
    const what = `queue ${row.queue} of ${row.actor}`;
    setText(this.pause, row.paused ? "Resume" : "Pause");
    setAttribute(this.pause, "aria-label", `${row.paused ? "Resume" : "Pause"} ${what}`);
    setAttribute(this.pause, "title", row.paused ? `Resume ${what}` : `Hand out nothing of ${what}`);
    setAttribute(this.purge, "aria-label", `Purge ${what}`);
    setAttribute(this.purge, "title", `Cancel what waits in ${what}`);
    this.confirmation.update(count, what);
    this.purge.disabled = waiting === 0;
    show(this.pause, !row.internal);
    show(this.purge, !row.internal);
  }
}
