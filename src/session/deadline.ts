import { Fault } from '../core/errors.ts';
import type { StepContext } from '../job/step.ts';

/**
 * A step that takes too long loses its device: the port is closed, which ends whatever transfer it waits for.
 * @throws Fault SESSION_DEADLINE
 */
export async function withDeadline<T>(acting: Promise<T>, ms: number, context: StepContext, name: string): Promise<T> {
  const overdue: Fault[] = [];
  let callOff = (): void => undefined;
  const late = new Promise<never>((_, reject) => {
    callOff = context.clock.after(ms, () => {
      const fault = new Fault('SESSION_DEADLINE', `the step ${name} took more than ${ms / 1000} s`, {
        facts: { path: context.device.port.path, step: name },
      });
      overdue.push(fault);
      void context.device.close().finally(() => reject(fault));
    });
  });
  try {
    return await Promise.race([acting, late]);
  } catch (error) {
    throw overdue[0] ?? error; // what the closing did to the step is no fault of its own
  } finally {
    callOff();
    acting.catch(() => undefined); // told already, by the deadline
  }
}
