// Bundled from the modules in ../js by npm run bundle: edit those, not this.

// dom.js
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (value !== void 0 && value !== null && value !== false)
      node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children);
  return node;
}
function setText(node, text) {
  const wanted = String(text ?? "");
  if (node.textContent !== wanted) node.textContent = wanted;
}
function setAttribute(node, name, value) {
  if (value === null || value === void 0 || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
}
var show = (node, visible) => setAttribute(node, "hidden", visible ? null : "");
var bdi = (kind) => make("bdi", { class: kind });
function bdiOf(text) {
  const node = make("bdi");
  node.textContent = text;
  return node;
}
function button(label, name, onclick, kind = "") {
  const attributes = { type: "button", class: `aq-button ${kind}`, "aria-label": name, title: name, onclick };
  return make("button", attributes, label);
}
function rename(node, name) {
  setAttribute(node, "aria-label", name);
  setAttribute(node, "title", name);
}
function renameStop(node, row) {
  rename(node, `Cancel prompt: stop what ${row.agent} does in ${row.actor} now; its session stays open`);
}
function keepFocus(...leaving) {
  const focused = document.activeElement;
  if (!leaving.some((node) => node?.contains(focused))) return;
  (focused?.closest(".aq")).focus({ preventScroll: true });
}

// format.js
var number = (value) => Math.round(value ?? 0).toLocaleString("en");
var money = (usd) => `$${usd.toLocaleString("en", usd >= 0.1 || !usd ? { minimumFractionDigits: 2, maximumFractionDigits: 2 } : { maximumSignificantDigits: 2 })}`;
var messageCount = (count) => `${number(count)} message${count === 1 ? "" : "s"}`;
var rowCount = (count) => `${number(count)} row${count === 1 ? "" : "s"}`;
var queueCount = (count) => `${number(count)} queue${count === 1 ? "" : "s"}`;
function duration(seconds) {
  if (seconds === null || seconds === void 0) return "";
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor(whole % 3600 / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor(whole % 86400 / 3600)} h`;
}
var timeOfDay = (time) => time ? new Date(time * 1e3).toLocaleTimeString([], { hour12: false }) : "";
var doneOf = (row) => (row.completed ?? 0) + row.dead;
var totalOf = (row) => doneOf(row) + row.ready + row.delayed + row.blocked + row.running;
var progress = (done, total) => total ? `${number(done)} of ${number(total)}` : "–";
var range = (offset, end) => `${offset + 1}–${end}`;
var settledOf = (row) => row.done + row.failed + row.cancelled;
var isFinished = (row) => !row.running && !row.waiting;
var threeDigits = (rate) => Number(rate.toPrecision(3)).toLocaleString("en");
function figuresOf(row, held) {
  const parts = [`${progress(row.done, row.total)} done`];
  const { failed, cancelled, running, waiting } = row;
  for (const [name, count] of Object.entries({ failed, cancelled, running, waiting }))
    if (count) parts.push(`${number(count)} ${name}`);
  if (isFinished(row) || held || !row.per_minute) return parts.join(" · ");
  parts.push(`${threeDigits(row.per_minute)} / min`);
  parts.push(`${duration(Math.max(1, 60 * (row.running + row.waiting) / row.per_minute))} left`);
  return parts.join(" · ");
}
function holdOf(row, now) {
  const left = (end) => end ? `, ${duration(Math.max(0, end - now))} left` : "";
  if (row.stopped) return "stopped";
  if (row.paused) return `paused${left(row.paused_until)}`;
  return row.limit === null ? "" : `waits for ${row.limit}${left(row.next_start)}`;
}
function allowedBy(row) {
  const declared = row.count === row.declared_count ? "" : ` (declared ${number(row.declared_count)})`;
  if (row.per === null) return `${number(row.count)}${declared} at a time`;
  const before = row.per === row.declared_per ? "" : ` (declared ${period(row.declared_per)})`;
  return `${number(row.count)}${declared} per ${period(row.per)}${before}`;
}
var period = (length) => length === null || length >= 120 ? duration(length).replace(/ 0 \w+$/, "") : `${Number(length.toPrecision(3))} s`;
function nextStartOf(row, now) {
  const at = row.paused_until ?? row.next_start;
  if (at !== null && at > now) return `in ${duration(at - now)}`;
  if (row.paused_until !== null) return "one at a time";
  if (row.next_start !== null) return "now";
  return row.used < row.count ? "at once" : "when one ends";
}

// lists.js
var KeyedList = class {
  /**
   * @param {Element} parent
   * @param {(key: string) => Shown} makeItem
   */
  constructor(parent, makeItem) {
    this.parent = parent;
    this.makeItem = makeItem;
    this.items = /* @__PURE__ */ new Map();
    this.rows = /* @__PURE__ */ new Map();
  }
  /**
   * @param {string[]} keys
   * @param {(key: string) => Row} rowOf
   */
  update(keys, rowOf) {
    this.removeAllBut(new Set(keys));
    let place = this.parent.firstChild;
    for (const key of keys) {
      const item = this.itemOf(key);
      for (const node of [item.node, item.below]) {
        if (!node) continue;
        if (node === place) place = place.nextSibling;
        else this.parent.insertBefore(node, place);
      }
      const row = rowOf(key);
      if (this.rows.get(key) === row && !item.always) continue;
      this.rows.set(key, row);
      item.update(row);
    }
  }
  /** @param {Set<string>} wanted */
  removeAllBut(wanted) {
    for (const [key, item] of this.items) {
      if (wanted.has(key)) continue;
      keepFocus(item.node, item.below);
      item.node.remove();
      item.below?.remove();
      this.items.delete(key);
      this.rows.delete(key);
    }
  }
  /** @param {string} key */
  itemOf(key) {
    const item = this.items.get(key) ?? this.makeItem(key);
    this.items.set(key, item);
    return item;
  }
};
var Pager = class {
  /**
   * @param {string} name
   * @param {(step: -1 | 1) => void} turn
   */
  constructor(name, turn) {
    this.back = button("‹", `Previous ${name}`, () => turn(-1));
    this.text = make("span", { class: "aq-quiet" });
    this.next = button("›", `More ${name}`, () => turn(1));
    this.node = make("div", { class: "aq-pager" }, this.back, this.text, this.next);
  }
  /**
   * @param {string} text
   * @param {boolean} hasBack
   * @param {boolean} hasNext
   */
  update(text, hasBack, hasNext) {
    setText(this.text, text);
    if (!(hasBack || hasNext)) keepFocus(this.node);
    else if (!hasBack && document.activeElement === this.back) this.next.focus();
    else if (!hasNext && document.activeElement === this.next) this.back.focus();
    this.back.disabled = !hasBack;
    this.next.disabled = !hasNext;
    show(this.node, hasBack || hasNext);
  }
};

// parts/diff_lines.js
var SIGNS = { "+": "aq-added", "-": "aq-removed", "@": "aq-hunk", "\\": "aq-hunk" };
var FILE = "diff --git ";
function runsOf(text) {
  const runs = [];
  let inHeader = false;
  for (const line of text.split("\n")) {
    if (line.startsWith(FILE)) inHeader = true;
    else if (line.startsWith("@@")) inHeader = false;
    const kind = inHeader ? "aq-hunk" : SIGNS[line[0]] ?? "";
    const run = runs.at(-1);
    if (run?.kind === kind) run.lines.push(line);
    else runs.push({ kind, lines: [line] });
  }
  return runs;
}
function diffOf(text) {
  return runsOf(text).map(({ kind, lines }) => {
    const node = bdiOf(lines.join("\n"));
    node.className = `aq-diff ${kind}`;
    return node;
  });
}

// parts/requests.js
var REQUESTS_SHOWN = 10;
var Requests = class {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.rows = make("div", { class: "aq-request-list" });
    this.left = make("p", { class: "aq-quiet" });
    const attributes = { class: "aq-requests", "aria-label": "Agents ask for permission" };
    this.node = make("section", attributes, this.rows, this.left);
    this.resized = new ResizeObserver(() => this.list.items.forEach((item) => item.look()));
    this.resized.observe(this.rows);
    this.list = new KeyedList(this.rows, (key) => {
      const item = new RequestItem(view, key);
      this.resized.observe(item.all);
      return item;
    });
  }
  close() {
    this.resized.disconnect();
  }
  update() {
    const rows = this.view.mirror.rows("requests");
    const keys = Object.keys(rows).sort();
    this.list.update(keys.slice(0, REQUESTS_SHOWN), (key) => rows[key]);
    const left = keys.length - REQUESTS_SHOWN;
    setText(this.left, `${number(left)} more wait${left === 1 ? "s" : ""} for these to be answered.`);
    show(this.left, left > 0);
    show(this.node, keys.length);
  }
};
var RequestItem = class {
  /**
   * @param {View} view
   * @param {string} key
   */
  constructor(view, key) {
    this.view = view;
    this.key = key;
    this.row = void 0;
    this.content = void 0;
    this.seen = false;
    this.who = bdi("aq-quiet");
    this.what = bdi("aq-strong aq-asked");
    this.kind = bdi("aq-tag");
    this.hint = make("span", { class: "aq-quiet aq-hint", id: `aq-hint-${++view.lastId}` });
    this.allow = button("Allow", "Allow what the agent asks", (event) => this.answer(event, true), "aq-primary");
    this.allow.disabled = true;
    setAttribute(this.allow, "aria-describedby", this.hint.id);
    const refuse = button("Refuse", "Refuse what the agent asks", (event) => this.answer(event, false));
    this.all = make("div", {
      class: "aq-asked-all",
      role: "region",
      "aria-label": "All of what the agent asks",
      tabindex: "0",
      onscroll: () => this.look()
    });
    this.node = make(
      "div",
      { class: "aq-request", role: "group", "aria-label": "An agent asks" },
      make("div", { class: "aq-request-head" }, this.kind, this.what, this.who),
      this.all,
      make("div", { class: "aq-request-answers" }, this.hint, this.allow, refuse)
    );
  }
  /**
   * @param {Event} event
   * @param {boolean} allow
   */
  answer(event, allow) {
    const { row, key } = this;
    if (row) this.view.act(event, { action: "answer", actor: row.at, session: row.session, ask: key, allow });
  }
  /** Lets it be allowed if its end is on the screen. */
  look() {
    const { all } = this;
    if (this.seen || this.row?.too_long || !all.clientHeight) return;
    if (all.scrollTop + all.clientHeight < all.scrollHeight - 2) return;
    this.seen = true;
    this.allow.disabled = false;
    setText(this.hint, "");
  }
  /** @param {PermissionRow} row */
  update(row) {
    this.row = row;
    setText(this.who, `${row.agent} in ${row.actor} asks`);
    setText(this.what, row.title || "something without a title");
    setText(this.kind, row.kind);
    show(this.kind, row.kind);
    const content = JSON.stringify([row.title, row.parts, row.too_long]);
    if (content === this.content) return;
    this.content = content;
    this.seen = false;
    this.allow.disabled = true;
    this.all.replaceChildren(...contentOf(row));
    setText(this.hint, row.too_long ? "" : "Scroll to the end to allow it.");
    requestAnimationFrame(() => this.look());
  }
};
function contentOf(row) {
  if (row.too_long) {
    const size = `${number(row.too_long)} characters`;
    const said = `This is too long to be shown here (${size}). In a cell, read all of it with `;
    const list = make("code", {}, "for request in await vm.list_permission_requests(): print(request.text)");
    const respond = make("code", {}, 'await vm.respond_permission(session_id, request_id, "allow")');
    return [make("p", {}, said, list, ", and allow it with ", respond, ". It can be refused here.")];
  }
  if (!row.parts?.length) return [make("p", { class: "aq-quiet" }, "The agent tells no more about it than this.")];
  return row.parts.map(
    (part2) => make(
      "div",
      { class: "aq-asked-part" },
      make("div", { class: "aq-label" }, bdiOf(part2.name)),
      make("pre", {}, ...part2.diff ? diffOf(part2.text) : [bdiOf(part2.text)])
    )
  );
}

// parts/transcript.js
var LABELS = {
  prompt: "prompt",
  text: "agent",
  tool_call: "tool",
  tool_result: "result",
  result: "end",
  error: "error",
  note: "note",
  permission_request: "asks",
  permission_answer: "answer"
};
var NEAR_END = 24;
var Transcript = class {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.session = null;
    this.older = {};
    this.atEnd = true;
    this.blocks = make("div", { class: "aq-blocks" });
    this.list = new KeyedList(this.blocks, () => new Block());
    this.earlier = button("Earlier", "Show what was said earlier", () => this.loadEarlier());
    const attributes = { class: "aq-log", role: "log", "aria-live": "off", "aria-label": "Transcript", tabindex: "0" };
    this.node = make("div", { ...attributes, onscroll: () => this.scrolled() }, this.earlier, this.blocks);
  }
  scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.node;
    this.atEnd = scrollHeight - scrollTop - clientHeight < NEAR_END;
  }
  async loadEarlier() {
    const before = this.first();
    this.earlier.disabled = true;
    const reply = await this.view.mirror.ask({ type: "earlier", session: this.session, before });
    this.earlier.disabled = false;
    if (reply.error) return this.view.say(reply.error, true);
    const height = this.node.scrollHeight;
    this.older = { ...reply.blocks };
    this.update();
    this.node.scrollTop += this.node.scrollHeight - height;
  }
  first() {
    const indexes = [...Object.keys(this.older), ...Object.keys(this.view.mirror.rows("blocks"))].map(Number);
    return Math.min(...indexes);
  }
  update() {
    const { mirror } = this.view;
    const session = mirror.single("transcript")?.session ?? null;
    if (session !== this.session) {
      this.session = session;
      this.older = {};
      this.atEnd = true;
    }
    const rows = { ...this.older, ...mirror.rows("blocks") };
    const keys = Object.keys(rows).sort((a, b) => Number(a) - Number(b));
    this.list.update(keys, (key) => rows[key]);
    show(this.earlier, keys.length && Number(keys[0]) > 1);
    if (this.atEnd) this.node.scrollTop = this.node.scrollHeight;
  }
};
var Block = class {
  constructor() {
    this.label = make("span", { class: "aq-label" });
    this.text = bdi("aq-said");
    this.data = bdi("aq-data");
    const body = make("div", { class: "aq-block-body" }, this.text, this.data);
    this.node = make("div", {}, this.label, body);
  }
  /** @param {BlockRow} row */
  update(row) {
    const kind = Object.hasOwn(LABELS, row.type) ? row.type : "note";
    setAttribute(this.node, "class", `aq-block aq-block-${kind}`);
    setText(this.label, LABELS[kind]);
    setAttribute(this.label, "title", timeOfDay(row.time));
    setText(this.text, row.text);
    setText(this.data, row.data);
    show(this.text, row.text);
    show(this.data, row.data);
  }
};

// history.js
var HISTORY = 300;
var SPACING = 2;
var QueueHistory = class {
  constructor() {
    this.points = /* @__PURE__ */ new Map();
  }
  /** @param {Record<string, Point[]>} [history] */
  replace(history = {}) {
    this.points = new Map(Object.entries(history));
  }
  /** The points of a queue, oldest first. @param {string} key */
  of(key) {
    return this.points.get(key) ?? [];
  }
  /**
   * Takes in how a queue is now. Only changes are kept, since a line is level until the next one.
   * @param {string} key
   * @param {QueueRow} row
   * @param {number} elapsed
   */
  record(key, row, elapsed) {
    const points = this.of(key);
    this.points.set(key, points);
    const last = points.at(-1);
    const depth = row.ready + row.delayed + row.blocked + row.running;
    if (last && last[1] === depth && last[2] === row.handled) return;
    if (points.length > 1 && elapsed - points[points.length - 2][0] < SPACING) points.pop();
    points.push([elapsed, depth, row.handled]);
    while (points.length > 2 && points[1][0] < elapsed - HISTORY) points.shift();
  }
  /**
   * Messages handled in the last minute.
   * @param {string} key
   * @param {number} elapsed
   */
  perMinute(key, elapsed) {
    const points = this.of(key);
    if (!points.length) return 0;
    let before = points[0];
    for (const point of points) {
      if (point[0] > elapsed - 60) break;
      before = point;
    }
    return Math.max(0, points[points.length - 1][2] - before[2]);
  }
  /**
   * Seconds until what is due in a queue is done, at its pace since it last had nothing to do; null where there is no
   * pace to go by.
   * @param {string} key
   * @param {QueueRow | undefined} row
   * @param {number} elapsed
   */
  timeLeft(key, row, elapsed) {
    const points = this.of(key);
    const due = row ? row.ready + row.running : 0;
    if (!due || row?.paused || !points.length) return null;
    const emptied = points.findLastIndex((point) => point[1] === 0);
    const begun = points[Math.min(points.length - 1, Math.max(0, emptied))];
    const handled = points[points.length - 1][2] - begun[2];
    const worked = elapsed - (points[emptied + 1]?.[0] ?? begun[0]);
    return handled > 0 && worked >= 1 ? due * worked / handled : null;
  }
};

// notebook.js
var WIDGET_VIEW = "application/vnd.jupyter.widget-view+json";
function replaceWidget(model, picture) {
  try {
    for (const cell of model.widget_manager.context.model.cells) replaceOutputs(cell.outputs, picture);
  } catch (error) {
    console.debug("agentq leaves its widget in the notebook", error);
  }
}
function replaceOutputs(outputs, { model, data }) {
  for (let index = 0; index < (outputs?.length ?? 0); index++) {
    const output = outputs.get(index).toJSON();
    if (output.data?.[WIDGET_VIEW]?.model_id === model) outputs.set(index, { ...output, data });
  }
}

// mirror.js
var PICTURE_AFTER_END = 1;
var PICTURE_AFTER_LOSS = 5;
var UNUSED = 60;
var RESYNC_SPACING = 500;
var Mirror = class {
  /**
   * @param {Model} model
   * @param {(names: Set<string> | null) => void} changed Gets the names of sections; null is all of them.
   * @param {(error: string) => void} failed
   */
  constructor(model, changed, failed) {
    this.model = model;
    this.changed = changed;
    this.failed = failed;
    this.sections = {};
    this.history = new QueueHistory();
    this.number = 0;
    this.settled = false;
    this.lost = false;
    this.quiet = false;
    this.usedAt = performance.now();
    this.heardAt = performance.now();
    this.askedAt = 0;
    this.clockOffset = 0;
    this.elapsedOffset = 0;
    this.pending = /* @__PURE__ */ new Map();
    this.lastRequest = 0;
    this.picture = void 0;
    this.replacing = void 0;
    this.onMessage = (message) => this.receive(message);
    this.onLive = () => this.lose();
    model.on("msg:custom", this.onMessage);
    model.on("comm_live_update", this.onLive);
  }
  close() {
    clearTimeout(this.replacing);
    this.model.off("msg:custom", this.onMessage);
    this.model.off("comm_live_update", this.onLive);
  }
  /** The kernel that had this widget has ended, as far as the page can tell. Any later message takes that back. */
  lose() {
    this.lost = true;
    this.changed(/* @__PURE__ */ new Set());
    this.replaceLater(PICTURE_AFTER_LOSS);
  }
  /** The kernel's wall clock, in seconds since 1970. */
  get now() {
    return Date.now() / 1e3 + this.clockOffset;
  }
  /** The kernel's monotonic clock, in seconds. */
  get elapsed() {
    return performance.now() / 1e3 + this.elapsedOffset;
  }
  /** Seconds since the kernel last sent anything. */
  get silence() {
    return (performance.now() - this.heardAt) / 1e3;
  }
  /** Nothing is asked and nothing comes, so that the server may end a kernel that has nothing to do. */
  get resting() {
    return this.quiet && (performance.now() - this.usedAt) / 1e3 > UNUSED;
  }
  /**
   * @template {keyof Tables} Name
   * @param {Name} name
   * @returns {Record<string, Tables[Name]>}
   */
  rows(name) {
    return (
      /** @type {any} */
      this.sections[name] ?? {}
    );
  }
  /**
   * The row of a section that has only one.
   * @template {keyof Singles} Name
   * @param {Name} name
   * @returns {Singles[Name] | undefined}
   */
  single(name) {
    return (
      /** @type {any} */
      this.sections[name]?.it
    );
  }
  /** @param {string} key */
  perMinute(key) {
    return this.history.perMinute(key, this.elapsed);
  }
  /** @param {string} key */
  timeLeft(key) {
    return this.history.timeLeft(key, this.rows("queues")[key], this.elapsed);
  }
  // --- to the kernel ---
  /** @param {unknown} message */
  send(message) {
    try {
      this.model.send(message);
    } catch {
      this.lose();
    }
  }
  /** The page is in use. */
  use() {
    const rested = this.resting;
    this.usedAt = performance.now();
    if (rested) this.watch();
  }
  /** Says that the page is open. Where `have` is not the kernel's own number, it answers with a snapshot. */
  watch(have = this.number) {
    this.askedAt = performance.now();
    this.send({ type: "watch", have });
  }
  /** The page missed something. */
  resync() {
    if (performance.now() - this.askedAt > RESYNC_SPACING) this.watch(0);
  }
  /**
   * @param {Request} message
   * @returns {Promise<Reply>}
   */
  ask(message) {
    const request = ++this.lastRequest;
    return new Promise((resolve) => {
      this.pending.set(request, resolve);
      this.send({ ...message, request });
    });
  }
  // --- from the kernel ---
  /** @param {FromKernel} message */
  receive(message) {
    this.heardAt = performance.now();
    this.lost = false;
    if (message.type === "answer") return this.receiveAnswer(message);
    if (message.time) this.clockOffset = message.time - Date.now() / 1e3;
    if (message.elapsed) this.elapsedOffset = message.elapsed - performance.now() / 1e3;
    if (message.settled) this.settled = true;
    if (message.number !== void 0) this.quiet = !!message.quiet;
    if (message.type === "picture") this.picture = message;
    else if (message.type === "dropped") this.refusePending(message);
    else if (message.type === "snapshot") this.replace(message);
    else if (message.type === "patch" && message.number === this.number + 1) this.apply(message);
    else if (message.number !== this.number) this.resync();
    if (message.settled) {
      this.changed(/* @__PURE__ */ new Set());
      this.replaceLater(PICTURE_AFTER_END);
    }
  }
  /** @param {Answer} answer */
  receiveAnswer(answer) {
    this.pending.get(answer.request)?.(answer);
    this.pending.delete(answer.request);
  }
  /**
   * The kernel says how many it dropped, not which: every request without an answer may be made once more.
   * @param {Dropped} message
   */
  refusePending({ count }) {
    const dropped = `${number(count)} of its requests were dropped`;
    const error = `This page asked more than the kernel listens to: ${dropped}. Try again.`;
    for (const resolve of this.pending.values()) resolve({ error });
    this.pending.clear();
    this.failed(error);
  }
  /** @param {Snapshot} snapshot */
  replace(snapshot) {
    this.sections = withoutPrototypes(snapshot.sections);
    this.number = snapshot.number;
    this.history.replace(snapshot.history);
    this.changed(null);
  }
  /** @param {Patch} patch */
  apply(patch) {
    this.number = patch.number;
    const names = applyChanges(this.sections, patch);
    const queues = this.rows("queues");
    for (const key of Object.keys(patch.set?.queues ?? {})) this.history.record(key, queues[key], patch.elapsed);
    this.changed(names);
  }
  /**
   * Not at once, since the front end may be about to do it itself, and a kernel that was lost may speak up again.
   * @param {number} seconds
   */
  replaceLater(seconds) {
    this.replacing ??= setTimeout(() => {
      this.replacing = void 0;
      if (this.picture && (this.lost || this.settled)) replaceWidget(this.model, this.picture);
    }, seconds * 1e3);
  }
};
function withoutPrototypes(sections) {
  const own = Object.entries(sections).map(([name, rows]) => [name, Object.assign(/* @__PURE__ */ Object.create(null), rows)]);
  return Object.fromEntries(own);
}
function applyChanges(state, { set = {}, more = {}, gone = {} }) {
  const sections = (
    /** @type {Record<string, Record<string, Record<string, any>>>} */
    state
  );
  for (const [name, rows] of Object.entries(set)) {
    const section = sections[name] ??= /* @__PURE__ */ Object.create(null);
    for (const [key, fields] of Object.entries(rows)) section[key] = { ...section[key], ...fields };
  }
  for (const [name, rows] of Object.entries(more))
    for (const [key, fields] of Object.entries(rows)) {
      const row = { ...sections[name][key] };
      for (const [field, text] of Object.entries(fields)) row[field] += text;
      sections[name][key] = row;
    }
  for (const [name, keys] of Object.entries(gone)) for (const key of keys) delete sections[name]?.[key];
  return /* @__PURE__ */ new Set([...Object.keys(set), ...Object.keys(more), ...Object.keys(gone)]);
}

// view.js
var TICK = 500;
var BUSY_AFTER = 3.2;
var GONE_AFTER = 90;
var WATCH_EVERY = 30;
var SAVE_EVERY = 5e3;
var USES = ["pointermove", "pointerdown", "keydown", "focusin"];
var View = class {
  /**
   * @param {Model} model
   * @param {HTMLElement} el
   * @param {string} kind
   * @param {string} name
   */
  constructor(model, el, kind, name) {
    this.mirror = new Mirror(
      model,
      (names) => this.changed(names),
      (error) => this.say(error, true)
    );
    this.dirty = /* @__PURE__ */ new Set();
    this.lastId = 0;
    this.savedAt = 0;
    this.frame = void 0;
    this.liveness = make("span", { class: "aq-heart" });
    this.line = make("div", { class: "aq-line-of-status", role: "status", "aria-live": "polite" });
    this.root = make("div", {
      class: "aq",
      role: "region",
      "aria-label": name,
      tabindex: "-1",
      "data-agentq": kind,
      "data-state": "opening"
    });
    el.append(this.root);
    this.timer = setInterval(() => this.tick(), TICK);
    this.used = () => this.mirror.use();
    for (const event of USES) document.addEventListener(event, this.used, { passive: true, capture: true });
  }
  /** To be called once the view has all of its elements. */
  start() {
    this.root.append(this.line);
    const saved = this.mirror.model.get("saved");
    if (saved && Object.keys(saved).length) {
      this.mirror.sections = structuredClone(saved);
      this.changed(null);
    }
    this.mirror.watch(0);
    this.tick();
  }
  close() {
    clearInterval(this.timer);
    for (const event of USES) document.removeEventListener(event, this.used, { capture: true });
    if (this.frame !== void 0) cancelAnimationFrame(this.frame);
    this.mirror.close();
  }
  // --- what a view says of itself ---
  /**
   * The parts that show each section.
   * @returns {Record<string, Part[]>}
   */
  parts() {
    return {};
  }
  /**
   * The parts that show ages, which grow without any message.
   * @returns {Part[]}
   */
  aging() {
    return [];
  }
  /** The text of the liveness mark once nothing changes any more. */
  ended() {
    return "host stopped";
  }
  // --- drawing ---
  /** @param {Set<string> | null} names The sections that changed; null is all. */
  changed(names) {
    for (const name of names ?? ["*"]) this.dirty.add(name);
    this.frame ??= requestAnimationFrame(() => this.draw());
  }
  draw() {
    this.frame = void 0;
    const dirty = this.dirty;
    this.dirty = /* @__PURE__ */ new Set();
    for (const [name, parts] of Object.entries(this.parts()))
      if (dirty.has("*") || dirty.has(name)) for (const part2 of parts) part2.update();
    this.showState();
  }
  tick() {
    const { mirror } = this;
    const sinceWatch = (performance.now() - mirror.askedAt) / 1e3;
    if (!mirror.settled && !mirror.resting && sinceWatch > WATCH_EVERY) mirror.watch();
    this.showState();
    if (document.hidden || !this.root.isConnected) return;
    if (this.root.dataset.state === "live") for (const part2 of this.aging()) part2.update();
    if (performance.now() - this.savedAt > SAVE_EVERY && mirror.number) {
      this.savedAt = performance.now();
      mirror.model.set("saved", mirror.sections);
    }
  }
  showState() {
    const [state, text] = this.state();
    setAttribute(this.root, "data-state", state);
    const empty = !Object.keys(this.mirror.sections).length;
    setAttribute(this.root, "data-blank", empty ? "" : null);
    setText(this.liveness, text);
  }
  /** @returns {[name: string, text: string]} */
  state() {
    const { mirror } = this;
    const silent = duration(mirror.silence);
    if (mirror.settled) return ["ended", this.ended()];
    if (mirror.lost) return ["gone", "kernel gone – run this cell again"];
    if (mirror.resting) return ["resting", "resting while this page is not used"];
    if (mirror.silence > GONE_AFTER) return ["busy", `no word from the kernel for ${silent}: busy or gone`];
    if (mirror.silence > BUSY_AFTER) return ["busy", `kernel busy for ${silent}`];
    if (!mirror.number) return ["opening", "connecting"];
    return ["live", "live"];
  }
  // --- what people do ---
  /**
   * @param {string} text
   * @param {boolean} [bad]
   */
  say(text, bad = false) {
    setText(this.line, text);
    setAttribute(this.line, "class", bad ? "aq-line-of-status aq-bad" : "aq-line-of-status");
  }
  /**
   * Has the kernel do what a button stands for, and says how it went. The button is not disabled meanwhile, since it
   * would lose the focus.
   * @param {Event} event
   * @param {Action} action
   */
  async act(event, action) {
    const pressed = (
      /** @type {Element} */
      event.currentTarget
    );
    if (pressed.getAttribute("aria-disabled")) return;
    setAttribute(pressed, "aria-disabled", "true");
    const reply = await this.mirror.ask({ type: "do", ...action });
    setAttribute(pressed, "aria-disabled", null);
    this.say(reply.error ?? reply.note ?? "", Boolean(reply.error));
  }
};

// cards.js
var MessageCard = class extends View {
  /**
   * @param {Model} model
   * @param {HTMLElement} el
   */
  constructor(model, el) {
    super(model, el, "message", "Message");
    this.root.classList.add("aq-card");
    this.status = make("span", { class: "aq-status" });
    this.where = bdi("aq-clip");
    this.time = make("span", { class: "aq-quiet aq-nowrap" });
    this.outcome = make("pre", { class: "aq-outcome", tabindex: "0" });
    this.cancel = button("Cancel", "", (event) => {
      const row = this.mirror.single("message");
      if (row) this.act(event, { action: "cancel", message: row.id });
    });
    const head = make("div", { class: "aq-head" }, this.status, this.where, this.time, this.cancel, this.liveness);
    this.root.append(head, this.outcome);
    this.start();
  }
  /** @returns {Record<string, Part[]>} */
  parts() {
    return { message: [this] };
  }
  /** @returns {Part[]} */
  aging() {
    return [this];
  }
  ended() {
    return "";
  }
  update() {
    const row = this.mirror.single("message");
    if (!row) return;
    setText(this.status, row.status);
    setAttribute(this.status, "data-status", row.status);
    setText(this.where, `${row.queue} of ${row.actor}`);
    setAttribute(this.where, "title", `Message ${row.id}`);
    rename(this.cancel, `Cancel message ${row.id} of ${row.queue} of ${row.actor}`);
    setText(this.time, this.progress(row));
    show(this.cancel, row.live);
    setText(this.outcome, row.error || row.reply);
    setAttribute(this.outcome, "class", row.error ? "aq-outcome aq-bad" : "aq-outcome");
    show(this.outcome, row.error || row.reply);
  }
  /** @param {MessageCardRow} row */
  progress(row) {
    const age = duration((row.settled ?? this.mirror.elapsed) - row.since);
    const others = row.others ? `, ${number(row.others)} other${row.others === 1 ? "" : "s"} in its queue` : "";
    const attempts = row.attempts > 1 ? `, attempt ${row.attempts}` : "";
    return age + others + attempts;
  }
};
var SessionCard = class extends View {
  /**
   * @param {Model} model
   * @param {HTMLElement} el
   */
  constructor(model, el) {
    super(model, el, "session", "Session");
    this.root.classList.add("aq-card");
    this.status = make("span", { class: "aq-dot", role: "img" });
    this.title = bdi("aq-strong aq-clip");
    this.requests = new Requests(this);
    this.transcript = new Transcript(this);
    this.stop = button("Cancel prompt", "", (event) => {
      const row = this.mirror.single("session");
      if (row) this.act(event, { action: "stop", session: row.id, actor: row.at });
    });
    const head = make("div", { class: "aq-head" }, this.status, this.title, this.stop, this.liveness);
    this.root.append(head, this.requests.node, this.transcript.node);
    this.start();
  }
  close() {
    this.requests.close();
    super.close();
  }
  /** @returns {Record<string, Part[]>} */
  parts() {
    return { session: [this], requests: [this.requests], blocks: [this.transcript], transcript: [this.transcript] };
  }
  ended() {
    return "closed";
  }
  update() {
    const row = this.mirror.single("session");
    if (!row) return;
    setAttribute(this.status, "data-status", row.status);
    setAttribute(this.status, "aria-label", row.status);
    setText(this.title, `${row.agent} in ${row.actor}`);
    renameStop(this.stop, row);
    show(this.stop, row.status === "running");
  }
};

// parts/alerts.js
var ALERTS_SHOWN = 8;
var STALL_SHOWN = 60;
var Alerts = class {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.node = make("ul", { class: "aq-alerts", "aria-label": "Problems" });
    this.list = new KeyedList(this.node, () => new AlertItem());
  }
  update() {
    const alerts = new Map([...this.ofHost(), ...this.ofActors(), ...this.ofLoop()]);
    const keys = [...alerts.keys()].slice(0, ALERTS_SHOWN);
    this.list.update(keys, (key) => (
      /** @type {Alert} */
      alerts.get(key)
    ));
    show(this.node, keys.length);
  }
  /** @returns {Generator<[key: string, alert: Alert]>} */
  *ofHost() {
    const host = this.view.mirror.single("host");
    if (host?.trouble)
      yield ["trouble", { subject: "Nothing can be written just now.", text: host.trouble, bad: true }];
    for (const name of host?.waiting_for ?? []) {
      const text = "has work but no class yet: run the cell that defines it.";
      yield [`class ${name}`, { subject: name, text, bad: false }];
    }
  }
  /** @returns {Generator<[key: string, alert: Alert]>} */
  *ofActors() {
    for (const [key, row] of Object.entries(this.view.mirror.rows("actors")))
      if (row.error) yield [key, { subject: row.actor, text: this.whatFailed(row), bad: true }];
  }
  /** @returns {Generator<[key: string, alert: Alert]>} */
  *ofLoop() {
    const { mirror } = this.view;
    const host = mirror.single("host");
    if (host?.stall && mirror.now - Number(host.stall_at) < STALL_SHOWN)
      yield ["stall", { subject: "The kernel stood still for", text: host.stall, bad: false }];
  }
  /** @param {ActorRow} row */
  whatFailed(row) {
    const when = row.state === "failed to start" ? "failed to start. " : "";
    const again = row.restarts_at ? ` It starts again ${this.until(row.restarts_at)}.` : "";
    return `${when}${row.error}${again}`;
  }
  /** @param {number} time */
  until(time) {
    const left = time - this.view.mirror.now;
    return left > 1 ? `in ${duration(left)}` : "now";
  }
};
var AlertItem = class {
  constructor() {
    this.subject = bdi("aq-strong");
    this.text = bdi();
    this.node = make("li", {}, this.subject, " ", this.text);
  }
  /** @param {Alert} alert */
  update({ subject, text, bad }) {
    setText(this.subject, subject);
    setText(this.text, text);
    setAttribute(this.node, "class", bad ? "aq-alert-bad" : "aq-alert");
  }
};

// confirmation.js
var Confirmation = class {
  /**
   * @param {HTMLElement} buttons They give way to the question.
   * @param {HTMLButtonElement} asking The one of them that asks: the focus returns to it.
   * @param {string} keep What the way back does.
   * @param {(event: Event) => Promise<void>} act
   */
  constructor(buttons, asking, keep, act) {
    this.buttons = buttons;
    this.asking = asking;
    this.question = make("span", { class: "aq-question" });
    const cancel = async (event) => {
      await act(event);
      this.close();
    };
    this.yes = button("Cancel them", "", cancel, "aq-danger");
    this.no = button("Keep", keep, () => this.close());
    this.node = make("div", { class: "aq-confirm", role: "group", hidden: true }, this.question, this.yes, this.no);
    this.node.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.close();
    });
  }
  /** The way back gets the focus, so that pressing Enter twice cancels nothing. */
  open() {
    this.showQuestion(true);
    this.no.focus();
  }
  close() {
    const focused = this.node.contains(document.activeElement);
    this.showQuestion(false);
    if (!focused) return;
    const left = [this.asking, ...this.buttons.querySelectorAll("button")].find((one) => !one.disabled && !one.hidden);
    (left ?? /** @type {HTMLElement} */
    this.node.closest(".aq")).focus({ preventScroll: true });
  }
  /** @param {boolean} asked */
  showQuestion(asked) {
    show(this.node, asked);
    show(this.buttons, !asked);
  }
  /**
   * @param {string} count What would be cancelled: "3 messages".
   * @param {string} of What they belong to.
   */
  update(count, of) {
    setText(this.question, `Cancel ${count}?`);
    setAttribute(this.node, "aria-label", `Cancel ${count} of ${of}?`);
    setAttribute(this.yes, "aria-label", `Cancel them: ${count} of ${of}`);
  }
};

// parts/batches.js
var BATCHES_SHOWN = 5;
var Batches = class {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.page = 0;
    this.items = make("ul", { class: "aq-batches", "aria-label": "Batches" });
    this.list = new KeyedList(this.items, (key) => new BatchItem(view, key));
    this.pager = new Pager("batches", (step) => {
      this.page += step;
      this.update();
    });
    this.count = make("span", { class: "aq-quiet" });
    const heading = make("h3", {}, "Batches ", this.count);
    this.node = make("section", { class: "aq-section" }, heading, this.items, this.pager.node);
  }
  update() {
    const rows = this.view.mirror.rows("batches");
    const keys = Object.keys(rows).sort((a, b) => byRank(rows[a], rows[b]));
    const last = Math.max(0, Math.ceil(keys.length / BATCHES_SHOWN) - 1);
    this.page = Math.min(Math.max(0, this.page), last);
    const from = this.page * BATCHES_SHOWN;
    const end = Math.min(from + BATCHES_SHOWN, keys.length);
    this.list.update(keys.slice(from, end), (key) => rows[key]);
    const more = this.view.mirror.single("host")?.more_batches ? ", and more: %agentq batches" : "";
    this.pager.update(`${range(from, end)} of ${keys.length}${more}`, this.page > 0, this.page < last);
    const working = keys.filter((key) => !isFinished(rows[key])).length;
    setText(this.count, working ? `${working} not finished` : "");
    show(this.node, keys.length);
  }
};
var byRank = (a, b) => Number(isFinished(a)) - Number(isFinished(b)) || b.created_at - a.created_at;
var BatchItem = class {
  /**
   * @param {View} view
   * @param {string} key
   */
  constructor(view, key) {
    this.view = view;
    this.always = true;
    this.name = bdi("aq-strong aq-batch-name");
    this.where = bdi("aq-quiet aq-clip");
    this.remark = make("span", { class: "aq-tag" });
    this.actions = new BatchActions(view, key);
    this.bar = new Bar();
    this.figures = make("span", { class: "aq-batch-figures" });
    this.failures = make("ul", { class: "aq-failures" });
    this.stopped = bdi("aq-stopped");
    this.groups = void 0;
    this.node = make(
      "li",
      { class: "aq-batch" },
      make("div", { class: "aq-batch-head" }, this.name, this.remark, this.where, this.actions.node),
      make("div", { class: "aq-batch-progress" }, this.bar.node, this.figures),
      this.stopped,
      this.failures
    );
  }
  /** @param {BatchRow} row */
  update(row) {
    setText(this.name, row.name);
    setText(this.where, `${row.queue} of ${row.actor}`);
    setAttribute(this.where, "title", `${row.queue} of ${row.actor}`);
    const { now } = this.view.mirror;
    const queue = isFinished(row) ? void 0 : this.view.mirror.rows("queues")[row.at];
    const hold = row.stopped !== null ? "stopped" : queue ? holdOf(queue, now) : "";
    setText(this.remark, hold);
    show(this.remark, hold);
    setAttribute(this.remark, "title", queue?.reason ? `${hold}: ${queue.reason}` : hold);
    setAttribute(this.remark, "class", row.stopped !== null ? "aq-tag aq-bad" : "aq-tag");
    const figures = figuresOf(row, hold !== "");
    setText(this.figures, figures);
    this.bar.update(row, figures);
    setText(this.stopped, row.stopped === null ? "" : `Stopped: ${row.stopped}`);
    show(this.stopped, row.stopped !== null);
    this.updateFailures(row.failures);
    this.actions.update(row);
  }
  /** @param {FailureGroup[]} groups */
  updateFailures(groups) {
    if (groups === this.groups) return;
    this.groups = groups;
    this.failures.replaceChildren(...groups.map(failureOf));
    show(this.failures, groups.length);
  }
};
function failureOf({ what, rows, count }) {
  const text = bdi("aq-clip");
  text.textContent = what;
  text.title = what;
  const many = make("span", { class: "aq-bad aq-nowrap" }, rowCount(count));
  const where = make("span", { class: "aq-quiet aq-nowrap" }, rows ? `(${rows})` : "");
  return make("li", {}, many, where, text);
}
var SEGMENTS = [
  ["done", "aq-segment-done"],
  ["failed", "aq-segment-failed"],
  ["cancelled", "aq-segment-cancelled"],
  ["running", "aq-segment-running"]
];
var Bar = class {
  constructor() {
    this.segments = SEGMENTS.map(([, kind]) => make("span", { class: kind }));
    this.node = make("div", { class: "aq-progress-bar", role: "progressbar", "aria-valuemin": "0" }, ...this.segments);
  }
  /**
   * @param {BatchRow} row
   * @param {string} figures
   */
  update(row, figures) {
    SEGMENTS.forEach(([field], index) => {
      const width = `${(100 * row[field] / Math.max(1, row.total)).toFixed(2)}%`;
      if (this.segments[index].style.width !== width) this.segments[index].style.width = width;
    });
    setAttribute(this.node, "aria-label", `Batch ${row.name}`);
    setAttribute(this.node, "aria-valuemax", row.total);
    setAttribute(this.node, "aria-valuenow", settledOf(row));
    setAttribute(this.node, "aria-valuetext", figures);
    setAttribute(this.node, "title", figures);
  }
};
var BatchActions = class {
  /**
   * @param {View} view
   * @param {string} key
   */
  constructor(view, key) {
    this.retry = button("Retry failed", "", (event) => view.act(event, { action: "retry failed", batch: key }));
    this.resume = button("Resume", "", (event) => view.act(event, { action: "resume batch", batch: key }));
    this.cancel = button("Cancel", "", () => this.confirmation.open());
    this.buttons = make("div", { class: "aq-buttons" }, this.retry, this.resume, this.cancel);
    this.confirmation = new Confirmation(this.buttons, this.cancel, "Keep the rows", async (event) => {
      await view.act(event, { action: "cancel batch", batch: key });
    });
    this.node = make("div", { class: "aq-batch-actions" }, this.buttons, this.confirmation.node);
  }
  /** @param {BatchRow} row */
  update(row) {
    const batch = `batch ${row.name}`;
    const left = row.waiting + row.running;
    rename(this.retry, `Retry failed: put ${rowCount(row.failed)} of ${batch} back into the queue`);
    rename(this.resume, `Resume ${batch}, which was stopped`);
    rename(this.cancel, `Cancel ${batch}: ${rowCount(left)} that are not settled`);
    this.confirmation.update(rowCount(left), batch);
    show(this.retry, row.failed);
    show(this.resume, row.stopped !== null && !row.failed);
    show(this.cancel, left);
  }
};

// parts/limits.js
var LIMITS_SHOWN = 8;
var Limits = class {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.page = 0;
    this.body = make("tbody");
    this.list = new KeyedList(this.body, () => new LimitItem(view));
    this.pager = new Pager("limits", (step) => {
      this.page += step;
      this.update();
    });
    const table = make(
      "table",
      { class: "aq-table aq-limits" },
      make("caption", {}, "Limits"),
      make("thead", {}, headings()),
      this.body
    );
    this.node = make("section", { class: "aq-section" }, table, this.pager.node);
  }
  update() {
    const rows = this.view.mirror.rows("limits");
    const keys = Object.keys(rows).sort((a, b) => rank(rows[a]) - rank(rows[b]) || byName.compare(a, b));
    const last = Math.max(0, Math.ceil(keys.length / LIMITS_SHOWN) - 1);
    this.page = Math.min(Math.max(0, this.page), last);
    const from = this.page * LIMITS_SHOWN;
    const end = Math.min(from + LIMITS_SHOWN, keys.length);
    this.list.update(keys.slice(from, end), (key) => rows[key]);
    const all = keys.length + (this.view.mirror.single("host")?.limits_left_out ?? 0);
    this.pager.update(`${range(from, end)} of ${number(all)}`, this.page > 0, this.page < last);
    show(this.node, keys.length);
  }
};
var byName = new Intl.Collator("en", { numeric: true });
var rank = (row) => row.paused_until !== null ? 0 : row.waiting ? 1 : 2;
var LimitItem = class {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.always = true;
    this.name = bdi("aq-strong");
    this.paused = make("span", { class: "aq-tag" }, "paused");
    this.allowed = make("td");
    this.bar = make("span");
    this.meter = make("div", { class: "aq-meter", role: "meter", "aria-valuemin": "0" }, this.bar);
    this.used = make("span", { class: "aq-nowrap" });
    this.next = make("td", { class: "aq-nowrap" });
    this.waiting = bdi("aq-clip");
    this.node = make(
      "tr",
      {},
      make("th", { scope: "row", class: "aq-name" }, this.name, " ", this.paused),
      this.allowed,
      make("td", {}, make("div", { class: "aq-use" }, this.meter, this.used)),
      this.next,
      make("td", { class: "aq-waiting" }, this.waiting)
    );
  }
  /** @param {LimitRow} row */
  update(row) {
    const full = row.used >= row.count;
    const allowed = allowedBy(row);
    const use = `${number(row.used)} of ${number(row.count)}`;
    setText(this.name, row.name);
    show(this.paused, row.paused_until !== null);
    setText(this.allowed, allowed);
    setAttribute(this.allowed, "title", allowed);
    const width = `${Math.min(100, 100 * row.used / Math.max(1, row.count)).toFixed(1)}%`;
    if (this.bar.style.width !== width) this.bar.style.width = width;
    setAttribute(this.meter, "class", full ? "aq-meter aq-full" : "aq-meter");
    setAttribute(this.meter, "aria-label", `Use of limit ${row.name}`);
    setAttribute(this.meter, "aria-valuemax", row.count);
    setAttribute(this.meter, "aria-valuenow", Math.min(row.used, row.count));
    setAttribute(this.meter, "aria-valuetext", use);
    setText(this.used, use);
    setText(this.next, nextStartOf(row, this.view.mirror.now));
    this.updateWaiting(row);
  }
  /** @param {LimitRow} row */
  updateWaiting(row) {
    const more = row.waiting > row.queues.length ? `, and ${number(row.waiting - row.queues.length)} more` : "";
    const names = row.queues.join(", ") + more;
    setText(this.waiting, row.waiting === 1 ? names : row.waiting ? queueCount(row.waiting) : "–");
    setAttribute(this.waiting, "title", names);
  }
};
function headings() {
  const names = ["limit", "allowed", "in use", "next start", "waiting"];
  return make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name)));
}

// parts/message_item.js
var MessageItem = class {
  /**
   * @param {View} view
   * @param {string} key
   * @param {() => void} fit Called when the row below was filled.
   */
  constructor(view, key, fit) {
    this.view = view;
    this.key = key;
    this.fit = fit;
    this.open = false;
    this.row = void 0;
    this.status = make("span", { class: "aq-status" });
    this.attempts = make("span", { class: "aq-quiet" });
    this.sent = make("td", { class: "aq-nowrap aq-quiet" });
    this.queue = bdi("aq-clip");
    this.body = bdi("aq-clip");
    this.outcome = bdi("aq-clip");
    const toggles = { "aria-expanded": "false", onclick: () => this.unfold(!this.open) };
    const attributes = { type: "button", class: "aq-link aq-toggle", ...toggles };
    this.toggle = make("button", attributes, this.status, " ", this.attempts);
    this.cancel = button("Cancel", "", (event) => view.act(event, { action: "cancel", message: key }));
    const retry = (event) => view.act(event, { action: "retry", message: key });
    this.retry = button("Retry", `Retry message ${key}: put it back into its queue`, retry);
    this.details = make("td", { colspan: "6" });
    this.below = make("tr", { class: "aq-detail", hidden: true }, this.details);
    this.node = make(
      "tr",
      { class: "aq-unfolds", onclick: (event) => this.clicked(event) },
      make("td", { class: "aq-nowrap" }, this.toggle),
      this.sent,
      make("td", {}, this.queue),
      make("td", { class: "aq-mono" }, this.body),
      make("td", { class: "aq-mono" }, this.outcome),
      make("td", { class: "aq-actions" }, this.cancel, this.retry)
    );
  }
  /**
   * A click anywhere on the row counts, except on a button of its own, or at the end of selecting text.
   * @param {Event} event
   */
  clicked(event) {
    const onButton = (
      /** @type {Element} */
      event.target.closest("button")
    );
    if (!onButton && document.getSelection()?.isCollapsed) this.unfold(!this.open);
  }
  /** @param {boolean} open */
  async unfold(open) {
    this.open = open;
    setAttribute(this.toggle, "aria-expanded", String(open));
    show(this.below, open);
    this.details.replaceChildren();
    if (!open) return;
    const reply = await this.view.mirror.ask({ type: "show", message: this.key });
    if (reply.error) return this.view.say(reply.error, true);
    if (reply.shown) this.details.replaceChildren(...detailsOf(reply.shown));
    this.fit();
  }
  /** @param {MessageRow} row */
  update(row) {
    const settledNow = this.row?.status && this.row.status !== row.status;
    this.row = row;
    setText(this.status, row.status);
    setAttribute(this.status, "data-status", row.status);
    setText(this.attempts, row.attempts > 1 ? `×${row.attempts}` : "");
    rename(this.cancel, `Cancel message ${this.key} of ${row.queue} of ${row.actor}`);
    setAttribute(this.toggle, "aria-label", `${row.status}, message ${this.key}: show all about it`);
    setText(this.sent, timeOfDay(row.created_at));
    setText(this.queue, `${row.queue} ${row.actor}`);
    setAttribute(this.queue, "title", `${row.queue} of ${row.actor}`);
    setText(this.body, row.body);
    setAttribute(this.body, "title", row.body);
    setText(this.outcome, row.outcome);
    setAttribute(this.outcome, "title", row.outcome);
    setAttribute(this.outcome, "class", row.bad ? "aq-clip aq-bad" : "aq-clip");
    show(this.cancel, row.live);
    show(this.retry, row.redeliverable);
    if (this.open && settledNow) this.unfold(true);
  }
};
function detailsOf(shown) {
  return [
    make("div", { class: "aq-part" }, make("span", { class: "aq-label" }, "id"), make("code", {}, shown.message)),
    ...part("body", shown.body),
    ...part("reply", shown.reply),
    ...part("error", shown.error, "aq-bad"),
    ...part("attempts", shown.attempts),
    ...part("key", shown.key)
  ];
}
function part(name, text, kind = "") {
  if (!text) return [];
  const label = make("span", { class: "aq-label" }, name);
  return [make("div", { class: "aq-part" }, label, make("pre", { class: kind, tabindex: "0" }, bdiOf(text)))];
}

// parts/messages.js
var PAGE = 20;
var TYPING = 250;
var COLUMNS = 6;
var Messages = class {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.wanted = { status: "all", search: "", offset: 0 };
    this.typing = void 0;
    this.filters = /* @__PURE__ */ new Map();
    this.search = make("input", {
      type: "search",
      class: "aq-search",
      placeholder: "search bodies, replies, errors",
      "aria-label": "Search messages",
      oninput: () => this.typed()
    });
    this.body = make("tbody");
    this.list = new KeyedList(this.body, (key) => new MessageItem(view, key, () => this.fit()));
    this.pager = new Pager("messages", (step) => this.turn({ offset: Math.max(0, this.wanted.offset + step * PAGE) }));
    this.empty = make("p", { class: "aq-empty" }, "No messages.");
    this.table = make(
      "table",
      { class: "aq-table aq-messages" },
      make("caption", { class: "aq-hidden" }, "Messages"),
      make("thead", {}, headings2()),
      this.body
    );
    this.chips = make("div", { class: "aq-chips", role: "group", "aria-label": "Which messages" });
    this.node = make(
      "section",
      { class: "aq-section", hidden: true },
      // until the kernel has read the first page of them
      make("div", { class: "aq-bar" }, make("h3", {}, "Messages"), this.chips, this.search),
      this.table,
      this.empty,
      this.pager.node
    );
  }
  /** The kernel knows which statuses there are. @param {string[]} names */
  offerFilters(names) {
    if (names.join() === [...this.filters.keys()].join()) return;
    this.filters = new Map(names.map((status) => [status, this.filter(status)]));
    this.chips.replaceChildren(...this.filters.values());
  }
  /** @param {string} status */
  filter(status) {
    const onclick = () => this.turn({ status, offset: 0 });
    return make("button", { type: "button", class: "aq-chip", onclick }, status);
  }
  /** Fits the details to the columns: a cell over more would bring back those that are hidden in narrow places. */
  fit() {
    const headings4 = (
      /** @type {HTMLTableSectionElement} */
      this.table.tHead.rows[0].cells
    );
    const shown = [...headings4].filter((cell) => cell.offsetParent).length;
    for (const cell of this.body.querySelectorAll(".aq-detail > td")) setAttribute(cell, "colspan", shown || COLUMNS);
  }
  typed() {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => this.turn({ search: this.search.value, offset: 0 }), TYPING);
  }
  /** @param {string} text */
  searchFor(text) {
    this.search.value = text;
    this.turn({ search: text, offset: 0 });
  }
  /** @param {Partial<PageOfMessages>} change */
  async turn(change) {
    this.wanted = { ...this.wanted, ...change };
    this.markFilter();
    const reply = await this.view.mirror.ask({ type: "page", ...this.wanted });
    if (reply.error) this.view.say(reply.error, true);
  }
  markFilter() {
    for (const [status, chip] of this.filters) setAttribute(chip, "aria-pressed", status === this.wanted.status);
  }
  update() {
    const { mirror } = this.view;
    const table = mirror.single("table");
    if (!table) return;
    const rows = mirror.rows("messages");
    const known = table.order.filter((key) => rows[key]);
    this.list.update(known, (key) => rows[key]);
    this.wanted = { status: table.status, search: table.search, offset: table.offset };
    this.offerFilters(table.filters);
    if (document.activeElement !== this.search && !this.search.matches(":focus")) this.search.value = table.search;
    this.markFilter();
    this.pager.update(range(table.offset, table.offset + known.length), table.offset > 0, table.more);
    show(this.empty, !known.length);
    show(this.table, known.length);
    const narrowed = table.search || table.status !== "all";
    setText(this.empty, narrowed ? "No message is like that." : "No messages yet.");
    show(this.node, known.length || narrowed || Object.keys(mirror.rows("queues")).length);
  }
};
function headings2() {
  const names = ["status", "sent", "queue", "body", "reply or error"].map((name) => make("th", { scope: "col" }, name));
  return make("tr", {}, ...names, make("th", { scope: "col", class: "aq-actions" }));
}

// parts/pauses.js
var PAUSES_SHOWN = 5;
var Pauses = class {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.rows = make("ul", { class: "aq-pauses", "aria-label": "Paused and stopped" });
    this.more = make("p", { class: "aq-quiet" });
    this.list = new KeyedList(this.rows, () => new PauseItem(view));
    this.node = make("section", {}, this.rows, this.more);
  }
  update() {
    const rows = this.view.mirror.rows("pauses");
    const batches = Object.values(this.view.mirror.rows("batches"));
    const ofBatches = new Set(batches.filter((batch) => batch.stopped !== null).map((batch) => batch.at));
    const shown = Object.keys(rows).filter((key) => !(rows[key].stopped && ofBatches.has(key)));
    const keys = shown.sort((a, b) => endOf(rows[a]) - endOf(rows[b]));
    this.list.update(keys.slice(0, PAUSES_SHOWN), (key) => rows[key]);
    const left = keys.length - PAUSES_SHOWN;
    setText(this.more, `${number(left)} more paused until later.`);
    show(this.more, left > 0);
    show(this.node, keys.length);
  }
};
var endOf = (row) => row.until ?? Infinity;
var PauseItem = class {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.always = true;
    this.row = void 0;
    this.name = bdi("aq-strong");
    this.state = make("span", { class: "aq-pause-left" });
    this.reason = bdi("aq-pause-reason");
    this.queues = bdi("aq-quiet");
    this.end = button("End pause", "", (event) => this.endPause(event));
    this.node = make(
      "li",
      {},
      make("div", { class: "aq-pause-text" }, this.name, " ", this.state, ": ", this.reason, " ", this.queues),
      this.end
    );
  }
  /** @param {Event} event */
  endPause(event) {
    const { row } = this;
    if (!row) return;
    if (row.limit === null) this.view.act(event, { action: "resume", key: row.queue });
    else this.view.act(event, { action: "end pause", limit: row.limit });
  }
  /** @param {PauseRow} row */
  update(row) {
    this.row = row;
    const left = row.until === null ? null : row.until - this.view.mirror.now;
    setText(this.name, row.name);
    if (row.stopped) setText(this.state, "is stopped");
    else if (left === null) setText(this.state, "is paused");
    else if (left > 0) setText(this.state, `is paused for ${duration(left)}`);
    else setText(this.state, "is paused, and tried with one message at a time");
    setAttribute(this.state, "title", row.until === null ? null : `until ${timeOfDay(row.until)}`);
    setText(this.reason, row.reason);
    setText(this.queues, waitsOf(row));
    setAttribute(this.queues, "title", row.queues.join(", "));
    setAttribute(this.node, "class", row.stopped ? "aq-pause-stopped" : null);
    setText(this.end, row.stopped ? "Resume" : "End pause");
    const again = "let messages start now. If the provider refuses again, no attempt is lost";
    rename(this.end, row.stopped ? `Resume ${row.name}` : `End pause of ${row.name}: ${again}`);
  }
};
function waitsOf(row) {
  if (row.limit === null || !row.waiting) return "";
  const waits = row.waiting === 1 ? row.queues[0] : queueCount(row.waiting);
  return `It holds ${waits}.`;
}

// sparkline.js
var SVG = "http://www.w3.org/2000/svg";
var WIDTH = 110;
var HEIGHT = 22;
var SHORTEST = 60;
function outline(points, now) {
  const top = Math.max(1, ...points.map((point) => point[1]));
  const span = Math.min(HISTORY, Math.max(SHORTEST, now - (points[0]?.[0] ?? now)));
  const x = (time) => Math.max(0, (1 - (now - time) / span) * WIDTH).toFixed(1);
  const y = (depth) => (HEIGHT - 1.5 - depth / top * (HEIGHT - 4)).toFixed(1);
  let line = "";
  points.forEach(([time, depth], index) => {
    line += index ? `H${x(time)}V${y(depth)}` : `M${x(time)} ${y(depth)}`;
  });
  if (line) line += `H${WIDTH}`;
  return {
    line,
    area: line && `${line}V${HEIGHT}H${x(points[0][0])}Z`,
    label: `${number(points.at(-1)?.[1])} now, at most ${number(top)} in the last ${duration(span)}`
  };
}
var Sparkline = class {
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
};

// parts/queue_item.js
var FIGURES = (
  /** @type {const} */
  [
    ["done", "aq-progress"],
    ["failed", ""],
    ["waiting", ""],
    ["running", ""],
    ["per min", "aq-rate"],
    ["time left", "aq-time"],
    ["oldest", "aq-time"]
  ]
);
var QueueItem = class {
  /**
   * @param {View} view
   * @param {string} key
   * @param {(text: string) => void} searchMessages
   */
  constructor(view, key, searchMessages) {
    this.view = view;
    this.key = key;
    this.always = true;
    this.row = void 0;
    this.queue = bdi("aq-strong");
    this.actor = bdi("aq-quiet");
    this.remark = make("span", { class: "aq-tag" });
    const search = () => searchMessages(`${this.row?.actor} ${this.row?.queue}`);
    const attributes = { type: "button", class: "aq-link", onclick: search };
    this.name = make("button", attributes, this.queue, " ", this.actor);
    this.line = new Sparkline();
    this.cells = FIGURES.map(([label, kind]) => make("td", { class: `aq-number ${kind}`, "data-label": label }));
    this.actions = new QueueActions(view, key);
    this.node = make(
      "tr",
      {},
      make("th", { scope: "row", class: "aq-name" }, this.name, this.remark),
      make("td", { class: "aq-wide" }, this.line.node),
      ...this.cells,
      make("td", { class: "aq-actions" }, this.actions.buttons, this.actions.confirmation.node)
    );
  }
  /** @param {QueueRow} row */
  update(row) {
    this.row = row;
    const { mirror } = this.view;
    setText(this.queue, row.queue);
    setText(this.actor, row.actor);
    setAttribute(this.name, "title", `Messages of ${row.queue} of ${row.actor}`);
    const remark = this.remarkOn(row);
    setText(this.remark, remark);
    setAttribute(this.remark, "title", row.reason ? `${remark}: ${row.reason}` : remark);
    show(this.remark, remark !== "");
    setAttribute(this.node, "class", row.paused ? "aq-paused" : null);
    this.updateFigures(row);
    this.actions.update(row);
    this.line.draw(mirror.history.of(this.key), mirror.elapsed);
  }
  /** @param {QueueRow} row */
  remarkOn(row) {
    const hold = holdOf(row, this.view.mirror.now);
    const remarks = hold ? [hold] : row.orphaned ? ["not declared any more"] : [];
    const senders = row.waiting_senders;
    if (senders) remarks.push(`full: ${number(senders)} ${senders === 1 ? "sender waits" : "senders wait"}`);
    if (row.expired) remarks.push(`${number(row.expired)} expired`);
    if (row.host) remarks.push(`on ${row.host}`);
    return remarks.join("; ");
  }
  /** @param {QueueRow} row */
  updateFigures(row) {
    const { mirror } = this.view;
    const [done, failed, waiting, running, rate, left, oldest] = this.cells;
    setText(done, progress(doneOf(row), totalOf(row)));
    setAttribute(done, "title", "completed or failed, before a restart of the kernel too");
    setText(failed, row.dead ? number(row.dead) : "–");
    setAttribute(failed, "class", row.dead ? "aq-number aq-bad" : "aq-number");
    setText(waiting, number(row.ready + row.delayed + row.blocked));
    const later = row.delayed ? [`${number(row.delayed)} of them for later`] : [];
    const blocked = row.blocked ? [`${number(row.blocked)} of them until other messages complete`] : [];
    setAttribute(waiting, "title", [...later, ...blocked].join(", ") || null);
    setText(running, row.running || "–");
    setText(rate, mirror.perMinute(this.key) || "–");
    setText(left, duration(mirror.timeLeft(this.key)) || "–");
    setText(oldest, row.oldest_at ? duration(mirror.now - row.oldest_at) : "–");
  }
};
var QueueActions = class {
  /**
   * @param {View} view
   * @param {string} key
   */
  constructor(view, key) {
    this.paused = false;
    this.pause = button("Pause", "", (event) => view.act(event, { action: this.paused ? "resume" : "pause", key }));
    this.purge = button("Purge", "", () => this.confirmation.open());
    this.buttons = make("div", { class: "aq-buttons" }, this.pause, this.purge);
    this.confirmation = new Confirmation(this.buttons, this.purge, "Keep the messages", async (event) => {
      await view.act(event, { action: "purge", key });
    });
  }
  /** @param {QueueRow} row */
  update(row) {
    this.paused = row.paused;
    const waiting = row.ready + row.delayed + row.blocked;
    const count = messageCount(waiting);
    const what = `queue ${row.queue} of ${row.actor}`;
    setText(this.pause, row.paused ? "Resume" : "Pause");
    setAttribute(this.pause, "aria-label", `${row.paused ? "Resume" : "Pause"} ${what}`);
    setAttribute(this.pause, "title", row.paused ? `Resume ${what}` : `Hand out nothing of ${what}`);
    setAttribute(this.purge, "aria-label", `Purge ${what}`);
    setAttribute(this.purge, "title", `Cancel what waits in ${what}`);
    this.confirmation.update(count, what);
    this.purge.disabled = waiting === 0;
    show(this.pause, !row.internal);
    show(this.purge, !row.internal);
  }
};

// parts/queues.js
var QUEUES_SHOWN = 10;
var byName2 = new Intl.Collator("en", { numeric: true });
var Queues = class {
  /**
   * @param {View} view
   * @param {(text: string) => void} searchMessages
   */
  constructor(view, searchMessages) {
    this.view = view;
    this.page = 0;
    this.body = make("tbody");
    this.list = new KeyedList(this.body, (key) => new QueueItem(view, key, searchMessages));
    this.pager = new Pager("queues", (step) => {
      this.page += step;
      this.update();
    });
    const command = make("code", {}, "%agentq send ACTOR/KEY QUEUE BODY");
    this.empty = make("p", { class: "aq-empty" }, "No messages yet. Send one: ", command);
    this.table = make(
      "table",
      { class: "aq-table aq-queues" },
      make("caption", {}, "Queues"),
      make("thead", {}, headings3()),
      this.body
    );
    this.node = make("section", { class: "aq-section" }, this.table, this.empty, this.pager.node);
  }
  update() {
    const { mirror } = this.view;
    const rows = mirror.rows("queues");
    const keys = Object.keys(rows).sort(byName2.compare);
    const last = Math.max(0, Math.ceil(keys.length / QUEUES_SHOWN) - 1);
    this.page = Math.min(Math.max(0, this.page), last);
    const from = this.page * QUEUES_SHOWN;
    const end = Math.min(from + QUEUES_SHOWN, keys.length);
    this.list.update(keys.slice(from, end), (key) => rows[key]);
    const left = mirror.single("host")?.left_out;
    const all = left ? `${number(keys.length)} of ${number(keys.length + left)}` : number(keys.length);
    this.pager.update(`${range(from, end)} of ${all}`, this.page > 0, this.page < last);
    show(this.empty, !keys.length);
    show(this.table, keys.length);
  }
};
function headings3() {
  const heading = (text, kind = "") => make("th", { scope: "col", class: kind || null }, text);
  return make(
    "tr",
    {},
    heading("queue"),
    heading("last minutes", "aq-wide"),
    ...FIGURES.map(([label, kind]) => heading(label, `aq-number ${kind}`)),
    heading("", "aq-actions")
  );
}

// parts/session_diff.js
var SessionDiff = class {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.session = void 0;
    this.open = false;
    this.toggle = button("Diff", "", () => this.open ? this.fold() : this.unfold());
    this.title = bdi("aq-quiet");
    this.text = make("pre", { tabindex: "0", role: "region", "aria-label": "Diff" });
    this.note = bdi("aq-quiet");
    this.node = make("div", { class: "aq-session-diff" }, this.title, this.text, this.note);
    this.fold();
  }
  fold() {
    this.open = false;
    setAttribute(this.toggle, "aria-expanded", "false");
    show(this.node, false);
    this.text.replaceChildren();
  }
  async unfold() {
    const { session } = this;
    this.open = true;
    setAttribute(this.toggle, "aria-expanded", "true");
    this.fill({ title: "Reading the diff…", text: "", note: "" });
    show(this.node, true);
    const { diff, error } = await this.view.mirror.ask({ type: "diff", session });
    if (!this.open || this.session !== session) return;
    if (diff) return this.fill(diff);
    this.fold();
    this.view.say(error ?? "", true);
  }
  /** @param {{ title: string, text: string, note: string }} diff */
  fill({ title, text, note }) {
    setText(this.title, title);
    this.text.replaceChildren(...text ? diffOf(text) : []);
    setText(this.note, note);
    show(this.text, text);
    show(this.note, note);
  }
  /**
   * @param {string | undefined} session
   * @param {SessionRow | undefined} row
   */
  update(session, row) {
    const offered = row?.in_clone;
    if (session !== this.session || !offered) this.fold();
    this.session = session;
    show(this.toggle, offered);
    if (row) rename(this.toggle, `Diff: all that ${row.actor} has changed in its repository`);
  }
};

// parts/sessions.js
var SESSIONS_SHOWN = 8;
var Sessions = class {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.page = 0;
    this.items = make("ul", { class: "aq-sessions", "aria-label": "Sessions" });
    this.list = new KeyedList(this.items, (key) => new SessionItem(this, key));
    this.pager = new Pager("sessions", (step) => {
      this.page += step;
      this.update();
    });
    this.diff = new SessionDiff(view);
    this.transcript = new Transcript(view);
    this.stop = button("Cancel prompt", "", (event) => this.cancelPrompt(event));
    this.title = bdi("aq-strong");
    const buttons = make("div", { class: "aq-buttons" }, this.diff.toggle, this.stop);
    this.head = make("div", { class: "aq-transcript-head" }, this.title, buttons);
    this.hint = make("p", { class: "aq-empty" }, "Choose a session to read along.");
    this.count = make("span", { class: "aq-quiet" });
    this.node = make(
      "section",
      { class: "aq-section" },
      make("h3", {}, "Sessions ", this.count),
      make(
        "div",
        { class: "aq-split" },
        make("div", { class: "aq-split-list" }, this.items, this.pager.node),
        make("div", { class: "aq-split-main" }, this.head, this.diff.node, this.transcript.node, this.hint)
      )
    );
  }
  chosen() {
    return this.view.mirror.single("transcript")?.session;
  }
  /** @param {string} session */
  async choose(session) {
    const wanted = session === this.chosen() ? null : session;
    const reply = await this.view.mirror.ask({ type: "choose", session: wanted });
    if (reply.error) this.view.say(reply.error, true);
  }
  /** @param {Event} event */
  cancelPrompt(event) {
    const session = this.chosen();
    const actor = session && this.view.mirror.rows("sessions")[session]?.at;
    this.view.act(event, { action: "stop", session, actor });
  }
  update() {
    const rows = this.view.mirror.rows("sessions");
    const keys = Object.keys(rows).sort((a, b) => byRank2(rows[a], rows[b]));
    this.updateList(keys, rows);
    const running = keys.filter((key) => rows[key].status === "running").length;
    setText(this.count, running ? `${running} at work` : "");
    const session = this.chosen();
    const row = session === void 0 ? void 0 : rows[session];
    this.updateChosen(row);
    this.diff.update(session, row);
    show(this.node, keys.length);
  }
  /**
   * @param {string[]} keys
   * @param {Record<string, SessionRow>} rows
   */
  updateList(keys, rows) {
    const last = Math.max(0, Math.ceil(keys.length / SESSIONS_SHOWN) - 1);
    this.page = Math.min(Math.max(0, this.page), last);
    const from = this.page * SESSIONS_SHOWN;
    const end = Math.min(from + SESSIONS_SHOWN, keys.length);
    this.list.update(keys.slice(from, end), (key) => rows[key]);
    this.pager.update(`${range(from, end)} of ${keys.length}`, this.page > 0, this.page < last);
  }
  /** @param {SessionRow | undefined} row */
  updateChosen(row) {
    show(this.head, row);
    show(this.transcript.node, row);
    show(this.hint, !row);
    if (!row) return;
    setText(this.title, `${row.agent} in ${row.actor}`);
    renameStop(this.stop, row);
    show(this.stop, row.status === "running");
  }
};
var rank2 = (row) => row.status === "running" ? 0 : row.status === "open" ? 1 : 2;
var byRank2 = (a, b) => rank2(a) - rank2(b) || b.created_at - a.created_at;
var SessionItem = class {
  /**
   * @param {Sessions} sessions
   * @param {string} key
   */
  constructor(sessions, key) {
    this.sessions = sessions;
    this.key = key;
    this.always = true;
    this.agent = bdi("aq-strong");
    this.actor = bdi("aq-quiet");
    this.status = make("span", { class: "aq-dot", role: "img" });
    this.said = bdi("aq-said-last aq-clip");
    this.age = make("span", { class: "aq-quiet aq-ago" });
    const name = make("span", { class: "aq-clip" }, this.agent, " ", this.actor);
    const attributes = { type: "button", class: "aq-session", onclick: () => sessions.choose(key) };
    this.choice = make("button", attributes, this.status, name, this.age, this.said);
    this.node = make("li", {}, this.choice);
  }
  /** @param {SessionRow} row */
  update(row) {
    setText(this.agent, row.agent);
    setText(this.actor, row.actor);
    setText(this.said, row.said || (row.status === "running" ? "works" : row.status));
    setText(this.age, duration(this.sessions.view.mirror.now - row.last_at));
    setAttribute(this.status, "data-status", row.status);
    setAttribute(this.status, "aria-label", row.status);
    setAttribute(this.status, "title", row.status);
    setAttribute(this.choice, "aria-current", this.sessions.chosen() === this.key ? "true" : null);
  }
};

// parts/tiles.js
var TILES = (
  /** @type {const} */
  [
    ["done", "done"],
    ["dead", "failed"],
    ["waiting", "waiting"],
    ["running", "running"],
    ["rate", "done / min"],
    ["left", "time left"],
    ["oldest", "oldest"],
    ["cost", "cost"]
  ]
);
var Tiles = class {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.node = make("div", { class: "aq-tiles" });
    this.values = /** @type {Record<typeof TILES[number][0], HTMLElement>} */
    {};
    for (const [key, label] of TILES) {
      this.values[key] = make("span", { class: "aq-figure" });
      const name = make("span", { class: "aq-tile-name" }, label);
      this.node.append(make("div", { "data-tile": key }, this.values[key], name));
    }
  }
  update() {
    const { mirror } = this.view;
    const queues = Object.entries(mirror.rows("queues"));
    const sum = (count) => queues.reduce((total, [key, row]) => total + count(row, key), 0);
    const oldest = Math.min(...queues.map(([, row]) => row.oldest_at ?? Infinity));
    const dead = sum((row) => row.dead);
    const left = Math.max(...queues.map(([key]) => mirror.timeLeft(key) ?? -1));
    setText(this.values.done, progress(sum(doneOf), sum(totalOf)));
    setText(this.values.left, left < 0 ? "–" : duration(left));
    setText(this.values.waiting, number(sum((row) => row.ready + row.delayed + row.blocked)));
    setText(this.values.running, number(sum((row) => row.running)));
    setText(this.values.rate, number(sum((_, key) => mirror.perMinute(key))));
    setText(this.values.dead, number(dead));
    setText(this.values.oldest, oldest === Infinity ? "–" : duration(mirror.now - oldest));
    const cost = mirror.single("host")?.cost ?? null;
    setText(this.values.cost, money(cost ?? 0));
    this.values.cost.parentElement.hidden = cost === null;
    setAttribute(this.values.dead, "class", dead ? "aq-figure aq-bad" : "aq-figure");
  }
};

// dashboard.js
var Dashboard = class extends View {
  /**
   * @param {Model} model
   * @param {HTMLElement} el
   */
  constructor(model, el) {
    super(model, el, "dashboard", "agentq dashboard");
    this.head = new Head(this);
    this.tiles = new Tiles(this);
    this.alerts = new Alerts(this);
    this.requests = new Requests(this);
    this.pauses = new Pauses(this);
    this.batches = new Batches(this);
    this.limits = new Limits(this);
    this.messages = new Messages(this);
    this.queues = new Queues(this, (text) => this.messages.searchFor(text));
    this.sessions = new Sessions(this);
    const above = [this.head, this.requests, this.alerts, this.pauses, this.tiles];
    const parts = [...above, this.batches, this.queues, this.limits, this.sessions, this.messages];
    this.root.append(...parts.map((part2) => part2.node));
    this.resized = new ResizeObserver(() => this.messages.fit());
    this.resized.observe(this.root);
    this.start();
  }
  close() {
    this.resized.disconnect();
    this.requests.close();
    super.close();
  }
  parts() {
    return {
      host: [this.head, this.alerts, this.tiles, this.batches, this.limits],
      actors: [this.alerts],
      requests: [this.requests],
      queues: [this.queues, this.tiles],
      batches: [this.batches, this.pauses],
      limits: [this.limits],
      pauses: [this.pauses],
      sessions: [this.sessions],
      transcript: [this.sessions, this.sessions.transcript],
      blocks: [this.sessions.transcript],
      messages: [this.messages],
      table: [this.messages]
    };
  }
  aging() {
    return [this.head, this.tiles, this.batches, this.queues, this.limits, this.sessions, this.alerts, this.pauses];
  }
};
var Head = class {
  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.store = bdi("aq-quiet aq-clip");
    this.up = make("span", { class: "aq-quiet aq-nowrap" });
    const title = make("span", { class: "aq-title" }, "agentq");
    this.node = make("header", { class: "aq-head" }, title, this.store, this.up, view.liveness);
  }
  update() {
    const { mirror } = this.view;
    const host = mirror.single("host");
    if (!host) return;
    setText(this.store, host.store);
    setAttribute(this.store, "title", host.path);
    setText(this.up, `up ${duration(mirror.now - host.started_at)}`);
  }
};

// index.js
var VIEWS = { dashboard: Dashboard, message: MessageCard, session: SessionCard };
function render({ model, el }) {
  const view = new VIEWS[model.get("kind")](model, el);
  return () => view.close();
}
var index_default = { render };
export {
  index_default as default
};
