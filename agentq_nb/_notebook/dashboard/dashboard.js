// The page's side of every live view of agentq. One module, no build step, nothing loaded from elsewhere.
//
// Whatever comes from the kernel is data: it goes into text nodes and nowhere else. The protocol is told in feed.py and
// deltas.py; moments are the kernel's, in seconds since 1970; lengths and rates go by its monotonic clock, since the
// other one can be set.

const SVG = "http://www.w3.org/2000/svg";
const HISTORY = 300; // seconds that a queue's line shows
const SPACING = 2; // seconds between two points of it
const SILENT = 3.2; // seconds without a word after which the kernel counts as busy
const WATCH_EVERY = 30; // seconds
const LONG_SILENT = 90;
const SETTLED_SHOWN = 1; // seconds until the picture takes the widget's place
const GONE_SHOWN = 5; // the same where the kernel may be one that is restarted
const UNUSED = 60; // seconds without a hand on the page after which it stops asking a quiet kernel

// --- the state and the conversation ----------------------------------------------------------------------------------

class Mirror {
  constructor(model, changed, dropped) {
    this.model = model;
    this.changed = changed;
    this.dropped = dropped;
    this.sections = {};
    this.history = new Map();
    this.number = 0;
    this.settled = false;
    this.gone = false;
    this.quiet = false; // nothing keeps the kernel alive, and this page is not to
    this.usedAt = performance.now();
    this.heardAt = performance.now();
    this.askedAt = 0;
    this.offset = 0;
    this.elapsedOffset = 0;
    this.requests = new Map();
    this.lastRequest = 0;
    this.onMessage = (message) => this.receive(message);
    this.onLive = () => this.lose();
    model.on("msg:custom", this.onMessage);
    model.on("comm_live_update", this.onLive);
  }

  close() {
    clearTimeout(this.leaving);
    this.model.off("msg:custom", this.onMessage);
    this.model.off("comm_live_update", this.onLive);
  }

  // The kernel that had this widget has ended. A word from it would bring it back.
  lose() {
    this.gone = true;
    this.changed(new Set());
    this.leavePicture(GONE_SHOWN);
  }

  get now() {
    return Date.now() / 1000 + this.offset;
  }

  // The kernel's monotonic clock.
  get elapsed() {
    return performance.now() / 1000 + this.elapsedOffset;
  }

  get silent() {
    return (performance.now() - this.heardAt) / 1000;
  }

  rows(name) {
    return this.sections[name] ?? {};
  }

  it(name) {
    return this.rows(name).it;
  }

  send(message) {
    try {
      this.model.send(message);
    } catch {
      this.lose();
    }
  }

  // Nothing is asked and nothing comes, so that the server may end a kernel that has nothing to do.
  get resting() {
    return this.quiet && (performance.now() - this.usedAt) / 1000 > UNUSED;
  }

  use() {
    const rested = this.resting;
    this.usedAt = performance.now();
    if (rested) this.watch();
  }

  // Says that somebody looks, and what they have; the answer is a whole state where that is not all.
  watch(have = this.number) {
    this.askedAt = performance.now();
    this.send({ type: "watch", have });
  }

  ask(message) {
    const request = ++this.lastRequest;
    return new Promise((resolve) => {
      this.requests.set(request, resolve);
      this.send({ ...message, request });
    });
  }

  receive(message) {
    this.heardAt = performance.now();
    this.gone = false;
    if (message.time) this.offset = message.time - Date.now() / 1000;
    if (message.elapsed) this.elapsedOffset = message.elapsed - performance.now() / 1000;
    if (message.settled) this.settled = true;
    if (message.number !== undefined) this.quiet = !!message.quiet;
    if (message.type === "answer") {
      this.requests.get(message.request)?.(message);
      this.requests.delete(message.request);
    } else if (message.type === "picture") {
      this.picture = message;
    } else if (message.type === "dropped") {
      // Nobody knows which: all that have no answer yet may be asked once more.
      const error = `This page asked more than the kernel listens to: ${number(message.count)} of its requests were dropped. Try again.`;
      for (const resolve of this.requests.values()) resolve({ error });
      this.requests.clear();
      this.dropped(error);
    } else if (message.type === "whole") {
      this.sections = message.sections;
      this.number = message.number;
      this.history = new Map(Object.entries(message.history ?? {}));
      this.changed(null);
    } else if (message.type === "changes" && message.number === this.number + 1) {
      this.number = message.number;
      this.apply(message);
    } else if (message.number !== this.number) {
      this.beginAgain();
    }
    if (message.settled) {
      this.changed(new Set());
      this.leavePicture(SETTLED_SHOWN);
    }
  }

  // Puts the picture in the place of the widget in the notebook, which can then be saved and read without a kernel. Where
  // the front end does that itself, it has done so by then; where it lets nobody at the notebook, the widget stays.
  leavePicture(seconds) {
    this.leaving ??= setTimeout(() => {
      this.leaving = undefined;
      if (!this.picture || !(this.gone || this.settled)) return;
      try {
        for (const cell of this.model.widget_manager.context.model.cells) replaceOutputs(cell.outputs, this.picture);
      } catch (error) {
        console.debug("agentq leaves its widget in the notebook", error);
      }
    }, seconds * 1000);
  }

  beginAgain() {
    if (performance.now() - this.askedAt > 500) this.watch(0);
  }

  apply({ set = {}, more = {}, gone = {}, elapsed }) {
    for (const [name, rows] of Object.entries(set)) {
      const section = (this.sections[name] ??= {});
      for (const [key, fields] of Object.entries(rows)) section[key] = { ...section[key], ...fields };
    }
    for (const [name, rows] of Object.entries(more))
      for (const [key, fields] of Object.entries(rows)) {
        const row = { ...this.sections[name][key] };
        for (const [field, text] of Object.entries(fields)) row[field] += text;
        this.sections[name][key] = row;
      }
    for (const [name, keys] of Object.entries(gone)) for (const key of keys) delete this.sections[name]?.[key];
    for (const key of Object.keys(set.queues ?? {})) this.note(key, elapsed);
    this.changed(new Set([...Object.keys(set), ...Object.keys(more), ...Object.keys(gone)]));
  }

  note(key, elapsed) {
    const row = this.sections.queues[key];
    const points = this.history.get(key) ?? this.history.set(key, []).get(key);
    const last = points.at(-1);
    const depth = row.ready + row.delayed + row.running;
    if (last && last[1] === depth && last[2] === row.handled) return;
    if (points.length > 1 && elapsed - points.at(-2)[0] < SPACING) points.pop();
    points.push([elapsed, depth, row.handled]);
    while (points.length > 2 && points[1][0] < elapsed - HISTORY) points.shift();
  }

  perMinute(key) {
    const points = this.history.get(key);
    if (!points?.length) return 0;
    const from = this.elapsed - 60;
    let before = points[0];
    for (const point of points) {
      if (point[0] > from) break;
      before = point;
    }
    return Math.max(0, points.at(-1)[2] - before[2]);
  }

  // Seconds until what is due in a queue is done, at the pace since it had work; null where there is none to tell.
  timeLeft(key) {
    const row = this.sections.queues?.[key];
    const points = this.history.get(key);
    const due = row ? row.ready + row.running : 0;
    if (!due || row.paused || !points?.length) return null;
    const emptied = points.findLastIndex((point) => point[1] === 0);
    const begun = points[Math.min(points.length - 1, Math.max(0, emptied))];
    const handled = points.at(-1)[2] - begun[2];
    const worked = this.elapsed - (points[emptied + 1]?.[0] ?? begun[0]);
    return handled > 0 && worked >= 1 ? (due * worked) / handled : null;
  }
}

const VIEW = "application/vnd.jupyter.widget-view+json";

function replaceOutputs(outputs, { model, data }) {
  for (let index = 0; index < (outputs?.length ?? 0); index++) {
    const output = outputs.get(index).toJSON();
    if (output.data?.[VIEW]?.model_id === model) outputs.set(index, { ...output, data });
  }
}

// --- making and updating elements ------------------------------------------------------------------------------------

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

function setText(node, text) {
  text = String(text ?? "");
  if (node.textContent !== text) node.textContent = text;
}

function setAttribute(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

const show = (node, visible) => setAttribute(node, "hidden", visible ? null : "");

// Text of users and agents: kept from reordering what stands beside it.
const bdi = (name) => make("bdi", { class: name });

function button(label, name, act, kind = "") {
  return make("button", { type: "button", class: `aq-button ${kind}`, "aria-label": name, title: name, onclick: act }, label);
}

// What a button does, and to what, for who points at it and for who listens to it.
function rename(node, name) {
  setAttribute(node, "aria-label", name);
  setAttribute(node, "title", name);
}

function renameStop(node, row) {
  rename(node, `Cancel prompt: stop what ${row.agent} does in ${row.actor} now; its session goes on`);
}

// Who is at the keyboard stays in the view when what had the focus goes away: the page around has keys of its own.
function keepFocus(...leaving) {
  const focused = document.activeElement;
  if (leaving.some((node) => node?.contains(focused))) focused.closest(".aq").focus({ preventScroll: true });
}

// Children by key: made once, updated when their row changed, put into the order of the keys.
class Keyed {
  constructor(parent, makeItem) {
    this.parent = parent;
    this.makeItem = makeItem;
    this.items = new Map();
  }

  update(keys, rowOf) {
    const wanted = new Set(keys);
    for (const [key, item] of this.items)
      if (!wanted.has(key)) {
        keepFocus(item.node, item.below);
        item.node.remove();
        item.below?.remove();
        this.items.delete(key);
      }
    let place = this.parent.firstChild;
    for (const key of keys) {
      let item = this.items.get(key);
      if (!item) this.items.set(key, (item = this.makeItem(key)));
      for (const node of [item.node, item.below]) {
        if (!node) continue;
        if (node === place) place = place.nextSibling;
        else this.parent.insertBefore(node, place);
      }
      const row = rowOf(key);
      if (item.row !== row || item.always) item.update((item.row = row));
    }
  }
}

// Previous and next, for lists that are longer than a page.
class Pager {
  constructor(name, turn) {
    this.back = button("‹", `Previous ${name}`, () => turn(-1));
    this.text = make("span", { class: "aq-quiet" });
    this.next = button("›", `More ${name}`, () => turn(1));
    this.node = make("div", { class: "aq-pager" }, this.back, this.text, this.next);
  }

  update(text, hasBack, hasNext) {
    setText(this.text, text);
    if (!(hasBack || hasNext)) keepFocus(this.node);
    else if (!hasBack && document.activeElement === this.back) this.next.focus();
    else if (!hasNext && document.activeElement === this.next) this.back.focus();
    this.back.disabled = !hasBack;
    this.next.disabled = !hasNext;
    show(this.node, hasBack || hasNext);
  }
}

// --- words for numbers and times -------------------------------------------------------------------------------------

const number = (value) => Math.round(value ?? 0).toLocaleString("en");

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

const clock = (time) => (time ? new Date(time * 1000).toLocaleTimeString([], { hour12: false }) : "");
const done = (row) => (row.completed ?? 0) + row.dead;
const total = (row) => done(row) + row.ready + row.delayed + row.running;
const progress = (finished, all) => (all ? `${number(finished)} of ${number(all)}` : "–");
const messages = (count) => `${number(count)} message${count === 1 ? "" : "s"}`;

// --- the line of a queue ---------------------------------------------------------------------------------------------

class Sparkline {
  constructor(width = 110, height = 22) {
    this.width = width;
    this.height = height;
    this.area = document.createElementNS(SVG, "path");
    this.line = document.createElementNS(SVG, "path");
    this.area.setAttribute("class", "aq-area");
    this.line.setAttribute("class", "aq-line");
    this.node = document.createElementNS(SVG, "svg");
    this.node.setAttribute("class", "aq-spark");
    this.node.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.node.setAttribute("preserveAspectRatio", "none");
    this.node.setAttribute("role", "img");
    this.node.append(this.area, this.line);
  }

  draw(points, now) {
    const top = Math.max(1, ...points.map((point) => point[1]));
    // A short history is drawn as wide as a minute at least, a long one as five: it is never a sliver at the edge.
    const span = Math.min(HISTORY, Math.max(60, now - (points[0]?.[0] ?? now)));
    const x = (time) => Math.max(0, (1 - (now - time) / span) * this.width).toFixed(1);
    const y = (depth) => (this.height - 1.5 - (depth / top) * (this.height - 4)).toFixed(1);
    let path = "";
    points.forEach(([time, depth], index) => {
      path += index ? `H${x(time)}V${y(depth)}` : `M${x(time)} ${y(depth)}`;
    });
    if (path) path += `H${this.width}`;
    setAttribute(this.line, "d", path);
    setAttribute(this.area, "d", path && `${path}V${this.height}H${x(points[0][0])}Z`);
    const last = points.at(-1)?.[1] ?? 0;
    setAttribute(this.node, "aria-label", `${number(last)} now, at most ${number(top)} in the last ${duration(span)}`);
  }
}

// --- what is shown of a host -----------------------------------------------------------------------------------------

// Runs one of the kernel's deeds from a button, and says how it went. A button that is disabled would lose the focus.
async function act(view, pressed, message) {
  if (pressed.getAttribute("aria-disabled")) return false;
  setAttribute(pressed, "aria-disabled", "true");
  const told = await view.mirror.ask({ type: "do", ...message });
  setAttribute(pressed, "aria-disabled", null);
  view.say(told.error ?? told.note ?? "", Boolean(told.error));
  return !told.error;
}

class Tiles {
  constructor(view) {
    this.view = view;
    this.values = {};
    this.node = make("div", { class: "aq-tiles" });
    for (const [key, label] of [
      ["done", "done"],
      ["dead", "failed"],
      ["waiting", "waiting"],
      ["running", "running"],
      ["rate", "done / min"],
      ["left", "time left"],
      ["oldest", "oldest"],
    ]) {
      this.values[key] = make("span", { class: "aq-figure" });
      this.node.append(make("div", { "data-tile": key }, this.values[key], make("span", { class: "aq-tile-name" }, label)));
    }
  }

  update() {
    const { mirror } = this.view;
    const queues = Object.entries(mirror.rows("queues"));
    const sum = (count) => queues.reduce((total, [key, row]) => total + count(row, key), 0);
    const oldest = Math.min(...queues.map(([, row]) => row.oldest_at ?? Infinity));
    const dead = sum((row) => row.dead);
    const left = Math.max(...queues.map(([key]) => mirror.timeLeft(key) ?? -1));
    setText(this.values.done, progress(sum(done), sum(total)));
    setText(this.values.left, left < 0 ? "–" : duration(left));
    setText(this.values.waiting, number(sum((row) => row.ready + row.delayed)));
    setText(this.values.running, number(sum((row) => row.running)));
    setText(this.values.rate, number(sum((_, key) => mirror.perMinute(key))));
    setText(this.values.dead, number(dead));
    setText(this.values.oldest, oldest === Infinity ? "–" : duration(mirror.now - oldest));
    setAttribute(this.values.dead, "class", dead ? "aq-figure aq-bad" : "aq-figure");
  }
}

class Alerts {
  constructor(view) {
    this.view = view;
    this.node = make("ul", { class: "aq-alerts", "aria-label": "Problems" });
    this.list = new Keyed(this.node, () => this.item());
  }

  item() {
    const who = bdi("aq-strong");
    const what = bdi();
    const node = make("li", {}, who, " ", what);
    return {
      node,
      update: ({ subject, text, bad }) => {
        setText(who, subject);
        setText(what, text);
        setAttribute(node, "class", bad ? "aq-alert-bad" : "aq-alert");
      },
    };
  }

  update() {
    const { mirror } = this.view;
    const host = mirror.it("host");
    const found = new Map();
    const add = (key, subject, text, bad = false) => found.set(key, { subject, text, bad });
    if (host?.trouble) add("trouble", "Nothing can be written just now.", host.trouble, true);
    for (const name of host?.waiting_for ?? [])
      add(`class ${name}`, name, "has work but no class yet: run the cell that defines it.");
    for (const [key, row] of Object.entries(mirror.rows("actors"))) {
      if (!row.error) continue;
      const again = row.restarts_at ? ` It starts again ${this.until(row.restarts_at)}.` : "";
      add(key, row.actor, `${row.state === "failed to start" ? "failed to start. " : ""}${row.error}${again}`, true);
    }
    if (host?.stall && mirror.now - host.stall_at < 60) add("stall", "The kernel stood still for", host.stall);
    const keys = [...found.keys()].slice(0, 8);
    this.list.update(keys, (key) => found.get(key));
    show(this.node, keys.length);
  }

  until(time) {
    const left = time - this.view.mirror.now;
    return left > 1 ? `in ${duration(left)}` : "now";
  }
}

const REQUESTS_SHOWN = 10;

// What an agent asks, whole. It can be allowed once its end was on the screen.
class Requests {
  constructor(view) {
    this.view = view;
    this.rows = make("div", { class: "aq-request-list" });
    this.left = make("p", { class: "aq-quiet" });
    this.node = make("section", { class: "aq-requests", "aria-label": "Agents ask for permission" }, this.rows, this.left);
    this.list = new Keyed(this.rows, (key) => this.item(key));
    this.resized = new ResizeObserver(() => this.list.items.forEach((item) => item.look()));
    this.resized.observe(this.rows);
  }

  close() {
    this.resized.disconnect();
  }

  item(key) {
    const who = bdi("aq-quiet");
    const what = bdi("aq-strong aq-asked");
    const kind = bdi("aq-tag");
    const hint = make("span", { class: "aq-quiet aq-hint", id: `aq-hint-${++this.view.ids}` });
    let row = {};
    const answer = (allow) => (event) =>
      act(this.view, event.currentTarget, {
        deed: "answer",
        actor: row.at,
        session: row.session,
        ask: key,
        allow,
      });
    const allow = button("Allow", "Allow what the agent asks", answer(true), "aq-primary");
    allow.disabled = true;
    setAttribute(allow, "aria-describedby", hint.id);
    let seen = false;
    let content;
    // A pixel is lost to rounding where the page is zoomed. Nothing is seen of what has no height: it is not drawn.
    const look = () => {
      if (seen || row.too_long || !all.clientHeight) return;
      if (all.scrollTop + all.clientHeight < all.scrollHeight - 2) return;
      seen = true;
      allow.disabled = false;
      setText(hint, "");
    };
    const all = make("div", { class: "aq-asked-all", role: "region", "aria-label": "All of what the agent asks", tabindex: "0", onscroll: look });
    const node = make(
      "div",
      { class: "aq-request", role: "group", "aria-label": "An agent asks" },
      make("div", { class: "aq-request-head" }, kind, what, who),
      all,
      make("div", { class: "aq-request-answers" }, hint, allow, button("Refuse", "Refuse what the agent asks", answer(false))),
    );
    this.resized?.observe(all);
    return {
      node,
      look,
      update: (next) => {
        row = next;
        setText(who, `${row.agent} in ${row.actor} asks`);
        setText(what, row.title || "something without a title");
        setText(kind, row.kind);
        show(kind, row.kind);
        const given = JSON.stringify([row.title, row.parts, row.too_long]);
        if (given === content) return; // the whole state was sent once more: nobody has to read it again
        content = given;
        seen = false;
        allow.disabled = true;
        all.replaceChildren(...asked(row));
        setText(hint, row.too_long ? "" : "Scroll to the end to allow it.");
        requestAnimationFrame(look);
      },
    };
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
}

// The parts of a request. Nothing of them scrolls by itself: the end of the whole is the end of each.
function asked(row) {
  if (row.too_long) {
    const said = `This is too long to be shown here (${number(row.too_long)} characters). In a cell, read all of it with `;
    const list = make("code", {}, "for request in await vm.list_permission_requests(): print(request.text)");
    const respond = make("code", {}, 'await vm.respond_permission(session_id, request_id, "allow")');
    return [make("p", {}, said, list, ", and allow it with ", respond, ". It can be refused here.")];
  }
  if (!row.parts?.length) return [make("p", { class: "aq-quiet" }, "The agent tells no more about it than this.")];
  return row.parts.map((part) =>
    make(
      "div",
      { class: "aq-asked-part" },
      make("div", { class: "aq-label" }, bdiOf(part.name)),
      make("pre", {}, ...(part.diff ? lines(part.text) : [bdiOf(part.text)])),
    ),
  );
}

const SIGNS = { "+": "aq-added", "-": "aq-removed", "@": "aq-hunk", "\\": "aq-hunk" };

// The lines of a diff, those of one kind together.
function lines(text) {
  const runs = [];
  for (const line of text.split("\n")) {
    const kind = SIGNS[line[0]] ?? "";
    if (runs.at(-1)?.kind === kind) runs.at(-1).lines.push(line);
    else runs.push({ kind, lines: [line] });
  }
  return runs.map((run) => {
    const node = bdiOf(run.lines.join("\n"));
    node.className = `aq-diff ${run.kind}`;
    return node;
  });
}

const QUEUES_SHOWN = 10;
const NUMBERS = [
  ["done", "aq-progress"],
  ["failed", ""],
  ["waiting", ""],
  ["running", ""],
  ["per min", "aq-rate"],
  ["time left", "aq-time"],
  ["oldest", "aq-time"],
];
const byName = new Intl.Collator("en", { numeric: true });

class Queues {
  constructor(view) {
    this.view = view;
    this.page = 0;
    this.body = make("tbody");
    this.list = new Keyed(this.body, (key) => this.item(key));
    this.pager = new Pager("queues", (step) => {
      this.page += step;
      this.update();
    });
    const head = (text, kind) => make("th", { scope: "col", class: kind }, text);
    this.empty = make("p", { class: "aq-empty" }, "No messages yet. Send one: ", make("code", {}, "%agentq send ACTOR/KEY QUEUE BODY"));
    this.table = make(
      "table",
      { class: "aq-table aq-queues" },
      make("caption", {}, "Queues"),
      make(
        "thead",
        {},
        make("tr", {}, head("queue"), head("last minutes", "aq-wide"), ...NUMBERS.map(([label, kind]) => head(label, `aq-number ${kind}`)), head("", "aq-actions")),
      ),
      this.body,
    );
    this.node = make("section", { class: "aq-section" }, this.table, this.empty, this.pager.node);
  }

  item(key) {
    const { view } = this;
    const queue = bdi("aq-strong");
    const actor = bdi("aq-quiet");
    const remark = make("span", { class: "aq-tag" });
    const name = make(
      "button",
      { type: "button", class: "aq-link", onclick: () => view.messages.searchFor(`${row.actor} ${row.queue}`) },
      queue,
      " ",
      actor,
    );
    const line = new Sparkline();
    const numbers = NUMBERS.map(([label, kind]) => make("td", { class: `aq-number ${kind}`, "data-label": label }));
    const [finished, failed, waiting, running, rate, left, oldest] = numbers;
    let row = {};
    const pause = button("Pause", "", (event) => act(view, event.currentTarget, { deed: row.paused ? "resume" : "pause", key }));
    const question = make("span", { class: "aq-question" });
    const yes = button("Cancel them", "", async (event) => {
      await act(view, event.currentTarget, { deed: "purge", key });
      confirm(false);
      pause.focus();
    }, "aq-danger");
    const keep = () => {
      confirm(false);
      purge.focus();
    };
    const no = button("Keep", "Keep the messages", keep);
    const purge = button("Purge", "", () => {
      confirm(true);
      no.focus();
    });
    const confirming = make("div", { class: "aq-confirm", role: "group", hidden: true }, question, yes, no);
    confirming.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      keep();
    });
    const buttons = make("div", { class: "aq-buttons" }, pause, purge);
    const confirm = (asked) => {
      show(confirming, asked);
      show(buttons, !asked);
    };
    const node = make(
      "tr",
      {},
      make("th", { scope: "row", class: "aq-name" }, name, remark),
      make("td", { class: "aq-wide" }, line.node),
      ...numbers,
      make("td", { class: "aq-actions" }, buttons, confirming),
    );
    const update = () => {
      const { mirror } = view;
      const pausedFor = row.paused_until ? row.paused_until - mirror.now : null;
      setText(queue, row.queue);
      setText(actor, row.actor);
      setAttribute(name, "title", `Messages of ${row.queue} of ${row.actor}`);
      setText(remark, row.paused ? (pausedFor === null ? "paused" : `paused, ${duration(pausedFor)} left`) : row.orphaned ? "not declared any more" : "");
      show(remark, row.paused || row.orphaned);
      const count = row.ready + row.delayed;
      setText(finished, progress(done(row), total(row)));
      setAttribute(finished, "title", "completed or failed for good, before a restart of the kernel too");
      setText(waiting, number(count));
      setAttribute(waiting, "title", row.delayed ? `${number(row.delayed)} of them for later` : null);
      setText(running, row.running || "–");
      setText(failed, row.dead ? number(row.dead) : "–");
      setAttribute(failed, "class", row.dead ? "aq-number aq-bad" : "aq-number");
      setText(rate, mirror.perMinute(key) || "–");
      setText(left, duration(mirror.timeLeft(key)) || "–");
      setText(oldest, row.oldest_at ? duration(mirror.now - row.oldest_at) : "–");
      setAttribute(node, "class", row.paused ? "aq-paused" : null);
      const what = `queue ${row.queue} of ${row.actor}`;
      setText(pause, row.paused ? "Resume" : "Pause");
      setAttribute(pause, "aria-label", `${row.paused ? "Resume" : "Pause"} ${what}`);
      setAttribute(pause, "title", row.paused ? `Go on with ${what}` : `Hand out nothing of ${what}`);
      setAttribute(purge, "aria-label", `Purge ${what}`);
      setAttribute(purge, "title", `Cancel what waits in ${what}`);
      setText(question, `Cancel ${messages(count)}?`);
      setAttribute(confirming, "aria-label", `Cancel ${messages(count)} of ${what}?`);
      setAttribute(yes, "aria-label", `Cancel them: ${messages(count)} of ${what}`);
      purge.disabled = count === 0;
      show(pause, !row.internal);
      show(purge, !row.internal);
      line.draw(mirror.history.get(key) ?? [], mirror.elapsed);
    };
    return {
      node,
      always: true,
      update: (next) => {
        row = next;
        update();
      },
    };
  }

  update() {
    const rows = this.view.mirror.rows("queues");
    const keys = Object.keys(rows).sort(byName.compare);
    const last = Math.max(0, Math.ceil(keys.length / QUEUES_SHOWN) - 1);
    this.page = Math.min(Math.max(0, this.page), last);
    const from = this.page * QUEUES_SHOWN;
    this.list.update(keys.slice(from, from + QUEUES_SHOWN), (key) => rows[key]);
    const left = this.view.mirror.it("host")?.left_out;
    const of = left ? `${number(keys.length)} of ${number(keys.length + left)}` : number(keys.length);
    this.pager.update(`${from + 1}–${Math.min(from + QUEUES_SHOWN, keys.length)} of ${of}`, this.page > 0, this.page < last);
    show(this.empty, !keys.length);
    show(this.table, keys.length);
  }
}

// --- sessions and their transcripts ----------------------------------------------------------------------------------

const LABELS = {
  prompt: "prompt",
  text: "agent",
  tool_call: "tool",
  tool_result: "result",
  result: "end",
  error: "error",
  note: "note",
  permission_request: "asks",
  permission_answer: "answer",
};

class Transcript {
  constructor(view) {
    this.view = view;
    this.session = null;
    this.older = {};
    this.atEnd = true; // new text is followed unless the reader scrolled away from the end
    this.blocks = make("div", { class: "aq-blocks" });
    this.list = new Keyed(this.blocks, () => this.block());
    this.earlier = button("Earlier", "Show what was said earlier", () => this.more());
    this.log = make(
      "div",
      {
        class: "aq-log",
        role: "log",
        "aria-live": "off",
        "aria-label": "Transcript",
        tabindex: "0",
        onscroll: () => (this.atEnd = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 24),
      },
      this.earlier,
      this.blocks,
    );
    this.node = this.log;
  }

  block() {
    const label = make("span", { class: "aq-label" });
    const text = bdi("aq-said");
    const data = bdi("aq-data");
    const node = make("div", {}, label, make("div", { class: "aq-block-body" }, text, data));
    return {
      node,
      update: (row) => {
        const kind = LABELS[row.type] ? row.type : "note";
        setAttribute(node, "class", `aq-block aq-block-${kind}`);
        setText(label, LABELS[kind]);
        setAttribute(label, "title", clock(row.time));
        setText(text, row.text);
        setText(data, row.data);
        show(text, row.text);
        show(data, row.data);
      },
    };
  }

  async more() {
    const before = this.first();
    this.earlier.disabled = true;
    const told = await this.view.mirror.ask({ type: "earlier", session: this.session, before });
    this.earlier.disabled = false;
    if (told.error) return this.view.say(told.error, true);
    const height = this.log.scrollHeight;
    // Bounded: what was fetched before makes room.
    this.older = { ...told.blocks };
    this.update();
    this.log.scrollTop += this.log.scrollHeight - height;
  }

  first() {
    const indexes = [...Object.keys(this.older), ...Object.keys(this.view.mirror.rows("blocks"))].map(Number);
    return Math.min(...indexes);
  }

  update() {
    const { mirror } = this.view;
    const session = mirror.it("transcript")?.session ?? null;
    if (session !== this.session) {
      this.session = session;
      this.older = {};
      this.atEnd = true;
    }
    const rows = { ...this.older, ...mirror.rows("blocks") };
    const keys = Object.keys(rows).sort((a, b) => a - b);
    this.list.update(keys, (key) => rows[key]);
    show(this.earlier, keys.length && Number(keys[0]) > 1);
    if (this.atEnd) this.log.scrollTop = this.log.scrollHeight;
  }
}

const SESSIONS_SHOWN = 8;

class Sessions {
  constructor(view) {
    this.view = view;
    this.page = 0;
    this.items = make("ul", { class: "aq-sessions", "aria-label": "Sessions" });
    this.list = new Keyed(this.items, (key) => this.item(key));
    this.pager = new Pager("sessions", (step) => {
      this.page += step;
      this.update();
    });
    this.transcript = new Transcript(view);
    this.stop = button("Cancel prompt", "", (event) => {
      const session = this.chosen();
      act(view, event.currentTarget, { deed: "stop", session, actor: view.mirror.rows("sessions")[session]?.at });
    });
    this.title = bdi("aq-strong");
    this.head = make("div", { class: "aq-transcript-head" }, this.title, this.stop);
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
        make("div", { class: "aq-split-main" }, this.head, this.transcript.node, this.hint),
      ),
    );
  }

  chosen() {
    return this.view.mirror.it("transcript")?.session;
  }

  item(key) {
    const agent = bdi("aq-strong");
    const actor = bdi("aq-quiet");
    const status = make("span", { class: "aq-dot", role: "img" });
    const said = bdi("aq-said-last aq-clip");
    const ago = make("span", { class: "aq-quiet aq-ago" });
    const pick = make(
      "button",
      { type: "button", class: "aq-session", onclick: () => this.choose(key) },
      status,
      make("span", { class: "aq-clip" }, agent, " ", actor),
      ago,
      said,
    );
    const node = make("li", {}, pick);
    return {
      node,
      always: true,
      update: (row) => {
        setText(agent, row.agent);
        setText(actor, row.actor);
        setText(said, row.said || (row.status === "running" ? "works" : row.status));
        setText(ago, duration(this.view.mirror.now - row.last_at));
        setAttribute(status, "data-status", row.status);
        setAttribute(status, "aria-label", row.status);
        setAttribute(status, "title", row.status);
        setAttribute(pick, "aria-current", this.chosen() === key ? "true" : null);
      },
    };
  }

  async choose(session) {
    const told = await this.view.mirror.ask({ type: "choose", session: session === this.chosen() ? null : session });
    if (told.error) this.view.say(told.error, true);
  }

  update() {
    const { mirror } = this.view;
    const rows = mirror.rows("sessions");
    const rank = (row) => (row.status === "running" ? 0 : row.status === "open" ? 1 : 2);
    const keys = Object.keys(rows).sort((a, b) => rank(rows[a]) - rank(rows[b]) || rows[b].created_at - rows[a].created_at);
    const last = Math.max(0, Math.ceil(keys.length / SESSIONS_SHOWN) - 1);
    this.page = Math.min(Math.max(0, this.page), last);
    const from = this.page * SESSIONS_SHOWN;
    this.list.update(keys.slice(from, from + SESSIONS_SHOWN), (key) => rows[key]);
    this.pager.update(`${from + 1}–${Math.min(from + SESSIONS_SHOWN, keys.length)} of ${keys.length}`, this.page > 0, this.page < last);
    const running = keys.filter((key) => rows[key].status === "running").length;
    setText(this.count, running ? `${running} at work` : "");
    const chosen = rows[this.chosen()];
    show(this.head, chosen);
    show(this.transcript.node, chosen);
    show(this.hint, !chosen);
    if (chosen) {
      setText(this.title, `${chosen.agent} in ${chosen.actor}`);
      renameStop(this.stop, chosen);
      show(this.stop, chosen.status === "running");
    }
    show(this.node, keys.length);
  }
}

// --- the table of messages -------------------------------------------------------------------------------------------

const FILTERS = ["all", "waiting", "running", "completed", "failed", "cancelled"];
const LIVE = ["queued", "delayed", "running"];

class Messages {
  constructor(view) {
    this.view = view;
    this.asked = { status: "all", search: "", offset: 0 };
    this.filters = new Map();
    const chips = make("div", { class: "aq-chips", role: "group", "aria-label": "Which messages" });
    for (const status of FILTERS) {
      const chip = make("button", { type: "button", class: "aq-chip", onclick: () => this.turn({ status, offset: 0 }) }, status);
      this.filters.set(status, chip);
      chips.append(chip);
    }
    this.search = make("input", {
      type: "search",
      class: "aq-search",
      placeholder: "search bodies, replies, errors",
      "aria-label": "Search messages",
      oninput: () => this.typed(),
    });
    this.body = make("tbody");
    this.list = new Keyed(this.body, (key) => this.item(key));
    this.pager = new Pager("messages", (step) => this.turn({ offset: Math.max(0, this.asked.offset + step * 20) }));
    const head = (text, kind) => make("th", { scope: "col", class: kind }, text);
    this.empty = make("p", { class: "aq-empty" }, "No messages.");
    this.table = make(
      "table",
      { class: "aq-table aq-messages" },
      make("caption", { class: "aq-hidden" }, "Messages"),
      make("thead", {}, make("tr", {}, head("status"), head("sent"), head("queue"), head("body"), head("reply or error"), head("", "aq-actions"))),
      this.body,
    );
    this.node = make(
      "section",
      { class: "aq-section" },
      make("div", { class: "aq-bar" }, make("h3", {}, "Messages"), chips, this.search),
      this.table,
      this.empty,
      this.pager.node,
    );
  }

  // A cell over all columns would bring back those that are hidden in narrow places.
  fit() {
    const columns = [...this.table.tHead.rows[0].cells].filter((cell) => cell.offsetParent).length;
    for (const cell of this.body.querySelectorAll(".aq-detail > td")) setAttribute(cell, "colspan", columns || 6);
  }

  typed() {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => this.turn({ search: this.search.value, offset: 0 }), 250);
  }

  searchFor(text) {
    this.search.value = text;
    this.turn({ search: text, offset: 0 });
  }

  async turn(change) {
    this.asked = { ...this.asked, ...change };
    this.chips();
    const told = await this.view.mirror.ask({ type: "page", ...this.asked });
    if (told.error) this.view.say(told.error, true);
  }

  chips() {
    for (const [status, chip] of this.filters) setAttribute(chip, "aria-pressed", status === this.asked.status);
  }

  item(key) {
    const { view } = this;
    const status = make("span", { class: "aq-status" });
    const attempts = make("span", { class: "aq-quiet" });
    const sent = make("td", { class: "aq-nowrap aq-quiet" });
    const queue = bdi("aq-clip");
    const body = bdi("aq-clip");
    const outcome = bdi("aq-clip");
    let open = false;
    let row = {};
    const toggle = make("button", { type: "button", class: "aq-link aq-toggle", "aria-expanded": "false", onclick: () => unfold(!open) }, status, " ", attempts);
    const cancel = button("Cancel", "", (event) => act(view, event.currentTarget, { deed: "cancel", message: key }));
    const retry = button("Retry", `Retry message ${key}: put it back into its queue`, (event) => act(view, event.currentTarget, { deed: "retry", message: key }));
    const detail = make("td", { colspan: "6" });
    const below = make("tr", { class: "aq-detail", hidden: true }, detail);
    const unfold = async (wanted) => {
      open = wanted;
      setAttribute(toggle, "aria-expanded", String(open));
      show(below, open);
      detail.replaceChildren();
      if (!open) return;
      const told = await view.mirror.ask({ type: "show", message: key });
      if (told.error) return view.say(told.error, true);
      detail.replaceChildren(...details(told.shown));
      this.fit();
    };
    // A click anywhere on the row, except on a button of its own, or at the end of selecting text.
    const clicked = (event) => {
      if (!event.target.closest("button") && document.getSelection().isCollapsed) unfold(!open);
    };
    const node = make(
      "tr",
      { class: "aq-unfolds", onclick: clicked },
      make("td", { class: "aq-nowrap" }, toggle),
      sent,
      make("td", {}, queue),
      make("td", { class: "aq-mono" }, body),
      make("td", { class: "aq-mono" }, outcome),
      make("td", { class: "aq-actions" }, cancel, retry),
    );
    return {
      node,
      below,
      update: (next) => {
        const settledNow = row.status && row.status !== next.status;
        row = next;
        setText(status, row.status);
        setAttribute(status, "data-status", row.status);
        setText(attempts, row.attempts > 1 ? `×${row.attempts}` : "");
        rename(cancel, `Cancel message ${key} of ${row.queue} of ${row.actor}`);
        setAttribute(toggle, "aria-label", `${row.status}, message ${key}: show all about it`);
        setText(sent, clock(row.created_at));
        setText(queue, `${row.queue} ${row.actor}`);
        setAttribute(queue, "title", `${row.queue} of ${row.actor}`);
        setText(body, row.body);
        setAttribute(body, "title", row.body);
        setText(outcome, row.outcome);
        setAttribute(outcome, "title", row.outcome);
        setAttribute(outcome, "class", row.bad ? "aq-clip aq-bad" : "aq-clip");
        show(cancel, LIVE.includes(row.status));
        show(retry, ["failed", "cancelled", "expired"].includes(row.status));
        if (open && settledNow) unfold(true);
      },
    };
  }

  update() {
    const { mirror } = this.view;
    const table = mirror.it("table");
    if (!table) return;
    const rows = mirror.rows("messages");
    const known = table.order.filter((key) => rows[key]);
    this.list.update(known, (key) => rows[key]);
    this.asked = { status: table.status, search: table.search, offset: table.offset };
    if (document.activeElement !== this.search && !this.search.matches(":focus")) this.search.value = table.search;
    this.chips();
    this.pager.update(`${table.offset + 1}–${table.offset + known.length}`, table.offset > 0, table.more);
    show(this.empty, !known.length);
    show(this.table, known.length);
    const narrowed = table.search || table.status !== "all";
    setText(this.empty, narrowed ? "No message is like that." : "No messages yet.");
    show(this.node, known.length || narrowed || Object.keys(mirror.rows("queues")).length);
  }
}

function details(shown) {
  const part = (name, text, kind = "") =>
    text ? [make("div", { class: "aq-part" }, make("span", { class: "aq-label" }, name), make("pre", { class: kind, tabindex: "0" }, bdiOf(text)))] : [];
  return [
    make("div", { class: "aq-part" }, make("span", { class: "aq-label" }, "id"), make("code", {}, shown.message)),
    ...part("body", shown.body),
    ...part("reply", shown.reply),
    ...part("error", shown.error, "aq-bad"),
    ...part("attempts", shown.attempts),
    ...part("key", shown.key),
  ];
}

function bdiOf(text) {
  const node = make("bdi");
  node.textContent = text;
  return node;
}

// --- views -----------------------------------------------------------------------------------------------------------

const USES = ["pointermove", "pointerdown", "keydown", "focusin"];

// What every view has: a heart that says whether the kernel lives, and a line for what happened.
class View {
  constructor(model, el, kind, name) {
    this.mirror = new Mirror(
      model,
      (names) => this.changed(names),
      (error) => this.say(error, true),
    );
    this.dirty = new Set();
    this.ids = 0;
    this.heart = make("span", { class: "aq-heart" });
    this.line = make("div", { class: "aq-line-of-status", role: "status", "aria-live": "polite" });
    this.root = make("div", { class: "aq", role: "region", "aria-label": name, tabindex: "-1", "data-agentq": kind, "data-state": "opening" });
    el.append(this.root);
    this.timer = setInterval(() => this.beat(), 500);
    this.used = () => this.mirror.use();
    for (const event of USES) document.addEventListener(event, this.used, { passive: true, capture: true });
  }

  begin() {
    this.root.append(this.line);
    const saved = this.mirror.model.get("saved");
    if (saved && Object.keys(saved).length) {
      this.mirror.sections = structuredClone(saved);
      this.changed(null);
    }
    this.mirror.watch(0);
    this.beat();
  }

  close() {
    clearInterval(this.timer);
    for (const event of USES) document.removeEventListener(event, this.used, { capture: true });
    cancelAnimationFrame(this.frame);
    this.mirror.close();
  }

  say(text, bad = false) {
    setText(this.line, text);
    setAttribute(this.line, "class", bad ? "aq-line-of-status aq-bad" : "aq-line-of-status");
  }

  // names: the sections that changed; null is all.
  changed(names) {
    for (const name of names ?? Object.keys(this.parts())) this.dirty.add(name);
    if (names === null) this.dirty.add("*");
    this.dirty.add("");
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.frame = undefined;
    const dirty = this.dirty;
    this.dirty = new Set();
    for (const [name, parts] of Object.entries(this.parts()))
      if (dirty.has("*") || dirty.has(name)) for (const part of parts) part.update();
    this.state();
  }

  beat() {
    const { mirror } = this;
    if (!mirror.settled && !mirror.resting && (performance.now() - mirror.askedAt) / 1000 > WATCH_EVERY) mirror.watch();
    this.state();
    if (document.hidden || !this.root.isConnected) return;
    if (this.root.dataset.state === "live") for (const part of this.ticking()) part.update();
    if (performance.now() - (this.savedAt ?? 0) > 5000 && mirror.number) {
      this.savedAt = performance.now();
      mirror.model.set("saved", mirror.sections); // stays in the page, for front ends that save widgets
    }
  }

  state() {
    const { mirror } = this;
    let state = "live";
    let text = "live";
    if (mirror.settled) [state, text] = ["ended", this.ended()];
    else if (mirror.gone) [state, text] = ["gone", "kernel gone – run this cell again"];
    else if (mirror.resting) [state, text] = ["resting", "resting while this page is not used"];
    else if (mirror.silent > LONG_SILENT) [state, text] = ["busy", `no word from the kernel for ${duration(mirror.silent)}: busy or gone`];
    else if (mirror.silent > SILENT) [state, text] = ["busy", `kernel busy for ${duration(mirror.silent)}`];
    else if (!mirror.number) [state, text] = ["opening", "connecting"];
    setAttribute(this.root, "data-state", state);
    setAttribute(this.root, "data-blank", Object.keys(mirror.sections).length ? null : ""); // nothing to show yet
    setText(this.heart, text);
  }

  ended() {
    return "host stopped";
  }

  ticking() {
    return [];
  }
}

class Dashboard extends View {
  constructor(model, el) {
    super(model, el, "dashboard", "agentq dashboard");
    this.store = bdi("aq-quiet aq-clip");
    this.up = make("span", { class: "aq-quiet aq-nowrap" });
    this.tiles = new Tiles(this);
    this.alerts = new Alerts(this);
    this.requests = new Requests(this);
    this.queues = new Queues(this);
    this.sessions = new Sessions(this);
    this.messages = new Messages(this);
    this.head = {
      update: () => {
        const host = this.mirror.it("host");
        if (!host) return;
        setText(this.store, host.store);
        setAttribute(this.store, "title", host.path);
        setText(this.up, `up ${duration(this.mirror.now - host.started_at)}`);
      },
    };
    this.root.append(
      make("header", { class: "aq-head" }, make("span", { class: "aq-title" }, "agentq"), this.store, this.up, this.heart),
      this.requests.node,
      this.alerts.node,
      this.tiles.node,
      this.queues.node,
      this.sessions.node,
      this.messages.node,
    );
    this.resized = new ResizeObserver(() => this.messages.fit());
    this.resized.observe(this.root);
    this.begin();
  }

  close() {
    this.resized.disconnect();
    this.requests.close();
    super.close();
  }

  parts() {
    return {
      host: [this.head, this.alerts],
      actors: [this.alerts],
      requests: [this.requests],
      queues: [this.queues, this.tiles],
      sessions: [this.sessions],
      transcript: [this.sessions, this.sessions.transcript],
      blocks: [this.sessions.transcript],
      messages: [this.messages],
      table: [this.messages],
    };
  }

  ticking() {
    return [this.head, this.tiles, this.queues, this.sessions, this.alerts];
  }
}

// A receipt: where its message is on its way, and what came of it.
class MessageCard extends View {
  constructor(model, el) {
    super(model, el, "message", "Message");
    this.root.classList.add("aq-card");
    this.status = make("span", { class: "aq-status" });
    this.where = bdi("aq-clip");
    this.time = make("span", { class: "aq-quiet aq-nowrap" });
    this.outcome = make("pre", { class: "aq-outcome", tabindex: "0" });
    const deed = (name) => (event) => act(this, event.currentTarget, { deed: name, message: this.mirror.it("message").id });
    this.cancel = button("Cancel", "", deed("cancel"));
    this.root.append(
      make("div", { class: "aq-head" }, this.status, this.where, this.time, this.cancel, this.heart),
      this.outcome,
    );
    this.begin();
  }

  parts() {
    return { message: [this] };
  }

  ticking() {
    return [this];
  }

  ended() {
    return "";
  }

  update() {
    const row = this.mirror.it("message");
    if (!row) return;
    setText(this.status, row.status);
    setAttribute(this.status, "data-status", row.status);
    setText(this.where, `${row.queue} of ${row.actor}`);
    setAttribute(this.where, "title", `Message ${row.id}`);
    rename(this.cancel, `Cancel message ${row.id} of ${row.queue} of ${row.actor}`);
    const tries = row.attempts > 1 ? `, attempt ${row.attempts}` : "";
    const others = row.others ? `, ${number(row.others)} other${row.others === 1 ? "" : "s"} in its queue` : "";
    setText(this.time, duration((row.settled ?? this.mirror.elapsed) - row.since) + others + tries);
    show(this.cancel, LIVE.includes(row.status));
    setText(this.outcome, row.error || row.reply);
    setAttribute(this.outcome, "class", row.error ? "aq-outcome aq-bad" : "aq-outcome");
    show(this.outcome, row.error || row.reply);
  }
}

// A session with an agent: its transcript as it streams.
class SessionCard extends View {
  constructor(model, el) {
    super(model, el, "session", "Session");
    this.root.classList.add("aq-card");
    this.status = make("span", { class: "aq-dot", role: "img" });
    this.title = bdi("aq-strong aq-clip");
    this.requests = new Requests(this);
    this.transcript = new Transcript(this);
    this.stop = button("Cancel prompt", "", (event) => {
      const { id, at } = this.mirror.it("session");
      act(this, event.currentTarget, { deed: "stop", session: id, actor: at });
    });
    this.root.append(make("div", { class: "aq-head" }, this.status, this.title, this.stop, this.heart), this.requests.node, this.transcript.node);
    this.begin();
  }

  close() {
    this.requests.close();
    super.close();
  }

  parts() {
    return { session: [this], requests: [this.requests], blocks: [this.transcript], transcript: [this.transcript] };
  }

  ended() {
    return "closed";
  }

  update() {
    const row = this.mirror.it("session");
    if (!row) return;
    setAttribute(this.status, "data-status", row.status);
    setAttribute(this.status, "aria-label", row.status);
    setText(this.title, `${row.agent} in ${row.actor}`);
    renameStop(this.stop, row);
    show(this.stop, row.status === "running");
  }
}

function render({ model, el }) {
  const views = { dashboard: Dashboard, message: MessageCard, session: SessionCard };
  const view = new views[model.get("kind")](model, el);
  return () => view.close();
}

export default { render };
