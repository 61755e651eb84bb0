/** Notes the first signal that asks the program to stop, instead of dying of it half-way. */
export class SignalTrap implements Disposable {
  readonly #stopped = Promise.withResolvers<void>();
  /** What happened, once there was a signal. */
  caught: string | undefined;
  readonly stopped: Promise<void> = this.#stopped.promise;

  readonly #removals = (["SIGINT", "SIGTERM", "SIGHUP"] as const).map((signal) => {
    const listener = () => {
      this.caught ??= `stopped by ${signal}`;
      this.#stopped.resolve();
    };
    Deno.addSignalListener(signal, listener);
    return () => Deno.removeSignalListener(signal, listener);
  });

  /** Waits a moment: that a command died of Ctrl-C may be known before it is heard here. */
  async heard(): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    await Promise.race([this.stopped, new Promise((resolve) => timer = setTimeout(resolve, 500))]);
    clearTimeout(timer);
  }

  [Symbol.dispose](): void {
    this.#removals.forEach((remove) => remove());
  }
}
