/** A process that is told to go while it probes a store leaves nothing of the probe there. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";
import { tempFolder } from "../fixtures/temp-folder.ts";

const DIST = pathToFileURL(join(import.meta.dirname, "../../dist/src/")).href;

/** Says when the probe has made its first object, and goes on when its input ends. */
const PROBING = `
  const { FileStore } = await import("${DIST}adapters/file/file-store.js");
  const { probeStoreOf } = await import("${DIST}fleet/open-ports.js");
  class Held extends FileStore {
    async read(params) {
      process.stdout.write("probing");
      for await (const _ of process.stdin);
      return super.read(params);
    }
  }
  await probeStoreOf(new Held(process.argv[1]), { unsafeStore: false }, { warn() {} });
`;

test.each(["SIGTERM", "SIGINT"] as const)("%s ends it by that signal, after it has cleared away", async (signal) => {
  const root = join(await tempFolder(), "out");
  const child = spawn(process.execPath, ["--input-type=module", "-e", PROBING, root], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  await once(child.stdout, "data");
  expect(await readdir(root)).toContain(".probe");
  const ended = once(child, "exit");
  child.kill(signal);
  child.stdin.end();
  expect(await ended).toEqual([null, signal]);
  expect(await readdir(root)).toEqual([".tmp"]);
});
