// Words for numbers and times.

import assert from "node:assert/strict";
import test from "node:test";

import * as format from "../../../../agentq_nb/_notebook/dashboard/js/format.js";

const ROW = { completed: 1200, dead: 34, ready: 5, delayed: 4, blocked: 2, running: 1 };

test("a number is rounded and grouped, and nothing counts as 0", () => {
  assert.equal(format.number(1234567.6), "1,234,568");
  assert.equal(format.number(undefined), "0");
  assert.equal(format.number(null), "0");
});

test("money has as many places as it needs", () => {
  const expected = { 0: "$0.00", 20: "$20.00", 1234.5: "$1,234.50", 0.0031: "$0.0031" };
  for (const [usd, text] of Object.entries(expected)) assert.equal(format.money(Number(usd)), text);
});

test("a duration is told by its two largest units", () => {
  const expected = { 0: "0 s", 59.9: "59 s", 60: "1 min 0 s", 3599: "59 min 59 s", 3600: "1 h 0 min" };
  Object.assign(expected, { 86399: "23 h 59 min", 86400: "1 d 0 h", 266400: "3 d 2 h" });
  for (const [seconds, text] of Object.entries(expected)) assert.equal(format.duration(Number(seconds)), text);
});

test("a duration is never negative, since the two clocks differ a little", () => {
  assert.equal(format.duration(-3), "0 s");
});

test("no duration is no text", () => {
  assert.equal(format.duration(null), "");
  assert.equal(format.duration(undefined), "");
});

test("a time of day has 24 hours, and no time is no text", () => {
  const afternoon = new Date(2026, 0, 2, 15, 4, 5);
  assert.match(format.timeOfDay(afternoon.getTime() / 1000), /^15:04:05$/);
  assert.equal(format.timeOfDay(null), "");
});

test("messages are counted in words", () => {
  assert.equal(format.messageCount(0), "0 messages");
  assert.equal(format.messageCount(1), "1 message");
  assert.equal(format.messageCount(1000), "1,000 messages");
});

test("failed messages are done, and what waits or runs is part of the total", () => {
  assert.equal(format.doneOf(ROW), 1234);
  assert.equal(format.totalOf(ROW), 1246);
  assert.equal(format.progress(format.doneOf(ROW), format.totalOf(ROW)), "1,234 of 1,246");
});

test("a queue whose completed messages are unknown counts the failed ones", () => {
  assert.equal(format.doneOf({ ...ROW, completed: null }), 34);
});

test("there is no progress in nothing", () => {
  assert.equal(format.progress(0, 0), "–");
});

test("rows are counted from one", () => {
  assert.equal(format.range(20, 40), "21–40");
});

const BATCH = { total: 30, done: 17, failed: 1, cancelled: 0, running: 3, waiting: 9, per_minute: 12.46 };

test("a batch is told by its counts, its rate and the time left, without what is nothing", () => {
  assert.equal(format.figuresOf(BATCH, false), "17 of 30 done · 1 failed · 3 running · 9 waiting · 12.5 / min · 57 s left");
  const finished = { ...BATCH, done: 27, cancelled: 2, running: 0, waiting: 0 };
  assert.equal(format.figuresOf(finished, false), "27 of 30 done · 1 failed · 2 cancelled");
  assert.ok(format.isFinished(finished));
  assert.equal(format.settledOf(finished), 30);
});

test("a batch that is held, or has no rate, has no time left", () => {
  const counts = "17 of 30 done · 1 failed · 3 running · 9 waiting";
  assert.equal(format.figuresOf(BATCH, true), counts);
  assert.equal(format.figuresOf({ ...BATCH, per_minute: 0 }, false), counts);
});

test("a batch that is nearly done has at least a second left", () => {
  const last = { ...BATCH, running: 1, waiting: 0, per_minute: 6000 };
  assert.match(format.figuresOf(last, false), /6,000 \/ min · 1 s left$/);
});

const FREE = { stopped: false, paused: false, paused_until: null, limit: null, next_start: null };

test("what holds a queue is told with its countdown, a pause before a limit", () => {
  assert.equal(format.holdOf(FREE, 100), "");
  assert.equal(format.holdOf({ ...FREE, limit: "limit api", next_start: 112 }, 100), "waits for limit api, 12 s left");
  assert.equal(format.holdOf({ ...FREE, limit: "its limit" }, 100), "waits for its limit");
  const paused = { ...FREE, limit: "limit api", paused: true, paused_until: 343 };
  assert.equal(format.holdOf(paused, 100), "paused, 4 min 3 s left");
  assert.equal(format.holdOf({ ...FREE, paused: true }, 100), "paused");
  assert.equal(format.holdOf({ ...FREE, paused: true, stopped: true }, 100), "stopped");
});

const LIMIT = { count: 20, declared_count: 20, per: 60, declared_per: 60, used: 20, next_start: null, paused_until: null };

test("a limit is told as it is and, where a user changed it, as it is declared", () => {
  assert.equal(format.allowedBy(LIMIT), "20 per 60 s");
  assert.equal(format.allowedBy({ ...LIMIT, declared_count: 50 }), "20 (declared 50) per 60 s");
  assert.equal(format.allowedBy({ ...LIMIT, per: 0.5 }), "20 per 0.5 s (declared 60 s)");
  assert.equal(format.allowedBy({ ...LIMIT, per: 18000, declared_per: 18000 }), "20 per 5 h");
  assert.equal(format.allowedBy({ ...LIMIT, per: 600, declared_per: 630 }), "20 per 10 min (declared 10 min 30 s)");
  assert.equal(format.allowedBy({ ...LIMIT, per: null, declared_per: null, declared_count: 5 }), "20 (declared 5) at a time");
});

test("the next start of a limit is a countdown, now, at once, or when another one ends", () => {
  assert.equal(format.nextStartOf({ ...LIMIT, next_start: 112 }, 100), "in 12 s");
  assert.equal(format.nextStartOf({ ...LIMIT, next_start: 99 }, 100), "now");
  assert.equal(format.nextStartOf({ ...LIMIT, used: 19 }, 100), "at once");
  assert.equal(format.nextStartOf({ ...LIMIT, per: null }, 100), "when one ends");
  assert.equal(format.nextStartOf({ ...LIMIT, paused_until: 343 }, 100), "in 4 min 3 s");
  assert.equal(format.nextStartOf({ ...LIMIT, paused_until: 99 }, 100), "one at a time");
});
