/**
 * Builds the text of a page while the standard's tree builder works. A tree of the whole page would take many times its
 * size, so an element is replaced by its text as soon as it is closed.
 */
import { html as names, parse, type Token, type TreeAdapter, type TreeAdapterTypeMap } from "parse5";
import { FleetError } from "../../src/core/errors.ts";
import { type Gap, SpacedText } from "./spaced-text.ts";

/** Elements whose content is not part of the text. `nav` repeats on every page of a site. */
const UNSEEN = new Set("head iframe nav noembed noframes noscript object script style svg template title".split(" "));
const PARAGRAPHS =
  "address article aside blockquote dl fieldset figure footer form h1 h2 h3 h4 h5 h6 header hr listing main ol p plaintext pre section table ul xmp";
const LINES = "br caption dd div dt figcaption legend li option summary tr";
/** White space that an element puts before and after its text. */
const GAPS = new Map<string, Gap>([
  ...PARAGRAPHS.split(" ").map((name) => [name, "\n\n"] as const),
  ...LINES.split(" ").map((name) => [name, "\n"] as const),
  ["td", " "],
  ["th", " "],
]);
const PREFORMATTED = new Set(["listing", "plaintext", "pre", "xmp"]);
/** Elements that never have content, so that no end closes them. */
const VOID = new Set(
  "area base basefont bgsound br col embed frame hr img input link meta param source track wbr".split(" "),
);
const { HTML } = names.NS;

/** Maximum depth, four times that of browsers. */
const MAX_DEPTH = 2048;
/** Maximum number of elements held at one time: those that are open, and those that badly nested tags keep from closing. */
const MAX_HELD = 500_000;
/** Elements allowed whatever the page's size; beyond, one per character, as the shortest tag has three. */
const ANY_ELEMENTS = 10_000;
/**
 * Parses a page.
 * @throws FleetError `source_unreadable` for elements that are nested too deep, or badly and very often
 */
export function parsePage(html: string): { readonly title: string; readonly body: string } {
  const builder = new Builder(html.length);
  parse<Nodes>(html, { treeAdapter: builder });
  return { title: builder.title, body: builder.body() };
}

/** Text of a place. */
class Words extends SpacedText {
  parent: Place | null = null;
}

/** An element, a template's content or the document. */
class Place {
  readonly name: string;
  readonly namespace: names.NS;
  /** Only of an element for which the tree builder needs them. */
  readonly attributes: Token.Attribute[];
  readonly #isHidden: boolean;
  parent: Place | null = null;
  children: (Place | Words)[] = [];
  depth = 0;
  isUnseen: boolean;
  isPreformatted: boolean;
  isClosed = false;
  /** Children that are elements still. */
  elements = 0;
  content: Place | null = null;

  constructor(name: string, namespace: names.NS, attributes: Token.Attribute[]) {
    this.name = name;
    this.namespace = namespace;
    this.attributes = name === "annotation-xml" ? attributes : [];
    this.#isHidden = UNSEEN.has(name) || isHidden(attributes);
    this.isUnseen = this.#isHidden;
    this.isPreformatted = PREFORMATTED.has(name);
  }

  /** Takes over what its new parent determines. Text that it has already was added under the same conditions. */
  putInto(parent: Place): void {
    this.parent = parent;
    this.depth = parent.depth + 1;
    this.isUnseen = this.#isHidden || parent.isUnseen;
    this.isPreformatted = PREFORMATTED.has(this.name) || parent.isPreformatted;
  }

  /** The words at the end, or before the child at an index. */
  wordsAt(index: number): Words {
    const before = this.children[index - 1];
    if (before instanceof Words) return before;
    const words = new Words();
    words.parent = this;
    this.children.splice(index, 0, words);
    return words;
  }
}

interface Nodes extends TreeAdapterTypeMap {
  node: Place | Words;
  parentNode: Place;
  childNode: Place | Words;
  document: Place;
  documentFragment: Place;
  element: Place;
  commentNode: Words;
  textNode: Words;
  template: Place;
  documentType: Words;
}

class Builder implements TreeAdapter<Nodes> {
  readonly #document = new Place("", HTML, []);
  readonly #mostElements: number;
  #mode: names.DOCUMENT_MODE | null = null;
  #title = "";
  #titleElement: Place | null = null;
  #created = 0;
  #held = 0;

  constructor(chars: number) {
    this.#mostElements = ANY_ELEMENTS + chars;
  }

  /** The page's first title. */
  get title(): string {
    return this.#title;
  }

  /** The text of everything that is seen. */
  body(): string {
    const words = new Words();
    const open: { place: Place; next: number }[] = [{ place: this.#document, next: 0 }];
    for (let at = open[0]; at !== undefined; at = open[open.length - 1]) {
      const child = at.place.children[at.next++];
      if (child instanceof Words) words.add(child);
      else if (child === undefined) {
        words.addGap(gapOf(at.place));
        open.pop();
      } else if (!child.isUnseen) {
        words.addGap(gapOf(child));
        open.push({ place: child, next: 0 });
      }
    }
    return String(words);
  }

  createDocument(): Place {
    return this.#document;
  }

  createDocumentFragment(): Place {
    return new Place("template", HTML, []);
  }

  createElement(name: string, namespace: names.NS, attributes: Token.Attribute[]): Place {
    if (++this.#created > this.#mostElements)
      throw badlyNested("its tags overlap so often that it would become many times its size");
    return new Place(name, namespace, attributes);
  }

  appendChild(parent: Place, node: Place | Words): void {
    this.#insert(parent, node, parent.children.length);
  }

  insertBefore(parent: Place, node: Place | Words, before: Place | Words): void {
    this.#insert(parent, node, indexOf(parent, before));
  }

  insertText(parent: Place, text: string): void {
    this.#addText(parent, text, parent.children.length);
  }

  insertTextBefore(parent: Place, text: string, before: Place | Words): void {
    this.#addText(parent, text, indexOf(parent, before));
  }

  detachNode(node: Place | Words): void {
    const { parent } = node;
    if (parent === null) return;
    parent.children.splice(indexOf(parent, node), 1);
    node.parent = null;
    if (node instanceof Words) return;
    parent.elements--;
    this.#held--;
  }

  onItemPop(place: Place): void {
    place.isClosed = true;
    this.#close(place);
  }

  #insert(parent: Place, node: Place | Words, index: number): void {
    if (node instanceof Words) parent.wordsAt(index).add(node);
    else if (VOID.has(node.name)) {
      if (!parent.isUnseen) parent.wordsAt(index).addGap(gapOf(node));
    } else {
      node.putInto(parent);
      if (node.depth > MAX_DEPTH) throw badlyNested(`the page nests more than ${MAX_DEPTH} elements`);
      if (++this.#held > MAX_HELD) throw badlyNested(`more than ${MAX_HELD} of its elements overlap`);
      parent.children.splice(index, 0, node);
      parent.elements++;
    }
  }

  #addText(parent: Place, text: string, index: number): void {
    if (parent.name === "title" && parent.namespace === HTML) {
      this.#titleElement ??= parent;
      if (this.#titleElement === parent) this.#title += text;
    } else if (!parent.isUnseen) parent.wordsAt(index).addWords(text, parent.isPreformatted);
  }

  /** Replaces a closed element whose children are all closed by its text, then its parent if that was the last one. */
  #close(place: Place): void {
    for (let next: Place | null = place; next !== null && next.isClosed && next.elements === 0;) {
      const { parent }: Place = next;
      if (parent === null) return;
      this.#replace(next);
      next = parent;
    }
  }

  #replace(place: Place): void {
    const parent = place.parent!;
    const index = indexOf(parent, place);
    parent.children.splice(index, 1);
    parent.elements--;
    this.#held--;
    place.parent = null;
    if (place.isUnseen) return;
    const words = parent.wordsAt(index);
    words.addGap(gapOf(place));
    for (const child of place.children) if (child instanceof Words) words.add(child);
    words.addGap(gapOf(place));
    // Words on both sides of the element are now next to each other.
    const at = indexOf(parent, words) + 1;
    const after = parent.children[at];
    if (!(after instanceof Words)) return;
    words.add(after);
    parent.children.splice(at, 1);
  }

  // What follows is asked for by the tree builder, and does not change the text.

  adoptAttributes(): void {}

  createCommentNode(): Words {
    return new Words();
  }

  createTextNode(text: string): Words {
    const words = new Words();
    words.addText(text);
    return words;
  }

  getAttrList(place: Place): Token.Attribute[] {
    return place.attributes;
  }

  getChildNodes(place: Place): (Place | Words)[] {
    return place.children;
  }

  getCommentNodeContent(): string {
    return "";
  }

  getDocumentMode(): names.DOCUMENT_MODE {
    return this.#mode!;
  }

  getDocumentTypeNodeName(): string {
    return "";
  }

  getDocumentTypeNodePublicId(): string {
    return "";
  }

  getDocumentTypeNodeSystemId(): string {
    return "";
  }

  getFirstChild(place: Place): Place | Words | null {
    return place.children[0] ?? null;
  }

  getNamespaceURI(place: Place): names.NS {
    return place.namespace;
  }

  getNodeSourceCodeLocation(): null {
    return null;
  }

  getParentNode(node: Place | Words): Place | null {
    return node.parent;
  }

  getTagName(place: Place): string {
    return place.name;
  }

  getTemplateContent(template: Place): Place {
    return template.content!;
  }

  getTextNodeContent(words: Words): string {
    return String(words);
  }

  isCommentNode(node: Place | Words): node is Words {
    return !this.isElementNode(node) && !this.isTextNode(node);
  }

  isDocumentTypeNode(node: Place | Words): node is Words {
    return this.isCommentNode(node);
  }

  isElementNode(node: Place | Words): node is Place {
    return node instanceof Place;
  }

  isTextNode(node: Place | Words): node is Words {
    return node instanceof Words;
  }

  setDocumentMode(_: Place, mode: names.DOCUMENT_MODE): void {
    this.#mode = mode;
  }

  setDocumentType(): void {}

  setNodeSourceCodeLocation(): void {}

  setTemplateContent(template: Place, content: Place): void {
    template.content = content;
    content.putInto(template);
  }

  updateNodeSourceCodeLocation(): void {}
}

/** Mostly the last child, so the search begins there. */
function indexOf(parent: Place, node: Place | Words): number {
  return parent.children.lastIndexOf(node);
}

function gapOf({ name }: Place): Gap {
  return GAPS.get(name) ?? "";
}

function isHidden(attributes: readonly Token.Attribute[]): boolean {
  return attributes.some(
    ({ name, value }) =>
      name === "hidden" ||
      (name === "aria-hidden" && value === "true") ||
      (name === "style" && /(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden)/i.test(value)),
  );
}

function badlyNested(finding: string): FleetError {
  return new FleetError("source_unreadable", finding, { cure: "close its elements, or write it as text" });
}
