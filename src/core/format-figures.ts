/** Formatting of figures for people. */

/** `1,234,568`: rounded to a whole number. */
export function count(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}

/** `12.3 MB`; a megabyte is a million bytes. */
export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

/** `12.3 %` for a ratio of 0.123. */
export function percent(ratio: number): string {
  return `${(ratio * 100).toFixed(1)} %`;
}

const UNITS = [
  [86_400, "d"],
  [3600, "h"],
  [60, "min"],
  [1, "s"],
] as const;

/** `2 d 3 h`, `4 min 5 s`: the two largest units. */
export function duration(seconds: number): string {
  const rounded = Math.max(0, Math.round(seconds));
  const at = UNITS.findIndex(([size]) => rounded >= size);
  if (at < 0) return "0 s";
  const [size, unit] = UNITS[at]!;
  const next = UNITS[at + 1];
  const rest = next === undefined ? 0 : Math.floor((rounded % size) / next[0]);
  return `${Math.floor(rounded / size)} ${unit}${next === undefined || rest === 0 ? "" : ` ${rest} ${next[1]}`}`;
}
