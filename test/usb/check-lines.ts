import type { Reporter, TestCase, TestModule, TestSuite } from 'vitest/node';

interface Told {
  readonly message: string;
  readonly stack?: string | undefined;
  readonly diff?: string | undefined;
}

/** A line for each check as it ends, so that a slow machine shows how far it is; what went wrong stands below it. */
export default class CheckLines implements Reporter {
  onTestCaseResult(test: TestCase): void {
    const { state, errors } = test.result();
    const verdict = state === 'passed' ? 'ok' : state === 'failed' ? 'not ok' : 'skipped';
    const seconds = ((test.diagnostic()?.duration ?? 0) / 1000).toFixed(1);
    process.stdout.write(`${verdict} - ${test.fullName.replaceAll(' > ', ' ')} (${seconds} s)\n`);
    tell(errors ?? []);
  }

  onTestSuiteResult(suite: TestSuite): void {
    tell(suite.errors());
  }

  onTestModuleEnd(module: TestModule): void {
    tell(module.errors());
  }
}

function tell(errors: readonly Told[]): void {
  for (const { message, stack, diff } of errors) {
    const where = (stack ?? '').split('\n').filter(line => /^\s+at /.test(line) && !line.includes('node_modules'));
    const text = [message, ...(diff === undefined ? [] : [diff]), ...where].join('\n');
    process.stdout.write(`${text.replace(/^/gm, '    ')}\n`);
  }
}
