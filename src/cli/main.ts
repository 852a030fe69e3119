import yargs from 'yargs';
import type { CommandModule } from 'yargs';
import { Fault, toFault } from '../core/errors.ts';
import { armFailPoint } from '../core/fail-points.ts';
import { Chosen, command } from './command.ts';
import type { CommandContext } from './command.ts';
import { auditCommand } from './commands/audit.ts';
import { dbCommand } from './commands/db.ts';
import { demoCommand } from './commands/demo.ts';
import { devicesCommand } from './commands/devices.ts';
import { doctorCommand } from './commands/doctor.ts';
import { historyCommand } from './commands/history.ts';
import { keysCommand } from './commands/keys.ts';
import { outboxCommand } from './commands/outbox.ts';
import { releaseCommand } from './commands/release.ts';
import { replayCommand } from './commands/replay.ts';
import { restoreCommand } from './commands/restore.ts';
import { runCommand } from './commands/run.ts';
import { simCommand } from './commands/sim.ts';
import { statusCommand } from './commands/status.ts';
import { vaultCommand } from './commands/vault.ts';
import { EXIT, exitCodeOfFault } from './exit-codes.ts';
import { faultLines, processOutput } from './output.ts';
import { readVersion } from './version.ts';

/** Parses the arguments, runs the command, and says what went wrong in one way for all of them. @returns the exit code */
export async function main(argv: readonly string[]): Promise<number> {
  const out = processOutput();
  const context: CommandContext = { out, env: process.env, cwd: process.cwd() };
  const parser = yargs([...argv])
    .scriptName('photon-fleet')
    // Plain ASCII, line by line, here and in what commands say of themselves: measuring the width of anything else takes tables
    // that take longer to load than all of this.
    .usage('$0 <command>')
    .usage('Provisions, re-keys and audits racks of Particle Photons.')
    .option('db', { type: 'string', requiresArg: true, describe: 'The record [default: ./photon-fleet.db]' })
    .option('config', {
      type: 'string',
      requiresArg: true,
      describe: 'Configuration [default: ./config.yaml if there]',
    })
    .option('verbose', { type: 'boolean', describe: 'Tell every step' })
    .option('log', {
      type: 'string',
      requiresArg: true,
      describe: 'Append events to this file, one JSON object a line',
    })
    .option('operator', {
      type: 'string',
      requiresArg: true,
      describe: 'Who answers for it, in the journal [default: the user]',
    })
    .demandCommand(1, 1, 'name a command')
    .strict()
    .version(readVersion())
    .alias('h', 'help')
    .example('$0 demo', 'a virtual rack, from a CSV to keyed Photons')
    .example('$0 run rack.csv', 'a new key for every listed device')
    .epilogue(
      'Exit codes: 0 all done, 1 bug, 2 usage, 3 some devices failed, 4 sends pending, 5 station busy, 6 token refused, 7 record wrong, 130 interrupted',
    )
    .wrap(Math.min(110, process.stdout.columns || 100))
    .exitProcess(false)
    .parserConfiguration({ 'duplicate-arguments-array': true, 'greedy-arrays': false, 'boolean-negation': true })
    .fail((message, error) => {
      throw (error as Error | undefined) ?? new Fault('USAGE', usageMessage(message));
    });
  for (const one of wanted(argv, commandsIn(context))) parser.command(one);
  try {
    armFailPoint(context.env);
    const chosen = await chosenBy(() => parser.parseAsync());
    return (await chosen?.run()) ?? EXIT.OK;
  } catch (thrown) {
    const fault = toFault(thrown);
    for (const line of faultLines(fault, await problemsOf(fault))) out.talk(line);
    return exitCodeOfFault(fault.code);
  }
}

function commandsIn(context: CommandContext): CommandModule[] {
  return [
    command(runCommand, context),
    command(replayCommand, context),
    command(devicesCommand, context),
    command(statusCommand, context),
    command(historyCommand, context),
    command(keysCommand, context),
    command(outboxCommand, context),
    command(releaseCommand, context),
    command(restoreCommand, context),
    command(auditCommand, context),
    command(vaultCommand, context),
    command(dbCommand, context),
    command(doctorCommand, context),
    command(simCommand, context),
    command(demoCommand, context),
  ] as CommandModule[];
}

/** The one that comes first, where one does: to make the others known to yargs takes as long as to read the arguments. */
function wanted([first]: readonly string[], commands: readonly CommandModule[]): readonly CommandModule[] {
  const named = commands.filter(({ command: line }) => String(line).split(' ')[0] === first);
  return named.length > 0 ? named : commands;
}

/** What the arguments ask for; null where yargs has answered itself (`--help`, `--version`). */
async function chosenBy(parse: () => Promise<unknown>): Promise<Chosen | null> {
  try {
    await parse();
    return null;
  } catch (thrown) {
    if (thrown instanceof Chosen) return thrown;
    throw thrown;
  }
}

function usageMessage(message: string): string {
  const lines = message.split('\n').map(line => line.trim());
  return lines.filter(line => line !== '').join(' ') || 'the arguments make no sense';
}

const TERMINAL_LINES = 200;

/** A manifest's problems, one by one. */
async function problemsOf(fault: Fault): Promise<readonly string[]> {
  if (fault.code !== 'MANIFEST_INVALID') return [];
  const { formatProblems, ManifestFault } = await import('../manifest/problems.ts');
  // All of them, unless they would run through a terminal for minutes.
  return fault instanceof ManifestFault ? formatProblems(fault, process.stderr.isTTY ? TERMINAL_LINES : Infinity) : [];
}
