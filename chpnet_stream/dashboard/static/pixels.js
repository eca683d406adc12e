// 16-bit pixels: fetched when they are wanted, kept up to a limit; grey levels are made here.

const MOST_BYTES = 192e6;
const AT_ONCE = 4;

export class Pixels {
  constructor(onArrival) {
    this.kept = new Map();
    this.bytes = 0;
    this.loading = new Map();
    this.queue = [];
    this.gone = new Set();
    this.onArrival = onArrival;
  }

  get(number) {
    const found = this.kept.get(number);
    if (found) { this.kept.delete(number); this.kept.set(number, found); }
    return found;
  }

  // What the view needs now, the most wanted first; what it needed before is not fetched any more.
  want(pictures) {
    this.queue = pictures.filter((p) => !this.kept.has(p.number) && !this.loading.has(p.number) && !this.gone.has(p.number));
    this.next();
  }

  next() {
    while (this.loading.size < AT_ONCE && this.queue.length) this.load(this.queue.shift());
  }

  async load(picture) {
    this.loading.set(picture.number, true);
    try {
      const answer = await fetch(`/api/pictures/${picture.number}`);
      if (!answer.ok) { this.gone.add(picture.number); return; }
      const buffer = await answer.arrayBuffer();
      if (buffer.byteLength !== 2 * picture.width * picture.height) { this.gone.add(picture.number); return; }
      this.kept.set(picture.number, new Uint16Array(buffer));
      this.bytes += buffer.byteLength;
      for (const [number, old] of this.kept) {
        if (this.bytes <= MOST_BYTES || number === picture.number) break;
        this.kept.delete(number);
        this.bytes -= old.byteLength;
      }
    } catch {
      // The connection is gone: the feed says so, and what is wanted is asked for again.
    } finally {
      this.loading.delete(picture.number);
      this.onArrival();
      this.next();
    }
  }
}

const GREY = new Uint32Array(256).map((_, i) => 0xff000000 | (i << 16) | (i << 8) | i);

// Pixels to grey levels: `low` is black, `high` is white, in units of the values.
export function paint(canvas, picture, raw, low, high) {
  const scale = 255 / Math.max(high - low, 1e-12);
  const factor = picture.slope * scale;
  const shift = (picture.intercept - low) * scale + 0.5;
  draw(canvas, picture.width, picture.height, (out) => {
    for (let i = 0; i < out.length; i++) {
      const grey = raw[i] * factor + shift;
      out[i] = GREY[grey < 0 ? 0 : grey > 255 ? 255 : grey | 0];
    }
  });
}

// Magnitude of the difference of two pictures of one size; `high` is white.
export function paintDifference(canvas, a, rawA, b, rawB, high) {
  const scale = 255 / Math.max(high, 1e-12);
  draw(canvas, a.width, a.height, (out) => {
    for (let i = 0; i < out.length; i++) {
      const gap = rawA[i] * a.slope + a.intercept - rawB[i] * b.slope - b.intercept;
      const grey = Math.abs(gap) * scale + 0.5;
      out[i] = GREY[grey > 255 ? 255 : grey | 0];
    }
  });
}

function draw(canvas, width, height, fill) {
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  fill(new Uint32Array(image.data.buffer));
  context.putImageData(image, 0, 0);
}
