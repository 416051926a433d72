/** Makes elements, and changes a page to new ones without losing focus, scroll or open details. */

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "g", "rect", "path", "line", "text", "title"]);

/** `h("td", { class: "number" }, "12")`. Text is always text: nothing here parses markup. */
export function h(tag, attributes = {}, ...children) {
  const node = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Makes `parent` have these children, keeping each node that can be kept. */
export function fill(parent, ...children) {
  const wanted = children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
  const next = wanted.map((child) => (child instanceof Node ? child : document.createTextNode(String(child))));
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
    // Whether details are open is the reader's business.
    if (!node.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
  fill(old, ...node.childNodes);
}
