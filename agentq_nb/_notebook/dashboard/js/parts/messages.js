// @ts-check
// The table of messages: filters, a search, and one page of what the kernel found.

/** @import { View } from "../view.js" */
/** @import { PageOfMessages } from "../wire.js" */

import { make, setAttribute, setText, show } from "../dom.js";
import { range } from "../format.js";
import { KeyedList, Pager } from "../lists.js";
import { MessageItem } from "./message_item.js";

/** The kernel's number of messages on a page. */
const PAGE = 20;
/** Milliseconds after the last key until a search is made. */
const TYPING = 250;
const COLUMNS = 6;

export class Messages {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    /** @type {PageOfMessages} */
    this.wanted = { status: "all", search: "", offset: 0 };
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.typing = undefined;
    /** @type {Map<string, HTMLElement>} */
    this.filters = new Map();
    this.search = make("input", {
      type: "search",
      class: "aq-search",
      placeholder: "search bodies, replies, errors",
      "aria-label": "Search messages",
      oninput: () => this.typed(),
    });
    this.body = make("tbody");
    this.list = new KeyedList(this.body, (key) => new MessageItem(view, key, () => this.fit()));
    this.pager = new Pager("messages", (step) => this.turn({ offset: Math.max(0, this.wanted.offset + step * PAGE) }));
    this.empty = make("p", { class: "aq-empty" }, "No messages.");
    this.table = make(
      "table",
      { class: "aq-table aq-messages" },
      make("caption", { class: "aq-hidden" }, "Messages"),
      make("thead", {}, headings()),
      this.body,
    );
    this.chips = make("div", { class: "aq-chips", role: "group", "aria-label": "Which messages" });
    this.node = make(
      "section",
      { class: "aq-section", hidden: true }, // until the kernel has read the first page of them
      make("div", { class: "aq-bar" }, make("h3", {}, "Messages"), this.chips, this.search),
      this.table,
      this.empty,
      this.pager.node,
    );
  }

  /** The kernel knows which statuses there are. @param {string[]} names */
  offerFilters(names) {
    if (names.join() === [...this.filters.keys()].join()) return;
    this.filters = new Map(names.map((status) => [status, this.filter(status)]));
    this.chips.replaceChildren(...this.filters.values());
  }

  /** @param {string} status */
  filter(status) {
    const onclick = () => this.turn({ status, offset: 0 });
    return make("button", { type: "button", class: "aq-chip", onclick }, status);
  }

  /** Fits the details to the columns: a cell over more would bring back those that are hidden in narrow places. */
  fit() {
    const headings = /** @type {HTMLTableSectionElement} */ (this.table.tHead).rows[0].cells;
    const shown = [...headings].filter((cell) => cell.offsetParent).length;
    for (const cell of this.body.querySelectorAll(".aq-detail > td")) setAttribute(cell, "colspan", shown || COLUMNS);
  }

  typed() {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => this.turn({ search: this.search.value, offset: 0 }), TYPING);
  }

  /** @param {string} text */
  searchFor(text) {
    this.search.value = text;
    this.turn({ search: text, offset: 0 });
  }

  /** @param {Partial<PageOfMessages>} change */
  async turn(change) {
    this.wanted = { ...this.wanted, ...change };
    this.markFilter();
    const reply = await this.view.mirror.ask({ type: "page", ...this.wanted });
    if (reply.error) this.view.say(reply.error, true);
  }

  markFilter() {
    for (const [status, chip] of this.filters) setAttribute(chip, "aria-pressed", status === this.wanted.status);
  }

  update() {
    const { mirror } = this.view;
    const table = mirror.single("table");
    if (!table) return;
    const rows = mirror.rows("messages");
    const known = table.order.filter((key) => rows[key]);
    this.list.update(known, (key) => rows[key]);
    this.wanted = { status: table.status, search: table.search, offset: table.offset };
    this.offerFilters(table.filters);
    // Nobody's typing is overwritten.
    if (document.activeElement !== this.search && !this.search.matches(":focus")) this.search.value = table.search;
    this.markFilter();
    this.pager.update(range(table.offset, table.offset + known.length), table.offset > 0, table.more);
    show(this.empty, !known.length);
    show(this.table, known.length);
    const narrowed = table.search || table.status !== "all";
    setText(this.empty, narrowed ? "No message is like that." : "No messages yet.");
    show(this.node, known.length || narrowed || Object.keys(mirror.rows("queues")).length);
  }
}

function headings() {
  const names = ["status", "sent", "queue", "body", "reply or error"].map((name) => make("th", { scope: "col" }, name));
  return make("tr", {}, ...names, make("th", { scope: "col", class: "aq-actions" }));
}
