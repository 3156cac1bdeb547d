// @ts-check
// What a provider's limit pauses, and what failures that repeat have stopped: until when, why, who waits, and a button
// that ends it.

/** @import { View } from "../view.js" */
/** @import { PauseRow } from "../wire.js" */

import { bdi, button, make, rename, setAttribute, setText, show } from "../dom.js";
import { duration, number, queueCount, timeOfDay } from "../format.js";
import { KeyedList } from "../lists.js";

const PAUSES_SHOWN = 5;

export class Pauses {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.rows = make("ul", { class: "aq-pauses", "aria-label": "Paused and stopped" });
    this.more = make("p", { class: "aq-quiet" });
    this.list = new KeyedList(this.rows, () => new PauseItem(view));
    this.node = make("section", {}, this.rows, this.more);
  }

  update() {
    const rows = this.view.mirror.rows("pauses");
    const batches = Object.values(this.view.mirror.rows("batches"));
    const ofBatches = new Set(batches.filter((batch) => batch.stopped !== null).map((batch) => batch.at));
    const shown = Object.keys(rows).filter((key) => !(rows[key].stopped && ofBatches.has(key))); // these say it themselves
    const keys = shown.sort((a, b) => endOf(rows[a]) - endOf(rows[b]));
    this.list.update(keys.slice(0, PAUSES_SHOWN), (key) => rows[key]);
    const left = keys.length - PAUSES_SHOWN;
    setText(this.more, `${number(left)} more paused until later.`);
    show(this.more, left > 0);
    show(this.node, keys.length);
  }
}

/** @param {PauseRow} row */
const endOf = (row) => row.until ?? Infinity;

class PauseItem {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.always = true;
    /** @type {PauseRow | undefined} */
    this.row = undefined;
    this.name = bdi("aq-strong");
    this.state = make("span", { class: "aq-pause-left" });
    this.reason = bdi("aq-pause-reason");
    this.queues = bdi("aq-quiet");
    this.end = button("End pause", "", (event) => this.endPause(event));
    this.node = make(
      "li",
      {},
      make("div", { class: "aq-pause-text" }, this.name, " ", this.state, ": ", this.reason, " ", this.queues),
      this.end,
    );
  }

  /** @param {Event} event */
  endPause(event) {
    const { row } = this;
    if (!row) return;
    if (row.limit === null) this.view.act(event, { action: "resume", key: row.queue });
    else this.view.act(event, { action: "end pause", limit: row.limit });
  }

  /** @param {PauseRow} row */
  update(row) {
    this.row = row;
    const left = row.until === null ? null : row.until - this.view.mirror.now;
    setText(this.name, row.name);
    if (row.stopped) setText(this.state, "is stopped");
    else if (left === null) setText(this.state, "is paused");
    else if (left > 0) setText(this.state, `is paused for ${duration(left)}`);
    else setText(this.state, "is paused, and tried with one message at a time");
    setAttribute(this.state, "title", row.until === null ? null : `until ${timeOfDay(row.until)}`);
    setText(this.reason, row.reason);
    setText(this.queues, waitsOf(row));
    setAttribute(this.queues, "title", row.queues.join(", "));
    setAttribute(this.node, "class", row.stopped ? "aq-pause-stopped" : null);
    setText(this.end, row.stopped ? "Resume" : "End pause");
    const again = "let messages start now. If the provider refuses again, no attempt is lost";
    rename(this.end, row.stopped ? `Resume ${row.name}` : `End pause of ${row.name}: ${again}`);
  }
}

/** @param {PauseRow} row */
function waitsOf(row) {
  if (row.limit === null || !row.waiting) return "";
  const waits = row.waiting === 1 ? row.queues[0] : queueCount(row.waiting);
  return `It holds ${waits}.`;
}
