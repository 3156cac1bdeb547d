// @ts-check
// Words for numbers and times.

/** @import { QueueRow } from "./wire.js" */

/** @param {number | null | undefined} value */
export const number = (value) => Math.round(value ?? 0).toLocaleString("en");

/** @param {number} count */
export const messageCount = (count) => `${number(count)} message${count === 1 ? "" : "s"}`;

/**
 * A length of time by its two largest units; empty where there is none.
 * @param {number | null | undefined} seconds
 */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

/**
 * The reader's time of day.
 * @param {number | null | undefined} time Seconds since 1970.
 */
export const timeOfDay = (time) => (time ? new Date(time * 1000).toLocaleTimeString([], { hour12: false }) : "");

/** Messages that are completed or failed. @param {QueueRow} row */
export const doneOf = (row) => (row.completed ?? 0) + row.dead;

/** @param {QueueRow} row */
export const totalOf = (row) => doneOf(row) + row.ready + row.delayed + row.running;

/**
 * @param {number} done
 * @param {number} total
 */
export const progress = (done, total) => (total ? `${number(done)} of ${number(total)}` : "–");

/**
 * Which rows a page of a list shows.
 * @param {number} offset
 * @param {number} end
 */
export const range = (offset, end) => `${offset + 1}–${end}`;
