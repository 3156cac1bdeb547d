// Words for numbers and times.

import assert from "node:assert/strict";
import test from "node:test";

import * as format from "../../../../agentq_nb/_notebook/dashboard/js/format.js";

const ROW = { completed: 1200, dead: 34, ready: 5, delayed: 6, running: 1 };

test("a number is rounded and grouped, and nothing counts as 0", () => {
  assert.equal(format.number(1234567.6), "1,234,568");
  assert.equal(format.number(undefined), "0");
  assert.equal(format.number(null), "0");
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
