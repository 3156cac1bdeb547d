// @ts-check
// Lists that are updated in place, so that the focus, a selection and the scroll position survive.

import { button, keepFocus, make, setText, show } from "./dom.js";

/**
 * The elements of one row.
 * @template Row
 * @typedef {object} Item
 * @property {HTMLElement} node
 * @property {HTMLElement} [below] A second element, right after the first.
 * @property {boolean} [always] It shows ages, so that it is updated although its row is the same.
 * @property {(row: Row) => void} update
 */

/**
 * Children by key: made once, updated when their row changed, and put into the order of the keys.
 * @template Row
 * @template {Item<Row>} Shown
 */
export class KeyedList {
  /**
   * @param {Element} parent
   * @param {(key: string) => Shown} makeItem
   */
  constructor(parent, makeItem) {
    this.parent = parent;
    this.makeItem = makeItem;
    /** @type {Map<string, Shown>} */
    this.items = new Map();
    /** @type {Map<string, Row>} */
    this.rows = new Map();
  }

  /**
   * @param {string[]} keys
   * @param {(key: string) => Row} rowOf
   */
  update(keys, rowOf) {
    this.removeAllBut(new Set(keys));
    let place = this.parent.firstChild;
    for (const key of keys) {
      const item = this.itemOf(key);
      for (const node of [item.node, item.below]) {
        if (!node) continue;
        if (node === place) place = place.nextSibling;
        else this.parent.insertBefore(node, place);
      }
      const row = rowOf(key);
      if (this.rows.get(key) === row && !item.always) continue;
      this.rows.set(key, row);
      item.update(row);
    }
  }

  /** @param {Set<string>} wanted */
  removeAllBut(wanted) {
    for (const [key, item] of this.items) {
      if (wanted.has(key)) continue;
      keepFocus(item.node, item.below);
      item.node.remove();
      item.below?.remove();
      this.items.delete(key);
      this.rows.delete(key);
    }
  }

  /** @param {string} key */
  itemOf(key) {
    const item = this.items.get(key) ?? this.makeItem(key);
    this.items.set(key, item);
    return item;
  }
}

/** Previous and next, for lists that are longer than a page. */
export class Pager {
  /**
   * @param {string} name
   * @param {(step: -1 | 1) => void} turn
   */
  constructor(name, turn) {
    this.back = button("‹", `Previous ${name}`, () => turn(-1));
    this.text = make("span", { class: "aq-quiet" });
    this.next = button("›", `More ${name}`, () => turn(1));
    this.node = make("div", { class: "aq-pager" }, this.back, this.text, this.next);
  }

  /**
   * @param {string} text
   * @param {boolean} hasBack
   * @param {boolean} hasNext
   */
  update(text, hasBack, hasNext) {
    setText(this.text, text);
    // A button that is disabled would lose the focus.
    if (!(hasBack || hasNext)) keepFocus(this.node);
    else if (!hasBack && document.activeElement === this.back) this.next.focus();
    else if (!hasNext && document.activeElement === this.next) this.back.focus();
    this.back.disabled = !hasBack;
    this.next.disabled = !hasNext;
    show(this.node, hasBack || hasNext);
  }
}
