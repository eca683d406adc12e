// Numbers and states as people read them.

export const METHODS = { chpnet: "network", "cg-sense": "CG-SENSE", "zero-filled": "zero-filled", rss: "RSS", "": "unknown" };

export const method = (name) => METHODS[name] ?? name;

// A time in ms as number and unit.
export function time(value) {
  if (value === null || value === undefined) return ["–", ""];
  if (value >= 9999.5) return [(value / 1000).toFixed(0), "s"];
  if (value >= 1999.5) return [(value / 1000).toFixed(1), "s"];
  return [value < 9.95 ? value.toFixed(1) : value.toFixed(0), "ms"];
}

export const ms = (value) => time(value).join(" ").trim();

export function bytes(value) {
  if (value < 1e3) return `${value} B`;
  if (value < 1e6) return `${(value / 1e3).toFixed(0)} kB`;
  return value < 1e9 ? `${(value / 1e6).toFixed(value < 1e7 ? 1 : 0)} MB` : `${(value / 1e9).toFixed(1)} GB`;
}

export function seconds(value) {
  if (value < 60) return `${value.toFixed(value < 10 ? 1 : 0)} s`;
  return `${Math.floor(value / 60)} min ${Math.floor(value % 60)} s`;
}

export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e6)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

export const clock = (iso) => new Date(iso).toLocaleTimeString([], { hour12: false });

export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

// The state of a scan: a word, and the class of its colour.
export function state(scan) {
  if (scan.outcome === "waiting") return ["Connected, no header yet", "running"];
  if (scan.outcome === "running") return ["Running", flagged(scan) ? "warn" : "running"];
  if (scan.outcome === "failed") return ["Failed", "bad"];
  if (scan.outcome === "peer gone") return ["Broken off: the peer is gone", "bad"];
  return flagged(scan) ? ["Done, look at the marks", "warn"] : ["Done", "done"];
}

export const fallbacks = (scan) => scan.fallbacks.reduce((sum, f) => sum + f.count, 0);

export const flagged = (scan) => fallbacks(scan) + scan.incomplete + scan.marked + scan.deadline_misses > 0;

export const title = (scan) => scan.header?.protocol || (scan.outcome === "waiting" ? "new scan" : "scan without a name");

export const lines = (scan) => (scan.arrived.acquisitions ?? 0) - (scan.arrived.noise ?? 0);

export const errorWords = (scan) => scan.error.replace(/^chpnet-stream: /, "");
