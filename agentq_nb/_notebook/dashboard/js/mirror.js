// @ts-check
// The page's copy of what the kernel shows, and the conversation that keeps it current.

/** @import { Answer, Changes, Dropped, FromKernel, Patch, Picture, Reply, Request, Snapshot } from "./wire.js" */
/** @import { Sections, Singles, Tables } from "./wire.js" */
/** @import { Model } from "./notebook.js" */

import { number } from "./format.js";
import { QueueHistory } from "./history.js";
import { replaceWidget } from "./notebook.js";

/** Seconds until the picture takes the widget's place. */
const PICTURE_AFTER_END = 1;
/** The same where the kernel may only be restarting. */
const PICTURE_AFTER_LOSS = 5;
/** Seconds without a hand on the page after which it stops asking a quiet kernel. */
const UNUSED = 60;
/** Milliseconds between two requests for a snapshot: the messages on their way to us all have the wrong number. */
const RESYNC_SPACING = 500;

export class Mirror {
  /**
   * @param {Model} model
   * @param {(names: Set<string> | null) => void} changed Gets the names of sections; null is all of them.
   * @param {(error: string) => void} failed
   */
  constructor(model, changed, failed) {
    this.model = model;
    this.changed = changed;
    this.failed = failed;
    /** @type {Sections} */
    this.sections = {};
    this.history = new QueueHistory();
    this.number = 0;
    this.settled = false;
    this.lost = false; // the kernel that had this widget has ended
    this.quiet = false; // nothing keeps the kernel alive, and this page must not either
    this.usedAt = performance.now();
    this.heardAt = performance.now();
    this.askedAt = 0;
    this.clockOffset = 0;
    this.elapsedOffset = 0;
    /** @type {Map<number | null, (reply: Reply) => void>} */
    this.pending = new Map();
    this.lastRequest = 0;
    /** @type {Picture | undefined} */
    this.picture = undefined;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.replacing = undefined;
    this.onMessage = (/** @type {FromKernel} */ message) => this.receive(message);
    this.onLive = () => this.lose();
    model.on("msg:custom", this.onMessage);
    model.on("comm_live_update", this.onLive);
  }

  close() {
    clearTimeout(this.replacing);
    this.model.off("msg:custom", this.onMessage);
    this.model.off("comm_live_update", this.onLive);
  }

  /** The kernel that had this widget has ended, as far as the page can tell. Any later message takes that back. */
  lose() {
    this.lost = true;
    this.changed(new Set());
    this.replaceLater(PICTURE_AFTER_LOSS);
  }

  /** The kernel's wall clock, in seconds since 1970. */
  get now() {
    return Date.now() / 1000 + this.clockOffset;
  }

  /** The kernel's monotonic clock, in seconds. */
  get elapsed() {
    return performance.now() / 1000 + this.elapsedOffset;
  }

  /** Seconds since the kernel last sent anything. */
  get silence() {
    return (performance.now() - this.heardAt) / 1000;
  }

  /** Nothing is asked and nothing comes, so that the server may end a kernel that has nothing to do. */
  get resting() {
    return this.quiet && (performance.now() - this.usedAt) / 1000 > UNUSED;
  }

  /**
   * @template {keyof Tables} Name
   * @param {Name} name
   * @returns {Record<string, Tables[Name]>}
   */
  rows(name) {
    return /** @type {any} */ (this.sections)[name] ?? {};
  }

  /**
   * The row of a section that has only one.
   * @template {keyof Singles} Name
   * @param {Name} name
   * @returns {Singles[Name] | undefined}
   */
  single(name) {
    return /** @type {any} */ (this.sections)[name]?.it;
  }

  /** @param {string} key */
  perMinute(key) {
    return this.history.perMinute(key, this.elapsed);
  }

  /** @param {string} key */
  timeLeft(key) {
    return this.history.timeLeft(key, this.rows("queues")[key], this.elapsed);
  }

  // --- to the kernel ---

  /** @param {unknown} message */
  send(message) {
    try {
      this.model.send(message);
    } catch {
      this.lose();
    }
  }

  /** The page is in use. */
  use() {
    const rested = this.resting;
    this.usedAt = performance.now();
    if (rested) this.watch();
  }

  /** Says that the page is open. Where `have` is not the kernel's own number, it answers with a snapshot. */
  watch(have = this.number) {
    this.askedAt = performance.now();
    this.send({ type: "watch", have });
  }

  /** The page missed something. */
  resync() {
    if (performance.now() - this.askedAt > RESYNC_SPACING) this.watch(0);
  }

  /**
   * @param {Request} message
   * @returns {Promise<Reply>}
   */
  ask(message) {
    const request = ++this.lastRequest;
    return new Promise((resolve) => {
      this.pending.set(request, resolve);
      this.send({ ...message, request });
    });
  }

  // --- from the kernel ---

  /** @param {FromKernel} message */
  receive(message) {
    this.heardAt = performance.now();
    this.lost = false;
    if (message.type === "answer") return this.receiveAnswer(message);
    if (message.time) this.clockOffset = message.time - Date.now() / 1000;
    if (message.elapsed) this.elapsedOffset = message.elapsed - performance.now() / 1000;
    if (message.settled) this.settled = true;
    if (message.number !== undefined) this.quiet = !!message.quiet;
    if (message.type === "picture") this.picture = message;
    else if (message.type === "dropped") this.refusePending(message);
    else if (message.type === "snapshot") this.replace(message);
    else if (message.type === "patch" && message.number === this.number + 1) this.apply(message);
    else if (message.number !== this.number) this.resync();
    if (message.settled) {
      this.changed(new Set());
      this.replaceLater(PICTURE_AFTER_END);
    }
  }

  /** @param {Answer} answer */
  receiveAnswer(answer) {
    this.pending.get(answer.request)?.(answer);
    this.pending.delete(answer.request);
  }

  /**
   * The kernel says how many it dropped, not which: every request without an answer may be made once more.
   * @param {Dropped} message
   */
  refusePending({ count }) {
    const dropped = `${number(count)} of its requests were dropped`;
    const error = `This page asked more than the kernel listens to: ${dropped}. Try again.`;
    for (const resolve of this.pending.values()) resolve({ error });
    this.pending.clear();
    this.failed(error);
  }

  /** @param {Snapshot} snapshot */
  replace(snapshot) {
    this.sections = snapshot.sections;
    this.number = snapshot.number;
    this.history.replace(snapshot.history);
    this.changed(null);
  }

  /** @param {Patch} patch */
  apply(patch) {
    this.number = patch.number;
    const names = applyChanges(this.sections, patch);
    const queues = this.rows("queues");
    for (const key of Object.keys(patch.set?.queues ?? {})) this.history.record(key, queues[key], patch.elapsed);
    this.changed(names);
  }

  /**
   * Not at once, since the front end may be about to do it itself, and a kernel that was lost may speak up again.
   * @param {number} seconds
   */
  replaceLater(seconds) {
    this.replacing ??= setTimeout(() => {
      this.replacing = undefined;
      if (this.picture && (this.lost || this.settled)) replaceWidget(this.model, this.picture);
    }, seconds * 1000);
  }
}

/**
 * Makes the later state of the earlier one, in place. A row that changes becomes a new object, which is how views tell.
 * @param {Sections} state
 * @param {Changes} changes
 * @returns {Set<string>} The names of the sections that changed.
 */
export function applyChanges(state, { set = {}, more = {}, gone = {} }) {
  const sections = /** @type {Record<string, Record<string, Record<string, any>>>} */ (state);
  for (const [name, rows] of Object.entries(set)) {
    const section = (sections[name] ??= {});
    for (const [key, fields] of Object.entries(rows)) section[key] = { ...section[key], ...fields };
  }
  for (const [name, rows] of Object.entries(more))
    for (const [key, fields] of Object.entries(rows)) {
      const row = { ...sections[name][key] };
      for (const [field, text] of Object.entries(fields)) row[field] += text;
      sections[name][key] = row;
    }
  for (const [name, keys] of Object.entries(gone)) for (const key of keys) delete sections[name]?.[key];
  return new Set([...Object.keys(set), ...Object.keys(more), ...Object.keys(gone)]);
}
