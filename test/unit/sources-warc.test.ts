/** WARC and WET, as Common Crawl, Heritrix and wget write them. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { brotliCompressSync, deflateSync, gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import type { ReadOptions } from "../../producers/sources/read-object.ts";
import { readWarc } from "../../producers/sources/warc.ts";
import type { SourceItem } from "../../src/core/documents.ts";
import { readItems } from "../conformance/record-source.suite.ts";
import { SELECTION } from "../fixtures/run-options.ts";
import { bytesOneByOne, collect, pipeOf } from "../fixtures/sources.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

let records = 0;

function record(type: string, body: Buffer | string, headers: Readonly<Record<string, string>> = {}): Buffer {
  const bytes = Buffer.from(body);
  const lines = Object.entries({
    "WARC-Type": type,
    "WARC-Record-ID": `<urn:uuid:${++records}>`,
    "WARC-Date": "2026-01-02T03:04:05Z",
    ...headers,
    "Content-Length": String(bytes.length),
  }).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.concat([Buffer.from(`WARC/1.0\r\n${lines.join("")}\r\n`), bytes, Buffer.from("\r\n\r\n")]);
}

function page(body: Buffer | string, headers = "Content-Type: text/html", status = "200 OK"): Buffer {
  const http = Buffer.concat([Buffer.from(`HTTP/1.1 ${status}\r\n${headers}\r\n\r\n`), Buffer.from(body)]);
  const about = { "Content-Type": "application/http; msgtype=response", "WARC-Target-URI": "https://e.org/a" };
  return record("response", http, about);
}

async function read(chunks: readonly Buffer[], options: Partial<ReadOptions> = {}): Promise<SourceItem[]> {
  return collect(readWarc(pipeOf(chunks, "crawl.warc"), { ...SELECTION, maxDocumentBytes: 4096, ...options }));
}

async function textsOf(chunks: readonly Buffer[], options: Partial<ReadOptions> = {}): Promise<string[]> {
  const items = await read(chunks, options);
  return items.map((item) =>
    item.kind === "document" ? item.document.text : `${item.reject.reason}: ${item.reject.detail}`,
  );
}

test("a WET file of Common Crawl: a gzip member for each record, a document for each text", async () => {
  const folder = await tempFolder();
  const plain = (text: string, url: string, language: string): Buffer =>
    record("conversion", text, {
      "WARC-Target-URI": url,
      "WARC-Identified-Content-Language": language,
      "Content-Type": "text/plain",
    });
  const members = [
    record("warcinfo", "software: x"),
    plain("één", "https://a.org/", "nld"),
    plain("two\n", "https://b.org/", "eng"),
  ];
  await writeFile(join(folder, "CC-MAIN-0.warc.wet.gz"), Buffer.concat(members.map((member) => gzipSync(member))));
  const where = [{ field: "language", operator: "=" as const, value: "eng" }];
  expect(await readItems([folder], { keep: ["url", "date"], where })).toEqual([
    {
      kind: "document",
      document: {
        id: expect.stringMatching(/^urn:uuid:\d+$/),
        text: "two\n",
        origin: { file: join(folder, "CC-MAIN-0.warc.wet.gz"), line: 3 },
        kept: ["https://b.org/", "2026-01-02T03:04:05Z"],
      },
    },
  ]);
  expect(await readItems([folder], { idField: "url" })).toMatchObject([
    { document: { id: "https://a.org/", text: "één" } },
    { document: { id: "https://b.org/" } },
  ]);
});

test("pages are read as HTML, in any charset and encoding that crawlers leave on them", async () => {
  const html = "<title>T</title><p>text";
  const chunked = `5\r\n${html.slice(0, 5)}\r\n${(html.length - 5).toString(16)};x=1\r\n${html.slice(5)}\r\n0\r\n\r\n`;
  const type = "Content-Type: text/html";
  const pages = [
    page(html),
    page(chunked, `${type}\r\nTransfer-Encoding: chunked`),
    page(html, `${type}\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip`),
    page(gzipSync(html), `${type}\r\nContent-Encoding: gzip`),
    page(deflateSync(html), `${type}\r\ncontent-encoding: deflate`),
    page(brotliCompressSync(html), `${type}\r\nContent-Encoding: br`),
    record("resource", html, { "Content-Type": "text/html" }),
  ];
  expect(await textsOf(pages)).toEqual(pages.map(() => "T\n\ntext"));
  expect(await textsOf(bytesOneByOne(Buffer.concat(pages.slice(0, 2))))).toHaveLength(2);
  expect(await textsOf([page(Buffer.from("it\x92s", "latin1"), `${type}; charset=iso-8859-1`)])).toEqual(["it\u2019s"]);
  expect(await textsOf([page("plain", "Content-Type: text/plain; charset=utf-8")])).toEqual(["plain"]);
});

test("what has no text is no document", async () => {
  const others = [
    record("request", "GET / HTTP/1.1\r\n\r\n"),
    record("metadata", "x: y"),
    record("revisit", "HTTP/1.1 200 OK\r\n\r\n"),
    page("<p>moved", "Location: /b\r\nContent-Type: text/html", "301 Moved"),
    page("<p>gone", "Content-Type: text/html", "404 Not Found"),
    page("GIF89a", "Content-Type: image/gif"),
    record("response", "example.org. IN A", { "Content-Type": "text/dns" }),
  ];
  expect(await textsOf([...others, page("<p>kept")])).toEqual(["kept"]);
});

test("records that are too long, damaged or cut are rejects; the others are read", async () => {
  const long = page("x".repeat(5000));
  const bomb = page(gzipSync("x".repeat(100_000)), "Content-Type: text/html\r\nContent-Encoding: gzip");
  const latin = page(Buffer.from("caf\xe9", "latin1"));
  expect(await textsOf([long, bomb, latin, page("<p>next")])).toEqual([
    expect.stringMatching(/^too_long: the record has \d+ bytes; --max-document-bytes allows 4096/),
    expect.stringMatching(/^unreadable: the response's gzip content cannot be decoded/),
    expect.stringMatching(/^invalid_utf8/),
    "next",
  ]);
  const cut = Buffer.concat([page("<p>a"), page("<p>b")]);
  expect(await textsOf([cut.subarray(0, -6)])).toEqual([
    "a",
    expect.stringContaining("after record 2: the WARC file is damaged: it ends within a record"),
  ]);
  expect(await textsOf([page("<p>a"), Buffer.from("junk\r\n\r\n")])).toEqual([
    "a",
    expect.stringContaining("does not begin with WARC"),
  ]);
  expect(await textsOf([Buffer.from(`WARC/1.0\r\n${"x".repeat(2_000_000)}`)])).toEqual([
    expect.stringContaining("header does not end"),
  ]);
  expect(await textsOf([])).toEqual([]);
});
