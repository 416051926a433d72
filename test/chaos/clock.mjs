/** Preloaded into a worker: its wall clock jumps by up to six hours, to and fro, as no steady clock does. */
import { isMainThread } from "node:worker_threads";

const RealDate = Date;
const SIX_HOURS_MS = 6 * 60 * 60 * 1000;
let seed = Number(process.env.CLOCK_SEED);
let offsetMs = 0;

function random() {
  seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
  return seed / 2 ** 32;
}

globalThis.Date = class extends RealDate {
  constructor(...args) {
    if (args.length === 0) super(RealDate.now() + offsetMs);
    else super(...args);
  }
  static now() {
    return RealDate.now() + offsetMs;
  }
};

const jumping = setInterval(() => {
  offsetMs = Math.round((2 * random() - 1) * SIX_HOURS_MS);
  if (isMainThread) console.error(`the clock jumped by ${offsetMs} ms`);
}, 300);
jumping.unref();
