// Ties the parts together: what the server tells, the list, the images, the facts.
import { $, setText } from "./dom.js";
import { banner, facts } from "./facts.js";
import { Feed } from "./feed.js";
import { ScanList } from "./list.js";
import { Pixels } from "./pixels.js";
import { Viewer } from "./viewer.js";
import { bytes, plural, state, title } from "./words.js";

const feed = new Feed();
const pixels = new Pixels(() => draw());
const viewer = new Viewer(feed, pixels, () => draw());
const list = new ScanList($("scan-list"), (id) => { setFollow(false); chosen = id; draw(); });

let chosen = null;
let follow = true;
let asked = false;
let shown = "";
let announced = "";

// One drawing for any number of changes before the next frame.
function draw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; update(); });
}

function setFollow(on) { follow = on; $("follow").checked = on; }

// The newest scan that has a header; a running one first.
function newest(scans) {
  return scans.find((s) => s.outcome === "running") ?? scans.find((s) => s.outcome !== "waiting") ?? scans[0];
}

function update() {
  const scans = feed.state.order.map((id) => feed.scans.get(id)).filter(Boolean);
  if (follow || !feed.scans.has(chosen)) chosen = newest(scans)?.id ?? null;
  const scan = feed.scans.get(chosen) ?? null;
  viewer.show(scan);
  list.update(scans, chosen);
  $("no-scans").hidden = scans.length > 0;
  viewer.render();
  const picture = viewer.chosen();
  const mark = JSON.stringify([scan, picture]);
  if (mark !== shown) {
    shown = mark;
    $("banner").className = scan ? state(scan)[1] : "";
    $("banner").replaceChildren(...banner(scan));
    $("facts").replaceChildren(...facts(scan, picture));
  }
  const words = scan ? `${title(scan)}: ${state(scan)[0]}` : "";
  if (words !== announced) { announced = words; setText($("announce"), words); document.title = words ? `${words} · chpnet-stream` : "chpnet-stream live view"; }
  link();
}

function link() {
  const { state: now, server, link: at } = feed;
  const told = { on: "connected", off: "no connection to the server", connecting: "connecting" };
  $("link").className = `pill ${at}`;
  setText($("link"), told[at]);
  const parts = [];
  if (server.version) parts.push(`${server.command} ${server.version}`);
  if (now.scans !== undefined) {
    parts.push(plural(now.running, "scan running", "scans running"), `${plural(now.scans, "scan")} since start`, plural(now.images, "image"));
    if (now.failed) parts.push(`${now.failed} failed`);
    parts.push(`pictures ${bytes(now.picture_bytes)} of ${bytes(now.picture_limit_bytes)}`);
    if (now.pictures_dropped) parts.push(`${now.pictures_dropped} images not shown here (too fast for this page; they were sent)`);
  }
  setText($("server"), parts.join(" · "));
}

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const tag = event.target.tagName;
  if (tag === "INPUT" || tag === "SELECT") return;
  if (tag === "BUTTON" && (event.key === " " || event.key === "Enter")) return;
  const order = feed.state.order;
  const hop = (by) => { setFollow(false); chosen = order[Math.min(order.length - 1, Math.max(0, order.indexOf(chosen) + by))] ?? chosen; draw(); };
  const own = { "?": () => $("help").showModal(), f: () => { setFollow(!follow); draw(); }, j: () => hop(1), k: () => hop(-1) }[event.key];
  if (own) own();
  else if (!viewer.key(event)) return;
  event.preventDefault();
}

feed.addEventListener("change", draw);
$("follow").addEventListener("change", () => { setFollow($("follow").checked); draw(); });
$("help-open").addEventListener("click", () => $("help").showModal());
document.addEventListener("keydown", key);
draw();
