// The recent past of a queue: what is kept, the rate, and the time left.

import assert from "node:assert/strict";
import test from "node:test";

import { HISTORY, QueueHistory } from "../../../../agentq_nb/_notebook/dashboard/js/history.js";

/** A queue in which so many wait, and so many were handled. */
const queue = (ready, handled, more = {}) => ({ ready, delayed: 0, blocked: 0, running: 0, handled, paused: false, ...more });

function recorded(...samples) {
  const history = new QueueHistory();
  for (const [elapsed, ready, handled] of samples) history.record("a", queue(ready, handled), elapsed);
  return history;
}

test("only changes are kept", () => {
  assert.deepEqual(recorded([0, 3, 0], [5, 3, 0], [9, 2, 1]).of("a"), [[0, 3, 0], [9, 2, 1]]);
});

test("changes that follow each other closely become one point", () => {
  const history = recorded([0, 0, 0], [1, 1, 0], [1.5, 2, 0], [3, 3, 0]);
  assert.deepEqual(history.of("a"), [[0, 0, 0], [1.5, 2, 0], [3, 3, 0]]);
});

test("of what is older than the history one point is left, where the line begins", () => {
  const history = recorded([0, 1, 0], [10, 2, 0], [20, 3, 0], [HISTORY + 15, 4, 0]);
  assert.deepEqual(history.of("a"), [[10, 2, 0], [20, 3, 0], [HISTORY + 15, 4, 0]]);
});

test("what the kernel recalls takes the place of all before", () => {
  const history = recorded([0, 1, 0]);
  history.replace({ b: [[4, 1, 2]] });
  assert.deepEqual([history.of("a"), history.of("b")], [[], [[4, 1, 2]]]);
});

test("the rate counts what was handled in the last minute", () => {
  const history = recorded([0, 9, 0], [30, 8, 1], [90, 5, 4], [100, 3, 6]);
  assert.equal(history.perMinute("a", 100), 5);
  assert.equal(history.perMinute("a", 151), 2);
  assert.equal(history.perMinute("a", 1000), 0);
  assert.equal(history.perMinute("unknown", 100), 0);
});

test("the time left goes by the pace since the queue was empty", () => {
  const history = recorded([0, 0, 0], [100, 20, 0], [110, 10, 10]);
  assert.equal(history.timeLeft("a", queue(10, 10), 110), 10);
});

test("delayed messages are not due", () => {
  const history = recorded([0, 0, 0], [100, 20, 0], [110, 10, 10]);
  assert.equal(history.timeLeft("a", queue(10, 10, { delayed: 1000 }), 110), 10);
});

test("a queue that has no work, no pace, or is paused shows no time left", () => {
  const history = recorded([0, 0, 0], [100, 20, 0], [110, 10, 10]);
  assert.equal(history.timeLeft("a", queue(0, 10), 110), null);
  assert.equal(history.timeLeft("a", queue(10, 10, { paused: true }), 110), null);
  assert.equal(history.timeLeft("a", undefined, 110), null);
  assert.equal(history.timeLeft("unknown", queue(10, 10), 110), null);
  assert.equal(recorded([0, 5, 0]).timeLeft("a", queue(5, 0), 50), null);
});
