import { join, relative, sep } from 'node:path';
import { PACKAGE_ROOT } from '../package.js';

/**
 * A command of this program as a POSIX shell in this folder takes it: the program itself and not npx, which a queue's SIGTERM ends while the
 * run behind it goes on. Where the program lies below this folder its path is relative, as it may have another one on the machine of the queue.
 */
export function programCommand(words: readonly string[]): string {
  const program = join(PACKAGE_ROOT, 'bin', 'group-robust.js');
  const path = relative(process.cwd(), program);
  return ['node', path.startsWith(`..${sep}`) ? program : path, ...words].map(quoted).join(' ');
}

function quoted(word: string): string {
  return /^[\w./:=,+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
