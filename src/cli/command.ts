import type { Argv, CommandModule } from 'yargs';
import { Fault } from '../core/errors.ts';
import type { Output } from '../report/terminal.ts';

/** What every command takes. */
export interface GlobalArgs {
  readonly db?: string | undefined;
  readonly config?: string | undefined;
  readonly verbose?: boolean | undefined;
  readonly log?: string | undefined;
  readonly operator?: string | undefined;
}

/** What a command's work is handed beside its arguments. */
export interface CommandContext {
  readonly out: Output;
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
}

export interface CommandSpec<Args> {
  readonly command: string;
  readonly describe: string;
  readonly examples: readonly (readonly [command: string, what: string])[];
  readonly options: (yargs: Argv<GlobalArgs>) => Argv<Args & GlobalArgs>;
  /** Loads what it needs itself, so that `--help` and the other commands do not. @returns the exit code */
  readonly run: (args: Args & GlobalArgs, context: CommandContext) => Promise<number>;
}

/** Options that take one value each time they are given; `_` holds what stands without a name. */
const MAY_BE_REPEATED = new Set(['_', 'rack', 'fault', 'checkpoint', 'recipient']);

/**
 * How a command leaves yargs, with what is to be done. After a handler that returns, yargs draws the help text, whether
 * anybody asks for it or not, and everybody waits.
 */
export class Chosen extends Error {
  readonly run: () => Promise<number>;

  constructor(run: () => Promise<number>) {
    super('a command was chosen');
    this.run = run;
  }
}

/** A command for yargs, whose handler throws a `Chosen`. */
export function command<Args>(
  spec: CommandSpec<Args>,
  context: CommandContext,
): CommandModule<GlobalArgs, Args & GlobalArgs> {
  return {
    command: spec.command,
    describe: spec.describe,
    builder: yargs => {
      let built = spec.options(yargs);
      for (const [example, what] of spec.examples) built = built.example(example, what);
      return built;
    },
    handler: args => {
      for (const [name, value] of Object.entries(args)) {
        if (Array.isArray(value) && !MAY_BE_REPEATED.has(name)) {
          throw new Fault('USAGE', `--${name} is given more than once`, { hint: 'say it once' });
        }
      }
      // yargs adds camel-case twins of the options, which nobody here uses.
      throw new Chosen(() => spec.run(args as unknown as Args & GlobalArgs, context));
    },
  };
}

/** For several racks, and for those who know what they do. */
export interface RackArgs {
  readonly rack: readonly string[] | undefined;
  readonly 'insecure-rack': boolean | undefined;
}

export function rackOptions<T>(yargs: Argv<T>): Argv<T & RackArgs> {
  return yargs
    .option('rack', {
      type: 'string',
      array: true,
      requiresArg: true,
      nargs: 1,
      describe: 'Work on devices at a USB/IP server instead of this host’s bus (HOST:PORT; may be repeated)',
    })
    .option('insecure-rack', {
      type: 'boolean',
      describe: 'Allow a rack beyond loopback: USB/IP has neither password nor encryption',
    });
}
