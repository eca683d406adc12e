// The list of scans, the newest first. Buttons stay the same elements, so that they keep the focus.
import { el } from "./dom.js";
import { meter } from "./facts.js";
import { clock, errorWords, fallbacks, plural, state, title } from "./words.js";

export class ScanList {
  constructor(root, choose) {
    this.root = root;
    this.choose = choose;
    this.items = new Map();
  }

  update(scans, chosen) {
    const kept = new Set();
    scans.forEach((scan, place) => {
      kept.add(scan.id);
      let item = this.items.get(scan.id);
      if (!item) {
        const button = el("button", { type: "button", onclick: () => this.choose(scan.id) });
        item = { button, row: el("li", {}, button), scan: null };
        this.items.set(scan.id, item);
      }
      if (this.root.children[place] !== item.row) this.root.insertBefore(item.row, this.root.children[place] ?? null);
      item.button.setAttribute("aria-current", String(scan.id === chosen));
      if (item.scan !== scan) { item.scan = scan; fill(item.button, scan); }
    });
    for (const [id, item] of this.items) if (!kept.has(id)) { item.row.remove(); this.items.delete(id); }
  }
}

function fill(button, scan) {
  const [word, kind] = state(scan);
  button.className = `scan ${kind}`;
  const notes = [];
  const wrong = fallbacks(scan);
  if (wrong) notes.push(`${wrong} not as asked`);
  if (scan.incomplete) notes.push(`${scan.incomplete} incomplete`);
  if (scan.marked) notes.push(`${scan.marked} with doubtful data`);
  if (scan.deadline_misses) notes.push(`${scan.deadline_misses} late`);
  const count = scan.expected.images && scan.outcome === "running" ? `${scan.images} of ${scan.expected.images} images` : plural(scan.images, "image");
  const short = { Failed: "failed", Running: "running", Done: "done" }[word] ?? (kind === "bad" ? "peer gone" : kind === "warn" ? "done" : "connected");
  button.replaceChildren(
    el("b", { class: "title" }, title(scan)),
    el("span", { class: "sub" }, `${clock(scan.opened_at)} ${short}, ${count}`),
    notes.length ? el("div", { class: "sub warn-text" }, notes.join(", ")) : "",
    scan.error ? el("span", { class: "why" }, errorWords(scan)) : "",
    scan.outcome === "running" ? meter(scan) ?? "" : "",
  );
}
