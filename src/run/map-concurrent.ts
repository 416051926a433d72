/** Results in order, with a bounded number of calls in flight. */
export async function* mapConcurrent<In, Out>(
  items: AsyncIterable<In>,
  concurrency: number,
  act: (item: In) => Promise<Out>,
): AsyncGenerator<Out> {
  const inFlight: Promise<Out>[] = [];
  for await (const item of items) {
    const call = act(item);
    // Awaited in turn below; until then a rejection must not count as unhandled.
    call.catch(() => {});
    inFlight.push(call);
    if (inFlight.length >= concurrency) yield await inFlight.shift()!;
  }
  while (inFlight.length > 0) yield await inFlight.shift()!;
}
