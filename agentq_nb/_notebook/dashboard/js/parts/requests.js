// @ts-check
// What agents ask for permission to do, all of it. It can be allowed once its end was on the screen.

/** @import { View } from "../view.js" */
/** @import { PermissionRow } from "../wire.js" */

import { bdi, bdiOf, button, make, setAttribute, setText, show } from "../dom.js";
import { number } from "../format.js";
import { KeyedList } from "../lists.js";
import { diffOf } from "./diff_lines.js";

const REQUESTS_SHOWN = 10;

export class Requests {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.rows = make("div", { class: "aq-request-list" });
    this.left = make("p", { class: "aq-quiet" });
    const attributes = { class: "aq-requests", "aria-label": "Agents ask for permission" };
    this.node = make("section", attributes, this.rows, this.left);
    this.resized = new ResizeObserver(() => this.list.items.forEach((item) => item.look()));
    this.resized.observe(this.rows);
    this.list = new KeyedList(this.rows, (key) => {
      const item = new RequestItem(view, key);
      this.resized.observe(item.all);
      return item;
    });
  }

  close() {
    this.resized.disconnect();
  }

  update() {
    const rows = this.view.mirror.rows("requests");
    const keys = Object.keys(rows).sort();
    this.list.update(keys.slice(0, REQUESTS_SHOWN), (key) => rows[key]);
    const left = keys.length - REQUESTS_SHOWN;
    setText(this.left, `${number(left)} more wait${left === 1 ? "s" : ""} for these to be answered.`);
    show(this.left, left > 0);
    show(this.node, keys.length);
  }
}

class RequestItem {
  /**
   * @param {View} view
   * @param {string} key
   */
  constructor(view, key) {
    this.view = view;
    this.key = key;
    /** @type {PermissionRow | undefined} */
    this.row = undefined;
    /** @type {string | undefined} */
    this.content = undefined;
    this.seen = false;
    this.who = bdi("aq-quiet");
    this.what = bdi("aq-strong aq-asked");
    this.kind = bdi("aq-tag");
    this.hint = make("span", { class: "aq-quiet aq-hint", id: `aq-hint-${++view.lastId}` });
    this.allow = button("Allow", "Allow what the agent asks", (event) => this.answer(event, true), "aq-primary");
    this.allow.disabled = true;
    setAttribute(this.allow, "aria-describedby", this.hint.id);
    const refuse = button("Refuse", "Refuse what the agent asks", (event) => this.answer(event, false));
    this.all = make("div", {
      class: "aq-asked-all",
      role: "region",
      "aria-label": "All of what the agent asks",
      tabindex: "0",
      onscroll: () => this.look(),
    });
    this.node = make(
      "div",
      { class: "aq-request", role: "group", "aria-label": "An agent asks" },
      make("div", { class: "aq-request-head" }, this.kind, this.what, this.who),
      this.all,
      make("div", { class: "aq-request-answers" }, this.hint, this.allow, refuse),
    );
  }

  /**
   * @param {Event} event
   * @param {boolean} allow
   */
  answer(event, allow) {
    const { row, key } = this;
    if (row) this.view.act(event, { action: "answer", actor: row.at, session: row.session, ask: key, allow });
  }

  /** Lets it be allowed if its end is on the screen. */
  look() {
    const { all } = this;
    // What has no height is not drawn, so nobody has seen it.
    if (this.seen || this.row?.too_long || !all.clientHeight) return;
    // A zoomed page may lose two pixels to rounding.
    if (all.scrollTop + all.clientHeight < all.scrollHeight - 2) return;
    this.seen = true;
    this.allow.disabled = false;
    setText(this.hint, "");
  }

  /** @param {PermissionRow} row */
  update(row) {
    this.row = row;
    setText(this.who, `${row.agent} in ${row.actor} asks`);
    setText(this.what, row.title || "something without a title");
    setText(this.kind, row.kind);
    show(this.kind, row.kind);
    const content = JSON.stringify([row.title, row.parts, row.too_long]);
    if (content === this.content) return; // the same in a new snapshot: nobody has to read it again
    this.content = content;
    this.seen = false;
    this.allow.disabled = true;
    this.all.replaceChildren(...contentOf(row));
    setText(this.hint, row.too_long ? "" : "Scroll to the end to allow it.");
    requestAnimationFrame(() => this.look());
  }
}

/**
 * The parts of a request. None of them scrolls by itself: the end of the last one is the end of all.
 * @param {PermissionRow} row
 */
function contentOf(row) {
  if (row.too_long) {
    const size = `${number(row.too_long)} characters`;
    const said = `This is too long to be shown here (${size}). In a cell, read all of it with `;
    const list = make("code", {}, "for request in await vm.list_permission_requests(): print(request.text)");
    const respond = make("code", {}, 'await vm.respond_permission(session_id, request_id, "allow")');
    return [make("p", {}, said, list, ", and allow it with ", respond, ". It can be refused here.")];
  }
  if (!row.parts?.length) return [make("p", { class: "aq-quiet" }, "The agent tells no more about it than this.")];
  return row.parts.map((part) =>
    make(
      "div",
      { class: "aq-asked-part" },
      make("div", { class: "aq-label" }, bdiOf(part.name)),
      make("pre", {}, ...(part.diff ? diffOf(part.text) : [bdiOf(part.text)])),
    ),
  );
}
