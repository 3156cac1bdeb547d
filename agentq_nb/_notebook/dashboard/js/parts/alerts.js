// @ts-check
// What is wrong with the host or its actors, one line each.

/** @import { View } from "../view.js" */
/** @import { ActorRow } from "../wire.js" */

import { bdi, make, setAttribute, setText, show } from "../dom.js";
import { duration } from "../format.js";
import { KeyedList } from "../lists.js";

const ALERTS_SHOWN = 8;
/** Seconds for which a loop that was blocked is worth an alert. */
const STALL_SHOWN = 60;

/** @typedef {{ subject: string, text: string, bad: boolean }} Alert */

export class Alerts {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.node = make("ul", { class: "aq-alerts", "aria-label": "Problems" });
    this.list = new KeyedList(this.node, () => new AlertItem());
  }

  update() {
    const alerts = new Map([...this.ofHost(), ...this.ofActors(), ...this.ofLoop()]);
    const keys = [...alerts.keys()].slice(0, ALERTS_SHOWN);
    this.list.update(keys, (key) => /** @type {Alert} */ (alerts.get(key)));
    show(this.node, keys.length);
  }

  /** @returns {Generator<[key: string, alert: Alert]>} */
  *ofHost() {
    const host = this.view.mirror.single("host");
    if (host?.trouble)
      yield ["trouble", { subject: "Nothing can be written just now.", text: host.trouble, bad: true }];
    for (const name of host?.waiting_for ?? []) {
      const text = "has work but no class yet: run the cell that defines it.";
      yield [`class ${name}`, { subject: name, text, bad: false }];
    }
  }

  /** @returns {Generator<[key: string, alert: Alert]>} */
  *ofActors() {
    for (const [key, row] of Object.entries(this.view.mirror.rows("actors")))
      if (row.error) yield [key, { subject: row.actor, text: this.whatFailed(row), bad: true }];
  }

  /** @returns {Generator<[key: string, alert: Alert]>} */
  *ofLoop() {
    const { mirror } = this.view;
    const host = mirror.single("host");
    if (host?.stall && mirror.now - Number(host.stall_at) < STALL_SHOWN)
      yield ["stall", { subject: "The kernel stood still for", text: host.stall, bad: false }];
  }

  /** @param {ActorRow} row */
  whatFailed(row) {
    const when = row.state === "failed to start" ? "failed to start. " : "";
    const again = row.restarts_at ? ` It starts again ${this.until(row.restarts_at)}.` : "";
    return `${when}${row.error}${again}`;
  }

  /** @param {number} time */
  until(time) {
    const left = time - this.view.mirror.now;
    return left > 1 ? `in ${duration(left)}` : "now";
  }
}

class AlertItem {
  constructor() {
    this.subject = bdi("aq-strong");
    this.text = bdi();
    this.node = make("li", {}, this.subject, " ", this.text);
  }

  /** @param {Alert} alert */
  update({ subject, text, bad }) {
    setText(this.subject, subject);
    setText(this.text, text);
    setAttribute(this.node, "class", bad ? "aq-alert-bad" : "aq-alert");
  }
}
