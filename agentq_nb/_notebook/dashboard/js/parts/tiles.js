// @ts-check
// The figures of the whole host.

/** @import { View } from "../view.js" */
/** @import { QueueRow } from "../wire.js" */

import { make, setAttribute, setText } from "../dom.js";
import { doneOf, duration, money, number, progress, totalOf } from "../format.js";

const TILES = /** @type {const} */ ([
  ["done", "done"],
  ["dead", "failed"],
  ["waiting", "waiting"],
  ["running", "running"],
  ["rate", "done / min"],
  ["left", "time left"],
  ["oldest", "oldest"],
  ["cost", "cost"],
]);

export class Tiles {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.node = make("div", { class: "aq-tiles" });
    this.values = /** @type {Record<typeof TILES[number][0], HTMLElement>} */ ({});
    for (const [key, label] of TILES) {
      this.values[key] = make("span", { class: "aq-figure" });
      const name = make("span", { class: "aq-tile-name" }, label);
      this.node.append(make("div", { "data-tile": key }, this.values[key], name));
    }
  }

  update() {
    const { mirror } = this.view;
    const queues = Object.entries(mirror.rows("queues"));
    /** @param {(row: QueueRow, key: string) => number} count */
    const sum = (count) => queues.reduce((total, [key, row]) => total + count(row, key), 0);
    const oldest = Math.min(...queues.map(([, row]) => row.oldest_at ?? Infinity));
    const dead = sum((row) => row.dead);
    // The queues are worked through side by side: the slowest one decides.
    const left = Math.max(...queues.map(([key]) => mirror.timeLeft(key) ?? -1));
    setText(this.values.done, progress(sum(doneOf), sum(totalOf)));
    setText(this.values.left, left < 0 ? "–" : duration(left));
    setText(this.values.waiting, number(sum((row) => row.ready + row.delayed + row.blocked)));
    setText(this.values.running, number(sum((row) => row.running)));
    setText(this.values.rate, number(sum((_, key) => mirror.perMinute(key))));
    setText(this.values.dead, number(dead));
    setText(this.values.oldest, oldest === Infinity ? "–" : duration(mirror.now - oldest));
    const cost = mirror.single("host")?.cost ?? null;
    setText(this.values.cost, money(cost ?? 0));
    /** @type {HTMLElement} */ (this.values.cost.parentElement).hidden = cost === null;
    setAttribute(this.values.dead, "class", dead ? "aq-figure aq-bad" : "aq-figure");
  }
}
