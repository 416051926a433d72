/**
 * Reads flatbuffers whose every pointer is checked first: tables, vtables, vectors and strings.
 *
 * Layout: https://flatbuffers.dev/internals
 */

/** Kind of value that a field of a flatbuffer table points at; scalars are stored in the table itself and need no entry. */
export type Target =
  | { readonly kind: "string" }
  | { readonly kind: "table"; readonly fields: () => Fields }
  | { readonly kind: "tables"; readonly fields: () => Fields }
  | { readonly kind: "structs"; readonly bytes: number }
  /** A union's value, whose type is the scalar byte in the field before it. */
  | { readonly kind: "union"; readonly byType: Readonly<Record<number, (() => Fields) | undefined>> };

export type Fields = Readonly<Record<number, Target>>;

const MAX_DEPTH = 16;
/** Most tables; a column has three or four. */
const MAX_TABLES = 100_000;

/** Call `check` before anything else. Numbers of an absent field are the given default. */
export class Verifier {
  readonly #view: DataView;
  #tables = 0;

  constructor(bytes: Uint8Array) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  check(root: Fields): void {
    this.#table(this.#pointer(0), root, 0);
  }

  get root(): number {
    return this.#pointer(0);
  }

  /** The table that a field of another points at. Call only after `check`. */
  tableOf(table: number, field: number): number {
    const at = this.#fieldAt(table, field);
    if (at === null) throw new Error("its metadata lacks a part");
    return this.#pointer(at);
  }

  has(table: number, field: number): boolean {
    return this.#fieldAt(table, field) !== null;
  }

  /** Type of the table in a union field of the root. */
  typeOfUnion(field: number): number {
    return this.uint8(this.root, field - 1);
  }

  uint8(table: number, field: number): number {
    const at = this.#fieldAt(table, field);
    return at === null ? 0 : this.#view.getUint8(at);
  }

  int16(table: number, field: number, absent = 0): number {
    const at = this.#fieldAt(table, field);
    return at === null ? absent : this.#view.getInt16(at, true);
  }

  int32(table: number, field: number, absent = 0): number {
    const at = this.#fieldAt(table, field);
    return at === null ? absent : this.#view.getInt32(at, true);
  }

  int64(table: number, field: number): bigint {
    const at = this.#fieldAt(table, field);
    return at === null ? 0n : this.#view.getBigInt64(at, true);
  }

  /** Null for an absent string. */
  string(table: number, field: number): string | null {
    const at = this.#fieldAt(table, field);
    if (at === null) return null;
    const start = this.#pointer(at);
    const { buffer, byteOffset } = this.#view;
    return Buffer.from(buffer, byteOffset + start + 4, this.#view.getUint32(start, true)).toString("utf8");
  }

  /** Places of the tables of a vector; none for an absent one. */
  tables(table: number, field: number): number[] {
    const at = this.#fieldAt(table, field);
    if (at === null) return [];
    const start = this.#pointer(at);
    const length = this.#view.getUint32(start, true);
    return Array.from({ length }, (_, i) => this.#pointer(start + 4 + i * 4));
  }

  structs(table: number, field: number, bytes: number): DataView[] {
    const at = this.#fieldAt(table, field);
    if (at === null) return [];
    const start = this.#pointer(at);
    const { buffer, byteOffset } = this.#view;
    return Array.from(
      { length: this.#view.getUint32(start, true) },
      (_, i) => new DataView(buffer, byteOffset + start + 4 + i * bytes, bytes),
    );
  }

  #table(at: number, fields: Fields, depth: number): void {
    this.#tables++;
    if (depth > MAX_DEPTH || this.#tables > MAX_TABLES) throw new Error("its metadata is nested or repeated too much");
    for (const [index, target] of Object.entries(fields)) {
      const field = this.#fieldAt(at, Number(index));
      if (field !== null) this.#target(at, Number(index), this.#pointer(field), target, depth + 1);
    }
  }

  #target(table: number, index: number, at: number, target: Target, depth: number): void {
    if (target.kind === "table") return this.#table(at, target.fields(), depth);
    if (target.kind === "union") {
      const typeAt = this.#fieldAt(table, index - 1);
      const fields = target.byType[typeAt === null ? 0 : this.#view.getUint8(typeAt)];
      if (fields === undefined) throw new Error("it has a message or type that is not expected");
      return this.#table(at, fields(), depth);
    }
    const length = this.#view.getUint32(at, true);
    const bytes = target.kind === "string" ? 1 : target.kind === "tables" ? 4 : target.bytes;
    if (at + 4 + length * bytes > this.#view.byteLength) throw new Error(`its metadata has a list of ${length}`);
    if (target.kind !== "tables") return;
    for (let i = 0; i < length; i++) this.#table(this.#pointer(at + 4 + i * 4), target.fields(), depth);
  }

  /** Position of the field by the table's vtable; null when it is absent. */
  #fieldAt(table: number, index: number): number | null {
    const vtable = table - this.#view.getInt32(table, true);
    const vtableBytes = this.#view.getUint16(vtable, true);
    const slot = 4 + index * 2;
    if (slot + 2 > vtableBytes) return null;
    const offset = this.#view.getUint16(vtable + slot, true);
    return offset === 0 ? null : table + offset;
  }

  /** Reading beyond the buffer throws a RangeError, here and everywhere in this class. */
  #pointer(at: number): number {
    return at + this.#view.getUint32(at, true);
  }
}
