/* Preloaded by test/cli/start.test.ts: a line on stderr for each file of the bundle, in every thread, and what became of its code. */
const { writeSync } = require('node:fs');
const { basename } = require('node:path');
const vm = require('node:vm');

vm.Script = class extends vm.Script {
  constructor(source, options) {
    super(source, options);
    const { filename = '', cachedData } = options ?? {};
    if (!filename.endsWith('.cjs')) return;
    const became = !cachedData ? 'compiled' : this.cachedDataRejected ? 'rejected' : 'taken';
    writeSync(2, `code of ${basename(filename)}: ${became}\n`);
  }
};
