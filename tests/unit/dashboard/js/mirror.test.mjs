// The page's copy of what the kernel shows: what it makes of messages, and what it says itself.

import assert from "node:assert/strict";
import test from "node:test";

import { Mirror, applyChanges } from "../../../../agentq_nb/_notebook/dashboard/js/mirror.js";

const VIEW = "application/vnd.jupyter.widget-view+json";

/** A widget's model without a front end: it keeps what is sent, and has listeners. */
class FakeModel {
  constructor() {
    this.sent = [];
    this.listeners = {};
    this.broken = false;
  }

  on(event, listener) {
    this.listeners[event] = listener;
  }

  off(event, listener) {
    assert.equal(this.listeners[event], listener);
    delete this.listeners[event];
  }

  send(message) {
    if (this.broken) throw new Error("The comm is closed.");
    this.sent.push(message);
  }
}

/** A mirror on clocks that the test moves, and what it reported. */
function opened(t) {
  const model = new FakeModel();
  const at = { ms: 1_000_000, model, changes: [], errors: [], timers: [] };
  t.mock.method(performance, "now", () => at.ms);
  t.mock.method(Date, "now", () => at.ms + 5_000_000);
  t.mock.method(globalThis, "setTimeout", (run, delay) => at.timers.push({ run, delay }));
  at.mirror = new Mirror(model, (names) => at.changes.push(names && [...names].sort()), (error) => at.errors.push(error));
  at.receive = (type, number, more = {}) => model.listeners["msg:custom"]({ type, number, ...more });
  return at;
}

const queue = (ready, handled) => ({ ready, delayed: 0, blocked: 0, running: 0, handled, paused: false });

/** The same with a snapshot of one queue, numbered 1. */
function filled(t) {
  const at = opened(t);
  at.receive("snapshot", 1, { sections: { queues: { a: queue(1, 0) } }, history: { a: [[0, 1, 0]] }, elapsed: 10 });
  at.changes.length = 0;
  return at;
}

// --- changes ---

test("set fields are changed, the others stay, and the row is a new object", () => {
  const row = { ready: 1, name: "a" };
  const sections = { queues: { a: row } };
  assert.deepEqual(applyChanges(sections, { set: { queues: { a: { ready: 2 } } } }), new Set(["queues"]));
  assert.deepEqual(sections, { queues: { a: { ready: 2, name: "a" } } });
  assert.notEqual(sections.queues.a, row);
  assert.deepEqual(row, { ready: 1, name: "a" });
});

test("a section and a row that are new are made", () => {
  const sections = {};
  applyChanges(sections, { set: { blocks: { 7: { text: "Hello" } } } });
  assert.deepEqual({ ...sections.blocks }, { 7: { text: "Hello" } });
});

test("a key that is a name of JavaScript's own is a key like any other", (t) => {
  const at = filled(t);
  at.receive("patch", 2, { set: { batches: JSON.parse('{"__proto__": {"done": 1}, "constructor": {"done": 2}}') } });
  assert.deepEqual(Object.keys(at.mirror.rows("batches")), ["__proto__", "constructor"]);
  at.receive("patch", 3, { set: { batches: JSON.parse('{"__proto__": {"done": 7}}') } });
  assert.equal(at.mirror.rows("batches")["__proto__"].done, 7);
  at.receive("patch", 4, { gone: { batches: ["__proto__"] } });
  assert.deepEqual(Object.keys(at.mirror.rows("batches")), ["constructor"]);
  at.receive("snapshot", 5, { sections: JSON.parse('{"batches": {}}') });
  at.receive("patch", 6, { set: { batches: JSON.parse('{"__proto__": {"done": 9}}') } });
  assert.deepEqual(Object.keys(at.mirror.rows("batches")), ["__proto__"]);
});

test("text that grew is appended, in a new object", () => {
  const row = { text: "so ", type: "text" };
  const sections = { blocks: { 1: row } };
  applyChanges(sections, { more: { blocks: { 1: { text: "far" } } } });
  assert.deepEqual(sections, { blocks: { 1: { text: "so far", type: "text" } } });
  assert.notEqual(sections.blocks[1], row);
});

test("rows that are gone are removed, also from sections that are not known", () => {
  const sections = { blocks: { 1: {}, 2: {} } };
  assert.deepEqual(applyChanges(sections, { gone: { blocks: ["1"], other: ["x"] } }), new Set(["blocks", "other"]));
  assert.deepEqual(sections, { blocks: { 2: {} } });
});

// --- the conversation ---

test("a snapshot takes the place of everything", (t) => {
  const at = opened(t);
  at.receive("snapshot", 4, { sections: { host: { it: { store: "s" } } }, history: { a: [[1, 2, 3]] } });
  assert.deepEqual(at.mirror.single("host"), { store: "s" });
  assert.deepEqual(at.mirror.rows("queues"), {});
  assert.deepEqual(at.mirror.history.of("a"), [[1, 2, 3]]);
  assert.deepEqual(at.changes, [null]);
  at.mirror.watch();
  assert.deepEqual(at.model.sent, [{ type: "watch", have: 4 }]);
});

test("the next patch is applied, and the queue's history goes on", (t) => {
  const at = filled(t);
  at.receive("patch", 2, { set: { queues: { a: { ready: 3, handled: 5 } } }, elapsed: 12 });
  assert.equal(at.mirror.rows("queues").a.ready, 3);
  assert.deepEqual(at.mirror.history.of("a"), [[0, 1, 0], [12, 3, 5]]);
  assert.deepEqual(at.changes, [["queues"]]);
  assert.deepEqual(at.model.sent, []);
});

for (const [type, number] of [["patch", 3], ["patch", 1.5], ["heartbeat", 2]])
  test(`a ${type} numbered ${number} after 1 leads to a snapshot, asked for once`, (t) => {
    const at = filled(t);
    at.receive(type, number, { set: { queues: { a: { ready: 9 } } } });
    at.ms += 500;
    at.receive(type, number);
    assert.equal(at.mirror.rows("queues").a.ready, 1);
    assert.deepEqual(at.model.sent, [{ type: "watch", have: 0 }]);
    at.ms += 1;
    at.receive(type, number);
    assert.equal(at.model.sent.length, 2);
  });

test("a heartbeat ends the silence and changes nothing", (t) => {
  const at = filled(t);
  at.ms += 4000;
  assert.equal(at.mirror.silence, 4);
  at.receive("heartbeat", 1);
  assert.equal(at.mirror.silence, 0);
  assert.deepEqual([at.changes, at.model.sent], [[], []]);
});

test("the kernel's clocks are followed, whatever the page's own show", (t) => {
  const at = opened(t);
  at.receive("heartbeat", 0, { time: 77, elapsed: 33 });
  at.ms += 2000;
  assert.ok(Math.abs(at.mirror.now - 79) < 1e-6);
  assert.ok(Math.abs(at.mirror.elapsed - 35) < 1e-6);
});

test("each answer goes to its own request", async (t) => {
  const { mirror, model, receive } = opened(t);
  const first = mirror.ask({ type: "show", message: "m" });
  const second = mirror.ask({ type: "do", action: "cancel", message: "m" });
  assert.deepEqual(model.sent, [
    { type: "show", message: "m", request: 1 },
    { type: "do", action: "cancel", message: "m", request: 2 },
  ]);
  receive("answer", undefined, { request: 2, note: "Cancelled." });
  receive("answer", undefined, { request: 1, error: "It is gone." });
  assert.equal((await first).error, "It is gone.");
  assert.equal((await second).note, "Cancelled.");
  assert.equal(mirror.pending.size, 0);
});

test("when requests were dropped, all that wait for an answer get an error", async (t) => {
  const at = opened(t);
  const asked = [at.mirror.ask({ type: "show", message: "m" }), at.mirror.ask({ type: "show", message: "n" })];
  at.receive("dropped", 0, { count: 1200 });
  for (const { error } of await Promise.all(asked)) assert.match(error, /1,200 of its requests were dropped/);
  assert.equal(at.errors.length, 1);
  assert.equal(at.mirror.pending.size, 0);
});

// --- a kernel that is quiet, or has ended ---

test("a page that nobody uses stops asking a quiet kernel, and asks again at the first use", (t) => {
  const at = filled(t);
  at.receive("heartbeat", 1, { quiet: true });
  assert.equal(at.mirror.resting, false);
  at.ms += 60_001;
  assert.equal(at.mirror.resting, true);
  at.mirror.use();
  assert.equal(at.mirror.resting, false);
  assert.deepEqual(at.model.sent, [{ type: "watch", have: 1 }]);
  at.mirror.use();
  assert.equal(at.model.sent.length, 1);
});

test("a page never rests while something keeps the kernel alive", (t) => {
  const at = filled(t);
  at.ms += 600_000;
  assert.equal(at.mirror.resting, false);
});

/** What is in the notebook: outputs as JupyterLab's model has them. */
function notebook(model, ...outputs) {
  const cell = { outputs: { length: outputs.length, get: (index) => ({ toJSON: () => outputs[index] }) } };
  cell.outputs.set = (index, output) => (outputs[index] = output);
  model.widget_manager = { context: { model: { cells: [{}, cell] } } };
  return outputs;
}

test("once nothing changes any more, the picture takes the widget's place and no other's", (t) => {
  const at = filled(t);
  const mine = { output_type: "display_data", data: { [VIEW]: { model_id: "w" } } };
  const other = { output_type: "display_data", data: { [VIEW]: { model_id: "x" } } };
  const outputs = notebook(at.model, mine, { output_type: "stream" }, other);
  at.receive("picture", 1, { model: "w", data: { "text/html": "<p>" } });
  at.receive("heartbeat", 1, { settled: true });
  assert.equal(at.mirror.settled, true);
  assert.deepEqual(at.timers.map(({ delay }) => delay), [1000]);
  at.timers[0].run();
  const picture = { output_type: "display_data", data: { "text/html": "<p>" } };
  assert.deepEqual(outputs, [picture, { output_type: "stream" }, other]);
});

test("a kernel that is lost and speaks up again keeps its widget", (t) => {
  const at = filled(t);
  const mine = { output_type: "display_data", data: { [VIEW]: { model_id: "w" } } };
  const outputs = notebook(at.model, mine);
  at.receive("picture", 1, { model: "w", data: { "text/html": "<p>" } });
  at.model.listeners.comm_live_update();
  assert.equal(at.mirror.lost, true);
  assert.deepEqual(at.timers.map(({ delay }) => delay), [5000]);
  at.receive("heartbeat", 1);
  at.timers[0].run();
  assert.equal(at.mirror.lost, false);
  assert.deepEqual(outputs, [mine]);
});

test("where the notebook cannot be reached, the widget stays and nothing breaks", (t) => {
  const at = filled(t);
  const said = t.mock.method(console, "debug", () => {});
  at.receive("picture", 1, { model: "w", data: {} });
  at.receive("heartbeat", 1, { settled: true });
  at.timers[0].run();
  assert.equal(said.mock.callCount(), 1);
});

test("a message that cannot be sent means that the kernel is lost", (t) => {
  const at = filled(t);
  at.model.broken = true;
  at.mirror.watch();
  assert.equal(at.mirror.lost, true);
});

test("a mirror that is closed listens to nothing", (t) => {
  const at = filled(t);
  at.mirror.close();
  assert.deepEqual(at.model.listeners, {});
});
