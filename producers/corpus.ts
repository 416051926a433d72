/** A corpus: the named inputs as one bounded stream of documents that is the same each time. */
import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import type { Readable } from "node:stream";
import { whyOutside } from "../src/adapters/allowed-inputs.ts";
import type { S3Options } from "../src/adapters/s3/s3-client.ts";
import type { Selection } from "../src/core/selection.ts";
import type { SourceItem } from "../src/core/documents.ts";
import type { SourceCounts } from "../src/run/run-progress.ts";
import { FleetError, messageOf } from "../src/core/errors.ts";
import { type PartReader, type ReadItem, readParts } from "./parts/read-parts.ts";
import { Buckets } from "./sources/buckets.ts";
import { readBundle } from "./parts/bundle.ts";
import { formatByName, KNOWN_NAMES } from "./sources/formats.ts";
import { isGlob, STDIN } from "../src/adapters/input-address.ts";
import { type CorpusObject, type Listed, listInput } from "./sources/objects.ts";
import { type CutHow, sectionsOf } from "./parts/parts.ts";
import type { Section } from "./parts/sections.ts";
import { readObject, sniff } from "./sources/read-object.ts";
import { sayCounts, SourceCounter } from "./sources/passed-over.ts";
import { selectItems } from "./sources/select.ts";

/** Size limit, in bytes, of an object that is read at once in its turn, so that it may be requested earlier. */
const SMALL_BYTES = 1024 * 1024;
const SMALL_TOGETHER = 100;

/** Inputs of a corpus, and the selection of its documents. */
export interface CorpusParams extends Selection {
  /** Files, folders, patterns, `s3://…`, or `-` for standard input, in the order they are read. */
  readonly inputs: readonly string[];
  /** Maximum length of a line, row or file, in bytes. */
  readonly maxDocumentBytes: number;
  readonly stdin?: Readable;
  readonly s3?: S3Options | undefined;
  /** Whether symbolic links within folders are passed over; they are followed by default. */
  readonly noFollow?: boolean;
  /** Folders that targets of such links must be below; anywhere by default. */
  readonly linksBelow?: readonly string[] | undefined;
}

/** The documents of files, folders, patterns, buckets or standard input, in the same order on every machine. */
export class Corpus {
  readonly #params: CorpusParams;
  readonly #buckets: Buckets;
  #counter = new SourceCounter();

  constructor(params: CorpusParams) {
    this.#params = params;
    this.#buckets = new Buckets(params.s3);
  }

  /**
   * Refuses unusable inputs before anything is started.
   * @throws FleetError `bad_usage`, `source_unreadable` and a server's errors
   */
  async check(): Promise<void> {
    const { inputs } = this.#params;
    if (inputs.length === 0)
      throw new FleetError("bad_usage", "no corpus was given", {
        cure: "pass files, folders, patterns or s3:// URLs, or - for standard input",
      });
    if (inputs.filter((input) => input === STDIN).length > 1)
      throw new FleetError("bad_usage", "standard input (-) was given twice", { cure: "give it once" });
    let isRepeatable = !inputs.includes(STDIN);
    for (const input of inputs) if (input !== STDIN && !(await this.#checkInput(input))) isRepeatable = false;
    if (isRepeatable) await this.#readFirst();
  }

  /** A wrong column name shows at the first row: better here than in a run that was already created. */
  async #readFirst(): Promise<void> {
    const items = this.items();
    try {
      await items.next();
    } finally {
      await items.return(undefined);
    }
  }

  /** Every object of the corpus in order, and rejects for those that could not be listed. */
  async *objects(): AsyncGenerator<Listed> {
    const counter = new SourceCounter();
    this.#counter = counter;
    for (const input of this.#params.inputs) {
      for await (const listed of this.#list(input, (kind) => counter.passOver(kind))) {
        if (listed.kind === "object") counter.countRead();
        yield listed;
      }
    }
  }

  /** The files that the latest reading of the corpus has read and passed over so far. */
  get sources(): SourceCounts {
    return this.#counter.counts;
  }

  /**
   * Every selected document of the corpus, in order, and every reject in its place.
   * @param reader Reads parts concurrently; the documents are the same.
   */
  items(reader?: PartReader, how: CutHow = {}): AsyncGenerator<ReadItem> {
    const items: AsyncIterable<ReadItem> = reader === undefined ? this.#all() : readParts(this.sections(how), reader);
    return selectItems(items, this.#params.limit);
  }

  /** The corpus in parts that can be read separately. */
  sections(how: CutHow = {}): AsyncGenerator<Section> {
    return sectionsOf({ objects: this.objects(), options: this.#params, ...how });
  }

  /** Closes its connections. */
  async close(): Promise<void> {
    await this.#buckets.close();
  }

  async *#all(): AsyncGenerator<SourceItem> {
    for await (const group of smallTogether(this.objects())) yield* readBundle(group, (listed) => this.#read(listed));
  }

  async *#read(listed: Listed): AsyncGenerator<SourceItem> {
    if (listed.kind === "reject") yield listed;
    else yield* readObject(listed.object, this.#params);
  }

  #list(input: string, passOver?: (kind: string) => void): AsyncGenerator<Listed> {
    const { format, noFollow = false, linksBelow } = this.#params;
    return listInput(input, {
      format,
      noFollow,
      whyForbidden: linksBelow && ((target) => whyOutside(target, linksBelow)),
      ...(passOver && { passOver }),
      stdin: this.#params.stdin ?? process.stdin,
      bucket: (name) => this.#buckets.get(name),
    });
  }

  /** @returns Whether it can be read more than once. */
  async #checkInput(input: string): Promise<boolean> {
    const isRemote = /^s3:/i.test(input);
    // A pipe can be read only once, so it is checked when it is read.
    if (!isRemote && !isGlob(input) && !(await assertReadable(input)).isSeekable) return false;
    const counter = new SourceCounter();
    const objects = this.#list(input, (kind) => counter.passOver(kind));
    const first = await objects.next();
    await objects.return(undefined);
    if (first.done === true || (first.value.kind === "reject" && isGlob(input)))
      throw new FleetError(
        "source_unreadable",
        `nothing to read was found at ${input} (${sayCounts(counter.counts)})`,
        {
          cure: `check the name; in folders and prefixes ${KNOWN_NAMES} are read, and names without an extension if --format is set`,
        },
      );
    if (first.value.kind === "object" && first.value.object.isNamed) await this.#assertFormat(first.value.object);
    return true;
  }

  async #assertFormat(object: CorpusObject): Promise<void> {
    if (this.#params.format !== "auto" || formatByName(object.name) !== null) return;
    const source = await object.open();
    try {
      if ((await sniff(source, object.name, "auto")).format !== null) return;
    } finally {
      await source.close();
    }
    throw new FleetError(
      "bad_usage",
      `the format of ${object.name} cannot be determined from its name or its first bytes`,
      {
        cure: `${KNOWN_NAMES} are known by name; set --format`,
      },
    );
  }
}

/** Small objects of a bucket in groups, requested concurrently: one by one, most of the time would be latency. */
async function* smallTogether(listing: AsyncIterable<Listed>): AsyncGenerator<readonly Listed[]> {
  let small: Listed[] = [];
  for await (const listed of listing) {
    const isSmall = isSmallAndFar(listed);
    if (isSmall) small.push(listed);
    if (isSmall && small.length < SMALL_TOGETHER) continue;
    yield small;
    small = [];
    if (!isSmall) yield [listed];
  }
  yield small;
}

function isSmallAndFar(listed: Listed): boolean {
  if (listed.kind === "reject") return false;
  const { place } = listed.object;
  return place.kind === "s3" && place.entry.bytes <= SMALL_BYTES;
}

async function assertReadable(path: string): Promise<{ readonly isSeekable: boolean }> {
  const unreadable = (error: unknown, cure: string): FleetError =>
    new FleetError("source_unreadable", `the corpus ${path} cannot be read: ${messageOf(error)}`, {
      cure,
      cause: error,
    });
  const info = await stat(path).catch((error: unknown) => {
    throw unreadable(error, "check the path; it must be a folder, a file, a pattern, s3:// or - for standard input");
  });
  await access(path, constants.R_OK).catch((error: unknown) => {
    throw unreadable(error, "check its permissions");
  });
  return { isSeekable: info.isFile() || info.isDirectory() };
}
