import type { Behaviour } from '#src/sim/photon-behaviour.ts';
import { parseFault, type RackFault } from '#src/sim/rack-faults.ts';

/** A fault that a test turns on and off; off, the device is an ordinary one. */
export class SwitchedFault {
  on = true;
  readonly fault: RackFault;

  /** @param text of a kind that lies on top of a device, and does not make it another one */
  constructor(text: string) {
    const { behaviour, change } = parseFault(text).effect;
    if (!behaviour || change) throw new Error(`${text} can not be turned off`);
    this.fault = { ...parseFault(text), effect: { behaviour: () => this.#switched(behaviour()) } };
  }

  #switched(inner: Behaviour): Behaviour {
    return {
      request: (request, pass, grip) => (this.on ? inner.request?.(request, pass, grip) : undefined) ?? pass(),
      write: (block, pass, grip) => (this.on ? inner.write?.(block, pass, grip) : undefined) ?? pass(block),
      read: (wanted, pass) => (this.on ? inner.read?.(wanted, pass) : undefined) ?? pass(),
      reset: () => inner.reset?.(),
    };
  }
}
