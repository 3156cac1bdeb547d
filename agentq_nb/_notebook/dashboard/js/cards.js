// @ts-check
// Views of one thing: a receipt's message on its way, and a session with an agent as its transcript streams.

/** @import { Model } from "./notebook.js" */
/** @import { Part } from "./view.js" */
/** @import { MessageCardRow } from "./wire.js" */

import { bdi, button, make, rename, renameStop, setAttribute, setText, show } from "./dom.js";
import { duration, number } from "./format.js";
import { Requests } from "./parts/requests.js";
import { Transcript } from "./parts/transcript.js";
import { View } from "./view.js";

export class MessageCard extends View {
  /**
   * @param {Model} model
   * @param {HTMLElement} el
   */
  constructor(model, el) {
    super(model, el, "message", "Message");
    this.root.classList.add("aq-card");
    this.status = make("span", { class: "aq-status" });
    this.where = bdi("aq-clip");
    this.time = make("span", { class: "aq-quiet aq-nowrap" });
    this.outcome = make("pre", { class: "aq-outcome", tabindex: "0" });
    this.cancel = button("Cancel", "", (event) => {
      const row = this.mirror.single("message");
      if (row) this.act(event, { action: "cancel", message: row.id });
    });
    const head = make("div", { class: "aq-head" }, this.status, this.where, this.time, this.cancel, this.liveness);
    this.root.append(head, this.outcome);
    this.start();
  }

  /** @returns {Record<string, Part[]>} */
  parts() {
    return { message: [this] };
  }

  /** @returns {Part[]} */
  aging() {
    return [this];
  }

  ended() {
    return "";
  }

  update() {
    const row = this.mirror.single("message");
    if (!row) return;
    setText(this.status, row.status);
    setAttribute(this.status, "data-status", row.status);
    setText(this.where, `${row.queue} of ${row.actor}`);
    setAttribute(this.where, "title", `Message ${row.id}`);
    rename(this.cancel, `Cancel message ${row.id} of ${row.queue} of ${row.actor}`);
    setText(this.time, this.progress(row));
    show(this.cancel, row.live);
    setText(this.outcome, row.error || row.reply);
    setAttribute(this.outcome, "class", row.error ? "aq-outcome aq-bad" : "aq-outcome");
    show(this.outcome, row.error || row.reply);
  }

  /** @param {MessageCardRow} row */
  progress(row) {
    const age = duration((row.settled ?? this.mirror.elapsed) - row.since);
    const others = row.others ? `, ${number(row.others)} other${row.others === 1 ? "" : "s"} in its queue` : "";
    const attempts = row.attempts > 1 ? `, attempt ${row.attempts}` : "";
    return age + others + attempts;
  }
}

export class SessionCard extends View {
  /**
   * @param {Model} model
   * @param {HTMLElement} el
   */
  constructor(model, el) {
    super(model, el, "session", "Session");
    this.root.classList.add("aq-card");
    this.status = make("span", { class: "aq-dot", role: "img" });
    this.title = bdi("aq-strong aq-clip");
    this.requests = new Requests(this);
    this.transcript = new Transcript(this);
    this.stop = button("Cancel prompt", "", (event) => {
      const row = this.mirror.single("session");
      if (row) this.act(event, { action: "stop", session: row.id, actor: row.at });
    });
    const head = make("div", { class: "aq-head" }, this.status, this.title, this.stop, this.liveness);
    this.root.append(head, this.requests.node, this.transcript.node);
    this.start();
  }

  close() {
    this.requests.close();
    super.close();
  }

  /** @returns {Record<string, Part[]>} */
  parts() {
    return { session: [this], requests: [this.requests], blocks: [this.transcript], transcript: [this.transcript] };
  }

  ended() {
    return "closed";
  }

  update() {
    const row = this.mirror.single("session");
    if (!row) return;
    setAttribute(this.status, "data-status", row.status);
    setAttribute(this.status, "aria-label", row.status);
    setText(this.title, `${row.agent} in ${row.actor}`);
    renameStop(this.stop, row);
    show(this.stop, row.status === "running");
  }
}
