/**
 * A piece of a part that another machine has read and cut: a JSON header that has the documents and rejects, then the
 * rows as staged rows are written. Made of the same part, it is the same to the byte.
 */
import { decodeStagedShard, encodeStagedShard } from "../../src/arrow/staged.ts";
import { CONTRACT_VERSION } from "../../src/core/contracts.ts";
import { FleetError, fromFaultFields, messageOf, toFaultFields } from "../../src/core/errors.ts";
import { type PieceHeader, pieceHeaderSchema } from "../../src/core/ingest.ts";
import type { PlannedRows } from "../../src/core/rows.ts";
import type { PartBatch, PartEnd, ReadItem } from "./read-parts.ts";
import { chunkAt, type PlanRow, toPlannedRows } from "../chunking/row-columns.ts";
import type { TokenisedItem } from "../tokenise.ts";

const LENGTH_BYTES = 4;

export interface Piece {
  readonly run: string;
  readonly part: string;
  readonly piece: number;
  readonly isLast: boolean;
  readonly items: readonly TokenisedItem[];
  readonly end: PartEnd | null;
}

/** @param keep Names of the kept fields. */
export function encodePiece({ items, end, ...piece }: Piece, keep: readonly string[]): Uint8Array {
  const rows = toPlannedRows(rowsOf(items), keep);
  const header: PieceHeader = {
    version: CONTRACT_VERSION,
    ...piece,
    rows: rows.ids.length,
    tokens: rows.tokenIds.length,
    items: items.map(toEntry),
    end: end === null ? null : { lines: end.lines, fault: end.fault === undefined ? null : toFaultFields(end.fault) },
  };
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt32LE(json.length);
  const staged = header.rows === 0 ? [] : [encodeStagedShard({ run: piece.run, shard: nameOf(piece), rows })];
  return Buffer.concat([length, json, ...staged]);
}

/** @throws FleetError `object_corrupt` */
export function decodePiece(
  bytes: Uint8Array,
  expected: Readonly<{ run: string; part: string; piece: number }>,
): PartBatch & { readonly isLast: boolean } {
  const what = `piece ${expected.piece} of part ${expected.part} of run ${expected.run}`;
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    const end = LENGTH_BYTES + view.readUInt32LE(0);
    const header = pieceHeaderSchema.parse(JSON.parse(view.toString("utf8", LENGTH_BYTES, end)));
    const { run, part, piece, rows, tokens } = header;
    if (run !== expected.run || part !== expected.part || piece !== expected.piece)
      throw new Error(`it says that it is piece ${piece} of part ${part} of run ${run}`);
    const staged =
      rows === 0 ? null : decodeStagedShard({ run, shard: nameOf(header), rows, tokens, bytes: bytes.subarray(end) });
    return { isLast: header.isLast, items: toItems(header, staged), ...endOf(header) };
  } catch (error) {
    if (error instanceof FleetError) throw error;
    throw new FleetError("object_corrupt", `${what} is damaged: ${messageOf(error)}`, { cause: error });
  }
}

function nameOf({ part, piece }: Pick<Piece, "part" | "piece">): string {
  return `${part}/${piece}`;
}

function toEntry(item: TokenisedItem): PieceHeader["items"][number] {
  if (item.kind === "reject") return { reject: item.reject };
  const { id, origin } = item.document;
  const content = Buffer.from(item.content).toString("hex");
  return { id, ...origin, content, rows: item.kind === "document" ? item.chunks.length : 0 };
}

function rowsOf(items: readonly TokenisedItem[]): PlanRow[] {
  return items.flatMap((item) => {
    if (item.kind !== "document") return [];
    const { id, kept = [] } = item.document;
    return item.chunks.map((chunk, number) => ({ ...chunk, id, chunk: number, kept }));
  });
}

function toItems(header: PieceHeader, rows: PlannedRows | null): ReadItem[] {
  let next = 0;
  const items = header.items.map((entry): ReadItem => {
    if ("reject" in entry) return { kind: "reject", reject: entry.reject };
    const { id, file, line, content } = entry;
    const first = next;
    const chunks = Array.from({ length: entry.rows }, () => chunkAt(rows!, next++));
    const kept = rows?.kept.map(({ values }) => values[first] ?? null) ?? [];
    const origin = { file, ...(line !== undefined && { line }) };
    const document = { id, text: "", origin, ...(kept.length > 0 && { kept }) };
    return { kind: "document", document, content: Buffer.from(content, "hex"), chunks };
  });
  if (next !== header.rows) throw new Error(`its documents have ${next} rows and it has ${header.rows}`);
  return items;
}

function endOf({ end }: PieceHeader): { readonly end?: PartEnd } {
  if (end === null) return {};
  if (end.fault === null) return { end: { lines: end.lines } };
  return { end: { lines: end.lines, fault: fromFaultFields(end.fault) } };
}
