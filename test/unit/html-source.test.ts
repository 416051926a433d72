import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { htmlText } from "../../producers/sources/html.ts";
import { readItems } from "../conformance/record-source.suite.ts";
import { tempFolder } from "../fixtures/temp-folder.ts";

const textOf = (html: string): string | null => htmlText(Buffer.from(html));

test.each([
  [
    "blocks are paragraphs, lines are lines",
    "<h1>A</h1><p>b <b>c</b>\n d</p><ul><li>e<li>f</ul>g<br>h",
    "A\n\nb c d\n\ne\nf\n\ng\nh",
  ],
  ["words are not torn", "<p>un<b>believ</b>able <i>x</i>,y</p>", "unbelievable x,y"],
  ["cells are apart", "<table><tr><td>a<td>b<tr><th>c</table>", "a b\nc"],
  ["entities", "<p>&lt;b&gt; &amp; &eacute;&#x1F600; a&nbsp;b &unknown;</p>", "<b> & é😀 a\u00a0b &unknown;"],
  ["the title first, once", "<title>T &amp; t</title><body><p>Body", "T & t\n\nBody"],
  ["a title that the page repeats", "<title>Same</title><h1>Same</h1><p>x", "Same\n\nx"],
  [
    "a picture's title is none of the page's",
    "<title>T</title><svg><title>icon</title><text>s</text></svg>x",
    "T\n\nx",
  ],
  ["preformatted text as it is", "<p>a</p><pre>x\n  y</pre><p>b", "a\n\nx\n  y\n\nb"],
  [
    "script, style, template, navigation",
    "<style>s</style>a<script>if (a<b) {}</script><nav><p>menu</p></nav><template>t</template>b",
    "ab",
  ],
  [
    "hidden elements and all in them",
    '<div hidden><p>no</p><br></div><p style="display: none">no</p><p aria-hidden="true">no<img></p>yes',
    "yes",
  ],
  ["comments and broken markup", "a<!-- no --><p>b</div></p></span>c", "a\n\nb\n\nc"],
  ["no markup at all", "plain < text", "plain < text"],
])("%s", (_, html, expected) => {
  expect(textOf(html)).toBe(expected);
});

test("another charset when the page says so, and only then", () => {
  const page = Buffer.from('<meta charset="windows-1252"><p>caf\xe9', "latin1");
  expect(htmlText(page)).toBe("café");
  expect(htmlText(Buffer.from("<p>caf\xe9", "latin1"))).toBeNull();
  expect(htmlText(Buffer.from('<meta charset="no-such"><p>caf\xe9', "latin1"))).toBeNull();
});

test("pages of a folder are documents named by their paths", async () => {
  const folder = await tempFolder();
  await mkdir(join(folder, "sub"));
  await writeFile(join(folder, "a.html"), "<title>A</title><p>one");
  await writeFile(join(folder, "b.htm"), Buffer.from("<p>caf\xe9", "latin1"));
  await writeFile(join(folder, "c.html"), "<script>only()</script>");
  await writeFile(join(folder, "sub", "d.html.gz"), gzipSync("<p>four"));
  expect(await readItems([folder])).toMatchObject([
    { document: { id: "a.html", text: "A\n\none" } },
    { reject: { id: "b.htm", reason: "invalid_utf8" } },
    { reject: { id: "c.html", reason: "empty_text" } },
    { document: { id: "sub/d.html.gz", text: "four" } },
  ]);
  await writeFile(join(folder, "page"), "<!doctype html><p>five");
  expect(await readItems([join(folder, "page")])).toMatchObject([{ document: { text: "five" } }]);
});
