/** Text that is put together from words, with white space between them as a browser collapses it. */

/** Length from which a text is stored as one piece, and not as a tree of concatenations. */
const PIECE_CHARS = 64 * 1024;

/** White space between words: none, a space, or the end of a line or a paragraph. The longest of several counts. */
export type Gap = "" | " " | "\n" | "\n\n";
const WIDTHS: Readonly<Record<Gap, number>> = { "": 0, " ": 1, "\n": 2, "\n\n": 3 };

function wider(a: Gap, b: Gap): Gap {
  return WIDTHS[a] >= WIDTHS[b] ? a : b;
}

/** Text with the white space around it. */
export class SpacedText {
  #before: Gap = "";
  #after: Gap = "";
  readonly #pieces: string[] = [];
  #last = "";
  #isEmpty = true;

  addGap(gap: Gap): void {
    if (this.#isEmpty) this.#before = wider(this.#before, gap);
    else this.#after = wider(this.#after, gap);
  }

  addText(text: string): void {
    if (!this.#isEmpty) this.#last += this.#after;
    this.#last += text;
    this.#after = "";
    this.#isEmpty = false;
    if (this.#last.length >= PIECE_CHARS) this.#store();
  }

  addWords(text: string, isPreformatted: boolean): void {
    if (isPreformatted) return this.addText(text);
    // The no-break space is kept, because an author wrote it.
    text.split(/[ \t\r\n\f]+/).forEach((word, i) => {
      if (i > 0) this.addGap(" ");
      if (word !== "") this.addText(word);
    });
  }

  /** Adds a text that follows. */
  add(other: SpacedText): void {
    this.addGap(other.#before);
    if (other.#isEmpty) return;
    if (other.#pieces.length === 0) this.addText(other.#last);
    else {
      this.addText(other.#pieces[0]!);
      this.#store();
      for (const piece of other.#pieces.slice(1)) this.#pieces.push(piece);
      this.#last = other.#last;
    }
    this.#after = other.#after;
  }

  toString(): string {
    return [...this.#pieces, this.#last].join("");
  }

  #store(): void {
    // Joining makes one string of what was a tree of concatenations, which takes several times its size.
    if (this.#last !== "") this.#pieces.push([this.#last, ""].join(""));
    this.#last = "";
  }
}
