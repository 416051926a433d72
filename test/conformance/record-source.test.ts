/** Files by pyarrow and pandas (see `files/make.py`), and by Polars as the test runs. */
import { join } from "node:path";
import pl from "nodejs-polars";
import { tempFolder } from "../fixtures/temp-folder.ts";
import { FILES, knownRows, type RecordFormat, recordSourceSuite } from "./record-source.suite.ts";

function stored(name: string, format: Omit<RecordFormat, "file">): void {
  recordSourceSuite(name, { ...format, file: async () => join(FILES, name) });
}

const TYPED = { hasSchema: true, hasNulls: true };
const CSV = { hasSchema: true, hasNulls: false };

stored("rows.jsonl", { hasSchema: false, hasNulls: true });
stored("rows.jsonl.zst", { hasSchema: false, hasNulls: true });
stored("snappy.parquet", TYPED);
stored("zstd-v2.parquet", TYPED);
stored("plain.parquet", TYPED);
stored("plain.arrow", TYPED);
stored("lz4.arrow", TYPED);
stored("zstd.arrow", TYPED);
stored("dictionary.arrow", TYPED);
stored("dictionary.arrows", TYPED);
stored("pyarrow.csv", CSV);
stored("pandas.tsv", CSV);

type Writer = (frame: pl.DataFrame, path: string) => void;

function byPolars(name: string, format: Omit<RecordFormat, "file">, write: Writer): void {
  recordSourceSuite(`${name} by Polars`, {
    ...format,
    file: async () => {
      const rows = await knownRows();
      const ints = (pick: (row: (typeof rows)[number]) => number): pl.Series =>
        pl.Series(Int32Array.from(rows, pick) as never);
      const frame = pl.DataFrame({
        id: rows.map(({ id }) => id),
        number: ints(({ number }) => number),
        lang: rows.map(({ lang }) => lang),
        year: ints(({ year }) => year),
        title: rows.map(({ title }) => title),
        text: rows.map(({ text }) => text),
      });
      const path = join(await tempFolder(), name);
      write(frame, path);
      return path;
    },
  });
}

byPolars("rows.parquet", TYPED, (frame, path) => frame.writeParquet(path, { compression: "zstd" }));
byPolars("lz4.parquet", TYPED, (frame, path) => frame.writeParquet(path, { compression: "lz4" }));
byPolars("gzip.parquet", TYPED, (frame, path) => frame.writeParquet(path, { compression: "gzip" }));
byPolars("rows.arrow", TYPED, (frame, path) => frame.writeIPC(path, { compression: "uncompressed" }));
byPolars("lz4.arrow", TYPED, (frame, path) => frame.writeIPC(path, { compression: "lz4" }));
byPolars("zstd.arrow", TYPED, (frame, path) => frame.writeIPC(path, { compression: "zstd" }));
byPolars("rows.csv", CSV, (frame, path) => frame.writeCSV(path));
