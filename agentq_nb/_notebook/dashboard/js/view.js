// @ts-check
// What every view has: a mark that says whether the kernel is alive, and a line for what happened.

/** @import { Action } from "./wire.js" */
/** @import { Model } from "./notebook.js" */

import { make, setAttribute, setText } from "./dom.js";
import { duration } from "./format.js";
import { Mirror } from "./mirror.js";

/**
 * Something in a view that shows sections.
 * @typedef {{ update: () => void }} Part
 */

/** Milliseconds between two looks at the state of the connection. */
const TICK = 500;
/** Seconds of silence after which the kernel counts as busy: it sends a heartbeat each second. */
const BUSY_AFTER = 3.2;
/** Seconds of silence after which it may as well be gone. */
const GONE_AFTER = 90;
/** Seconds between two messages that say that the page is still open. */
const WATCH_EVERY = 30;
/** Milliseconds between two copies of the state for front ends that save widgets. */
const SAVE_EVERY = 5000;
const USES = ["pointermove", "pointerdown", "keydown", "focusin"];

export class View {
  /**
   * @param {Model} model
   * @param {HTMLElement} el
   * @param {string} kind
   * @param {string} name
   */
  constructor(model, el, kind, name) {
    this.mirror = new Mirror(
      model,
      (names) => this.changed(names),
      (error) => this.say(error, true),
    );
    /** @type {Set<string>} The sections to draw again; "*" is all of them. */
    this.dirty = new Set();
    this.lastId = 0;
    this.savedAt = 0;
    /** @type {number | undefined} */
    this.frame = undefined;
    this.liveness = make("span", { class: "aq-heart" });
    this.line = make("div", { class: "aq-line-of-status", role: "status", "aria-live": "polite" });
    this.root = make("div", {
      class: "aq",
      role: "region",
      "aria-label": name,
      tabindex: "-1",
      "data-agentq": kind,
      "data-state": "opening",
    });
    el.append(this.root);
    this.timer = setInterval(() => this.tick(), TICK);
    this.used = () => this.mirror.use();
    for (const event of USES) document.addEventListener(event, this.used, { passive: true, capture: true });
  }

  /** To be called once the view has all of its elements. */
  start() {
    this.root.append(this.line);
    const saved = this.mirror.model.get("saved");
    if (saved && Object.keys(saved).length) {
      this.mirror.sections = structuredClone(saved);
      this.changed(null);
    }
    this.mirror.watch(0);
    this.tick();
  }

  close() {
    clearInterval(this.timer);
    for (const event of USES) document.removeEventListener(event, this.used, { capture: true });
    if (this.frame !== undefined) cancelAnimationFrame(this.frame);
    this.mirror.close();
  }

  // --- what a view says of itself ---

  /**
   * The parts that show each section.
   * @returns {Record<string, Part[]>}
   */
  parts() {
    return {};
  }

  /**
   * The parts that show ages, which grow without any message.
   * @returns {Part[]}
   */
  aging() {
    return [];
  }

  /** The text of the liveness mark once nothing changes any more. */
  ended() {
    return "host stopped";
  }

  // --- drawing ---

  /** @param {Set<string> | null} names The sections that changed; null is all. */
  changed(names) {
    for (const name of names ?? ["*"]) this.dirty.add(name);
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.frame = undefined;
    const dirty = this.dirty;
    this.dirty = new Set();
    for (const [name, parts] of Object.entries(this.parts()))
      if (dirty.has("*") || dirty.has(name)) for (const part of parts) part.update();
    this.showState();
  }

  tick() {
    const { mirror } = this;
    const sinceWatch = (performance.now() - mirror.askedAt) / 1000;
    if (!mirror.settled && !mirror.resting && sinceWatch > WATCH_EVERY) mirror.watch();
    this.showState();
    if (document.hidden || !this.root.isConnected) return;
    if (this.root.dataset.state === "live") for (const part of this.aging()) part.update();
    if (performance.now() - this.savedAt > SAVE_EVERY && mirror.number) {
      this.savedAt = performance.now();
      mirror.model.set("saved", mirror.sections);
    }
  }

  showState() {
    const [state, text] = this.state();
    setAttribute(this.root, "data-state", state);
    const empty = !Object.keys(this.mirror.sections).length;
    setAttribute(this.root, "data-blank", empty ? "" : null);
    setText(this.liveness, text);
  }

  /** @returns {[name: string, text: string]} */
  state() {
    const { mirror } = this;
    const silent = duration(mirror.silence);
    if (mirror.settled) return ["ended", this.ended()];
    if (mirror.lost) return ["gone", "kernel gone – run this cell again"];
    if (mirror.resting) return ["resting", "resting while this page is not used"];
    if (mirror.silence > GONE_AFTER) return ["busy", `no word from the kernel for ${silent}: busy or gone`];
    if (mirror.silence > BUSY_AFTER) return ["busy", `kernel busy for ${silent}`];
    if (!mirror.number) return ["opening", "connecting"];
    return ["live", "live"];
  }

  // --- what people do ---

  /**
   * @param {string} text
   * @param {boolean} [bad]
   */
  say(text, bad = false) {
    setText(this.line, text);
    setAttribute(this.line, "class", bad ? "aq-line-of-status aq-bad" : "aq-line-of-status");
  }

  /**
   * Has the kernel do what a button stands for, and says how it went. The button is not disabled meanwhile, since it
   * would lose the focus.
   * @param {Event} event
   * @param {Action} action
   */
  async act(event, action) {
    const pressed = /** @type {Element} */ (event.currentTarget);
    if (pressed.getAttribute("aria-disabled")) return;
    setAttribute(pressed, "aria-disabled", "true");
    const reply = await this.mirror.ask({ type: "do", ...action });
    setAttribute(pressed, "aria-disabled", null);
    this.say(reply.error ?? reply.note ?? "", Boolean(reply.error));
  }
}
