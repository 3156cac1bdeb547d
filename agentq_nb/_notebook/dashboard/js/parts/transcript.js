// @ts-check
// The transcript of a session as it streams.

/** @import { View } from "../view.js" */
/** @import { BlockRow } from "../wire.js" */

import { bdi, button, make, setAttribute, setText, show } from "../dom.js";
import { timeOfDay } from "../format.js";
import { KeyedList } from "../lists.js";

/** @type {Record<string, string>} */
const LABELS = {
  prompt: "prompt",
  text: "agent",
  tool_call: "tool",
  tool_result: "result",
  result: "end",
  error: "error",
  note: "note",
  permission_request: "asks",
  permission_answer: "answer",
};

/** Pixels from the end within which a reader counts as being at the end. */
const NEAR_END = 24;

export class Transcript {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    /** @type {string | null} */
    this.session = null;
    /** @type {Record<string, BlockRow>} */
    this.older = {};
    this.atEnd = true; // new text is followed unless the reader scrolled away from the end
    this.blocks = make("div", { class: "aq-blocks" });
    this.list = new KeyedList(this.blocks, () => new Block());
    this.earlier = button("Earlier", "Show what was said earlier", () => this.loadEarlier());
    const attributes = { class: "aq-log", role: "log", "aria-live": "off", "aria-label": "Transcript", tabindex: "0" };
    this.node = make("div", { ...attributes, onscroll: () => this.scrolled() }, this.earlier, this.blocks);
  }

  scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.node;
    this.atEnd = scrollHeight - scrollTop - clientHeight < NEAR_END;
  }

  async loadEarlier() {
    const before = this.first();
    this.earlier.disabled = true;
    const reply = await this.view.mirror.ask({ type: "earlier", session: this.session, before });
    this.earlier.disabled = false;
    if (reply.error) return this.view.say(reply.error, true);
    const height = this.node.scrollHeight;
    // What was loaded before makes room: the page stays small, however far back the reader goes.
    this.older = { ...reply.blocks };
    this.update();
    this.node.scrollTop += this.node.scrollHeight - height;
  }

  first() {
    const indexes = [...Object.keys(this.older), ...Object.keys(this.view.mirror.rows("blocks"))].map(Number);
    return Math.min(...indexes);
  }

  update() {
    const { mirror } = this.view;
    const session = mirror.single("transcript")?.session ?? null;
    if (session !== this.session) {
      this.session = session;
      this.older = {};
      this.atEnd = true;
    }
    const rows = { ...this.older, ...mirror.rows("blocks") };
    const keys = Object.keys(rows).sort((a, b) => Number(a) - Number(b));
    this.list.update(keys, (key) => rows[key]);
    show(this.earlier, keys.length && Number(keys[0]) > 1);
    if (this.atEnd) this.node.scrollTop = this.node.scrollHeight;
  }
}

class Block {
  constructor() {
    this.label = make("span", { class: "aq-label" });
    this.text = bdi("aq-said");
    this.data = bdi("aq-data");
    const body = make("div", { class: "aq-block-body" }, this.text, this.data);
    this.node = make("div", {}, this.label, body);
  }

  /** @param {BlockRow} row */
  update(row) {
    const kind = LABELS[row.type] ? row.type : "note";
    setAttribute(this.node, "class", `aq-block aq-block-${kind}`);
    setText(this.label, LABELS[kind]);
    setAttribute(this.label, "title", timeOfDay(row.time));
    setText(this.text, row.text);
    setText(this.data, row.data);
    show(this.text, row.text);
    show(this.data, row.data);
  }
}
