/** The tables of JSON records in docs/reference/formats.md, from the JSON Schemas that the package publishes. */
import { table } from "./docs-table.mjs";
import { jsonSchemas } from "./schemas.mjs";

/** Schemas that several records share; each has a section of its own. */
const SHARED = { RunOptions: "[options of a run](#options-of-a-run)", Totals: "[totals](#totals)" };

export function recordSections() {
  const schemas = Object.entries(jsonSchemas());
  const definitions = Object.assign({}, ...schemas.map(([, schema]) => schema.$defs));
  const records = schemas.map(([name, schema]) => section(schema, definitions, `\`embedfleet/schemas/${name}.json\``));
  const shared = Object.keys(SHARED).map((id) => section(definitions[id], definitions));
  return `\n${[...records, ...shared].join("\n\n")}\n`;
}

function section(schema, definitions, published) {
  const rows = [...fieldsOf(schema, definitions)];
  const source = published === undefined ? [] : [`Schema: ${published}.`];
  const said = [schema.description, ...source].join(" ");
  return [`### ${plain(schema.title)}`, said, table(["field", "type", "meaning"], rows)].join("\n\n");
}

/** One row for each field, those of nested objects included. */
function* fieldsOf(schema, definitions, path = "") {
  for (const [name, field] of Object.entries(schema.properties)) {
    if (field.description === undefined) throw new Error(`${path}${name} of ${schema.title} has no description`);
    const isOptional = !schema.required?.includes(name);
    const shown = `${path}${name}${field.type === "array" ? "[]" : ""}`;
    yield [`\`${shown}\`${isOptional ? " (optional)" : ""}`, typeOf(field, definitions), plain(field.description)];
    const inner = field.type === "array" ? field.items : field;
    if (inner.properties !== undefined) yield* fieldsOf(inner, definitions, `${shown}.`);
    // Objects of several kinds: each kind has fields of its own.
    for (const kind of inner.oneOf ?? [])
      yield* fieldsOf(kind, definitions, `${shown} (${kind.properties.kind.const}).`);
  }
}

function typeOf(schema, definitions) {
  const id = schema.$ref?.slice("#/$defs/".length);
  if (id !== undefined) return SHARED[id] ?? definitions[id].title;
  if ("default" in schema) {
    const { default: absent, ...rest } = schema;
    return `${typeOf(rest, definitions)}; \`${JSON.stringify(absent)}\` where absent`;
  }
  if (Array.isArray(schema.type))
    return schema.type.map((type) => typeOf({ ...schema, type }, definitions)).join(", or ");
  if (schema.anyOf !== undefined) return schema.anyOf.map((each) => typeOf(each, definitions)).join(" or ");
  if (schema.type === "array") return `list of ${typeOf(schema.items, definitions)}`;
  if (schema.propertyNames === undefined) return scalar(schema);
  return `object: ${typeOf(schema.additionalProperties, definitions)} by ${typeOf(schema.propertyNames, definitions)}`;
}

function scalar(schema) {
  if ("const" in schema) return `\`${JSON.stringify(schema.const)}\``;
  if (schema.enum !== undefined) return schema.enum.map((value) => `\`${value}\``).join(", ");
  if (schema.format === "date-time") return "time (ISO 8601, UTC)";
  if (schema.format === "uri") return "URL";
  if (schema.type === "string") return schema.pattern === undefined ? "text" : `text like \`${schema.pattern}\``;
  if (schema.type === "boolean") return "true or false";
  if (schema.type === "integer" || schema.type === "number") return number(schema);
  return schema.type ?? "object";
}

function number({ type, minimum, exclusiveMinimum, maximum }) {
  const bounds = [
    exclusiveMinimum === undefined ? null : `above ${exclusiveMinimum}`,
    minimum === undefined || minimum <= -Number.MAX_SAFE_INTEGER ? null : `at least ${minimum.toLocaleString("en")}`,
    maximum === undefined || maximum === Number.MAX_SAFE_INTEGER ? null : `at most ${maximum.toLocaleString("en")}`,
  ];
  return [type, ...bounds.filter((bound) => bound !== null)].join(", ");
}

/** Outside code, angle brackets would be HTML and stars emphasis. */
function plain(text) {
  const parts = text
    .split("`")
    .map((part, i) =>
      i % 2 === 1 ? part : part.replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll("*", "\\*"),
    );
  return parts.join("`");
}
