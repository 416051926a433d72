/**
 * Acts at an interval, and never twice at a time: what is asked of a Redis that is away is asked of it when it is back,
 * and must not pile up until then. Failures are left to the next time.
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
