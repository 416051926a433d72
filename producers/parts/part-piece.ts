/**
 * A piece of a part that another machine has read and cut: a JSON header with the documents and rejects, then the
 * rows in the format of staged rows. Pieces of the same part are identical to the byte.
 */
import { decodeStagedColumns, encodeStagedShard, type StagedColumns } from "../../src/arrow/staged.ts";
import { CONTRACT_VERSION } from "../../src/core/contracts.ts";
import { FleetError, fromFaultFields, messageOf, toFaultFields } from "../../src/core/errors.ts";
import { type PieceHeader, pieceHeaderSchema } from "../../src/core/ingest.ts";
import type { PartBatch, PartEnd, ReadItem } from "./read-parts.ts";
import type { DocumentRows } from "../document-rows.ts";
import type { TokenisedItem } from "../tokenise.ts";

const LENGTH_BYTES = 4;

export interface Piece {
  readonly run: string;
  readonly part: string;
  readonly piece: number;
  readonly isLast: boolean;
  readonly items: readonly TokenisedItem[];
  /** Rows of the documents among the items. */
  readonly rows: DocumentRows;
  readonly end: PartEnd | null;
}

/** @param keep Names of the kept fields. */
export function encodePiece({ items, rows, end, ...piece }: Piece, keep: readonly string[]): Uint8Array {
  const header: PieceHeader = {
    version: CONTRACT_VERSION,
    ...piece,
    rows: rows.rows,
    tokens: rows.tokens,
    items: items.map(toEntry),
    end: end === null ? null : { lines: end.lines, fault: end.fault === undefined ? null : toFaultFields(end.fault) },
  };
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt32LE(json.length);
  const inOrder = Uint32Array.from({ length: rows.rows }, (_, row) => row);
  const staged =
    rows.rows === 0
      ? []
      : [encodeStagedShard({ run: piece.run, shard: nameOf(piece), rows: rows.index().gather(inOrder, keep) })];
  return Buffer.concat([length, json, ...staged]);
}

/** Decodes a piece. @throws FleetError `object_corrupt` */
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
      throw new Error(`it claims to be piece ${piece} of part ${part} of run ${run}`);
    const staged =
      rows === 0 ? null : decodeStagedColumns({ run, shard: nameOf(header), rows, tokens, bytes: bytes.subarray(end) });
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
  const replaced = item.replaced === undefined ? {} : { replaced: item.replaced };
  return { id, ...origin, content, rows: item.kind === "document" ? item.rows.count : 0, ...replaced };
}

function toItems(header: PieceHeader, staged: StagedColumns | null): ReadItem[] {
  let next = 0;
  const items = header.items.map((entry): ReadItem => {
    if ("reject" in entry) return { kind: "reject", reject: entry.reject };
    const { id, file, line, content, rows: count, replaced } = entry;
    const first = next;
    next += count;
    if (staged === null || next > header.rows) throw new Error(`its documents have more than its ${header.rows} rows`);
    const kept = staged.kept.map(({ values }) => values[first] ?? null);
    const origin = { file, ...(line !== undefined && { line }) };
    const document = { id, text: "", origin, ...(kept.length > 0 && { kept }) };
    return {
      kind: "document",
      document,
      content: Buffer.from(content, "hex"),
      rows: { columns: staged, first, count },
      ...(replaced !== undefined && { replaced }),
    };
  });
  if (next !== header.rows) throw new Error(`its documents have ${next} rows and it has ${header.rows}`);
  return items;
}

function endOf({ end }: PieceHeader): { readonly end?: PartEnd } {
  if (end === null) return {};
  if (end.fault === null) return { end: { lines: end.lines } };
  return { end: { lines: end.lines, fault: fromFaultFields(end.fault) } };
}
