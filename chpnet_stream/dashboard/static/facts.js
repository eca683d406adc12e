// The right-hand column and the banner: the scan in words and numbers.
import { el, pairs } from "./dom.js";
import { histogram } from "./histogram.js";
import { bytes, errorWords, fallbacks, lines, method, ms, number, plural, seconds, state, time, title } from "./words.js";

export function banner(scan) {
  if (!scan) return [el("span", { class: "state soft" }, "Waiting for a scan")];
  const [word, kind] = state(scan);
  const colour = { running: "accent", done: "ok", warn: "warn-text", bad: "bad-text" }[kind];
  const parts = [el("span", { class: `state ${colour}` }, word), el("span", { class: "name" }, title(scan))];
  if (scan.patient) parts.push(el("span", { class: "name" }, Object.values(scan.patient).join(", ")));
  if (scan.outcome !== "waiting") {
    const expected = scan.expected.images ? ` of ${Math.max(scan.expected.images, scan.images)}` : "";
    parts.push(big(`${scan.images}${expected}`, "images"));
    if (scan.latency_ms.count) {
      const [value, unit] = time(scan.latency_ms.p95);
      parts.push(big(value, `${unit} p95`));
    }
  }
  const notNetwork = fallbacks(scan);
  if (notNetwork) parts.push(big(String(notNetwork), "not as asked", "warn-text"));
  if (scan.incomplete) parts.push(big(String(scan.incomplete), "incomplete", "bad-text"));
  if (scan.marked) parts.push(big(String(scan.marked), "with doubtful data", "warn-text"));
  if (scan.deadline_misses) parts.push(big(String(scan.deadline_misses), "too late", "warn-text"));
  if (scan.error) parts.push(el("p", { class: "error" }, errorWords(scan)));
  return parts;
}

const big = (value, unit, kind = "") => el("span", { class: `big ${kind}` }, value, el("small", {}, ` ${unit}`));

export function facts(scan, picture) {
  if (!scan) return [];
  return [patient(scan), progress(scan), latency(scan), quality(scan), image(scan, picture), about(scan)].filter(Boolean);
}

const section = (name, ...children) => el("section", {}, el("h2", {}, name), ...children);

function patient(scan) {
  return scan.patient ? section("Patient", pairs(Object.entries(scan.patient))) : null;
}

function progress(scan) {
  const { expected, seen } = scan;
  const rows = [];
  const of = (have, want) => (want ? `${have} of ${Math.max(want, have)}` : String(have));
  if (scan.baseline_images) rows.push(["conventional beside", String(scan.baseline_images)]);
  const names = { slice: "slices", contrast: "echoes", phase: "phases", repetition: "repetitions", set: "sets" };
  for (const [name, many] of Object.entries(names)) {
    if ((expected[name] ?? 1) > 1 || (seen[name] ?? 0) > 1) rows.push([many, of(seen[name] ?? 0, expected[name])]);
  }
  const came = lines(scan);
  // What the limits promise is without calibration lines: it is passed where these are there.
  if (came) rows.push(["lines", came < expected.lines ? `${came} of at least ${expected.lines}` : String(came)]);
  for (const kind of ["images", "image arrays", "waveforms", "noise"]) {
    if (scan.arrived[kind]) rows.push([kind === "noise" ? "noise lines" : `${kind} received`, String(scan.arrived[kind])]);
  }
  if (scan.queue_bytes > 1e6) rows.push(["waiting to be worked on", bytes(scan.queue_bytes)]);
  rows.push(["time", seconds(scan.seconds)]);
  return section("Progress", el("div", { class: "facts-meter" }, meter(scan) ?? ""), pairs(rows));
}

export function meter(scan) {
  const want = scan.expected.images || 0;
  if (!want || scan.outcome === "waiting") return null;
  const part = Math.min(1, scan.images / want);
  return el("div", { class: `meter ${scan.outcome}`, role: "progressbar", "aria-valuemin": 0, "aria-valuemax": want,
    "aria-valuenow": scan.images, "aria-label": "images" }, el("i", { style: { width: `${100 * part}%` } }));
}

function latency(scan) {
  const told = scan.latency_ms;
  if (!told.count) return null;
  const deadline = scan.options.deadline_ms || 0;
  const cell = (name, value) => {
    const [shown, unit] = time(value);
    return el("div", { class: deadline && value > deadline ? "over" : "" }, el("b", {}, shown), el("span", {}, `${name} ${unit}`));
  };
  const rows = [["first image", ms(told.first)]];
  if (deadline) rows.push(["deadline", `${number(deadline)} ms`], ["sent too late", String(scan.deadline_misses)]);
  return section("Latency, last readout to last byte",
    el("div", { class: "numbers" }, cell("p50", told.p50), cell("p95", told.p95), cell("p99", told.p99), cell("max", told.max)),
    histogram(told, deadline), pairs(rows));
}

function quality(scan) {
  const rows = Object.entries(scan.methods).map(([name, count]) => [`by ${method(name)}`, String(count)]);
  if (scan.residual.mean !== null) {
    rows.push(["residual, mean", number(scan.residual.mean)], ["residual, largest", number(scan.residual.largest)]);
  }
  const marks = scan.fallbacks.map((f) => el("li", {}, `${plural(f.count, "image")}: ${f.first}`));
  if (scan.incomplete) marks.push(el("li", { class: "bad" }, `${plural(scan.incomplete, "image")} with lines missing`));
  const first = scan.flagged.find((f) => f.mark);
  if (scan.marked) marks.push(el("li", {}, [`${plural(scan.marked, "image")} with doubtful data`, first?.mark].filter(Boolean).join(": ")));
  if (!rows.length && !marks.length) return null;
  return section("How they were made", pairs(rows), el("ul", { class: "list" }, ...marks));
}

function image(scan, picture) {
  if (!picture) return null;
  return section("Chosen image", pairs([
    ["image", `${picture.image}${picture.beside ? ", conventional beside" : ""}`],
    ["slice", String(picture.slice)],
    ["repetition", picture.repetition || scan.expected.repetition > 1 ? String(picture.repetition) : ""],
    ["phase", picture.phase || scan.expected.phase > 1 ? String(picture.phase) : ""],
    ["echo", picture.contrast || scan.expected.contrast > 1 ? String(picture.contrast) : ""],
    ["made by", method(picture.method)],
    ["residual", picture.residual === null ? "" : number(picture.residual)],
    ["latency", picture.latency_ms === null ? "" : `${ms(picture.latency_ms)}${picture.late ? ", too late" : ""}`],
    ["lines missing", picture.missing_lines ? String(picture.missing_lines) : ""],
    ["matrix", `${picture.width} × ${picture.height}`],
    ["pixel", `${number(picture.pixel_mm[0])} × ${number(picture.pixel_mm[1])} mm`],
    ["position (LPS)", picture.position_mm.map((v) => v.toFixed(1)).join(", ")],
  ]), ...[picture.fallback, picture.mark].filter(Boolean).map((why) => el("ul", { class: "list" }, el("li", {}, why))));
}

function about(scan) {
  const h = scan.header, o = scan.options, m = scan.model;
  const size = (values) => values?.join(" × ");
  const list = (values, unit) => (values?.length ? `${values.map(number).join(", ")} ${unit}` : "");
  return section("Scan", pairs([
    ["from", scan.name.replace(/^scan \d+ from /, "")], ["id", scan.id],
    ["sequence", h.sequence], ["system", [h.vendor, h.system].filter(Boolean).join(" ")],
    ["field", h.field_strength_t ? `${number(h.field_strength_t)} T` : ""], ["coils", h.coils && String(h.coils)],
    ["trajectory", h.trajectory], ["k-space", size(h.encoded_matrix)], ["image", size(h.image_matrix)],
    ["field of view", h.recon_fov_mm && `${h.recon_fov_mm.map(number).join(" × ")} mm`],
    ["acceleration", h.acceleration && size(h.acceleration.filter((a, i) => i === 0 || a > 1))], ["calibration", h.calibration],
    ["TE", list(h.te_ms, "ms")], ["TR", list(h.tr_ms, "ms")], ["flip angle", list(h.flip_angle_deg, "°")],
    ["patient position", h.patient_position], ["method", o.method && method(o.method)],
    ["model", m.name ? `${m.name} ${(m.checksum ?? "").slice(0, 8)}` : o.method === "chpnet" ? o.model : ""], ["engine", m.engine],
  ]), h.notes?.length ? el("ul", { class: "list" }, ...h.notes.map((n) => el("li", {}, n))) : null);
}
