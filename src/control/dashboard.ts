/** Serves the dashboard's files. The build copies them beside this module; nothing is fetched from elsewhere. */
import { readFileSync } from "node:fs";
import { Hono } from "hono";

const FOLDER = new URL("./dashboard/", import.meta.url);

const TYPES = { html: "text/html", css: "text/css", js: "text/javascript", svg: "image/svg+xml" } as const;
const FILES = [
  "index.html",
  "style.css",
  "main.js",
  "charts.js",
  "views.js",
  "api.js",
  "dom.js",
  "format.js",
  "icon.svg",
] as const;

export function serveDashboard(): Hono {
  const app = new Hono();
  for (const file of FILES) {
    const body = readFileSync(new URL(file, FOLDER));
    const kind = file.slice(file.lastIndexOf(".") + 1) as keyof typeof TYPES;
    const headers = { "content-type": `${TYPES[kind]}; charset=utf-8`, "cache-control": "no-cache" };
    app.get(file === "index.html" ? "/" : `/${file}`, (c) => c.body(body, 200, headers));
  }
  return app;
}
