// @ts-check
// The lines of a unified diff, in the colours of their kinds.

import { bdiOf } from "../dom.js";

/** @type {Record<string, string>} */
const SIGNS = { "+": "aq-added", "-": "aq-removed", "@": "aq-hunk", "\\": "aq-hunk" };
/** How git begins what it says of each file. No line of a file begins like this in a diff: each has a sign before it. */
const FILE = "diff --git ";

/**
 * The lines, by kind. Neighbours of one kind are together: a diff may have thousands of lines.
 * @param {string} text
 * @returns {{ kind: string, lines: string[] }[]}
 */
export function runsOf(text) {
  /** @type {{ kind: string, lines: string[] }[]} */
  const runs = [];
  let inHeader = false; // "---" and "+++" name files there, and nothing is added or removed
  for (const line of text.split("\n")) {
    if (line.startsWith(FILE)) inHeader = true;
    else if (line.startsWith("@@")) inHeader = false;
    const kind = inHeader ? "aq-hunk" : (SIGNS[line[0]] ?? "");
    const run = runs.at(-1);
    if (run?.kind === kind) run.lines.push(line);
    else runs.push({ kind, lines: [line] });
  }
  return runs;
}

/** @param {string} text */
export function diffOf(text) {
  return runsOf(text).map(({ kind, lines }) => {
    const node = bdiOf(lines.join("\n"));
    node.className = `aq-diff ${kind}`;
    return node;
  });
}
