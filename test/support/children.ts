import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';

const DIST = new URL('../../dist/', import.meta.url);

/** Another Node process that runs a few lines of JavaScript over the built program, and speaks in lines. */
export class Child implements AsyncDisposable {
  readonly #process: ChildProcessWithoutNullStreams;
  readonly #exited: Promise<unknown>;
  /** What it has printed so far, in whole lines. */
  readonly lines: string[] = [];
  /** What it has complained of. */
  errors = '';

  /** @param script the body of a module; `dist` is the address of the built program, `argv` what is given here */
  constructor(script: string, argv: readonly string[] = [], options: { uid?: number } = {}) {
    const head = `const dist = ${JSON.stringify(DIST.href)}; const argv = ${JSON.stringify(argv)};
      const next = () => new Promise(resolve => process.stdin.once('data', resolve));`;
    // Not --input-type: worker threads would inherit it.
    const module = `data:text/javascript,${encodeURIComponent(head + script)}`;
    this.#process = spawn(process.execPath, ['-e', `import(${JSON.stringify(module)})`], {
      stdio: ['pipe', 'pipe', 'pipe'],
      ...options,
    });
    let rest = '';
    this.#process.stdout.setEncoding('utf8').on('data', (text: string) => {
      const parts = (rest + text).split('\n');
      rest = parts.pop() ?? '';
      this.lines.push(...parts);
    });
    this.#process.stderr.setEncoding('utf8').on('data', (text: string) => (this.errors += text));
    this.#process.stdin.on('error', () => undefined); // it may be gone by then
    this.#exited = once(this.#process, 'close');
  }

  /** Resolves when it has printed that many lines. */
  async printed(count: number): Promise<readonly string[]> {
    while (this.lines.length < count) {
      const ended = await Promise.race([
        once(this.#process.stdout, 'data').then(() => false),
        this.#exited.then(() => true),
      ]);
      if (ended && this.lines.length < count) throw new Error(`the child has ended: ${this.errors}`);
    }
    return this.lines;
  }

  /** Lets it go on from its `await next()`. */
  go(): void {
    this.#process.stdin.write('\n');
  }

  /** As the kernel ends a process that is out of memory: without a word. */
  async kill(): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.#exited;
  }

  /** Its lines, once it has ended by itself. */
  async ended(): Promise<readonly string[]> {
    await this.#exited;
    return this.lines;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}
