// @ts-check
// Words for numbers and times.

/** @import { BatchRow, LimitRow, QueueRow } from "./wire.js" */

/** @param {number | null | undefined} value */
export const number = (value) => Math.round(value ?? 0).toLocaleString("en");

/** US dollars, with more places where cents are too coarse. @param {number} usd */
export const money = (usd) => `$${usd.toLocaleString("en", usd >= 0.1 || !usd ? { minimumFractionDigits: 2, maximumFractionDigits: 2 } : { maximumSignificantDigits: 2 })}`;

/** @param {number} count */
export const messageCount = (count) => `${number(count)} message${count === 1 ? "" : "s"}`;

/** @param {number} count */
export const rowCount = (count) => `${number(count)} row${count === 1 ? "" : "s"}`;

/** @param {number} count */
export const queueCount = (count) => `${number(count)} queue${count === 1 ? "" : "s"}`;

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
export const totalOf = (row) => doneOf(row) + row.ready + row.delayed + row.blocked + row.running;

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

// --- batches ---

/** @param {BatchRow} row */
export const settledOf = (row) => row.done + row.failed + row.cancelled;

/** @param {BatchRow} row */
export const isFinished = (row) => !row.running && !row.waiting;

/** A rate without digits that mean nothing. @param {number} rate */
const threeDigits = (rate) => Number(rate.toPrecision(3)).toLocaleString("en");

/**
 * How far a batch is.
 * @param {BatchRow} row
 * @param {boolean} held Nothing of it is started now, so that its pace tells nothing about its end.
 */
export function figuresOf(row, held) {
  const parts = [`${progress(row.done, row.total)} done`];
  const { failed, cancelled, running, waiting } = row;
  for (const [name, count] of Object.entries({ failed, cancelled, running, waiting }))
    if (count) parts.push(`${number(count)} ${name}`);
  if (isFinished(row) || held || !row.per_minute) return parts.join(" · ");
  parts.push(`${threeDigits(row.per_minute)} / min`);
  parts.push(`${duration(Math.max(1, (60 * (row.running + row.waiting)) / row.per_minute))} left`);
  return parts.join(" · ");
}

// --- limits ---

/**
 * What keeps the messages of a queue from starting; empty if nothing does.
 * @param {Pick<QueueRow, "stopped" | "paused" | "paused_until" | "limit" | "next_start">} row
 * @param {number} now
 */
export function holdOf(row, now) {
  const left = (/** @type {number | null} */ end) => (end ? `, ${duration(Math.max(0, end - now))} left` : "");
  if (row.stopped) return "stopped";
  if (row.paused) return `paused${left(row.paused_until)}`;
  return row.limit === null ? "" : `waits for ${row.limit}${left(row.next_start)}`;
}

/**
 * How many messages may start, or be at work at once; also as declared, where a user has changed it.
 * @param {LimitRow} row
 */
export function allowedBy(row) {
  const declared = row.count === row.declared_count ? "" : ` (declared ${number(row.declared_count)})`;
  if (row.per === null) return `${number(row.count)}${declared} at a time`;
  const before = row.per === row.declared_per ? "" : ` (declared ${period(row.declared_per)})`;
  return `${number(row.count)}${declared} per ${period(row.per)}${before}`;
}

/** A period, without units of which there are none: "10 min". @param {number | null} length */
const period = (length) =>
  length === null || length >= 120 ? duration(length).replace(/ 0 \w+$/, "") : `${Number(length.toPrecision(3))} s`;

/**
 * When a limit lets the next message start.
 * @param {LimitRow} row
 * @param {number} now
 */
export function nextStartOf(row, now) {
  const at = row.paused_until ?? row.next_start;
  if (at !== null && at > now) return `in ${duration(at - now)}`;
  if (row.paused_until !== null) return "one at a time";
  if (row.next_start !== null) return "now";
  return row.used < row.count ? "at once" : "when one ends";
}
