import { inspect } from 'node:util';

/**
 * Something that must never be seen: a token, a private key. Printing it in any way shows `[secret]`; only
 * `reveal()` gives it, so that each place that uses it can be found by name.
 */
export class Secret<T> {
  readonly #value: T;

  constructor(value: T) {
    this.#value = value;
  }

  reveal(): T {
    return this.#value;
  }

  toString(): string {
    return '[secret]';
  }

  toJSON(): string {
    return '[secret]';
  }

  [inspect.custom](): string {
    return '[secret]';
  }
}
