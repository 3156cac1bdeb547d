// @ts-check
// What a session's VM has changed in its repository: read when it is unfolded, since git takes its time.

/** @import { View } from "../view.js" */
/** @import { SessionRow } from "../wire.js" */

import { bdi, button, make, rename, setAttribute, setText, show } from "../dom.js";
import { diffOf } from "./diff_lines.js";

export class SessionDiff {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    /** @type {string | undefined} */
    this.session = undefined;
    this.open = false;
    this.toggle = button("Diff", "", () => (this.open ? this.fold() : this.unfold()));
    this.title = bdi("aq-quiet");
    this.text = make("pre", { tabindex: "0", role: "region", "aria-label": "Diff" });
    this.note = bdi("aq-quiet");
    this.node = make("div", { class: "aq-session-diff" }, this.title, this.text, this.note);
    this.fold();
  }

  fold() {
    this.open = false;
    setAttribute(this.toggle, "aria-expanded", "false");
    show(this.node, false);
    this.text.replaceChildren();
  }

  async unfold() {
    const { session } = this;
    this.open = true;
    setAttribute(this.toggle, "aria-expanded", "true");
    this.fill({ title: "Reading the diff…", text: "", note: "" });
    show(this.node, true);
    const { diff, error } = await this.view.mirror.ask({ type: "diff", session });
    if (!this.open || this.session !== session) return; // it was folded meanwhile
    if (diff) return this.fill(diff);
    this.fold();
    this.view.say(error ?? "", true);
  }

  /** @param {{ title: string, text: string, note: string }} diff */
  fill({ title, text, note }) {
    setText(this.title, title);
    this.text.replaceChildren(...(text ? diffOf(text) : []));
    setText(this.note, note);
    show(this.text, text);
    show(this.note, note);
  }

  /**
   * @param {string | undefined} session
   * @param {SessionRow | undefined} row
   */
  update(session, row) {
    const offered = row?.in_clone;
    if (session !== this.session || !offered) this.fold();
    this.session = session;
    show(this.toggle, offered);
    if (row) rename(this.toggle, `Diff: all that ${row.actor} has changed in its repository`);
  }
}
