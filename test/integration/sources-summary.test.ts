/** One run over a folder that holds every format at once, whose summary accounts for every file. */
import { copyFile, cp, mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { cli } from "../fixtures/cli.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";
import { FILES } from "../conformance/record-source.suite.ts";

const TABLE = new URL("../fixtures/tables/delta", import.meta.url).pathname;
const line = (id: string): string => `${JSON.stringify({ id, text: `text ${id}` })}\n`;

test("a folder of every format: all is read, or counted as passed over", async () => {
  const folder = await tempFolder();
  const elsewhere = await tempFolder();
  await writeFile(join(elsewhere, "blob"), line("linked"));
  await mkdir(join(folder, "day=1/_temporary"), { recursive: true });
  const files: Readonly<Record<string, string | Buffer>> = {
    "a.jsonl": line("jsonl"),
    "b.ndjson": line("ndjson"),
    "c.json.gz": gzipSync(line("json.gz")),
    "d.csv": "id,text\ncsv,text\n",
    "e.tsv": "id\ttext\ntsv\ttext\n",
    "f.txt": "text",
    "g.md": "# text",
    "h.html": "<title>T</title><p>text",
    "day=1/i.json": line("json"),
    // Copies of committed files, whose rows have ids of their own.
    "day=1/_temporary/part-1.jsonl": line("uncommitted"),
    _SUCCESS: "",
    ".hidden": "",
    "j.pdf": "",
    "k.pdf": "",
  };
  for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), content);
  await copyFile(join(FILES, "plain.arrow"), join(folder, "day=1", "m.arrow"));
  await cp(TABLE, join(folder, "table"), { recursive: true });
  await symlink(join(elsewhere, "blob"), join(folder, "n.jsonl"));
  await symlink("gone.jsonl", join(folder, "o.jsonl"));
  const out = await tempFolder();
  const { stdout, stderr } = await cli(["run", folder, "--out", out, "--json"]);
  expect(stderr).toContain("files: 14 read; passed over: 2 .pdf, 2 files that its table does not hold,");
  expect(JSON.parse(stdout)).toMatchObject({
    documents: 103,
    rejects: 0,
    sources: {
      read: 14,
      passedOver: {
        ".pdf": 2,
        _SUCCESS: 1,
        "_delta_log/": 1,
        "_temporary/": 1,
        "file that its table does not hold": 2,
        "hidden file": 1,
        "symbolic link that leads nowhere": 1,
      },
    },
  });
});
