/** HTML as people have it: without optional tags, in old charsets, badly nested. */
import { describe, expect, test } from "vitest";
import { htmlText } from "../../producers/sources/html.ts";

const textOf = (html: string): string | null => htmlText(Buffer.from(html));

test.each([
  [
    "no end of the head, no body",
    "<!DOCTYPE html><html><head><title>T</title><p>First paragraph.<p>Second.",
    "T\n\nFirst paragraph.\n\nSecond.",
  ],
  ["no head, no html", "<title>T</title>text<p>more", "T\n\ntext\n\nmore"],
  [
    "a head that holds what only a body can",
    "<head><meta charset=utf-8><div>a</div><title>T</title></head>b",
    "T\n\na\nb",
  ],
  ["optional ends in tables and lists", "<table><tr><td>a<td>b<tr><td>c</table><dl><dt>d<dd>e</dl>", "a b\nc\n\nd\ne"],
  ["tags that overlap", "<b>1<p>2</b>3</p>4", "1\n\n23\n\n4"],
  ["a hidden tag that overlaps", "<b hidden>1<p>2</b>3</p>4", "3\n\n4"],
  ["text in a table but in no cell comes before it", "<table>x<tr><td>a</table>y", "x\n\na\n\ny"],
  ["a form that ends within an element", "<form><div>a</form>b</div>c", "ab\n\nc"],
  ["an end of the body is no end of the text", "<body>a</body></html>b<p>c", "ab\n\nc"],
  ["a second title", "<title>T</title><title>U</title>x", "T\n\nx"],
  ["formulas", "<p>a<math><mi>x</mi><mo/></math>b", "axb"],
])("%s", (_, html, expected) => {
  expect(textOf(html)).toBe(expected);
});

describe("charsets", () => {
  const QUOTES = Buffer.from([0x92, 0x93, 0x94, 0x80]);

  test.each(["windows-1252", "iso-8859-1", "latin1", "ascii", "US-ASCII", "cp1252", "ISO_8859-1:1987"])(
    "%s is windows-1252, as in browsers",
    (label) => {
      const page = (head: string): Buffer => Buffer.concat([Buffer.from(`${head}<p>`), QUOTES]);
      const expected = "\u2019\u201c\u201d\u20ac";
      expect(htmlText(page(`<meta charset="${label}">`))).toBe(expected);
      expect(htmlText(page(`<meta http-equiv=Content-Type content="text/html; charset=${label}">`))).toBe(expected);
      expect(htmlText(page(`<?xml version="1.0" encoding="${label}"?><html>`))).toBe(expected);
      expect(htmlText(page(""), label)).toBe(expected);
    },
  );

  test("every byte of windows-1252", () => {
    const bytes = Buffer.from(Array.from({ length: 128 }, (_, i) => 128 + i));
    const page = Buffer.concat([Buffer.from("<meta charset=latin1><pre>x"), bytes]);
    expect(htmlText(page)).toBe(
      "x€\u0081‚ƒ„…†‡ˆ‰Š‹Œ\u008dŽ\u008f\u0090‘’“”•–—˜™š›œ\u009džŸ" +
        Array.from({ length: 96 }, (_, i) => String.fromCharCode(160 + i)).join(""),
    );
  });

  test("other declared charsets, and one that hides in ASCII", () => {
    const of = (charset: string, bytes: number[]): string | null =>
      htmlText(Buffer.concat([Buffer.from(`<meta charset=${charset}><p>`), Buffer.from(bytes)]));
    expect(of("windows-1251", [0xcf, 0xf0, 0xe8])).toBe("При");
    expect(of("iso-8859-15", [0xa4])).toBe("€");
    expect(of("shift_jis", [0x93, 0xfa])).toBe("日");
    expect(of("iso-2022-jp", [0x1b, 0x24, 0x42, 0x46, 0x7c, 0x1b, 0x28, 0x42])).toBe("日");
    expect(of("utf-8", [0xff])).toBeNull();
  });

  test("a declaration in a comment declares nothing, and UTF-8 stays UTF-8", () => {
    expect(htmlText(Buffer.from("<!-- <meta charset=latin1> --><p>\xe9", "latin1"))).toBeNull();
    expect(textOf("<meta charset=latin1><p>é")).toBe("é");
  });
});

const many = (count: number, part: (i: number) => string): string =>
  Array.from({ length: count }, (_, i) => part(i)).join("");

describe("pages made to be slow", () => {
  test.each<[string, (n: number) => string, RegExp]>([
    ["nested elements", (n) => "<div>".repeat(n), /nests more than|^$/],
    ["formatting that is opened again in each paragraph", (n) => many(n, (i) => `<font id=${i}><p>x`), /overlap|^x/],
    ["formatting that overlaps blocks", (n) => "<b><i><p>x</b>".repeat(n), /^x\n\nx/],
    ["paragraphs deep within", (n) => "<div>".repeat(2000) + "<p>x".repeat(n), /^x\n\nx/],
    ["text out of place in a table", (n) => `<table>${"x<i></i>".repeat(n)}`, /^xxx/],
    ["links that are not closed", (n) => "<a href=x>y".repeat(n), /^yyy/],
    ["attributes", (n) => `<div ${many(n, (i) => `a${i}=1`)}>x`, /^x?/],
    ["elements without content", (n) => `<math>${"<mi/>".repeat(n)}x`, /^x$/],
    ["comments that are not closed", (n) => "<!--".repeat(n), /^$/],
    ["declarations that are not closed", (n) => `\xff${"<meta ".repeat(n)}`, /^null$/],
  ])("%s take time in proportion to their bytes", (_, page, expected) => {
    const took = (n: number): number => {
      const bytes = Buffer.from(page(n), "latin1");
      const begun = process.cpuUsage().user;
      let outcome: string;
      try {
        outcome = String(htmlText(bytes));
      } catch (error) {
        outcome = (error as Error).message;
      }
      expect(outcome).toMatch(expected);
      return (process.cpuUsage().user - begun) / 1000;
    };
    took(1000);
    const few = took(2500);
    // Four times as many; sixteen times the time would be quadratic.
    expect(took(10_000)).toBeLessThan(9 * few + 300);
  });
});
