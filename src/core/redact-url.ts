/** An address without its user and passwords, for logs and messages. */
export function redactUrl(url: string): string {
  const [scheme = ""] = url.split("://");
  const [question, at] = [url.indexOf("?"), url.lastIndexOf("@")];
  // A password that was not percent-encoded: nobody can say where it ends.
  if (question !== -1 && at > question) return `${scheme}://***`;
  return url.replace(/\/\/.*@/s, "//***@").replace(/(password=)[^&#]*/gi, "$1***");
}
