/**
 * Runs concurrent actors one step at a time, in an order drawn from a seed. An actor waits at every call
 * of a port, before it takes effect and again before its answer arrives; there it may be killed.
 */
export class Actor {
  isDead = false;
}

interface Waiting {
  readonly actor: Actor;
  readonly go: () => void;
}

export class Scheduler {
  readonly #random: () => number;
  readonly #waiting: Waiting[] = [];
  /** The chance that a step is an actor's last. */
  killShare = 0;
  steps = 0;

  constructor(random: () => number) {
    this.#random = random;
  }

  chance(share: number): boolean {
    return this.#random() < share;
  }

  pick<T>(from: readonly T[]): T | undefined {
    return from[Math.floor(this.#random() * from.length)];
  }

  /** Resolves when it is the actor's turn; never, once it was killed. */
  step(actor: Actor): Promise<void> {
    if (actor.isDead) return new Promise(() => {});
    return new Promise((go) => this.#waiting.push({ actor, go }));
  }

  /**
   * Until every actor has ended or was killed, or waits for something that is no step.
   * @param onKilled May start others in its place.
   * @param maxSteps After so many in all nobody takes another.
   */
  async run(onKilled: (actor: Actor) => void, maxSteps = Infinity): Promise<void> {
    while (this.steps < maxSteps) {
      // All microtasks run before a tick, so every living actor has come to its next step; and unlike
      // an immediate, a tick does not ask the kernel for news (a fifth of the time).
      await new Promise((resolve) => process.nextTick(resolve));
      if (this.#waiting.length === 0) return;
      const index = Math.floor(this.#random() * this.#waiting.length);
      const [next] = this.#waiting.splice(index, 1) as [Waiting];
      if (next.actor.isDead) continue;
      this.steps++;
      if (this.chance(this.killShare)) {
        next.actor.isDead = true;
        onKilled(next.actor);
      } else next.go();
    }
  }
}
