// @ts-check
// The batches: how far each is, what failed in it, and its buttons.

/** @import { View } from "../view.js" */
/** @import { BatchRow, FailureGroup } from "../wire.js" */

import { Confirmation } from "../confirmation.js";
import { bdi, button, make, rename, setAttribute, setText, show } from "../dom.js";
import { figuresOf, holdOf, isFinished, range, rowCount, settledOf } from "../format.js";
import { KeyedList, Pager } from "../lists.js";

const BATCHES_SHOWN = 5;

export class Batches {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.page = 0;
    this.items = make("ul", { class: "aq-batches", "aria-label": "Batches" });
    this.list = new KeyedList(this.items, (key) => new BatchItem(view, key));
    this.pager = new Pager("batches", (step) => {
      this.page += step;
      this.update();
    });
    this.count = make("span", { class: "aq-quiet" });
    const heading = make("h3", {}, "Batches ", this.count);
    this.node = make("section", { class: "aq-section" }, heading, this.items, this.pager.node);
  }

  update() {
    const rows = this.view.mirror.rows("batches");
    const keys = Object.keys(rows).sort((a, b) => byRank(rows[a], rows[b]));
    const last = Math.max(0, Math.ceil(keys.length / BATCHES_SHOWN) - 1);
    this.page = Math.min(Math.max(0, this.page), last);
    const from = this.page * BATCHES_SHOWN;
    const end = Math.min(from + BATCHES_SHOWN, keys.length);
    this.list.update(keys.slice(from, end), (key) => rows[key]);
    const more = this.view.mirror.single("host")?.more_batches ? ", and more: %agentq batches" : "";
    this.pager.update(`${range(from, end)} of ${keys.length}${more}`, this.page > 0, this.page < last);
    const working = keys.filter((key) => !isFinished(rows[key])).length;
    setText(this.count, working ? `${working} not finished` : "");
    show(this.node, keys.length);
  }
}

/**
 * Those with work left first, and the newest first.
 * @param {BatchRow} a
 * @param {BatchRow} b
 */
const byRank = (a, b) => Number(isFinished(a)) - Number(isFinished(b)) || b.created_at - a.created_at;

class BatchItem {
  /**
   * @param {View} view
   * @param {string} key
   */
  constructor(view, key) {
    this.view = view;
    this.always = true;
    this.name = bdi("aq-strong aq-batch-name");
    this.where = bdi("aq-quiet aq-clip");
    this.remark = make("span", { class: "aq-tag" });
    this.actions = new BatchActions(view, key);
    this.bar = new Bar();
    this.figures = make("span", { class: "aq-batch-figures" });
    this.failures = make("ul", { class: "aq-failures" });
    this.stopped = bdi("aq-stopped");
    /** @type {FailureGroup[] | undefined} */
    this.groups = undefined;
    this.node = make(
      "li",
      { class: "aq-batch" },
      make("div", { class: "aq-batch-head" }, this.name, this.remark, this.where, this.actions.node),
      make("div", { class: "aq-batch-progress" }, this.bar.node, this.figures),
      this.stopped,
      this.failures,
    );
  }

  /** @param {BatchRow} row */
  update(row) {
    setText(this.name, row.name);
    setText(this.where, `${row.queue} of ${row.actor}`);
    setAttribute(this.where, "title", `${row.queue} of ${row.actor}`);
    const { now } = this.view.mirror;
    const queue = isFinished(row) ? undefined : this.view.mirror.rows("queues")[row.at];
    const hold = row.stopped !== null ? "stopped" : queue ? holdOf(queue, now) : "";
    setText(this.remark, hold);
    show(this.remark, hold);
    setAttribute(this.remark, "title", queue?.reason ? `${hold}: ${queue.reason}` : hold);
    setAttribute(this.remark, "class", row.stopped !== null ? "aq-tag aq-bad" : "aq-tag");
    const figures = figuresOf(row, hold !== "");
    setText(this.figures, figures);
    this.bar.update(row, figures);
    setText(this.stopped, row.stopped === null ? "" : `Stopped: ${row.stopped}`);
    show(this.stopped, row.stopped !== null);
    this.updateFailures(row.failures);
    this.actions.update(row);
  }

  /** @param {FailureGroup[]} groups */
  updateFailures(groups) {
    if (groups === this.groups) return;
    this.groups = groups;
    this.failures.replaceChildren(...groups.map(failureOf));
    show(this.failures, groups.length);
  }
}

/** @param {FailureGroup} group */
function failureOf({ what, rows, count }) {
  const text = bdi("aq-clip");
  text.textContent = what;
  text.title = what;
  const many = make("span", { class: "aq-bad aq-nowrap" }, rowCount(count));
  const where = make("span", { class: "aq-quiet aq-nowrap" }, rows ? `(${rows})` : "");
  return make("li", {}, many, where, text);
}

/** @type {["done" | "failed" | "cancelled" | "running", string][]} */
const SEGMENTS = [
  ["done", "aq-segment-done"],
  ["failed", "aq-segment-failed"],
  ["cancelled", "aq-segment-cancelled"],
  ["running", "aq-segment-running"],
];

/** How much of a batch is done, failed, cancelled and running. */
class Bar {
  constructor() {
    this.segments = SEGMENTS.map(([, kind]) => make("span", { class: kind }));
    this.node = make("div", { class: "aq-progress-bar", role: "progressbar", "aria-valuemin": "0" }, ...this.segments);
  }

  /**
   * @param {BatchRow} row
   * @param {string} figures
   */
  update(row, figures) {
    SEGMENTS.forEach(([field], index) => {
      const width = `${((100 * row[field]) / Math.max(1, row.total)).toFixed(2)}%`;
      if (this.segments[index].style.width !== width) this.segments[index].style.width = width;
    });
    setAttribute(this.node, "aria-label", `Batch ${row.name}`);
    setAttribute(this.node, "aria-valuemax", row.total);
    setAttribute(this.node, "aria-valuenow", settledOf(row));
    setAttribute(this.node, "aria-valuetext", figures);
    setAttribute(this.node, "title", figures);
  }
}

/** Retry what failed, resume after a stop, and cancel what is left, which asks first. */
class BatchActions {
  /**
   * @param {View} view
   * @param {string} key
   */
  constructor(view, key) {
    this.retry = button("Retry failed", "", (event) => view.act(event, { action: "retry failed", batch: key }));
    this.resume = button("Resume", "", (event) => view.act(event, { action: "resume batch", batch: key }));
    this.cancel = button("Cancel", "", () => this.confirmation.open());
    this.buttons = make("div", { class: "aq-buttons" }, this.retry, this.resume, this.cancel);
    this.confirmation = new Confirmation(this.buttons, this.cancel, "Keep the rows", async (event) => {
      await view.act(event, { action: "cancel batch", batch: key });
    });
    this.node = make("div", { class: "aq-batch-actions" }, this.buttons, this.confirmation.node);
  }

  /** @param {BatchRow} row */
  update(row) {
    const batch = `batch ${row.name}`;
    const left = row.waiting + row.running;
    rename(this.retry, `Retry failed: put ${rowCount(row.failed)} of ${batch} back into the queue`);
    rename(this.resume, `Resume ${batch}, which was stopped`);
    rename(this.cancel, `Cancel ${batch}: ${rowCount(left)} that are not settled`);
    this.confirmation.update(rowCount(left), batch);
    show(this.retry, row.failed);
    show(this.resume, row.stopped !== null && !row.failed);
    show(this.cancel, left);
  }
}
