/** Renders each part of the page from a snapshot. */
import { barTable, histogram } from "./charts.js";
import { h } from "./dom.js";
import { ago, ahead, bytes, count, duration, percent, short, time } from "./format.js";

/** Row length bounds, as in `src/core/worker-state.ts`. */
export const LENGTH_BOUNDS = [32, 64, 128, 256, 512, 1024, 2048, 4096, 8192];
const STAGES = ["pull", "load", "pack", "wait", "infer", "assemble", "encode", "upload", "complete"];

export function tiles(fleet) {
  const active = fleet.runs.filter((run) => run.isActive);
  const backlog = fleet.queues.reduce((sum, queue) => sum + queue.tokens, 0);
  const rate = sum(fleet.workers, "tokensPerSecond");
  const busy = fleet.workers.filter(({ deviceBusyRatio }) => deviceBusyRatio !== null);
  const real = sum(fleet.workers, "realTokens");
  const padded = sum(fleet.workers, "paddedTokens");
  const jobs = fleet.queues.reduce((total, { counts }) => total + counts.waiting + counts.active, 0);
  return [
    tile(
      "Tokens per second",
      fleet.workers.length === 0 ? "–" : short(rate),
      fleet.workers.length === 0 ? "no worker is active" : "over the last minute",
    ),
    tile("To do", short(backlog), `tokens, in ${plural(jobs, "job")}`),
    tile("Done in", ...fleetEta(active, backlog, rate)),
    tile("Workers", count(fleet.workers.length), plural(fleet.queues.length, "queue")),
    tile(
      "Devices busy",
      busy.length === 0 ? "–" : percent(sum(busy, "deviceBusyRatio") / busy.length),
      "while they had rows",
    ),
    tile("Padding", padded === 0 ? "–" : percent(1 - real / padded), "of what was computed"),
  ];
}

function fleetEta(active, backlog, rate) {
  if (active.length === 0) return ["–", "nothing is running"];
  if (active.every(({ state }) => state === "complete")) return ["soon", "only sealing remains"];
  if (rate === 0) return ["unknown", active[0].etaUnknownBecause ?? "nothing was computed in the last minute"];
  const more = active.some(({ state }) => state === "planning")
    ? "and the part still being read"
    : "at the current rate";
  return [duration(backlog / rate), more];
}

function tile(name, value, note) {
  return h(
    "div",
    { class: "tile", "data-key": name },
    h("dt", {}, name),
    h("dd", { class: "figure" }, value),
    h("dd", { class: "note" }, note),
  );
}

export function alerts(fleet) {
  return [
    ...fleet.problems.map((problem) =>
      h("p", { class: "alert" }, h("strong", {}, "Some data is unavailable. "), problem),
    ),
    ...fleet.damaged.map(({ run, problem }) =>
      h("p", { class: "alert" }, h("strong", {}, `Run ${run} is damaged. `), problem),
    ),
  ];
}

export function activeRuns(fleet) {
  const active = fleet.runs.filter((run) => run.isActive);
  if (active.length === 0)
    return h("p", { class: "card none" }, "No run is active. ", h("code", {}, "embedfleet enqueue"), " starts one.");
  return active.map(runCard);
}

function runCard(run) {
  const share = run.plannedTokens === 0 ? 0 : run.realTokens / run.plannedTokens;
  const title = `run-${run.run}`;
  return h(
    "article",
    { class: "card run", "data-key": run.run, "aria-labelledby": title },
    h(
      "header",
      {},
      h("h3", { id: title }, run.run),
      h("span", { class: `state ${run.state}` }, run.state),
      h("span", { class: "what" }, `${run.model} · ${run.heads.join(", ")}`),
      h(
        "div",
        { class: "tools" },
        run.held !== undefined && action("Accept", "accept", run.run, "danger"),
        action("Resume", "resume", run.run),
        action("Cancel", "cancel", run.run, "danger"),
      ),
    ),
    run.failures.length > 0 && failures(run),
    h(
      "div",
      { class: "progress" },
      h("progress", { max: 1, value: share.toFixed(4), "aria-label": `Tokens of run ${run.run} that are done` }),
      h("span", { class: "share" }, percent(share)),
    ),
    h(
      "dl",
      { class: "facts" },
      fact("Tokens", `${short(run.realTokens)} of ${short(run.plannedTokens)}`),
      fact("Rows", `${count(run.rows)} of ${count(run.plannedRows)}`),
      fact("Current rate", run.tokensPerSecondNow === null ? "unknown" : `${short(run.tokensPerSecondNow)} per second`),
      fact("Average rate", `${short(run.tokensPerSecond)} per second`),
      fact("ETA", run.etaSeconds === null ? "unknown" : duration(run.etaSeconds)),
      fact("Rejects", count(run.rejects)),
      fact("Began", ago(run.createdAt)),
    ),
    run.etaUnknownBecause !== null && h("p", { class: "caption" }, `ETA unknown: ${run.etaUnknownBecause}.`),
    run.waitsFor !== null && h("p", { class: "waits" }, h("strong", {}, "Waits for "), `${run.waitsFor}.`),
  );
}

function failures(run) {
  return h(
    "details",
    { open: true, class: "failures" },
    h("summary", {}, `${plural(run.failedJobs, "job")} failed`),
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ["Jobs", "Reason", "For example"].map((head) => h("th", { scope: "col" }, head)),
        ),
      ),
      h(
        "tbody",
        {},
        run.failures.map(({ shard, reason, jobs }) =>
          h(
            "tr",
            { "data-key": shard },
            h("th", { scope: "row", class: "number" }, count(jobs)),
            h("td", { class: "reason" }, reason),
            h("td", {}, shard),
          ),
        ),
      ),
    ),
    h("p", { class: "caption" }, "Fix the cause, then press Resume or type ", h("code", {}, run.nextCommand)),
  );
}

function fact(name, value) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value));
}

function action(text, name, of, kind = "quiet") {
  return h(
    "button",
    { type: "button", class: kind, "data-action": name, "data-of": of, "aria-label": `${text} ${of}` },
    text,
  );
}

export function workers(fleet) {
  if (fleet.workers.length === 0)
    return h("p", { class: "none" }, "No worker is active. ", h("code", {}, "embedfleet work"), " starts one.");
  return table(
    ["Worker", "Device", "Tokens per second", "Busy", "Last batch", "Padding", "Rows", "Shards", "Memory", "Up"],
    fleet.workers.map((worker) => [
      worker.name,
      worker.device,
      count(worker.tokensPerSecond),
      worker.deviceBusyRatio === null ? "–" : percent(worker.deviceBusyRatio),
      worker.lastBatch === null
        ? "none yet"
        : `${count(worker.lastBatch.rows)} × ${count(worker.lastBatch.longestTokens)}`,
      worker.paddedTokens === 0 ? "–" : percent(1 - worker.realTokens / worker.paddedTokens),
      count(worker.rows),
      count(worker.shards),
      bytes(worker.residentBytes),
      duration((Date.now() - Date.parse(worker.startedAt)) / 1000),
    ]),
    2,
  );
}

export function stages(fleet) {
  const seconds = STAGES.map((stage) =>
    sum(
      fleet.workers.map(({ stageSeconds }) => ({ of: stageSeconds[stage] ?? 0 })),
      "of",
    ),
  );
  const total = seconds.reduce((all, value) => all + value, 0);
  if (total === 0) return h("p", { class: "none" }, "No work has been done yet.");
  return [
    barTable(
      ["Stage", "Time", "Share"],
      STAGES.map((name, i) => ({
        name,
        value: seconds[i],
        cells: [duration2(seconds[i]), percent(seconds[i] / total)],
      })).filter(({ value }) => value > 0),
    ),
    h(
      "p",
      { class: "caption" },
      "Summed over workers. Everything but infer overlaps with the device's work; wait is the next batch, ready ahead of time.",
    ),
  ];
}

function duration2(seconds) {
  return seconds < 60 ? `${seconds.toFixed(seconds < 1 ? 2 : 1)} s` : duration(seconds);
}

export function lengths(fleet) {
  const active = fleet.runs.filter(({ rowsByLength }) => rowsByLength.length > 0);
  const planned =
    active.length > 0
      ? active.map(({ rowsByLength }) => rowsByLength)
      : fleet.workers.map(({ rowsByLength }) => rowsByLength);
  const rows = Array.from({ length: LENGTH_BOUNDS.length + 1 }, (_, i) =>
    planned.reduce((all, of) => all + (of[i] ?? 0), 0),
  );
  const caption =
    active.length > 0 ? "Planned rows of the active runs, by tokens" : "Rows that the workers have computed, by tokens";
  return histogram(LENGTH_BOUNDS, rows, caption);
}

export function schedules(fleet) {
  if (fleet.schedules.length === 0)
    return h(
      "p",
      { class: "none" },
      "There are no schedules. ",
      h("code", {}, "embedfleet backfill add"),
      " adds one.",
    );
  return h(
    "ul",
    { class: "schedules" },
    fleet.schedules.map((schedule) =>
      h(
        "li",
        { "data-key": schedule.name },
        h("strong", {}, schedule.name),
        schedule.pattern !== "" && h("span", { class: "what" }, `${schedule.pattern} · ${schedule.timezone}`),
        h(
          "span",
          {},
          schedule.nextAt === null ? "no next tick" : `next ${time(schedule.nextAt)}, ${ahead(schedule.nextAt)}`,
        ),
        schedule.lastRun !== null && h("span", { class: "what" }, `last made ${schedule.lastRun}`),
        schedule.problem !== null && h("span", { class: "problem" }, schedule.problem),
        action("Run now", "trigger", schedule.name),
      ),
    ),
  );
}

export function queues(fleet) {
  if (fleet.queues.length === 0) return h("p", { class: "none" }, "No queue yet: the first run creates one.");
  return table(
    ["Queue", "Waiting", "Active", "Failed", "Remaining tokens", "Workers", "Being read"],
    fleet.queues.map(({ name, counts, tokens, workers, producers }) => [
      name,
      count(counts.waiting),
      count(counts.active),
      count(counts.failed),
      short(tokens),
      count(workers),
      producers.length === 0 ? "–" : producers.join(", "),
    ]),
    1,
  );
}

export function pastRuns(fleet) {
  const past = fleet.runs.filter((run) => !run.isActive);
  if (past.length === 0) return h("p", { class: "none" }, "None.");
  return table(
    [
      "Run",
      "State",
      "Model",
      "Documents",
      "Rows",
      "Rejects",
      "Tokens",
      "Tokens per second",
      "Size",
      "Duration",
      "Started",
    ],
    past.map((run) => [
      run.run,
      h("span", { class: `state ${run.state}` }, run.state),
      run.model,
      count(run.documents),
      count(run.rows),
      count(run.rejects),
      short(run.realTokens),
      count(run.tokensPerSecond),
      bytes(run.bytes),
      run.state === "sealed" ? duration(run.seconds) : "–",
      ago(run.createdAt),
    ]),
    3,
  );
}

export function rejects(page) {
  if (page.rejects.length === 0) return h("p", { class: "none" }, "No rejects.");
  return table(
    ["Id", "Reason", "Detail", "Where"],
    page.rejects.map(({ id, chunk, reason, detail, file, line, row }) => [
      id === null ? "–" : `${id}${chunk === undefined ? "" : ` #${chunk}`}`,
      reason,
      detail,
      line === undefined ? (row === undefined ? file : `${file} row ${row}`) : `${file}:${line}`,
    ]),
    4,
  );
}

/** @param texts Number of leading columns that hold text; figures are right-aligned. */
function table(heads, rows, texts) {
  const kind = (i) => (i < texts ? null : "number");
  return h(
    "table",
    {},
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        heads.map((head, i) => h("th", { scope: "col", class: kind(i) }, head)),
      ),
    ),
    h(
      "tbody",
      {},
      rows.map(([first, ...rest]) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, first),
          rest.map((cell, i) => h("td", { class: kind(i + 1) }, cell)),
        ),
      ),
    ),
  );
}

function sum(items, key) {
  return items.reduce((total, item) => total + item[key], 0);
}

export function plural(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}
