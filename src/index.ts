/** The fleet as a library: what programs need. The parts below it are in `embedfleet/unstable`. */
export { chooseEngine, type EngineChoice } from "../models/choose-engine.ts";
export type { InferenceEngine, Inspection, Offer, OpenedEmbedder, OpenParams } from "../models/engine.ts";
export type { ModelManifest, OnnxManifest } from "../models/registry/manifest.ts";
export { type Model, openModel, type OpenModelParams, type PrecisionChoice } from "../models/registry/open-model.ts";
export type { PinnedFile } from "../models/registry/pinned-files.ts";
export { type FoundModel, findModel, type ListedModel, listModels } from "../models/registry/registry.ts";
export type { WorkerCounts } from "../workers/batch-ledger.ts";
export { openStore, type OpenStoreOptions } from "./adapters/open-store.ts";
export type { S3Options } from "./adapters/s3/s3-client.ts";
export { isSigned } from "./control/schedules/webhook.ts";
export type { BatchReport, RowRef, ShardBuffers } from "./core/batch.ts";
export type {
  CancelledRecord,
  ClosedRecord,
  DeletesFile,
  Guards,
  Head,
  JobPayload,
  Latest,
  Limit,
  Lineage,
  Manifest,
  ModelRef,
  Precision,
  Reject,
  RunOptions,
  RunRecord,
  ShardPlan,
  ShardStats,
  Totals,
  VectorType,
  WindowPlan,
} from "./core/contracts.ts";
export type { RootWait } from "./adapters/file/file-root.ts";
export type { MakePart, PartJob, PartQueue, PartState } from "./core/ingest.ts";
export type { CostModel } from "./core/cost-model.ts";
export type { Device, DeviceChoice } from "./core/device-name.ts";
export type { Document, Origin, SourceItem } from "./core/documents.ts";
export { type ErrorCode, FleetError, type FleetErrorOptions } from "./core/errors.ts";
export type { Hold } from "./core/guards.ts";
export type { PackingLimits } from "./core/packing.ts";
export type * from "./core/ports.ts";
export type {
  LeasesParams,
  ModelQueue,
  QueueServer,
  QueueWatch,
  ShardQueue,
  StoreQueues,
} from "./core/queue-server.ts";
export type { HeadWeights } from "./core/scoring.ts";
export type { Condition, Format, Selection } from "./core/selection.ts";
export type { BatchShare, FleetEvent, IdleCause, Observe, ShardName, Stage } from "./core/telemetry.ts";
export { enqueueCorpus, type EnqueueParams } from "./fleet/enqueue-corpus.ts";
export { helpProduce, type HelpProduceParams } from "./fleet/help-produce.ts";
export { type RunningWorker, startWorker, type StartWorkerParams } from "./fleet/start-worker.ts";
export { type Hit, searchRun } from "./results/search-run.ts";
export { acceptRun } from "./run/hold.ts";
export { openRun, type OpenRunParams } from "./run/open-run.ts";
export { type Reconciled, requeueMissing } from "./run/reconcile.ts";
export { readProgress, type RunReport, type RunState, type SourceCounts } from "./run/run-progress.ts";
export { type SealOutcome, sealRun } from "./run/seal.ts";
export { type VerifyReport, verifyRun } from "./run/verify.ts";
