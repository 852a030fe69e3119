import { setFlagsFromString } from 'node:v8';

/** In bytes of bytecode; ten times what V8 has by default (`interrupt_budget` in its flag-definitions.h). */
const BUDGET_BYTES = 10 * 66 * 1024;

/**
 * From now on V8 optimizes a function only once it has run ten times as long as usual. A rack is provisioned before the usual
 * has paid: compiling takes the processors from the devices. What runs for long is optimized all the same.
 *
 * To be called when all is loaded: V8 takes no code that was compiled ahead under other flags.
 */
export function optimizeLater(): void {
  setFlagsFromString(`--interrupt-budget=${BUDGET_BYTES}`);
}
