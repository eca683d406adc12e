// Latencies as bars; those beyond the deadline in another colour.
import { svg } from "./dom.js";
import { ms } from "./words.js";

const WIDTH = 290, HEIGHT = 92, FOOT = 16, HEAD = 12, FEWEST = 7;

export function histogram(latency, deadline) {
  const { edges_ms: edges, counts } = latency.histogram;
  let first = counts.findIndex((n) => n > 0), last = counts.length - 1;
  while (last > first && counts[last] === 0) last -= 1;
  while (last - first + 1 < FEWEST && (first > 0 || last < counts.length - 1)) {
    if (first > 0) first -= 1;
    if (last - first + 1 < FEWEST && last < counts.length - 1) last += 1;
  }
  const shown = counts.slice(first, last + 1), most = Math.max(...shown), step = WIDTH / shown.length;
  const base = HEIGHT - FOOT, room = base - HEAD;
  const label = `Latencies: ${latency.count}, median ${ms(latency.p50)}, 99 percent within ${ms(latency.p99)}`;
  const plot = svg("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label });
  shown.forEach((count, i) => {
    const low = first + i === 0 ? 0 : edges[first + i - 1];
    const height = count ? Math.max(2, (count / most) * room) : 0;
    const high = edges[first + i] ?? Infinity;
    // A bin that the deadline is in has both colours, divided where the deadline is.
    const part = !(deadline > 0) || deadline >= high ? 1 : Math.max(0, (deadline - low) / (high - low));
    const x = i * step + 1.5, width = step - 3;
    if (part > 0) plot.append(svg("rect", { class: "b", x, y: base - height, width: width * part, height }));
    if (part < 1) plot.append(svg("rect", { class: "b over", x: x + width * part, y: base - height, width: width * (1 - part), height }));
    if (count) plot.append(text(i * step + step / 2, base - height - 2, String(count), "middle"));
    if (first + i < edges.length && i < shown.length - 1) plot.append(text((i + 1) * step, HEIGHT - 4, short(edges[first + i]), "middle"));
  });
  plot.append(text(WIDTH, HEIGHT - 4, "ms", "end"));
  plot.append(svg("line", { class: "axis", x1: 0, x2: WIDTH, y1: base, y2: base }));
  if (deadline > 0) {
    let i = 0;
    while (i < shown.length && edges[first + i] < deadline) i += 1;
    const low = first + i === 0 ? 0 : edges[first + i - 1], high = edges[first + i] ?? 2 * low;
    const x = Math.min(i + Math.min(1, Math.max(0, (deadline - low) / (high - low))), shown.length) * step;
    plot.append(svg("line", { class: "limit", x1: x, x2: x, y1: 2, y2: base }));
  }
  return plot;
}

const short = (value) => (value >= 1000 ? `${value / 1000}k` : String(value));

function text(x, y, words, anchor) {
  return svg("text", { x, y, "text-anchor": anchor }, words);
}
