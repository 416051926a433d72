/** A table of ids with a few words for each, in bounded memory, for corpora of any size. */
import { hash } from "node:crypto";
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FleetError, messageOf } from "../core/errors.ts";

/** Words of a fingerprint, which is 128 bits of SHA-256: among 10^12 ids the odds of a collision are 10^-15. */
const PRINT_WORDS = 4;
const SLOTS_PER_PAGE = 256;
const FIRST_PAGE_BITS = 1;
/** Largest load factor: above it a page is likely to overflow before its neighbours are worth splitting. */
const MAX_LOAD = 0.7;
const SPLIT_PAGES = 64;
const DEFAULT_MEMORY_BYTES = 32 * 1024 * 1024;

type MoveBytes = (fd: number, bytes: Uint8Array, offset: number, length: number, position: number) => number;

/**
 * Receives an id's words, all zero when the id is new, and may change them.
 * @returns True to keep the change; a new id enters the table only then.
 */
export type Visit = (words: Int32Array, isNew: boolean) => boolean;

/**
 * A hash table of fixed pages. The first bits of an id's fingerprint select its page, and probing stays within that page,
 * so the table doubles by splitting each page in two by the next bit: one sequential pass, in place, from the last page to
 * the first. The table begins in memory (up to `memoryBytes`) and then moves to a temporary file, which the kernel's page
 * cache buffers; an id then costs one page read and one write.
 */
export class FingerprintTable {
  readonly #slotWords: number;
  readonly #pageWords: number;
  readonly #memoryBytes: number;
  #pageBits = FIRST_PAGE_BITS;
  #size = 0;
  /** The whole table while it is in memory. */
  #table: Int32Array | null;
  #file: { fd: number; folder: string } | null = null;
  readonly #page: Int32Array;

  /** @param params.words Number of 32-bit words per id. */
  constructor(params: Readonly<{ words: number; memoryBytes?: number | undefined }>) {
    this.#slotWords = PRINT_WORDS + params.words;
    this.#pageWords = SLOTS_PER_PAGE * this.#slotWords;
    this.#memoryBytes = params.memoryBytes ?? DEFAULT_MEMORY_BYTES;
    this.#table = new Int32Array(this.#pageWords << FIRST_PAGE_BITS);
    this.#page = new Int32Array(this.#pageWords);
  }

  get size(): number {
    return this.#size;
  }

  visit(id: string, act: Visit): void {
    const fingerprint = fingerprintOf(id);
    if (this.#size >= MAX_LOAD * SLOTS_PER_PAGE * 2 ** this.#pageBits) this.#grow();
    for (;;) {
      const pageIndex = fingerprint[0]! >>> (32 - this.#pageBits);
      const page = this.#readPage(pageIndex);
      const slot = findSlot(page, fingerprint, this.#slotWords);
      if (slot >= 0) return this.#visitSlot(page, pageIndex, slot, fingerprint, act);
      this.#grow();
    }
  }

  #visitSlot(page: Int32Array, pageIndex: number, slot: number, fingerprint: Int32Array, act: Visit): void {
    const at = slot * this.#slotWords;
    const isNew = page[at] === 0;
    const words = page.subarray(at + PRINT_WORDS, at + this.#slotWords);
    if (!act(words, isNew)) {
      if (isNew) words.fill(0);
      return;
    }
    if (isNew) {
      page.set(fingerprint, at);
      this.#size++;
    }
    if (this.#file !== null) {
      const position = (pageIndex * SLOTS_PER_PAGE + slot) * this.#slotWords * 4;
      this.#transfer(writeSync, page.subarray(at, at + this.#slotWords), position);
    }
  }

  /** Removes the file. The table is empty and unusable afterwards. */
  close(): void {
    this.#table = null;
    if (this.#file === null) return;
    closeSync(this.#file.fd);
    rmSync(this.#file.folder, { recursive: true, force: true });
    this.#file = null;
  }

  #readPage(index: number): Int32Array {
    if (this.#table !== null) {
      return this.#table.subarray(index * this.#pageWords, (index + 1) * this.#pageWords);
    }
    this.#transfer(readSync, this.#page, index * this.#pageWords * 4);
    return this.#page;
  }

  #grow(): void {
    if (this.#table !== null && this.#table.byteLength * 2 > this.#memoryBytes) this.#spill();
    if (this.#table !== null) this.#table = this.#splitPages(this.#table);
    else this.#splitFile();
    this.#pageBits++;
  }

  /** Splits the file from its last page, so that a page is read before others are written to its place. */
  #splitFile(): void {
    for (let end = 2 ** this.#pageBits; end > 0; end -= SPLIT_PAGES) {
      const start = Math.max(0, end - SPLIT_PAGES);
      const block = new Int32Array((end - start) * this.#pageWords);
      this.#transfer(readSync, block, start * this.#pageWords * 4);
      this.#transfer(writeSync, this.#splitPages(block), start * 2 * this.#pageWords * 4);
    }
  }

  /** Doubles the pages: bit `pageBits` of its first word decides which of two pages a slot goes to. */
  #splitPages(pages: Int32Array): Int32Array {
    const width = this.#slotWords;
    const split = new Int32Array(pages.length * 2);
    for (let at = 0; at < pages.length; at += width) {
      if (pages[at] === 0) continue;
      const bit = (pages[at]! >>> (31 - this.#pageBits)) & 1;
      const target = Math.floor(at / this.#pageWords) * 2 + bit;
      const page = split.subarray(target * this.#pageWords, (target + 1) * this.#pageWords);
      const slot = pages.subarray(at, at + width);
      page.set(slot, findSlot(page, slot, width) * width);
    }
    return split;
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
    if (this.#file === null) throw new Error("the table of ids is closed");
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
    throw new FleetError("store_refused", `the set of ids in ${folder} cannot be written: ${messageOf(cause)}`, {
      cure: "free space in the temporary folder, or point TMPDIR to a larger disk",
      cause,
    });
  }
}

function fingerprintOf(id: string): Int32Array {
  const digest = hash("sha256", id, "buffer");
  const fingerprint = new Int32Array(PRINT_WORDS);
  for (let word = 0; word < PRINT_WORDS; word++) fingerprint[word] = digest.readInt32LE(word * 4);
  // A first word of zero marks an empty slot.
  if (fingerprint[0] === 0) fingerprint[0] = 1;
  return fingerprint;
}

/** Index of the slot that has the fingerprint or can take it; -1 when the page is full. */
function findSlot(page: Int32Array, fingerprint: Int32Array, slotWords: number): number {
  const first = fingerprint[1]! & (SLOTS_PER_PAGE - 1);
  for (let probe = 0; probe < SLOTS_PER_PAGE; probe++) {
    const slot = (first + probe) & (SLOTS_PER_PAGE - 1);
    const at = slot * slotWords;
    if (page[at] === 0) return slot;
    if (
      page[at] === fingerprint[0] &&
      page[at + 1] === fingerprint[1] &&
      page[at + 2] === fingerprint[2] &&
      page[at + 3] === fingerprint[3]
    ) {
      return slot;
    }
  }
  return -1;
}
