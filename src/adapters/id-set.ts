/** A set of ids in bounded memory, for corpora of any size. */
import { hash } from "node:crypto";
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FleetError, messageOf } from "../core/errors.ts";

/** Fingerprints are 128 bits of SHA-256: among 10^12 ids the odds of a collision are 10^-15. */
const FINGERPRINT_BYTES = 16;
const WORDS = FINGERPRINT_BYTES / 4;
const SLOTS_PER_PAGE = 256;
const PAGE_BYTES = SLOTS_PER_PAGE * FINGERPRINT_BYTES;
const PAGE_WORDS = SLOTS_PER_PAGE * WORDS;
const FIRST_PAGE_BITS = 4;
/** Above this a page is likely to overflow before its neighbours are worth splitting. */
const MAX_LOAD = 0.7;
const SPLIT_PAGES = 64;
const DEFAULT_MEMORY_BYTES = 32 * 1024 * 1024;

type MoveBytes = (fd: number, bytes: Uint8Array, offset: number, length: number, position: number) => number;

/**
 * A hash table of fixed pages. An id's page is given by the first bits of its fingerprint, and it is
 * probed for within that page only, so the table doubles by splitting each page in two by the next
 * bit: one sequential pass, in place, from the last page to the first. The table begins in memory
 * (up to `memoryBytes`, 1.4 million ids by default) and then moves to a temporary file, where the
 * kernel's page cache is the memory and an id costs one page read and one write.
 */
export class IdSet {
  readonly #memoryBytes: number;
  #pageBits = FIRST_PAGE_BITS;
  #size = 0;
  /** The whole table while it is in memory. */
  #table: Int32Array | null = new Int32Array(PAGE_WORDS << FIRST_PAGE_BITS);
  #file: { fd: number; folder: string } | null = null;
  readonly #page = new Int32Array(PAGE_WORDS);

  constructor(params: Readonly<{ memoryBytes?: number }> = {}) {
    this.#memoryBytes = params.memoryBytes ?? DEFAULT_MEMORY_BYTES;
  }

  get size(): number {
    return this.#size;
  }

  /** True when the id is new. */
  add(id: string): boolean {
    const print = fingerprintOf(id);
    if (this.#size >= MAX_LOAD * SLOTS_PER_PAGE * 2 ** this.#pageBits) this.#grow();
    for (;;) {
      const pageIndex = print[0]! >>> (32 - this.#pageBits);
      const page = this.#readPage(pageIndex);
      const slot = findSlot(page, print);
      if (slot >= 0 && page[slot * WORDS] !== 0) return false;
      if (slot >= 0) {
        page.set(print, slot * WORDS);
        if (this.#file !== null) this.#writeSlot(pageIndex * SLOTS_PER_PAGE + slot, print);
        this.#size++;
        return true;
      }
      this.#grow();
    }
  }

  /** Removes the file. The set is empty and unusable afterwards. */
  close(): void {
    this.#table = null;
    if (this.#file === null) return;
    closeSync(this.#file.fd);
    rmSync(this.#file.folder, { recursive: true, force: true });
    this.#file = null;
  }

  #readPage(index: number): Int32Array {
    if (this.#table !== null) {
      return this.#table.subarray(index * PAGE_WORDS, (index + 1) * PAGE_WORDS);
    }
    this.#transfer(readSync, this.#page, index * PAGE_BYTES);
    return this.#page;
  }

  #writeSlot(slot: number, print: Int32Array): void {
    this.#transfer(writeSync, print, slot * FINGERPRINT_BYTES);
  }

  #grow(): void {
    if (this.#table !== null && this.#table.byteLength * 2 > this.#memoryBytes) this.#spill();
    if (this.#table !== null) this.#table = splitPages(this.#table, this.#pageBits);
    else this.#splitFile();
    this.#pageBits++;
  }

  /** From the end, so that a page is read before its place is taken by those before it. */
  #splitFile(): void {
    for (let end = 2 ** this.#pageBits; end > 0; end -= SPLIT_PAGES) {
      const start = Math.max(0, end - SPLIT_PAGES);
      const block = new Int32Array((end - start) * PAGE_WORDS);
      this.#transfer(readSync, block, start * PAGE_BYTES);
      this.#transfer(writeSync, splitPages(block, this.#pageBits), start * 2 * PAGE_BYTES);
    }
  }

  #spill(): void {
    this.#file = attempt(tmpdir(), () => {
      const folder = mkdtempSync(join(tmpdir(), "embedfleet-ids-"));
      return { fd: openSync(join(folder, "ids"), "wx+", 0o600), folder };
    });
    this.#transfer(writeSync, this.#table!, 0);
    this.#table = null;
  }

  #transfer(move: MoveBytes, words: Int32Array, position: number): void {
    if (this.#file === null) throw new Error("the id set is closed");
    const { fd, folder } = this.#file;
    const bytes = new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
    attempt(folder, () => {
      for (let done = 0; done < bytes.length;) {
        const moved = move(fd, bytes, done, bytes.length - done, position + done);
        if (moved === 0) throw new Error(`the file ends at byte ${position + done}`);
        done += moved;
      }
    });
  }
}

function attempt<T>(folder: string, act: () => T): T {
  try {
    return act();
  } catch (cause) {
    throw new FleetError("store_refused", `the set of ids in ${folder} cannot be kept: ${messageOf(cause)}`, {
      cure: "make room in the temporary folder, or point TMPDIR to a larger disk",
      cause,
    });
  }
}

function fingerprintOf(id: string): Int32Array {
  const digest = hash("sha256", id, "buffer");
  const print = new Int32Array(WORDS);
  for (let word = 0; word < WORDS; word++) print[word] = digest.readInt32LE(word * 4);
  // A first word of zero marks an empty slot.
  if (print[0] === 0) print[0] = 1;
  return print;
}

/** The slot that holds the fingerprint or may take it; -1 when the page is full. */
function findSlot(page: Int32Array, print: Int32Array): number {
  const first = print[1]! & (SLOTS_PER_PAGE - 1);
  for (let probe = 0; probe < SLOTS_PER_PAGE; probe++) {
    const slot = (first + probe) & (SLOTS_PER_PAGE - 1);
    const at = slot * WORDS;
    if (page[at] === 0) return slot;
    if (page[at] === print[0] && page[at + 1] === print[1] && page[at + 2] === print[2] && page[at + 3] === print[3]) {
      return slot;
    }
  }
  return -1;
}

/** Pages twice as many: each one's fingerprints go to two by bit `pageBits` of their first word. */
function splitPages(pages: Int32Array, pageBits: number): Int32Array {
  const split = new Int32Array(pages.length * 2);
  for (let at = 0; at < pages.length; at += WORDS) {
    if (pages[at] === 0) continue;
    const bit = (pages[at]! >>> (31 - pageBits)) & 1;
    const target = Math.floor(at / PAGE_WORDS) * 2 + bit;
    const page = split.subarray(target * PAGE_WORDS, (target + 1) * PAGE_WORDS);
    const print = pages.subarray(at, at + WORDS);
    page.set(print, findSlot(page, print) * WORDS);
  }
  return split;
}
