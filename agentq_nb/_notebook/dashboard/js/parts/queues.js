// @ts-check
// The table of queues, a page at a time.

/** @import { View } from "../view.js" */

import { make, show } from "../dom.js";
import { number, range } from "../format.js";
import { KeyedList, Pager } from "../lists.js";
import { FIGURES, QueueItem } from "./queue_item.js";

const QUEUES_SHOWN = 10;
const byName = new Intl.Collator("en", { numeric: true });

export class Queues {
  /**
   * @param {View} view
   * @param {(text: string) => void} searchMessages
   */
  constructor(view, searchMessages) {
    this.view = view;
    this.page = 0;
    this.body = make("tbody");
    this.list = new KeyedList(this.body, (key) => new QueueItem(view, key, searchMessages));
    this.pager = new Pager("queues", (step) => {
      this.page += step;
      this.update();
    });
    const command = make("code", {}, "%agentq send ACTOR/KEY QUEUE BODY");
    this.empty = make("p", { class: "aq-empty" }, "No messages yet. Send one: ", command);
    this.table = make(
      "table",
      { class: "aq-table aq-queues" },
      make("caption", {}, "Queues"),
      make("thead", {}, headings()),
      this.body,
    );
    this.node = make("section", { class: "aq-section" }, this.table, this.empty, this.pager.node);
  }

  update() {
    const { mirror } = this.view;
    const rows = mirror.rows("queues");
    const keys = Object.keys(rows).sort(byName.compare);
    const last = Math.max(0, Math.ceil(keys.length / QUEUES_SHOWN) - 1);
    this.page = Math.min(Math.max(0, this.page), last);
    const from = this.page * QUEUES_SHOWN;
    const end = Math.min(from + QUEUES_SHOWN, keys.length);
    this.list.update(keys.slice(from, end), (key) => rows[key]);
    const left = mirror.single("host")?.left_out;
    const all = left ? `${number(keys.length)} of ${number(keys.length + left)}` : number(keys.length);
    this.pager.update(`${range(from, end)} of ${all}`, this.page > 0, this.page < last);
    show(this.empty, !keys.length);
    show(this.table, keys.length);
  }
}

function headings() {
  const heading = (/** @type {string} */ text, /** @type {string} */ kind = "") =>
    make("th", { scope: "col", class: kind || null }, text);
  return make(
    "tr",
    {},
    heading("queue"),
    heading("last minutes", "aq-wide"),
    ...FIGURES.map(([label, kind]) => heading(label, `aq-number ${kind}`)),
    heading("", "aq-actions"),
  );
}
