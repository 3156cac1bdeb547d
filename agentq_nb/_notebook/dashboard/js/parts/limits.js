// @ts-check
// The limits of queues: how many may start, how many did, when the next one may, and who waits.

/** @import { View } from "../view.js" */
/** @import { LimitRow } from "../wire.js" */

import { bdi, make, setAttribute, setText, show } from "../dom.js";
import { allowedBy, nextStartOf, number, queueCount, range } from "../format.js";
import { KeyedList, Pager } from "../lists.js";

const LIMITS_SHOWN = 8;

export class Limits {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.page = 0;
    this.body = make("tbody");
    this.list = new KeyedList(this.body, () => new LimitItem(view));
    this.pager = new Pager("limits", (step) => {
      this.page += step;
      this.update();
    });
    const table = make(
      "table",
      { class: "aq-table aq-limits" },
      make("caption", {}, "Limits"),
      make("thead", {}, headings()),
      this.body,
    );
    this.node = make("section", { class: "aq-section" }, table, this.pager.node);
  }

  update() {
    const rows = this.view.mirror.rows("limits");
    const keys = Object.keys(rows).sort((a, b) => rank(rows[a]) - rank(rows[b]) || byName.compare(a, b));
    const last = Math.max(0, Math.ceil(keys.length / LIMITS_SHOWN) - 1);
    this.page = Math.min(Math.max(0, this.page), last);
    const from = this.page * LIMITS_SHOWN;
    const end = Math.min(from + LIMITS_SHOWN, keys.length);
    this.list.update(keys.slice(from, end), (key) => rows[key]);
    const all = keys.length + (this.view.mirror.single("host")?.limits_left_out ?? 0);
    this.pager.update(`${range(from, end)} of ${number(all)}`, this.page > 0, this.page < last);
    show(this.node, keys.length);
  }
}

const byName = new Intl.Collator("en", { numeric: true });

/** Those that hold messages come first. @param {LimitRow} row */
const rank = (row) => (row.paused_until !== null ? 0 : row.waiting ? 1 : 2);

class LimitItem {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.always = true;
    this.name = bdi("aq-strong");
    this.paused = make("span", { class: "aq-tag" }, "paused");
    this.allowed = make("td");
    this.bar = make("span");
    this.meter = make("div", { class: "aq-meter", role: "meter", "aria-valuemin": "0" }, this.bar);
    this.used = make("span", { class: "aq-nowrap" });
    this.next = make("td", { class: "aq-nowrap" });
    this.waiting = bdi("aq-clip");
    this.node = make(
      "tr",
      {},
      make("th", { scope: "row", class: "aq-name" }, this.name, " ", this.paused),
      this.allowed,
      make("td", {}, make("div", { class: "aq-use" }, this.meter, this.used)),
      this.next,
      make("td", { class: "aq-waiting" }, this.waiting),
    );
  }

  /** @param {LimitRow} row */
  update(row) {
    const full = row.used >= row.count;
    const allowed = allowedBy(row);
    const use = `${number(row.used)} of ${number(row.count)}`;
    setText(this.name, row.name);
    show(this.paused, row.paused_until !== null);
    setText(this.allowed, allowed);
    setAttribute(this.allowed, "title", allowed);
    const width = `${Math.min(100, (100 * row.used) / Math.max(1, row.count)).toFixed(1)}%`;
    if (this.bar.style.width !== width) this.bar.style.width = width;
    setAttribute(this.meter, "class", full ? "aq-meter aq-full" : "aq-meter");
    setAttribute(this.meter, "aria-label", `Use of limit ${row.name}`);
    setAttribute(this.meter, "aria-valuemax", row.count);
    setAttribute(this.meter, "aria-valuenow", Math.min(row.used, row.count));
    setAttribute(this.meter, "aria-valuetext", use);
    setText(this.used, use);
    setText(this.next, nextStartOf(row, this.view.mirror.now));
    this.updateWaiting(row);
  }

  /** @param {LimitRow} row */
  updateWaiting(row) {
    const more = row.waiting > row.queues.length ? `, and ${number(row.waiting - row.queues.length)} more` : "";
    const names = row.queues.join(", ") + more;
    setText(this.waiting, row.waiting === 1 ? names : row.waiting ? queueCount(row.waiting) : "–");
    setAttribute(this.waiting, "title", names);
  }
}

function headings() {
  const names = ["limit", "allowed", "in use", "next start", "waiting"];
  return make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name)));
}
