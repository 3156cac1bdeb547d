// @ts-check
// The dashboard of a host.

/** @import { Model } from "./notebook.js" */

import { bdi, make, setAttribute, setText } from "./dom.js";
import { duration } from "./format.js";
import { Alerts } from "./parts/alerts.js";
import { Batches } from "./parts/batches.js";
import { Limits } from "./parts/limits.js";
import { Messages } from "./parts/messages.js";
import { Pauses } from "./parts/pauses.js";
import { Queues } from "./parts/queues.js";
import { Requests } from "./parts/requests.js";
import { Sessions } from "./parts/sessions.js";
import { Tiles } from "./parts/tiles.js";
import { View } from "./view.js";

export class Dashboard extends View {
  /**
   * @param {Model} model
   * @param {HTMLElement} el
   */
  constructor(model, el) {
    super(model, el, "dashboard", "agentq dashboard");
    this.head = new Head(this);
    this.tiles = new Tiles(this);
    this.alerts = new Alerts(this);
    this.requests = new Requests(this);
    this.pauses = new Pauses(this);
    this.batches = new Batches(this);
    this.limits = new Limits(this);
    this.messages = new Messages(this);
    this.queues = new Queues(this, (text) => this.messages.searchFor(text));
    this.sessions = new Sessions(this);
    const above = [this.head, this.requests, this.alerts, this.pauses, this.tiles];
    const parts = [...above, this.batches, this.queues, this.limits, this.sessions, this.messages];
    this.root.append(...parts.map((part) => part.node));
    this.resized = new ResizeObserver(() => this.messages.fit());
    this.resized.observe(this.root);
    this.start();
  }

  close() {
    this.resized.disconnect();
    this.requests.close();
    super.close();
  }

  parts() {
    return {
      host: [this.head, this.alerts, this.tiles, this.batches, this.limits],
      actors: [this.alerts],
      requests: [this.requests],
      queues: [this.queues, this.tiles],
      batches: [this.batches, this.pauses],
      limits: [this.limits],
      pauses: [this.pauses],
      sessions: [this.sessions],
      transcript: [this.sessions, this.sessions.transcript],
      blocks: [this.sessions.transcript],
      messages: [this.messages],
      table: [this.messages],
    };
  }

  aging() {
    return [this.head, this.tiles, this.batches, this.queues, this.limits, this.sessions, this.alerts, this.pauses];
  }
}

/** Which host this is, for how long it has been up, and whether its kernel is alive. */
class Head {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.store = bdi("aq-quiet aq-clip");
    this.up = make("span", { class: "aq-quiet aq-nowrap" });
    const title = make("span", { class: "aq-title" }, "agentq");
    this.node = make("header", { class: "aq-head" }, title, this.store, this.up, view.liveness);
  }

  update() {
    const { mirror } = this.view;
    const host = mirror.single("host");
    if (!host) return;
    setText(this.store, host.store);
    setAttribute(this.store, "title", host.path);
    setText(this.up, `up ${duration(mirror.now - host.started_at)}`);
  }
}
