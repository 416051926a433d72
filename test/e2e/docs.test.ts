/**
 * The commands of the documentation, page by page and in order, on a real Redis, a real S3 server and the embedded
 * model, in a folder that has what the pages speak of. What cannot be run here is listed with the reason.
 */
import { PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { delimiter, join } from "node:path";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { parquetWriteBuffer } from "hyparquet-writer";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { CLI } from "../fixtures/cli.ts";
import { describeS3 } from "../fixtures/describe-s3.ts";
import { commandsIn } from "../fixtures/doc-commands.ts";
import { freePorts } from "../fixtures/guarded-process.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Commands that are only parsed (`test/unit/docs.test.ts`), and why. */
const NOT_RUN: readonly (readonly [pattern: RegExp, because: string])[] = [
  [/^(?:cd infra\/compose|docker )/, "containers; test/deploy lets Compose read its file and lints the images"],
  [/^(?:kubectl|helm) /, "a cluster; test/deploy validates the rendered chart"],
  [
    /^npm (?:run (?:demo|test:more|test:node)|test)$|file:\/\/\/…\/out\/demo/,
    "the demo, a minute by itself, and this very suite",
  ],
  [/^npm run pictures/, "minutes; test/e2e/scaling.test.ts scales the same fleet"],
  [/npm run test:(?:chaos|soak)|^SIMULATION_/, "minutes; a short form of each is part of the suite"],
  [/^npm (?:ci|install) /, "installs packages; the suite's setup has installed LanceDB"],
  [/^OTEL_/, "an OpenTelemetry SDK, which is not among our packages; test/unit/traces.test.ts has the API"],
  [
    /^curl .*localhost:(?:6333|9200)|^for file in (?:points|bulk)/,
    "servers of others; see test/integration/export.test.ts",
  ],
  [/psql/, "a PostgreSQL server; test/integration/export.test.ts loads the files into one that runs inside Node"],
  [/models pull/, "the hub, or a bucket with a model; test/integration/pull.test.ts has servers of both kinds"],
  [/models check (?:bge-m3|models\/exported)/, "a downloaded or exported model; see test/integration/check.test.ts"],
  [/\.\/models\/|models\/export\/gpu|cuda:/, "PyTorch's weights, or a GPU; see test/integration/model-export.test.ts"],
  [/generated:large/, "2 GB of weights; generated:mini is exported"],
];

/** Those that stay until they are told to end. */
function isDaemon(command: string): boolean {
  return /\bembedfleet (?:control|work)\b/.test(command) && !command.includes("--exit-when-done");
}

interface Outcome {
  readonly code: number | null;
  readonly output: string;
}

/** One page's reader: a shell whose exports stay, and the programs that were left running. */
class Reader {
  readonly #folder: string;
  readonly #env: Record<string, string>;
  readonly #daemons: { readonly command: string; readonly child: ChildProcess; readonly ended: Promise<Outcome> }[] =
    [];

  constructor(folder: string, env: Readonly<Record<string, string>>) {
    this.#folder = folder;
    this.#env = { ...env };
  }

  async type(command: string): Promise<void> {
    if (command.startsWith("export ")) return this.#export(command);
    if (isDaemon(command)) return this.#leaveRunning(command);
    // A reader waits for the workers before asking whether all is there.
    const deadline = Date.now() + (/ verify /.test(command) && this.#daemons.length > 0 ? 60_000 : 0);
    let outcome = await this.#spawn(command).ended;
    while (outcome.code !== 0 && Date.now() < deadline) outcome = await this.#spawn(command).ended;
    expect(outcome.code, `${command}\n${outcome.output}`).toBe(0);
  }

  async leave(): Promise<void> {
    for (const { child } of this.#daemons) process.kill(-child.pid!, "SIGTERM");
    for (const { command, ended } of this.#daemons) {
      const { code, output } = await ended;
      expect(code, `${command}\n${output}`).toBe(0);
    }
  }

  /** What the test has set already, such as the credentials, is the reader's own. */
  #export(command: string): void {
    for (const pair of command.split(" ").slice(1))
      this.#env[pair.slice(0, pair.indexOf("="))] ??= pair.slice(pair.indexOf("=") + 1);
  }

  async #leaveRunning(command: string): Promise<void> {
    const { child, ended } = this.#spawn(command);
    this.#daemons.push({ command, child, ended });
    const ready = (async () => {
      for (;;) if (String((await once(child.stderr!, "data"))[0]).includes("is ready")) return "ready";
    })();
    const first = await Promise.race([ready, ended]);
    expect(first, command).toBe("ready");
  }

  #spawn(command: string): { child: ChildProcess; ended: Promise<Outcome> } {
    // `exec`, so that a signal reaches the program and not a shell before it.
    const line = isDaemon(command) ? command.replace("embedfleet", "exec embedfleet") : command;
    const child = spawn("bash", ["-c", line], { cwd: this.#folder, env: this.#env, detached: true, stdio: "pipe" });
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (chunk: Buffer) => (output += chunk.toString()));
    child.stdin.end();
    const ended = new Promise<Outcome>((resolve) => child.on("close", (code) => resolve({ code, output })));
    return { child, ended };
  }
}

const TOPICS = ["lighthouse", "glacier", "sourdough", "harbour", "telescope", "orchard"];

/** What the pages speak of: corpora in several formats, and questions about one. */
async function furnish(folder: string): Promise<void> {
  const lines = TOPICS.map((topic, i) =>
    JSON.stringify({
      id: `en-${i + 1}`,
      text: `The ${topic} stands on the ${topic} road. Nobody knows why. `.repeat(3),
    }),
  );
  const corpus = `${lines.join("\n")}\n`;
  for (const name of ["corpus", "news", "sample"]) await writeFile(join(folder, `${name}.jsonl`), corpus);
  await writeFile(join(folder, "corpus.jsonl.gz"), gzipSync(corpus));
  for (const name of ["docs", "corpus"]) {
    await mkdir(join(folder, name));
    for (const topic of TOPICS)
      await writeFile(join(folder, name, `${topic}.md`), `# ${topic}\n\nA ${topic} was here.\n`);
  }
  const questions = TOPICS.map((topic, i) =>
    JSON.stringify({ question: `Where is the ${topic}?`, relevant: [`en-${i + 1}`] }),
  );
  await writeFile(join(folder, "questions.jsonl"), `${questions.join("\n")}\n`);
  for (const name of ["test", "infra"]) await symlink(join(root, name), join(folder, name));
}

function newsAsParquet(): Buffer {
  const column = (name: string, data: (string | number)[], type: "STRING" | "INT32"): object => ({ name, data, type });
  const texts = (name: string): (string | number)[] => TOPICS.map((topic) => `${name} of ${topic}`);
  const columnData = [
    ...["url", "title", "body", "author"].map((name) => column(name, texts(name), "STRING")),
    column(
      "lang",
      TOPICS.map(() => "en"),
      "STRING",
    ),
    column(
      "year",
      TOPICS.map((_, i) => 2018 + i),
      "INT32",
    ),
  ] as Parameters<typeof parquetWriteBuffer>[0]["columnData"];
  return Buffer.from(parquetWriteBuffer({ columnData }));
}

const pages = ["README.md", "docs/tutorial.md"];
for (const name of (await readdir(join(root, "docs"), { recursive: true })).toSorted()) {
  const page = `docs/${name}`;
  if (name.endsWith(".md") && !name.startsWith("reference/") && !pages.includes(page)) pages.push(page);
}
const schedules = await Promise.all(
  pages.map(async (page) => ({ page, commands: commandsIn(await readFile(join(root, page), "utf8")) })),
);

function reasonNotToRun(command: string): string | undefined {
  return NOT_RUN.find(([pattern]) => pattern.test(command))?.[1];
}

test("what is not run is in the pages", () => {
  const all = schedules.flatMap(({ commands }) => commands);
  const stale = NOT_RUN.filter(([pattern]) => !all.some((command) => pattern.test(command)));
  expect(stale.map(([pattern]) => String(pattern))).toEqual([]);
  expect(all.filter((command) => reasonNotToRun(command) === undefined).length).toBeGreaterThan(40);
});

describeS3("a reader can type", (s3) => {
  const { endpoint, region, bucket, credentials } = s3;
  const prefix = `docs-${randomUUID()}`;
  let home = "";
  let bin = "";
  let pushgateway: Server;
  let folders = 0;

  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), "embedfleet-docs-"));
    bin = join(home, "bin");
    await mkdir(bin);
    await writeFile(join(bin, "embedfleet"), `#!/bin/sh\nexec "${process.execPath}" "${CLI}" "$@"\n`);
    await chmod(join(bin, "embedfleet"), 0o755);
    pushgateway = createServer((_, response) => response.end()).listen(0, "127.0.0.1");
    await once(pushgateway, "listening");
    const client = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
    const put = (Key: string, Body: Buffer): Promise<unknown> =>
      client.send(new PutObjectCommand({ Bucket: bucket, Key: `${prefix}/${Key}`, Body }));
    await put("corpus/news/2026-01.parquet", newsAsParquet());
    await put("corpora/docs/a.md", Buffer.from("# A\n\nA lighthouse.\n"));
    client.destroy();
  });
  afterAll(async () => {
    pushgateway.close();
    await rm(home, { recursive: true, force: true });
  });

  /** What stands for the reader's own places. */
  async function settled(command: string, place: string): Promise<string> {
    const [port] = await freePorts(1);
    return command
      .replaceAll("s3://bucket/prefix", `s3://${bucket}/${prefix}/${place}`)
      .replaceAll(/s3:\/\/(corpus|corpora|milvus)\//g, `s3://${bucket}/${prefix}/$1/`)
      .replaceAll("redis://queue:6379", inject("redisUrl"))
      .replaceAll("https://s3.example.com", endpoint)
      .replaceAll("/data/", `${home}/${place}/data/`)
      .replaceAll("http://pushgateway:9091", `http://127.0.0.1:${(pushgateway.address() as AddressInfo).port}`)
      .replaceAll("9464", String(port))
      .replaceAll("bge-m3", "mini");
  }

  test.concurrent.each(
    schedules.filter(({ commands }) => commands.some((command) => reasonNotToRun(command) === undefined)),
  )(
    "$page",
    async ({ commands }) => {
      const place = `page-${folders++}`;
      const folder = join(home, place);
      await mkdir(folder);
      await furnish(folder);
      const reader = new Reader(folder, {
        PATH: `${bin}${delimiter}${process.env["PATH"] ?? ""}`,
        HOME: home,
        EMBEDFLEET_CACHE: process.env["EMBEDFLEET_CACHE"]!,
        EMBEDFLEET_FLEET: randomUUID(),
        EMBEDFLEET_CONTROL_PORT: "0",
        AWS_ENDPOINT_URL_S3: endpoint,
        AWS_REGION: region,
        AWS_ACCESS_KEY_ID: credentials.accessKeyId,
        AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
      });
      try {
        for (const command of commands)
          if (reasonNotToRun(command) === undefined) await reader.type(await settled(command, place));
      } finally {
        await reader.leave();
      }
    },
    300_000,
  );
});
