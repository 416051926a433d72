/** Runs one peer in a process of its own, watches its memory, and ends it at its limits. */
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

export interface PeerLimits {
  readonly seconds: number;
  readonly bytes: number;
}

export type PeerOutcome =
  | {
      readonly kind: "done";
      readonly version: string;
      readonly seconds: number;
      readonly vectors: number;
      readonly first: readonly number[];
      readonly second: readonly number[];
      /** Of the process and those it started, most at one time. */
      readonly peakBytes: number;
    }
  | { readonly kind: "failed"; readonly reason: string; readonly peakBytes: number };

const LOOK_INTERVAL_MS = 50;

export async function runPeer(
  params: Readonly<{ command: readonly [string, ...string[]]; limits: PeerLimits }>,
): Promise<PeerOutcome> {
  const [command, ...args] = params.command;
  const { limits } = params;
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  let errors = "";
  let peakBytes = 0;
  let ended: string | null = null;
  child.stdout.setEncoding("utf8").on("data", (text: string) => (said += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (errors = (errors + text).slice(-20_000)));
  const end = (why: string): void => {
    ended ??= why;
    child.kill("SIGKILL");
  };
  const look = setInterval(() => {
    peakBytes = Math.max(peakBytes, residentBytes(child.pid!));
    if (peakBytes > limits.bytes) end(`took more than ${(limits.bytes / 1e9).toFixed(0)} GB and was ended`);
  }, LOOK_INTERVAL_MS);
  const clock = setTimeout(() => end(`not done after ${limits.seconds} s`), limits.seconds * 1000);
  const code = await new Promise<number | string | null>((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("close", (status, signal) => resolve(status ?? signal));
  });
  clearInterval(look);
  clearTimeout(clock);
  const answers = said
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  const answer = Object.assign({}, ...answers) as Omit<Extract<PeerOutcome, { kind: "done" }>, "kind" | "peakBytes">;
  if (ended === null && "seconds" in answer) return { kind: "done", ...answer, peakBytes };
  return { kind: "failed", reason: ended ?? `ended with ${code}: ${errorIn(errors)}`, peakBytes };
}

function errorIn(text: string): string {
  const wanted = /Failed to allocate memory for requested buffer of size (\d+)/.exec(text)?.[1];
  if (wanted !== undefined) return `it requested ${(Number(wanted) / 1e9).toFixed(0)} GB of memory at once`;
  const lines = text.trim().split("\n");
  return (lines.findLast((line) => /^\S*(?:Error|Exception)\b/.test(line)) ?? lines.at(-1)!).slice(0, 160);
}

/** Linux only; elsewhere 0. */
function residentBytes(pid: number): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    const children = readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").split(" ").filter(Boolean),
    );
    const own = Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) * 1024;
    return children.reduce((sum, child) => sum + residentBytes(Number(child)), own);
  } catch {
    return 0;
  }
}
