/**
 * Calls a function at an interval, never concurrently: commands to an unreachable Redis are sent once it is back, and
 * must not pile up until then. Failures are left to the next call.
 */
export function repeat(act: () => Promise<unknown>, intervalMs: number): NodeJS.Timeout {
  let isActing = false;
  return setInterval(() => {
    if (isActing) return;
    isActing = true;
    void act()
      .catch(() => {})
      .finally(() => (isActing = false));
  }, intervalMs);
}
