/** Creates elements, and updates a page without losing focus, scroll or open details. */

/** Control characters, and those that change the direction of the text around them; as in `core/visible.ts`. */
// oxlint-disable-next-line no-control-regex -- control characters are what this finds
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "g", "rect", "path", "line", "text", "title"]);

/** Creates an element: `h("td", { class: "number" }, "12")`. Text is never parsed as markup. */
export function h(tag, attributes = {}, ...children) {
  const node = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...nodesOf(children));
  return node;
}

function nodesOf(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : document.createTextNode(visible(String(child)))));
}

/** Escapes characters that could deceive a reader, such as \u202e: ids and messages come from data. */
function visible(text) {
  return text.replace(UNSAFE, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** Sets the children of `parent`, reusing nodes where possible. */
export function fill(parent, ...children) {
  const next = nodesOf(children);
  const keyed = new Map([...parent.childNodes].filter(keyOf).map((node) => [keyOf(node), node]));
  next.forEach((node, i) => {
    const there = parent.childNodes[i];
    const same = keyOf(node) === null ? there : keyed.get(keyOf(node));
    if (same !== undefined && isSameKind(same, node)) {
      if (same !== there) parent.insertBefore(same, there ?? null);
      update(same, node);
    } else parent.insertBefore(node, there ?? null);
  });
  while (parent.childNodes.length > next.length) parent.lastChild.remove();
}

function keyOf(node) {
  return node instanceof Element ? node.getAttribute("data-key") : null;
}

function isSameKind(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);
}

function update(old, node) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== node.data) old.data = node.data;
    return;
  }
  for (const { name, value } of node.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of Array.from(old.attributes)) {
    // The reader decides whether details are open.
    if (!node.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
  fill(old, ...node.childNodes);
}
