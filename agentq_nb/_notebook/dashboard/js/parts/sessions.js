// @ts-check
// The sessions with agents, and the transcript of the one that was chosen.

/** @import { View } from "../view.js" */
/** @import { SessionRow } from "../wire.js" */

import { bdi, button, make, renameStop, setAttribute, setText, show } from "../dom.js";
import { duration, range } from "../format.js";
import { KeyedList, Pager } from "../lists.js";
import { SessionDiff } from "./session_diff.js";
import { Transcript } from "./transcript.js";

const SESSIONS_SHOWN = 8;

export class Sessions {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.page = 0;
    this.items = make("ul", { class: "aq-sessions", "aria-label": "Sessions" });
    this.list = new KeyedList(this.items, (key) => new SessionItem(this, key));
    this.pager = new Pager("sessions", (step) => {
      this.page += step;
      this.update();
    });
    this.diff = new SessionDiff(view);
    this.transcript = new Transcript(view);
    this.stop = button("Cancel prompt", "", (event) => this.cancelPrompt(event));
    this.title = bdi("aq-strong");
    const buttons = make("div", { class: "aq-buttons" }, this.diff.toggle, this.stop);
    this.head = make("div", { class: "aq-transcript-head" }, this.title, buttons);
    this.hint = make("p", { class: "aq-empty" }, "Choose a session to read along.");
    this.count = make("span", { class: "aq-quiet" });
    this.node = make(
      "section",
      { class: "aq-section" },
      make("h3", {}, "Sessions ", this.count),
      make(
        "div",
        { class: "aq-split" },
        make("div", { class: "aq-split-list" }, this.items, this.pager.node),
        make("div", { class: "aq-split-main" }, this.head, this.diff.node, this.transcript.node, this.hint),
      ),
    );
  }

  chosen() {
    return this.view.mirror.single("transcript")?.session;
  }

  /** @param {string} session */
  async choose(session) {
    const wanted = session === this.chosen() ? null : session;
    const reply = await this.view.mirror.ask({ type: "choose", session: wanted });
    if (reply.error) this.view.say(reply.error, true);
  }

  /** @param {Event} event */
  cancelPrompt(event) {
    const session = this.chosen();
    const actor = session && this.view.mirror.rows("sessions")[session]?.at;
    this.view.act(event, { action: "stop", session, actor });
  }

  update() {
    const rows = this.view.mirror.rows("sessions");
    const keys = Object.keys(rows).sort((a, b) => byRank(rows[a], rows[b]));
    this.updateList(keys, rows);
    const running = keys.filter((key) => rows[key].status === "running").length;
    setText(this.count, running ? `${running} at work` : "");
    const session = this.chosen();
    const row = session === undefined ? undefined : rows[session];
    this.updateChosen(row);
    this.diff.update(session, row);
    show(this.node, keys.length);
  }

  /**
   * @param {string[]} keys
   * @param {Record<string, SessionRow>} rows
   */
  updateList(keys, rows) {
    const last = Math.max(0, Math.ceil(keys.length / SESSIONS_SHOWN) - 1);
    this.page = Math.min(Math.max(0, this.page), last);
    const from = this.page * SESSIONS_SHOWN;
    const end = Math.min(from + SESSIONS_SHOWN, keys.length);
    this.list.update(keys.slice(from, end), (key) => rows[key]);
    this.pager.update(`${range(from, end)} of ${keys.length}`, this.page > 0, this.page < last);
  }

  /** @param {SessionRow | undefined} row */
  updateChosen(row) {
    show(this.head, row);
    show(this.transcript.node, row);
    show(this.hint, !row);
    if (!row) return;
    setText(this.title, `${row.agent} in ${row.actor}`);
    renameStop(this.stop, row);
    show(this.stop, row.status === "running");
  }
}

/** @param {SessionRow} row */
const rank = (row) => (row.status === "running" ? 0 : row.status === "open" ? 1 : 2);

/**
 * Those at work first, then those that are open, and the newest first.
 * @param {SessionRow} a
 * @param {SessionRow} b
 */
const byRank = (a, b) => rank(a) - rank(b) || b.created_at - a.created_at;

class SessionItem {
  /**
   * @param {Sessions} sessions
   * @param {string} key
   */
  constructor(sessions, key) {
    this.sessions = sessions;
    this.key = key;
    this.always = true;
    this.agent = bdi("aq-strong");
    this.actor = bdi("aq-quiet");
    this.status = make("span", { class: "aq-dot", role: "img" });
    this.said = bdi("aq-said-last aq-clip");
    this.age = make("span", { class: "aq-quiet aq-ago" });
    const name = make("span", { class: "aq-clip" }, this.agent, " ", this.actor);
    const attributes = { type: "button", class: "aq-session", onclick: () => sessions.choose(key) };
    this.choice = make("button", attributes, this.status, name, this.age, this.said);
    this.node = make("li", {}, this.choice);
  }

  /** @param {SessionRow} row */
  update(row) {
    setText(this.agent, row.agent);
    setText(this.actor, row.actor);
    setText(this.said, row.said || (row.status === "running" ? "works" : row.status));
    setText(this.age, duration(this.sessions.view.mirror.now - row.last_at));
    setAttribute(this.status, "data-status", row.status);
    setAttribute(this.status, "aria-label", row.status);
    setAttribute(this.status, "title", row.status);
    setAttribute(this.choice, "aria-current", this.sessions.chosen() === this.key ? "true" : null);
  }
}
