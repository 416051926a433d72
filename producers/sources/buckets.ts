/** The readers of buckets, each opened at its first use. */
import type { S3Options } from "../../src/adapters/s3/s3-client.ts";
import type { S3Bucket } from "../../src/adapters/s3/s3-source.ts";

export class Buckets {
  readonly #options: S3Options | undefined;
  readonly #opened = new Map<string, Promise<S3Bucket>>();

  constructor(options: S3Options | undefined) {
    this.#options = options;
  }

  get(name: string): Promise<S3Bucket> {
    const found = this.#opened.get(name);
    if (found !== undefined) return found;
    // Imported on demand: the SDK takes a quarter of a second to load, which a corpus of files should not wait for.
    const opened = import("../../src/adapters/s3/s3-source.ts").then(
      ({ S3Bucket }) => new S3Bucket({ bucket: name, options: this.#options }),
    );
    this.#opened.set(name, opened);
    return opened;
  }

  async close(): Promise<void> {
    for (const bucket of this.#opened.values()) await (await bucket).close();
    this.#opened.clear();
  }
}
