import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';

/** Commands and configurations that a Markdown page shows, and a way to run them as they are written. */

/** Contents of the fenced blocks of a language, also where a list item holds them. */
export function fencedBlocks(file: string, language: string): string[] {
  const pattern = new RegExp(`^( *)\`\`\`${language}\n(.*?)^\\1\`\`\`$`, 'gms');
  return [...readFileSync(file, 'utf8').matchAll(pattern)].map(([, indent, block]) =>
    block.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
  );
}

/** One command a line, or more where all but the last end in a backslash. */
export function shellCommands(file: string): string[] {
  return fencedBlocks(file, 'sh').flatMap((block) =>
    block
      .trim()
      .replaceAll(/ *\\\n */g, ' ')
      .split('\n'),
  );
}

const program = `'${process.execPath}' '${resolve('dist/cli/main.js')}'`;

/**
 * Runs in `folder`, as a user would, a command that starts with `npx group-robust`, or a line of those that `--list` prints, which start with node.
 * @returns what is wrong, else ''
 */
export function runCommand(command: string, folder: string): string {
  const line = command.replace(/(^|&& )npx group-robust /g, `$1${program} `);
  if (line === command && !command.startsWith('node ')) return `"${command}" does not start with npx group-robust`;
  const { status, stderr } = spawnSync('bash', ['-c', line], { cwd: folder, encoding: 'utf8' });
  return status === 0 && !stderr.includes('error:') ? '' : `exit ${status}: ${stderr}`;
}

/** Targets of the links of a page that are not on the web. */
export function localLinks(file: string): string[] {
  return [...readFileSync(file, 'utf8').matchAll(/\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)/g)].map(([, path]) => path);
}
