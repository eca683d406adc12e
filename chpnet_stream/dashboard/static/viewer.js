// The images: montage, cine, comparison; grey levels, zoom, slice and frame.
import { $, el, setText } from "./dom.js";
import { frameKey } from "./feed.js";
import { paint, paintDifference } from "./pixels.js";
import { method, ms, number, plural } from "./words.js";

const SMALLEST_TILE = 104;
const MOST_PLACEHOLDERS = 256;
const CLICK_PIXELS = 4;
const CAPTION = 20, LARGE_CAPTION = 28;
const AHEAD = 8;

export class Viewer {
  constructor(feed, pixels, changed) {
    this.feed = feed;
    this.pixels = pixels;
    this.changed = changed;
    this.mode = "montage";
    this.moves = false;
    this.gain = 5;
    this.zoom = 1;
    this.pan = [0, 0];
    this.speed = 10;
    this.playing = false;
    this.live = true;
    this.views = new Map();
    this.tiles = new Map();
    this.scan = null;
    this.pointers = new Map();
    this.stage = $("stage");
    new ResizeObserver(() => this.changed()).observe(this.stage);
    this.listen();
  }

  // What one looks at in a scan; kept for each, so that one can come back.
  get view() {
    const id = this.scan?.id ?? "";
    if (!this.views.has(id)) this.views.set(id, { slice: null, frame: null, contrast: null, set: null, window: null });
    return this.views.get(id);
  }

  show(scan) {
    if (scan?.id !== this.scan?.id) { this.playing = false; this.zoom = 1; this.pan = [0, 0]; }
    this.scan = scan;
  }

  get index() { return this.feed.index(this.scan?.id); }

  // ---- what there is to show

  slices() {
    const found = new Set(this.index.sorted("slice"));
    const expected = this.scan?.expected.slice ?? 0;
    if (expected <= MOST_PLACEHOLDERS) for (let i = 0; i < expected; i++) found.add(i);
    return [...found].sort((a, b) => a - b);
  }

  contrast() { return this.view.contrast ?? this.index.sorted("contrast")[0] ?? 0; }

  set() { return this.view.set ?? this.index.sorted("set")[0] ?? 0; }

  slice() {
    if (this.view.slice !== null) return this.view.slice;
    if (this.live && this.scan?.outcome === "running" && this.index.last) return this.index.last.slice;
    const known = this.index.sorted("slice");
    return known[Math.floor(known.length / 2)] ?? 0;
  }

  frame() {
    if (this.live || this.view.frame === null) return "newest";
    return this.view.frame;
  }

  picture(slice, beside = false) { return this.index.find(beside, this.contrast(), this.set(), this.frame(), slice); }

  // The chosen image, for the column of facts.
  chosen() { return this.scan ? this.picture(this.slice()) ?? null : null; }

  window() {
    if (this.view.window) return this.view.window;
    return this.index.window ?? [0.5, 1];
  }

  limits() {
    const [centre, width] = this.window();
    return [centre - width / 2, centre + width / 2];
  }

  // ---- drawing

  render() {
    this.controls();
    const wanted = [];
    const draw = { montage: () => this.montage(wanted), cine: () => this.cine(wanted), compare: () => this.compare(wanted) };
    if (!this.scan) this.note("No scan has come yet. This page shows the images of each as they are sent.");
    else if (!this.index.last && !(this.mode === "montage" && this.scan.expected.slice && this.scan.outcome === "running")) this.note(this.nothing());
    else draw[this.mode]();
    this.pixels.want(wanted);
  }

  nothing() {
    if (this.scan.error) return "No image was made.";
    return this.scan.images ? "The images of this scan are not kept any more." : "No image has been made yet.";
  }

  note(...words) {
    this.stage.className = "";
    this.tiles.clear();
    this.stage.replaceChildren(el("p", { class: "note" }, ...words));
    this.stage.style.removeProperty("grid-template-columns");
  }

  montage(wanted) {
    const slices = this.slices(), chosen = this.slice();
    const shape = this.shape(this.index.last);
    const { columns, width, scrolls } = this.fit(slices.length, shape);
    this.place(slices.map((slice) => `s${slice}`), columns, scrolls, slices.length === 1);
    for (const slice of slices) {
      const picture = this.picture(slice);
      this.tile(`s${slice}`, picture, { width, shape, slice, chosen: slice === chosen, label: width < 130 || (width < 240 && picture && flags(picture).length) ? String(slice) : `slice ${slice}`, empty: this.scan.outcome === "running" ? `slice ${slice}` : `no slice ${slice}` });
      if (picture) wanted.push(picture);
    }
    wanted.sort((a, b) => b.number - a.number);
  }

  cine(wanted) {
    const slice = this.slice(), picture = this.picture(slice);
    const shape = this.shape(picture ?? this.index.last);
    this.place(["one"], 1, false, true);
    this.tile("one", picture, { width: this.fit(1, shape).width, shape, slice, label: this.label(slice, picture), empty: "not there" });
    if (picture) wanted.push(picture);
    wanted.push(...this.ahead());
  }

  compare(wanted) {
    if (!this.index.beside) {
      this.note("This scan has no conventional series beside the network's. Start the server with ",
        el("code", {}, "--property send_baseline=true"), ", or set send_baseline in the chain.");
      return;
    }
    const slice = this.slice(), network = this.picture(slice), baseline = this.picture(slice, true);
    const shape = this.shape(network ?? this.index.last), { columns, width } = this.fit(3, shape);
    this.place(["network", "baseline", "difference"], columns, false, true);
    const name = network && !flags(network).length ? `${method(network.method)}, ` : "";
    this.tile("network", network, { width, shape, slice, label: `${name}slice ${slice}`, empty: "not there" });
    this.tile("baseline", baseline, { width, shape, slice, label: baseline ? method(baseline.method) : "conventional", empty: "not there" });
    const same = network && baseline && network.width === baseline.width && network.height === baseline.height;
    this.tile("difference", same ? network : null, { width, shape, slice, against: baseline, label: `difference × ${this.gain}`, empty: network && baseline ? "other matrix: no difference" : "not there" });
    for (const picture of [network, baseline]) if (picture) wanted.push(picture);
    wanted.push(...this.ahead());
  }

  label(slice, picture) {
    const parts = [`slice ${slice}`];
    if (picture && this.index.frames.size > 1) parts.push(this.frameWords(frameKey(picture)));
    return parts.join(", ");
  }

  ahead() {
    const [axis, values, at] = this.axis();
    const found = [];
    for (let i = 1; i <= Math.min(AHEAD, values.length - 1); i++) {
      const next = values[(at + i) % values.length];
      const [frame, slice] = axis === "frame" ? [next, this.slice()] : [this.frame(), next];
      for (const beside of this.mode === "compare" ? [false, true] : [false]) {
        const picture = this.index.find(beside, this.contrast(), this.set(), frame, slice);
        if (picture) found.push(picture);
      }
    }
    return found;
  }

  shape(picture) {
    if (!picture) {
      const size = this.scan?.header.recon_fov_mm;
      return size && size[0] > 0 && size[1] > 0 ? size[0] / size[1] : 1;
    }
    const shape = (picture.width * (picture.pixel_mm[0] || 1)) / (picture.height * (picture.pixel_mm[1] || 1));
    return Number.isFinite(shape) && shape > 0 ? Math.min(8, Math.max(0.125, shape)) : 1;
  }

  // Columns and width of tiles, so that all are seen, and as large as can be.
  fit(count, shape) {
    const room = [this.stage.clientWidth - 10, this.stage.clientHeight - 10];
    const caption = this.mode === "montage" && count > 1 ? CAPTION : LARGE_CAPTION;
    let best = { columns: 1, width: 0, scrolls: false };
    for (let columns = 1; columns <= count; columns++) {
      const rows = Math.ceil(count / columns);
      const width = Math.min((room[0] - 4 * (columns - 1)) / columns, ((room[1] - 4 * (rows - 1)) / rows - caption) * shape);
      if (width > best.width) best = { columns, width, scrolls: false };
    }
    if (best.width >= SMALLEST_TILE || count === 1) return best;
    const columns = Math.max(1, Math.floor((room[0] - 14) / (SMALLEST_TILE + 24)));
    return { columns, width: (room[0] - 16 - 4 * (columns - 1)) / columns, scrolls: true };
  }

  place(keys, columns, scrolls, large) {
    const old = [...this.tiles.keys()];
    if (old.length !== keys.length || old.some((key, i) => key !== keys[i])) {
      const kept = new Map(keys.map((key) => [key, this.tiles.get(key) ?? makeTile(key)]));
      this.tiles = kept;
      this.stage.replaceChildren(...[...kept.values()].map((tile) => tile.root));
    }
    this.stage.className = `${scrolls ? "scrolls" : ""} ${large ? "large" : ""}`.trim();
    this.stage.style.setProperty("grid-template-columns", `repeat(${columns}, max-content)`);
  }

  tile(key, picture, { width, shape, slice, chosen, label, empty, against }) {
    const tile = this.tiles.get(key), { root, canvas } = tile;
    tile.slice = slice;
    root.style.setProperty("width", `${width}px`);
    tile.image.style.setProperty("height", `${width / shape}px`);
    tile.image.style.setProperty("flex", "none");
    const marks = picture && !against ? flags(picture) : [];
    const worst = marks.some(([, kind]) => kind === "bad") ? "bad" : marks.length ? "warn" : "";
    root.className = `tile ${picture ? "" : "empty"} ${worst} ${chosen ? "chosen" : ""}`;
    canvas.hidden = !picture;
    setText(tile.empty, picture ? "" : empty);
    setText(tile.label, picture ? label : "");
    for (const side of ["left", "right", "top", "bottom"]) setText(tile.edges[side], picture?.edges[side] ?? "");
    const words = marks.map(([text]) => text).join(", ");
    const short = marks.map(([, , text]) => text);
    setText(tile.flags, width >= 330 ? words : width >= 150 ? short.join(", ") : short[0] ?? "");
    tile.flags.hidden = !words;
    setText(tile.foot, picture && !against && (!words || width > 330) ? foot(picture, width) : "");
    root.title = words;
    root.setAttribute("aria-label", picture ? [label, ...marks.map(([text]) => text)].join(", ") : empty);
    if (!picture) { tile.painted = ""; return; }
    const [low, high] = this.limits();
    const raw = this.pixels.get(picture.number), other = against && this.pixels.get(against.number);
    const key2 = `${picture.number}|${against?.number}|${low}|${high}|${this.gain}|${!!raw}|${!!other}`;
    // Until its pixels are there the picture before stays, so that nothing flickers.
    if (raw && (!against || other) && tile.painted !== key2) {
      if (against) paintDifference(canvas, picture, raw, against, other, (high - low) / this.gain);
      else paint(canvas, picture, raw, low, high);
      tile.painted = key2;
      tile.number = picture.number;
      root.dataset.picture = String(picture.number);
    }
    canvas.style.setProperty("transform", `translate(${this.pan[0] * width}px, ${this.pan[1] * width}px) scale(${this.zoom})`);
    canvas.style.setProperty("image-rendering", (width * this.zoom) / picture.width > 4 ? "pixelated" : "auto");
  }

  // ---- slice and frame

  // What is played: frames where there are several, else slices.
  axis() {
    const frames = this.index.sortedFrames();
    if (frames.length > 1) {
      const shown = this.frame() === "newest" ? this.picture(this.slice()) : null;
      const at = frames.indexOf(shown ? frameKey(shown) : this.frame());
      return ["frame", frames, at < 0 ? frames.length - 1 : at];
    }
    const slices = this.index.sorted("slice");
    return ["slice", slices, Math.max(0, slices.indexOf(this.slice()))];
  }

  frameWords(key) {
    const [repetition, phase] = key.split(".");
    const many = (place) => new Set([...this.index.frames.values()].map((f) => f[place])).size > 1;
    const parts = [];
    if (many(0)) parts.push(`repetition ${repetition}`);
    if (many(1)) parts.push(`phase ${phase}`);
    return parts.join(", ") || "frame 0";
  }

  step(axis, by, wrap = false) {
    if (axis === "slice") {
      const slices = this.index.sorted("slice");
      this.view.slice = next(slices, this.slice(), by, wrap);
    } else {
      const [, frames, at] = this.axis();
      if (this.index.frames.size < 2) return;
      this.live = false;
      this.view.frame = next(frames, frames[at], by, wrap);
    }
    this.changed();
  }

  play(on = !this.playing) {
    this.playing = on;
    clearInterval(this.timer);
    if (on) {
      if (this.mode === "montage" && this.axis()[0] === "slice") this.mode = "cine";
      this.timer = setInterval(() => (this.playing ? this.step(this.axis()[0], 1, true) : clearInterval(this.timer)), 1000 / this.speed);
    }
    this.changed();
  }

  setMode(mode) { this.mode = mode; this.zoom = 1; this.pan = [0, 0]; this.changed(); }

  setZoom(zoom, about = [0.5, 0.5]) {
    const to = Math.min(16, Math.max(1, zoom)), ratio = to / this.zoom;
    // The point under the mouse stays where it is; pan is in widths of a tile.
    this.pan = this.pan.map((p, i) => about[i] - (about[i] - p) * ratio);
    this.zoom = to;
    this.bound();
    this.changed();
  }

  bound() {
    const height = 1 / this.shape(this.chosen());
    const keep = (p, size) => Math.min(0.5 * size, Math.max(p, size * (0.5 - this.zoom)));
    this.pan = this.zoom === 1 ? [0, 0] : [keep(this.pan[0], 1), keep(this.pan[1], height)];
  }

  setWindow(centre, width) {
    if (!Number.isFinite(centre) || !(width > 0)) return;
    this.view.window = [centre, width];
    this.changed();
  }

  // ---- controls

  controls() {
    const { view } = this;
    document.querySelectorAll("[data-mode]").forEach((b) => radio(b, b.dataset.mode === this.mode));
    $("move").setAttribute("aria-pressed", String(this.moves));
    const [centre, width] = this.window();
    for (const [id, value] of [["centre", centre], ["width", width]]) {
      if (document.activeElement !== $(id)) $(id).value = number(value);
    }
    setText($("fit"), `${Math.round(100 * this.zoom)}%`);
    $("gain-group").hidden = this.mode !== "compare";
    choices("contrast", this.index.sorted("contrast"), this.contrast());
    choices("set", this.index.sorted("set"), this.set());
    const slices = this.index.sorted("slice"), frames = this.index.sortedFrames(), slice = this.slice();
    $("slice-group").hidden = this.mode === "montage" || slices.length < 2;
    range($("slice"), slices.length - 1, slices.indexOf(slice));
    setText($("slice-out"), String(slice));
    const [axis, , at] = this.axis();
    $("frame-group").hidden = frames.length < 2;
    const where = axis === "frame" ? at : frames.length - 1;
    range($("frame"), frames.length - 1, where);
    setText($("frame-name"), frames.length > 1 ? this.frameWords(frames[Math.max(0, where)]).replace(/ \d+(?=,|$)/g, "") : "frame");
    setText($("frame-out"), `${where + 1}/${frames.length}`);
    setText($("play"), this.playing ? "Pause" : "Play");
    $("play").disabled = frames.length < 2 && slices.length < 2;
    $("speed-group").hidden = $("play").disabled;
    $("live").checked = this.live;
    view.contrast = view.contrast !== null && !this.index.values.contrast.has(view.contrast) ? null : view.contrast;
  }

  listen() {
    document.querySelectorAll("[data-mode]").forEach((b) => b.addEventListener("click", () => this.setMode(b.dataset.mode)));
    $("move").addEventListener("click", () => { this.moves = !this.moves; this.changed(); });
    const number2 = () => this.setWindow(parseFloat($("centre").value), parseFloat($("width").value));
    for (const id of ["centre", "width"]) $(id).addEventListener("change", number2);
    $("auto").addEventListener("click", () => { this.view.window = null; this.changed(); });
    $("zoom-in").addEventListener("click", () => this.setZoom(this.zoom * 1.5));
    $("zoom-out").addEventListener("click", () => this.setZoom(this.zoom / 1.5));
    $("fit").addEventListener("click", () => this.setZoom(1));
    $("play").addEventListener("click", () => this.play());
    $("gain").addEventListener("change", () => { this.gain = Number($("gain").value); this.changed(); });
    $("speed").addEventListener("change", () => { this.speed = Number($("speed").value); if (this.playing) this.play(true); });
    $("slice").addEventListener("input", () => { this.view.slice = this.index.sorted("slice")[Number($("slice").value)]; this.changed(); });
    $("frame").addEventListener("input", () => { this.live = false; this.view.frame = this.index.sortedFrames()[Number($("frame").value)]; this.changed(); });
    $("live").addEventListener("change", () => this.setLive($("live").checked));
    for (const name of ["contrast", "set"]) $(name).addEventListener("change", () => { this.view[name] = Number($(name).value); this.changed(); });
    this.stage.addEventListener("pointerdown", (e) => this.down(e));
    this.stage.addEventListener("pointermove", (e) => this.move(e));
    for (const name of ["pointerup", "pointercancel"]) this.stage.addEventListener(name, (e) => this.up(e));
    this.stage.addEventListener("dblclick", (e) => this.open(e));
    this.stage.addEventListener("wheel", (e) => this.wheel(e), { passive: false });
  }

  setLive(on) {
    if (!on && this.view.frame === null) {
      const [axis, values, at] = this.axis();
      this.view.frame = axis === "frame" ? values[at] : this.index.sortedFrames()[0] ?? null;
    }
    this.live = on;
    if (on) { this.view.slice = this.mode === "montage" ? this.view.slice : null; this.playing = false; }
    this.changed();
  }

  tileOf(event) {
    const root = event.target.closest?.(".tile");
    return root ? [...this.tiles.values()].find((t) => t.root === root) : null;
  }

  down(event) {
    if (!this.tileOf(event) || event.button > 1) return;
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (this.pointers.size > 1) { this.gesture = { kind: "pinch", gap: this.gap(), zoom: this.zoom }; return; }
    const move = this.moves || event.shiftKey || event.button === 1;
    if (this.stage.classList.contains("scrolls") && event.pointerType === "touch" && !move) return;
    this.gesture = { kind: move ? "move" : "window", tile: this.tileOf(event), from: [event.clientX, event.clientY], window: this.window(), pan: [...this.pan], far: false };
    this.stage.setPointerCapture(event.pointerId);
    if (event.button === 1) event.preventDefault();
  }

  gap() {
    const [[ax, ay], [bx, by]] = [...this.pointers.values()];
    return Math.hypot(ax - bx, ay - by) || 1;
  }

  move(event) {
    if (!this.gesture || !this.pointers.has(event.pointerId)) return;
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    const g = this.gesture;
    if (g.kind === "pinch") { if (this.pointers.size > 1) this.setZoom((g.zoom * this.gap()) / g.gap); return; }
    const [dx, dy] = [event.clientX - g.from[0], event.clientY - g.from[1]];
    g.far ||= Math.hypot(dx, dy) > CLICK_PIXELS;
    if (!g.far) return;
    if (g.kind === "window") {
      const [centre, width] = g.window;
      this.setWindow(centre - (dy / 250) * width, Math.max(width * 2 ** (dx / 150), 1e-9));
    } else {
      const size = g.tile.root.clientWidth || 1;
      this.pan = [g.pan[0] + dx / size, g.pan[1] + dy / size];
      this.bound();
      this.changed();
    }
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    const g = this.gesture;
    if (this.pointers.size === 0) this.gesture = null;
    if (g && g.kind !== "pinch" && !g.far && this.mode === "montage" && event.type === "pointerup") {
      this.view.slice = g.tile.slice;
      this.changed();
    }
  }

  open(event) {
    const tile = this.tileOf(event) ?? [...this.tiles.values()].find((t) => t.slice === this.slice());
    if (this.mode !== "montage" || !tile) return;
    this.view.slice = tile.slice;
    this.setMode("cine");
  }

  wheel(event) {
    const tile = this.tileOf(event);
    if (!tile || (this.stage.classList.contains("scrolls") && !event.ctrlKey)) return;
    event.preventDefault();
    const box = tile.image.getBoundingClientRect();
    const about = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.width];
    this.setZoom(this.zoom * Math.exp(-event.deltaY / 400), about);
  }

  // A key; true where it meant something.
  key(event) {
    const [centre, width] = this.window();
    const actions = {
      1: () => this.setMode("montage"), 2: () => this.setMode("cine"), 3: () => this.setMode("compare"),
      ArrowLeft: () => this.step(this.axis()[0], -1), ArrowRight: () => this.step(this.axis()[0], 1),
      ArrowUp: () => this.step("slice", -1), ArrowDown: () => this.step("slice", 1),
      " ": () => this.play(), l: () => this.setLive(!this.live),
      "+": () => this.setZoom(this.zoom * 1.5), "=": () => this.setZoom(this.zoom * 1.5),
      "-": () => this.setZoom(this.zoom / 1.5), 0: () => this.setZoom(1),
      w: () => { this.view.window = null; this.changed(); },
      "[": () => this.setWindow(centre, width / 1.2), "]": () => this.setWindow(centre, width * 1.2),
      Enter: () => this.mode === "montage" && this.open(event),
    };
    const action = actions[event.key];
    action?.();
    return action !== undefined;
  }
}

function next(values, now, by, wrap) {
  const at = values.indexOf(now);
  if (!values.length) return now;
  if (at < 0) return values[0];
  const to = at + by;
  return values[wrap ? (to + values.length) % values.length : Math.min(values.length - 1, Math.max(0, to))];
}

// What is to be marked of an image: text, class, and the text where there is little room.
function flags(picture) {
  const found = [];
  if (picture.missing_lines) found.push([`${plural(picture.missing_lines, "line")} missing`, "bad", `−${plural(picture.missing_lines, "line")}`]);
  if (!picture.finite) found.push(["NaN or infinite pixels", "bad", "NaN"]);
  if (picture.fallback) found.push([`${method(picture.method)}: ${picture.fallback.split(":")[0]}`, "warn", method(picture.method)]);
  if (picture.mark) found.push(["check the data", "warn", "data"]);
  if (picture.late) found.push([`sent after ${ms(picture.latency_ms)}`, "warn", "late"]);
  return found;
}

function foot(picture, width) {
  const parts = [];
  if (picture.residual !== null && width > 330) parts.push(`residual ${picture.residual.toFixed(3)}`);
  if (picture.latency_ms !== null) parts.push(ms(picture.latency_ms));
  return parts.join(", ");
}

function makeTile(key) {
  const tile = { canvas: el("canvas", { width: 1, height: 1 }), label: el("span"), flags: el("span", { class: "flags" }),
    foot: el("span", { class: "foot" }), empty: el("span"), edges: {}, painted: "" };
  for (const side of ["left", "right", "top", "bottom"]) tile.edges[side] = el("span", { class: `edge ${side}` });
  tile.image = el("div", { class: "image" }, tile.canvas, tile.empty, ...Object.values(tile.edges));
  tile.root = el("figure", { class: "tile", "data-tile": key, role: "img" }, tile.image, el("figcaption", {}, tile.label, tile.flags, tile.foot));
  return tile;
}

function radio(button, on) {
  button.setAttribute("aria-checked", String(on));
}

function range(input, most, at) {
  input.max = String(Math.max(0, most));
  if (document.activeElement !== input || Number(input.value) !== at) input.value = String(Math.max(0, at));
}

function choices(id, values, now) {
  $(`${id}-group`).hidden = values.length < 2;
  const select = $(id);
  if (select.options.length !== values.length) select.replaceChildren(...values.map((v) => el("option", { value: v }, String(v))));
  select.value = String(now);
}
