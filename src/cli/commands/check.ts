/** `embedfleet models check`: compares a model's vectors with the expected ones. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { chooseEngine } from "../../../models/choose-engine.ts";
import { type InferenceEngine, offeredPrecision } from "../../../models/engine.ts";
import { checkParity, type HeadParity } from "../../../models/quality/parity.ts";
import type { ModelManifest } from "../../../models/registry/manifest.ts";
import { type Model, openModel } from "../../../models/registry/open-model.ts";
import { readReference, type Reference } from "../../../models/quality/reference.ts";
import { findModel } from "../../../models/registry/registry.ts";
import { openTokenizer } from "../../../models/tokenizer/open-tokenizer.ts";
import type { Precision } from "../../core/contracts.ts";
import { percent } from "../../core/format-figures.ts";
import { FleetError } from "../../core/errors.ts";
import type { Embedder, Tokenizer } from "../../core/ports.ts";
import { checkPublishedPairs, type PublishedParity } from "../../results/published-pairs.ts";
import type { CheckCommand } from "../model-settings.ts";
import { printJson, printLine } from "../output.ts";
import { withCloser } from "../../fleet/open-ports.ts";

interface PrecisionReport {
  readonly precision: Precision;
  readonly device: string;
  /** Minimum mean cosine to PyTorch's float32 vectors for a sound model. */
  readonly minCosine: number;
  readonly heads: readonly HeadParity[];
  /** Comparisons with the published pairs; BGE-M3 only. */
  readonly published: readonly PublishedParity[];
}

export async function check(name: string, settings: CheckCommand): Promise<void> {
  const found = findModel(name, { modelsFolder: settings.models });
  const file = settings.reference ?? join(found.folder, "reference.json");
  const reference = settings.reference === undefined && !existsSync(file) ? null : readReference(file);
  if (reference === null && !isBgeM3(found.manifest.id)) {
    throw new FleetError("bad_usage", `model ${found.manifest.id} has no ${file} to be checked against`, {
      cure: "pass one with --reference; an export writes it from the PyTorch model: see docs/models.md",
    });
  }
  const engine = chooseEngine(settings.engine, found.manifest);
  const most = offeredPrecision(engine, found.manifest, settings.precision);
  const precisions = settings.precision === "auto" ? engine.offers(found.manifest).precisions : [most];
  const reports: PrecisionReport[] = [];
  const devices = settings.device.map((choice) => engine.chooseDevice(choice));
  for (const [precision, device] of precisions.flatMap((each) => devices.map((on) => [each, on] as const))) {
    const model = await openModel(found, { precision, cacheFolder: settings.cacheFolder });
    const report = await withCloser(async (closer) => {
      const { embedder } = await engine.open({ model, device, threads: settings.threads });
      return checkOne(engine, model, closer.add(embedder), reference);
    });
    reports.push(report);
    if (!settings.json) printReport(report, reference);
  }
  if (settings.json) printJson({ model: found.manifest.id, madeBy: reference?.madeBy ?? null, precisions: reports });
  assertPassed(found.manifest.id, reports);
}

function isBgeM3(id: string): boolean {
  return id === "bge-m3";
}

async function checkOne(
  engine: InferenceEngine,
  model: Model,
  embedder: Embedder,
  reference: Reference | null,
): Promise<PrecisionReport> {
  const { manifest, precision, ref } = model;
  const { heads } = engine.offers(manifest);
  const minCosine = engine.precisions[precision]!;
  // Each of the reference's texts says itself which prompt it has.
  const tokenizer = await openTokenizer(model, "passage", "");
  if (reference !== null) await assertSameModel(model, reference, tokenizer);
  return {
    precision,
    device: embedder.device,
    minCosine,
    heads: reference === null ? [] : await checkParity({ embedder, reference, heads, minCosine }),
    published: isBgeM3(manifest.id) ? await checkPublishedPairs({ model: ref, precision, tokenizer, embedder }) : [],
  };
}

/** Whether prompt, tokenizer and longest row give the reference's ids, so that its vectors are those of the texts. */
async function assertSameModel({ manifest }: Model, { dim, rows }: Reference, tokenizer: Tokenizer): Promise<void> {
  if (dim !== manifest.dim) {
    throw new FleetError(
      "model_invalid",
      `the reference's vectors have ${dim} dimensions; model ${manifest.id}'s have ${manifest.dim}`,
      {
        cure: "pass the reference of this model with --reference",
      },
    );
  }
  const encoded = await tokenizer.encode({ texts: rows.map(({ purpose, text }) => manifest.prefixes[purpose] + text) });
  const wrong = rows.find(({ ids }, i) => framedIds(manifest, tokenizer, encoded[i]!.ids).join() !== ids.join());
  if (wrong === undefined) return;
  throw new FleetError("model_invalid", `the tokenizer's ids for the text ${wrong.id} differ from the reference's`, {
    cure: "tokenizer, prompts or longest row are not those that the reference was made with: export the model again",
  });
}

/** Ids between the special tokens, cut to the longest row as PyTorch's libraries cut them. */
function framedIds({ architecture }: ModelManifest, tokenizer: Tokenizer, ids: Int32Array): number[] {
  const { prefixIds, suffixIds } = tokenizer;
  const room = architecture.maxTokens - prefixIds.length - suffixIds.length;
  return [...prefixIds, ...ids.subarray(0, room), ...suffixIds];
}

function printReport(
  { precision, device, minCosine, heads, published }: PrecisionReport,
  reference: Reference | null,
): void {
  if (reference !== null) {
    printLine(`${precision} on ${device}, ${reference.rows.length} texts against ${reference.madeBy}`);
    printLine("head      cosine min     mean   max error   top 10   batched to alone");
  }
  for (const each of heads) {
    const { head, cosineMin, cosineMean, maxAbsError, top10Overlap, batchedCosineMin, passes } = each;
    const top = top10Overlap === null ? "-" : percent(top10Overlap);
    const figures = [cosineMin.toFixed(6), cosineMean.toFixed(6), maxAbsError.toExponential(1), top];
    const [min, mean, error, overlap] = figures as [string, string, string, string];
    const line = `${head.padEnd(9)} ${min.padStart(10)} ${mean.padStart(8)} ${error.padStart(11)} ${overlap.padStart(8)}`;
    printLine(`${line}   ${batchedCosineMin.toFixed(6)}${passes ? "" : `   below ${minCosine}`}`);
  }
  for (const { score, published: wanted, found, passes } of published) {
    const pairs = found.map((value, i) => `${value.toFixed(4)} (${wanted[i]!.toFixed(4)})`).join("  ");
    printLine(`${score.padEnd(21)} ${pairs}${passes ? "" : "   failed"}`);
  }
}

function assertPassed(id: string, reports: readonly PrecisionReport[]): void {
  const failed = reports.flatMap(({ precision, heads, published }) => [
    ...heads.filter(({ passes }) => !passes).map(({ head }) => `${precision} ${head}`),
    ...published.filter(({ passes }) => !passes).map(({ score }) => `${precision} ${score} of the published pairs`),
  ]);
  if (failed.length === 0) return;
  throw new FleetError("model_invalid", `model ${id} fails the check: ${failed.join(", ")}`, {
    cure: "pull or export it again; at int8, leave the layers that lose the most accuracy in float32 with --keep-float: see docs/export.md",
  });
}
