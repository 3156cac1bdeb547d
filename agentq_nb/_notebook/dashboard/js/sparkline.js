// @ts-check
// The line that shows how many messages a queue held over the last minutes.

/** @import { Point } from "./wire.js" */

import { setAttribute } from "./dom.js";
import { duration, number } from "./format.js";
import { HISTORY } from "./history.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 110;
const HEIGHT = 22;
/** Seconds: a shorter history is drawn as wide as this, so that it is never a sliver at the edge. */
const SHORTEST = 60;

/**
 * The line, the area below it, and both in words.
 * @param {Point[]} points
 * @param {number} now By the same clock as the points.
 * @returns {{ line: string, area: string, label: string }}
 */
export function outline(points, now) {
  const top = Math.max(1, ...points.map((point) => point[1]));
  const span = Math.min(HISTORY, Math.max(SHORTEST, now - (points[0]?.[0] ?? now)));
  const x = (/** @type {number} */ time) => Math.max(0, (1 - (now - time) / span) * WIDTH).toFixed(1);
  const y = (/** @type {number} */ depth) => (HEIGHT - 1.5 - (depth / top) * (HEIGHT - 4)).toFixed(1);
  let line = "";
  points.forEach(([time, depth], index) => {
    line += index ? `H${x(time)}V${y(depth)}` : `M${x(time)} ${y(depth)}`;
  });
  if (line) line += `H${WIDTH}`;
  return {
    line,
    area: line && `${line}V${HEIGHT}H${x(points[0][0])}Z`,
    label: `${number(points.at(-1)?.[1])} now, at most ${number(top)} in the last ${duration(span)}`,
  };
}

export class Sparkline {
  constructor() {
    this.area = document.createElementNS(SVG, "path");
    this.line = document.createElementNS(SVG, "path");
    this.area.setAttribute("class", "aq-area");
    this.line.setAttribute("class", "aq-line");
    this.node = document.createElementNS(SVG, "svg");
    this.node.setAttribute("class", "aq-spark");
    this.node.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.node.setAttribute("preserveAspectRatio", "none");
    this.node.setAttribute("role", "img");
    this.node.append(this.area, this.line);
  }

  /**
   * @param {Point[]} points
   * @param {number} now
   */
  draw(points, now) {
    const { line, area, label } = outline(points, now);
    setAttribute(this.line, "d", line);
    setAttribute(this.area, "d", area);
    setAttribute(this.node, "aria-label", label);
  }
}
