/** Cost models measured on this machine, as small files in a cache folder. */
import { createHash, randomUUID } from "node:crypto";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { z } from "zod";
import type { CostModel } from "../core/cost-model.ts";

/** Everything that a batch's time depends on besides its shape. */
export interface CostKey {
  readonly modelSha256: string;
  readonly precision: string;
  /** Device name, as in `cpu` or `cuda:0`. */
  readonly device: string;
  readonly threads: number;
  /** Name and version of the engine; absent for ONNX Runtime of any version, so that existing cache files stay valid. */
  readonly engine?: string;
}

const costSchema = z.strictObject({
  batchMs: z.number().min(0),
  tokenMs: z.number().min(0),
  pairMs: z.number().min(0),
});
const fileSchema = z.object({ cost: costSchema });

export class CostCache {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = join(folder, "costs");
  }

  /** Null when none was saved or the file cannot be read, in which case it is only measured again. */
  async find(key: CostKey): Promise<CostModel | null> {
    try {
      return fileSchema.parse(JSON.parse(await readFile(this.#fileOf(key), "utf8"))).cost;
    } catch {
      return null;
    }
  }

  /** Saves a cost model; of concurrent writers the last one wins. */
  async save(key: CostKey, cost: CostModel): Promise<void> {
    const file = this.#fileOf(key);
    const draft = `${file}.${randomUUID()}`;
    await mkdir(dirname(file), { recursive: true });
    try {
      await writeFile(draft, `${JSON.stringify({ key, cost }, null, 1)}\n`);
      await rename(draft, file);
    } finally {
      await rm(draft, { force: true });
    }
  }

  #fileOf(key: CostKey): string {
    const engine = key.engine === undefined ? [] : [key.engine];
    const fields = [key.modelSha256, key.precision, key.device, String(key.threads), ...engine];
    const name = createHash("sha256").update(JSON.stringify(fields)).digest("hex").slice(0, 32);
    return join(this.#folder, `${name}.json`);
  }
}
