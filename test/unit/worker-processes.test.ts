import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pino } from "pino";
import { describe, expect, test } from "vitest";
import { CPU } from "../../src/core/device-name.ts";
import { placesOf } from "../../src/cli/worker-processes.ts";
import { Supervisor } from "../../workers/supervisor.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

describe("placesOf", () => {
  test("workers on the CPU divide its threads among them, and have one each at least", () => {
    expect(placesOf({ device: [CPU], workers: 1, threads: 8 })).toEqual([{ device: CPU, threads: 8 }]);
    expect(placesOf({ device: [CPU], workers: 3, threads: 8 }).map(({ threads }) => threads)).toEqual([2, 2, 2]);
    expect(placesOf({ device: [CPU], workers: 4, threads: 2 }).map(({ threads }) => threads)).toEqual([1, 1, 1, 1]);
  });

  test("every device named has a worker, whatever the number asked for", () => {
    expect(placesOf({ device: [CPU, CPU, CPU], workers: 1, threads: 6 })).toHaveLength(3);
    expect(placesOf({ device: [CPU, CPU], workers: 5, threads: 5 })).toHaveLength(5);
  });

  test("a device that this installation cannot use is refused before anything is started", () => {
    const cuda = { kind: "cuda", index: 1 } as const;
    const placesWithCuda = (): unknown => placesOf({ device: [CPU, cuda], workers: 2, threads: 2 });
    if (existsSync("node_modules/onnxruntime-node/bin/napi-v6/linux/x64/libonnxruntime_providers_cuda.so"))
      expect(placesWithCuda()).toHaveLength(2);
    else expect(placesWithCuda).toThrow(/cuda:1/);
  });
});

describe("Supervisor", () => {
  const log = pino({ level: "silent" });

  test("starts each worker with its own arguments, and one that crashed again", async () => {
    const folder = await tempFolder();
    const script = join(folder, "worker.mjs");
    // Crashes once, and ends well the second time.
    await writeFile(
      script,
      `import { existsSync, writeFileSync } from "node:fs";
       const [, , marker] = process.argv;
       if (existsSync(marker)) process.exit(0);
       writeFileSync(marker, "");
       process.kill(process.pid, "SIGKILL");`,
    );
    const markers = ["one", "two"].map((name) => join(folder, name));
    const supervisor = new Supervisor({ argvs: markers.map((marker) => [script, marker]), env: process.env, log });
    supervisor.start();
    await supervisor.ended();
    expect(markers.map((marker) => existsSync(marker))).toEqual([true, true]);
  });

  test("what was asked for in a wrong way is not tried again", async () => {
    const argvs = [["-e", "process.exit(2)"]];
    // Long enough for the test to end first if it were.
    const supervisor = new Supervisor({ argvs, env: process.env, log, firstRestartMs: 600_000 });
    supervisor.start();
    await expect(supervisor.ended()).rejects.toThrow("worker 0 ended with exit code 2");
  });

  test("one that says that a restart would not help is not started again", async () => {
    const script = join(await tempFolder(), "worker.mjs");
    const module = new URL("../../dist/workers/supervisor.js", import.meta.url).href;
    await writeFile(script, `import { tellStayDown } from "${module}"; tellStayDown(); process.exitCode = 1;`);
    const supervisor = new Supervisor({ argvs: [[script]], env: process.env, log, firstRestartMs: 600_000 });
    supervisor.start();
    await expect(supervisor.ended()).rejects.toThrow("worker 0 ended with exit code 1");
  });

  test("what its worker says of the model is the error, once, however many say it", async () => {
    const script = join(await tempFolder(), "worker.mjs");
    const module = (name: string): string => new URL(`../../dist/${name}`, import.meta.url).href;
    await writeFile(
      script,
      `import { tellStayDown } from "${module("workers/supervisor.js")}";
       import { FleetError } from "${module("src/core/errors.js")}";
       tellStayDown(new FleetError("model_invalid", "the graph is none", { cure: "export it" }));
       process.exitCode = 1;`,
    );
    const supervisor = new Supervisor({ argvs: [[script], [script]], env: process.env, log, firstRestartMs: 600_000 });
    supervisor.start();
    const expected = { code: "model_invalid", message: "the graph is none", cure: "export it" };
    await expect(supervisor.ended()).rejects.toMatchObject(expected);
    await supervisor.stop();
  });

  test("is ready when the first worker takes jobs", async () => {
    const script = join(await tempFolder(), "worker.mjs");
    const module = new URL("../../dist/workers/supervisor.js", import.meta.url).href;
    await writeFile(script, `import { tellReady } from "${module}"; tellReady(); setInterval(() => {}, 1000);`);
    const never = ["-e", "setInterval(() => {}, 1000)"];
    const supervisor = new Supervisor({ argvs: [never, [script]], env: process.env, log });
    supervisor.start();
    await supervisor.ready();
    await supervisor.stop();
  });

  test("stops at once while one waits to be started again", async () => {
    let waits = (): void => {};
    const waiting = new Promise<void>((resolve) => (waits = resolve));
    const told = pino({ level: "warn" }, { write: () => waits() });
    const argvs = [["-e", "process.exit(1)"]];
    const supervisor = new Supervisor({ argvs, env: process.env, log: told, firstRestartMs: 600_000 });
    supervisor.start();
    await waiting;
    await supervisor.stop();
    await supervisor.ended();
  });

  test("stops those that would work for ever", async () => {
    const script = join(await tempFolder(), "worker.mjs");
    await writeFile(script, "setInterval(() => {}, 1000);");
    const supervisor = new Supervisor({ argvs: [[script], [script]], env: process.env, log });
    supervisor.start();
    await supervisor.stop();
    await supervisor.ended();
  });
});
