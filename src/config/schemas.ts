import { z } from 'zod';
import { parseUsbPath, type UsbPath } from '../core/usb-path.ts';
import { doubledSocket, isSocketName } from './parsers.ts';

/** A text of one line, without white space around it. */
export const line = z
  .string()
  .trim()
  .min(1)
  .max(4096)
  .regex(/^\P{C}*$/u);

export function wholeNumber(min: number, max: number): z.ZodInt {
  return z.int().min(min).max(max);
}

/** What `parse` makes of a text, or of a number (YAML reads `5` as one); what it can't read is an issue. */
export function readBy<T>(parse: (text: string) => T | null): z.ZodType<T> {
  return z.union([z.string(), z.number()]).transform((value, context) => {
    const parsed = parse(String(value));
    if (parsed !== null) return parsed;
    context.addIssue('unreadable');
    return z.NEVER;
  });
}

/** Names of sockets and their USB paths. Not `z.record`, which passes over a name such as `__proto__` in silence. */
export const sockets: z.ZodType<Readonly<Record<string, UsbPath>>> = z
  .custom<Record<string, unknown>>(value => typeof value === 'object' && value !== null && !Array.isArray(value))
  .transform((value, context) => {
    const paths = Object.create(null) as Record<string, UsbPath>;
    for (const [name, cell] of Object.entries(value)) {
      const path = typeof cell === 'string' ? parseUsbPath(cell) : null;
      const trouble = path === null ? 'unreadable' : isSocketName(name) ? null : 'name';
      if (trouble !== null) context.addIssue({ code: 'custom', message: trouble, path: [name] });
      else if (path !== null) paths[name] = path;
    }
    const double = doubledSocket(paths);
    if (double !== null) context.addIssue({ code: 'custom', message: 'doubled', path: [double] });
    return paths;
  });

/**
 * What a text of the environment or of a flag stands for, in the form that YAML would have given. What can't be read
 * stays a text, which the schema then refuses.
 */
export function fromText(reading: 'text' | 'number' | 'boolean' | 'list', text: string): unknown {
  const trimmed = text.trim();
  switch (reading) {
    case 'text':
      return trimmed;
    case 'number':
      return /^\d{1,15}(\.\d{1,6})?$/.test(trimmed) ? Number(trimmed) : trimmed;
    case 'boolean':
      if (/^(1|true|yes|on)$/i.test(trimmed)) return true;
      return /^(0|false|no|off)$/i.test(trimmed) ? false : trimmed;
    case 'list':
      return trimmed.split(',').map(item => item.trim());
  }
}
