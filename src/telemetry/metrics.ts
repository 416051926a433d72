/**
 * All metrics of the fleet, with name, unit and meaning, in one table, from which `docs/operations.md` is
 * generated. Units are those of Prometheus: seconds, bytes, and ratios from 0 to 1.
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import { LENGTH_BOUNDS } from "../core/worker-state.ts";

export type Role = "worker" | "producer" | "control";

interface Definition {
  readonly type: "counter" | "gauge" | "histogram";
  readonly name: string;
  readonly help: string;
  /** Roles of the processes that have it. */
  readonly of: readonly Role[];
  readonly labels?: readonly string[];
  readonly buckets?: readonly number[];
}

const STAGE_SECONDS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100];
const REQUEST_SECONDS = [0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30];
const BATCH_ROWS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

const EVERYONE = ["worker", "producer", "control"] as const;

export const METRICS = {
  buildInfo: define("gauge", "build_info", "Always 1; the labels say which program this is.", EVERYONE, {
    labels: ["version", "node", "role"],
  }),

  rows: define("counter", "rows_total", "Rows that went through the model.", ["worker"]),
  realTokens: define("counter", "real_tokens_total", "Tokens that went through the model, padding left out.", [
    "worker",
  ]),
  paddedTokens: define(
    "counter",
    "padded_tokens_total",
    "Tokens that the model computed: rows x longest row, summed over batches. Real over padded is the padding efficiency.",
    ["worker"],
  ),
  batches: define("counter", "batches_total", "Batches that went through the model.", ["worker"]),
  shards: define(
    "counter",
    "shards_total",
    "Shards whose file is in the store; `exists` means another worker wrote it first.",
    ["worker"],
    {
      labels: ["outcome"],
    },
  ),
  batchRows: define("histogram", "batch_rows", "Rows in a batch.", ["worker"], { buckets: BATCH_ROWS }),
  batchLongestTokens: define("histogram", "batch_longest_tokens", "Tokens of a batch's longest row.", ["worker"], {
    buckets: LENGTH_BOUNDS,
  }),
  rowTokens: define("histogram", "row_tokens", "Tokens of a row that went through the model.", ["worker"], {
    buckets: LENGTH_BOUNDS,
  }),
  stageSeconds: define(
    "histogram",
    "stage_seconds",
    "Time of one stage of a worker's pipeline: pull, load, pack, wait, infer, assemble, encode, upload, complete.",
    ["worker"],
    { labels: ["stage"], buckets: STAGE_SECONDS },
  ),
  deviceBusySeconds: define("counter", "device_busy_seconds_total", "Time the device worked.", ["worker"]),
  deviceIdleSeconds: define(
    "counter",
    "device_idle_seconds_total",
    "Time the device was idle while the worker held rows.",
    ["worker"],
  ),
  idleCauseSeconds: define(
    "counter",
    "device_idle_cause_seconds_total",
    "Time the device was idle, by cause.",
    ["worker"],
    {
      labels: ["cause"],
    },
  ),
  deviceBusyRatio: define(
    "gauge",
    "device_busy_ratio",
    "Busy time over busy and idle time of the last minute; 0 when nothing ran.",
    ["worker"],
  ),
  tokensPerSecond: define("gauge", "worker_tokens_per_second", "Real tokens per second over the last minute.", [
    "worker",
  ]),
  heldShards: define("gauge", "held_shards", "Shards that the worker holds in memory.", ["worker"]),
  heldBytes: define(
    "gauge",
    "held_bytes",
    "Memory of the worker's shards, including vectors and files that are being written.",
    ["worker"],
  ),
  poolTokens: define("gauge", "pool_tokens", "Real tokens that wait in the worker for the device.", ["worker"]),
  oomSplits: define(
    "counter",
    "oom_splits_total",
    "Batches that did not fit the device's memory and were cut in two.",
    ["worker"],
  ),
  fallbacks: define(
    "counter",
    "fallbacks_total",
    "How often work moved to another execution provider or device.",
    ["worker"],
    {
      labels: ["from", "to"],
    },
  ),
  breakerState: define(
    "gauge",
    "breaker_state",
    "A circuit breaker's state: 0 closed, 1 half open, 2 open.",
    ["worker"],
    {
      labels: ["breaker"],
    },
  ),
  nonFiniteRows: define("counter", "nonfinite_rows_total", "Rows rejected because the model's output was not finite.", [
    "worker",
  ]),
  rejects: define(
    "counter",
    "rejects_total",
    "Documents and rows that were rejected, by reason.",
    ["worker", "producer"],
    {
      labels: ["reason"],
    },
  ),
  leaseRenewals: define("counter", "lease_renewals_total", "Leases on jobs that were renewed.", ["worker"]),
  leaseFailures: define("counter", "lease_renewal_failures_total", "Leases whose renewal could not be requested.", [
    "worker",
  ]),
  leasesLost: define(
    "counter",
    "leases_lost_total",
    "Leases that no longer existed when renewed or settled; the store decides who wins.",
    ["worker"],
  ),
  stalls: define("counter", "stalled_jobs_total", "Pulled jobs whose lease had lapsed at another worker.", ["worker"]),

  creates: define(
    "counter",
    "store_creates_total",
    "Conditional writes by object and outcome: created, exists (another process was first) or failed.",
    EVERYONE,
    { labels: ["object", "outcome"] },
  ),
  storeSeconds: define(
    "histogram",
    "store_request_seconds",
    "Time of one call to the store, retries included.",
    EVERYONE,
    {
      labels: ["operation"],
      buckets: REQUEST_SECONDS,
    },
  ),
  storeFailures: define(
    "counter",
    "store_failures_total",
    "Calls to the store that failed after all retries.",
    EVERYONE,
    {
      labels: ["operation"],
    },
  ),
  storeBytes: define("counter", "store_bytes_total", "Bytes read from and written to the store.", EVERYONE, {
    labels: ["direction"],
  }),

  tokenisedDocuments: define("counter", "tokenized_documents_total", "Documents that became token ids.", ["producer"]),
  tokenisedTokens: define("counter", "tokenized_tokens_total", "Token ids made, special tokens left out.", [
    "producer",
  ]),
  tokeniserSeconds: define(
    "counter",
    "tokenizer_seconds_total",
    "Time in the tokenizer, summed over its calls. Tokens over seconds is its rate.",
    ["producer"],
  ),
  plannedRows: define("counter", "planned_rows_total", "Rows planned and queued.", ["producer"]),
  plannedTokens: define("counter", "planned_tokens_total", "Tokens planned and queued.", ["producer"]),
  plannedShards: define("counter", "planned_shards_total", "Shards planned and queued.", ["producer"]),
  plannedWindows: define("counter", "planned_windows_total", "Windows of the corpus planned and queued.", ["producer"]),
  backpressureSeconds: define(
    "counter",
    "backpressure_seconds_total",
    "Time a producer waited because the queue was full, by reason: backlog or redis-memory.",
    ["producer"],
    {
      labels: ["reason"],
    },
  ),

  queueJobs: define("gauge", "queue_jobs", "Jobs of a queue by state: waiting, active, failed.", ["control"], {
    labels: ["queue", "state"],
  }),
  queueTokens: define(
    "gauge",
    "queue_tokens",
    "Tokens planned and not yet in the store, of the active runs of a queue. Scale workers on it.",
    ["control"],
    { labels: ["queue"] },
  ),
  workers: define("gauge", "workers", "Workers that are present.", ["control"], { labels: ["queue"] }),
  producers: define("gauge", "producers", "Runs whose corpus is being read.", ["control"], { labels: ["queue"] }),
  runTokens: define("gauge", "run_tokens", "Tokens of an active run: planned so far, and done.", ["control"], {
    labels: ["run", "state"],
  }),
  runRows: define("gauge", "run_rows", "Rows of an active run: planned so far, and done.", ["control"], {
    labels: ["run", "state"],
  }),
  runTokensPerSecond: define(
    "gauge",
    "run_tokens_per_second",
    "Tokens per second that workers now compute for a run.",
    ["control"],
    {
      labels: ["run"],
    },
  ),
  runEtaSeconds: define(
    "gauge",
    "run_eta_seconds",
    "Remaining tokens over the rate now. Absent while unknown: no worker is active, or the corpus is still being read.",
    ["control"],
    { labels: ["run"] },
  ),
  heldRuns: define("gauge", "held_runs", "Runs that are not sealed until a person accepts them.", ["control"]),
  activeRuns: define("gauge", "active_runs", "Runs that the fleet has not finished.", ["control"]),
  requeued: define("counter", "requeued_jobs_total", "Jobs that the queue had lost and that were queued again.", [
    "worker",
    "control",
  ]),
  sealed: define("counter", "sealed_runs_total", "Runs sealed by this process.", ["worker", "control"]),
  lastTend: define("gauge", "last_tend_timestamp_seconds", "When this process last reconciled the fleet's runs.", [
    "worker",
    "control",
  ]),
  lastRefresh: define("gauge", "last_refresh_timestamp_seconds", "When control last read the fleet's whole state.", [
    "control",
  ]),
} satisfies Record<string, Definition>;

export type MetricKey = keyof typeof METRICS;
type Labels = Readonly<Record<string, string>>;

function define(
  type: Definition["type"],
  name: string,
  help: string,
  of: readonly Role[],
  more: Pick<Definition, "labels" | "buckets"> = {},
): Definition {
  return { type, name: `embedfleet_${name}`, help, of, ...more };
}

/** The metrics of one process, by their key in the table. */
export class Metrics {
  readonly registry = new Registry();
  readonly #counters = new Map<MetricKey, Counter>();
  readonly #gauges = new Map<MetricKey, Gauge>();
  readonly #histograms = new Map<MetricKey, Histogram>();

  constructor(params: Readonly<{ role: Role; version: string }>) {
    for (const key of Object.keys(METRICS) as MetricKey[]) {
      if (METRICS[key].of.includes(params.role)) this.#make(key);
    }
    this.set("buildInfo", 1, { version: params.version, node: process.versions.node, role: params.role });
    collectDefaultMetrics({ register: this.registry });
  }

  #make(key: MetricKey): void {
    const { type, name, help, labels = [], buckets = [] }: Definition = METRICS[key];
    const common = { name, help, labelNames: [...labels], registers: [this.registry] };
    if (type === "counter") this.#counters.set(key, new Counter(common));
    else if (type === "gauge") this.#gauges.set(key, new Gauge(common));
    else this.#histograms.set(key, new Histogram({ ...common, buckets: [...buckets] }));
  }

  /** Adds to a metric. Metrics that this process's role lacks are ignored, so any event may be passed in any process. */
  add(key: MetricKey, value: number, labels: Labels = {}): void {
    this.#counters.get(key)?.inc(labels, value);
  }

  set(key: MetricKey, value: number, labels: Labels = {}): void {
    this.#gauges.get(key)?.set(labels, value);
  }

  /** Counts one value in a histogram. */
  record(key: MetricKey, value: number, labels: Labels = {}): void {
    this.#histograms.get(key)?.observe(labels, value);
  }

  /** Removes a gauge's labels: runs and workers come and go. */
  clear(key: MetricKey): void {
    this.#gauges.get(key)?.reset();
  }

  text(): Promise<string> {
    return this.registry.metrics();
  }
}
