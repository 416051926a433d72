/** An address without user and passwords, for logs and messages. */
export function redactUrl(url: string): string {
  const [scheme = ""] = url.split("://");
  const [question, at] = [url.indexOf("?"), url.lastIndexOf("@")];
  // An "@" after the "?": the password is not percent-encoded, so its end is unknown.
  if (question !== -1 && at > question) return `${scheme}://***`;
  return url.replace(/\/\/.*@/s, "//***@").replace(/(password=)[^&#]*/gi, "$1***");
}
