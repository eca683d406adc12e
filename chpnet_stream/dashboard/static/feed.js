// What the server tells: the state, the scans, the facts of pictures. Kept in step by server-sent events.

const SILENCE_MS = 12000;
const RETRY_MS = 4000;

export class Feed extends EventTarget {
  constructor() {
    super();
    this.server = {};
    this.state = { order: [] };
    this.scans = new Map();
    this.pictures = new Map();
    this.byScan = new Map();
    this.link = "connecting";
    this.heard = Date.now();
    this.connect();
    setInterval(() => this.watch(), 1000);
  }

  connect() {
    this.source?.close();
    const source = new EventSource("/api/events");
    this.source = source;
    const on = (name, take) => source.addEventListener(name, (event) => {
      this.heard = Date.now();
      take(JSON.parse(event.data));
      this.dispatchEvent(new Event("change"));
    });
    on("hello", (server) => {
      this.server = server;
      this.scans.clear();
      this.pictures.clear();
      this.byScan.clear();
      this.link = "on";
    });
    on("state", (state) => { this.state = state; this.forget(); });
    on("scans", (scans) => scans.forEach((scan) => this.scans.set(scan.id, scan)));
    on("pictures", (pictures) => pictures.forEach((picture) => this.add(picture)));
    on("bye", () => { this.link = "off"; });
    source.addEventListener("error", () => this.lose(source));
  }

  lose(source) {
    if (source !== this.source) return;
    this.link = "off";
    this.dispatchEvent(new Event("change"));
    if (source.readyState === EventSource.CLOSED) setTimeout(() => this.connect(), RETRY_MS);
  }

  watch() {
    if (Date.now() - this.heard > SILENCE_MS) {
      this.heard = Date.now();
      this.link = "off";
      this.dispatchEvent(new Event("change"));
      this.connect();
    }
  }

  add(picture) {
    this.pictures.set(picture.number, picture);
    let index = this.byScan.get(picture.scan);
    if (!index) this.byScan.set(picture.scan, (index = new Index()));
    index.add(picture);
  }

  forget() {
    const kept = new Set(this.state.order);
    for (const id of this.scans.keys()) if (!kept.has(id)) { this.scans.delete(id); this.byScan.delete(id); }
    for (const [number, picture] of this.pictures) {
      if (number >= this.state.oldest_picture && kept.has(picture.scan)) break;
      this.pictures.delete(number);
      this.byScan.get(picture.scan)?.remove(picture);
    }
  }

  index(id) { return this.byScan.get(id) ?? EMPTY; }
}

// Where the pictures of one scan are: by series, echo, set, frame (repetition and phase) and slice.
class Index {
  constructor() {
    this.places = new Map();
    this.newest = new Map();
    this.values = { contrast: new Set(), set: new Set(), slice: new Set() };
    this.frames = new Map();
    this.beside = false;
    this.last = null;
    this.window = null;
  }

  add(picture) {
    const { contrast, set, slice } = picture;
    const key = place(picture.beside, contrast, set, frameKey(picture), slice);
    if (!this.places.has(key)) this.count(picture, 1);
    this.places.set(key, picture);
    this.newest.set(place(picture.beside, contrast, set, "newest", slice), picture);
    this.values.contrast.add(contrast);
    this.values.set.add(set);
    this.values.slice.add(slice);
    this.window ??= picture.window;  // of the first image: one for the whole scan
    if (picture.beside) this.beside = true;
    else if (!this.last || picture.number >= this.last.number) this.last = picture;
  }

  // Frames are there as long as one of their pictures is: a long scan has more than are kept.
  count(picture, by) {
    const frame = this.frames.get(frameKey(picture)) ?? [picture.repetition, picture.phase, 0];
    frame[2] += by;
    if (frame[2] > 0) this.frames.set(frameKey(picture), frame);
    else this.frames.delete(frameKey(picture));
  }

  remove(picture) {
    const key = place(picture.beside, picture.contrast, picture.set, frameKey(picture), picture.slice);
    if (this.places.get(key)?.number === picture.number && this.places.delete(key)) this.count(picture, -1);
    const newest = place(picture.beside, picture.contrast, picture.set, "newest", picture.slice);
    if (this.newest.get(newest)?.number === picture.number) this.newest.delete(newest);
  }

  find(beside, contrast, set, frame, slice) {
    return (frame === "newest" ? this.newest : this.places).get(place(beside, contrast, set, frame, slice));
  }

  sortedFrames() {
    return [...this.frames.entries()].sort(([, a], [, b]) => a[0] - b[0] || a[1] - b[1]).map(([key]) => key);
  }

  sorted(name) { return [...this.values[name]].sort((a, b) => a - b); }
}

export const frameKey = (picture) => `${picture.repetition}.${picture.phase}`;

const place = (beside, contrast, set, frame, slice) => `${beside ? 1 : 0}|${contrast}|${set}|${frame}|${slice}`;

const EMPTY = new Index();
