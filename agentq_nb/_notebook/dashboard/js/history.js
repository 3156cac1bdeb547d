// @ts-check
// The recent past of each queue: what its line, its rate and the time left are made of.

/** @import { Point, QueueRow } from "./wire.js" */

/** Seconds that are kept of each queue. */
export const HISTORY = 300;
/** Seconds between two points. */
const SPACING = 2;

export class QueueHistory {
  constructor() {
    /** @type {Map<string, Point[]>} */
    this.points = new Map();
  }

  /** @param {Record<string, Point[]>} [history] */
  replace(history = {}) {
    this.points = new Map(Object.entries(history));
  }

  /** The points of a queue, oldest first. @param {string} key */
  of(key) {
    return this.points.get(key) ?? [];
  }

  /**
   * Takes in how a queue is now. Only changes are kept, since a line is level until the next one.
   * @param {string} key
   * @param {QueueRow} row
   * @param {number} elapsed
   */
  record(key, row, elapsed) {
    const points = this.of(key);
    this.points.set(key, points);
    const last = points.at(-1);
    const depth = row.ready + row.delayed + row.blocked + row.running;
    if (last && last[1] === depth && last[2] === row.handled) return;
    if (points.length > 1 && elapsed - points[points.length - 2][0] < SPACING) points.pop();
    points.push([elapsed, depth, row.handled]);
    while (points.length > 2 && points[1][0] < elapsed - HISTORY) points.shift();
  }

  /**
   * Messages handled in the last minute.
   * @param {string} key
   * @param {number} elapsed
   */
  perMinute(key, elapsed) {
    const points = this.of(key);
    if (!points.length) return 0;
    let before = points[0];
    for (const point of points) {
      if (point[0] > elapsed - 60) break;
      before = point;
    }
    return Math.max(0, points[points.length - 1][2] - before[2]);
  }

  /**
   * Seconds until what is due in a queue is done, at its pace since it last had nothing to do; null where there is no
   * pace to go by.
   * @param {string} key
   * @param {QueueRow | undefined} row
   * @param {number} elapsed
   */
  timeLeft(key, row, elapsed) {
    const points = this.of(key);
    const due = row ? row.ready + row.running : 0;
    if (!due || row?.paused || !points.length) return null;
    const emptied = points.findLastIndex((point) => point[1] === 0);
    const begun = points[Math.min(points.length - 1, Math.max(0, emptied))];
    const handled = points[points.length - 1][2] - begun[2];
    const worked = elapsed - (points[emptied + 1]?.[0] ?? begun[0]);
    return handled > 0 && worked >= 1 ? (due * worked) / handled : null;
  }
}
