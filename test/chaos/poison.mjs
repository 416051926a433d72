/** Preloaded into workers: the session's port dies with the whole process on rows that hold the marker's tokens. */
import { loadTokenizer } from "../../dist/models/tokenizer/native.js";
import { openModel } from "../../dist/models/registry/open-model.js";
import { findModel } from "../../dist/models/registry/registry.js";
import { ModelSession } from "../../dist/models/onnx/session.js";

const tokenizer = await loadTokenizer((await openModel(findModel("mini", { modelsFolder: "" }))).tokenizerPath);
const [marker] = await tokenizer.encode({ texts: ["☠☠☠"], withStarts: false });
const wanted = [...marker.ids].join(",");

const { compute } = ModelSession.prototype;
ModelSession.prototype.compute = function (rows) {
  for (const { shard, row } of rows) {
    const ids = shard.ids.subarray(shard.offsets[row], shard.offsets[row + 1]);
    if (`,${[...ids].join(",")},`.includes(`,${wanted},`)) process.kill(process.pid, "SIGKILL");
  }
  return compute.call(this, rows);
};
