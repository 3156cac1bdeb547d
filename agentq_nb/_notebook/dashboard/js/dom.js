// @ts-check
// Making and updating elements. Whatever comes from the kernel is data: it goes into text nodes and attributes, never
// into HTML.

/** @typedef {string | number | boolean | null | undefined} Value */
/** @typedef {Record<string, Value | ((event: Event) => void)>} Attributes */

/**
 * An element. Attributes whose name begins with "on" are listeners.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Attributes} [attributes]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null && value !== false)
      node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children);
  return node;
}

/**
 * @param {Element} node
 * @param {Value} text
 */
export function setText(node, text) {
  const wanted = String(text ?? "");
  if (node.textContent !== wanted) node.textContent = wanted;
}

/**
 * @param {Element} node
 * @param {string} name
 * @param {Value} value Null, undefined and false remove it.
 */
export function setAttribute(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
}

/**
 * @param {Element} node
 * @param {unknown} visible
 */
export const show = (node, visible) => setAttribute(node, "hidden", visible ? null : "");

/** For text of users and agents: it cannot reorder what is beside it. @param {string} [kind] */
export const bdi = (kind) => make("bdi", { class: kind });

/** @param {string} text */
export function bdiOf(text) {
  const node = make("bdi");
  node.textContent = text;
  return node;
}

/**
 * @param {string} label
 * @param {string} name What it does, and to what: for readers who point at it and for those who listen to it.
 * @param {(event: Event) => void} onclick
 * @param {string} [kind]
 */
export function button(label, name, onclick, kind = "") {
  const attributes = { type: "button", class: `aq-button ${kind}`, "aria-label": name, title: name, onclick };
  return make("button", attributes, label);
}

/**
 * Changes what a button says that it does.
 * @param {Element} node
 * @param {string} name
 */
export function rename(node, name) {
  setAttribute(node, "aria-label", name);
  setAttribute(node, "title", name);
}

/**
 * @param {Element} node
 * @param {{ agent: string, actor: string }} row
 */
export function renameStop(node, row) {
  rename(node, `Cancel prompt: stop what ${row.agent} does in ${row.actor} now; its session stays open`);
}

/**
 * The focus stays in the view when the element that had it is about to go: the page around has keys of its own.
 * @param {...(Element | null | undefined)} leaving
 */
export function keepFocus(...leaving) {
  const focused = document.activeElement;
  if (!leaving.some((node) => node?.contains(focused))) return;
  /** @type {HTMLElement} */ (focused?.closest(".aq")).focus({ preventScroll: true });
}
