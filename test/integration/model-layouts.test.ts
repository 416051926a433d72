/**
 * Optional: needs a Python with torch, transformers, sentence-transformers, onnx and onnxscript, named by LAYOUTS_PYTHON.
 * Tiny models in many layouts (test/fixtures/layouts.py): each gives the vectors that sentence-transformers gives, or is
 * refused with its reason before any row. With UPDATE_DOCS=1 it writes the table in docs/models.md, else it compares.
 */
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { FleetError } from "../../src/core/errors.ts";
import { embedRows } from "../fixtures/layout-folder.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const python = process.env["LAYOUTS_PYTHON"];
const SCRIPT = fileURLToPath(new URL("../fixtures/layouts.py", import.meta.url));
const PAGE = fileURLToPath(new URL("../../docs/models.md", import.meta.url));
/** Least cosine; hidden states in float16 are rounded. */
const SAME = 0.99999;

interface Layout {
  readonly name: string;
  readonly folder: string;
  /** Null for a layout that is to be refused. */
  readonly ids: readonly (readonly number[])[] | null;
  readonly vectors: readonly (readonly number[])[] | null;
}

/** Least cosine of a row, or the reason for which there is none. */
async function outcomeOf(folder: string, { ids, vectors }: Layout): Promise<number | string> {
  try {
    const { dense, dim } = await embedRows(folder, ids ?? [[1, 7, 2]]);
    expect(dim).toBe(vectors?.[0]?.length ?? dim);
    const cosines = (vectors ?? []).map((vector, row) =>
      vector.reduce((sum, value, i) => sum + value * dense![row * dim + i]!, 0),
    );
    return Math.min(...cosines);
  } catch (error) {
    if (!(error instanceof FleetError)) throw error;
    expect(error).toMatchObject({ code: "model_invalid", cure: expect.stringMatching(/\w/) });
    return error.message.replaceAll(`${folder}/`, "").replaceAll(folder, "FOLDER");
  }
}

test.skipIf(python === undefined)(
  "every layout gives sentence-transformers' vectors, or is refused by name (needs LAYOUTS_PYTHON)",
  async () => {
    const out = await tempFolder();
    const made = spawnSync(python!, [SCRIPT, out], { encoding: "utf8" });
    expect(made.status, made.stderr).toBe(0);
    const layouts = JSON.parse(readFileSync(join(out, "layouts.json"), "utf8")) as Layout[];
    expect(layouts.length).toBeGreaterThan(80);
    const rows: string[] = ["| layout | outcome | cosine | message |", "|---|---|---|---|"];
    for (const layout of layouts) {
      const outcome = await outcomeOf(join(out, layout.folder), layout);
      if (layout.ids === null || layout.name === UNUSABLE) expect(outcome, layout.name).toBeTypeOf("string");
      else expect(outcome, layout.name).toBeGreaterThan(SAME);
      const cells = typeof outcome === "string" ? ["refused", "", outcome] : ["works", `> ${SAME}`, ""];
      rows.push(`| ${[layout.name, ...cells].join(" | ")} |`);
    }
    const table = `${rows.join("\n")}\n`;
    const text = readFileSync(PAGE, "utf8");
    const [before, kept, after] = text.split(/(?<=<!-- layouts: begin[^\n]*\n)|(?=<!-- layouts: end)/) as [
      string,
      string,
      string,
    ];
    if (process.env["UPDATE_DOCS"] === "1") writeFileSync(PAGE, `${before}${table}${after}`);
    else expect(kept).toBe(table);
  },
  1_200_000,
);

/** A layout that has vectors elsewhere, and none here. */
const UNUSABLE = "bfloat16 output";
