// The kinds of a diff's lines.

import assert from "node:assert/strict";
import test from "node:test";

import { runsOf } from "../../../../agentq_nb/_notebook/dashboard/js/parts/diff_lines.js";

/** @param {string[]} lines */
const kindsOf = (...lines) => runsOf(lines.join("\n")).map(({ kind, lines }) => [kind, lines.length]);

test("what git says of a file is neither added nor removed", () => {
  const header = ["diff --git a/x b/x", "new file mode 100644", "--- /dev/null", "+++ b/x"];
  const second = ["diff --git a/y b/y", "--- a/y", "+++ b/y", "@@ -1 +1 @@", "-old", "+new"];
  assert.deepEqual(kindsOf(...header, "@@ -0,0 +1 @@", "+one", "+two", ...second), [
    ["aq-hunk", 5],
    ["aq-added", 2],
    ["aq-hunk", 4],
    ["aq-removed", 1],
    ["aq-added", 1],
  ]);
});

test("lines of a file that look like headers have the colours of their signs", () => {
  const lines = ["@@ -1,3 +1,3 @@", "--- a rule of dashes", "+++ b/x", "+diff --git a/x b/x", "-@@ -1 +1 @@"];
  assert.deepEqual(kindsOf(...lines), [
    ["aq-hunk", 1],
    ["aq-removed", 1],
    ["aq-added", 2],
    ["aq-removed", 1],
  ]);
});

test("a diff without names of files has them too, and no line is lost", () => {
  const text = "-old\n+new\n same\n\n\\ No newline at end of file";
  const runs = runsOf(text);
  assert.deepEqual(
    runs.map(({ kind }) => kind),
    ["aq-removed", "aq-added", "", "aq-hunk"],
  );
  assert.equal(runs.flatMap(({ lines }) => lines).join("\n"), text);
});

test("kinds are never taken from what a line begins with in another way", () => {
  assert.deepEqual(kindsOf("__proto__", "constructor"), [["", 2]]);
});
