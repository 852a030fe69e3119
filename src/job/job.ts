import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isMap, isScalar, isSeq, Lexer, LineCounter, parseDocument } from 'yaml';
import type { Node, YAMLMap } from 'yaml';
import { CALL_KINDS } from '../core/cloud-calls.ts';
import type { CallKind } from '../core/cloud-calls.ts';
import { Fault } from '../core/errors.ts';
import { isNestedTooDeep, PLAIN_YAML } from '../core/plain-yaml.ts';
import { printable } from '../core/printable.ts';
import type { RestoredKeys } from './restore-job.ts';
import { changesServer, serverChangeOf } from './server-change.ts';
import type { ServerChange, ServerOptions, ServerSettings } from './server-change.ts';
import { STEPS } from './steps.ts';
import type { StepName } from './steps.ts';
import { systemCode } from '../core/system-code.ts';
import { firmwareOf, NO_FIRMWARE } from './firmware-files.ts';
import type { FirmwareOptions, FirmwareSettings, WantedModule } from './firmware-files.ts';

/** A job: an ordered list of steps, checked. */
export interface Job {
  readonly name: string;
  readonly description: string;
  readonly steps: readonly { readonly name: StepName; readonly options: unknown }[];
  readonly plan: JobPlan;
}

/** What a job will do to a device, told from its steps. */
export interface JobPlan {
  /** The device's key fields are written. */
  readonly newKey: boolean;
  /** With the keys of a backup (the command `restore`, which no job file can be), not with fresh ones. */
  readonly restore?: RestoredKeys;
  readonly server: ServerChange;
  /** The modules that it flashes, in their order; left out where it flashes none. */
  readonly firmware?: readonly WantedModule[];
  /** A claim code is fetched and written. */
  readonly claims?: boolean;
  /** What the cloud is asked for beside the send, in its order. */
  readonly calls?: readonly CallKind[];
  /** The DCT is written. */
  readonly writes: boolean;
  readonly sends: boolean;
  readonly leaves: boolean;
}

/** Jobs that come with the program, or a YAML file by its path. */
export function jobFileOf(nameOrPath: string, jobsDir: string): string {
  return /^[a-z0-9][a-z0-9-]*$/.test(nameOrPath) ? join(jobsDir, `${nameOrPath}.yaml`) : nameOrPath;
}

/**
 * Reads and checks a job file; unknown steps and options are refused by name and line.
 * @throws Fault JOB_NOT_FOUND, JOB_INVALID, SERVER_KEY_INVALID, FIRMWARE_INVALID, CONFIG_INVALID
 */
export function loadJob(
  nameOrPath: string,
  jobsDir: string,
  server: ServerSettings,
  firmware: FirmwareSettings = NO_FIRMWARE,
): Job {
  const file = jobFileOf(nameOrPath, jobsDir);
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    const code = systemCode(cause);
    throw new Fault('JOB_NOT_FOUND', `the job ${nameOrPath} can't be read (${code})`, { cause });
  }
  return parseJob(text, file, server, firmware);
}

export function parseJob(
  text: string,
  file: string,
  server: ServerSettings,
  firmware: FirmwareSettings = NO_FIRMWARE,
): Job {
  const lines = new LineCounter();
  if (isNestedTooDeep(new Lexer().lex(text))) throw new Fault('JOB_INVALID', `${file}: it is nested too deep`);
  const document = parseDocument(text, { ...PLAIN_YAML, lineCounter: lines });
  const problems: string[] = [];
  const say = (node: Node | null | undefined, message: string): void => {
    const { line, col } = lines.linePos(node?.range?.[0] ?? 0);
    problems.push(`${file}:${line}:${col}: ${printable(message)}`);
  };
  const refuse = (): never => {
    const more = problems.length > 1 ? ` (and ${problems.length - 1} more: ${problems.slice(1).join('; ')})` : '';
    throw new Fault('JOB_INVALID', `${problems[0] ?? file}${more}`);
  };
  for (const error of [...document.errors, ...document.warnings]) {
    const { line, col } = lines.linePos(error.pos[0]);
    problems.push(`${file}:${line}:${col}: ${printable(error.message)}`);
  }
  const root = document.contents;
  if (problems.length > 0) return refuse();
  if (!isMap(root)) {
    say(root, 'a job is a map with name, description and steps');
    return refuse();
  }
  const fields = new Map<string, Node | null>();
  for (const { key, value } of root.items) {
    const name = isScalar(key) ? String(key.value) : '';
    if (!['name', 'description', 'steps'].includes(name)) {
      say(key, `unknown key \`${name}\`; a job has name, description and steps`);
    }
    fields.set(name, value);
  }
  const name = scalarText(fields.get('name'));
  if (name === null || !/^[a-z0-9][a-z0-9-]{0,62}$/.test(name)) {
    say(fields.get('name') ?? root, 'name: lower-case letters, digits and dashes');
  }
  const description = fields.get('description');
  if (description && scalarText(description) === null) say(description, 'description: a text');
  const list = fields.get('steps');
  const steps: Job['steps'][number][] = [];
  const at: (Node | null)[] = [];
  if (!isSeq(list) || list.items.length === 0) {
    say(list ?? root, 'steps: a list of steps');
    return refuse();
  }
  for (const item of list.items as Node[]) {
    const step = readStep(item, say);
    if (step) {
      steps.push(step);
      at.push(item);
    }
  }
  if (problems.length > 0) return refuse();
  checkOrder(steps, (index, message) => say(at[index] ?? list, message));
  if (problems.length > 0) return refuse();
  const flashes = steps.findIndex(step => step.name === 'firmware');
  if (flashes >= 0 && Object.values(steps[flashes]?.options as FirmwareOptions).every(part => part === undefined)) {
    say(at[flashes], '`firmware` names no part: system-part1, system-part2, user-part');
    return refuse();
  }
  const plan = planOf(steps, file, server, firmware);
  if (plan.writes && !plan.newKey && !plan.claims && !changesServer(plan.server)) {
    say(
      at[steps.findIndex(step => step.name === 'write')],
      '`write` has nothing to write: no new-key step, no claim-code step, and server-key is `keep`',
    );
    return refuse();
  }
  return { name: name ?? '', description: scalarText(description) ?? '', steps, plan };
}

type Say = (node: Node | null | undefined, message: string) => void;

function readStep(item: Node, say: Say): Job['steps'][number] | null {
  let nameNode: Node | null = item;
  let optionsNode: Node | null = null;
  if (isMap(item) && item.items.length === 1) {
    nameNode = (item.items[0]?.key ?? null) as Node | null;
    optionsNode = (item.items[0]?.value ?? null) as Node | null;
  }
  const name = scalarText(nameNode);
  const known = Object.keys(STEPS) as StepName[];
  const stepName = known.find(candidate => candidate === name);
  if (stepName === undefined) {
    say(
      nameNode,
      name === null
        ? 'a step is a name, or a name with its options'
        : `unknown step \`${name}\`; known: ${known.join(', ')}`,
    );
    return null;
  }
  const raw = isMap(optionsNode) ? optionsOf(optionsNode) : {};
  if (optionsNode !== null && !isMap(optionsNode) && !(isScalar(optionsNode) && optionsNode.value === null)) {
    say(optionsNode, `the options of \`${stepName}\` are a map`);
    return null;
  }
  const checked = STEPS[stepName].options.safeParse(raw);
  if (checked.success) return { name: stepName, options: checked.data };
  for (const issue of checked.error.issues) {
    const option = issue.code === 'unrecognized_keys' ? issue.keys[0] : issue.path[0];
    const pair = isMap(optionsNode)
      ? optionsNode.items.find(candidate => isScalar(candidate.key) && candidate.key.value === option)
      : undefined;
    const message = issue.code === 'unrecognized_keys' ? 'unknown option' : issue.message;
    say((pair?.key as Node | undefined) ?? nameNode, `step \`${stepName}\`, option \`${String(option)}\`: ${message}`);
  }
  return null;
}

/** Names and their values, and no more: maps within names would double in length with each level. */
function optionsOf({ items }: YAMLMap): Record<string, unknown> {
  return Object.fromEntries(
    items.map(({ key, value }) => [
      isScalar(key) ? String(key.value) : 'a name that is no text',
      isScalar(value) ? value.value : value === null ? null : isSeq(value) ? [] : {},
    ]),
  );
}

function scalarText(node: Node | null | undefined): string | null {
  return isScalar(node) && typeof node.value === 'string' ? node.value : null;
}

/** The order that keeps a device safe: nothing is written before its backup, nothing is sent before it is verified. */
function checkOrder(steps: Job['steps'], say: (index: number, message: string) => void): void {
  const order = Object.keys(STEPS) as StepName[];
  const has = (name: StepName): boolean => steps.some(step => step.name === name);
  for (const [index, { name }] of steps.entries()) {
    const before = steps[index - 1];
    if (before && order.indexOf(name) <= order.indexOf(before.name)) {
      say(
        index,
        before.name === name
          ? `step \`${name}\` stands twice`
          : `step \`${name}\` must stand before \`${before.name}\``,
      );
    }
    for (const needed of NEEDS[name]) {
      if (!has(needed)) say(index, `step \`${name}\` needs the step \`${needed}\``);
    }
  }
}

const NEEDS: Readonly<Record<StepName, readonly StepName[]>> = {
  identify: [],
  firmware: ['identify'],
  preflight: ['identify'],
  backup: ['preflight'],
  'new-key': ['write', 'send'],
  'claim-code': ['write'],
  write: ['backup', 'verify'],
  verify: ['write'],
  send: ['new-key', 'verify'],
  prove: ['new-key', 'send'],
  'add-to-product': ['identify'],
  name: ['identify'],
  'confirm-online': ['send', 'leave'],
  leave: ['identify'],
};

function planOf(steps: Job['steps'], file: string, configured: ServerSettings, parts: FirmwareSettings): JobPlan {
  const firmware = steps.find(step => step.name === 'firmware');
  const write = steps.find(step => step.name === 'write');
  const has = (name: StepName): boolean => steps.some(step => step.name === name);
  const isAll = !has('new-key') && !has('claim-code');
  const calls = CALL_KINDS.filter(has);
  const keep: ServerChange = { key: 'keep', host: null, port: null };
  return {
    ...(firmware && { firmware: firmwareOf(firmware.options as FirmwareOptions, file, parts) }),
    newKey: has('new-key'),
    server: write ? serverChangeOf(write.options as ServerOptions, file, configured, isAll) : keep,
    ...(has('claim-code') && { claims: true }),
    ...(calls.length > 0 && { calls }),
    writes: write !== undefined,
    sends: has('send'),
    leaves: has('leave'),
  };
}
