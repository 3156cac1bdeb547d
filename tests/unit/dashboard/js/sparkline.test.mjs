// The line of a queue, as an SVG path 110 wide and 22 high.

import assert from "node:assert/strict";
import test from "node:test";

import { outline } from "../../../../agentq_nb/_notebook/dashboard/js/sparkline.js";

test("nothing known is no line", () => {
  assert.deepEqual(outline([], 100), { line: "", area: "", label: "0 now, at most 1 in the last 1 min 0 s" });
});

test("the line is level between changes and goes on until now", () => {
  const { line } = outline([[0, 0, 0], [60, 4, 0], [90, 2, 2]], 120);
  assert.equal(line, "M0.0 20.5H55.0V2.5H82.5V11.5H110");
});

test("the area is closed below the line", () => {
  const { line, area } = outline([[0, 1, 0], [60, 2, 0]], 120);
  assert.equal(area, `${line}V22H0.0Z`);
});

test("a short history is drawn as wide as a minute", () => {
  assert.match(outline([[90, 1, 0]], 100).line, /^M91\.7 /);
});

test("a long history is drawn as wide as five minutes, and what is older at the edge", () => {
  const { line, label } = outline([[0, 1, 0], [850, 2, 0]], 1000);
  assert.match(line, /^M0\.0 .*H55\.0V2\.5H110$/);
  assert.match(label, /in the last 5 min 0 s$/);
});

test("listeners hear the last depth, the highest, and for how long", () => {
  const { label } = outline([[0, 1500, 0], [60, 2, 0]], 120);
  assert.equal(label, "2 now, at most 1,500 in the last 2 min 0 s");
});
