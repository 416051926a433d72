/** Formats figures for people. */

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export function count(value) {
  return whole.format(value);
}

/** A short number: 1,234 in full, 1.23 M and 4.56 G above. */
export function short(value) {
  for (const [size, unit] of [
    [1e9, "G"],
    [1e6, "M"],
    [1e5, "k"],
  ]) {
    if (value >= size) return `${(value / (size === 1e5 ? 1e3 : size)).toPrecision(3)} ${unit}`;
  }
  return count(value);
}

export function percent(ratio) {
  return `${(ratio * 100).toFixed(1)} %`;
}

export function bytes(value) {
  for (const [size, unit] of [
    [1e12, "TB"],
    [1e9, "GB"],
    [1e6, "MB"],
    [1e3, "kB"],
  ]) {
    if (value >= size) return `${(value / size).toFixed(1)} ${unit}`;
  }
  return `${value} B`;
}

/** A duration such as `2 d 3 h` or `4 min 5 s`, in at most two units. */
export function duration(seconds) {
  const parts = [
    [86_400, "d"],
    [3600, "h"],
    [60, "min"],
    [1, "s"],
  ];
  const rounded = Math.max(0, Math.round(seconds));
  const at = parts.findIndex(([size]) => rounded >= size);
  if (at < 0) return "0 s";
  const [size, unit] = parts[at];
  const next = parts[at + 1];
  const rest = next === undefined ? 0 : Math.floor((rounded % size) / next[0]);
  return `${Math.floor(rounded / size)} ${unit}${rest > 0 ? ` ${rest} ${next[1]}` : ""}`;
}

export function time(iso) {
  return new Date(iso).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

export function clock(iso) {
  return new Date(iso).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

export function ago(iso, nowMs = Date.now()) {
  return `${duration((nowMs - Date.parse(iso)) / 1000)} ago`;
}

/** Time until an instant: `in 2 h 5 min`, or `due now`. */
export function ahead(iso, nowMs = Date.now()) {
  const seconds = (Date.parse(iso) - nowMs) / 1000;
  return seconds <= 0 ? "due now" : `in ${duration(seconds)}`;
}
