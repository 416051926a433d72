import fc from "fast-check";
import { expect, test } from "vitest";
import { sessionParams } from "../../models/embedder.ts";
import { ModelSession } from "../../models/session.ts";
import { chooseTier, type Engine, usableEngines } from "../../models/tiers.ts";
import { rowsOf, shardOf } from "../conformance/embedder.suite.ts";
import { openMini } from "../fixtures/mini.ts";

const shape = fc.record({ batch: fc.integer({ min: 1, max: 64 }), length: fc.integer({ min: 1, max: 8192 }) });
const engine = fc.tuple(shape, shape).map(([a, b]) => ({
  min: { batch: Math.min(a.batch, b.batch), length: Math.min(a.length, b.length) },
  max: { batch: Math.max(a.batch, b.batch), length: Math.max(a.length, b.length) },
}));

test("no engine is ever handed a shape outside its range, and one that takes it is found", () => {
  fc.assert(
    fc.property(fc.array(engine, { maxLength: 5 }), shape, (engines, asked) => {
      const takes = ({ min, max }: (typeof engines)[number]): boolean =>
        asked.batch >= min.batch &&
        asked.batch <= max.batch &&
        asked.length >= min.length &&
        asked.length <= max.length;
      const chosen = chooseTier(engines, asked);
      if (chosen === -1) return !engines.some(takes);
      const shorter = engines.filter((each) => takes(each) && each.max.length < engines[chosen]!.max.length);
      return takes(engines[chosen]!) && shorter.length === 0;
    }),
  );
});

function engineOf(changed: Partial<Engine>, path = "model.onnx"): Engine {
  const min = { batch: 1, length: 3 };
  const max = { batch: 4, length: 16 };
  const versions = { gpuArch: "sm90", trtVersion: "10.9", ortVersion: "1.30.0", precision: "fp16" } as const;
  return { ...versions, min, opt: max, max, files: [{ path }], ...changed };
}

test("engines of another GPU, runtime or precision are not used", async () => {
  const { manifest } = await openMini();
  const here = { gpuArch: "sm90", ortVersion: "1.30.0", precision: "fp16" } as const;
  const engines = [
    engineOf({}),
    engineOf({ gpuArch: "sm80" }),
    engineOf({ ortVersion: "1.29.0" }),
    engineOf({ precision: "int8" }),
  ];
  expect(usableEngines({ ...manifest, engines }, here)).toEqual([engines[0]]);
  expect(usableEngines({ ...manifest, engines }, { ...here, gpuArch: null })).toEqual([]);
});

test("a batch within a tier gives what the graph gives, and an engine that does not load is done without", async () => {
  const model = await openMini();
  const params = sessionParams({ model, threads: 1 });
  const engines = [engineOf({ max: { batch: 4, length: 16 } }), engineOf({}, "tokenizer.json")];
  const [tiered, plain] = await Promise.all([ModelSession.open({ ...params, engines }), ModelSession.open(params)]);
  expect(tiered.notes).toEqual([expect.stringMatching(/engine .*tokenizer\.json cannot be used, so CUDA takes/)]);
  for (const lengths of [
    [5, 16],
    [5, 17],
    [3, 3, 3, 3, 3],
  ]) {
    const [found, wanted] = [shardOf(lengths), shardOf(lengths)];
    await tiered.run(rowsOf(found));
    await plain.run(rowsOf(wanted));
    expect(found.dense).toEqual(wanted.dense);
  }
});
